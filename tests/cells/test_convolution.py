"""The convolutional cells: their convolution by its definition, their dense cells as a special case, their start."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.cells.convolution import convolutions
from tests.registry import D, H, assert_trees_close


def by_definition(x, kernel, out_channels, padding, strides, dilation, groups):
    """Return Σ_j Σ_c x[s p + d j - ℓ, c] W[j, c, o] position by position; the columns by gate, group and channel."""
    *spatial, channels = x.shape
    windows = [d * (k - 1) + 1 for k, d in zip(kernel.shape, dilation, strict=False)]
    if padding == "valid":
        positions = [(n - window) // s + 1 for n, window, s in zip(spatial, windows, strides, strict=True)]
        before = [0] * len(spatial)
    else:
        positions = [(n + s - 1) // s for n, s in zip(spatial, strides, strict=True)]
        needed = [(p - 1) * s + w - n for p, s, w, n in zip(positions, strides, windows, spatial, strict=True)]
        before = [max(zeros, 0) // 2 for zeros in needed]
    y = np.zeros((*positions, kernel.shape[-1]))
    for p, j in itertools.product(np.ndindex(*positions), np.ndindex(*kernel.shape[: len(spatial)])):
        at = tuple(np.multiply(strides, p) + np.multiply(dilation, j) - before)
        if all(0 <= a < n for a, n in zip(at, spatial, strict=True)):
            for o in range(kernel.shape[-1]):
                group = o % out_channels // (out_channels // groups)
                of_group = slice(group * channels // groups, (group + 1) * channels // groups)
                y[(*p, o)] += x[at][of_group] @ kernel[(*j, slice(None), o)]
    return y


GEOMETRIES = {  # input shape, hidden channels, kernel size, padding, strides, dilation, groups
    "1d": ((4, 2), 3, 3, "same", 1, 1, 1),
    "1d even": ((3, 1), 2, 2, "same", 1, 1, 1),
    "1d strides": ((4, 2), 2, 3, "same", 2, 1, 1),
    "2d valid": ((5, 4, 2), 2, (2, 3), "valid", (2, 1), (2, 1), 1),
    "2d groups": ((3, 2, 4), 6, 2, "same", 1, (1, 2), 2),
    "3d strides and groups": ((3, 2, 4, 2), 2, (2, 1, 2), "same", (1, 1, 3), (2, 1, 1), 2),
}


@pytest.mark.parametrize("name", GEOMETRIES)
def test_convolution_is_its_definition(name, rng, float64):
    input_shape, hidden, kernel_size, padding, strides, dilation, groups = GEOMETRIES[name]
    both = convolutions("cell", 3, input_shape, hidden, kernel_size, padding, strides, dilation, groups, None)
    assert both.recurrent.spatial == both.recurrent.out_spatial
    for convolve in (both.input, both.recurrent):
        image = (*convolve.spatial, convolve.channels)
        xs, kernel = rng.standard_normal((2, *image)), rng.standard_normal(convolve.kernel_shape(3))
        expected = [by_definition(x, kernel, hidden, *convolve[4:]) for x in xs]
        # One example without a leading axis, too.
        together, alone = jax.jit(lambda xs, kernel, of=convolve: (of(xs, kernel), of(xs[0], kernel)))(xs, kernel)
        np.testing.assert_allclose(together, expected, rtol=0, atol=1e-13)
        np.testing.assert_allclose(alone, expected[0], rtol=0, atol=1e-13)


def run(cell, params, xs):
    return jax.jit(functools.partial(jaxrnn.unroll, cell))(params, xs)


DENSE = {
    "vanilla": (jaxrnn.conv_vanilla, jaxrnn.vanilla, {"activation": "sigmoid"}),
    "lstm": (jaxrnn.conv_lstm, jaxrnn.lstm, {}),
    "gru-after": (jaxrnn.conv_gru, jaxrnn.gru, {}),
    "gru-before": (jaxrnn.conv_gru, jaxrnn.gru, {"reset_after": False}),
}


@pytest.mark.parametrize("name", DENSE)
def test_a_kernel_of_one_is_the_dense_cell_at_every_position(name, rng, float64):
    """Positions are to it as sequences of a batch are; at one position, it is the dense cell."""
    conv, dense, options = DENSE[name]
    cell, twin = conv((2, D), H, 1, dtype=jnp.float64, **options), dense(D, H, dtype=jnp.float64, **options)
    types = jax.eval_shape(twin.init, jax.random.key(0))
    matrices, xs = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape), types), rng.standard_normal((2, 3, 2, D))
    shapes = jax.eval_shape(cell.init, jax.random.key(0))
    kernels = type(shapes)(*jax.tree.map(lambda leaf, like: leaf.reshape(like.shape), tuple(matrices), tuple(shapes)))
    assert_trees_close(run(cell, kernels, xs), run(twin, matrices, xs), tolerance=1e-14)


def test_a_pair_brings_its_own_derivative(key):
    """The hand-derived backward multiplies by the φ' given, right or not."""

    def cotangent(slope):
        cell = jaxrnn.conv_vanilla((3, D), H, 2, activation=(jnp.sin, slope))
        params = cell.init(key)
        h, adjoint = cell.initial_carry(params), cell.adjoint
        assert adjoint is not None
        *_, saved = adjoint.forward(params, h, cell.inputs(params, jnp.ones((3, D))))
        return adjoint.backward(params, saved, jnp.ones_like(h), h)[0]

    assert_trees_close(cotangent(lambda a: 2 * jnp.cos(a)), 2 * cotangent(jnp.cos), tolerance=1e-6)


@pytest.mark.parametrize(
    ("options", "positions"),
    [
        ({}, (5, 4)),
        ({"strides": (2, 3)}, (3, 2)),
        ({"padding": "valid"}, (3, 2)),
        ({"padding": "valid", "kernel_size": (5, 4)}, (1, 1)),
        ({"padding": "valid", "strides": 2, "kernel_size": (2, 3)}, (2, 1)),
        ({"padding": "valid", "dilation": (2, 1), "recurrent_kernel_size": 7}, (1, 2)),
    ],
    ids=str,
)
def test_positions_are_what_padding_and_strides_leave(options, positions, key):
    cell = jaxrnn.conv_lstm((5, 4, D), H, **{"kernel_size": 3, **options})
    xs = jax.ShapeDtypeStruct((6, 2, 5, 4, D), jnp.float32)
    (h, c), ys = jax.eval_shape(lambda xs: jaxrnn.unroll(cell, cell.init(key), xs), xs)
    assert h.shape == c.shape == (2, *positions, H)
    assert ys.shape == (6, 2, *positions, H)


def test_cells_of_images_one_after_the_other(key):
    """What one puts out another takes, and a mask reaches both."""
    model = jaxrnn.serial(
        jaxrnn.recurrent(jaxrnn.conv_gru((4, 5, D), H, 3, strides=2)),
        jaxrnn.recurrent(jaxrnn.conv_lstm((2, 3, H), 4, 3)),
    )
    xs, mask = jax.ShapeDtypeStruct((6, 2, 4, 5, D), jnp.float32), np.ones((6, 2), bool)
    (first, second), ys = jax.eval_shape(lambda xs: model.apply(model.init(key), xs, mask=mask), xs)
    assert first.shape == (2, 2, 3, H)
    assert second.h.shape == (2, 2, 3, 4)
    assert ys.shape == (6, 2, 2, 3, 4)


COUNTS = {"vanilla": 1, "lstm": 4, "gru-after": 3, "gru-before": 3}


@pytest.mark.parametrize("name", DENSE)
def test_weights_are_drawn_gate_by_gate(name, key):
    """Recurrent kernels with orthonormal columns, input kernels scaled by all that a channel sums over."""
    conv, _, options = DENSE[name]
    params = conv((2, 64), 32, 3, recurrent_kernel_size=2, **options).init(key)
    count = COUNTS[name]
    assert params.input.shape == (3, 64, count * 32)
    assert params.recurrent.shape == (2, 32, count * 32)
    blocks = np.split(np.asarray(params.recurrent).reshape(64, -1), count, axis=1)
    for block in blocks:
        np.testing.assert_allclose(block.T @ block, np.eye(32), atol=1e-5)
    for block in np.split(np.asarray(params.input), count, axis=-1):
        assert 0.9 < block.std() * np.sqrt(3 * 64) < 1.1
    biases = np.split(np.asarray(params.bias), count)
    for gate, bias in enumerate(biases):
        np.testing.assert_array_equal(bias, 1.0 if (name, gate) == ("lstm", 1) else 0.0)
    assert (getattr(params, "candidate_bias", None) is not None) == (name == "gru-after")


@pytest.mark.parametrize("name", DENSE)
def test_a_carry_of_lower_precision_than_the_weights(name, key):
    conv, _, options = DENSE[name]
    cell = conv((3, D), H, 2, carry_dtype=jnp.bfloat16, **options)
    params, xs = jax.eval_shape(cell.init, key), jax.ShapeDtypeStruct((4, 2, 3, D), jnp.float32)

    def loss(params, xs):
        final, ys = jaxrnn.unroll(cell, params, xs)
        return ys.sum(), (final, ys)

    gradients, (final, ys) = jax.eval_shape(jax.grad(loss, has_aux=True), params, xs)
    assert {leaf.dtype for leaf in jax.tree.leaves(final)} == {jnp.dtype(jnp.bfloat16)}
    assert {leaf.dtype for leaf in jax.tree.leaves((gradients, ys))} == {jnp.dtype(jnp.float32)}
