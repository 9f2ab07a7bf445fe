"""The quick run: what its figures say about gradients holds, and everything is written."""

import json
from typing import Any

import jax
import numpy as np
import pytest

from experiments import gradient_flow, gradient_plots, runs


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    directory = tmp_path_factory.mktemp("flow")
    with jax.numpy_dtype_promotion("standard"):  # as Adam needs it
        return gradient_flow.run(gradient_flow.QUICK, directory), directory


def reach(result, comparison):
    """How much of the gradient reaches the first step at the start, by name."""
    return {name: record["gradient norms at the start"][-1] for name, record in result[0][comparison].items()}


def test_gradients_vanish_and_explode_as_theory_says(result):
    of = reach(result, "starts")
    assert of["N(0, 1)"] > 1 > of["orthogonal"]
    assert min(of["orthogonal"], of["N(0, 1/H)"]) > of["U(±1/√H)"] > of["0.01 · N(0, 1)"]
    assert of["0.01 · N(0, 1)"] < 1e-20
    assert 0.1 < of["identity, ReLU"] < 10


def test_a_larger_forget_bias_lets_more_gradient_through(result):
    of = reach(result, "forget bias")
    assert of["bias 0"] < of["bias 1"] < of["bias 3"]
    assert of["bias 0"] < 1e-2 < 0.1 < of["bias 5"]


def test_norms_begin_at_the_last_step(result):
    for comparison in ("cells", "starts", "forget bias", "clipping"):
        for record in result[0][comparison].values():
            norms = record["gradient norms at the start"]
            assert len(norms) == 20
            assert norms[0] == 1


def test_singular_values_agree_with_the_norms(result):
    for name, record in result[0]["cells"].items():
        logs = record["log10 of the singular values over all steps, at the start"]
        assert len(logs) == (24 if name == "LSTM" else 12)
        assert logs == sorted(logs, reverse=True)
        # The gradient of step 1 is that of step T times 19 Jacobians; one more is in the singular values.
        assert logs[0] < np.log10(record["gradient norms at the start"][-1]) + 2


def test_clipping_keeps_gradients_smaller(result):
    free, clipped = result[0]["clipping"].values()
    assert clipped["largest gradient norm in training"] <= free["largest gradient norm in training"]
    assert clipped["error"] < free["error"]


def test_it_writes_metrics_and_pictures(result):
    records, directory = result
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {line["comparison"] for line in lines} == {"cells", "starts", "forget bias", "clipping"} < set(records)
    for name in ("gradient_norms", "singular_values", "starts", "forget_bias", "clipping"):
        assert (directory / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_adding_problem_marks_one_number_in_each_half(key):
    xs, targets = gradient_flow.draw_adding(key, 11, 50)
    numbers, marks = np.asarray(xs[..., 0]), np.asarray(xs[..., 1])
    assert xs.shape == (11, 50, 2)
    np.testing.assert_array_equal(marks[:5].sum(axis=0), 1)
    np.testing.assert_array_equal(marks[5:].sum(axis=0), 1)
    np.testing.assert_allclose((numbers * marks).sum(axis=0), targets, rtol=1e-6)


@pytest.mark.parametrize("task", [gradient_flow.ADDING, gradient_flow.RECALL], ids=lambda task: task.name)
def test_the_floor_is_the_variance_of_the_answer(task, key):
    _, targets = task.draw(key, 4, 20_000)
    assert float(targets.var()) == pytest.approx(task.floor, rel=0.05)


def test_delayed_recall_asks_for_the_first_number(key):
    xs, targets = gradient_flow.draw_recall(key, 5, 3)
    np.testing.assert_array_equal(targets, xs[0, :, 0])
    np.testing.assert_array_equal(xs[..., 1].sum(axis=0), 1)


def test_labels_of_lines_keep_apart():
    figure, (axes, _) = gradient_plots.two_panels()
    axes.set(yscale="log", ylim=(1e-3, 1e3), xlim=(0, 1))
    values = {"a": 1.0, "b": 1.0, "c": 900.0, "d": np.inf}
    gradient_plots.label_ends(axes, {name: (value, "black") for name, value in values.items()})
    places = np.log10([text.xy[1] for text in axes.texts])
    assert np.all(np.diff(places) >= 0.06 * 6 - 1e-9)
    assert places.max() <= 3
    assert figure.axes


def test_a_loss_that_is_not_a_number_is_drawn_as_diverged():
    losses = {"fine": np.linspace(1, 0.1, 90), "bad": np.r_[1.0, np.full(89, np.nan)]}
    norms = {name: values.copy() for name, values in losses.items()}
    figure = gradient_plots.draw_clipping(norms, losses, floor=0.3, threshold=1.0)
    assert any(text.get_text() == "bad: diverged" for axes in figure.axes for text in axes.texts)
    assert gradient_plots.largest_norm(norms["bad"]) == 1


def test_bad_options_are_named():
    cases: list[dict[str, Any]] = [{"steps": 3}, {"hidden": 0}, {"clip": 0.0}, {"forget_biases": ()}]
    for options in cases:
        with pytest.raises(runs.InputError, match=f"--{next(iter(options))}".replace("_", "-")):
            gradient_flow.Config(**options)
