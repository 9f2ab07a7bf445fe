"""The README's Python blocks run as they stand."""

import re

import jax
import pytest

from tests.readme import README, TEXT, blocks

BLOCKS = blocks(TEXT)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[-1][:40])
def test_block_runs(block, capsys):
    with jax.numpy_dtype_promotion("standard"):  # optax.adam needs it
        exec(compile(block, str(README), "exec"), {})
    printed = capsys.readouterr().out
    assert "nan" not in printed
    if "chance" in printed:
        value, chance = map(float, re.findall(r"\d+\.\d+", printed.splitlines()[0]))
        assert value < 0.1 * chance


def test_there_are_blocks():
    assert len(BLOCKS) >= 2
