"""A command line whose packages are not installed."""

import importlib
import pathlib
import sys
import tomllib

import pytest

PYPROJECT = pathlib.Path(__file__).parents[2] / "pyproject.toml"
PROGRAMS = ["benchmarks", "experiments"]


@pytest.mark.parametrize("program", PROGRAMS)
def test_without_a_package_it_says_what_to_install(program, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, f"{program}.command_line", raising=False)
    monkeypatch.setitem(sys.modules, "tyro", None)
    assert importlib.import_module(f"{program}.__main__").main([]) == 2
    assert capsys.readouterr().err == f"python -m {program} needs tyro: pip install -e '.[{program}]'\n"


def test_both_extras_have_what_is_needed():
    extras = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]
    assert any(requirement.startswith("tyro") for requirement in extras["experiments"])
    assert "jaxrnn[experiments]" in extras["benchmarks"]


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_module_of_ours_that_is_missing_is_a_mistake(program, monkeypatch):
    monkeypatch.setitem(sys.modules, f"{program}.command_line", None)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(f"{program}.__main__").main([])
