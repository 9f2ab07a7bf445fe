"""Zoneout: the equations under known noise, its mean, where the output comes from, and gradients with noise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from tests.cells.keyed import assert_mean, keyed
from tests.examples import at
from tests.layers.stepping import step_of
from tests.registry import (
    BY_NAME,
    D,
    H,
    assert_gradients_by_autodiff,
    assert_trees_close,
    noisy_params,
    normal,
    normal_like,
)

pytestmark = pytest.mark.usefixtures("float64")
T, B = 3, 2
RATES = 0.2, 0.4
XS = np.ones((T, B, D))
RESETS = np.array([[False, True], [True, False], [False, True]])


def drawn(cell, key, features=(D,)):
    """Return parameters, a sequence and a carry to start from."""
    keys = jax.random.split(key, 3)
    params = noisy_params(cell, keys[0])
    carry = normal_like(keys[2], jax.eval_shape(lambda: cell.initial_carry(params, (B,))))
    return params, normal(keys[1], (T, B, *features)), carry


def unroll(cell, *arguments, key=None):
    return jax.jit(functools.partial(jaxrnn.unroll, cell))(*arguments, key=key)


def noise_of(cell, params, xs, key):
    return jax.device_get(jax.jit(cell.inputs)(params, xs, key).noise)


def by_the_equations(params, xs, carry, kept_h, kept_c):
    """The LSTM with zoneout, gate by gate in NumPy."""
    W, U, b = (dict(zip("ifgo", np.split(np.asarray(array), 4, axis=-1), strict=True)) for array in params)
    sigmoid = lambda a: 1 / (1 + np.exp(-a))
    h, c = map(np.asarray, carry)
    for x, m_h, m_c in zip(*map(np.asarray, (xs, kept_h, kept_c)), strict=True):
        a = {gate: x @ W[gate] + h @ U[gate] + b[gate] for gate in "ifgo"}
        memory = sigmoid(a["f"]) * c + sigmoid(a["i"]) * np.tanh(a["g"])
        h = m_h * h + (1 - m_h) * sigmoid(a["o"]) * np.tanh(memory)
        c = m_c * c + (1 - m_c) * memory
        yield h, c


@pytest.mark.parametrize("noise", [True, False], ids=["noise", "mean"])
def test_values_are_those_of_the_equations(noise, key):
    cell = jaxrnn.zoneout(jaxrnn.lstm(D, H, dtype=jnp.float64), RATES)
    params, xs, carry = drawn(cell, key)
    key = key if noise else None
    kept = noise_of(cell, params, xs, key) if noise else [[rate] * T for rate in RATES]
    hs, cs = zip(*by_the_equations(params, xs, carry, *kept), strict=True)
    final, ys = unroll(cell, params, xs, carry, key=key)
    np.testing.assert_allclose(ys, np.stack(hs), rtol=0, atol=1e-13)
    assert_trees_close(final, jaxrnn.LSTMCarry(hs[-1], cs[-1]), tolerance=1e-13)


def test_a_unit_that_is_kept_is_kept_to_the_last_bit(key):
    cell = jaxrnn.zoneout(jaxrnn.lstm(D, H, dtype=jnp.float64), 0.5)
    params, xs, start = drawn(cell, key)
    kept = noise_of(cell, params, xs, key)
    ys = np.asarray(unroll(cell, params, xs, start, key=key)[1])
    before = np.concatenate([np.asarray(start.h)[None], ys[:-1]])
    np.testing.assert_array_equal(ys == before, kept.h == 1)


def test_the_mean_over_keys_is_what_happens_without_one(key):
    """Of one step, whose carry is linear in the noise."""
    cell = jaxrnn.zoneout(jaxrnn.lstm(D, H, dtype=jnp.float64), RATES)
    params, xs, carry = drawn(cell, key)
    layer = jaxrnn.recurrent(cell)
    step = jax.vmap(lambda k: step_of(layer)(params, carry, xs[0], key=k)[0])
    both = jax.jit(lambda keys: (step(keys), step_of(layer)(params, carry, xs[0])[0]))
    samples, mean = jax.device_get(both(jax.random.split(key, 5_000)))
    assert_mean(samples.h, mean.h)
    assert_mean(samples.c, mean.c)
    assert (samples.c.std(axis=0) > 0).all()


@pytest.mark.parametrize("rate", [(0.3, 0.6), jaxrnn.LSTMCarry._make((0.3, 0.6))], ids=str)
def test_every_step_sequence_and_part_has_its_own_noise(rate, key):
    cell = jaxrnn.zoneout(jaxrnn.lstm(2, 64, dtype=jnp.float64), rate)
    params = normal_like(key, jax.eval_shape(cell.init, key))
    noise = noise_of(cell, params, np.ones((6, 5, 2)), key)
    assert len({tuple(row) for leaf in noise for row in leaf.reshape(30, 64).tolist()}) == 60
    for leaf, share in zip(noise, (0.3, 0.6), strict=True):
        assert set(leaf.ravel().tolist()) == {0.0, 1.0}
        assert abs(float(leaf.mean()) - share) < 5 * (share * (1 - share) / leaf.size) ** 0.5


def test_the_key_alone_decides(key):
    cell = jaxrnn.zoneout(jaxrnn.lstm(D, H, dtype=jnp.float64), 0.5)
    params, xs, _ = drawn(cell, key)
    first, second = jax.random.split(key)
    run = jax.jit(functools.partial(jaxrnn.unroll, cell))
    noisy = run(params, xs, key=first)
    assert_trees_close(run(params, xs, key=first), noisy, tolerance=0)
    assert np.any(np.asarray(run(params, xs, key=second)[1]) != np.asarray(noisy[1]))


def test_apply_and_step_agree_under_one_key(key):
    cell = jaxrnn.zoneout(jaxrnn.lstm(D, H, dtype=jnp.float64), RATES)
    params, xs, carry = drawn(cell, key)
    layer = jaxrnn.recurrent(cell)

    @jax.jit
    def both(params, xs, carry):
        after, ys = layer.apply(params, xs[:1], carry, key=key)
        return step_of(layer)(params, carry, xs[0], key=key), (after, ys[0])

    assert_trees_close(*both(params, xs, carry))


# Where the output comes from


@functools.partial(jax.jit, static_argnums=0)
def first_step(cell, params, carry, xs, key):
    return cell.step(params, carry, jax.tree.map(lambda leaf: leaf[0], cell.inputs(params, xs, key)))


def test_an_output_in_another_dtype_than_the_carry_is_the_carry_s(key):
    cell = jaxrnn.zoneout(jaxrnn.lstm(D, H, dtype=jnp.bfloat16, carry_dtype=jnp.float32), 0.5)
    params, xs = normal_like(key, jax.eval_shape(cell.init, key)), np.ones((T, B, D), jnp.bfloat16)
    (h, _), y = first_step(cell, params, cell.initial_carry(params, (B,)), xs, key)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y, np.asarray(h).astype(jnp.bfloat16))


def with_jvp(f):
    function = jax.custom_jvp(f)
    function.defjvp(functools.partial(jax.jvp, f))
    return function


def with_vjp(f):
    function = jax.custom_vjp(f)
    function.defvjp(functools.partial(jax.vjp, f), lambda transpose, cotangents: transpose(cotangents))
    return function


def mapped_by_hand(f):
    function = jax.custom_batching.custom_vmap(f)
    function.def_vmap(lambda size, mapped, *arguments: (jax.vmap(f)(*arguments), True))
    return function


CALLED = {
    "jit": jax.jit,
    "checkpoint": jax.checkpoint,
    "a jit in a checkpoint": lambda f: jax.checkpoint(jax.jit(f)),
    "custom_jvp": with_jvp,
    "custom_vjp": with_vjp,
    "custom_vmap": mapped_by_hand,
}


@pytest.mark.parametrize("way", CALLED)
def test_an_output_is_the_carry_s_however_the_step_is_called(way, key):
    """By JAX, which makes two variables of one array that is returned twice."""
    plain = jaxrnn.lstm(D, H, dtype=jnp.bfloat16, carry_dtype=jnp.float32)
    cell = plain._replace(step=CALLED[way](plain.step), adjoint=None, split=None)
    params, xs = noisy_params(plain, key), np.ones((T, B, D), jnp.bfloat16)
    carry = plain.initial_carry(params, (B,))
    results, expected = (first_step(jaxrnn.zoneout(c, 0.5), params, carry, xs, key) for c in (cell, plain))
    np.testing.assert_array_equal(results[1], np.asarray(results[0].h).astype(jnp.bfloat16))
    assert_trees_close(results, expected, tolerance=1e-6)


@pytest.mark.parametrize("way", ["jit", "checkpoint"])
def test_gradients_where_the_update_is_called(way, key):
    """The engine differentiates it, and what is left of the call are two variables too."""
    plain = BY_NAME["user-gru"].cell(jnp.float64)
    split = plain.split
    assert split is not None
    update = CALLED[way](split.update)
    called = jaxrnn.split_cell(plain.init, plain.initial_carry, split.recur, update, inputs=plain.inputs)
    cell = jaxrnn.zoneout(called, 0.5)
    params, xs, carry = drawn(cell, key)
    final, ys = unroll(cell, params, xs, carry, key=key)
    assert_trees_close(np.asarray(ys)[-1], final, tolerance=0)
    assert_gradients_by_autodiff(cell, key)


def bare(step, dtype):
    """A cell of two states without parameters."""
    zeros = lambda params, shape=(): dict.fromkeys("ab", jnp.zeros((*shape, D), dtype))
    return jaxrnn.Cell(lambda key: (), zeros, step)


def test_results_of_one_function_called_twice_are_two_arrays(key):
    tanh = jax.jit(lambda x: jnp.tanh(x))

    def step(params, carry, x):
        carry = {"a": tanh(carry["a"] + x), "b": tanh(carry["b"] - x)}
        return carry, carry["b"]

    cell = bare(step, float)
    final, y = first_step(jaxrnn.zoneout(cell, 0.5), (), cell.initial_carry((), (B,)), XS, key)
    assert_trees_close(y, final["b"], tolerance=0)


def test_an_output_is_the_carry_s_where_both_are_a_cast(key):
    def step(params, carry, x):
        a = jnp.tanh(carry["a"].astype(x.dtype) + x).astype(jnp.float32)
        return {"a": a, "b": carry["b"]}, a

    cell = bare(step, np.float32)
    final, y = first_step(jaxrnn.zoneout(cell, 0.5), (), cell.initial_carry((), (B,)), XS, key)
    assert_trees_close(y, final["a"], tolerance=0)


def test_an_output_that_is_no_part_of_the_carry_is_the_cell_s_own(key):
    plain = BY_NAME["user-lstm"].cell(jnp.float64)
    params, xs, carry = drawn(plain, key)
    with jax.disable_jit():  # as two programs, they may be rounded differently
        (noisy,) = jax.tree.leaves(first_step(jaxrnn.zoneout(plain, 0.5), params, carry, xs, key)[1])
        _, expected = first_step(plain, params, carry, xs, None)
    assert_trees_close(noisy, expected, tolerance=0)


def test_all_carries_are_those_after_the_noise(key):
    cell = jaxrnn.lstm(D, H, dtype=jnp.float64)
    params, xs, carry = drawn(cell, key)
    outside = unroll(jaxrnn.all_carries(jaxrnn.zoneout(cell, RATES)), params, xs, carry, key=key)
    inside = unroll(jaxrnn.zoneout(jaxrnn.all_carries(cell), RATES), params, xs, carry, key=key)
    assert_trees_close(inside, outside)
    assert_trees_close(at(outside[1], -1), (outside[0].h, outside[0]), tolerance=0)


# Gradients


def test_gradients_with_noise(key):
    """By autodiff, by the engine, by hand and by differences."""
    cell = keyed(jaxrnn.zoneout(jaxrnn.lstm(D, H), RATES), key)
    options = {"lengths": [3, 2], "mask": np.array([[True, True], [True, False], [True, True]]), "resets": RESETS}
    xs = normal(key, (T, B, D))
    check = jaxrnn.check_gradients(cell, xs, **options, reverse=True, key=key, verbose=False)
    assert all(row.by_hand is not None for row in check.rows)


WRAPPED = {
    "one part of the carry": lambda: jaxrnn.zoneout(jaxrnn.lstm(D, H, dtype=jnp.float64), (0.0, 0.5)),
    "variational around": lambda: jaxrnn.variational_dropout(
        jaxrnn.zoneout(jaxrnn.lstm(D, H, dtype=jnp.float64), 0.5), 0.3, input_rate=0.3
    ),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_gradients_of_what_is_wrapped(name, key):
    assert_gradients_by_autodiff(WRAPPED[name](), key)


@pytest.mark.parametrize("entry", [entry for entry in BY_NAME.values() if entry.cell().adjoint], ids=str)
def test_gradients_around_every_cell(entry, key):
    """Some have an adjoint whose forward step takes prepared weights, which their own step does not."""
    assert_gradients_by_autodiff(jaxrnn.zoneout(entry.cell(jnp.float64), 0.4), key, entry.features)


def test_a_cell_without_an_adjoint_has_its_step(key):
    cell = jaxrnn.zoneout(BY_NAME["user-step"].cell(jnp.float64), 0.5)
    assert cell.adjoint is None
    params, xs, carry = drawn(cell, key)
    final, ys = unroll(cell, params, xs, carry, key=key)
    assert_trees_close(np.asarray(ys)[-1], final, tolerance=0)


def test_rate_zero_is_the_cell(key):
    plain = jaxrnn.lstm(D, H, dtype=jnp.float64)
    params, xs, carry = drawn(plain, key)
    noisy = unroll(jaxrnn.zoneout(plain, 0.0), params, xs, carry, key=key)
    assert_trees_close(noisy, unroll(plain, params, xs, carry), tolerance=0)
