"""The equations of the LSTM family, every option in one step, and their backward by hand.

With φ, χ, ψ the activations of gates, candidate and output, N the layer norm, and p the peepholes, where
p ⊙ [c_{t-1}, c_t] stands for [p_i ⊙ c_{t-1}, p_f ⊙ c_{t-1}, 0, p_o ⊙ c_t]:

    no norm:      a_t = x_t W + b + h_{t-1} U + p ⊙ [c_{t-1}, c_t],   â_t = a_t
    before_bias:  a_t = x_t W + h_{t-1} U + p ⊙ [c_{t-1}, c_t],       â_t = γ ⊙ N(a_t) + b    (N of each gate)
    ba2016:       â_t = γ_x ⊙ N(x_t W) + b + γ_h ⊙ N(h_{t-1} U) + p ⊙ [c_{t-1}, c_t]          (N of all gates)

    [i_t, f_t, g_t, o_t] = [φ, φ, χ, φ](â_t);   coupled: f_t = 1 - i_t
    c_t = clip(f_t ⊙ c_{t-1} + i_t ⊙ g_t)
    ĉ_t = c_t;   ba2016: ĉ_t = γ_c ⊙ N(c_t) + β_c
    m_t = o_t ⊙ ψ(ĉ_t)
    h_t = m_t;   projected: h_t = clip(q_t),  q_t = m_t P

Backward, with dh_t and dc_t the whole cotangents of h_t and c_t, Nᵀ the backward of the norm, and clip' = 1
inside the bounds and 0 outside:

    dm_t = dh_t;   projected: dq_t = dh_t ⊙ clip'(q_t),  dm_t = dq_t Pᵀ
    dĉ_t = dm_t ⊙ o_t ⊙ ψ'(ĉ_t)
    dâ_o = dm_t ⊙ ψ(ĉ_t) ⊙ φ'(â_o)
    dc_t  += dĉ_t + p_o ⊙ da_o;   ba2016: Nᵀ(γ_c ⊙ dĉ_t) for dĉ_t
    dc_t   = dc_t ⊙ clip'(f_t ⊙ c_{t-1} + i_t ⊙ g_t)
    dâ_i = dc_t ⊙ g_t ⊙ φ'(â_i),   dâ_f = dc_t ⊙ c_{t-1} ⊙ φ'(â_f),   dâ_g = dc_t ⊙ i_t ⊙ χ'(â_g)
    coupled: dâ_i = dc_t ⊙ (g_t - c_{t-1}) ⊙ φ'(â_i)
    da_t = dâ_t;   before_bias: da_t = Nᵀ(γ ⊙ dâ_t), of each gate
    du_t = da_t;   ba2016: du_t = Nᵀ(γ_h ⊙ dâ_t), of u_t = h_{t-1} U
    dc_{t-1} = dc_t ⊙ f_t + p_i ⊙ da_i + p_f ⊙ da_f
    dh_{t-1} = du_t Uᵀ
    dW = Σ x_tᵀ da_t,   dU = Σ h_{t-1}ᵀ du_t,   dP = Σ m_tᵀ dq_t,   db = Σ dâ_t,   dx_t = da_t Wᵀ
    dp = Σ [c_{t-1} ⊙ da_i, c_{t-1} ⊙ da_f, c_t ⊙ da_o],   dγ_c = Σ N(c_t) ⊙ dĉ_t,   dβ_c = Σ dĉ_t
    before_bias: dγ = Σ N(a_t) ⊙ dâ_t
    ba2016: dγ_h = Σ N(u_t) ⊙ dâ_t,   dγ_x = Σ N(x_t W) ⊙ dâ_t,   and Nᵀ(γ_x ⊙ dâ_t) for da_t in dW and dx_t
"""

from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxrnn.cells.activations import Activation
from jaxrnn.cells.lstm import LSTMCarry
from jaxrnn.cells.lstm_records import LSTMVariantParams, Norms, Operands, Products, Saved
from jaxrnn.cells.normalization import Normalized, gain_and_bias, normalize, normalize_backward
from jaxrnn.cells.products import (
    affine,
    bias_gradient,
    diagonal_gradient,
    diagonal_product,
    recurrent_product,
    weight_gradient,
)
from jaxrnn.types import Array


class LSTMEquations(NamedTuple):
    """One network of the family, H = ``hidden_size``; its options are those of `lstm_variant`.

    The gates that make c_t are early here, and o is late: it may see c_t.
    """

    hidden_size: int
    coupled: bool
    epsilon: float
    gate: Activation
    candidate: Activation
    output: Activation
    cell_clip: float | None
    projection_clip: float | None

    def inputs(self, params: LSTMVariantParams, xs: Array) -> Array:
        """Return what of a_t, or of â_t, needs no carry."""
        bias_comes_later = params.gain is not None or params.input_gain is not None
        products = affine(xs, params.input, None if bias_comes_later else params.bias)
        return normalize(products, params.input_gain, params.bias, self.epsilon)[0]

    def forward(
        self, params: LSTMVariantParams, carry: LSTMCarry, z: Array
    ) -> tuple[LSTMCarry, Array, Operands, Saved]:
        """Return (carry, y, operands, saved)."""
        (h_before, c_before), H, eps = carry, self.hidden_size, self.epsilon
        p_early, p_late = self._early_and_late(self._of_all_gates(params.peephole))
        early_gain, late_gain = self._early_and_late(params.gain)
        early_bias, late_bias = self._early_and_late(params.bias)

        u, norm_u = normalize(recurrent_product(h_before, params.recurrent), params.recurrent_gain, None, eps)
        early, late = self._early_and_late(z.astype(u.dtype) + u)
        early = _plus_product(early, self._for_early(c_before), p_early)
        early, norm_early = normalize(early, early_gain, early_bias, eps, blocks=early.shape[-1] // H)
        a_if, a_g = early[..., :-H], early[..., -H:]
        s, g = self.gate.function(a_if), self.candidate.function(a_g)
        i, f = s[..., :H], 1 - s if self.coupled else s[..., H:]
        c = _clip(f * c_before + i * g, self.cell_clip)

        a_o, norm_late = normalize(_plus_product(late, c, p_late), late_gain, late_bias, eps)
        c_hat, norm_c = normalize(c, params.cell_gain, params.cell_bias, eps)
        o, psi = self.gate.function(a_o), self.output.function(c_hat)
        m = o * psi
        h = m if params.projection is None else _clip(recurrent_product(m, params.projection), self.projection_clip)

        norms = Norms(norm_u, norm_early, norm_late, norm_c)
        of_if = g - c_before if self.coupled else _beside(g, c_before)
        of_early = _beside(of_if * _slope(self.gate, a_if, s), i * _slope(self.candidate, a_g, g))
        of_late, inside = psi * _slope(self.gate, a_o, o), _inside(c, self.cell_clip)
        saved = Saved(
            of_gates=_beside(of_early * self._for_early(inside), of_late),
            output=o * _slope(self.output, c_hat, psi),
            forget=f * inside,
            norms=norms,
            inside=None if self.projection_clip is None else _inside(h, self.projection_clip),
        )
        seen = (None, None) if params.peephole is None else (c_before, c)
        operands = Operands(h_before, *seen, norms, None if params.projection is None else m)
        return LSTMCarry(h, c), h.astype(z.dtype), operands, saved

    def transpose(self, params: LSTMVariantParams) -> LSTMVariantParams:
        """Return the parameters, the matrices of the loop transposed."""
        projection = None if params.projection is None else params.projection.T
        return params._replace(recurrent=params.recurrent.T, projection=projection)

    def backward(
        self, transposed: LSTMVariantParams, saved: Saved, dcarry: LSTMCarry, dy: Array
    ) -> tuple[LSTMCarry, Array, Products]:
        """Return (dcarry, dz, da)."""
        norms, dq = saved.norms, None
        p_early, p_late = self._early_and_late(self._of_all_gates(transposed.peephole))
        early_gain, late_gain = self._early_and_late(transposed.gain)

        dm = dcarry.h + dy.astype(dcarry.h.dtype)
        if transposed.projection is not None:
            dq = dm if saved.inside is None else dm * saved.inside
            dm = recurrent_product(dq, transposed.projection)
        of_early, of_late = self._early_and_late(saved.of_gates)
        dlate, dc_hat = dm * of_late, dm * saved.output
        da_late = normalize_backward(norms.late, late_gain, dlate)
        dc = _plus_product(dcarry.c + normalize_backward(norms.cell, transposed.cell_gain, dc_hat), da_late, p_late)
        dearly = self._for_early(dc) * of_early
        da_early = normalize_backward(norms.early, early_gain, dearly)
        dc_before = dc * saved.forget
        if p_early is not None:
            dc_before = dc_before + self._sum_of_early(diagonal_product(da_early, p_early))

        da = _beside(da_early, da_late)
        du = normalize_backward(norms.recurrent, transposed.recurrent_gain, da)
        dproducts = Products(
            gates=da,
            recurrent=_where_normalized(norms.recurrent, du),
            early=_where_normalized(norms.early, dearly),
            late=_where_normalized(norms.late, dlate),
            cell=_where_normalized(norms.cell, dc_hat),
            projected=dq,
        )
        return LSTMCarry(recurrent_product(du, transposed.recurrent), dc_before), da, dproducts

    def product(self, params: LSTMVariantParams, operands: Operands) -> Products:
        """Return what the step takes from the parameters in the loop, over any leading axes."""
        h, c_before, c, norms, m = operands
        early_gain, late_gain = self._early_and_late(params.gain)
        early_bias, late_bias = self._early_and_late(params.bias)
        u = recurrent_product(h, params.recurrent)
        gates = u if norms.recurrent is None else _gained(norms.recurrent, params.recurrent_gain, None)
        if c is not None:
            gates = _plus_product(gates, self._seen(c_before, c), self._of_all_gates(params.peephole))
        return Products(
            gates=gates,
            recurrent=_where_normalized(norms.recurrent, u),
            early=_gained(norms.early, early_gain, early_bias),
            late=_gained(norms.late, late_gain, late_bias),
            cell=_gained(norms.cell, params.cell_gain, params.cell_bias),
            projected=None if m is None or params.projection is None else recurrent_product(m, params.projection),
        )

    def gradients(
        self, params: LSTMVariantParams, xs: Array, operands: Operands, dzs: Array, das: Products
    ) -> tuple[LSTMVariantParams, Array]:
        """Return (dparams, dxs)."""
        h, c_before, c, norms, m = operands
        _, norm_x = normalize(affine(xs, params.input, None), params.input_gain, params.bias, self.epsilon)
        dproducts = normalize_backward(norm_x, params.input_gain, dzs)
        bias = bias_gradient(dzs)
        gain = None
        if das.early is not None and das.late is not None:
            bias = _beside(bias_gradient(das.early), bias_gradient(das.late))
            gain = _beside(_gain_gradient(norms.early, das.early), _gain_gradient(norms.late, das.late))
        dparams = LSTMVariantParams(
            input=weight_gradient(xs, dproducts),
            recurrent=weight_gradient(h, das.gates if das.recurrent is None else das.recurrent),
            bias=bias,
            peephole=None if c is None else self._of_peepholes(diagonal_gradient(self._seen(c_before, c), das.gates)),
            projection=None if m is None or das.projected is None else weight_gradient(m, das.projected),
            gain=gain,
            input_gain=_gain_gradient(norm_x, dzs),
            recurrent_gain=_gain_gradient(norms.recurrent, das.gates),
            cell_gain=_gain_gradient(norms.cell, das.cell),
            cell_bias=None if das.cell is None else bias_gradient(das.cell),
        )
        return dparams, dproducts @ params.input.T

    def _early_and_late(self, x: Array | None) -> tuple[Any, Any]:
        """Return the columns of the gates before c_t, and of the gate after it."""
        return (None, None) if x is None else (x[..., : -self.hidden_size], x[..., -self.hidden_size :])

    def _for_early(self, x: Array) -> Array:
        """Return ``x [*B, H]`` once for each gate before c_t."""
        return _beside(*[x] * (2 if self.coupled else 3))

    def _sum_of_early(self, x: Array) -> Array:
        """Return the sum over the gates before c_t, ``[*B, H]``."""
        return x.reshape(*x.shape[:-1], x.shape[-1] // self.hidden_size, self.hidden_size).sum(axis=-2)

    def _seen(self, c_before: Any, c: Array) -> Array:
        """Return what each gate sees through its peephole."""
        return _beside(self._for_early(c_before), c)

    def _of_all_gates(self, peephole: Array | None) -> Array | None:
        """Return the peepholes of all gates, zero for the candidate, which has none."""
        if peephole is None:
            return None
        H = self.hidden_size
        return _beside(peephole[:-H], jnp.zeros_like(peephole[:H]), peephole[-H:])

    def _of_peepholes(self, dgates: Array) -> Array:
        """Return what of ``dgates``, one for each gate, belongs to a peephole."""
        H = self.hidden_size
        return _beside(dgates[: -2 * H], dgates[-H:])


def _beside(*parts: Array) -> Array:
    return jnp.concatenate(parts, axis=-1)


def _plus_product(x: Array, y: Array, diagonal: Array | None) -> Array:
    return x if diagonal is None else x + diagonal_product(y, diagonal)


def _gained(normalized: Normalized | None, gain: Any, bias: Any) -> Any:
    return None if normalized is None else gain_and_bias(normalized.y, gain, bias)


def _gain_gradient(normalized: Normalized | None, dy: Any) -> Any:
    return None if normalized is None else diagonal_gradient(normalized.y, dy)


def _where_normalized(normalized: Normalized | None, x: Array) -> Array | None:
    return None if normalized is None else x


def _slope(activation: Activation, a: Array, s: Array) -> Array:
    """Return the derivative of the activation, whose value at a is s."""
    return activation.slope(activation.keep(a, s))


def _clip(x: Array, bound: float | None) -> Array:
    return x if bound is None else jnp.clip(x, -bound, bound)


def _inside(clipped: Array, bound: float | None) -> Array:
    """Return the derivative of `_clip`, at the ``clipped`` value: 1 inside the bounds, 0 at them."""
    return jnp.ones_like(clipped) if bound is None else (jnp.abs(clipped) < bound).astype(clipped.dtype)
