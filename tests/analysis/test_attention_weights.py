"""Attention of the Transformer against a plain reading of its equations."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.analysis import attention_weights
from tests.registry import normal_like

pytestmark = pytest.mark.usefixtures("float64")
D, N, T = 6, 3, 5


def normalized(params: Any, x: np.ndarray) -> np.ndarray:
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5) * params.scale + params.bias


def weights_and_outputs(params: Any, x: np.ndarray, visible: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return w ``[L, N, T, T]`` and y ``[T, D]`` of one sequence, without positions."""
    found = []
    params = jax.tree.map(np.asarray, params)
    for block in params.blocks:
        z = normalized(block.attention_norm, x) @ block.attention.kernel + block.attention.bias
        heads = []
        for head in range(N):
            q, k, v = (z[:, part * D + head * D // N :][:, : D // N] for part in range(3))
            e = np.where(visible, np.exp(q @ k.T / np.sqrt(D // N)), 0)
            w = e / e.sum(axis=1, keepdims=True)
            heads.append((w, w @ v))
        found.append([w for w, _ in heads])
        x = x + np.concatenate([c for _, c in heads], axis=1) @ block.output.kernel + block.output.bias
        up = np.maximum(0, normalized(block.feedforward_norm, x) @ block.up.kernel + block.up.bias)
        x = x + up @ block.down.kernel + block.down.bias
    return np.array(found), normalized(params.norm, x)


@pytest.mark.parametrize("context", [None, 2])
def test_weights_are_those_of_the_equations(context, key):
    layer = jaxrnn.transformer(D, N, 2, context=context, position=None, dropout=0.5, dtype=jnp.float64)
    params = normal_like(key, jax.eval_shape(layer.init, key))
    xs, lengths = jax.random.normal(key, (T, 2, D), jnp.float64), np.array([T, 3])
    looking = jax.jit(functools.partial(attention_weights, layer))
    weights = np.asarray(looking(params, xs, lengths=lengths))
    assert weights.shape == (2, N, T, 2, T)
    ys = jax.jit(layer.apply)(params, xs, lengths=lengths)[1]
    steps = np.arange(T)
    apart = steps[:, None] - steps
    for row, length in enumerate(lengths):
        visible = (apart >= 0) & (apart < (context or T))
        w, y = weights_and_outputs(params, np.asarray(xs[:length, row]), visible[:length, :length])
        np.testing.assert_allclose(weights[:, :, :length, row, :length], w, atol=1e-12)
        np.testing.assert_allclose(ys[:length, row], y, atol=1e-12)
        assert not weights[:, :, length:, row].any()
        assert not weights[:, :, :, row, length:].any()


def test_positions_and_segments_count(key):
    layer = jaxrnn.transformer(4, 2, dtype=jnp.float64)
    params, resets = layer.init(key), jnp.array([False, False, True, False])
    xs = jnp.tile(jax.random.normal(key, (4,), jnp.float64), (4, 1))
    weights = jax.jit(functools.partial(attention_weights, layer))(params, xs, resets=resets)[0]
    np.testing.assert_allclose(weights[:, 2:, 2:], weights[:, :2, :2], atol=1e-12)  # a segment of the same steps
    assert not weights[:, 2:, :2].any()
    assert abs(float(weights[0, 1, 0]) - 0.5) > 1e-3  # the same inputs, and yet not the same: rotary positions
    assert attention_weights(layer, params, xs[:0]).shape == (1, 2, 0, 0)


def test_bad_input_is_named(key):
    layer = jaxrnn.transformer(4, 2, dtype=jnp.float64)
    params, xs = layer.init(key), jnp.ones((3, 4))
    with pytest.raises(ValueError, match="layer: expected one of transformer, got dense"):
        attention_weights(jaxrnn.dense(4, 4), params, xs)
    nothing: Any = None
    with pytest.raises(TypeError, match="layer"):
        attention_weights(nothing, params, xs)
    with pytest.raises(TypeError, match="params: expected the TransformerParams"):
        attention_weights(layer, (), xs)
    with pytest.raises(ValueError, match="xs: expected 4 features"):
        attention_weights(layer, params, jnp.ones((3, 5)))
    with pytest.raises(ValueError, match="lengths"):
        attention_weights(layer, params, xs, lengths=jnp.array([3, 3]))
