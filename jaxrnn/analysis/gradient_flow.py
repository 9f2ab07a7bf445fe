"""How a gradient travels back through time: norms, state Jacobians, and their products' singular values.

For a loss L on the states of a recurrence c_t = step(c_{t-1}, x_t), with J_t = ∂c_t/∂c_{t-1},

    ∂L/∂c_t = ∂⁺L/∂c_t + J_{t+1}ᵀ ∂L/∂c_{t+1}
    ∂c_T/∂c_t = J_T J_{T-1} ... J_{t+1}

where ∂⁺ is the direct dependence on c_t. The product of T - t matrices shrinks or grows as a power of
T - t, and the gradient with it: Hochreiter, "Untersuchungen zu dynamischen neuronalen Netzen" (1991);
Bengio, Simard and Frasconi, "Learning Long-Term Dependencies with Gradient Descent is Difficult"
(1994); Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks" (2013).

The functions take any `Cell` and any carry. A carry that is a pytree, as the (h, c) of the LSTM, is one
state vector of n numbers, the parts in the order of its leaves.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jaxrnn.bptt import prepare, time_and_batch
from jaxrnn.types import Array, Carry, Cell, Params


class GradientNorms(NamedTuple):
    """Norms of ∂L/∂carry_t: ``total [T, *B]`` over the whole carry, ``parts`` like the carry, each ``[T, *B]``."""

    total: Array
    parts: Any


def carry_gradients(
    cell: Cell,
    params: Params,
    xs: Any,
    loss: Callable[[Carry], Array],
    carry: Carry | None = None,
    *,
    key: Array | None = None,
) -> Carry:
    """Return ∂L/∂carry_t for every step t = 1..T, for L = loss(all the carries).

    Each carry_t becomes carry_t + ε_t before anything reads it, and L is differentiated with respect to
    ε at ε = 0. So ∂L/∂carry_t is the whole derivative: what L takes from carry_t itself and what comes
    through later steps.

    Args:
        cell, params, xs, carry, key: as in `jaxrnn.unroll`.
        loss: ``(carries) -> scalar``, carries being the carry with a leading time axis,
            ``[T, *B, ...]``. It must be a sum over the batch for the gradients of the sequences to be
            apart. The outputs of vanilla, LSTM and GRU are in their carry: h is y.

    Returns:
        A pytree like the carry, each leaf ``[T, *B, ...]`` in its own dtype. Below the smallest
        number of that dtype (1e-38 in float32) a gradient is zero; use float64 to see further.

    Raises:
        ValueError, TypeError: as `jaxrnn.unroll`; also for a loss that is not a scalar.

    Source: Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks" (2013).

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> from jaxrnn.analysis import carry_gradients
        >>> cell = jaxrnn.lstm(3, 5)
        >>> params, xs = cell.init(jax.random.key(0)), jnp.ones((7, 2, 3))
        >>> gradients = carry_gradients(cell, params, xs, lambda carries: carries.h[-1].sum())
        >>> gradients.h.shape, gradients.c.shape
        ((7, 2, 5), (7, 2, 5))
    """
    if not callable(loss):
        raise TypeError(f"loss: expected a function (carries) -> scalar, got {type(loss).__name__}")
    run = prepare(cell, params, xs, carry, lengths=None, mask=None, resets=None, reverse=False, key=key)
    time, _ = time_and_batch(xs, cell.feature_axes)

    def loss_of(disturbances: Carry) -> Array:
        def body(carry: Carry, inputs: tuple[Any, Carry]) -> tuple[Carry, Carry]:
            z, disturbance = inputs
            carry, _ = cell.step(params, carry, z)
            carry = jax.tree.map(jnp.add, carry, disturbance)
            return carry, carry

        value = loss(jax.lax.scan(body, run.carry, (run.zs, disturbances))[1])
        if jnp.shape(value) != ():
            raise ValueError(f"loss: expected a scalar, got shape {jnp.shape(value)}")
        return value

    return jax.grad(loss_of)(jax.tree.map(lambda leaf: jnp.zeros((time, *leaf.shape), leaf.dtype), run.carry))


def gradient_norms(
    cell: Cell,
    params: Params,
    xs: Any,
    loss: Callable[[Carry], Array],
    carry: Carry | None = None,
    *,
    key: Array | None = None,
) -> GradientNorms:
    """Return ‖∂L/∂carry_t‖ for every step t = 1..T and every sequence, whole and part by part.

    Args, Raises: as `carry_gradients`.

    Returns:
        `GradientNorms`: ``total [T, *B]``, and ``parts`` like the carry with leaves ``[T, *B]``
        (for the LSTM, ``parts.h`` and ``parts.c``); total² is the sum of parts².

    Source: Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks" (2013).

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> from jaxrnn.analysis import gradient_norms
        >>> cell = jaxrnn.vanilla(3, 5, activation="identity")  # its recurrent start is orthogonal
        >>> params, xs = cell.init(jax.random.key(0)), jnp.ones((7, 2, 3))
        >>> norms = gradient_norms(cell, params, xs, lambda hs: hs[-1].sum())
        >>> norms.total.shape, bool(jnp.allclose(norms.total, 5**0.5, atol=1e-4))
        ((7, 2), True)
    """
    gradients = carry_gradients(cell, params, xs, loss, carry, key=key)
    time, batch = time_and_batch(xs, cell.feature_axes)
    parts = jax.tree.map(lambda leaf: _norm(leaf.reshape(time, *batch, -1)), gradients)
    return GradientNorms(total=_norm(jnp.stack(jax.tree.leaves(parts), axis=-1)), parts=parts)


def state_jacobians(
    cell: Cell, params: Params, xs: Any, carry: Carry | None = None, *, key: Array | None = None
) -> Array:
    """Return J_t = ∂carry_t/∂carry_{t-1} at every step of the trajectory that ``xs`` gives.

    ``J[t, ..., a, b]`` is the derivative of number a of the carry after step t with respect to number b
    of the carry before it; n numbers in all, in the order of `jax.flatten_util.ravel_pytree`.

    Args:
        cell, params, xs, carry, key: as in `jaxrnn.unroll`.

    Returns:
        ``[T, *B, n, n]``; n is H for vanilla and GRU, 2H for the LSTM (h, then c).

    Raises:
        ValueError, TypeError: as `jaxrnn.unroll`.

    Source: Bengio, Simard and Frasconi, "Learning Long-Term Dependencies with Gradient Descent is
    Difficult" (1994).

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> from jaxrnn.analysis import state_jacobians
        >>> cell = jaxrnn.vanilla(3, 5, activation="identity")
        >>> params = cell.init(jax.random.key(0))
        >>> jacobians = state_jacobians(cell, params, jnp.ones((7, 2, 3)))
        >>> jacobians.shape, bool(jnp.allclose(jacobians[3, 1], params.recurrent.T, atol=1e-6))
        ((7, 2, 5, 5), True)
    """
    run = prepare(cell, params, xs, carry, lengths=None, mask=None, resets=None, reverse=False, key=key)
    _, batch = time_and_batch(xs, cell.feature_axes)

    def remember(carry: Carry, z: Any) -> tuple[Carry, Carry]:
        return cell.step(params, carry, z)[0], carry

    def jacobian(carry: Carry, z: Any) -> Array:
        flat, unravel = ravel_pytree(carry)
        return jax.jacfwd(lambda state: ravel_pytree(cell.step(params, unravel(state), z)[0])[0])(flat)

    befores = jax.lax.scan(remember, run.carry, run.zs)[1]
    for _ in (None, *batch):
        jacobian = jax.vmap(jacobian)
    return jacobian(befores, run.zs)


def log_singular_values(jacobians: Array) -> Array:
    """Return the logarithms of the singular values of ∂carry_T/∂carry_t = J_T ... J_{t+1}, for t = 0..T.

    A product of hundreds of Jacobians leaves the range of floats, and its small singular values drown in
    the rounding of the large ones. So no product is ever formed. Going back one step, the singular
    directions v_i of ∂carry_T/∂carry_t become columns J_tᵀ v_i, each with the logarithm of its own
    scale, and one-sided Jacobi rotations make them orthogonal again: then they are the singular
    directions of ∂carry_T/∂carry_{t-1}, and their scales its singular values. The range of the whole
    product is unlimited; only what a single J_t shrinks by more than the precision of its dtype is lost,
    and an exact zero then shows as that precision.

    Args:
        jacobians: ``[T, *B, n, n]`` as from `state_jacobians`, float32 or float64.

    Returns:
        ``[T + 1, *B, n]``, natural logarithms in descending order. Entry t belongs to
        ∂carry_T/∂carry_t: entry 0 to the product of all T Jacobians, entry T to the identity (zeros).

    Raises:
        ValueError: jacobians that are not ``[T, *B, n, n]``.
        TypeError: jacobians that are neither float32 nor float64.

    Source: Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks" (2013);
    Demmel and Veselić, "Jacobi's Method is More Accurate than QR" (1992).

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxrnn.analysis import log_singular_values
        >>> half = jnp.broadcast_to(0.5 * jnp.eye(3), (400, 3, 3))  # 0.5^400 is zero in float32
        >>> logs = log_singular_values(half)
        >>> logs.shape, bool(jnp.allclose(logs[0], 400 * jnp.log(0.5)))
        ((401, 3), True)
    """
    jacobians = jnp.asarray(jacobians)
    if jacobians.dtype not in (jnp.float32, jnp.float64):
        raise TypeError(f"jacobians: expected float32 or float64, got {jacobians.dtype}")
    if jacobians.ndim < 3 or jacobians.shape[-1] != jacobians.shape[-2]:
        raise ValueError(f"jacobians: expected shape [time, *batch, n, n], got {jacobians.shape}")
    one_sequence = _log_singular_values
    for _ in jacobians.shape[1:-2]:
        one_sequence = jax.vmap(one_sequence, in_axes=1, out_axes=1)
    return one_sequence(jacobians)


def spectral_radius(matrix: Array) -> Array:
    """Return ρ(A) = max |λ_i(A)|, the largest modulus of an eigenvalue of ``matrix [..., n, n]``, as ``[...]``.

    A linear recurrence h_t = A h_{t-1} forgets if ρ(A) < 1 and explodes if ρ(A) > 1. JAX has eigenvalues
    of matrices that are not symmetric on CPU (and in recent versions on GPU), not on TPU.

    Raises:
        ValueError: a matrix that is not square.

    Source: Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks" (2013).

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxrnn.analysis import spectral_radius
        >>> round(float(spectral_radius(jnp.array([[0.0, 2.0], [-2.0, 0.0]]))), 4)  # eigenvalues ±2i
        2.0
    """
    matrix = jnp.asarray(matrix)
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2]:
        raise ValueError(f"matrix: expected shape [..., n, n], got {matrix.shape}")
    return jnp.abs(jnp.linalg.eigvals(matrix)).max(axis=-1, initial=0.0)


def _norm(x: Array) -> Array:
    """Return ‖x‖ over the last axis, scaled first: squares of gradients underflow long before the gradients do."""
    x = x if jnp.finfo(x.dtype).bits >= 32 else x.astype(jnp.float32)
    scale = jnp.abs(x).max(axis=-1, keepdims=True, initial=0.0)
    scaled = jnp.where(scale > 0, x / jnp.where(scale > 0, scale, 1), 0)
    return jnp.squeeze(scale, -1) * jnp.sqrt((scaled * scaled).sum(axis=-1))


class Scaled(NamedTuple):
    """Vectors exp(log_scales) · directions: unit vectors ``directions [..., n]``, ``log_scales [...]``."""

    directions: Array
    log_scales: Array


def _log_singular_values(jacobians: Array) -> Array:
    """Do `log_singular_values` for one sequence, ``[T, n, n]`` to ``[T + 1, n]``."""
    size, dtype = jacobians.shape[-1], jacobians.dtype

    def back_one_step(vectors: Scaled, jacobian: Array) -> tuple[Scaled, Array]:
        moved = jnp.matmul(vectors.directions, jacobian, precision="highest")
        vectors = _make_orthogonal(_normalise(moved, vectors.log_scales))
        return vectors, -jnp.sort(-vectors.log_scales)

    start = Scaled(jnp.eye(size, dtype=dtype), jnp.zeros(size, dtype))
    logs = jax.lax.scan(back_one_step, start, jacobians, reverse=True)[1]
    return jnp.concatenate([logs, jnp.zeros((1, size), dtype)])


def _normalise(vectors: Array, log_scales: Array) -> Scaled:
    norms = _norm(vectors)
    divisors = jnp.expand_dims(jnp.where(norms > 0, norms, 1), -1)
    return Scaled(vectors / divisors, log_scales + jnp.log(norms))


def _make_orthogonal(vectors: Scaled) -> Scaled:
    """Rotate pairs of the n vectors until the cosine of every pair is zero to rounding.

    The rotations act from the left on the matrix with the vectors as rows, so its singular values stay.
    Pairs are met as in a round-robin tournament: a round is n/2 pairs apart from each other, rotated at
    once, and a sweep is n - 1 rounds, every pair once. After some ten sweeps convergence is quadratic.
    """
    size, dtype = vectors.log_scales.shape[0], vectors.log_scales.dtype
    tolerance, most_sweeps = size * float(jnp.finfo(dtype).eps), 40
    idle = size % 2  # a zero vector makes the number even; rotations leave it alone
    half = (size + idle) // 2
    table = Scaled(
        jnp.pad(vectors.directions, ((0, idle), (0, 0))).reshape(2, half, size),
        jnp.pad(vectors.log_scales, (0, idle), constant_values=-jnp.inf).reshape(2, half),
    )

    def play(_: Any, state: tuple[Scaled, Array]) -> tuple[Scaled, Array]:
        table, worst = state
        table, cosines = _rotate(table)
        return jax.tree.map(_next_seats, table), jnp.maximum(worst, jnp.abs(cosines).max())

    def sweep(state: tuple[Scaled, Array, Array]) -> tuple[Scaled, Array, Array]:
        table, _, count = state
        return *jax.lax.fori_loop(0, 2 * half - 1, play, (table, jnp.zeros((), dtype))), count + 1

    def unfinished(state: tuple[Scaled, Array, Array]) -> Array:
        return (state[1] > tolerance) & (state[2] < most_sweeps)

    table, _, _ = jax.lax.while_loop(unfinished, sweep, (table, jnp.ones((), dtype), jnp.zeros((), jnp.int32)))
    return Scaled(table.directions.reshape(-1, size)[:size], table.log_scales.reshape(-1)[:size])


def _rotate(pairs: Scaled) -> tuple[Scaled, Array]:
    """Make each pair, ``[2, m]`` vectors, orthogonal by a rotation in its plane; also return the cosines before.

    With the longer one first, ρ ≤ 1 the ratio of lengths and κ the cosine, the tangent of Jacobi's angle
    is ρτ, τ = -2κ / (1-ρ² + √((1-ρ²)² + 4ρ²κ²)), and the unit vectors become u - ρ²τ v and v + τ u, both
    over √(1 + ρ²τ²). At ρ = 0 that is a step of Gram-Schmidt, v - κ u. Nothing under- or overflows.
    """
    swap = pairs.log_scales[0] < pairs.log_scales[1]

    def longer_first(pairs: Scaled) -> Scaled:  # and, done twice, back again
        directions, log_scales = pairs
        return Scaled(
            jnp.where(swap[None, :, None], directions[::-1], directions),
            jnp.where(swap[None, :], log_scales[::-1], log_scales),
        )

    (u, v), (log_u, log_v) = longer_first(pairs)
    ratio = jnp.where(jnp.isneginf(log_v), 0, jnp.exp(log_v - log_u))
    cosine = (u * v).sum(axis=-1)
    gap = 1 - ratio * ratio
    below = gap + jnp.sqrt(gap * gap + 4 * ratio * ratio * cosine * cosine)
    tau = jnp.where(below > 0, -2 * cosine / jnp.where(below > 0, below, 1), 0)
    from_v, from_u, divisor = (x[:, None] for x in (ratio * ratio * tau, tau, jnp.sqrt(1 + (ratio * tau) ** 2)))
    rotated = jnp.stack([u - from_v * v, v + from_u * u]) / divisor[None]
    return longer_first(_normalise(rotated, jnp.stack([log_u, log_v]))), cosine


def _next_seats(table: Array) -> Array:
    """Move everyone but table[0, 0] one seat round, ``[2, m, ...]``: the circle method of a tournament."""
    left, right = table
    if len(left) == 1:
        return table
    return jnp.stack([jnp.concatenate([left[:1], right[:1], left[1:-1]]), jnp.concatenate([right[1:], left[-1:]])])
