"""Layer normalisation: what it is for, and its backward against autodiff."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn.cells.normalization import gain_and_bias, layer_norm_backward, layer_norm_forward
from jaxrnn.cells.products import bias_gradient, diagonal_gradient


def test_rows_have_mean_0_and_variance_1(rng, float64):
    x = rng.standard_normal((3, 2, 7)) * 5 + 3
    y, s = layer_norm_forward(jnp.array(x), 0.0)
    np.testing.assert_allclose(np.mean(y, axis=-1), 0, atol=1e-14)
    np.testing.assert_allclose(np.var(y, axis=-1), 1, rtol=1e-13)
    np.testing.assert_allclose(s[..., 0], 1 / np.std(x, axis=-1), rtol=1e-13)


def test_blocks_are_normalised_each_on_its_own(rng, float64):
    x = rng.standard_normal((3, 2, 12))
    y, s = layer_norm_forward(jnp.array(x), 1e-5, blocks=3)
    parts = [layer_norm_forward(jnp.array(part), 1e-5) for part in np.split(x, 3, axis=-1)]
    np.testing.assert_allclose(y, np.concatenate([part.y for part in parts], axis=-1), rtol=1e-14)
    np.testing.assert_allclose(s, np.concatenate([part.s for part in parts], axis=-1), rtol=1e-14)


@pytest.mark.parametrize(
    ("scale", "epsilon", "blocks"), [(1.0, 1e-8, 1), (1e-3, 1e-5, 1), (0.0, 1e-5, 1), (1.0, 1e-5, 2)]
)
def test_backward_is_that_of_autodiff(scale, epsilon, blocks, rng, float64):
    """Also where ε decides, and where all entries are alike."""

    @jax.jit
    def both(x, dy):
        normalized, transpose = jax.vjp(lambda x: layer_norm_forward(x, epsilon, blocks), x)
        (by_autodiff,) = transpose(normalized._replace(y=dy, s=jnp.zeros_like(normalized.s)))
        return layer_norm_backward(normalized, dy), by_autodiff

    actual, expected = both(scale * rng.standard_normal((4, 6)), rng.standard_normal((4, 6)))
    np.testing.assert_allclose(actual, expected, rtol=1e-11, atol=1e-11)


def test_low_precision_is_rounded_once(rng):
    x = jnp.array(rng.standard_normal((4, 64)) + 8, jnp.bfloat16)
    normalized = layer_norm_forward(x, 1e-5)
    assert {leaf.dtype for leaf in normalized} == {jnp.dtype(jnp.bfloat16)}
    exact = layer_norm_forward(x.astype(jnp.float32), 1e-5)
    np.testing.assert_array_equal(normalized.y, exact.y.astype(jnp.bfloat16))
    dx = layer_norm_backward(normalized, x)
    assert dx.dtype == jnp.bfloat16


def test_gain_and_bias_and_their_gradients(rng, float64):

    @jax.jit
    def both(y, gain, bias, dy):
        value, transpose = jax.vjp(gain_and_bias, y, gain, bias)
        return value, transpose(dy)[1:], (diagonal_gradient(y, dy), bias_gradient(dy))

    y, gain, bias, dy = (rng.standard_normal(shape) for shape in ((3, 2, 5), 5, 5, (3, 2, 5)))
    value, (dgain, dbias), by_hand = both(y, gain, bias, dy)
    np.testing.assert_allclose(value, gain * y + bias, rtol=1e-14)
    np.testing.assert_allclose(by_hand[0], dgain, rtol=1e-12)
    np.testing.assert_allclose(by_hand[1], dbias, rtol=1e-12)
