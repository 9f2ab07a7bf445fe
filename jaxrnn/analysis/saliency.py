"""Which inputs an output depends on: gradients with respect to the inputs, and integrated gradients.

For a score f(x) of each sequence, x = (x_1, ..., x_T),

    gradient      ∂f/∂x_t(x), what a small change of x_t would change
    integrated    A_t = (x_t - x'_t) ⊙ ∫₀¹ ∂f/∂x_t(x' + α (x - x')) dα,   Σ_t A_t = f(x) - f(x')

with x' a baseline that means nothing: the gradient is flat where a unit saturates, the integral over the way there is
not, and its parts add up to what the input changed (completeness).

Source: Simonyan, Vedaldi and Zisserman, "Deep Inside Convolutional Networks" (2013); Sundararajan, Taly and Yan,
"Axiomatic Attribution for Deep Networks" (2017).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import checks
from jaxrnn.types import Array


class IntegratedGradients(NamedTuple):
    """``attributions`` A ``[T, *B, D]``, and ``gaps [*B]``: ΣA - (f(x) - f(x')), the error of the quadrature."""

    attributions: Array
    gaps: Array


def input_gradients(score: Callable[[Array], Array], xs: Array) -> Array:
    """Return ∂f/∂x_t for each step of each sequence.

    Args:
        score: f, ``(xs) -> scores [*B]``, each a function of its own sequence alone, such as the logit of a class.
        xs: ``[T, *B, D]``, or any floating array whose gradient is wanted, such as embedded words.

    Returns:
        Like ``xs``.

    Raises:
        TypeError: ``score`` is no function, ``xs`` no floating array.

    Source: Simonyan, Vedaldi and Zisserman, "Deep Inside Convolutional Networks" (2013).

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxrnn.analysis import input_gradients
        >>> xs = jnp.array([[1.0], [2.0]])  # one sequence of two steps
        >>> input_gradients(lambda xs: (xs**2).sum(), xs).tolist()
        [[2.0], [4.0]]
    """
    checks.functions(score=score)
    return jax.grad(lambda xs: score(xs).sum())(checks.floating_array("xs", xs))


def integrated_gradients(
    score: Callable[[Array], Array], xs: Array, baseline: Any = None, *, points: int = 32
) -> IntegratedGradients:
    """Return A_t = (x_t - x'_t) ⊙ ∫₀¹ ∂f/∂x_t(x' + α (x - x')) dα for each step of each sequence.

    The integral is taken by Gauss and Legendre's rule, one gradient for each point: exact for polynomials of
    degree 2·points - 1 in α. Where ``gaps`` is not small beside f(x) - f(x'), take more points.

    Args:
        score, xs: as in `input_gradients`.
        baseline: x', of a shape that broadcasts to that of ``xs``; zeros unless given.
        points: of the quadrature.

    Raises:
        TypeError: ``score`` is no function, ``xs`` or ``baseline`` no floating array.
        ValueError: a baseline of another shape, fewer than one point.

    Source: Sundararajan, Taly and Yan, "Axiomatic Attribution for Deep Networks" (2017).

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxrnn.analysis import integrated_gradients
        >>> xs = jnp.array([[1.0], [2.0]])
        >>> attributions, gap = integrated_gradients(lambda xs: (xs**2).sum(), xs)
        >>> attributions.round(4).tolist(), abs(float(gap)) < 1e-5
        ([[1.0], [4.0]], True)
    """
    checks.functions(score=score)
    checks.size("points", points)
    xs = checks.floating_array("xs", xs)
    start = jnp.zeros_like(xs) if baseline is None else checks.floating_array("baseline", baseline)
    lead = (1,) * (xs.ndim - start.ndim)
    if start.ndim > xs.ndim or any(a not in (1, b) for a, b in zip((*lead, *start.shape), xs.shape, strict=True)):
        raise ValueError(f"baseline: expected a shape that broadcasts to {xs.shape}, got {start.shape}")
    start = jnp.broadcast_to(start.reshape(*lead, *start.shape), xs.shape).astype(xs.dtype)
    nodes, weights = np.polynomial.legendre.leggauss(points)

    def add(total: Array, point: tuple[Array, Array]) -> tuple[Array, None]:
        alpha, weight = point
        return total + weight * input_gradients(score, start + alpha * (xs - start)), None

    half = (jnp.asarray((nodes + 1) / 2, xs.dtype), jnp.asarray(weights / 2, xs.dtype))  # from [-1, 1] to [0, 1]
    attributions = (xs - start) * jax.lax.scan(add, jnp.zeros_like(xs), half)[0]
    change = score(xs) - score(start)
    batch = range(1, 1 + change.ndim)
    summed = attributions.sum(axis=tuple(axis for axis in range(xs.ndim) if axis not in batch))
    return IntegratedGradients(attributions, summed - change)
