"""Variational dropout: one mask a sequence on the product alone, Keras's numbers, its mean, and gradients."""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from tests.cells.keyed import assert_mean, keyed
from tests.layers.stepping import step_of
from tests.registry import D, H, assert_trees_close, normal, normal_like

T, B = 3, 2
RESETS = np.array([[False, True], [True, False], [False, True]])
PADDED = {"lengths": [3, 2], "mask": np.array([[True, True], [True, False], [True, True]]), "resets": RESETS}


def dropped(factory=jaxrnn.gru, dtype=jnp.float64):
    return jaxrnn.variational_dropout(factory(D, H, dtype=dtype), 0.5, input_rate=0.5)


def drawn(cell, key):
    """Return parameters, a sequence and a carry to start from."""
    keys = jax.random.split(key, 3)
    params = normal_like(keys[0], jax.eval_shape(cell.init, key))
    xs = normal_like(keys[1], jax.ShapeDtypeStruct((T, B, D), jax.tree.leaves(params)[0].dtype))
    return params, xs, normal_like(keys[2], jax.eval_shape(lambda: cell.initial_carry(params, (B,))))


def transparent(features=D, *, rate=0.5, input_rate=0.5):
    """A cell whose zs are its xs and whose output is what the product sees of its carry."""
    cell = jaxrnn.split_cell(
        init=lambda key: (),
        initial_carry=lambda params, batch_shape=(): jnp.ones((*batch_shape, features)),
        recur=lambda params, carry: carry,
        update=lambda carry, z, a: (carry, a),
    )
    return jaxrnn.variational_dropout(cell, rate, input_rate=input_rate)


def keras_gru(monkeypatch):
    """Return a GRU cell of Keras with dropout."""
    monkeypatch.setitem(os.environ, "KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras")
    cell = keras.layers.GRUCell(H, dropout=0.5, recurrent_dropout=0.5, implementation=1)
    cell.build((B, D))
    return cell


def test_values_are_those_of_keras(key, monkeypatch):
    """With the same weights, and with our masks in place of its own, the same one for each of its gates."""
    cell = dropped(dtype=jnp.float32)
    params, xs, h = drawn(cell, key)

    @jax.jit
    def run(params, xs, h):
        _, ys = jaxrnn.unroll(cell, params, xs, h, key=key)
        return ys, transparent().inputs((), jnp.ones((T, B, D)), key).z[0], cell.inputs(params, xs, key).noise[0]

    ys, input_mask, carry_mask = run(params, xs, h)

    def in_their_order(array):
        r, u, n = np.split(np.asarray(array), 3, axis=-1)
        return np.concatenate([u, r, n], axis=-1)

    recurrent_bias = np.concatenate([np.zeros(2 * H), np.asarray(params.candidate_bias)])
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        theirs = keras_gru(monkeypatch)
        biases = np.stack([in_their_order(params.bias), recurrent_bias])
        theirs.set_weights([in_their_order(params.input), in_their_order(params.recurrent), biases])
        theirs._dropout_mask, theirs._recurrent_dropout_mask = [input_mask] * 3, [carry_mask] * 3
        for x, y in zip(np.asarray(xs), np.asarray(ys), strict=True):
            h, _ = theirs.call(x, [h], training=True)
            np.testing.assert_allclose(y, h, atol=1e-6)


def test_one_mask_a_sequence_at_all_steps(key):
    cell = transparent(64, rate=0.25, input_rate=0.75)
    zs, masks = jax.device_get(jax.jit(cell.inputs)((), np.ones((T, 20, 64), np.float32), key))
    for noise, kept in ((zs, 0.25), (masks, 0.75)):
        assert (noise == noise[:1]).all()
        assert len({tuple(row) for row in noise[0].tolist()}) == 20
        np.testing.assert_allclose(np.unique(noise), [0, 1 / kept], rtol=1e-6)
        assert abs(float((noise[0] > 0).mean()) - kept) < 5 * (kept * (1 - kept) / noise[0].size) ** 0.5
    assert ((zs[0] > 0) != (masks[0] > 0)).any()


def test_the_mean_over_keys_of_what_the_product_sees(key):
    cell = transparent(rate=0.6, input_rate=0.2)
    carry, xs = jnp.array([[1.0, -2.0]]), jnp.array([[[0.5, 3.0]]])

    def one(k):
        z = jax.tree.map(lambda leaf: leaf[0], cell.inputs((), xs, k))
        return z.z, cell.step((), carry, z)[1]

    features, seen = jax.jit(jax.vmap(one))(jax.random.split(key, 5_000))
    assert_mean(features, xs[0])
    assert_mean(seen, carry)


def test_a_part_of_the_carry_that_the_product_does_not_see_has_no_mask(key):
    cell = dropped(factory=jaxrnn.lstm, dtype=jnp.float32)
    noise = jax.eval_shape(lambda: cell.inputs(cell.init(key), jnp.ones((T, B, D)), key)).noise
    assert noise.h.shape == (T, B, H)
    assert noise.c is None


def test_without_a_key_it_is_the_cell(key, float64):
    """And with one, the key alone decides."""
    plain = jaxrnn.gru(D, H, dtype=jnp.float64)
    params, xs, h = drawn(plain, key)
    run = jax.jit(functools.partial(jaxrnn.unroll, dropped()))
    without = jax.jit(functools.partial(jaxrnn.unroll, plain))
    assert_trees_close(run(params, xs, h), without(params, xs, h), tolerance=1e-15)
    noisy = run(params, xs, h, key=key)
    assert_trees_close(run(params, xs, h, key=key), noisy, tolerance=0)
    assert np.any(np.asarray(run(params, xs, h, key=jax.random.fold_in(key, 1))[1]) != np.asarray(noisy[1]))


def test_apply_and_step_agree_under_one_key(key, float64):
    cell = jaxrnn.variational_dropout(jaxrnn.learned_carry(jaxrnn.lstm(D, H, dtype=jnp.float64)), 0.5, input_rate=0.5)
    layer = jaxrnn.recurrent(cell)
    params = normal_like(key, jax.eval_shape(cell.init, key))
    xs = normal(key, (T, B, D))
    carry = layer.initial_carry(params, (B,))
    final, ys = jax.jit(layer.apply)(params, xs, carry, key=key)
    step = jax.jit(step_of(layer))
    for x, expected in zip(np.asarray(xs), np.asarray(ys), strict=True):
        carry, y = step(params, carry, x, key=key)
        assert_trees_close(y, expected)
    assert_trees_close(carry, final)


def test_gradients_with_noise(key):
    """By autodiff, by the engine and by differences."""
    xs, cell = normal(key, (T, B, D), np.float32), keyed(dropped(dtype=jnp.float32), key)
    check = jaxrnn.check_gradients(cell, xs, **PADDED, key=key, verbose=False)
    assert all(row.adjoint is not None for row in check.rows)


def test_dtypes_are_kept(key):
    cell = jaxrnn.variational_dropout(
        jaxrnn.gru(D, H, dtype=jnp.bfloat16, carry_dtype=jnp.float32), 0.5, input_rate=0.5
    )
    xs = jnp.ones((T, B, D), jnp.bfloat16)
    h, ys = jax.eval_shape(lambda k: jaxrnn.unroll(cell, cell.init(k), xs, key=k), key)
    assert (h.dtype, ys.dtype) == (jnp.float32, jnp.bfloat16)
