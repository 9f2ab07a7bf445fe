"""Principal components against the singular value decomposition of NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn.analysis import principal_components


def test_they_are_the_singular_vectors_of_the_centred_states(key, float64):
    states = np.asarray(jax.random.normal(key, (7, 6, 4))) * np.array([1.0, 3.0, 0.3, 2.0]) + 5
    found = jax.device_get(jax.jit(principal_components, static_argnums=1)(states, 3))
    flat = np.asarray(states).reshape(-1, 4)
    _, singular, rows = np.linalg.svd(flat - flat.mean(axis=0), full_matrices=False)
    rows *= np.sign(rows[np.arange(4), np.abs(rows).argmax(axis=1)])[:, None]
    np.testing.assert_allclose(found.directions, rows[:3], atol=1e-8)
    np.testing.assert_allclose(found.shares, (singular**2 / (singular**2).sum())[:3], rtol=1e-8)
    np.testing.assert_allclose(found.coordinates.reshape(-1, 3), (flat - flat.mean(axis=0)) @ rows[:3].T, atol=1e-8)
    np.testing.assert_allclose(found.coordinates, (states - found.mean[None, None]) @ found.directions.T, atol=1e-8)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((jnp.ones((3, 2), int),), TypeError, "states: expected a floating array"),
        ((jnp.ones(3),), ValueError, r"states: expected \[..., features\], got shape \(3,\)"),
        ((jnp.ones((3, 2)), 0), ValueError, "count: expected at least 1, got 0"),
        ((jnp.ones((3, 2)), 3), ValueError, "count: expected at most the 2 features of states, got 3"),
    ],
)
def test_what_is_wrong_is_named(arguments, error, message):
    with pytest.raises(error, match=message):
        principal_components(*arguments)


def test_states_that_never_move_have_no_variance():
    found = jax.jit(principal_components, static_argnums=1)(np.ones((5, 3), np.float32), 2)
    assert np.isfinite(found.coordinates).all()
    assert (np.asarray(found.shares) == 0).all()
