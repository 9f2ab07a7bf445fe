"""The command line, in processes of its own."""

import errno
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import safetensors.numpy

from experiments import char_lm
from experiments.__main__ import main

ROOT = pathlib.Path(__file__).parents[2]
TINY = [
    "--hidden=8", "--embedding=4", "--batch=4", "--window=8", "--characters=30000", "--steps=2000",
    "--evaluate-every=2000", "--checkpoint-every=2000", "--length=20",
]  # fmt: skip


def start(folder: pathlib.Path, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "experiments", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "100"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def call(folder: pathlib.Path, *arguments: str) -> tuple[int, str, str]:
    return finish(start(folder, *arguments))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[pathlib.Path, str]:
    """A folder with one finished run, and what it printed."""
    folder = tmp_path_factory.mktemp("runs")
    status, out, err = call(folder, "char_lm", "--run", "first", *TINY)
    assert (status, err) == (0, "")
    return folder, out


def test_the_list_starts_no_jax(tmp_path: pathlib.Path):
    code = "import sys, experiments.__main__ as m; m.main([]); assert 'jax' not in sys.modules, 'jax was imported'"
    listed = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True
    )
    assert listed.returncode == 0, listed.stderr
    lines = listed.stdout.decode().splitlines()
    assert any(line.split()[:4] == ["char_lm", "Character", "language", "model:"] for line in lines)
    assert any("python -m experiments char_lm --help" in line for line in lines)
    assert not any(line.split()[:1] == ["runs"] for line in lines)


def test_an_unknown_experiment_shows_the_list(tmp_path: pathlib.Path):
    status, out, err = call(tmp_path, "char_ml")
    assert (status, out) == (2, "")
    assert "no experiment 'char_ml'" in err
    assert "char_lm" in err.split("Experiments:")[1]


def test_help_shows_options_with_defaults(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["char_lm", "--help"])
    out = capsys.readouterr().out
    for part in ("Character language model", "--hidden INT", "(default: 256)", "{vanilla,lstm,gru}", "--sample RUN"):
        assert part in out
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hidden", "many"], "--hidden"),
        (["--hiden", "3"], "--hiden"),
        (["--hidden", "0"], "--hidden: expected at least 1, got 0"),
        (["--data", "nowhere.txt"], "/nowhere.txt: cannot be read"),
        (["--run", "a/b"], "--run 'a/b'"),
        (["--resume", "a"], "run 'a': not found; no runs in results/char_lm yet"),
        (["--sample", "latest"], "run 'latest': not found"),
        (["--resume", "a", "--sample", "b"], "--resume and --sample exclude each other"),
        (["--resume", "a", "--hidden", "9", "--top-k", "3"], "also given: --hidden, --top-k"),
    ],
)
def test_bad_input_is_an_error_in_words(
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
):
    monkeypatch.chdir(tmp_path)
    try:
        status = main(["char_lm", *arguments])
    except SystemExit as end:
        status = end.code
    assert status == 2
    assert message in "".join(capsys.readouterr())
    assert not list(tmp_path.glob("results/char_lm/*"))


@pytest.mark.parametrize(
    ("error", "status"),
    [(OSError(errno.ENOSPC, "No space left on device", "checkpoint"), 1), (KeyboardInterrupt(), 130)],
    ids=["full disk", "Ctrl-C"],
)
def test_a_run_that_was_cut_short_says_how_to_go_on(
    error: BaseException,
    status: int,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(char_lm, "run", failing(error))
    assert main(["char_lm", "--run", "cut short"]) == status
    said = capsys.readouterr().err
    assert "python -m experiments char_lm --resume 'cut short'\n" in said
    assert not isinstance(error, OSError) or "No space left on device: 'checkpoint'\n" in said
    assert (tmp_path / "results/char_lm/cut short/seconds.json").exists()


def test_the_time_of_a_run_that_failed_counts(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(char_lm, "run", failing(RuntimeError("a mistake")))
    with pytest.raises(RuntimeError, match="a mistake"):
        main(["char_lm", "--run", "failed"])
    assert (tmp_path / "results/char_lm/failed/seconds.json").exists()


def failing(error: BaseException):
    """Return the run of an experiment that ends with an error."""

    def run(config: char_lm.Config, directory: pathlib.Path):
        raise error

    return run


def test_a_run_says_what_it_found_and_where_it_lies(finished: tuple[pathlib.Path, str]):
    folder, out = finished
    directory = folder / "results" / "char_lm" / "first"
    for part in ("unigram", "3-gram", "5-gram", "lzma", "LSTM 1 × 8", "nats/character", "bits/character", "baseline"):
        assert part in out
    assert "Everything is in results/char_lm/first" in out
    config = json.loads((directory / "config.json").read_text())
    assert config["config"]["hidden"] == 8
    assert config["command"].startswith("python -m experiments char_lm --run first --hidden=8")
    result = json.loads((directory / "result.json").read_text())
    assert result["nats_per_character"] > 0


def test_a_finished_run_is_sampled_without_training(
    finished: tuple[pathlib.Path, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    folder, _ = finished
    before = sorted((path.name, path.stat().st_mtime_ns) for path in (folder / "results/char_lm/first").iterdir())
    status, out, err = call(folder, "char_lm", "--sample", "first", "--prompt", "class A", "--top-k", "5")
    assert (status, err) == (0, "")
    assert out.startswith("class A")
    assert len(out) == len("class A") + 20 + 1  # the length is the run's own, as it was not given
    after = sorted((path.name, path.stat().st_mtime_ns) for path in (folder / "results/char_lm/first").iterdir())
    assert before == after

    monkeypatch.chdir(folder)
    assert main(["char_lm", "--sample", "latest", "--hidden", "9"]) == 2
    assert "--sample takes the sampling options only; also given: --hidden" in capsys.readouterr().err


def test_a_run_stopped_by_ctrl_c_resumes_bit_for_bit(finished: tuple[pathlib.Path, str], tmp_path: pathlib.Path):
    stopped = start(tmp_path, "char_lm", "--run", "stopped", *TINY)
    directory = tmp_path / "results" / "char_lm" / "stopped"
    deadline = time.monotonic() + 100
    while not (directory / "metrics.jsonl").exists() or not (directory / "metrics.jsonl").stat().st_size:
        assert stopped.poll() is None, stopped.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    stopped.send_signal(signal.SIGINT)
    status, out, err = finish(stopped)
    assert status == 130, err
    assert "python -m experiments char_lm --resume stopped" in out + err
    assert "Traceback" not in out + err
    steps = [json.loads(line)["step"] for line in (directory / "metrics.jsonl").read_text().splitlines()]
    assert steps[-1] < 2000

    status, out, err = call(tmp_path, "char_lm", "--resume", "stopped")
    assert (status, err) == (0, "")
    assert f"Continuing at step {steps[-1]}" in out
    for name in ("checkpoint", "best"):
        first = finished[0] / "results" / "char_lm" / "first" / f"{name}.safetensors"
        second = directory / f"{name}.safetensors"
        assert arrays(first).keys() == arrays(second).keys()
        for leaf, array in arrays(first).items():
            assert np.array_equal(array, arrays(second)[leaf]), leaf


def arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    return safetensors.numpy.load_file(path)
