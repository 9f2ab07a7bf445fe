"""The coupled oscillatory RNN of Rusch and Mishra (2021): driven, damped oscillators, one step of Δt at a time.

    y'' = tanh(x W + b + y U + y' V) - γ y - ε y'

With v = y' the velocity, and the state h for the paper's y, which here is what a cell gives out:

    v_t = v_{t-1} + Δt (tanh(x_t W + b + h_{t-1} U + v_{t-1} V) - γ h_{t-1} - ε v_{t-1})
    h_t = h_{t-1} + Δt v_t

The damping of v_t by itself instead, v_t = (v_{t-1} + Δt (tanh(…) - γ h_{t-1})) / (1 + Δt ε), is the implicit form.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn import initializers as init_with
from jaxrnn.cells.products import recurrent_product
from jaxrnn.cells.split import split_cell
from jaxrnn.cells.weights import weights
from jaxrnn.types import Array, Cell, recorded


class CoRNNParams(NamedTuple):
    """Weights of `cornn`: ``input [D, H]``, ``recurrent [2H, H]`` with U above V, ``bias [H]``."""

    input: Array
    recurrent: Array
    bias: Array


class CoRNNCarry(NamedTuple):
    """State of `cornn`: where the oscillators are, ``h [*B, H]``, and how fast they move, ``v [*B, H]``."""

    h: Array
    v: Array


@recorded
def cornn(
    input_size: int,
    hidden_size: int,
    *,
    dt: float = 0.042,
    gamma: float = 2.7,
    epsilon: float = 4.7,
    implicit: bool = False,
    input_init: init_with.Initializer = init_with.fan_in(),
    recurrent_init: init_with.Initializer = init_with.orthogonal(),
    bias_init: init_with.Initializer = init_with.zeros,
    dtype: Any = jnp.float32,
    carry_dtype: Any = None,
) -> Cell:
    """Return the coRNN cell: v_t = v_{t-1} + Δt (tanh(a) - γ h_{t-1} - ε v_{t-1}), h_t = h_{t-1} + Δt v_t, y_t = h_t.

    The drive of the oscillators is a = x_t W + b + h_{t-1} U + v_{t-1} V.

    Args:
        input_size: D, the features of ``xs [T, *B, D]``.
        hidden_size: H; the carry is ``CoRNNCarry(h [*B, H], v [*B, H])``, and ``ys [T, *B, H]``.
        dt: Δt, above 0; it and the next two are the paper's for digits pixel by pixel, T = 784.
        gamma: γ, above 0, the square of the frequency.
        epsilon: ε, above 0, the damping.
        implicit: whether the damping is that of v_t instead of v_{t-1}.
        input_init, recurrent_init, bias_init: `jaxrnn.initializers` for W, for each of U and V, and for b.
        dtype: of the parameters, and so of inputs and outputs.
        carry_dtype: of h and v; that of the parameters unless given.

    Raises:
        ValueError: a size below 1, a number that is not above 0.
        TypeError: an argument of the wrong type.

    Source: Rusch and Mishra, "Coupled Oscillatory Recurrent Neural Network (coRNN)" (2021).

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.cornn(3, 5)
        >>> params = cell.init(jax.random.key(0))
        >>> (h, v), ys = jaxrnn.unroll(cell, params, jax.numpy.ones((7, 2, 3)))
        >>> h.shape, v.shape, ys.shape
        ((2, 5), (2, 5), (7, 2, 5))
    """
    start = (input_size, hidden_size, input_init, recurrent_init, bias_init, dtype, carry_dtype)
    init, zeros, inputs = weights(CoRNNParams, "cornn", (hidden_size,), *start, states=2)
    checks.positive("dt", dt)
    checks.positive("gamma", gamma)
    checks.positive("epsilon", epsilon)
    checks.flag("implicit", implicit)

    def initial_carry(params: CoRNNParams, batch_shape: tuple[int, ...] = ()) -> CoRNNCarry:
        return CoRNNCarry(zeros(params, batch_shape), zeros(params, batch_shape))

    def recur(params: CoRNNParams, carry: CoRNNCarry) -> Array:
        return recurrent_product(jnp.concatenate(carry, axis=-1), params.recurrent)

    def update(carry: CoRNNCarry, z: Array, a: Array) -> tuple[CoRNNCarry, Array]:
        h, v = carry
        force = jnp.tanh(z.astype(a.dtype) + a) - gamma * h
        v = (v + dt * force) / (1 + dt * epsilon) if implicit else v + dt * (force - epsilon * v)
        h = h + dt * v
        return CoRNNCarry(h, v), h.astype(z.dtype)

    return split_cell(init, initial_carry, recur, update, inputs=inputs)
