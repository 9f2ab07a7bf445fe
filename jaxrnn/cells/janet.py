"""JANET of van der Westhuizen and Lasenby (2018): an LSTM of which the forget gate alone is left.

    s_t = x_t W_f + b_f + h_{t-1} U_f
    c_t = tanh(x_t W_c + b_c + h_{t-1} U_c)
    h_t = σ(s_t) ⊙ h_{t-1} + (1 - σ(s_t - β)) ⊙ c_t

With β > 0 more comes in than is forgotten.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn import initializers as init_with
from jaxrnn.cells.gates import raised
from jaxrnn.cells.products import recurrent_product
from jaxrnn.cells.split import split_cell
from jaxrnn.cells.weights import weights
from jaxrnn.types import Array, Cell, recorded


class JANETParams(NamedTuple):
    """Weights of `janet`, f and c side by side: ``input [D, 2H]``, ``recurrent [H, 2H]``, ``bias [2H]``."""

    input: Array
    recurrent: Array
    bias: Array


@recorded
def janet(
    input_size: int,
    hidden_size: int,
    *,
    beta: float = 1.0,
    forget_bias: float = 1.0,
    input_init: init_with.Initializer = init_with.fan_in(),
    recurrent_init: init_with.Initializer = init_with.orthogonal(),
    bias_init: init_with.Initializer = init_with.zeros,
    dtype: Any = jnp.float32,
    carry_dtype: Any = None,
) -> Cell:
    """Return the JANET cell, h_t = σ(s) ⊙ h_{t-1} + (1 - σ(s - β)) ⊙ c, with y_t = h_t.

    The gate is s = x_t W_f + b_f + h_{t-1} U_f, the candidate c = tanh(x_t W_c + b_c + h_{t-1} U_c).

    Args:
        input_size: D, the features of ``xs [T, *B, D]``.
        hidden_size: H, the features of the carry ``h [*B, H]`` and of ``ys [T, *B, H]``.
        beta: β, by how much the gate of the input is wider open than the forget gate is closed.
        forget_bias: added to b_f when it is drawn, so that h is kept at the start. The paper draws
            log U(1, T - 1) for memories of up to T steps; put it there with ``params._replace``.
        input_init, recurrent_init, bias_init: `jaxrnn.initializers` for W, U and b, f and c apart.
        dtype: of the parameters, and so of inputs and outputs.
        carry_dtype: of h; that of the parameters unless given.

    Raises:
        ValueError: a size below 1, a number that is not finite.
        TypeError: an argument of the wrong type.

    Source: van der Westhuizen and Lasenby, "The unreasonable effectiveness of the forget gate" (2018).

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.janet(3, 5)
        >>> params = cell.init(jax.random.key(0))
        >>> h, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((7, 2, 3)))
        >>> h.shape, ys.shape
        ((2, 5), (7, 2, 5))
    """
    start = (input_size, hidden_size, input_init, recurrent_init, bias_init, dtype, carry_dtype)
    drawn, zeros, inputs = weights(JANETParams, "janet", (hidden_size, hidden_size), *start)
    checks.number("beta", beta)
    checks.number("forget_bias", forget_bias)

    def init(key: Array) -> JANETParams:
        params = drawn(key)
        return params._replace(bias=raised(params.bias, slice(hidden_size), forget_bias))

    def recur(params: JANETParams, h: Array) -> Array:
        return recurrent_product(h, params.recurrent)

    def update(h: Array, z: Array, a: Array) -> tuple[Array, Array]:
        s, a_c = jnp.split(z.astype(a.dtype) + a, 2, axis=-1)
        c = jnp.tanh(a_c)
        h = jax.nn.sigmoid(s) * h + (1 - jax.nn.sigmoid(s - beta)) * c
        return h, h.astype(z.dtype)

    return split_cell(init, zeros, recur, update, inputs=inputs)
