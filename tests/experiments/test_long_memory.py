"""The problems of long memory, what is measured on them, and a run that is stopped and goes on."""

import dataclasses
import functools
import json
import math
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxrnn
from experiments import long_memory, memory_report, runs
from experiments.data import memory
from experiments.memory_cells import CONTENDERS, chrono, optimizer_for, projected, stacked
from experiments.memory_measures import kept_of, linear_share, needless, reach_of
from experiments.memory_report import Outcome
from experiments.memory_specimen import adding_features, copy_features
from experiments.training import Training

TINY = long_memory.Config(
    length=4,
    cells=("linear-orthogonal", "vanilla-scaled"),
    hidden=3,
    batch=4,
    held_out=8,
    gradients=4,
    training=Training(steps=12, learning_rate=1e-2, evaluate_every=6, checkpoint_every=6, devices=1),
)


@pytest.fixture(autouse=True)
def _optimisers_promote():
    with jax.numpy_dtype_promotion("standard"):
        yield


class Finished(NamedTuple):
    directory: pathlib.Path
    result: dict[str, Any]
    first: dict[str, int]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A run that was stopped after its first cell, ``first`` being when that one's files were written."""
    directory = tmp_path_factory.mktemp("finished")
    long_memory.run(dataclasses.replace(TINY, cells=TINY.cells[:1]), directory)
    first = times(directory / TINY.cells[0])
    return Finished(directory, long_memory.run(TINY, directory), first)


def test_a_cell_of_a_run_can_be_looked_into(finished: Finished):
    losses = {name: finished.result["cells"][name]["loss"] for name in TINY.cells}
    best = min(losses, key=losses.__getitem__)
    assert long_memory.parts(TINY, finished.directory) == [best, next(name for name in TINY.cells if name != best)]
    shown = long_memory.specimen(TINY, finished.directory, 40, "linear-orthogonal")
    assert shown.reading is not None
    assert list(shown.reading.units) == ["layer 1 h"]
    assert (len(shown.reading.symbols), shown.reading.starts[:2]) == (40, [0, 4])
    question, marked = shown.questions[0], np.asarray(shown.questions[0].inputs)[:, 1] > 0
    of_inputs = jax.jit(jax.value_and_grad(question.score, argnums=1))
    score, slope = jax.device_get(of_inputs(question.params, question.inputs))
    change = score - question.score(question.params, question.baseline)
    # The cell is linear, so that the answer is what all inputs give it.
    assert float(change) == pytest.approx((slope * np.asarray(question.inputs - question.baseline)).sum(), abs=1e-5)
    assert [symbol.startswith("[") for symbol in question.symbols] == marked.tolist()
    with pytest.raises(runs.InputError, match="no cell is trained yet"):
        long_memory.parts(TINY, finished.directory / TINY.cells[0])


def test_features_of_the_problems_are_what_is_asked_for():
    numbers = np.array([0.5, 0.25, 0.125, 0.75], np.float32)
    at = adding_features(np.stack([numbers, [0, 1, 0, 1]], axis=1)[:, None])
    assert at["sum so far"].tolist() == [0, 0.25, 0.25, 1]
    assert at["the last marked number"].tolist() == [0, 0.25, 0.25, 0.75]
    assert at["steps since the last mark"].tolist() == [0, 0, 1, 0]
    tokens, targets = map(np.asarray, memory.draw_copy(jax.random.key(0), 5, 2))
    at = copy_features(tokens)
    for symbol in (1, 8):
        assert at[f"{symbol} is to be recalled"].tolist() == (targets == symbol).T.reshape(-1).tolist()
    assert at["symbols are asked for"].tolist() == (targets > 0).T.reshape(-1).tolist()


def times(directory: pathlib.Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in directory.iterdir()}


def test_a_run_leaves_a_training_for_each_cell_and_a_picture(finished: Finished):
    directory, result, _ = finished
    json.dumps(result)
    assert {path.name for path in directory.iterdir()} == {*TINY.cells, "curves.png", "measures.png"}
    assert (directory / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert [row["value"] for row in result["rows"]] == [told["loss"] for told in result["cells"].values()]
    for told in result["cells"].values():
        assert [step for step, _ in told["curve"]] == [6, 12]
        assert len(told["reach_start"]) == len(told["reach_end"]) == 3
        assert told["solved_step"] is None


def test_a_cell_that_is_trained_is_not_trained_again(finished: Finished):
    directory, result, first = finished
    assert {"best.safetensors", "checkpoint.safetensors", "metrics.jsonl", "result.json"} == first.keys()
    assert times(directory / TINY.cells[0]) == first
    assert long_memory.run(TINY, directory) == result


def test_a_cell_that_diverges_is_told_of(tmp_path: pathlib.Path):
    training = dataclasses.replace(TINY.training, learning_rate=1e30, clip=1e30)
    config = dataclasses.replace(TINY, cells=("linear-orthogonal",), training=training)
    told = long_memory.run(config, tmp_path)["cells"]["linear-orthogonal"]
    assert told["diverged"] is not None
    with pytest.raises(runs.InputError, match="no cell has a model; all diverged at once, or"):
        long_memory.parts(config, tmp_path)
    assert "diverged" in memory_report.verdict(Outcome(**told), 1 / 6)


def test_symbols_are_copied_after_the_sign():
    tokens, targets = (np.asarray(part).T for part in memory.draw_copy(jax.random.key(0), 5, 7))
    assert tokens.shape == targets.shape == (7, 25)
    for shown, wanted in zip(tokens.tolist(), targets.tolist(), strict=True):
        assert set(shown[:10]) <= set(range(1, 9))
        assert shown[10:] == [0] * 4 + [9] + [0] * 10
        assert wanted == [0] * 15 + shown[:10]


def test_the_adding_problem_asks_for_the_marked_numbers():
    task = memory.adding(6)
    xs, targets = map(np.asarray, task.draw(jax.random.key(0), 5))
    np.testing.assert_allclose((xs[..., 0] * xs[..., 1]).sum(0), targets[0, :, 0], rtol=1e-6)
    np.testing.assert_array_equal(xs[:3, :, 1].sum(0), 1)
    np.testing.assert_array_equal(xs[3:, :, 1].sum(0), 1)
    first, second = task.shown(xs)
    np.testing.assert_allclose(first, (xs[:3, :, 0] * xs[:3, :, 1]).sum(0)[:, None], rtol=1e-6)
    np.testing.assert_allclose(first + second, targets[0], rtol=1e-6)


def test_floors_are_what_no_memory_gives():
    adding, copy = memory.adding(5), memory.copy(7)
    _, sums = adding.draw(jax.random.key(0), 20_000)
    assert float(jax.jit(adding.loss)(np.ones_like(sums), sums)) == pytest.approx(adding.floor, rel=0.03)
    _, targets = copy.draw(jax.random.key(1), 3)
    logits = np.full((*targets.shape, copy.outputs), -1e4, np.float32)
    logits[: copy.first, :, 0] = logits[copy.first :, :, 1:] = 0
    assert float(jax.jit(copy.loss)(logits, targets)) == pytest.approx(copy.floor, rel=1e-5)
    assert copy.floor == pytest.approx(10 * math.log(8) / 27)


def test_of_the_copy_problem_blanks_need_no_memory():
    task = memory.copy(7)
    xs, targets = task.draw(jax.random.key(0), 3)
    in_vain = jax.jit(functools.partial(needless, task, len(xs)))
    answers = np.zeros((*targets.shape, task.outputs), np.float32)
    assert float(in_vain(answers, targets)) == pytest.approx(math.log(9) * 17 / 27)
    answers[: task.first, :, 0] = 1e4
    assert float(in_vain(answers, targets)) == 0
    adding = memory.adding(5)
    xs, targets = adding.draw(jax.random.key(0), 3)
    assert float(needless(adding, len(xs), jnp.zeros_like(targets), targets)) == 0


def test_the_gradient_of_a_linear_cell_shrinks_as_its_weights_do():
    task = memory.copy(4)
    cell = jaxrnn.vanilla(task.inputs, 3, activation="identity", recurrent_init=jaxrnn.initializers.orthogonal(0.5))
    model = jaxrnn.serial(jaxrnn.recurrent(cell), jaxrnn.dense(3, task.outputs))
    reach = reach_of(cell, model, task, task.draw(jax.random.key(0), 2))(jax.jit(model.init)(jax.random.key(1)))
    assert len(reach) == 14, "from the step before the first symbol recalled back to the first shown"
    np.testing.assert_allclose(reach, 0.5 ** np.arange(14.0), rtol=1e-5)


@pytest.mark.parametrize("name", CONTENDERS)
def test_every_cell_fits_the_model(name: str):
    cell = CONTENDERS[name].make(3, 5, 7)
    params = jax.eval_shape(cell.init, jax.random.key(0))
    _, ys = jax.eval_shape(lambda params: jaxrnn.unroll(cell, params, jnp.ones((2, 4, 3))), params)
    assert ys.shape == (2, 4, 5)


def test_stacked_cells_read_one_another():
    cells = jaxrnn.indrnn(2, 3), jaxrnn.lstm(3, 4)
    params = jax.jit(stacked(*cells).init)(jax.random.key(0))
    xs = np.random.default_rng(1).standard_normal((5, 2, 2), np.float32)

    @jax.jit
    def both(params: Any, xs: Any) -> Any:
        h, hs = jaxrnn.unroll(cells[0], params[0], xs)
        return jaxrnn.unroll(stacked(*cells), params, xs), h, jaxrnn.unroll(cells[1], params[1], hs)

    ((h, lstm), ys), h_alone, (lstm_alone, ys_alone) = both(params, xs)
    for got, wanted in ((ys, ys_alone), (h, h_alone), (lstm.c, lstm_alone.c)):
        np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_a_projected_cell_reads_a_product_of_its_inputs():
    cell = jaxrnn.intersection(4, 4)
    params = jax.jit(projected(cell, inputs=2, hidden=4).init)(jax.random.key(0))
    xs = np.random.default_rng(1).standard_normal((5, 3, 2), np.float32)

    @jax.jit
    def both(params: Any, xs: Any) -> Any:
        _, fed = jaxrnn.dense(2, 4).apply(params.inputs, xs)
        ys = jaxrnn.unroll(projected(cell, inputs=2, hidden=4), params, xs)[1]
        return ys, jaxrnn.unroll(cell, params.cell, fed)[1]

    np.testing.assert_allclose(*both(params, xs), atol=1e-6)


def test_updates_of_the_indrnn_land_within_its_bound():
    contender = CONTENDERS["indrnn-2"]
    params = (jax.jit(contender.make(2, 3, 4).init)(jax.random.key(0)), np.ones(5, np.float32))
    optimizer = optimizer_for(contender, Training(learning_rate=10.0, warmup=0.0), 4)
    signs = lambda leaf: np.where(np.arange(leaf.size).reshape(leaf.shape) % 2, 1, -1).astype(leaf.dtype)

    @jax.jit
    def update(params: Any, gradients: Any) -> Any:
        updates, _ = optimizer.update(gradients, optimizer.init(params), params)
        return optax.apply_updates(params, updates)

    moved = update(params, jax.tree.map(signs, params))
    for layer in moved[0]:
        np.testing.assert_allclose(layer.recurrent, 2**0.25 * np.array([1, -1, 1]), rtol=1e-6)
        assert np.abs(layer.input).min() > 5, "only the recurrent weights have a bound"
    np.testing.assert_allclose(moved[1], [11, -9, 11, -9, 11], rtol=1e-4)


def test_chrono_starts_the_gates_to_forget_over_all_times():
    lstm = chrono(jaxrnn.lstm(2, 64), 50, keeps=1, admits=0)
    admits, keeps, *others = np.asarray(jax.jit(lstm.init)(jax.random.key(0)).bias).reshape(4, 64)
    np.testing.assert_array_equal(admits, -keeps)
    assert not np.any(others)
    times = np.exp(keeps)
    assert 1 <= times.min() < 5 < 45 < times.max() <= 49
    assert times.mean() == pytest.approx(25, abs=5)
    gru = jax.jit(CONTENDERS["gru-chrono"].make(2, 64, 50).init)(jax.random.key(0))
    reset, update, candidate = np.asarray(gru.bias).reshape(3, 64)
    assert update.min() >= 0 < update.max()
    assert not np.any([reset, candidate])


FAILED = Outcome(
    words="GRU",
    parameters=9,
    loss=0.166,
    needless=0.0,
    solved_step=None,
    solved_seconds=None,
    steps=2000,
    seconds=60.0,
    diverged=None,
    reach_start=[1.0, 0.5],
    reach_end=[1.0, 0.5],
    kept_start=0.0,
    kept_end=0.02,
    steepest=3.0,
    clipped=0.1,
    example="",
    curve=[(1000, 0.166), (2000, 0.165)],
)
REACHED = "0.5 of the gradient reaches step 1"
KEPT = "the state keeps 2% of the beginning"


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"solved_step": 300, "loss": 0.001}, "solved at step 300"),
        ({}, f"not solved, at the floor: {REACHED}; {KEPT}"),
        ({"loss": 0.05}, f"not solved, 70% below the floor: {REACHED}; {KEPT}"),
        (
            {"loss": 0.25, "needless": 0.1},
            f"not solved, 50% above the floor: 40% of its loss is of answers that need no memory; {REACHED}; {KEPT}",
        ),
        ({"diverged": 470}, f"not solved, diverged at step 470, until then at the floor: {REACHED}; {KEPT}"),
        (
            {"reach_start": [1.0, 1e-9], "reach_end": [1.0, 2e-9]},
            f"not solved, at the floor: the gradient vanishes, 2e-09 of it reaches step 1; {KEPT}",
        ),
        (
            {"reach_end": [1.0, 2e-9]},
            f"not solved, at the floor: training loses the gradient, 5e-01 of it reached step 1 and 2e-09 does; {KEPT}",
        ),
        (
            {"reach_end": [1.0, 3e7]},
            f"not solved, at the floor: the gradient explodes, 3e+07 times it reaches step 1; {KEPT}",
        ),
        (
            {"kept_start": 0.9},
            f"not solved, at the floor: {REACHED}; "
            "training loses what the state kept of the beginning, 90% at the start and 2% now",
        ),
        (
            {"kept_end": 0.9},
            f"not solved, at the floor: {REACHED}; "
            "the state keeps 90% of the beginning, and the answers make no use of it",
        ),
        (
            {"kept_end": 0.9, "loss": 0.05},
            f"not solved, 70% below the floor: {REACHED}; the state keeps 90% of the beginning",
        ),
        (
            {"steepest": 4e5, "clipped": 0.99, "curve": [(1000, 0.16), (2000, 0.12)]},
            f"not solved, at the floor: {REACHED}; {KEPT}; gradients grow to a norm of 4e+05 in training, "
            "99% of updates are clipped; the loss still fell by 25% in the second half of training",
        ),
    ],
)
def test_a_verdict_says_what_was_measured(told: dict[str, Any], words: str):
    assert memory_report.verdict(FAILED._replace(**told), 1 / 6) == words


def test_a_probe_reads_what_is_linear_in_the_states():
    draw = np.random.default_rng(0).normal
    shown, rest, noise = draw(size=(400, 2)), draw(size=(400, 1)), draw(size=(400, 3))
    assert linear_share(shown @ draw(size=(2, 3)) + 5.0, shown, rest) == pytest.approx(1, abs=1e-3)
    assert linear_share(noise, shown, rest) < 0.05
    assert linear_share(shown[:, :1], shown, rest) == pytest.approx(0.5, abs=0.1), "one of two"
    assert linear_share(shown[:, :1] + rest, shown[:, :1], rest) == pytest.approx(1, abs=1e-3), "a sum, less the rest"
    assert linear_share(shown + noise[:, :2], shown, rest) == pytest.approx(0.5, abs=0.1), "as much noise as signal"
    assert linear_share(np.ones((400, 3)), shown, rest) < 0.05, "states that never change"


@pytest.mark.parametrize(("places", "kept"), [(15, 1.0), (9, 0.4), (3, 0.0)])
def test_a_state_keeps_what_there_is_place_for(places: int, kept: float):
    """A linear cell that holds the last few inputs, one after another: of 15 steps the first ten show something."""
    task = memory.copy(4)
    units = places * task.inputs
    params = jaxrnn.VanillaParams(
        input=jnp.array(np.eye(task.inputs, units, dtype=np.float32)),
        recurrent=jnp.array(np.eye(units, k=task.inputs, dtype=np.float32)),
        bias=jnp.array(np.zeros(units, np.float32)),
    )
    cell = jaxrnn.vanilla(task.inputs, units, activation="identity")
    drawn = [task.draw(key, 500) for key in jax.random.split(jax.random.key(0))]
    assert kept_of(cell, task, drawn)((params, ())) == pytest.approx(kept, abs=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 3}, "--length: expected at least 4, got 3"),
        ({"held_out": 0}, "--held-out: expected at least 1"),
        ({"solved": 0.0}, "--solved: expected more than 0"),
        ({"cells": ("gru", "elman")}, "--cells: expected some of vanilla-scaled, .* got 'gru elman'"),
        ({"cells": ("gru", "gru")}, "--cells: .* each once"),
        ({"cells": ()}, "--cells: expected some of"),
    ],
)
def test_an_option_out_of_range_is_named(options: dict[str, Any], message: str):
    with pytest.raises(runs.InputError, match=message):
        long_memory.Config(**options)
