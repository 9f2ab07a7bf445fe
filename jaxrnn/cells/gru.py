"""The gated recurrent unit of Cho et al. (2014), with the reset gate after or before the product.

The update gate is u here (z in most texts), since z is what `Cell.inputs` gives; σ and φ may be any
elementwise functions, the logistic function and tanh unless given.

    [r_t, u_t] = σ(x_t W_ru + b_ru + h_{t-1} U_ru)
    after:   q_t = h_{t-1} U_n + b_q
             n_t = φ(x_t W_n + b_n + r_t ⊙ q_t)
    before:  n_t = φ(x_t W_n + b_n + (r_t ⊙ h_{t-1}) U_n)
    h_t = (1 - u_t) ⊙ n_t + u_t ⊙ h_{t-1}

Backward, with dh_t the whole cotangent of h_t, dr, du, dn those of the pre-activations, and r', u', n' the
derivatives of σ and φ there (r_t(1-r_t), u_t(1-u_t) and 1-n_t² unless given):

    dn = dh_t ⊙ (1-u_t) ⊙ n'_t
    du = dh_t ⊙ (h_{t-1} - n_t) ⊙ u'_t
    after:   dr = dn ⊙ q_t ⊙ r'_t,   dq = dn ⊙ r_t
             dh_{t-1} = dh_t ⊙ u_t + [dr, du, dq] Uᵀ
    before:  ds = dn U_nᵀ   (of s = r ⊙ h),   dr = ds ⊙ h_{t-1} ⊙ r'_t
             dh_{t-1} = dh_t ⊙ u_t + ds ⊙ r_t + [dr, du] U_ruᵀ
    dz = [dr, du, dn];   dW = Σ x_tᵀ dz,   db = Σ dz,   dx_t = dz Wᵀ
    after:   dU = Σ h_{t-1}ᵀ [dr, du, dq],   db_q = Σ dq
    before:  dU = Σ [h_{t-1}ᵀ dr, h_{t-1}ᵀ du, (r_t ⊙ h_{t-1})ᵀ dn]
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn import initializers as init_with
from jaxrnn.cells.activations import Activation, of_output, resolve_activation
from jaxrnn.cells.gates import gates
from jaxrnn.cells.products import (
    affine,
    affine_gradients,
    bias_gradient,
    biased,
    recurrent_product,
    weight_gradient,
    zero_carry,
)
from jaxrnn.types import Adjoint, Array, Cell, Split, recorded


class GRUParams(NamedTuple):
    """Weights of `gru`, gates r, u, n side by side: ``input [D, 3H]``, ``recurrent [H, 3H]``, ``bias [3H]``.

    candidate_bias: b_q ``[H]``, inside the reset gate's product; None where the reset comes before.
    """

    input: Array
    recurrent: Array
    bias: Array
    candidate_bias: Array | None


class Parts(NamedTuple):
    """What belongs to both gates and to the candidate: of z, of a = h U, and of their cotangents.

    ru: ``[..., 2H]``, the reset and the update gate.
    n: ``[..., H]``, the candidate.
    """

    ru: Array
    n: Array


class Saved(NamedTuple):
    """What the backward step needs of a step.

    ru, n: both gates ``[*B, 2H]`` and the candidate ``[*B, H]``.
    h_before: ``[*B, H]``.
    q: h_{t-1} U_n + b_q ``[*B, H]``; None with the reset before.
    for_ru, for_n: what σ' and φ' are computed from; None where ru and n will do.
    """

    ru: Array
    n: Array
    h_before: Array
    q: Any
    for_ru: Array | None
    for_n: Array | None


@recorded
def gru(
    input_size: int,
    hidden_size: int,
    *,
    reset_after: bool = True,
    activations: tuple[Any, Any] = ("sigmoid", "tanh"),
    input_init: init_with.Initializer = init_with.fan_in(),
    recurrent_init: init_with.Initializer = init_with.orthogonal(),
    bias_init: init_with.Initializer = init_with.zeros,
    dtype: Any = jnp.float32,
    carry_dtype: Any = None,
) -> Cell:
    """Return the GRU cell: h_t = (1 - u) ⊙ n + u ⊙ h_{t-1}, with y_t = h_t.

    The gates are [r, u] = σ(x_t W_ru + b_ru + h_{t-1} U_ru), and the candidate is
    n = φ(x_t W_n + b_n + r ⊙ (h_{t-1} U_n + b_q)), as in cuDNN and torch, or, with
    ``reset_after=False``, n = φ(x_t W_n + b_n + (r ⊙ h_{t-1}) U_n), as in the original.

    Args:
        input_size: D, the features of ``xs [T, *B, D]``.
        hidden_size: H, the features of the carry ``h [*B, H]`` and of ``ys [T, *B, H]``.
        reset_after: whether the reset gate acts after the product with U_n or before it. Published
            weights use both; the two are different networks.
        activations: σ of the gates and φ of the candidate, each as the ``activation`` of `vanilla`. One
            that clips first, such as ``lambda a: jnp.tanh(jnp.clip(a, -3, 3))``, is the ``clip`` of ONNX.
        input_init, recurrent_init, bias_init: `jaxrnn.initializers` for W, U and both biases, gate by
            gate.
        dtype: of the parameters, and so of inputs and outputs.
        carry_dtype: of h; that of the parameters unless given.

    Raises:
        ValueError: a size below 1, an activation of unknown name.
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
    sigma, phi = _resolve(activations, hidden_size)
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

    def inputs(params: GRUParams, xs: Array, key: Array | None = None) -> Parts:
        del key
        checks.parameters(params, GRUParams, shapes, call)
        checks.features("xs", xs, input_size, params.input.dtype, call)
        # A part is a copy: of the weights for a sequence, of the products for a step.
        if not checks.symbolic(xs.size) and xs.size <= input_size**2:
            z = _split(affine(xs, params.input))
        else:
            kernel = _split(params.input)
            z = Parts(affine(xs, kernel.ru), affine(xs, kernel.n))
        return z._replace(n=biased(z.n, _split(params.bias).n))

    adjoint, split = _reset_after(sigma, phi) if reset_after else (_reset_before(sigma, phi), None)

    def step(params: GRUParams, h: Array, z: Parts) -> tuple[Array, Array]:
        h, y, _, _ = adjoint.forward(adjoint.prepare(params, h), h, z)
        return h, y

    return Cell(init, initial_carry, step, inputs, adjoint, split=split)


def _resolve(activations: Any, hidden_size: int) -> tuple[Activation, Activation]:
    """Return σ of both gates, side by side, and φ of the candidate."""
    if not isinstance(activations, tuple) or len(activations) != 2:
        raise TypeError(f"activations: expected a pair (of the gates, of the candidate), got {activations!r}")
    sigma, phi = (resolve_activation(each, f"activations[{index}]") for index, each in enumerate(activations))
    if activations[0] == "sigmoid":
        sigma = of_output(gates("ss", hidden_size), sigma.slope)
    return sigma, phi


def _split(x: Array) -> Parts:
    """Return the parts ``[..., 2H]`` and ``[..., H]`` of ``x [..., 3H]``."""
    candidate_from = x.shape[-1] // 3 * 2
    return Parts(x[..., :candidate_from], x[..., candidate_from:])


def _beside(*parts: Array) -> Array:
    return jnp.concatenate(parts, axis=-1)


def _saved(
    sigma: Activation, phi: Activation, h_before: Array, a_ru: Array, ru: Array, a_n: Array, n: Array, q: Any = None
) -> Saved:
    """Return what is kept of a step with these pre-activations, gates and candidate."""
    return Saved(ru, n, h_before, q, sigma.keep_apart(a_ru, ru), phi.keep_apart(a_n, n))


def _gates_and_slopes(sigma: Activation, phi: Activation, saved: Saved) -> tuple[Array, Array, Array, Array, Array]:
    """Return r, u, r', u' and n'; of slices, as everything else that a step computes from a gate."""
    r, u = jnp.split(saved.ru, 2, axis=-1)
    for_r, for_u = jnp.split(saved.ru if saved.for_ru is None else saved.for_ru, 2, axis=-1)
    for_n = saved.n if saved.for_n is None else saved.for_n
    return r, u, sigma.slope(for_r), sigma.slope(for_u), phi.slope(for_n)


def _reset_after(sigma: Activation, phi: Activation) -> tuple[Adjoint, Split]:
    """Return the adjoint and the split of the GRU of cuDNN and torch."""

    def product(params: GRUParams, h: Array) -> Parts:
        kernel, bias = _split(params.recurrent), _split(params.bias)
        return Parts(recurrent_product(h, kernel.ru, bias.ru), recurrent_product(h, kernel.n, params.candidate_bias))

    def recur(params: GRUParams, h: Array) -> Parts:
        a = _split(recurrent_product(h, params.recurrent))  # in the loop, one product is faster than two
        return Parts(biased(a.ru, _split(params.bias).ru), biased(a.n, params.candidate_bias))

    def activations(h_before: Array, z: Parts, a: Parts) -> tuple[Array, Array, Array, Array, Array]:
        a_ru = z.ru.astype(h_before.dtype) + a.ru
        ru = sigma.function(a_ru)
        r, u = jnp.split(ru, 2, axis=-1)
        a_n = z.n.astype(h_before.dtype) + r * a.n
        n = phi.function(a_n)
        return a_ru, ru, a_n, n, (1 - u) * n + u * h_before

    def update(h: Array, z: Parts, a: Parts) -> tuple[Array, Array]:
        *_, h = activations(h, z, a)
        return h, h.astype(z.n.dtype)

    def forward(params: GRUParams, h_before: Array, z: Parts) -> tuple[Array, Array, Array, Saved]:
        a = recur(params, h_before)
        *computed, h = activations(h_before, z, a)
        return h, h.astype(z.n.dtype), h_before, _saved(sigma, phi, h_before, *computed, q=a.n)

    def backward(transposed: Array, saved: Saved, dh: Array, dy: Array) -> tuple[Array, Parts, Parts]:
        r, u, r_slope, u_slope, n_slope = _gates_and_slopes(sigma, phi, saved)
        dh = dh + dy.astype(dh.dtype)
        dn = dh * (1 - u) * n_slope
        du = dh * (saved.h_before - saved.n) * u_slope
        dr, dq = dn * saved.q * r_slope, dn * r
        da = _beside(dr, du, dq)
        das = _split(da)  # of the array that the product reads, which is there anyway
        return dh * u + recurrent_product(da, transposed), Parts(das.ru, dn), das

    def gradients(params: GRUParams, xs: Array, hs_before: Array, dzs: Parts, das: Parts) -> tuple[GRUParams, Array]:
        dinput, dbias, dxs = affine_gradients(xs, params.input, _beside(*dzs))
        return GRUParams(dinput, weight_gradient(hs_before, _beside(*das)), dbias, bias_gradient(das.n)), dxs

    transpose = lambda params: params.recurrent.T
    return Adjoint(forward, transpose, backward, product, gradients, ahead=True), Split(recur, update)


def _reset_before(sigma: Activation, phi: Activation) -> Adjoint:
    """Return the adjoint of the original GRU, whose second product is of what the gates let through of the carry."""

    def product(params: GRUParams, operands: tuple[Array, Array]) -> Parts:
        (kernel, bias_ru), (h, s) = weights_of(params), operands
        return Parts(recurrent_product(h, kernel.ru, bias_ru), recurrent_product(s, kernel.n))

    def weights_of(params: GRUParams) -> tuple[Parts, Array]:
        return _split(params.recurrent), _split(params.bias).ru

    def forward(
        weights: tuple[Parts, Array], h_before: Array, z: Parts
    ) -> tuple[Array, Array, tuple[Array, Array], Saved]:
        kernel, bias_ru = weights
        a_ru = z.ru.astype(h_before.dtype) + recurrent_product(h_before, kernel.ru, bias_ru)
        ru = sigma.function(a_ru)
        r, u = jnp.split(ru, 2, axis=-1)
        s = r * h_before
        a_n = z.n.astype(h_before.dtype) + recurrent_product(s, kernel.n)
        n = phi.function(a_n)
        h = (1 - u) * n + u * h_before
        return h, h.astype(z.n.dtype), (h_before, s), _saved(sigma, phi, h_before, a_ru, ru, a_n, n)

    def backward(transposed: Parts, saved: Saved, dh: Array, dy: Array) -> tuple[Array, Parts, Parts]:
        r, u, r_slope, u_slope, n_slope = _gates_and_slopes(sigma, phi, saved)
        dh = dh + dy.astype(dh.dtype)
        dn = dh * (1 - u) * n_slope
        du = dh * (saved.h_before - saved.n) * u_slope
        ds = recurrent_product(dn, transposed.n)
        dr = ds * saved.h_before * r_slope
        da = Parts(_beside(dr, du), dn)
        return dh * u + ds * r + recurrent_product(da.ru, transposed.ru), da, da

    def gradients(
        params: GRUParams, xs: Array, operands: tuple[Array, Array], dzs: Parts, das: Parts
    ) -> tuple[GRUParams, Array]:
        hs_before, ss = operands
        dinput, dbias, dxs = affine_gradients(xs, params.input, _beside(*dzs))
        drecurrent = _beside(weight_gradient(hs_before, das.ru), weight_gradient(ss, das.n))
        return GRUParams(dinput, drecurrent, dbias, None), dxs

    def transpose(params: GRUParams) -> Parts:
        kernel = _split(params.recurrent)
        return Parts(kernel.ru.T, kernel.n.T)

    return Adjoint(forward, transpose, backward, product, gradients, prepare=lambda params, h: weights_of(params))
