"""The report: what it tells of runs, and what it leaves as it is."""

import json
import pathlib
from typing import Any

import PIL.Image
import pytest

from experiments.report import report
from experiments.runs import Row

README = "# Experiments\n\nProse.\n\n<!-- results of sums -->\nold\n<!-- end of results of sums -->\n\nMore prose.\n"
NAMES = {"sums": "Sums of numbers.", "products": "Products of numbers."}


def finish(results: pathlib.Path, experiment: str, run: str, options: str, value: float, **more: Any) -> None:
    """Leave a finished run behind, with a picture."""
    folder = results / experiment / run
    folder.mkdir(parents=True)
    command = f"python -m experiments {experiment} {options}".strip()
    config = {"experiment": experiment, "command": command, "started": "2020-01-01", "cores": 2, "python": "3.11"}
    row = Row("GRU", value, "nats", floor="2.0 (mean)", parameters=1234)._asdict() | more
    (folder / "config.json").write_text(json.dumps(config | {"packages": {"jax": "0.10"}}))
    PIL.Image.new("RGB", (3, 2), "red").save(folder / "curves.png")
    result = {"rows": [row], "seconds": 61.0, "pictures": {"curves.png": "Curves of it"}}
    (folder / "result.json").write_text(json.dumps(result))


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder for the report, beside results."""
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "README.md").write_text(README)
    return tmp_path / "experiments"


def test_runs_become_rows_between_the_marks(folder: pathlib.Path):
    results = folder.parent / "results"
    finish(results, "sums", "a", "--run a --hidden 8", 1.25, baseline="1.5 (last value)")
    finish(results, "sums", "quick", "--quick", 9.0)
    finish(results, "products", "b", "", 0.5)
    (results / "sums" / "unfinished").mkdir()
    (results / "sums" / "unfinished" / "config.json").write_text("{}")
    told = report(results, folder, NAMES)
    text = (folder / "README.md").read_text()
    assert sorted(told) == ["python -m experiments products", "python -m experiments sums --run a --hidden 8"]
    assert "|  | figure | floor | baseline | parameters | time | run |" in text
    assert "| GRU | **1.25** nats | 2.0 (mean) | 1.5 (last value) | 1,234 | 1 min 1 s | `a` |" in text
    assert "```sh\n# a\npython -m experiments sums --run a --hidden 8\n```" in text
    assert "![Curves of it](figures/sums/a_curves.png)" in text
    with PIL.Image.open(folder / "figures" / "sums" / "a_curves.png") as picture:
        assert picture.convert("RGB").getpixel((2, 1)) == (255, 0, 0)
    assert "old" not in text
    assert text.startswith("# Experiments\n\nProse.\n")
    assert text.index("More prose.") < text.index("## products\n\nProducts of numbers.\n")
    assert "--quick" not in text


def test_pictures_of_a_second_seed_do_not_stay(folder: pathlib.Path):
    results = folder.parent / "results"
    for seed in ("0", "1"):
        finish(results, "sums", f"s{seed}", f"--seed {seed} --run s{seed}", float(seed))
    report(results, folder, NAMES)
    assert [path.name for path in (folder / "figures" / "sums").iterdir()] == ["s0_curves.png"]
    assert "± 0.71" in (folder / "README.md").read_text()


def test_a_run_may_have_a_table_of_its_own(folder: pathlib.Path):
    results = folder.parent / "results"
    finish(results, "sums", "a", "--run a", 1.25)
    path = results / "sums" / "a" / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"table": "| a |\n| --- |\n| 7 |"}))
    report(results, folder, NAMES)
    assert "\n\n| a |\n| --- |\n| 7 |\n\n```sh" in (folder / "README.md").read_text()


def test_it_is_the_same_when_nothing_is_new_and_keeps_runs_made_elsewhere(folder: pathlib.Path):
    results = folder.parent / "results"
    finish(results, "sums", "a", "--hidden 8", 1.25)
    report(results, folder, NAMES)
    first = (folder / "README.md").read_text()
    report(results, folder, NAMES)
    assert (folder / "README.md").read_text() == first
    report(folder.parent / "nothing", folder, NAMES)
    assert (folder / "README.md").read_text() == first


def test_a_newer_run_of_a_command_takes_its_place(folder: pathlib.Path):
    finish(folder.parent / "old", "sums", "a", "--hidden 8", 1.25)
    finish(folder.parent / "new", "sums", "a", "--hidden 8", 0.75)
    report(folder.parent / "old", folder, NAMES)
    report(folder.parent / "new", folder, NAMES)
    text = (folder / "README.md").read_text()
    assert "**0.75** nats" in text
    assert "1.25" not in text


def test_a_row_has_its_own_time_where_it_gives_one(folder: pathlib.Path):
    finish(folder.parent / "results", "sums", "a", "--hidden 8", 1.25, seconds=7.0)
    report(folder.parent / "results", folder, NAMES)
    assert "| 1,234 | 7 s | `a` |" in (folder / "README.md").read_text()


def add_rows(results: pathlib.Path, run: str, rows: list[Row]) -> None:
    """Give a finished run these rows in place of its own."""
    path = results / "sums" / run / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rows": [row._asdict() for row in rows]}))


def test_the_time_of_several_rows_is_told_once_and_what_became_of_a_row_apart(folder: pathlib.Path):
    results = folder.parent / "results"
    finish(results, "sums", "a", "--hidden 8", 1.25)
    add_rows(results, "a", [Row("GRU", 1.5, "nats", outcome="solved: at once; twice"), Row("LSTM", 1.5, "nats")])
    report(results, folder, NAMES)
    text = (folder / "README.md").read_text()
    assert "|  | figure | outcome | time | run |" in text
    assert "| GRU | **1.5** nats | solved: at once; twice | 1 min 1 s in all | `a` |" in text
    assert "| LSTM | **1.5** nats |  |  | `a` |" in text


def test_what_many_rows_have_alike_stands_above_them(folder: pathlib.Path):
    results = folder.parent / "results"
    for run, count in (("few", 2), ("many", 9)):
        finish(results, "sums", run, f"--run {run} --count {count}", 1.25)
        add_rows(results, run, [Row(f"adding: cell {n}", 1.5, "nats", "0.17 (none)") for n in range(count)])
    report(results, folder, NAMES)
    text = (folder / "README.md").read_text()
    assert "Run `many`: adding; floor 0.17 (none); time 1 min 1 s in all\n\n|  | figure |\n" in text
    assert "| cell 8 | **1.5** nats |\n" in text
    assert "| adding: cell 1 | **1.5** nats | 0.17 (none) |  | `few` |" in text


def test_runs_of_several_seeds_are_one_row(folder: pathlib.Path):
    results = folder.parent / "results"
    for seed, value in enumerate((1.0, 2.0, 3.0)):
        finish(results, "sums", f"s{seed}", f"--run s{seed} --hidden 8 --seed {seed}", value)
    finish(results, "sums", "other", "--hidden 9", 5.0)
    report(results, folder, NAMES)
    text = (folder / "README.md").read_text()
    assert "**2 ± 1** nats (3 seeds)" in text
    assert "| `s0`, `s1`, `s2` |" in text
    assert "**5** nats" in text
    assert text.count("![") == 2
