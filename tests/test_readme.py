"""The README's Python blocks run as they stand."""

import pathlib
import re

import jax
import pytest

README = pathlib.Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[-1][:40])
def test_block_runs(block, capsys):
    with jax.numpy_dtype_promotion("standard"):  # optax.adam needs it
        exec(compile(block, str(README), "exec"), {})
    printed = capsys.readouterr().out
    assert "nan" not in printed
    if "loss" in printed.splitlines()[0] and "chance" in printed:
        value, chance = map(float, re.findall(r"\d+\.\d+", printed.splitlines()[0]))
        assert value < 0.1 * chance


def test_there_are_blocks():
    assert len(BLOCKS) >= 2
