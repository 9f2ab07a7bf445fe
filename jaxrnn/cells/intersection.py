"""The intersection RNN (+RNN) of Collins, Sohl-Dickstein and Sussillo (2016): a gate in time, and one in depth.

y'_t = ψ(x_t W_y + b_y + h_{t-1} U_y)         h'_t = φ(x_t W_h + b_h + h_{t-1} U_h)
p_t  = σ(x_t W_p + b_p + h_{t-1} U_p)         q_t  = σ(x_t W_q + b_q + h_{t-1} U_q)
y_t  = p_t ⊙ x_t + (1 - p_t) ⊙ y'_t           h_t  = q_t ⊙ h_{t-1} + (1 - q_t) ⊙ h'_t
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn import initializers as init_with
from jaxrnn.cells.activations import elementwise
from jaxrnn.cells.products import recurrent_product
from jaxrnn.cells.split import split_cell
from jaxrnn.cells.weights import weights
from jaxrnn.types import Array, Cell, recorded


class IntersectionParams(NamedTuple):
    """Weights of `intersection`, h', q, y', p side by side.

    input: ``[D, 2H + 2D]``; recurrent: ``[H, 2H + 2D]``; bias: ``[2H + 2D]``.
    """

    input: Array
    recurrent: Array
    bias: Array


class Inputs(NamedTuple):
    """What a step gets of its input: x W + b ``[*B, 2H + 2D]``, and x itself ``[*B, D]``."""

    affine: Array
    x: Array


@recorded
def intersection(
    input_size: int,
    hidden_size: int,
    *,
    forget_bias: float = 1.0,
    activations: tuple[Any, Any] = ("relu", "tanh"),
    input_init: init_with.Initializer = init_with.fan_in(),
    recurrent_init: init_with.Initializer = init_with.orthogonal(),
    bias_init: init_with.Initializer = init_with.zeros,
    dtype: Any = jnp.float32,
    carry_dtype: Any = None,
) -> Cell:
    """Return the +RNN cell: y_t = p ⊙ x_t + (1 - p) ⊙ y' and h_t = q ⊙ h_{t-1} + (1 - q) ⊙ h'.

    Candidates and gates are [y', h', p, q] = [ψ, φ, σ, σ](x_t W + b + h_{t-1} U). The output has the
    features of the input, so that cells stack without anything between them.

    Args:
        input_size: D, the features of ``xs [T, *B, D]`` and of ``ys [T, *B, D]``.
        hidden_size: H, the features of the carry ``h [*B, H]``.
        forget_bias: added to b_p and b_q when they are drawn, so that x and h pass at the start.
        activations: ψ of the output and φ of the state, each as the ``activation`` of `vanilla`.
        input_init, recurrent_init, bias_init: `jaxrnn.initializers` for W, U and b, gate by gate.
        dtype: of the parameters, and so of inputs and outputs.
        carry_dtype: of h; that of the parameters unless given.

    Raises:
        ValueError: a size below 1, a bias that is not finite, an activation of unknown name.
        TypeError: an argument of the wrong type.

    Source: Collins, Sohl-Dickstein and Sussillo, "Capacity and Trainability in Recurrent Neural Networks"
    (2016).

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.intersection(3, 5)
        >>> params = cell.init(jax.random.key(0))
        >>> h, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((7, 2, 3)))
        >>> h.shape, ys.shape
        ((2, 5), (7, 2, 3))
    """
    widths = (hidden_size, hidden_size, input_size, input_size)
    start = (input_size, hidden_size, input_init, recurrent_init, bias_init, dtype, carry_dtype)
    drawn, zeros, affine = weights(IntersectionParams, "intersection", widths, *start)
    checks.number("forget_bias", forget_bias)
    if not isinstance(activations, tuple) or len(activations) != 2:
        raise TypeError(f"activations: expected a pair (of the output, of the state), got {activations!r}")
    psi, phi = (elementwise(each, f"activations[{index}]") for index, each in enumerate(activations))

    def split(x: Array) -> list[Array]:
        """Return the parts h', q, y', p of ``x [..., 2H + 2D]``."""
        return jnp.split(x, [hidden_size, 2 * hidden_size, 2 * hidden_size + input_size], axis=-1)

    def init(key: Array) -> IntersectionParams:
        params = drawn(key)
        h, q, y, p = split(params.bias)
        return params._replace(bias=jnp.concatenate([h, q + forget_bias, y, p + forget_bias]))

    def inputs(params: IntersectionParams, xs: Array, key: Array | None = None) -> Inputs:
        return Inputs(affine(params, xs, key), xs)

    def recur(params: IntersectionParams, h: Array) -> Array:
        return recurrent_product(h, params.recurrent)

    def update(h: Array, z: Inputs, a: Array) -> tuple[Array, Array]:
        a_h, a_q, a_y, a_p = split(z.affine.astype(a.dtype) + a)
        q, p = jax.nn.sigmoid(a_q), jax.nn.sigmoid(a_p)
        h = q * h + (1 - q) * phi(a_h)
        y = p * z.x.astype(p.dtype) + (1 - p) * psi(a_y)
        return h, y.astype(z.x.dtype)

    return split_cell(init, zeros, recur, update, inputs=inputs)
