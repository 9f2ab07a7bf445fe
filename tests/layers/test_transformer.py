"""The Transformer: torch's, what each step sees, its carry, and its gradient by differences."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.test_util import check_grads

import jaxrnn
from jaxrnn.layers.positions import rotated, sinusoids
from tests.layers.stepping import step_of, stepwise
from tests.registry import assert_trees_close, normal_like

pytestmark = pytest.mark.usefixtures("float64")
T, B, D, N = 5, 2, 4, 2
RESETS = np.array([[False, True], [False, False], [True, False], [False, True], [False, False]])
MASK = np.array([[True, False], [True, True], [False, True], [True, True], [True, False]])


def transformer(num_layers: int = 2, **options: Any) -> jaxrnn.Layer:
    return jaxrnn.transformer(D, N, num_layers, dtype=jnp.float64, **{"feedforward": 3, **options})


def drawn(layer: jaxrnn.Layer, key: jax.Array, *shape: int) -> tuple[Any, jax.Array]:
    """Return parameters of which none is alike, and inputs."""
    params_key, xs_key = jax.random.split(key)
    return normal_like(params_key, jax.eval_shape(layer.init, key)), normal_like(xs_key, np.zeros((*shape, D)))


def to_torch(params: Any) -> torch.nn.TransformerEncoder:
    """Return torch's encoder with the same weights."""
    layer = torch.nn.TransformerEncoderLayer(D, N, 3, 0.0, norm_first=True, dtype=torch.float64)
    encoder = torch.nn.TransformerEncoder(
        layer, len(params.blocks), torch.nn.LayerNorm(D, dtype=torch.float64), enable_nested_tensor=False
    )

    def fill(module, weight, bias):
        for target, value in ((module.weight, weight), (module.bias, bias)):
            target.data = torch.from_numpy(np.array(value).T)

    theirs: Any
    for theirs, ours in zip(encoder.layers, params.blocks, strict=True):
        theirs.self_attn.in_proj_weight.data = torch.from_numpy(np.array(ours.attention.kernel).T)
        theirs.self_attn.in_proj_bias.data = torch.from_numpy(np.array(ours.attention.bias))
        pairs = [(theirs.self_attn.out_proj, ours.output), (theirs.linear1, ours.up), (theirs.linear2, ours.down)]
        for module, ours_here in [*pairs, (theirs.norm1, ours.attention_norm), (theirs.norm2, ours.feedforward_norm)]:
            fill(module, *ours_here)
    fill(encoder.norm, *params.norm)
    return encoder


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "both sides"])
def test_it_is_the_transformer_of_torch(causal, key):
    layer = transformer(causal=causal, position=None)
    params, xs = drawn(layer, key, T, B)
    lengths = np.array([5, 3])
    ys = np.asarray(jax.jit(layer.apply)(params, xs, lengths=lengths)[1])
    padding = torch.from_numpy(np.arange(T) >= lengths[:, None])
    future = torch.ones(T, T, dtype=torch.bool).triu(1) if causal else None
    theirs = to_torch(params)(torch.from_numpy(np.array(xs)), future, padding, is_causal=causal)
    valid = ~padding.numpy().T
    np.testing.assert_allclose(ys[valid], theirs.detach().numpy()[valid], rtol=0, atol=1e-12)
    assert not ys[~valid].any()


def seen_by_each_step(layer: jaxrnn.Layer, key: jax.Array, time: int, **steps: Any) -> np.ndarray:
    """Return which ``ys[t]`` change with which ``xs[s]``: bool ``[t, s]``."""
    params, xs = drawn(layer, key, time)
    slopes = jax.jit(jax.jacrev(lambda xs: layer.apply(params, xs, **steps)[1]))(xs)
    return np.abs(np.asarray(slopes)).sum(axis=(1, 3)) > 0


T7 = np.arange(7)
VISIBLE = {
    "causal": ({}, {}, T7[:, None] >= T7),
    "causal window": ({"context": 3}, {}, (T7[:, None] >= T7) & (T7[:, None] - T7 < 3)),
    "both sides": ({"causal": False}, {}, np.ones((7, 7), bool)),
    "window on both sides": ({"causal": False, "context": 3}, {}, abs(T7[:, None] - T7) < 3),
    "segments": (
        {"causal": False},
        {"resets": T7 == 4},
        (T7[:, None] < 4) == (T7 < 4),
    ),
    "length": ({"causal": False}, {"lengths": 5}, (T7[:, None] < 5) & (T7 < 5)),
    # The window counts the steps that are valid: 0, 1, 4, 5, 6.
    "mask in a window": (
        {"context": 2},
        {"mask": ~np.isin(T7, (2, 3)), "resets": T7 == 2},
        np.isin(T7[:, None] * 7 + T7, [0, 7, 8, 29, 32, 39, 40, 47, 48]),
    ),
}


@pytest.mark.parametrize("case", VISIBLE)
def test_what_each_step_sees(case, key):
    options, steps, expected = VISIBLE[case]
    layer = transformer(1, **options)
    np.testing.assert_array_equal(seen_by_each_step(layer, key, 7, **steps), expected)


@pytest.mark.parametrize("position", ["rotary", "learned"])
def test_steps_that_do_not_count_might_as_well_not_be_there(position, key):
    """Positions included; and the carry that they leave serves `step`."""
    layer = transformer(position=position, context=4)
    params, drawn_xs = drawn(layer, key, T, B)
    xs = np.asarray(drawn_xs)
    carry, ys = jax.device_get(jax.jit(layer.apply)(params, xs, mask=MASK, resets=RESETS))
    for b in range(B):
        kept = np.flatnonzero(MASK[:, b])
        short_carry, short = stepwise(layer, params, xs[kept, b], layer.initial_carry(params), RESETS[kept, b])
        assert_trees_close(ys[kept, b], short)
        assert_trees_close(jax.tree.map(lambda leaf, b=b: leaf[b], carry), short_carry)


def test_positions_tell_the_order(key):
    """Without them, what a step sees is a set."""
    for position in ("rotary", "learned", "sinusoidal", None):
        layer = transformer(1, position=position, context=T)
        params, drawn_xs = drawn(layer, key, T)
        both_orders = np.asarray(drawn_xs)[np.array([[0, 2], [1, 0], [2, 1], [3, 3], [4, 4]])]
        last, other = np.asarray(jax.jit(layer.apply)(params, both_orders)[1])[-1]
        assert (np.abs(last - other).max() > 1e-6) == (position is not None), position


def test_rotation_is_about_differences(key):
    q, k = np.asarray(normal_like(key, np.zeros((2, 1, 6))))
    product_at = jax.jit(lambda p: rotated(q, p) @ rotated(k, p + 3).T)
    products = [product_at(np.array(p)) for p in (0, 5, 100)]
    for product in products[1:]:
        np.testing.assert_allclose(product, products[0], atol=1e-12)
    assert abs((np.asarray(products[0]) - q @ k.T)[0, 0]) > 1e-3
    p, i = 7, np.arange(3)
    expected = np.concatenate([np.sin(p / 10000 ** (2 * i / 6)), np.cos(p / 10000 ** (2 * i / 6))])
    np.testing.assert_allclose(jax.jit(lambda p: sinusoids(p, 6, jnp.float64))(np.array(p)), expected, atol=1e-15)


def test_gradient_by_differences(key):
    layer = transformer(1, context=2, position="learned")
    params, xs = drawn(layer, key, 3, B)
    carry, _ = jax.jit(layer.apply)(params, np.asarray(xs)[::-1])

    def run(params, xs, keys, values):
        after, ys = layer.apply(params, xs, carry._replace(keys=keys, values=values), mask=MASK[:3], resets=RESETS[:3])
        return after.keys, after.values, ys

    check_grads(jax.jit(run), (params, xs, carry.keys, carry.values), order=1, modes=["rev"], atol=1e-6, rtol=1e-6)


def test_a_sequence_of_length_zero_is_not_nan(key):
    layer = transformer(1, causal=False)
    params, xs = drawn(layer, key, T, B)

    def loss(params, xs):
        return (layer.apply(params, xs, lengths=np.array([3, 0]))[1] ** 2).sum()

    padded = np.where(np.arange(B)[:, None] == 1, np.nan, xs)
    gradients = jax.device_get(jax.jit(jax.grad(loss, (0, 1)))(params, padded))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    assert not gradients[1][:, 1].any()


def test_dropout_is_drawn_from_the_key_alone(key):
    layer = transformer(1, dropout=0.5, context=T)
    params, drawn_xs = drawn(layer, key, T, B)
    apply, xs = jax.jit(layer.apply), np.asarray(drawn_xs)
    assert_trees_close(apply(params, xs), jax.jit(transformer(1, context=T).apply)(params, xs), 0.0)
    first, again, other = (apply(params, xs, key=k)[1] for k in (key, key, jax.random.fold_in(key, 1)))
    assert_trees_close(first, again, 0.0)
    assert np.abs(np.asarray(first) - np.asarray(other)).max() > 1e-3
    carry = layer.initial_carry(params, (B,))
    assert_trees_close(jax.jit(step_of(layer))(params, carry, xs[0], key=key), apply_one(layer, params, xs, key))


def apply_one(layer: jaxrnn.Layer, params: Any, xs: np.ndarray, key: jax.Array) -> tuple[Any, np.ndarray]:
    carry, ys = jax.jit(layer.apply)(params, xs[:1], key=key)
    return carry, np.asarray(ys)[0]


def test_where_there_is_no_step():
    assert transformer().step is None
    assert transformer(context=3, causal=False).step is None
    assert transformer(context=3).step is not None


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("position", ["rotary", "learned", "sinusoidal"])
def test_dtypes_are_kept(dtype, position):
    layer = jaxrnn.transformer(D, N, context=3, position=position, dtype=dtype)
    run = functools.partial(layer.apply, resets=RESETS, mask=MASK)
    params = jax.eval_shape(layer.init, jax.random.key(0))
    carry, ys = jax.eval_shape(run, params, jax.ShapeDtypeStruct((T, B, D), dtype))
    assert {leaf.dtype for leaf in jax.tree.leaves((params, carry.keys, carry.values, ys))} == {jnp.dtype(dtype)}
    assert carry.count.dtype == jnp.int32
