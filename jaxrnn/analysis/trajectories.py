"""States in a plane: principal components, the directions in which they vary most.

With states s_i around their mean m, the covariance is C = Σ (s_i - m)ᵀ(s_i - m) / N. Its eigenvectors v_k with the
greatest eigenvalues λ_k are the directions, (s_i - m) · v_k the coordinates, and λ_k / Σλ the share of the
variance that a direction shows.

Source: Pearson, "On lines and planes of closest fit to systems of points in space" (1901).
"""

from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.types import Array


class PrincipalComponents(NamedTuple):
    """``coordinates [..., count]`` of all states, ``directions [count, n]``, ``mean [n]``, ``shares [count]``."""

    coordinates: Array
    directions: Array
    mean: Array
    shares: Array


def principal_components(states: Any, count: int = 2) -> PrincipalComponents:
    """Return states in the ``count`` orthogonal directions in which they vary most.

    A direction's greatest number is positive, so that it does not turn round from one run to another.

    Args:
        states: ``[..., n]``, floating: of any steps, sequences and so on; for the LSTM, h and c side by side or one.
        count: of directions, n at most.

    Returns:
        `PrincipalComponents`; other states s go to ``(s - mean) @ directions.T``.

    Raises:
        TypeError: states that are no floating array.
        ValueError: no axis of states, or more directions than it is long.

    Source: Pearson, "On lines and planes of closest fit to systems of points in space" (1901).

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxrnn.analysis import principal_components
        >>> found = principal_components(jnp.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]]), 1)
        >>> found.coordinates[:, 0].round(4).tolist(), found.shares.round(4).tolist()
        ([-5.0, 0.0, 5.0], [1.0])
    """
    states = checks.floating_array("states", states)
    if states.ndim < 2:
        raise ValueError(f"states: expected [..., features], got shape {states.shape}")
    checks.size("count", count)
    if count > states.shape[-1]:
        raise ValueError(f"count: expected at most the {states.shape[-1]} features of states, got {count}")
    flat = states.reshape(-1, states.shape[-1])
    mean = flat.mean(axis=0)
    centred = flat - mean[None]
    variances, vectors = jnp.linalg.eigh(jnp.matmul(centred.T, centred, precision="highest") / len(flat))
    directions = vectors[:, ::-1][:, :count].T
    greatest = jnp.take_along_axis(directions, jnp.abs(directions).argmax(axis=1, keepdims=True), axis=1)
    directions = directions * jnp.sign(greatest)
    shares = variances[::-1][:count] / jnp.maximum(variances.sum(), jnp.finfo(states.dtype).tiny)
    coordinates = jnp.matmul(centred, directions.T, precision="highest").reshape(*states.shape[:-1], count)
    return PrincipalComponents(coordinates, directions, mean, shares)
