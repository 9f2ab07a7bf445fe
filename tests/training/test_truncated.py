"""Truncated BPTT: which step is in which window, and its gradient against one written out step by step."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.losses import half_squared_error, mean_squared_error
from jaxrnn.training import gradient_descent, train_state, train_step, truncated_loss, windows
from tests.models.drawing import params_of

N, B = 7, 2
XS, YS = (np.random.default_rng(0).standard_normal((N, B, size), dtype=np.float32) for size in (3, 4))
KEY = jax.random.key(0)
LAYERS = {
    "gru": jaxrnn.recurrent(jaxrnn.gru(3, 4)),
    "lstm": jaxrnn.serial(jaxrnn.dense(3, 5), jaxrnn.recurrent(jaxrnn.lstm(5, 6)), jaxrnn.dense(6, 4)),
    "learned": jaxrnn.recurrent(jaxrnn.learned_carry(jaxrnn.vanilla(3, 4))),
}
PARAMS = {name: params_of(layer, KEY) for name, layer in LAYERS.items()}
SIZES = [(1, 1), (3, 3), (2, 5), (3, 4), (4, 9), (7, 7), (5, 20), (20, 20), (1, 7)]


@pytest.mark.parametrize(("k1", "k2"), SIZES)
def test_every_target_is_in_one_window_of_a_pass(k1, k2):
    numbers = np.arange(N * B).reshape(N, B)
    window, count = windows(numbers, numbers + 100, k1, k2)
    assert count == -(-N // k1)
    for first in (0, count):  # two passes
        seen = []
        for i in range(first, first + count):
            w = window(i)
            mask = np.ones((k2, B), bool) if w.mask is None else w.mask
            assert w.xs.shape == (k2, B)
            assert w.targets.shape == (k1, B)
            assert mask.shape == (k2, B)
            new = mask[k2 - k1 :]
            np.testing.assert_array_equal(w.targets[new], w.xs[k2 - k1 :][new] + 100)
            seen += w.targets[new].tolist()
            # The steps that count are consecutive ones, up to k2 of them, and start says whether step 0 is among them.
            steps = w.xs[:, 0][mask[:, 0]] // B
            np.testing.assert_array_equal(steps, np.arange(steps[0], steps[-1] + 1))
            assert len(steps) == min(k2, steps[-1] + 1, N - steps[0])
            np.testing.assert_array_equal(w.start, np.full(B, steps[0] == 0))
        assert sorted(seen) == list(range(100, 100 + N * B))


def test_windows_are_the_same_form_and_a_function_of_the_index():
    window, count = windows(XS, YS, 3, 5)
    forms = {str(jax.tree.map(lambda x: (x.shape, x.dtype), window(i))) for i in range(2 * count)}
    assert len(forms) == 1
    chex.assert_trees_all_equal(window(2), window(2 + count))
    assert windows(XS[:6], YS[:6], 3).window(1).mask is None  # nothing to exclude, nothing to pay


def test_masks_and_resets_are_cut_like_the_rest():
    rng = np.random.default_rng(0)
    mask, resets = rng.random((2, N, B)) < 0.5
    window, _ = windows(XS, YS, 3, 5, mask=mask, resets=resets)
    np.testing.assert_array_equal(window(1).mask, mask[1:6])
    np.testing.assert_array_equal(window(1).resets, resets[1:6])
    np.testing.assert_array_equal(window(0).mask, np.concatenate([np.zeros((2, B), bool), mask[:3]]))
    np.testing.assert_array_equal(window(2).mask, np.concatenate([mask[4:], np.zeros((2, B), bool)]))


@functools.cache
def step_of(name):
    """Return a step of a layer that may begin the sequence, reset or keep the carry, and its transpose."""
    layer = LAYERS[name]
    assert layer.step is not None
    step_once = layer.step

    def step(params, carry, x, begin, reset, keep):
        start = layer.initial_carry(params, (B,))
        carry = jax.tree.map(lambda new, old: jnp.where(begin, new, old), start, carry)
        after, y = step_once(params, carry, x, reset=reset)
        return jax.tree.map(lambda new, old: jnp.where(keep[:, None], new, old), after, carry), y

    def back(params, carry, inputs, cotangents):
        return jax.vjp(lambda *args: step(*args, *inputs), params, carry)[1](cotangents)

    return jax.jit(step), jax.jit(back)


error_of = jax.jit(jax.value_and_grad(half_squared_error))


def reference(name, all_params, k1, k2, mask=None, resets=None):
    """Return the loss and the gradient of each update of one pass, step by step.

    Update i has the parameters ``all_params[i]``. The carry before step s is the one that the update
    which first reached step s computed, as a constant.
    """
    step, back = step_of(name)
    keep, reset = np.ones((N, B), bool) if mask is None else mask, np.zeros((N, B), bool) if resets is None else resets
    inputs = [(XS[t], t == 0, reset[t], keep[t]) for t in range(N)]
    nothing = jax.tree.map(np.zeros_like, LAYERS[name].initial_carry(all_params[0], (B,)))
    carries = {0: nothing}
    results = []
    for i, params in enumerate(all_params):
        stop = min((i + 1) * k1, N)
        start, first = max((i + 1) * k1 - k2, 0), i * k1
        reached, outputs = {start: carries[start]}, []
        for t in range(start, stop):
            reached[t + 1], y = step(params, reached[t], *inputs[t])
            outputs.append(y)
        counted = None if mask is None else mask[first:stop]
        value, dys = jax.device_get(error_of(np.stack(outputs[first - start :]), YS[first:stop], counted))
        dys = [*np.zeros((first - start, B, YS.shape[-1]), np.float32), *dys]
        gradient, dcarry = jax.tree.map(np.zeros_like, params), nothing
        for t in reversed(range(start, stop)):
            dparams, dcarry = back(params, reached[t], inputs[t], (dcarry, dys[t - start]))
            gradient = jax.tree.map(np.add, gradient, dparams)
        carries[max((i + 2) * k1 - k2, 0)] = reached.get(max((i + 2) * k1 - k2, 0))
        results.append((value, gradient))
    return results


@pytest.mark.parametrize(
    ("name", "k1", "k2"),
    [("gru", 3, 3), ("gru", 2, 5), ("gru", 3, 4), ("gru", 4, 20), ("lstm", 2, 3), ("learned", 2, 3), ("learned", 2, 5)],
)
def test_gradient_is_that_of_the_loop(name, k1, k2):
    layer = LAYERS[name]
    loss_fn = jax.jit(jax.value_and_grad(truncated_loss(layer, half_squared_error, k1, k2), has_aux=True))
    window, count = windows(XS, YS, k1, k2)
    # Parameters that change between updates tell which of them computed a carry.
    params = PARAMS[name]
    all_params = [jax.tree.map(lambda p, i=i: p * np.float32(1 + 0.1 * i), params) for i in range(count)]
    carry = jax.tree.map(lambda x: x + 7, layer.initial_carry(params, (B,)))  # must not matter: a pass starts anew
    for i, expected in enumerate(reference(name, all_params, k1, k2)):
        (value, (carry, metrics)), gradient = loss_fn(all_params[i], carry, window(i), KEY)
        assert metrics == {}
        np.testing.assert_allclose(value, expected[0], rtol=1e-5)
        chex.assert_trees_all_close(gradient, expected[1], rtol=1e-4, atol=1e-5)


def test_gradient_with_mask_and_resets_is_that_of_the_loop():
    rng = np.random.default_rng(1)
    mask, resets = rng.random((N, B)) < 0.7, rng.random((N, B)) < 0.3
    layer, params, k1, k2 = LAYERS["gru"], PARAMS["gru"], 2, 5
    window, count = windows(XS, YS, k1, k2, mask=mask, resets=resets)
    loss_fn = jax.jit(jax.value_and_grad(truncated_loss(layer, half_squared_error, k1, k2), has_aux=True))
    carry = layer.initial_carry(params, (B,))
    for i, expected in enumerate(reference("gru", [params] * count, k1, k2, mask, resets & mask)):
        (value, (carry, _)), gradient = loss_fn(params, carry, window(i), KEY)
        np.testing.assert_allclose(value, expected[0], rtol=1e-5)
        chex.assert_trees_all_close(gradient, expected[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_one_window_over_all_is_full_bptt(name):
    layer = LAYERS[name]

    @jax.jit
    def gradients(params, *all_windows):
        def of(k2, window):
            gradient = jax.grad(truncated_loss(layer, mean_squared_error, N, k2), has_aux=True)
            return gradient(params, layer.initial_carry(params, (B,)), window, KEY)[0]

        full = jax.grad(lambda params: mean_squared_error(layer.apply(params, XS)[1], YS))(params)
        return full, *map(of, (N, N + 4), all_windows)

    full, same, longer = gradients(PARAMS[name], *(windows(XS, YS, N, k2).window(0) for k2 in (N, N + 4)))
    chex.assert_trees_all_close(same, full, rtol=1e-6, atol=1e-7)
    # A window with room to spare is full BPTT too.
    chex.assert_trees_all_close(longer, full, rtol=1e-4, atol=1e-6)


def test_longer_windows_change_the_gradient():
    layer = LAYERS["gru"]

    @jax.jit
    def gradients(params, all_windows):
        start = layer.initial_carry(params, (B,)) + 0.5
        losses = {k2: truncated_loss(layer, half_squared_error, 2, k2) for k2 in all_windows}
        return [
            jax.grad(losses[k2], has_aux=True)(params, start, window, KEY)[0].recurrent
            for k2, window in all_windows.items()
        ]

    two, three, five = gradients(PARAMS["gru"], {k2: windows(XS, YS, 2, k2).window(2) for k2 in (2, 3, 5)})
    assert not np.allclose(two, three, rtol=1e-2)
    assert not np.allclose(three, five, rtol=1e-2)


@pytest.mark.parametrize("batch", [(), (1, 2)])
def test_other_batch_axes(batch):
    layer, size = LAYERS["gru"], int(np.prod(batch, dtype=int))
    xs, ys = (x[:, :size].reshape(N, *batch, -1) for x in (XS, YS))
    window, _ = windows(xs, ys, 2, 3, batch_axes=len(batch))
    flat = windows(XS[:, :size], YS[:, :size], 2, 3).window(1)
    loss_fn = truncated_loss(layer, half_squared_error, 2, 3)

    @jax.jit
    def both(params, window, flat):
        carry, flat_carry = (layer.initial_carry(params, axes) for axes in (batch, (size,)))
        loss, (after, _) = loss_fn(params, carry, window, KEY)
        chex.assert_trees_all_equal_shapes(after, carry)
        return loss, loss_fn(params, flat_carry, flat, KEY)[0]

    loss, expected = both(PARAMS["gru"], window(1), flat)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_training_compiles_once_and_learns():
    layer, params = LAYERS["lstm"], PARAMS["lstm"]
    optimizer = gradient_descent(0.5)
    window, count = windows(XS, np.cumsum(XS[..., :1], 0).repeat(4, -1) / 10, 3, 5)
    loss_fn, traces, losses = truncated_loss(layer, mean_squared_error, 3, 5), [], []

    def counted(*arguments):
        traces.append(arguments)
        return loss_fn(*arguments)

    step = train_step(counted, optimizer)
    state = train_state(params, optimizer, KEY, layer.initial_carry(params, (B,)))
    for i in range(10 * count):
        state, metrics = step(state, window(i))
        losses.append(float(metrics["loss"]))
    assert len(traces) == 1
    assert np.mean(losses[-count:]) < 0.8 * np.mean(losses[:count])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"k1": 0}, ValueError, "k1: expected at least 1, got 0"),
        ({"k1": 2.0}, TypeError, "k1: expected an int"),
        ({"k2": 2}, ValueError, "k2: expected at least k1 = 3 steps back-propagated, got 2"),
        ({"xs": XS[:0]}, ValueError, r"xs: expected at least one step, got shape \(0, 2, 3\)"),
        ({"xs": XS[:, 0, 0]}, ValueError, "xs: expected .* with 1 batch axes"),
        ({"targets": YS[:-1]}, ValueError, r"targets: expected \(7, 2\) = \[time, \*batch\] of xs first"),
        ({"targets": YS[:, :1]}, ValueError, "targets: expected"),
        (
            {"mask": np.ones((B, N), bool)},
            ValueError,
            r"mask: expected shape \(7, 2\) = \[time, \*batch\], got \(2, 7\)",
        ),
        ({"mask": np.ones((N, B))}, TypeError, "mask: expected bool, got dtype float64"),
        ({"resets": np.ones((N, B, 1), bool)}, ValueError, "resets: expected shape"),
        ({"batch_axes": 3}, ValueError, "xs: expected .* with 3 batch axes"),
        ({"batch_axes": -1}, ValueError, "xs: expected"),
        ({"batch_axes": 1.0}, TypeError, "batch_axes: expected an int"),
    ],
)
def test_wrong_windows(change, error, message):
    with pytest.raises(error, match=message):
        windows(**({"xs": XS, "targets": YS, "k1": 3} | change))


def test_wrong_losses():
    layer, params = LAYERS["gru"], PARAMS["gru"]
    with pytest.raises(TypeError, match="layer: expected a jaxrnn Layer, got Cell"):
        truncated_loss(jaxrnn.gru(3, 4), half_squared_error, 3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="loss: expected a function"):
        truncated_loss(layer, "mse", 3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="k2: expected at least k1"):
        truncated_loss(layer, half_squared_error, 3, 2)
    with pytest.raises(ValueError, match="index: expected at least 0, got -1"):
        windows(XS, YS, 3).window(-1)
    arguments = params, layer.initial_carry(params, (B,))
    with pytest.raises(ValueError, match="batch: expected a window of k2 = 5 steps and k1 = 3 targets, got 3 steps"):
        truncated_loss(layer, half_squared_error, 3, 5)(*arguments, windows(XS, YS, 3).window(0), KEY)
    with pytest.raises(TypeError, match=r"batch: expected a Window .* got tuple"):
        truncated_loss(layer, half_squared_error, 3)(*arguments, (XS, YS), KEY)
