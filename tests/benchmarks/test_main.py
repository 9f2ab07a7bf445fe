"""The command line: the list, a run in a process of its own, and every question once, at tiny sizes."""

import dataclasses
import importlib
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import jax
import pytest

from benchmarks import command_line, gpu, peers
from benchmarks.contenders import CONTENDERS, naive_scan
from benchmarks.rows import Record, Row, read

ROOT = pathlib.Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "100"}
QUESTIONS = ["gpu", "layers", "memory", "own_cell", "parallelism", "peers", "scaling", "streaming"]


@pytest.fixture
def main(monkeypatch):
    """Return the command line, without its start of JAX, which has started here."""
    monkeypatch.setattr(command_line, "start_jax", lambda devices, keep_memory: None)
    return command_line.main


def test_the_list_starts_no_jax():
    code = "import sys, benchmarks.__main__ as m; m.main([]); assert 'jax' not in sys.modules, 'jax was imported'"
    listed = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True)
    assert listed.returncode == 0, listed.stderr
    lines = [line.split() for line in listed.stdout.splitlines()]
    assert [line[0] for line in lines[2 : 2 + len(QUESTIONS)]] == QUESTIONS
    assert ["peers", "How", "fast", "is", "jaxrnn", "beside", "torch,"] in [line[:7] for line in lines]


def test_a_run_writes_rows_with_all_fields_and_a_picture(tmp_path):
    races = ["--shapes", "4x2x3x5", "--cells", "gru", "--contenders", "jaxrnn", "jaxrnn-1", "naive", "--rounds", "2"]
    files = ["--json", "rows.jsonl", "--plot", "ratios.png", "--markdown"]
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks", "peers", *races, *files, "--devices", "2"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stderr) == (0, "")
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [(row["mode"], row["peer"]) for row in rows] == [
        (mode, peer) for mode in ("forward", "forward+backward") for peer in ("jaxrnn", "jaxrnn-1", "naive")
    ]
    for row in rows:
        assert set(row) == {field.name for field in dataclasses.fields(Row)}
        assert (row["question"], row["cell"], row["shape"], row["dtype"]) == ("peers", "gru", [4, 2, 3, 5], "float32")
        assert row["ratio"] == pytest.approx(
            row["milliseconds"] / rows[0 if row["mode"] == "forward" else 3]["milliseconds"]
        )
        assert row["rounds"] in (1, 2)
        assert row["temporary_bytes"] > 0
        assert row["compile_seconds"] > 0
        assert {"jax", "python", "platform", "cpus"} < set(row["versions"])
        assert row["versions"]["devices"] == 2
    assert "| gru 4×2×3×5 |" in run.stdout
    assert (tmp_path / "ratios.png").read_bytes().startswith(b"\x89PNG")


def test_rows_and_tables_say_that_memory_was_kept(main, tmp_path, capsys):
    races = ["--shapes", "4x2x3x5", "--cells", "gru", "--modes", "forward", "--contenders", "jaxrnn-1", "--rounds", "2"]
    for flags, known in (([], None), (["--keep-memory"], "kept")):
        assert main(["peers", *races, *flags, "--json", str(tmp_path / "rows.jsonl")]) == 0
        assert {row.versions.get("memory") for row in read(tmp_path / "rows.jsonl", "peers")} == {known}
        assert ("memory kept" in capsys.readouterr().out) == bool(flags)


def test_where_memory_cannot_be_kept_nothing_is_measured(monkeypatch, capsys):
    monkeypatch.setattr("jaxrnn.training.keep_memory", lambda: False)
    told = []
    monkeypatch.setattr(jax.config, "update", lambda *setting: told.append(setting))
    assert command_line.main(["peers", "--keep-memory", "--devices", "7"]) == 2
    assert not told
    assert "--keep-memory: expected" in capsys.readouterr().err


SIZES = ["--hidden", "16", "--batches", "4", "--steps", "8", "--warmup", "0"]
FEW = ["--contenders", "torch", "naive"]
SMALL = {
    "gpu": [*SIZES, *FEW, "--cells", "vanilla", "--dtypes", "bfloat16", "--modes", "forward", "--unroll", "2"],
    "layers": [
        "--cells",
        "gru",
        "--modes",
        "forward+backward",
        "--shapes",
        "4x4x2x5",
        "--rounds",
        "1",
        "--contenders",
        "jaxrnn",
        "jaxrnn-1",
        "naive",
    ],
    "memory": ["--cells", "vanilla", "--steps", "5", "--batch", "2", "--hidden", "3", "--rounds", "1"],
    "own_cell": ["--shapes", "4x2x3x5", "--rounds", "1"],
    "parallelism": ["--cells", "vanilla", "--modes", "forward", "--shapes", "4x2x3x5", "--rounds", "1"],
    "scaling": ["--steps", "4", "--hidden", "5", "--depths", "2", "--rounds", "1", "--contenders", "naive"],
    "streaming": ["--cells", "lstm", "--hidden", "5", "--batches", "2", "--steps", "3", "--rounds", "1"],
}


@pytest.mark.parametrize("question", SMALL)
def test_a_question_is_answered_by_a_table(question, main, tmp_path, capsys):
    pytest.importorskip("torch")
    pytest.importorskip("flax")
    assert main([question, *SMALL[question], "--warmup", "0", "--json", str(tmp_path / "rows.jsonl")]) == 0
    captured = capsys.readouterr()
    assert "failed" not in captured.out
    rows = read(tmp_path / "rows.jsonl", question)
    assert {row.question for row in rows} == {question}
    for table in importlib.import_module(f"benchmarks.{question}").to_tables(rows):
        assert table.title.split()[0] in captured.out
        assert all(len(line) == len(table.heads) for line in table.lines)
    assert main([question, "--read", str(tmp_path / "rows.jsonl"), "--markdown"]) == 0
    assert capsys.readouterr().out.count("| --- |") >= 1


def test_layers_run_on_all_devices_where_the_batch_can_be_divided(main, tmp_path):
    cases = ["stack", "bidirectional", "lengths", "resets", "dropout"]
    for batch, ours in ((4, ["jaxrnn", "jaxrnn-1"]), (3, ["jaxrnn-1"])):
        path = tmp_path / f"{batch}.jsonl"
        arguments = ["--cells", "gru", "--modes", "forward", "--shapes", f"4x{batch}x2x5", "--rounds", "1"]
        assert main(["layers", *arguments, "--contenders", "naive", *ours, "--json", str(path)]) == 0
        rows = read(path, "layers")
        assert [(row.settings["case"], row.peer) for row in rows] == [
            (case, peer) for case in cases for peer in [*ours, "naive"]
        ]
        assert all(row.ratio == 1 for row in rows if row.peer == ours[0])
        assert all(row.error is not None for row in rows if row.settings["case"] != "dropout")


def test_who_is_not_installed_is_skipped_by_name(main, monkeypatch, capsys):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "haiku" else found(name))
    arguments = ["--shapes", "2x1x2x3", "--cells", "vanilla", "--modes", "forward", "--rounds", "1"]
    assert main(["peers", *arguments, "--contenders", "jaxrnn-1", "haiku"]) == 0
    out = capsys.readouterr().out
    assert "haiku: dm-haiku is not installed, skipped" in out
    assert "Haiku" not in out


def test_on_a_gpu_who_fails_is_named_and_the_others_go_on(main, monkeypatch, capsys):
    broken = CONTENDERS["naive"]._replace(options={"no_such_option": 1})
    monkeypatch.setitem(CONTENDERS, "naive", broken)
    arguments = ["--cells", "vanilla", "--dtypes", "float32", "--modes", "forward"]
    assert main(["gpu", *SIZES, *arguments, "--contenders", "naive", "jaxrnn-1"]) == 1
    out = capsys.readouterr().out
    assert "naive: failed, TypeError: program() got an unexpected keyword argument 'no_such_option'" in out
    assert "vanilla H=16 B=4 T=8 float32 forward" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["speed"], "no question 'speed'"),
        (["peers", "--rounds", "0"], "--rounds, --seconds, --least, --warmup:"),
        (["peers", "--shapes", "4x4"], "shape: expected four sizes TxBxDxH, such as 100x32x128x128, got '4x4'"),
        (["peers", "--read", "nowhere.jsonl"], "nowhere.jsonl"),
        (["layers", "--plot", "layers.png"], "--plot: layers has no plot"),
        (["peers", "--plot", "ratios.txt"], "--plot: expected a name that ends in .png, in a folder that is there"),
        (["peers", "--plot", "nowhere/ratios.png"], "--plot: expected a name that ends in .png, in a folder that is"),
        (["peers", "--read", "rows.jsonl", "--devices", "2"], "--devices: expected no --read, with which nothing is"),
        (["scaling", "--depths", "1", "0"], "--depths: expected sizes of at least 1, got 1 0"),
        (["memory", "--batch", "0"], "--batch: expected sizes of at least 1, got 0"),
        (["streaming", "--steps", "-1"], "--steps: expected sizes of at least 1, got -1"),
        (["gpu", "--hidden", "0"], "--hidden: expected sizes of at least 1, got 0"),
        (["own_cell", "--shapes", "2x2x2x2", "3x3"], "shape: expected four sizes"),
        (["parallelism", "--shapes", "2x2x2x2", "3x3"], "shape: expected four sizes"),
        (["peers", "--cells", "rnn"], "--cells"),
    ],
)
def test_bad_input_is_an_error_in_words(arguments, message, main, capsys):
    try:
        status = main(arguments)
    except SystemExit as end:
        status = end.code
    assert status == 2
    assert message in "".join(capsys.readouterr())


def test_the_best_of_the_other_jax_libraries_counts_shape_by_shape_and_no_ratio_above_three():
    def row(peer, shape, ratio):
        return Row(
            "peers", "lstm", "", shape, "float32", "forward", peer, 1.0, 0.1, ratio, None, None, None, None, 1, {}, {}
        )

    short, long = (2, 1, 1, 1), (8, 1, 1, 1)
    rows = [row("torch", short, 12.0), row("torch", long, 0.75), row("flax", short, 2.0), row("haiku", short, 4.0)]
    rows += [row("keras", long, 0.5), row("naive", long, 0.1)]
    on_all = (
        "lstm, geometric means over the shapes, ratios capped at 3: 1.50× to torch, "
        "1.00× to the fastest other JAX library per shape, 0.10× to the naive scan."
    )
    assert peers.summary(rows) == [on_all]
    rows += [row("jaxrnn", long, 1.0), row("jaxrnn-1", long, 1.5), row("jaxrnn-1", short, 1.0)]
    assert peers.summary(rows) == [
        on_all,  # on one device 3 (capped) and 0.5 of torch, 2 and 1/3 of the others
        "lstm, the same for jaxrnn on one device: 1.22× to torch, "
        "0.82× to the fastest other JAX library per shape, 0.07× to the naive scan.",
    ]


def test_lines_of_json_that_are_no_rows_are_named(tmp_path, main, capsys):
    path = tmp_path / "rows.jsonl"
    record = Record(path)
    record.close()
    path.write_text('{"question": "peers"}\n')
    assert main(["peers", "--read", str(path)]) == 2
    assert "rows.jsonl, line 1: no row of measurements" in capsys.readouterr().err


def test_rows_of_another_question_and_no_rows_are_refused(tmp_path, main, capsys):
    path = tmp_path / "rows.jsonl"
    assert main(["parallelism", *SMALL["parallelism"], "--json", str(path)]) == 0
    assert main(["layers", "--read", str(path)]) == 2
    assert "rows.jsonl, line 1: expected an answer to layers, got one to parallelism" in capsys.readouterr().err
    path.write_text("")
    assert main(["layers", "--read", str(path)]) == 2
    assert "rows.jsonl: expected rows of measurements, got an empty file" in capsys.readouterr().err


def test_a_race_that_fails_is_named_and_the_others_are_shown(main, monkeypatch, capsys):
    right = naive_scan.STEPS["gru"]

    def wrong_for_five(params, carry, x):
        after, y = right(params, carry, x)
        return after, (0.9 * y if y.shape[-1] == 5 else y)

    monkeypatch.setitem(naive_scan.STEPS, "gru", wrong_for_five)
    arguments = ["--shapes", "2x2x3x5", "2x2x3x6", "--cells", "gru", "--modes", "forward", "--rounds", "1"]
    assert main(["peers", *arguments, "--contenders", "naive", "--markdown"]) == 1
    out = capsys.readouterr().out
    assert "gru 2×2×3×5 forward: failed, MismatchError: naive: results is off by" in out
    assert "| gru 2×2×3×6 |" in out
    assert "| gru 2×2×3×5 |" not in out


def test_on_a_gpu_without_jaxrnn_there_are_no_ratios(main, monkeypatch, tmp_path, capsys):
    broken = CONTENDERS["jaxrnn-1"]._replace(options={"no_such_option": 1})
    monkeypatch.setitem(CONTENDERS, "jaxrnn-1", broken)
    arguments = ["--cells", "vanilla", "--dtypes", "float32", "--modes", "forward", "--contenders", "naive"]
    path = tmp_path / "rows.jsonl"
    assert main(["gpu", *SIZES, *arguments, "--markdown", "--json", str(path)]) == 1
    out = capsys.readouterr().out
    assert "jaxrnn-1: failed, TypeError" in out
    table = out[out.index("| vanilla H=16") :]
    assert "(–, " in table
    assert "×" not in table.partition("\n")[0]
    assert json.loads(path.read_text(), parse_constant=pytest.fail)["ratio"] is None  # NaN is no JSON
    assert main(["gpu", "--read", str(path), "--markdown"]) == 0
    assert table in capsys.readouterr().out


@pytest.mark.skipif(not pathlib.Path("/dev/full").exists(), reason="the system has no file that is always full")
def test_a_full_disk_ends_the_run(main, capsys):
    arguments = ["--cells", "vanilla", "--shapes", "2x2x3x5", "2x2x3x6", "--modes", "forward", "--rounds", "1"]
    assert main(["own_cell", *arguments, "--json", "/dev/full"]) == 2
    captured = capsys.readouterr()
    assert "No space left on device" in captured.err
    assert "2×2×3×6" not in captured.out


def test_without_a_gpu_sizes_are_small_but_for_those_that_were_given():
    config = gpu.smaller(gpu.Config(hidden=(64,), rounds=20))
    assert (config.hidden, config.batches, config.steps, config.rounds) == ((64,), (1, 4), (8,), 2)
