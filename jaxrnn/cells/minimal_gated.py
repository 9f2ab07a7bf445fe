"""The minimal gated unit of Zhou et al. (2016): one gate that both forgets and resets.

    f_t = σ(x_t W_f + b_f + h_{t-1} U_f)
    n_t = tanh(x_t W_n + b_n + (f_t ⊙ h_{t-1}) U_n)
    h_t = (1 - f_t) ⊙ h_{t-1} + f_t ⊙ n_t

Backward, with dh_t the whole cotangent of h_t, df and dn those of the pre-activations, ds that of s = f ⊙ h:

    dn = dh_t ⊙ f_t ⊙ (1-n_t²)
    ds = dn U_nᵀ
    df = (dh_t ⊙ (n_t - h_{t-1}) + ds ⊙ h_{t-1}) ⊙ f_t(1-f_t)
    dh_{t-1} = dh_t ⊙ (1-f_t) + ds ⊙ f_t + df U_fᵀ
    dz = [df, dn];   dW = Σ x_tᵀ dz,   db = Σ dz,   dx_t = dz Wᵀ
    dU = Σ [h_{t-1}ᵀ df, (f_t ⊙ h_{t-1})ᵀ dn]
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import initializers as init_with
from jaxrnn.cells.products import affine_gradients, recurrent_product, weight_gradient
from jaxrnn.cells.weights import weights
from jaxrnn.types import Adjoint, Array, Cell, recorded


class MinimalGatedParams(NamedTuple):
    """Weights of `minimal_gated`, f and n side by side: ``input [D, 2H]``, ``recurrent [H, 2H]``, ``bias [2H]``."""

    input: Array
    recurrent: Array
    bias: Array


class Saved(NamedTuple):
    """What the backward step needs: [f, n] ``[*B, 2H]`` and h_{t-1} ``[*B, H]``."""

    fn: Array
    h: Array


@recorded
def minimal_gated(
    input_size: int,
    hidden_size: int,
    *,
    input_init: init_with.Initializer = init_with.fan_in(),
    recurrent_init: init_with.Initializer = init_with.orthogonal(),
    bias_init: init_with.Initializer = init_with.zeros,
    dtype: Any = jnp.float32,
    carry_dtype: Any = None,
) -> Cell:
    """Return the minimal gated unit, h_t = (1 - f) ⊙ h_{t-1} + f ⊙ n, with y_t = h_t.

    Its gate is f = σ(x_t W_f + b_f + h_{t-1} U_f), its candidate n = tanh(x_t W_n + b_n + (f ⊙ h_{t-1}) U_n):
    two thirds of the weights of a GRU.

    Args:
        input_size: D, the features of ``xs [T, *B, D]``.
        hidden_size: H, the features of the carry ``h [*B, H]`` and of ``ys [T, *B, H]``.
        input_init, recurrent_init, bias_init: `jaxrnn.initializers` for W, U and b, f and n apart.
        dtype: of the parameters, and so of inputs and outputs.
        carry_dtype: of h; that of the parameters unless given.

    Raises:
        ValueError: a size below 1.
        TypeError: an argument of the wrong type.

    Source: Zhou, Wu, Zhang and Zhou, "Minimal Gated Unit for Recurrent Neural Networks" (2016).

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.minimal_gated(3, 5)
        >>> params = cell.init(jax.random.key(0))
        >>> h, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((7, 2, 3)))
        >>> h.shape, ys.shape
        ((2, 5), (7, 2, 5))
    """
    start = (input_size, hidden_size, input_init, recurrent_init, bias_init, dtype, carry_dtype)
    init, zeros, inputs = weights(MinimalGatedParams, "minimal_gated", (hidden_size, hidden_size), *start)

    def step(params: MinimalGatedParams, h: Array, z: Array) -> tuple[Array, Array]:
        h, y, _, _ = forward(kernels_of(params), h, z)
        return h, y

    def kernels_of(params: MinimalGatedParams) -> tuple[Array, Array]:
        return _halves(params.recurrent)

    def forward(
        kernels: tuple[Array, Array], h_before: Array, z: Array
    ) -> tuple[Array, Array, tuple[Array, Array], Saved]:
        (z_f, z_n), (kernel_f, kernel_n) = _halves(z.astype(h_before.dtype)), kernels
        f = jax.nn.sigmoid(z_f + recurrent_product(h_before, kernel_f))
        s = f * h_before
        n = jnp.tanh(z_n + recurrent_product(s, kernel_n))
        h = (1 - f) * h_before + f * n
        return h, h.astype(z.dtype), (h_before, s), Saved(_beside(f, n), h_before)

    def transpose(params: MinimalGatedParams) -> tuple[Array, Array]:
        kernel_f, kernel_n = kernels_of(params)
        return kernel_f.T, kernel_n.T

    def backward(transposed: tuple[Array, Array], saved: Saved, dh: Array, dy: Array) -> tuple[Array, Array, Array]:
        (transposed_f, transposed_n), (f, n) = transposed, _halves(saved.fn)
        dh = dh + dy.astype(dh.dtype)
        dn = dh * f * (1 - n * n)
        ds = recurrent_product(dn, transposed_n)
        df = (dh * (n - saved.h) + ds * saved.h) * f * (1 - f)
        da = _beside(df, dn)
        return dh * (1 - f) + ds * f + recurrent_product(df, transposed_f), da, da

    def product(params: MinimalGatedParams, operands: tuple[Array, Array]) -> Array:
        (kernel_f, kernel_n), (h, s) = kernels_of(params), operands
        return _beside(recurrent_product(h, kernel_f), recurrent_product(s, kernel_n))

    def gradients(
        params: MinimalGatedParams, xs: Array, operands: tuple[Array, Array], dzs: Array, das: Array
    ) -> tuple[MinimalGatedParams, Array]:
        (hs_before, ss), (dfs, dns) = operands, _halves(das)
        dinput, dbias, dxs = affine_gradients(xs, params.input, dzs)
        drecurrent = _beside(weight_gradient(hs_before, dfs), weight_gradient(ss, dns))
        return MinimalGatedParams(dinput, drecurrent, dbias), dxs

    return Cell(
        init,
        zeros,
        step,
        inputs,
        Adjoint(forward, transpose, backward, product, gradients, prepare=lambda params, carry: kernels_of(params)),
    )


def _halves(x: Array) -> tuple[Array, Array]:
    first, second = jnp.split(x, 2, axis=-1)
    return first, second


def _beside(*parts: Array) -> Array:
    return jnp.concatenate(parts, axis=-1)
