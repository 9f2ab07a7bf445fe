"""Saliency against linear models, completeness, and a plain sum over the path."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.analysis import input_gradients, integrated_gradients

T, B, D, H = 5, 2, 3, 4


@pytest.fixture
def score(key, float64):
    """One number for each sequence: a unit of the last state of a GRU with large weights."""
    cell = jaxrnn.gru(D, H, dtype=jnp.float64)
    params = jax.tree.map(lambda leaf: 2 * leaf, cell.init(key))
    return lambda xs: jaxrnn.unroll(cell, params, xs)[0][..., 0]


def test_a_linear_score_is_its_own_attribution(key, float64):
    kernel, xs = jax.random.normal(key, (T, 1, D)), jax.random.normal(jax.random.key(1), (T, B, D))
    score = lambda xs: (kernel * xs).sum(axis=(0, 2))
    np.testing.assert_allclose(input_gradients(score, xs), np.broadcast_to(kernel, xs.shape), rtol=1e-12)
    found = integrated_gradients(score, xs, jnp.ones(D), points=1)
    np.testing.assert_allclose(found.attributions, kernel * (xs - 1), rtol=1e-12)
    np.testing.assert_allclose(found.gaps, 0, atol=1e-12)


def test_integrated_gradients_are_complete_and_equal_a_fine_sum(score, key, float64):
    xs = 2 * jax.random.normal(key, (T, B, D))
    baseline = jax.random.normal(jax.random.key(2), (T, B, D))
    found = jax.jit(lambda xs: integrated_gradients(score, xs, baseline))(xs)
    np.testing.assert_allclose(found.attributions.sum(axis=(0, 2)), score(xs) - score(baseline), atol=1e-5)
    np.testing.assert_allclose(found.gaps, 0, atol=1e-5)
    middles = (jnp.arange(400.0) + 0.5) / 400
    gradients = jax.jit(jax.vmap(lambda a: input_gradients(score, baseline + a * (xs - baseline))))(middles)
    np.testing.assert_allclose(found.attributions, (xs - baseline) * gradients.mean(axis=0), atol=1e-4)


def test_gaps_say_when_points_are_too_few(score, key, float64):
    xs = 2 * jax.random.normal(key, (T, B, D))
    few, many = (jax.jit(lambda xs, n=n: integrated_gradients(score, xs, points=n).gaps)(xs) for n in (1, 16))
    assert float(jnp.abs(few).max()) > 1e3 * float(jnp.abs(many).max())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((None, jnp.ones((T, D))), TypeError, "score: expected"),
        ((jnp.sum, jnp.ones((T, D), int)), TypeError, "xs: expected a floating array, got int"),
        ((jnp.sum, jnp.ones((T, D)), jnp.zeros(T)), ValueError, r"baseline: expected .* \(5, 3\), got \(5,\)"),
        ((jnp.sum, jnp.ones((T, D)), jnp.zeros((1, T, D))), ValueError, r"baseline: expected .* got \(1, 5, 3\)"),
    ],
)
def test_what_is_wrong_is_named(arguments, error, message):
    with pytest.raises(error, match=message):
        integrated_gradients(*arguments)
    with pytest.raises(ValueError, match="points: expected at least 1, got 0"):
        integrated_gradients(jnp.sum, jnp.ones((T, D)), points=0)
