import dataclasses
import json
import os
import pathlib
import shlex
import shutil
from typing import Annotated, Literal

import pytest

from experiments import runs


@dataclasses.dataclass(frozen=True)
class Inner:
    share: float = 0.5
    word: str | None = None


@dataclasses.dataclass(frozen=True)
class Options:
    path: pathlib.Path | None = None
    kind: Literal["a", "b"] = "a"
    sizes: tuple[int, ...] = (1, 2)
    pair: tuple[pathlib.Path, int] = (pathlib.Path("x"), 1)
    count: Annotated[int, "how many"] = 3
    either: int | str = 1
    inner: Inner = Inner()


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)


def new(run: str | None = None, options: Options = Options()) -> pathlib.Path:
    directory = runs.create("trial", run)
    runs.write_config(directory, "trial", options, ["--kind", "b b"])
    return directory


def test_a_run_has_the_name_it_is_given():
    assert new("first") == pathlib.Path("results/trial/first")
    again = "choose another name, or continue it: python -m experiments trial --resume first"
    with pytest.raises(runs.InputError, match=f"exists already; {again}"):
        new("first")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "latest"])
def test_a_name_that_is_no_name_is_an_error(name: str):
    with pytest.raises(runs.InputError, match="--run"):
        new(name)
    assert not pathlib.Path("results").exists()


def test_runs_of_the_same_second_get_names_of_their_own():
    directories = [new() for _ in range(5)]
    assert len(set(directories)) == 5


def test_runs_are_found_by_name_by_path_and_as_the_latest():
    for age, name in enumerate(("b", "a", "c")):
        os.utime(new(name) / "config.json", ns=(age, age))
    assert runs.names("trial") == ["b", "a", "c"]
    assert runs.find("trial", "a") == pathlib.Path("results/trial/a")
    assert runs.find("trial", "results/trial/b") == pathlib.Path("results/trial/b")
    assert runs.find("trial", "latest") == pathlib.Path("results/trial/c")
    with pytest.raises(runs.InputError, match="run 'd': not found; runs there: b, a, c"):
        runs.find("trial", "d")


def test_no_run_is_found_where_there_is_none():
    with pytest.raises(runs.InputError, match="no runs in results/trial yet"):
        runs.find("trial", "latest")


def test_options_come_back_as_they_were():
    options = Options(pathlib.Path("/a/ü"), "b", (5,), (pathlib.Path("y"), 2), 4, "x", Inner(0.25, "w"))
    for each in (options, Options()):
        assert runs.read_config(new(options=each), "trial", Options) == each


def test_the_command_that_resumes_a_run_finds_it(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    def command(directory: pathlib.Path) -> tuple[str, str]:
        *begin, experiment, option, run = shlex.split(runs.resume_command(directory))
        assert (begin, option) == (["python", "-m", "experiments"], "--resume")
        assert runs.find(experiment, run).samefile(directory)
        return experiment, run

    named = new("it's one")
    assert command(named) == command(named.absolute()) == ("trial", "it's one")
    moved = tmp_path / "kept runs" / "one"
    shutil.copytree(named, moved)
    assert command(moved) == command(moved.relative_to(tmp_path)) == ("trial", str(moved))
    assert runs.resume_command(named / "part" / "rate-1") == runs.resume_command(named)
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert command(tmp_path / named) == ("trial", str(tmp_path / named))


def test_a_configuration_says_where_it_comes_from():
    written = json.loads((new() / "config.json").read_text())
    assert written["command"] == "python -m experiments trial --kind 'b b'"
    assert {"jax", "numpy"} <= written["packages"].keys()


def test_options_added_later_take_their_defaults():
    directory = new()
    values = runs.read_json(directory / "config.json")
    del values["config"]["count"]
    runs.write_json(directory / "config.json", values)
    assert runs.read_config(directory, "trial", Options) == Options()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is damaged"),
        ("[]", "not the configuration of a run of trial"),
        ('{"experiment": "other"}', "not the configuration of a run of trial"),
        ('{"experiment": "trial"}', "does not fit"),
        ('{"experiment": "trial", "config": {"sise": 1}}', "unknown options: sise"),
    ],
)
def test_a_configuration_that_does_not_fit_is_an_error(content: str, message: str):
    directory = new()
    (directory / "config.json").write_text(content)
    with pytest.raises(runs.InputError, match=message):
        runs.read_config(directory, "trial", Options)


def test_a_missing_file_is_an_error():
    with pytest.raises(runs.InputError, match="cannot be read"):
        runs.read_json(pathlib.Path("nothing.json"))


def test_writing_replaces_a_file_as_a_whole():
    path = pathlib.Path("values.json")
    runs.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        runs.write_json(path, {("no", "key"): 1})
    assert runs.read_json(path) == {"a": 1}
    assert [path.name for path in pathlib.Path().iterdir()] == ["values.json"]


def test_only_a_directory_without_results_is_discarded():
    empty, full = new("empty"), new("full")
    runs.add_seconds(empty, 1.0)
    (full / "metrics.jsonl").touch()
    for directory in (empty, full):
        runs.discard_unused(directory)
    assert not empty.exists()
    assert full.exists()


def test_a_requirement_names_its_option():
    runs.require(True, "batch_size", "at least 1", 0)
    with pytest.raises(runs.InputError, match="--batch-size: expected at least 1, got 0"):
        runs.require(False, "batch_size", "at least 1", 0)


def test_the_times_of_a_run_that_was_resumed_add_up(tmp_path: pathlib.Path):
    assert [runs.add_seconds(tmp_path, seconds) for seconds in (1.5, 2.0)] == [1.5, 3.5]
    (tmp_path / "seconds.json").write_text("cut sh")
    with pytest.raises(runs.InputError, match="is damaged"):
        runs.add_seconds(tmp_path, 1.0)
