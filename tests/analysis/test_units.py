"""Units that follow a feature, against NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn.analysis import unit_scores


def test_a_unit_is_found_on_one_half_and_scored_on_the_other(key):
    rng = np.random.default_rng(0)
    states, features = rng.normal(size=(301, 6)).astype(np.float32), rng.normal(size=(301, 3)).astype(np.float32)
    states[:, 4] -= features[:, 1]
    features[:, 2] = 7
    found = jax.device_get(jax.jit(functools.partial(unit_scores, controls=99))(states, features, key))
    first, second = (
        np.corrcoef(states[half].T, features[half, :2].T)[6:, :6] for half in (slice(150), slice(150, 300))
    )
    units = np.abs(first).argmax(axis=1)
    assert found.units[:2].tolist() == units.tolist()
    assert found.units[1] == 4
    np.testing.assert_allclose(found.scores[:2], second[[0, 1], units], atol=1e-5)
    assert found.scores[2] == 0
    assert found.controls.shape == (99, 3)
    assert float(found.p_values[1]) == pytest.approx(0.01)
    assert float(found.p_values[0]) > 0.01
    assert float(found.p_values[2]) == 1
    share = (1 + np.sum(found.controls >= np.abs(found.scores)[None], axis=0)) / 100
    np.testing.assert_allclose(found.p_values, share, rtol=1e-6)


def test_slow_features_and_units_do_better_by_chance(key):
    """A test that took the steps for independent would set its 95 % at 2 / √200 = 0.14."""
    walk = np.cumsum(np.random.default_rng(1).normal(size=(400, 9)), axis=0).astype(np.float32)
    found = jax.jit(functools.partial(unit_scores, controls=50))(walk[:, :8], walk[:, 8:], key)
    assert np.quantile(found.controls, 0.95) > 0.28


@pytest.mark.parametrize(
    ("states", "features", "more", "error", "message"),
    [
        ((30, 2), (29, 2), {}, ValueError, "features: expected the 30 steps of states, got 29"),
        ((30,), (30, 2), {}, ValueError, r"states: expected \[steps, columns\] of 20 steps or more, got shape \(30,\)"),
        ((10, 2), (10, 2), {}, ValueError, "states: expected .*20 steps or more"),
        ((30, 2), (30, 2), {"controls": 0}, ValueError, "controls: expected at least 1, got 0"),
        ((30, 2), (30, 2), {"dtype": int}, TypeError, "features: expected a floating dtype"),
    ],
)
def test_what_is_wrong_is_named(key, states, features, more, error, message):
    features = jnp.ones(features, more.pop("dtype", jnp.float32))
    with pytest.raises(error, match=message):
        unit_scores(jnp.ones(states), features, key, **more)
