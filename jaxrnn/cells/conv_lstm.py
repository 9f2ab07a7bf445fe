"""The convolutional LSTM of Shi et al. (2015): `lstm` with convolutions in place of its products.

φ, χ and ψ may be any elementwise functions, the logistic function and tanh twice unless given.

[i_t, f_t, g_t, o_t] = [φ, φ, χ, φ](x_t * W + b + h_{t-1} * U)
c_t = f_t ⊙ c_{t-1} + i_t ⊙ g_t
h_t = o_t ⊙ ψ(c_t)
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn import initializers as init_with
from jaxrnn.cells.activations import elementwise
from jaxrnn.cells.convolution import convolutions
from jaxrnn.cells.gates import gates, raised
from jaxrnn.cells.lstm import LSTMCarry
from jaxrnn.cells.products import zero_carry
from jaxrnn.cells.split import split_cell
from jaxrnn.types import Array, Cell, recorded


class ConvLSTMParams(NamedTuple):
    """Weights of `conv_lstm`, gates i, f, g, o side by side, C hidden channels each.

    input: ``[*kernel_size, channels / groups, 4C]``.
    recurrent: ``[*recurrent_kernel_size, C / groups, 4C]``.
    bias: ``[4C]``.
    """

    input: Array
    recurrent: Array
    bias: Array


@recorded
def conv_lstm(
    input_shape: tuple[int, ...],
    hidden_channels: int,
    kernel_size: int | tuple[int, ...],
    *,
    padding: str = "same",
    strides: int | tuple[int, ...] = 1,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
    recurrent_kernel_size: int | tuple[int, ...] | None = None,
    activations: tuple[Any, Any, Any] = ("sigmoid", "tanh", "tanh"),
    forget_bias: float = 1.0,
    input_init: init_with.Initializer = init_with.fan_in(),
    recurrent_init: init_with.Initializer = init_with.orthogonal(),
    bias_init: init_with.Initializer = init_with.zeros,
    dtype: Any = jnp.float32,
    carry_dtype: Any = None,
) -> Cell:
    """Return the convolutional LSTM cell: c_t = f ⊙ c_{t-1} + i ⊙ g and h_t = o ⊙ ψ(c_t), with y_t = h_t.

    The gates are [i, f, g, o] = [φ, φ, χ, φ](x_t * W + b + h_{t-1} * U), with * a convolution over
    1, 2 or 3 spatial axes. Without the paper's peepholes, as in Keras.

    Args:
        input_shape: ``(*spatial, channels)`` of one step of ``xs [T, *B, *spatial, channels]``.
        hidden_channels: C; the carry is ``LSTMCarry`` of h and c ``[*B, *positions, C]``, and
            ``ys [T, *B, *positions, C]``, with as many positions as padding and strides leave.
        kernel_size: of W, and of U unless given; an int, or one for each spatial axis.
        padding: of x_t * W: "same", with ⌈spatial / strides⌉ positions, or "valid", without zeros around
            the image. That of h_{t-1} * U is "same".
        strides, dilation: of x_t * W; an int, or one for each spatial axis.
        groups: of both convolutions: hidden channels see the input and hidden channels of their own
            group alone, gate by gate.
        recurrent_kernel_size: of U.
        activations: (φ, χ, ψ), of the gates, the candidate and the output, each as the ``activation`` of `vanilla`.
        forget_bias: added to the forget gate's part of the bias when it is drawn.
        input_init, recurrent_init, bias_init: `jaxrnn.initializers` for W, U and b, gate by gate.
        dtype: of the parameters, and so of inputs and outputs.
        carry_dtype: of h and c; that of the parameters unless given.

    Raises:
        ValueError: a size below 1, sizes that do not fit together, an unknown padding or activation.
        TypeError: an argument of the wrong type.

    Source: Shi et al., "Convolutional LSTM Network: A Machine Learning Approach for Precipitation
    Nowcasting" (2015).

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.conv_lstm((4, 6, 1), 5, 3)
        >>> params = cell.init(jax.random.key(0))
        >>> h, c = cell.initial_carry(params, (2,))
        >>> h.shape, params.recurrent.shape
        ((2, 4, 6, 5), (3, 3, 5, 20))
    """
    geometry = padding, strides, dilation, groups, recurrent_kernel_size
    convolve = convolutions("conv_lstm", 4, input_shape, hidden_channels, kernel_size, *geometry)
    squash, psi = _resolve(activations, hidden_channels)
    checks.number("forget_bias", forget_bias)
    checks.functions(input_init=input_init, recurrent_init=recurrent_init, bias_init=bias_init)
    checks.floating(dtype=dtype, carry_dtype=dtype if carry_dtype is None else carry_dtype)
    shapes = convolve.shapes

    def init(key: Array) -> ConvLSTMParams:
        checks.key("key", key)
        input_key, recurrent_key, bias_key = jax.random.split(key, 3)
        bias = init_with.per_gate(bias_init, 4)(bias_key, shapes["bias"], dtype)
        return ConvLSTMParams(
            input=init_with.per_gate(input_init, 4)(input_key, shapes["input"], dtype),
            recurrent=init_with.per_gate(recurrent_init, 4)(recurrent_key, shapes["recurrent"], dtype),
            bias=raised(bias, slice(hidden_channels, 2 * hidden_channels), forget_bias),
        )

    def initial_carry(params: ConvLSTMParams, batch_shape: tuple[int, ...] = ()) -> LSTMCarry:
        checks.parameters(params, ConvLSTMParams, shapes, convolve.call)
        checks.batch(batch_shape)
        shape = convolve.carry_shape(batch_shape)
        # Two arrays, not one twice: a compiled step may be given their memory to reuse.
        h, c = (zero_carry(shape, params.recurrent.dtype, carry_dtype) for _ in range(2))
        return LSTMCarry(h, c)

    def inputs(params: ConvLSTMParams, xs: Array, key: Array | None = None) -> Array:
        del key
        checks.parameters(params, ConvLSTMParams, shapes, convolve.call)
        return convolve.zs(params, xs)

    def recur(params: ConvLSTMParams, carry: LSTMCarry) -> Array:
        return convolve.recurrent(carry.h, params.recurrent)

    def update(carry: LSTMCarry, z: Array, a: Array) -> tuple[LSTMCarry, Array]:
        i, f, g, o = jnp.split(squash(z.astype(a.dtype) + a), 4, axis=-1)
        c = f * carry.c + i * g
        h = o * psi(c)
        return LSTMCarry(h, c), h.astype(z.dtype)

    return split_cell(init, initial_carry, recur, update, inputs=inputs, feature_axes=convolve.feature_axes)


def _resolve(activations: Any, hidden_channels: int) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """Return φ and χ of all gates, side by side, and ψ of the output."""
    if not isinstance(activations, (tuple, list)) or len(activations) != 3:
        raise TypeError(f"activations: expected three, of the gates, the candidate and the output, got {activations!r}")
    phi, chi, psi = (elementwise(one, f"activations[{n}]") for n, one in enumerate(activations))
    if tuple(activations[:2]) == ("sigmoid", "tanh"):
        return gates("ssts", hidden_channels), psi

    def squash(a: Array) -> Array:
        i, f, g, o = jnp.split(a, 4, axis=-1)
        return jnp.concatenate([phi(i), phi(f), chi(g), phi(o)], axis=-1)

    return squash, psi
