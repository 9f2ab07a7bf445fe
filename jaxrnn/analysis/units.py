"""Units that follow a feature: found on one part of the steps, scored on another, beside a control.

The score of unit u for a feature y is the correlation over the steps,

    r(u, y) = Σ_t (u_t - ū)(y_t - ȳ) / √(Σ_t (u_t - ū)² Σ_t (y_t - ȳ)²)

The unit with the greatest |r| on the first half of the steps is scored on the second. Among many units some
follow anything by chance, and both units and features change slowly, so that many steps are few independent
ones. The control therefore repeats the whole search with the feature shifted round in time in both halves: as
smooth as before, but out of step with the states.

Source: Karpathy, Johnson and Fei-Fei, "Visualizing and Understanding Recurrent Networks" (2016), for the units;
Harris, "A Shift Test for Independence in Generic Time Series" (2020), for the control.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.types import Array


class UnitScores(NamedTuple):
    """For each of F features, the unit that follows it.

    units: the place of the unit, int32 ``[F]``.
    scores: its correlation with the feature on the second half, ``[F]``.
    controls: |correlation| that the same search finds for each shifted feature, ``[C, F]``.
    p_values: the share of searches, this one and the controls, that do at least as well as this one, ``[F]``.
    """

    units: Array
    scores: Array
    controls: Array
    p_values: Array


def unit_scores(states: Any, features: Any, key: Array, *, controls: int = 200) -> UnitScores:
    """Return, for each feature, the unit that follows it, how well, and how well one does by chance.

    Args:
        states: ``[T, H]``, of all units at every step.
        features: ``[T, F]``, floating; what is yes or no as 1 or 0. One that does not change has score 0.
        key: of the shifts, which are from a tenth of a half to nine.
        controls: C, how many.

    Raises:
        ValueError: states or features of another rank or number of steps, fewer than 20 steps or 1 control.
        TypeError: states or features that are not floating.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxrnn.analysis import unit_scores
        >>> states = jax.random.normal(jax.random.key(0), (400, 5))
        >>> found = unit_scores(states, -2 * states[:, 3:4] + 1, jax.random.key(1), controls=7)
        >>> found.units.tolist(), found.scores.round(3).tolist(), float(found.p_values[0])
        ([3], [-1.0], 0.125)
    """
    arrays = {"states": checks.array("states", states), "features": checks.array("features", features)}
    checks.floating(**{name: array.dtype for name, array in arrays.items()})
    checks.size("controls", controls)
    checks.key("key", key)
    for name, array in arrays.items():
        if array.ndim != 2 or len(array) < 20:
            raise ValueError(f"{name}: expected [steps, columns] of 20 steps or more, got shape {array.shape}")
    states, features = arrays.values()
    if len(states) != len(features):
        raise ValueError(f"features: expected the {len(states)} steps of states, got {len(features)}")
    half = len(states) // 2
    states, features = (_standardised(x[: 2 * half].reshape(2, half, -1)) for x in (states, features))

    def search(shift: Array) -> tuple[Array, Array]:
        found, scored = jnp.einsum("ptf,pth->pfh", jnp.roll(features, shift, axis=1), states, precision="highest")
        units = jnp.abs(found).argmax(axis=-1)
        return units, jnp.take_along_axis(scored, units[:, None], axis=-1)[:, 0]

    shifts = jax.random.randint(key, (controls,), half // 10, half - half // 10 + 1)
    units, scores = search(jnp.zeros((), shifts.dtype))
    others = jnp.abs(jax.lax.map(lambda shift: search(shift)[1], shifts))
    as_good = jnp.sum(others >= jnp.abs(scores)[None], axis=0)
    return UnitScores(units, scores, others, (1 + as_good).astype(scores.dtype) / (1 + controls))


def _standardised(x: Array) -> Array:
    """Return ``x [parts, steps, columns]`` with mean 0 and sum of squares 1 over the steps; 0 where it is constant."""
    centred = x - x.mean(axis=1, keepdims=True)
    norm = jnp.sqrt(jnp.sum(centred**2, axis=1, keepdims=True))
    return jnp.where(norm > 1e-6, centred / jnp.where(norm > 1e-6, norm, jnp.ones_like(norm)), jnp.zeros_like(centred))
