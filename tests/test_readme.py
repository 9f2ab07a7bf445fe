"""The README's Python blocks run as they stand, its links lead somewhere, and its claims name their tests."""

import re

import jax
import pytest

from jaxrnn import cells, layers, models
from tests.readme import README, TEXT, blocks, section

BLOCKS = blocks(TEXT) + blocks((README.parent / "jaxrnn" / "interop" / "README.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[-1][:40])
def test_block_runs(block, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a block may write files
    with jax.numpy_dtype_promotion("standard"):  # optax.adam needs it
        exec(compile(block, str(README), "exec"), {})
    printed = capsys.readouterr().out
    assert "nan" not in printed
    if "chance" in printed:
        value, chance = map(float, re.findall(r"\d+\.\d+", printed.splitlines()[0]))
        assert value < 0.1 * chance


def test_there_are_blocks():
    assert len(BLOCKS) >= 2


# What is there: every yes of the library names the test that shows it

HEADING, _, *ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in section("What is there").splitlines()
    if line.startswith("|")
]
CLAIMS = [row for row in ROWS if any(row[1:])]  # the others are headings
ROOT = README.parent


def test_the_table_has_a_column_for_each():
    assert HEADING == ["", "jaxrnn", "Flax", "Haiku", "Equinox", "Keras 3", "torch.nn"]
    assert len(CLAIMS) > 30
    assert all(len(row) == len(HEADING) and all(row) for row in CLAIMS)


@pytest.mark.parametrize("row", CLAIMS, ids=lambda row: row[0])
def test_a_yes_names_a_test(row):
    yes = re.fullmatch(r"yes: \[(test_\w+)\]\((tests/[\w/]+\.py)\)", row[1])
    assert yes
    name, where = yes.groups()
    assert f"def {name}(" in (ROOT / where).read_text(encoding="utf-8")


def test_links_lead_somewhere():
    for where in re.findall(r"\]\((?!http)([^)#]+)\)", TEXT):
        assert (ROOT / where).exists(), where


def test_the_map_names_what_there_is():
    named = re.findall(r"`(jaxrnn/[\w/]+(?:\.py|/))`", section("The map"))
    assert all((ROOT / where).exists() for where in named)
    functions = {name for name in (*cells.__all__, *layers.__all__, *models.__all__) if name.islower()}
    assert functions - set(re.findall(r"`(\w+)`", section("The map"))) == set()
