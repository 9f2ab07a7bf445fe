"""Truncated BPTT: which step is in which window, and its gradient against one written out step by step."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.losses import half_squared_error, mean_squared_error
from jaxrnn.training import gradient_descent, train_state, train_step, truncated_loss, windows

N, B = 7, 2
XS = np.asarray(jax.random.normal(jax.random.key(1), (N, B, 3)))
YS = np.asarray(jax.random.normal(jax.random.key(2), (N, B, 4)))
LAYERS = {
    "gru": jaxrnn.recurrent(jaxrnn.gru(3, 4)),
    "lstm": jaxrnn.serial(jaxrnn.dense(3, 5), jaxrnn.recurrent(jaxrnn.lstm(5, 6)), jaxrnn.dense(6, 4)),
    "learned": jaxrnn.recurrent(jaxrnn.learned_carry(jaxrnn.vanilla(3, 4))),
}
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


def reference(layer, all_params, k1, k2, mask=None, resets=None):
    """Return loss and gradient of each update, one step of the layer at a time.

    Update i has the parameters ``all_params[i]``. The carry before step s is the one that the update
    which first reached step s computed, as a constant.
    """
    carries = {0: None}
    results = []
    step = jax.jit(layer.step)
    for i, params in enumerate(all_params):
        stop = min((i + 1) * k1, N)
        start = max((i + 1) * k1 - k2, 0)

        def loss(params, start=start, stop=stop, first=i * k1):
            carry, reached, outputs = carries[start], {}, []
            if start == 0:
                carry = layer.initial_carry(params, (B,))
            for t in range(start, stop):
                after, y = step(params, carry, XS[t], reset=None if resets is None else resets[t])
                if mask is not None:
                    keep = mask[t][:, None]
                    after = jax.tree.map(lambda new, old, keep=keep: jnp.where(keep, new, old), after, carry)
                carry = after
                reached[t + 1] = carry
                if t >= first:
                    outputs.append(y)
            counted = None if mask is None else mask[first:stop]
            return half_squared_error(jnp.stack(outputs), YS[first:stop], counted), reached

        (value, reached), gradient = jax.value_and_grad(loss, has_aux=True)(params)
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
    params = layer.init(jax.random.key(0))
    all_params = [jax.tree.map(lambda p, i=i: p * (1 + 0.1 * i), params) for i in range(count)]
    carry = jax.tree.map(lambda x: x + 7, layer.initial_carry(params, (B,)))  # must not matter: a pass starts anew
    for i, expected in enumerate(reference(layer, all_params, k1, k2)):
        (value, (carry, metrics)), gradient = loss_fn(all_params[i], carry, window(i), jax.random.key(0))
        assert metrics == {}
        np.testing.assert_allclose(value, expected[0], rtol=1e-5)
        chex.assert_trees_all_close(gradient, expected[1], rtol=1e-4, atol=1e-5)


def test_gradient_with_mask_and_resets_is_that_of_the_loop():
    rng = np.random.default_rng(1)
    mask, resets = rng.random((N, B)) < 0.7, rng.random((N, B)) < 0.3
    layer, k1, k2 = LAYERS["gru"], 2, 5
    params = layer.init(jax.random.key(0))
    window, count = windows(XS, YS, k1, k2, mask=mask, resets=resets)
    loss_fn = jax.jit(jax.value_and_grad(truncated_loss(layer, half_squared_error, k1, k2), has_aux=True))
    carry = layer.initial_carry(params, (B,))
    for i, expected in enumerate(reference(layer, [params] * count, k1, k2, mask, resets & mask)):
        (value, (carry, _)), gradient = loss_fn(params, carry, window(i), jax.random.key(0))
        np.testing.assert_allclose(value, expected[0], rtol=1e-5)
        chex.assert_trees_all_close(gradient, expected[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_one_window_over_all_is_full_bptt(name):
    layer = LAYERS[name]
    params = layer.init(jax.random.key(0))
    carry = layer.initial_carry(params, (B,))

    def full(params):
        return mean_squared_error(layer.apply(params, XS)[1], YS)

    gradient = jax.jit(jax.grad(truncated_loss(layer, mean_squared_error, N, N), has_aux=True))
    found, _ = gradient(params, carry, windows(XS, YS, N).window(0), jax.random.key(0))
    chex.assert_trees_all_close(found, jax.jit(jax.grad(full))(params), rtol=1e-6, atol=1e-7)
    # A window with room to spare is full BPTT too.
    longer = jax.jit(jax.grad(truncated_loss(layer, mean_squared_error, N, N + 4), has_aux=True))
    found, _ = longer(params, carry, windows(XS, YS, N, N + 4).window(0), jax.random.key(0))
    chex.assert_trees_all_close(found, jax.jit(jax.grad(full))(params), rtol=1e-4, atol=1e-6)


def test_longer_windows_change_the_gradient():
    layer = LAYERS["gru"]
    params = layer.init(jax.random.key(0))
    gradients = []
    for k2 in (2, 3, 5):
        window = windows(XS, YS, 2, k2).window
        loss_fn = jax.grad(truncated_loss(layer, half_squared_error, 2, k2), has_aux=True)
        start = layer.initial_carry(params, (B,)) + 0.5
        gradients.append(jax.jit(loss_fn)(params, start, window(2), jax.random.key(0))[0].recurrent)
    assert not np.allclose(gradients[0], gradients[1], rtol=1e-2)
    assert not np.allclose(gradients[1], gradients[2], rtol=1e-2)


@pytest.mark.parametrize("batch", [(), (1, 2)])
def test_other_batch_axes(batch):
    layer, size = LAYERS["gru"], int(np.prod(batch, dtype=int))
    xs, ys = (x[:, :size].reshape(N, *batch, -1) for x in (XS, YS))
    window, _ = windows(xs, ys, 2, 3, batch_axes=len(batch))
    params = layer.init(jax.random.key(0))
    carry = layer.initial_carry(params, batch)
    loss, (after, _) = truncated_loss(layer, half_squared_error, 2, 3)(params, carry, window(1), jax.random.key(0))
    chex.assert_trees_all_equal_shapes(after, carry)
    flat = windows(XS[:, :size], YS[:, :size], 2, 3).window(1)
    carry = layer.initial_carry(params, (size,))
    expected, _ = truncated_loss(layer, half_squared_error, 2, 3)(params, carry, flat, jax.random.key(0))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_training_compiles_once_and_learns():
    layer = LAYERS["lstm"]
    optimizer = gradient_descent(0.5)
    params = layer.init(jax.random.key(0))
    window, count = windows(XS, np.cumsum(XS[..., :1], 0).repeat(4, -1) / 10, 3, 5)
    loss_fn, traces, losses = truncated_loss(layer, mean_squared_error, 3, 5), [], []

    def counted(*arguments):
        traces.append(arguments)
        return loss_fn(*arguments)

    step = train_step(counted, optimizer)
    state = train_state(params, optimizer, jax.random.key(0), layer.initial_carry(params, (B,)))
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
    layer = LAYERS["gru"]
    with pytest.raises(TypeError, match="layer: expected a jaxrnn Layer, got Cell"):
        truncated_loss(jaxrnn.gru(3, 4), half_squared_error, 3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="loss: expected a function"):
        truncated_loss(layer, "mse", 3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="k2: expected at least k1"):
        truncated_loss(layer, half_squared_error, 3, 2)
    with pytest.raises(ValueError, match="index: expected at least 0, got -1"):
        windows(XS, YS, 3).window(-1)
    params = layer.init(jax.random.key(0))
    arguments = params, layer.initial_carry(params, (B,))
    with pytest.raises(ValueError, match="batch: expected a window of k2 = 5 steps and k1 = 3 targets, got 3 steps"):
        truncated_loss(layer, half_squared_error, 3, 5)(*arguments, windows(XS, YS, 3).window(0), jax.random.key(0))
    with pytest.raises(TypeError, match=r"batch: expected a Window .* got tuple"):
        truncated_loss(layer, half_squared_error, 3)(*arguments, (XS, YS), jax.random.key(0))
