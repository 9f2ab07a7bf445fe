"""The convolutional vanilla network: `vanilla` with convolutions in place of its products.

    a_t = x_t * W + b + h_{t-1} * U
    h_t = φ(a_t)

Backward, with dh_t the whole cotangent of h_t, and *ᵀ the transpose of the convolution as a linear map of h:

    da_t     = dh_t ⊙ φ'(a_t)
    dh_{t-1} = da_t *ᵀ U
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn import initializers as init_with
from jaxrnn.cells.activations import resolve_activation
from jaxrnn.cells.convolution import convolutions
from jaxrnn.cells.products import zero_carry
from jaxrnn.types import Adjoint, Array, Cell, recorded


class ConvVanillaParams(NamedTuple):
    """Weights of `conv_vanilla`, with C hidden channels.

    input: ``[*kernel_size, channels / groups, C]``.
    recurrent: ``[*recurrent_kernel_size, C / groups, C]``.
    bias: ``[C]``.
    """

    input: Array
    recurrent: Array
    bias: Array


class Saved(NamedTuple):
    """What the backward step needs: what φ' is computed from, and h_{t-1}, whose shape *ᵀ takes."""

    kept: Array
    h_before: Array


@recorded
def conv_vanilla(
    input_shape: tuple[int, ...],
    hidden_channels: int,
    kernel_size: int | tuple[int, ...],
    *,
    padding: str = "same",
    strides: int | tuple[int, ...] = 1,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
    recurrent_kernel_size: int | tuple[int, ...] | None = None,
    activation: str | Callable | tuple[Callable, Callable] = "tanh",
    input_init: init_with.Initializer = init_with.fan_in(),
    recurrent_init: init_with.Initializer = init_with.orthogonal(),
    bias_init: init_with.Initializer = init_with.zeros,
    dtype: Any = jnp.float32,
    carry_dtype: Any = None,
) -> Cell:
    """Return the convolutional vanilla cell, h_t = φ(x_t * W + b + h_{t-1} * U), with y_t = h_t.

    Here * is a convolution over 1, 2 or 3 spatial axes.

    Args:
        input_shape: ``(*spatial, channels)`` of one step of ``xs [T, *B, *spatial, channels]``.
        hidden_channels: C, of the carry ``h [*B, *positions, C]`` and of ``ys [T, *B, *positions, C]``,
            with as many positions as padding and strides leave.
        kernel_size: of W, and of U unless given; an int, or one for each spatial axis.
        padding: of x_t * W: "same", with ⌈spatial / strides⌉ positions, or "valid", without zeros around
            the image. That of h_{t-1} * U is "same".
        strides, dilation: of x_t * W; an int, or one for each spatial axis.
        groups: of both convolutions: hidden channels see the input and hidden channels of their own
            group alone.
        recurrent_kernel_size: of U.
        activation: φ, as in `vanilla`.
        input_init, recurrent_init, bias_init: `jaxrnn.initializers` for W, U and b.
        dtype: of the parameters, and so of inputs and outputs.
        carry_dtype: of h; that of the parameters unless given.

    Raises:
        ValueError: a size below 1, sizes that do not fit together, an unknown padding or activation.
        TypeError: an argument of the wrong type.

    Source: Elman, "Finding Structure in Time" (1990); Shi et al., "Convolutional LSTM Network" (2015), for
    convolutions in place of products.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.conv_vanilla((8, 1), 5, 3, strides=2)
        >>> params = cell.init(jax.random.key(0))
        >>> cell.initial_carry(params, (2,)).shape, params.input.shape
        ((2, 4, 5), (3, 1, 5))
    """
    geometry = padding, strides, dilation, groups, recurrent_kernel_size
    convolve = convolutions("conv_vanilla", 1, input_shape, hidden_channels, kernel_size, *geometry)
    checks.functions(input_init=input_init, recurrent_init=recurrent_init, bias_init=bias_init)
    checks.floating(dtype=dtype, carry_dtype=dtype if carry_dtype is None else carry_dtype)
    phi = resolve_activation(activation)
    shapes = convolve.shapes

    def init(key: Array) -> ConvVanillaParams:
        checks.key("key", key)
        input_key, recurrent_key, bias_key = jax.random.split(key, 3)
        return ConvVanillaParams(
            input=input_init(input_key, shapes["input"], dtype),
            recurrent=recurrent_init(recurrent_key, shapes["recurrent"], dtype),
            bias=bias_init(bias_key, shapes["bias"], dtype),
        )

    def initial_carry(params: ConvVanillaParams, batch_shape: tuple[int, ...] = ()) -> Array:
        checks.parameters(params, ConvVanillaParams, shapes, convolve.call)
        checks.batch(batch_shape)
        return zero_carry(convolve.carry_shape(batch_shape), params.recurrent.dtype, carry_dtype)

    def inputs(params: ConvVanillaParams, xs: Array, key: Array | None = None) -> Array:
        del key
        checks.parameters(params, ConvVanillaParams, shapes, convolve.call)
        return convolve.zs(params, xs)

    def product(params: ConvVanillaParams, h: Array) -> Array:
        return convolve.recurrent(h, params.recurrent)

    def forward(params: ConvVanillaParams, h_before: Array, z: Array) -> tuple[Array, Array, Array, Saved]:
        a = z.astype(h_before.dtype) + product(params, h_before)
        h = phi.function(a)
        return h, h.astype(z.dtype), h_before, Saved(phi.keep(a, h), h_before)

    def backward(params: ConvVanillaParams, saved: Saved, dh: Array, dy: Array) -> tuple[Array, Array, Array]:
        da = (dh + dy.astype(dh.dtype)) * phi.slope(saved.kept)
        return convolve.recurrent.transpose(saved.h_before, params.recurrent, da), da, da

    def step(params: ConvVanillaParams, h: Array, z: Array) -> tuple[Array, Array]:
        h, y, _, _ = forward(params, h, z)
        return h, y

    # Not a split_cell, whose backward would differentiate φ: a pair brings its own derivative.
    adjoint = Adjoint(forward, lambda params: params, backward, product)
    return Cell(init, initial_carry, step, inputs, adjoint, convolve.feature_axes)
