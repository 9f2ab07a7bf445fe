"""Memory that stays with the process."""

import ctypes
import subprocess
import sys

import pytest

from jaxrnn.training import keep_memory

# Of calls that take 77 MiB for a while: how many pages the system had to give for the best of the last three.
PAGES = """
import resource, sys
from jaxrnn.training import keep_memory
if sys.argv[1] == "keep":
    assert keep_memory()
import jax, jax.numpy as jnp
f = jax.jit(lambda x: jnp.sort(jnp.sin(x)).sum())
x = jnp.ones((10_000_000,))
given = [resource.getrusage(resource.RUSAGE_SELF).ru_minflt]
for _ in range(5):
    jax.block_until_ready(f(x))
    given.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(min(after - before for before, after in zip(given[2:], given[3:])))
"""


def pages(mode: str) -> int:
    return int(subprocess.check_output([sys.executable, "-c", PAGES, mode], text=True))


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="the C library is not glibc")
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
