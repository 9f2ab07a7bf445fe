"""The continuous-time network of computational neuroscience, τ dx/dt = -x + φ(x) W_rec + u W_in + b + noise.

With α = Δt/τ, and ξ_t standard normal, a step of Euler's method is

    x_t = (1 - α) x_{t-1} + α (u_t W_in + b + φ(x_{t-1}) W_rec) + √(2α) σ ξ_t
    y_t = φ(x_t)

u being the input, x the currents and y the rates. The recurrent weights are made of the parameters by one of

    W_rec = R ⊙ mask                          only the connections there are
    W_rec = diag(d) |R| ⊙ mask                each unit excites, d = 1, or inhibits, d = -1 (Dale's law)
    W_rec = N Mᵀ / H                          of low rank
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import checks
from jaxrnn import initializers as init_with
from jaxrnn.cells.activations import elementwise
from jaxrnn.cells.products import affine, recurrent_product, zero_carry
from jaxrnn.cells.split import split_cell
from jaxrnn.types import Array, Cell, recorded


class LeakyParams(NamedTuple):
    """Weights of `leaky`: ``input [D, H]``, ``bias [H]``, and ``recurrent [H, H]`` or the two of low rank, else None.

    left, right: M and N ``[H, R]``; a unit listens to the rest by its row of M, and is heard by that of N.
    """

    input: Array
    recurrent: Any
    left: Any
    right: Any
    bias: Array


@recorded
def leaky(
    input_size: int,
    hidden_size: int,
    *,
    alpha: float | None = None,
    dt: float | None = None,
    tau: float | None = None,
    activation: str | Callable | tuple[Callable, Callable] = "tanh",
    noise: float = 0.0,
    dale: Any = None,
    mask: Any = None,
    rank: int | None = None,
    input_init: init_with.Initializer = init_with.fan_in(),
    recurrent_init: init_with.Initializer = init_with.orthogonal(),
    bias_init: init_with.Initializer = init_with.zeros,
    dtype: Any = jnp.float32,
    carry_dtype: Any = None,
) -> Cell:
    """Return the leaky cell, x_t = (1 - α) x_{t-1} + α (u_t W_in + b + φ(x_{t-1}) W_rec) + √(2α) σ ξ_t, y_t = φ(x_t).

    Args:
        input_size: D, the features of the inputs u, ``xs [T, *B, D]``.
        hidden_size: H, the features of the carry ``x [*B, H]`` and of the rates ``ys [T, *B, H]``.
        alpha: α, above 0 and at most 1.
        dt, tau: Δt and τ in one unit of time, for α = Δt/τ; instead of ``alpha``.
        activation: φ, as in `vanilla`.
        noise: σ. The noise of all steps is drawn from the ``key`` of `unroll`; without one there is none.
        dale: which units excite: the fraction of them, the first ones, or the signs ±1 ``[H]`` of all.
            The others inhibit, and start stronger, so that the two balance.
        mask: bool ``[H, H]``, whether there is a connection from unit i to unit j; all unless given.
        rank: R, of W_rec = N Mᵀ / H; it goes with neither ``dale`` nor ``mask``.
        input_init, recurrent_init, bias_init: `jaxrnn.initializers` for W_in, R and b. Where the rank is
            given, M and N start as √H times what is drawn, so that their entries are of order 1.
        dtype: of the parameters, and so of inputs and outputs.
        carry_dtype: of x; that of the parameters unless given.

    Raises:
        ValueError: a size below 1, numbers out of range, not one of ``alpha`` and (``dt``, ``tau``), signs or
            a mask that do not fit, an activation of unknown name.
        TypeError: an argument of the wrong type.

    Source: Song, Yang and Wang, "Training Excitatory-Inhibitory Recurrent Neural Networks for Cognitive
    Tasks" (2016), who rectify R where |R| is taken here; Mastrogiuseppe and Ostojic, "Linking Connectivity,
    Dynamics, and Computations in Low-Rank Recurrent Neural Networks" (2018).

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.leaky(3, 5, dt=20, tau=100, activation="relu", dale=0.8, noise=0.05)
        >>> params = cell.init(jax.random.key(0))
        >>> x, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((7, 2, 3)), key=jax.random.key(1))
        >>> x.shape, ys.shape
        ((2, 5), (7, 2, 5))
    """
    checks.size("input_size", input_size)
    checks.size("hidden_size", hidden_size)
    rate = _rate(alpha, dt, tau)
    phi = elementwise(activation)
    if checks.number("noise", noise) < 0:
        raise ValueError(f"noise: expected at least 0, got {noise}")
    signs = None if dale is None else _signs(dale, hidden_size)
    there = None if mask is None else _connections(mask, hidden_size)
    if rank is not None:
        checks.size("rank", rank)
        if dale is not None or mask is not None:
            raise ValueError(f"rank: expected None with dale or mask, whose weights are of full rank, got {rank}")
    checks.functions(input_init=input_init, recurrent_init=recurrent_init, bias_init=bias_init)
    checks.floating(dtype=dtype, carry_dtype=dtype if carry_dtype is None else carry_dtype)
    square, tall = (hidden_size, hidden_size), (hidden_size, rank or 0)
    shapes = {
        "input": (input_size, hidden_size),
        "recurrent": square if rank is None else None,
        "left": None if rank is None else tall,
        "right": None if rank is None else tall,
        "bias": (hidden_size,),
    }
    call = f"leaky({input_size}, {hidden_size}{'' if rank is None else f', rank={rank}'})"

    def init(key: Array) -> LeakyParams:
        checks.key("key", key)
        input_key, recurrent_key, left_key, right_key, bias_key = jax.random.split(key, 5)

        def factor(key: Array) -> Array:
            return hidden_size**0.5 * recurrent_init(key, tall, dtype)

        def connections() -> Array:
            drawn = recurrent_init(recurrent_key, square, dtype)
            return drawn if signs is None else drawn * jnp.asarray(_balance(signs), dtype)

        return LeakyParams(
            input=input_init(input_key, (input_size, hidden_size), dtype),
            recurrent=connections() if rank is None else None,
            left=None if rank is None else factor(left_key),
            right=None if rank is None else factor(right_key),
            bias=bias_init(bias_key, (hidden_size,), dtype),
        )

    def initial_carry(params: LeakyParams, batch_shape: tuple[int, ...] = ()) -> Array:
        checks.parameters(params, LeakyParams, shapes, call)
        checks.batch(batch_shape)
        return zero_carry((*batch_shape, hidden_size), params.input.dtype, carry_dtype)

    def inputs(params: LeakyParams, us: Array, key: Array | None = None) -> Array:
        checks.parameters(params, LeakyParams, shapes, call)
        checks.features("xs", us, input_size, params.input.dtype, call)
        zs = rate * affine(us, params.input, params.bias)
        if key is None or noise == 0:
            return zs
        return zs + (2 * rate) ** 0.5 * noise * jax.random.normal(key, zs.shape, zs.dtype)

    def recur(params: LeakyParams, x: Array) -> Array:
        rates = phi(x)
        if rank is not None:
            return recurrent_product(recurrent_product(rates, params.right), params.left.T) / hidden_size
        w = params.recurrent
        if signs is not None:
            w = jnp.abs(w) * jnp.asarray(signs, w.dtype)
        if there is not None:
            w = jnp.where(there, w, jnp.zeros_like(w))
        return recurrent_product(rates, w)

    def update(x: Array, z: Array, a: Array) -> tuple[Array, Array]:
        x = (1 - rate) * x + z.astype(x.dtype) + rate * a
        return x, phi(x).astype(z.dtype)

    return split_cell(init, initial_carry, recur, update, inputs=inputs)


def _rate(alpha: Any, dt: Any, tau: Any) -> float:
    """Return α, given itself or as Δt/τ."""
    given = [name for name, value in {"alpha": alpha, "dt": dt, "tau": tau}.items() if value is not None]
    if given not in (["alpha"], ["dt", "tau"]):
        raise ValueError(f"alpha: expected either alpha, or dt and tau, got {' and '.join(given) or 'none of them'}")
    rate = checks.positive("alpha", alpha) if dt is None else checks.positive("dt", dt) / checks.positive("tau", tau)
    if rate > 1:
        raise ValueError(f"{'alpha' if dt is None else 'dt'}: expected alpha = dt / tau of at most 1, got {rate}")
    return rate


def _signs(dale: Any, hidden_size: int) -> np.ndarray:
    """Return d ``[H, 1]``: 1 for a unit that excites, -1 for one that inhibits."""
    signs = checks.constant("dale", dale)
    if signs.ndim == 0:
        if not 0 <= checks.number("dale", dale) <= 1:
            raise ValueError(f"dale: expected a fraction from 0 to 1, or signs, got {dale}")
        signs = np.where(np.arange(hidden_size) < round(dale * hidden_size), 1, -1)
    if signs.shape != (hidden_size,) or not np.isin(signs, (-1, 1)).all():
        raise ValueError(f"dale: expected a fraction, or signs 1 and -1 of shape ({hidden_size},), got {dale!r}")
    return signs[:, None]


def _balance(signs: np.ndarray) -> np.ndarray:
    """Return factors ``[H, 1]`` that make inhibition as strong as excitation, and keep the weights' mean square."""
    excite = np.count_nonzero(signs > 0)
    inhibit = signs.size - excite
    if excite == 0 or inhibit == 0:
        return np.ones_like(signs, float)
    factors = np.where(signs > 0, 1.0, excite / inhibit)
    return factors / np.sqrt(np.mean(factors**2))


def _connections(mask: Any, hidden_size: int) -> np.ndarray:
    mask = checks.constant("mask", mask)
    if mask.dtype != np.bool_:
        raise TypeError(f"mask: expected bool, got dtype {mask.dtype}")
    if mask.shape != (hidden_size, hidden_size):
        raise ValueError(f"mask: expected shape ({hidden_size}, {hidden_size}) = [from, to], got {mask.shape}")
    return mask
