"""The records of the LSTM family: its weights, and what a step takes from them and keeps for its backward."""

from typing import NamedTuple

from jaxrnn.cells.normalization import Normalized
from jaxrnn.types import Array


class LSTMVariantParams(NamedTuple):
    """Weights of `lstm_variant`, gates i, f, g, o side by side; None where an option is off.

    Where f is coupled to i, gates are i, g, o, and sizes 3H for 4H and 2H for 3H. R = H without a projection.

    input: W ``[D, 4H]``.
    recurrent: U ``[R, 4H]``.
    bias: b ``[4H]``.
    peephole: p ``[3H]``, of i, f, o, or of i, o.
    projection: P ``[H, R]``.
    gain: γ ``[4H]`` of the gates, normalised before the bias.
    input_gain, recurrent_gain: γ_x and γ_h ``[4H]`` of both products, normalised as Ba et al. do.
    cell_gain, cell_bias: γ_c and β_c ``[H]`` of the memory, normalised as they do.
    """

    input: Array
    recurrent: Array
    bias: Array
    peephole: Array | None = None
    projection: Array | None = None
    gain: Array | None = None
    input_gain: Array | None = None
    recurrent_gain: Array | None = None
    cell_gain: Array | None = None
    cell_bias: Array | None = None


class Norms(NamedTuple):
    """What was normalised in a step: u_t, the gates before c_t, the gate after it, and c_t; None where nothing was."""

    recurrent: Normalized | None
    early: Normalized | None
    late: Normalized | None
    cell: Normalized | None


class Operands(NamedTuple):
    """What the parameters of the loop are multiplied with: h_{t-1}, c_{t-1} and c_t, what was normalised, and m_t."""

    h: Array
    c_before: Array | None
    c: Array | None
    norms: Norms
    m: Array | None


class Products(NamedTuple):
    """What comes of it, linear in the parameters; and the cotangents of that.

    gates: what is added to z_t: u_t, or γ_h ⊙ N(u_t), and p ⊙ [c_{t-1}, c_t].
    recurrent: u_t, where it is normalised.
    early, late: γ ⊙ N(a_t) + b, of the gates before c_t and of the one after it.
    cell: γ_c ⊙ N(c_t) + β_c.
    projected: q_t.
    """

    gates: Array
    recurrent: Array | None
    early: Array | None
    late: Array | None
    cell: Array | None
    projected: Array | None


class Saved(NamedTuple):
    """The factors by which the backward step multiplies; none of them depends on a cotangent.

    of_gates: of dâ_t, ``[*B, 4H]``, of the gates before c_t from dc_t and of the one after it from dm_t; 3H if coupled.
    output: from dm_t to dĉ_t.
    forget: from dc_t to dc_{t-1}.
    norms: what Nᵀ needs.
    inside: clip'(q_t); None without bounds.
    """

    of_gates: Array
    output: Array
    forget: Array
    norms: Norms
    inside: Array | None
