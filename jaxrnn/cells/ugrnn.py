"""The update gate RNN of Collins, Sohl-Dickstein and Sussillo (2016): a GRU without the reset.

c_t = φ(x_t W_c + b_c + h_{t-1} U_c)
g_t = σ(x_t W_g + b_g + h_{t-1} U_g)
h_t = g_t ⊙ h_{t-1} + (1 - g_t) ⊙ c_t
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn import initializers as init_with
from jaxrnn.cells.activations import elementwise
from jaxrnn.cells.gates import raised
from jaxrnn.cells.products import recurrent_product
from jaxrnn.cells.split import split_cell
from jaxrnn.cells.weights import weights
from jaxrnn.types import Array, Cell, recorded


class UGRNNParams(NamedTuple):
    """Weights of `ugrnn`, c and g side by side: ``input [D, 2H]``, ``recurrent [H, 2H]``, ``bias [2H]``."""

    input: Array
    recurrent: Array
    bias: Array


@recorded
def ugrnn(
    input_size: int,
    hidden_size: int,
    *,
    forget_bias: float = 1.0,
    activation: str | Callable | tuple[Callable, Callable] = "tanh",
    input_init: init_with.Initializer = init_with.fan_in(),
    recurrent_init: init_with.Initializer = init_with.orthogonal(),
    bias_init: init_with.Initializer = init_with.zeros,
    dtype: Any = jnp.float32,
    carry_dtype: Any = None,
) -> Cell:
    """Return the update gate RNN, h_t = g ⊙ h_{t-1} + (1 - g) ⊙ c, with y_t = h_t.

    The candidate is c = φ(x_t W_c + b_c + h_{t-1} U_c), the gate g = σ(x_t W_g + b_g + h_{t-1} U_g).

    Args:
        input_size: D, the features of ``xs [T, *B, D]``.
        hidden_size: H, the features of the carry ``h [*B, H]`` and of ``ys [T, *B, H]``.
        forget_bias: added to b_g when it is drawn, so that h is kept at the start.
        activation: φ, as in `vanilla`.
        input_init, recurrent_init, bias_init: `jaxrnn.initializers` for W, U and b, c and g apart.
        dtype: of the parameters, and so of inputs and outputs.
        carry_dtype: of h; that of the parameters unless given.

    Raises:
        ValueError: a size below 1, a bias that is not finite, an activation of unknown name.
        TypeError: an argument of the wrong type.

    Source: Collins, Sohl-Dickstein and Sussillo, "Capacity and Trainability in Recurrent Neural Networks"
    (2016).

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.ugrnn(3, 5)
        >>> params = cell.init(jax.random.key(0))
        >>> h, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((7, 2, 3)))
        >>> h.shape, ys.shape
        ((2, 5), (7, 2, 5))
    """
    start = (input_size, hidden_size, input_init, recurrent_init, bias_init, dtype, carry_dtype)
    drawn, zeros, inputs = weights(UGRNNParams, "ugrnn", (hidden_size, hidden_size), *start)
    checks.number("forget_bias", forget_bias)
    phi = elementwise(activation)

    def init(key: Array) -> UGRNNParams:
        params = drawn(key)
        return params._replace(bias=raised(params.bias, slice(hidden_size, None), forget_bias))

    def recur(params: UGRNNParams, h: Array) -> Array:
        return recurrent_product(h, params.recurrent)

    def update(h: Array, z: Array, a: Array) -> tuple[Array, Array]:
        a_c, a_g = jnp.split(z.astype(a.dtype) + a, 2, axis=-1)
        c, g = phi(a_c), jax.nn.sigmoid(a_g)
        h = g * h + (1 - g) * c
        return h, h.astype(z.dtype)

    return split_cell(init, zeros, recur, update, inputs=inputs)
