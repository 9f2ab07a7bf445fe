"""The loop: what it records, and that a run that was stopped, or killed, ends as one that was not.

Run as a script, this file is the run that the tests stop: ``python test_loop.py FOLDER SECONDS_PER_STEP``.
"""

import functools
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxrnn
from jaxrnn.losses import softmax_cross_entropy
from jaxrnn.training import (
    CheckpointError,
    NonFiniteLossError,
    fit,
    gradient_descent,
    load,
    loop,
    train_state,
    train_step,
    truncated_loss,
    windows,
)
from jaxrnn.training.metrics import append, cut_back, plain, read
from jaxrnn.training.progress import Bar, Plain, Silent, clock, reporter

pytest.importorskip("safetensors")

STEPS, VOCABULARY, BATCH = 23, 5, 3
TOKENS = np.random.default_rng(0).integers(0, VOCABULARY, (40, BATCH))


@pytest.fixture(autouse=True)
def _optax_promotes():
    with jax.numpy_dtype_promotion("standard"):  # optax.adam mixes dtypes
        yield


@functools.cache
def language_model():
    """Return the first state and the step of a small model with dropout, Adam and truncated BPTT."""
    layer = jaxrnn.serial(
        jaxrnn.embedding(VOCABULARY, 4),
        jaxrnn.recurrent(jaxrnn.lstm(4, 8)),
        jaxrnn.dropout(0.2),
        jaxrnn.dense(8, VOCABULARY),
    )
    params = jax.jit(layer.init)(jax.random.key(0))
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.linear_schedule(0.02, 0.0, STEPS)))
    state = train_state(params, optimizer, jax.random.key(1), layer.initial_carry(params, (BATCH,)))
    return state, train_step(truncated_loss(layer, softmax_cross_entropy, 4, 6), optimizer)


def language_model_run(folder, seconds_per_step=0.0, steps=STEPS, **options: Any):
    """Train it in ``folder``, from the checkpoint if there is one."""
    state, step = language_model()
    checkpoint = Path(folder) / "state.safetensors"
    if checkpoint.exists():
        state, _ = load(checkpoint, state)
    else:
        state = jax.tree.map(jnp.copy, state)
    window, _ = windows(TOKENS[:-1], TOKENS[1:], 4, 6)

    def batches(n):
        time.sleep(seconds_per_step)
        return window(n)

    defaults: dict[str, Any] = {
        "checkpoint_path": checkpoint,
        "checkpoint_every": 5,
        "metrics_path": Path(folder) / "metrics.jsonl",
        "log_every": 1,
        "progress": False,
    }
    return fit(state, step, batches, steps=steps, **(defaults | options))


def assert_same_bits(a, b):
    def plain_keys(state):
        return state._replace(key=jax.random.key_data(state.key))

    leaves = [jax.tree.leaves(plain_keys(state)) for state in (a, b)]
    for x, y in zip(*leaves, strict=True):
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def losses(folder):
    return [(record["step"], record["loss"]) for record in read(Path(folder) / "metrics.jsonl")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was never stopped: its folder and its last state."""
    folder = tmp_path_factory.mktemp("whole")
    # The flags of the tests, so that they find the step compiled.
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("standard"):
        return folder, language_model_run(folder).state


def test_a_run_in_pieces_is_the_whole(tmp_path, whole):
    for steps in (1, 7, STEPS):
        end = language_model_run(tmp_path, steps=steps)
        assert end.reason == "steps"
        assert end.state.step == steps
    assert_same_bits(end.state, whole[1])
    assert losses(tmp_path) == losses(whole[0])
    assert [step for step, _ in losses(tmp_path)] == list(range(1, STEPS + 1))


def start_run(folder, seconds_per_step):
    command = [sys.executable, __file__, str(folder), str(seconds_per_step)]
    environment = os.environ | {"PYTHONPATH": str(Path(jaxrnn.__file__).parents[1])}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def read_until(process, step):
    """Read the lines of a run until the one of ``step``."""
    lines = []
    for line in process.stdout:
        if line == f"step {step}\n":
            return
        lines.append(line)
    raise AssertionError(f"the run ended before step {step}:\n{''.join(lines)}")


def test_a_run_stopped_and_killed_is_the_whole(tmp_path, whole):
    with start_run(tmp_path, 0.05) as process:
        read_until(process, 3)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=300)[0]
    assert process.returncode == 0
    assert "Stopping after this step" in said
    stopped = losses(tmp_path)[-1][0]
    assert f"Interrupted at step {stopped} of {STEPS}. Checkpoint: {tmp_path}" in said
    assert "To resume: run it again" in said
    assert 3 <= stopped < 10

    with start_run(tmp_path, 0.05) as process:
        read_until(process, 12)  # steps 11 and 12 come after the last checkpoint, and are run again
        process.kill()
    assert losses(tmp_path)[-1][0] >= 12

    records = []
    assert language_model_run(tmp_path, log=records.append).reason == "steps"
    assert records[0]["step"] == 11
    assert losses(tmp_path) == losses(whole[0])  # no step twice, and the same numbers
    state, metadata = load(tmp_path / "state.safetensors", whole[1])
    assert metadata["step"] == STEPS
    assert_same_bits(state, whole[1])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_step_and_saves(tmp_path, whole, capsys, number):
    def hook(record):
        if record["step"] == 8:
            signal.raise_signal(number)

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    end = language_model_run(tmp_path, log=hook, resume_with="do it again")
    assert end.reason == "interrupt"
    assert end.state.step == 9
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    said = capsys.readouterr().out
    assert "Interrupted at step 9 of 23." in said
    assert "To resume: do it again" in said
    assert_same_bits(language_model_run(tmp_path).state, whole[1])


def interrupt(*arguments):
    """Be a hook of any kind that Ctrl-C interrupts."""
    del arguments
    signal.raise_signal(signal.SIGINT)
    return {}


def test_a_signal_in_the_last_step_is_heard(tmp_path, whole, capsys):
    state, step = language_model()

    def interrupted(state, batch):
        if int(state.step) == STEPS - 1:
            interrupt()
        return step(state, batch)

    window, _ = windows(TOKENS[:-1], TOKENS[1:], 4, 6)
    checkpoint = tmp_path / "state.safetensors"
    state = jax.tree.map(jnp.copy, state)
    end = fit(state, interrupted, window, steps=STEPS, checkpoint_path=checkpoint, progress=False)
    assert (end.reason, int(end.state.step)) == ("interrupt", STEPS)
    assert "Interrupted at step 23 of 23." in capsys.readouterr().out
    assert_same_bits(load(checkpoint, end.state)[0], whole[1])
    assert language_model_run(tmp_path).reason == "steps"


@pytest.mark.parametrize("hook", ["evaluate", "on_evaluate", "log"])
def test_a_signal_in_the_last_evaluation_is_heard(tmp_path, whole, hook):
    options: dict[str, Any] = {"evaluate": lambda state: {}} | {
        hook: [interrupt] if hook == "on_evaluate" else interrupt
    }
    end = language_model_run(tmp_path, log_every=STEPS, checkpoint_every=STEPS, **options)
    assert (end.reason, int(end.state.step)) == ("interrupt", STEPS)
    assert language_model_run(tmp_path).reason == "steps"
    assert_same_bits(load(tmp_path / "state.safetensors", end.state)[0], whole[1])


def test_a_signal_at_an_early_end_is_heard(tmp_path, capsys):
    options: dict[str, Any] = {"evaluate": interrupt, "evaluate_every": 4, "stop_when": lambda record: True}
    end = language_model_run(tmp_path, **options)
    assert (end.reason, int(end.state.step)) == ("interrupt", 4)
    said = capsys.readouterr().out
    assert "Stopped early, at step 4 of 23." in said
    assert "Interrupted at step 4 of 23." in said
    assert load(tmp_path / "state.safetensors", end.state)[1]["step"] == 4


def test_a_second_signal_stops_at_once(tmp_path):
    def hook(record):
        if record["step"] == 7:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        language_model_run(tmp_path, log=hook)
    assert losses(tmp_path)[-1][0] == 7
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert language_model_run(tmp_path, steps=6).state.step == 6  # the checkpoint of step 5 is whole


def test_it_stops_early_and_goes_on_from_there(tmp_path, whole):
    evaluation: dict[str, Any] = {"evaluate": lambda state: {"step": state.step}, "evaluate_every": 4}
    end = language_model_run(tmp_path, stop_when=lambda record: record["evaluation"]["step"] >= 7, **evaluation)
    assert (end.reason, int(end.state.step)) == ("early", 8)
    end = language_model_run(tmp_path, **evaluation)
    assert end.reason == "steps"
    assert_same_bits(end.state, whole[1])


def test_a_time_limit_saves(tmp_path, whole):
    end = language_model_run(tmp_path, seconds_per_step=0.1, time_limit=0.3)
    assert end.reason == "time"
    assert 0 < end.state.step < STEPS
    assert_same_bits(language_model_run(tmp_path).state, whole[1])


def test_in_a_thread_there_are_no_signals_but_all_else():
    state, step = descent(1.0)
    ends = []
    thread = threading.Thread(
        target=lambda: ends.append(fit(state, step, lambda n: np.float32(0), steps=2, progress=False))
    )
    thread.start()
    thread.join()
    assert ends[0].state.step == 2


def test_another_model_cannot_resume(tmp_path):
    language_model_run(tmp_path, steps=1)
    with pytest.raises(CheckpointError, match=r"the file lacks \.params"):
        load(tmp_path / "state.safetensors", descent(1.0)[0])


def descent(start, target=0.0):
    """Return state and step of a parabola, whose loss is (params - batch)²."""

    def loss_fn(params, carry, batch, key):
        del key
        return (params - batch - target) ** 2, (carry, {"params": params})

    optimizer = gradient_descent(0.25)
    return train_state(jnp.array(start), optimizer, jax.random.key(0)), train_step(loss_fn, optimizer)


def test_records_hold_means_and_come_once_per_step(tmp_path):
    state, step = descent(1024.0)
    records, hooked = [], []
    end = fit(
        state,
        step,
        lambda n: np.float32(0),
        steps=10,
        evaluate=lambda state: {"step": int(state.step), "params": state.params},
        evaluate_every=6,
        on_evaluate=[lambda state, record: hooked.append((int(state.step), record["evaluation"]["params"]))],
        checkpoint_path=tmp_path / "made" / "state.safetensors",
        checkpoint_every=5,
        metadata={"config": "here"},
        metrics_path=tmp_path / "made" / "metrics.jsonl",
        log=records.append,
        log_every=4,
        tokens_per_step=100,
        progress=False,
    )
    assert end.reason == "steps"
    assert [record["step"] for record in records] == [4, 5, 6, 8, 10]
    at = 1024.0 * 0.5 ** np.arange(11)  # the parameters before each step
    for first, record in zip((0, 4, 5, 6, 8), records, strict=True):
        part = at[first : record["step"]]
        np.testing.assert_allclose(record["params"], part.mean(), rtol=1e-6)
        np.testing.assert_allclose(record["loss"], (part**2).mean(), rtol=1e-6)
        np.testing.assert_allclose(record["gradient_norm"], (2 * part).mean(), rtol=1e-6)
        assert record["steps_per_second"] > 0
        assert record["tokens_per_second"] == 100 * record["steps_per_second"]
    assert [record["step"] for record in records if "evaluation" in record] == [6, 10]
    assert list(records[2]["evaluation"].items()) == [("step", 6), ("params", at[6])]
    assert hooked == [(6, at[6]), (10, at[10])]
    seconds = [record["seconds"] for record in records]
    assert seconds == sorted(seconds)
    assert read(tmp_path / "made" / "metrics.jsonl") == records
    metadata = load(tmp_path / "made" / "state.safetensors", end.state)[1]
    assert metadata == {"config": "here", "step": 10, "seconds": records[-1]["seconds"]}


def test_losses_are_fetched_only_for_records(monkeypatch):
    state, step = descent(1.0)
    fetches, real = [], jax.device_get
    monkeypatch.setattr(jax, "device_get", lambda tree: fetches.append(len(tree)) or real(tree))
    fit(state, step, lambda n: np.float32(0), steps=20, log_every=8, progress=False)
    assert fetches == [8, 8, 4]


def test_batches_depend_on_the_step_alone():
    asked = []
    state, step = descent(1.0)
    state = fit(state, step, lambda n: asked.append(n) or np.float32(0), steps=3, progress=False).state
    fit(state, step, lambda n: asked.append(n) or np.float32(0), steps=5, progress=False)
    assert asked == [0, 1, 2, 3, 4]


def test_a_finished_run_does_nothing(tmp_path):
    state, step = descent(1.0)
    state = fit(state, step, lambda n: np.float32(0), steps=3, metrics_path=tmp_path / "m", progress=False).state
    end = fit(state, step, lambda n: 1 / 0, steps=3, metrics_path=tmp_path / "m", progress=False)
    assert end.state.step == 3
    assert end.reason == "steps"
    assert len(read(tmp_path / "m")) == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_stops_before_it_is_saved(tmp_path, bad):
    path = tmp_path / "state.safetensors"

    def run(start, first_bad, **options):
        state, step = descent(start)
        return fit(state, step, lambda n: np.float32(bad if n >= first_bad else 0), steps=20, progress=False, **options)

    with pytest.raises(NonFiniteLossError, match=r"loss is .* at step 1, .* There is no checkpoint yet") as raised:
        run(1.0, 0, checkpoint_path=path)
    assert isinstance(raised.value, FloatingPointError)
    assert not path.exists()
    with pytest.raises(NonFiniteLossError, match=rf"loss is .* at step 8, .* The last checkpoint is kept: {path}"):
        run(1.0, 7, checkpoint_path=path, checkpoint_every=6, log_every=10, metrics_path=tmp_path / "metrics")
    state, metadata = load(path, descent(0.0)[0])
    assert metadata["step"] == 6
    assert np.isfinite(state.params)
    assert [record["step"] for record in read(tmp_path / "metrics")] == [6]


def test_a_gradient_that_is_not_finite_stops_before_it_is_saved(tmp_path):
    def loss_fn(params, carry, batch, key):
        del batch, key
        return jnp.sqrt(params), (carry, {})  # at 0 the loss is finite and its slope is not

    optimizer = gradient_descent(0.1)
    state = train_state(jnp.array(0.0), optimizer, jax.random.key(0))
    with pytest.raises(NonFiniteLossError, match="gradient_norm is inf at step 1"):
        fit(
            state,
            train_step(loss_fn, optimizer),
            lambda n: None,
            steps=1,
            checkpoint_path=tmp_path / "state",
            progress=False,
        )
    assert list(tmp_path.iterdir()) == []


def test_metrics_that_clash_are_named():
    def step(state, batch):
        del batch
        return state, {"seconds": jnp.ones(())}

    with pytest.raises(ValueError, match=r"step: expected metrics with other names .* got \['seconds'\]"):
        fit(descent(1.0)[0], step, lambda n: None, steps=1, progress=False)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"steps": 0}, ValueError, "steps: expected at least 1, got 0"),
        ({"steps": 1.5}, TypeError, "steps: expected an int"),
        ({"log_every": 0}, ValueError, "log_every: expected at least 1"),
        ({"evaluate_every": 3}, ValueError, "evaluate: expected one, since evaluate_every is 3, got None"),
        ({"evaluate_every": 0, "evaluate": dict}, ValueError, "evaluate_every: expected at least 1"),
        ({"checkpoint_every": 3}, ValueError, "checkpoint_path: expected one, since checkpoint_every is 3, got None"),
        ({"time_limit": 0}, ValueError, "time_limit: expected more than 0 seconds, got 0"),
        ({"state": ()}, TypeError, "state: expected a TrainState, got tuple"),
        ({"step": None}, TypeError, "step: expected a function, got None"),
        ({"batches": [0.0] * 3}, TypeError, "batches: expected a function"),
        ({"log": []}, TypeError, "log: expected a function"),
        ({"stop_when": 3, "evaluate": dict}, TypeError, "stop_when: expected a function, got 3"),
        ({"evaluate": "loss"}, TypeError, "evaluate: expected a function, got 'loss'"),
        ({"on_evaluate": print, "evaluate": dict}, TypeError, "on_evaluate: expected a sequence of functions"),
        (
            {"on_evaluate": [3], "evaluate": dict},
            TypeError,
            r"on_evaluate: expected a sequence of functions, got \[3\]",
        ),
        ({"on_evaluate": [print]}, ValueError, "evaluate: expected one, since on_evaluate is called"),
        ({"checkpoint_path": 3}, TypeError, "checkpoint_path: expected a path"),
        ({"checkpoint_path": Path()}, ValueError, r"checkpoint_path: expected a file, got the folder \."),
        ({"metrics_path": Path()}, ValueError, r"metrics_path: expected a file, got the folder \."),
        ({"metadata": "notes"}, TypeError, "metadata: expected a dict that JSON can hold, got str"),
        ({"metadata": {"rate": np.float32(1)}}, TypeError, "metadata: expected a dict that JSON can hold: .*float32"),
        ({"metadata": {"step": 3}}, ValueError, r"metadata: expected other names than \['step'\], which fit adds"),
    ],
)
def test_wrong_arguments(change, error, message):
    state, step = descent(1.0)
    with pytest.raises(error, match=message):  # before anything is done
        fit(**({"state": state, "step": step, "batches": lambda n: 1 / 0, "steps": 3, "progress": False} | change))


def test_without_safetensors_a_run_with_checkpoints_does_not_start(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    state, step = descent(1.0)
    with pytest.raises(ImportError, match=r"pip install 'jaxrnn\[training\]'"):
        fit(state, step, lambda n: 1 / 0, steps=3, checkpoint_path=tmp_path / "state", progress=False)


def test_metrics_are_cut_back_and_whole(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert cut_back(path, 0) == []
    for step in range(1, 5):
        append(path, {"step": step, "loss": 1.0 / step})
    with open(path, "a") as file:
        file.write('{"step": 5, "lo')  # killed while writing
    assert [record["step"] for record in read(path)] == [1, 2, 3, 4]
    assert [record["step"] for record in cut_back(path, 3)] == [1, 2, 3]
    append(path, {"step": 4})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3, 4]
    assert os.listdir(tmp_path) == [path.name]
    given = {"a": jnp.float32(0.5), "b": [np.float32("nan"), -np.inf], "c": np.arange(2), "d": True, "e": "text"}
    assert plain(given) == {"a": 0.5, "b": [None, None], "c": [0, 1], "d": True, "e": "text"}


def test_plain_lines_where_there_is_no_terminal(capsys):
    state, step = descent(1.0)
    fit(
        state,
        step,
        lambda n: np.float32(0),
        steps=50,
        evaluate=lambda state: {"params": state.params},
        evaluate_every=25,
        log_every=1,
    )
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["step 1/50", "step 25/50", "step 50/50"]
    assert "evaluation params" in lines[1]
    assert "steps/s" in lines[1]
    assert "left" in lines[1]
    assert "\x1b" not in "".join(lines)


def test_the_reporter_fits_the_place(monkeypatch):
    assert type(reporter(False)) is Silent
    assert type(reporter(True)) is Plain
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    pytest.importorskip("rich")
    assert type(reporter(True)) is Bar
    monkeypatch.setitem(sys.modules, "rich", None)
    assert type(reporter(True)) is Plain


def test_a_bar_on_a_terminal(monkeypatch):
    console = pytest.importorskip("rich.console")
    out = io.StringIO()
    bar = Bar(console.Console(file=out, force_terminal=True, width=150))
    monkeypatch.setattr(loop, "reporter", lambda show: bar)
    state, step = descent(1.0)
    fit(
        state,
        step,
        lambda n: np.float32(0),
        steps=6,
        evaluate=lambda state: {"score": 0.25},
        evaluate_every=3,
        log_every=2,
        tokens_per_step=7,
    )
    text = out.getvalue()
    for part in ("train", "6/6", "loss ", "steps/s", "tokens/s", "0:00 left", "step 3  evaluation score 0.25"):
        assert part in text


def test_durations():
    assert [clock(seconds) for seconds in (-1, 0, 59.6, 3600)] == ["0:00", "0:00", "1:00", "1:00:00"]


if __name__ == "__main__":
    # A shell that starts its children in the background makes them deaf to Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with jax.numpy_dtype_promotion("standard"):
        language_model_run(
            sys.argv[1],
            float(sys.argv[2]),
            log=lambda record: print(f"step {record['step']}", flush=True),
            resume_with="run it again",
        )
