"""Memory that stays with the process."""

import platform
import subprocess
import sys

import pytest

from jaxrnn.training import keep_memory

# Of calls that take 38 MiB for a while: how many pages the system had to give for the best of them. Where memory is
# kept, some calls still have to ask for more, as long as what is free is not in one piece.
PAGES = """
import resource, sys
from jaxrnn.training import keep_memory
if sys.argv[1] == "keep":
    assert keep_memory()
import jax, jax.numpy as jnp
f = jax.jit(jnp.sin)
x = jnp.ones((10_000_000,))
given = [resource.getrusage(resource.RUSAGE_SELF).ru_minflt]
for _ in range(10):
    jax.block_until_ready(f(x))
    given.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(min(after - before for before, after in zip(given[:-1], given[1:], strict=True)))
"""


def pages(mode: str) -> int:
    return int(subprocess.check_output([sys.executable, "-c", PAGES, mode], text=True))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_a_call_takes_the_memory_that_the_last_one_left():
    given, kept = pages("give"), pages("keep")
    print(given, "pages a call,", kept, "where memory is kept")
    assert kept < given / 10


def no_library(name: None) -> None:
    raise TypeError("bad argument")  # as on Windows


@pytest.mark.parametrize("library", [no_library, lambda name: object()])
def test_without_glibc_nothing_changes(library, monkeypatch):
    monkeypatch.setattr("jaxrnn.training.memory.ctypes.CDLL", library)
    assert keep_memory() is False
