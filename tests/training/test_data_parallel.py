"""One gradient, however many devices take part in it: masks, pytrees of axes, uneven weights, and a whole run."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxrnn
from jaxrnn.losses import mean_squared_error, sum_and_weight
from jaxrnn.training import (
    Window,
    data_parallel,
    gradient_descent,
    stream_windows,
    train_state,
    train_step,
    truncated_loss,
    windows,
)
from tests.models.drawing import params_of
from tests.registry import BY_NAME, assert_trees_close

T, B, D, H = 5, 4, 2, 3
LENGTHS = np.array([5, 1, 2, 0])  # on two devices, 6 steps count on one and 2 on the other
BOTH = jax.devices()[:2]


@pytest.fixture
def batch(rng, float64):
    xs, ys = (jnp.array(rng.normal(size=(T, B, size))) for size in (D, H))
    return {"xs": xs, "ys": ys, "lengths": jnp.array(LENGTHS)}


AXES = {"xs": 1, "ys": 1, "lengths": 0}


def errors(cell, params, batch):
    """Return (Σ squared errors of the steps that count, how many count)."""
    _, ys = jaxrnn.unroll(cell, params, batch["xs"], lengths=batch["lengths"])
    counts = jnp.arange(T)[:, None] < batch["lengths"][None]
    return jnp.sum(jnp.where(counts[..., None], (ys - batch["ys"]) ** 2, 0.0)), counts.sum()


@pytest.mark.parametrize("name", ["vanilla-tanh", "learned-lstm", "gru-before", "user-gru"])
def test_a_masked_sum_equals_one_device(name, key, batch):
    cell = BY_NAME[name].cell(jnp.float64)

    def mean(params, batch):
        total, count = errors(cell, params, batch)
        return total / count.astype(total.dtype)

    def pair(params, batch):
        return errors(cell, params, batch)

    @jax.jit
    def on_one(*args):
        return jax.value_and_grad(mean)(*args), data_parallel(pair, BOTH[1:], batch_axis=AXES)(*args)

    @jax.jit
    def on_both(*args):
        return [data_parallel(loss, batch_axis=AXES)(*args) for loss in (pair, mean)]

    params = params_of(cell, key)
    expected, alone = on_one(params, batch)
    parallel, means = on_both(params, batch)
    assert_trees_close(parallel, expected)
    assert_trees_close(alone, expected)
    assert abs(float(means[0] - expected[0])) > 1e-3  # a mean of means is another loss


def test_a_mean_equals_one_device_without_jit(key, batch):
    cell = jaxrnn.vanilla(D, H, dtype=jnp.float64)
    params = params_of(cell, key)

    def loss(params, batch):
        xs, scale = batch
        return scale * jnp.mean(jaxrnn.unroll(cell, params, xs)[1] ** 2)

    inputs = batch["xs"], jnp.array(3.0)
    parallel = data_parallel(loss, BOTH, batch_axis=(1, None))(params, inputs)
    assert_trees_close(parallel, jax.jit(jax.value_and_grad(loss))(params, inputs))


def test_the_devices_sum_once(key, batch, monkeypatch):
    """One reduction for all that is small, the loss, the weight and biases, and one for each large array."""
    cell = jaxrnn.lstm(D, H, dtype=jnp.float64)
    params = params_of(cell, key)

    def sums():
        gradient = data_parallel(lambda params, batch: errors(cell, params, batch), batch_axis=AXES)
        jaxpr = str(jax.make_jaxpr(gradient)(params, batch))
        assert "all_gather" not in jaxpr
        return jaxpr.count(" = psum")

    assert sums() == 1
    monkeypatch.setattr(importlib.import_module("jaxrnn.training.data_parallel"), "SMALL", params.bias.size)
    assert sums() == 1 + len({"input", "recurrent"})


def test_parameters_of_two_dtypes_keep_them(key, batch):
    """And are summed apart; a mean has no weight to sum."""
    params = {"wide": jnp.ones(D), "narrow": jnp.ones(D, jnp.bfloat16), "none": ()}

    def loss(params, xs):
        return jnp.mean((xs @ params["wide"]) ** 2) + jnp.mean(xs.astype(jnp.bfloat16) @ params["narrow"]).astype(float)

    parallel = data_parallel(loss, BOTH, batch_axis=1)
    value, grads = jax.jit(parallel)(params, batch["xs"])
    expected = jax.jit(jax.value_and_grad(loss))(params, batch["xs"])
    assert_trees_close(grads["wide"], expected[1]["wide"])
    assert_trees_close(value, expected[0], 1e-2)
    np.testing.assert_allclose(np.asarray(grads["narrow"], float), np.asarray(expected[1]["narrow"], float), atol=2e-2)
    assert grads["narrow"].dtype == jnp.bfloat16
    assert str(jax.make_jaxpr(parallel)(params, batch["xs"])).count(" = psum") == 2


def test_where_nothing_counts_the_loss_is_zero(key, batch):
    cell = jaxrnn.vanilla(D, H, dtype=jnp.float64)
    nothing = {**batch, "lengths": jnp.array(np.zeros_like(LENGTHS))}
    gradient = jax.jit(data_parallel(lambda params, batch: errors(cell, params, batch), batch_axis=AXES))
    loss, grads = gradient(params_of(cell, key), nothing)
    assert loss == 0
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(grads))


@pytest.mark.parametrize("devices", [BOTH[:1], BOTH], ids=["one", "two"])
@pytest.mark.parametrize(
    ("loss", "shapes"),
    [
        (lambda xs: xs, r"\(\d,\)"),
        (lambda xs: (xs, xs.sum()), r"\(\d,\) and \(\)"),
        (lambda xs: (xs.sum(), xs), r"\(\) and \(\d,\)"),
        (lambda xs: (xs.sum(),) * 3, r"\(\) and \(\) and \(\)"),
        (lambda xs: (xs.sum(),), r"\(\)"),
        (lambda xs: (), "None"),
    ],
    ids=["vector", "vector sum", "vector weight", "three parts", "one part", "no part"],
)
def test_a_loss_of_other_shapes_is_refused_where_it_is_traced(loss, shapes, devices):
    """The weight is not known then, so the check may ask for shapes alone."""
    gradient = jax.jit(data_parallel(lambda w, xs: loss(w * xs), devices))
    with pytest.raises(ValueError, match=rf"\Aloss_fn: expected a scalar loss, or a pair \(.*, got shape {shapes}\Z"):
        gradient(jnp.ones(()), jnp.ones(4))


def test_a_step_s_noise_differs_between_devices():
    def loss_fn(params, carry, batch, key):
        noise = jax.random.normal(key, batch.shape)
        return jnp.mean(params * batch), (noise, {})

    state = train_state(jnp.ones(()), optax.sgd(0.1), jax.random.key(0), jnp.zeros(4))
    state, _ = train_step(loss_fn, optax.sgd(0.1), devices=BOTH)(state, jnp.ones(4))
    assert len(np.unique(state.carry)) == 4


def test_a_truncated_run_equals_one_device(key, rng, float64):
    """Five updates by Adam with a carry that is handed on: parameters, carry and metrics."""
    cell = jaxrnn.lstm(D, H, dtype=jnp.float64)
    layer = jaxrnn.recurrent(cell)
    xs, ys = rng.normal(size=(12, B, D)), np.ones((12, B, H))
    window, _ = windows(xs, ys, 3, 4)
    axes = window(0)._replace(xs=1, targets=1, mask=1, resets=None, start=0)
    params, optimizer = params_of(layer, key), optax.adam(jnp.float64(1e-2))

    def run(**options):
        state = train_state(params, optimizer, key, layer.initial_carry(params, (B,)))
        step = train_step(truncated_loss(layer, mean_squared_error, 3, 4), optimizer, **options)
        for i in range(5):
            state, metrics = step(state, window(i))
        return state._replace(key=None), metrics

    with jax.numpy_dtype_promotion("standard"):  # optax has a float32 of its own in Adam
        assert_trees_close(run(devices=BOTH, batch_axis=axes), run())


def test_streams_that_end_apart_equal_one_device(key, rng, float64):
    """Update by update to the end of both documents; the mean of the devices' means is another loss there."""
    layer = jaxrnn.recurrent(jaxrnn.gru(D, H, dtype=jnp.float64))
    documents = [(rng.normal(size=(length, D)), rng.normal(size=(length, H))) for length in (11, 4)]
    found = list(stream_windows(documents, 2, 3, 4))  # a stream for each device
    assert [window.mask[-3:].sum(axis=0).tolist() for window in found] == [[3, 3], [3, 1], [3, 0], [2, 0]]
    axes = Window(xs=1, targets=1, mask=1, resets=1, start=0)
    params, optimizer = params_of(layer, key), gradient_descent(0.1)

    def run(loss, **options):
        state = train_state(params, optimizer, key, layer.initial_carry(params, (2,)))
        step = train_step(truncated_loss(layer, loss, 3, 4), optimizer, **options)
        steps = []
        for window in found:
            state, metrics = step(state, window)
            steps.append(jax.device_get((metrics, state.params, state.carry)))
        return steps

    pair, divided = sum_and_weight(mean_squared_error), {"devices": BOTH, "batch_axis": axes}
    expected = run(mean_squared_error)
    assert_trees_close(run(pair, **divided), expected)
    assert_trees_close(run(pair), expected)
    means = run(mean_squared_error, **divided)
    assert_trees_close(means[0], expected[0])  # where all count, it is no other loss
    for (metrics, *_), (wanted, *_) in zip(means[1:], expected[1:], strict=True):
        assert abs(metrics["loss"] - wanted["loss"]) > 1e-2
