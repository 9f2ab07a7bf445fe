"""The gated recurrent unit of Cho et al. (2014), with the reset gate after or before the product.

The update gate is u here (z in most texts), since z is what `Cell.inputs` gives.

    [r_t, u_t] = σ(x_t W_ru + b_ru + h_{t-1} U_ru)
    after:   q_t = h_{t-1} U_n + b_q
             n_t = tanh(x_t W_n + b_n + r_t ⊙ q_t)
    before:  n_t = tanh(x_t W_n + b_n + (r_t ⊙ h_{t-1}) U_n)
    h_t = (1 - u_t) ⊙ n_t + u_t ⊙ h_{t-1}

Backward, with dh_t the whole cotangent of h_t, and dr, du, dn those of the pre-activations:

    dn = dh_t ⊙ (1-u_t) ⊙ (1-n_t²)
    du = dh_t ⊙ (h_{t-1} - n_t) ⊙ u_t(1-u_t)
    after:   dr = dn ⊙ q_t ⊙ r_t(1-r_t),   dq = dn ⊙ r_t
             dh_{t-1} = dh_t ⊙ u_t + [dr, du, dq] Uᵀ
    before:  ds = dn U_nᵀ   (of s = r ⊙ h),   dr = ds ⊙ h_{t-1} ⊙ r_t(1-r_t)
             dh_{t-1} = dh_t ⊙ u_t + ds ⊙ r_t + [dr, du] U_ruᵀ
    dz = [dr, du, dn];   dW = Σ x_tᵀ dz,   db = Σ dz,   dx_t = dz Wᵀ
    after:   dU = Σ h_{t-1}ᵀ [dr, du, dq],   db_q = Σ dq
    before:  dU = Σ [h_{t-1}ᵀ dr, h_{t-1}ᵀ du, (r_t ⊙ h_{t-1})ᵀ dn]
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn import initializers as init_with
from jaxrnn.cells.gates import gates
from jaxrnn.cells.products import (
    affine,
    affine_gradients,
    bias_gradient,
    recurrent_product,
    weight_gradient,
    zero_carry,
)
from jaxrnn.types import Adjoint, Array, Cell


class GRUParams(NamedTuple):
    """Weights of `gru`, gates r, u, n side by side: ``input [D, 3H]``, ``recurrent [H, 3H]``, ``bias [3H]``.

    candidate_bias: b_q ``[H]``, inside the reset gate's product; None where the reset comes before.
    """

    input: Array
    recurrent: Array
    bias: Array
    candidate_bias: Array | None


class SavedAfter(NamedTuple):
    """The factors of dh in the backward step, reset after: da = [dh, dh, dh] ⊙ gates, dn = dh ⊙ candidate."""

    gates: Array
    candidate: Array
    update: Array


class SavedBefore(NamedTuple):
    """The factors in the backward step, reset before: [du, dn] = [dh, dh] ⊙ gates, dr = ds ⊙ reset_slope."""

    gates: Array
    reset_slope: Array
    reset: Array
    update: Array


def gru(
    input_size: int,
    hidden_size: int,
    *,
    reset_after: bool = True,
    input_init: init_with.Initializer = init_with.fan_in(),
    recurrent_init: init_with.Initializer = init_with.orthogonal(),
    bias_init: init_with.Initializer = init_with.zeros,
    dtype: Any = jnp.float32,
    carry_dtype: Any = None,
) -> Cell:
    """Return the GRU cell: h_t = (1 - u) ⊙ n + u ⊙ h_{t-1}, with y_t = h_t.

    The gates are [r, u] = σ(x_t W_ru + b_ru + h_{t-1} U_ru), and the candidate is
    n = tanh(x_t W_n + b_n + r ⊙ (h_{t-1} U_n + b_q)), as in cuDNN and torch, or, with
    ``reset_after=False``, n = tanh(x_t W_n + b_n + (r ⊙ h_{t-1}) U_n), as in the original.

    Args:
        input_size: D, the features of ``xs [T, *B, D]``.
        hidden_size: H, the features of the carry ``h [*B, H]`` and of ``ys [T, *B, H]``.
        reset_after: whether the reset gate acts after the product with U_n or before it. Published
            weights use both; the two are different networks.
        input_init, recurrent_init, bias_init: `jaxrnn.initializers` for W, U and both biases, gate by
            gate.
        dtype: of the parameters, and so of inputs and outputs.
        carry_dtype: of h; that of the parameters unless given.

    Raises:
        ValueError: a size below 1.
        TypeError: an argument of the wrong type.

    Source: Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder" (2014).

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.gru(3, 5)
        >>> params = cell.init(jax.random.key(0))
        >>> h, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((7, 2, 3)))
        >>> h.shape, ys.shape
        ((2, 5), (7, 2, 5))
    """
    checks.size("input_size", input_size)
    checks.size("hidden_size", hidden_size)
    checks.flag("reset_after", reset_after)
    checks.functions(input_init=input_init, recurrent_init=recurrent_init, bias_init=bias_init)
    checks.floating(dtype=dtype, carry_dtype=dtype if carry_dtype is None else carry_dtype)
    shapes = {
        "input": (input_size, 3 * hidden_size),
        "recurrent": (hidden_size, 3 * hidden_size),
        "bias": (3 * hidden_size,),
        "candidate_bias": (hidden_size,) if reset_after else None,
    }
    call = f"gru({input_size}, {hidden_size}, reset_after={reset_after})"

    def init(key: Array) -> GRUParams:
        checks.key("key", key)
        input_key, recurrent_key, bias_key, candidate_key = jax.random.split(key, 4)
        return GRUParams(
            input=init_with.per_gate(input_init, 3)(input_key, shapes["input"], dtype),
            recurrent=init_with.per_gate(recurrent_init, 3)(recurrent_key, shapes["recurrent"], dtype),
            bias=init_with.per_gate(bias_init, 3)(bias_key, shapes["bias"], dtype),
            candidate_bias=bias_init(candidate_key, (hidden_size,), dtype) if reset_after else None,
        )

    def initial_carry(params: GRUParams, batch_shape: tuple[int, ...] = ()) -> Array:
        checks.parameters(params, GRUParams, shapes, call)
        checks.batch(batch_shape)
        return zero_carry((*batch_shape, hidden_size), params.recurrent.dtype, carry_dtype)

    def inputs(params: GRUParams, xs: Array, key: Array | None = None) -> Array:
        del key
        checks.parameters(params, GRUParams, shapes, call)
        checks.features("xs", xs, input_size, params.input.dtype, call)
        return affine(xs, params.input, params.bias)

    forward, adjoint = _reset_after(hidden_size) if reset_after else _reset_before(hidden_size)

    def step(params: GRUParams, h: Array, z: Array) -> tuple[Array, Array]:
        h, y, _, _ = forward(params, h, z)
        return h, y

    return Cell(init, initial_carry, step, inputs, adjoint)


def _reset_after(hidden_size: int) -> tuple[Callable, Adjoint]:
    """Return the step and the adjoint of the GRU of cuDNN and torch."""
    candidate_from = 2 * hidden_size
    squash = gates("ss", hidden_size)

    def product(params: GRUParams, h: Array) -> Array:
        assert params.candidate_bias is not None
        bias = jnp.concatenate([jnp.zeros_like(params.bias[:candidate_from]), params.candidate_bias])
        a = recurrent_product(h, params.recurrent)
        return a + bias.astype(a.dtype).reshape((1,) * (a.ndim - 1) + bias.shape)

    def forward(params: GRUParams, h_before: Array, z: Array) -> tuple[Array, Array, Array, SavedAfter]:
        z_ru, z_n = z.astype(h_before.dtype)[..., :candidate_from], z.astype(h_before.dtype)[..., candidate_from:]
        a = product(params, h_before)
        a_ru, q = a[..., :candidate_from], a[..., candidate_from:]
        r, u = jnp.split(squash(z_ru + a_ru), 2, axis=-1)
        n = jnp.tanh(z_n + r * q)
        h = (1 - u) * n + u * h_before
        candidate = (1 - u) * (1 - n * n)
        factors = [candidate * q * r * (1 - r), (h_before - n) * u * (1 - u), candidate * r]
        return h, h.astype(z.dtype), h_before, SavedAfter(jnp.concatenate(factors, axis=-1), candidate, u)

    def backward(transposed: Array, saved: SavedAfter, dh: Array, dy: Array) -> tuple[Array, Array, Array]:
        dh = dh + dy.astype(dh.dtype)
        da = jnp.concatenate([dh, dh, dh], axis=-1) * saved.gates
        dz = jnp.concatenate([da[..., :candidate_from], dh * saved.candidate], axis=-1)
        return dh * saved.update + recurrent_product(da, transposed), dz, da

    def gradients(params: GRUParams, xs: Array, hs_before: Array, dzs: Array, das: Array) -> tuple[GRUParams, Array]:
        dinput, dbias, dxs = affine_gradients(xs, params.input, dzs)
        dcandidate_bias = bias_gradient(das[..., candidate_from:])
        return GRUParams(dinput, weight_gradient(hs_before, das), dbias, dcandidate_bias), dxs

    return forward, Adjoint(forward, lambda params: params.recurrent.T, backward, product, gradients)


def _reset_before(hidden_size: int) -> tuple[Callable, Adjoint]:
    """Return the step and the adjoint of the original GRU."""
    candidate_from = 2 * hidden_size
    squash = gates("ss", hidden_size)

    def product(params: GRUParams, operands: tuple[Array, Array]) -> Array:
        h, s = operands
        ru = recurrent_product(h, params.recurrent[:, :candidate_from])
        return jnp.concatenate([ru, recurrent_product(s, params.recurrent[:, candidate_from:])], axis=-1)

    def forward(params: GRUParams, h_before: Array, z: Array) -> tuple[Array, Array, tuple[Array, Array], SavedBefore]:
        z_ru, z_n = z.astype(h_before.dtype)[..., :candidate_from], z.astype(h_before.dtype)[..., candidate_from:]
        ru = squash(z_ru + recurrent_product(h_before, params.recurrent[:, :candidate_from]))
        r, u = jnp.split(ru, 2, axis=-1)
        s = r * h_before
        n = jnp.tanh(z_n + recurrent_product(s, params.recurrent[:, candidate_from:]))
        h = (1 - u) * n + u * h_before
        factors = jnp.concatenate([(h_before - n) * u * (1 - u), (1 - u) * (1 - n * n)], axis=-1)
        return h, h.astype(z.dtype), (h_before, s), SavedBefore(factors, h_before * r * (1 - r), r, u)

    def transpose(params: GRUParams) -> tuple[Array, Array]:
        return params.recurrent[:, :candidate_from].T, params.recurrent[:, candidate_from:].T

    def backward(
        transposed: tuple[Array, Array], saved: SavedBefore, dh: Array, dy: Array
    ) -> tuple[Array, Array, Array]:
        gates_transposed, candidate_transposed = transposed
        dh = dh + dy.astype(dh.dtype)
        du, dn = jnp.split(jnp.concatenate([dh, dh], axis=-1) * saved.gates, 2, axis=-1)
        ds = recurrent_product(dn, candidate_transposed)
        dr = ds * saved.reset_slope
        through_gates = recurrent_product(jnp.concatenate([dr, du], axis=-1), gates_transposed)
        da = jnp.concatenate([dr, du, dn], axis=-1)
        return dh * saved.update + ds * saved.reset + through_gates, da, da

    def gradients(
        params: GRUParams, xs: Array, operands: tuple[Array, Array], dzs: Array, das: Array
    ) -> tuple[GRUParams, Array]:
        hs_before, ss = operands
        dinput, dbias, dxs = affine_gradients(xs, params.input, dzs)
        dgates = weight_gradient(hs_before, das[..., :candidate_from])
        dcandidate = weight_gradient(ss, das[..., candidate_from:])
        return GRUParams(dinput, jnp.concatenate([dgates, dcandidate], axis=-1), dbias, None), dxs

    return forward, Adjoint(forward, transpose, backward, product, gradients)
