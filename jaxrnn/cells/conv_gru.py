"""The convolutional GRU of Ballas et al. (2016): `gru` with convolutions in place of its products.

    [r_t, u_t] = σ(x_t * W_ru + b_ru + h_{t-1} * U_ru)
    after:   n_t = tanh(x_t * W_n + b_n + r_t ⊙ (h_{t-1} * U_n + b_q))
    before:  n_t = tanh(x_t * W_n + b_n + (r_t ⊙ h_{t-1}) * U_n)
    h_t = (1 - u_t) ⊙ n_t + u_t ⊙ h_{t-1}

Reset after is a `split_cell`. Reset before has a convolution after an elementwise part, and so a backward of its own;
with dh_t the whole cotangent of h_t, and *ᵀ the transpose of the convolution as a linear map of its image,

    dn = dh_t ⊙ (1-u_t) ⊙ (1-n_t²)
    du = dh_t ⊙ (h_{t-1} - n_t) ⊙ u_t(1-u_t)
    ds = dn *ᵀ U_n   (of s = r ⊙ h),   dr = ds ⊙ h_{t-1} ⊙ r_t(1-r_t)
    dh_{t-1} = dh_t ⊙ u_t + ds ⊙ r_t + [dr, du] *ᵀ U_ru
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn import initializers as init_with
from jaxrnn.cells.convolution import Convolution, across, convolutions
from jaxrnn.cells.gates import gates
from jaxrnn.cells.products import zero_carry
from jaxrnn.cells.split import split_cell
from jaxrnn.types import Adjoint, Array, Cell, recorded


class ConvGRUParams(NamedTuple):
    """Weights of `conv_gru`, gates r, u, n side by side, C hidden channels each.

    input: ``[*kernel_size, channels / groups, 3C]``.
    recurrent: ``[*recurrent_kernel_size, C / groups, 3C]``.
    bias: ``[3C]``.
    candidate_bias: b_q ``[C]``, inside the reset gate's product; None where the reset comes before.
    """

    input: Array
    recurrent: Array
    bias: Array
    candidate_bias: Array | None


class Parts(NamedTuple):
    """What belongs to both gates, ``ru [..., 2C]``, and to the candidate, ``n [..., C]``."""

    ru: Array
    n: Array


class Saved(NamedTuple):
    """What the backward step needs, reset before: both gates and the candidate, h_{t-1}, and ``s = r ⊙ h``."""

    ru: Array
    n: Array
    h: Array
    s: Array


@recorded
def conv_gru(
    input_shape: tuple[int, ...],
    hidden_channels: int,
    kernel_size: int | tuple[int, ...],
    *,
    reset_after: bool = True,
    padding: str = "same",
    strides: int | tuple[int, ...] = 1,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
    recurrent_kernel_size: int | tuple[int, ...] | None = None,
    input_init: init_with.Initializer = init_with.fan_in(),
    recurrent_init: init_with.Initializer = init_with.orthogonal(),
    bias_init: init_with.Initializer = init_with.zeros,
    dtype: Any = jnp.float32,
    carry_dtype: Any = None,
) -> Cell:
    """Return the convolutional GRU cell: h_t = (1 - u) ⊙ n + u ⊙ h_{t-1}, with y_t = h_t.

    The gates are [r, u] = σ(x_t * W_ru + b_ru + h_{t-1} * U_ru), and the candidate is
    n = tanh(x_t * W_n + b_n + r ⊙ (h_{t-1} * U_n + b_q)), or, with ``reset_after=False``,
    n = tanh(x_t * W_n + b_n + (r ⊙ h_{t-1}) * U_n), as in the paper, with * a convolution over 1, 2 or 3
    spatial axes.

    Args:
        input_shape: ``(*spatial, channels)`` of one step of ``xs [T, *B, *spatial, channels]``.
        hidden_channels: C, of the carry ``h [*B, *positions, C]`` and of ``ys [T, *B, *positions, C]``,
            with as many positions as padding and strides leave.
        kernel_size: of W, and of U unless given; an int, or one for each spatial axis.
        reset_after: whether the reset gate acts after the convolution with U_n or before it.
        padding: of x_t * W: "same", with ⌈spatial / strides⌉ positions, or "valid", without zeros around
            the image. That of the convolutions with U is "same".
        strides, dilation: of x_t * W; an int, or one for each spatial axis.
        groups: of all convolutions: hidden channels see the input and hidden channels of their own
            group alone, gate by gate.
        recurrent_kernel_size: of U.
        input_init, recurrent_init, bias_init: `jaxrnn.initializers` for W, U and both biases, gate by
            gate.
        dtype: of the parameters, and so of inputs and outputs.
        carry_dtype: of h; that of the parameters unless given.

    Raises:
        ValueError: a size below 1, sizes that do not fit together, an unknown padding.
        TypeError: an argument of the wrong type.

    Source: Ballas, Yao, Pal and Courville, "Delving Deeper into Convolutional Networks for Learning Video
    Representations" (2016).

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.conv_gru((4, 6, 1), 5, 3, padding="valid")
        >>> params = cell.init(jax.random.key(0))
        >>> cell.initial_carry(params, (2,)).shape, params.recurrent.shape
        ((2, 2, 4, 5), (3, 3, 5, 15))
    """
    geometry = padding, strides, dilation, groups, recurrent_kernel_size
    convolve = convolutions("conv_gru", 3, input_shape, hidden_channels, kernel_size, *geometry)
    checks.flag("reset_after", reset_after)
    checks.functions(input_init=input_init, recurrent_init=recurrent_init, bias_init=bias_init)
    checks.floating(dtype=dtype, carry_dtype=dtype if carry_dtype is None else carry_dtype)
    shapes = convolve.shapes | {"candidate_bias": (hidden_channels,) if reset_after else None}
    call = f"{convolve.call[:-1]}, reset_after={reset_after})"

    def init(key: Array) -> ConvGRUParams:
        checks.key("key", key)
        input_key, recurrent_key, bias_key, candidate_key = jax.random.split(key, 4)
        return ConvGRUParams(
            input=init_with.per_gate(input_init, 3)(input_key, convolve.shapes["input"], dtype),
            recurrent=init_with.per_gate(recurrent_init, 3)(recurrent_key, convolve.shapes["recurrent"], dtype),
            bias=init_with.per_gate(bias_init, 3)(bias_key, convolve.shapes["bias"], dtype),
            candidate_bias=bias_init(candidate_key, (hidden_channels,), dtype) if reset_after else None,
        )

    def initial_carry(params: ConvGRUParams, batch_shape: tuple[int, ...] = ()) -> Array:
        checks.parameters(params, ConvGRUParams, shapes, call)
        checks.batch(batch_shape)
        return zero_carry(convolve.carry_shape(batch_shape), params.recurrent.dtype, carry_dtype)

    def inputs(params: ConvGRUParams, xs: Array, key: Array | None = None) -> Parts:
        del key
        checks.parameters(params, ConvGRUParams, shapes, call)
        return _split(convolve.zs(params, xs))

    if reset_after:
        recur, update = _reset_after(convolve.recurrent)
        return split_cell(init, initial_carry, recur, update, inputs=inputs, feature_axes=convolve.feature_axes)
    step, adjoint = _reset_before(convolve.recurrent)
    return Cell(init, initial_carry, step, inputs, adjoint, convolve.feature_axes)


def _split(x: Array) -> Parts:
    """Return the parts ``[..., 2C]`` and ``[..., C]`` of ``x [..., 3C]``."""
    candidate_from = x.shape[-1] // 3 * 2
    return Parts(x[..., :candidate_from], x[..., candidate_from:])


def _reset_after(convolve: Convolution) -> tuple[Callable, Callable]:
    """Return ``recur`` and ``update`` of a `split_cell`."""
    squash = gates("ss", convolve.out_channels)

    def recur(params: ConvGRUParams, h: Array) -> Parts:
        assert params.candidate_bias is not None
        a = _split(convolve(h, params.recurrent))
        return Parts(a.ru, a.n + across(params.candidate_bias.astype(h.dtype), h.ndim))

    def update(h: Array, z: Parts, a: Parts) -> tuple[Array, Array]:
        r, u = jnp.split(squash(z.ru.astype(h.dtype) + a.ru), 2, axis=-1)
        n = jnp.tanh(z.n.astype(h.dtype) + r * a.n)
        h = (1 - u) * n + u * h
        return h, h.astype(z.n.dtype)

    return recur, update


def _reset_before(convolve: Convolution) -> tuple[Callable, Adjoint]:
    """Return the step and its adjoint."""
    squash = gates("ss", convolve.out_channels)

    def product(params: ConvGRUParams, operands: tuple[Array, Array]) -> Parts:
        kernel, (h, s) = kernels_of(params), operands
        return Parts(convolve(h, kernel.ru), convolve(s, kernel.n))

    def kernels_of(params: ConvGRUParams) -> Parts:
        return _split(params.recurrent)

    def forward(kernel: Parts, h_before: Array, z: Parts) -> tuple[Array, Array, tuple[Array, Array], Saved]:
        ru = squash(z.ru.astype(h_before.dtype) + convolve(h_before, kernel.ru))
        r, u = jnp.split(ru, 2, axis=-1)
        s = r * h_before
        n = jnp.tanh(z.n.astype(h_before.dtype) + convolve(s, kernel.n))
        h = (1 - u) * n + u * h_before
        return h, h.astype(z.n.dtype), (h_before, s), Saved(ru, n, h_before, s)

    def backward(kernel: Parts, saved: Saved, dh: Array, dy: Array) -> tuple[Array, Parts, Parts]:
        ru, n, h_before, s = saved
        r, u = jnp.split(ru, 2, axis=-1)
        dh = dh + dy.astype(dh.dtype)
        dn = dh * (1 - u) * (1 - n * n)
        du = dh * (h_before - n) * u * (1 - u)
        ds = convolve.transpose(s, kernel.n, dn)
        dr = ds * h_before * r * (1 - r)
        da = Parts(jnp.concatenate([dr, du], axis=-1), dn)
        return dh * u + ds * r + convolve.transpose(h_before, kernel.ru, da.ru), da, da

    def step(params: ConvGRUParams, h: Array, z: Parts) -> tuple[Array, Array]:
        h, y, _, _ = forward(kernels_of(params), h, z)
        return h, y

    return step, Adjoint(forward, kernels_of, backward, product, prepare=lambda params, carry: kernels_of(params))
