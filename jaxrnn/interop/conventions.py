"""How each framework writes down the weights of the vanilla network, the LSTM and the GRU, in one table.

A converter reads names and shapes of its framework into `Weights`, gates side by side in the framework's
order, and the table does the rest:

    order:    [a_i, a_f, a_g, a_o] is a permutation of what the framework has
    layout:   a kernel is (in, out) here; one that is (out, in) is transposed
    biases:   x W + b_x + h U + b_h = x W + h U + (b_x + b_h), but for the candidate of a GRU whose reset
              gate acts after the product, n = φ(x W_n + b_xn + r ⊙ (h U_n + b_hn)), which keeps two
    update:   h = (1-z) ⊙ h' + z ⊙ n is our h = u ⊙ h' + (1-u) ⊙ n with u = 1-σ(a_z) = σ(-a_z): its
              kernels and biases are negated
    forget:   a forget gate σ(a_f + 1) has our bias b_f + 1

Each of these is a line of `to_ours` and its inverse a line of `to_theirs`.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, ParamSpec

from jaxrnn import checks
from jaxrnn.cells.conv_lstm import ConvLSTMParams
from jaxrnn.cells.gru import GRUParams
from jaxrnn.cells.lstm import LSTMParams
from jaxrnn.cells.lstm_records import LSTMVariantParams
from jaxrnn.cells.ugrnn import UGRNNParams
from jaxrnn.cells.vanilla import VanillaParams
from jaxrnn.interop.arrays import blocks_of, joined, off_host, on_host, space
from jaxrnn.types import Array

OURS = {"vanilla": "h", "lstm": "ifgo", "gru": "run", "conv_lstm": "ifgo", "ugrnn": "nu"}
PEEPHOLES = "ifo"


class Convention(NamedTuple):
    """How a framework writes down the weights of one kind of cell.

    gates: their order side by side, in our letters: i, f, g, o of the LSTM, r, u, n of the GRU, h of the
        vanilla network.
    kernels: whether a kernel is (in, out) or (out, in).
    biases: "one" for all; "two", of the input and of the recurrent product; "candidate", one for all
        gates and the one inside the reset gate's product.
    reset_after: whether the reset gate of the GRU acts after the product.
    update_inverted: whether its update gate is the share of the candidate, not of the old state.
    forget_offset: what the forward pass adds to the forget gate besides its bias.
    carry: the order of h and c in the state of the LSTM.
    directions: the order of the two directions of a bidirectional layer.
    peepholes: their order, where the LSTM has any.
    """

    gates: str
    kernels: Literal["in_out", "out_in"]
    biases: Literal["one", "two", "candidate"]
    reset_after: bool = True
    update_inverted: bool = False
    forget_offset: float = 0.0
    carry: str = "hc"
    directions: tuple[str, str] = ("forward", "backward")
    peepholes: str = ""


# By framework and kind; a framework with two conventions for one kind has two names, such as "keras before".
CONVENTIONS: dict[tuple[str, str], Convention] = {
    ("torch", "vanilla"): Convention("h", "out_in", "two"),
    ("torch", "lstm"): Convention("ifgo", "out_in", "two"),
    ("torch", "gru"): Convention("run", "out_in", "two"),
    ("onnx", "vanilla"): Convention("h", "out_in", "two"),
    ("onnx", "lstm"): Convention("iofg", "out_in", "two", peepholes="iof"),
    ("onnx", "gru"): Convention("urn", "out_in", "two"),
    ("onnx before", "gru"): Convention("urn", "out_in", "two", reset_after=False),
    ("keras", "vanilla"): Convention("h", "in_out", "one"),
    ("keras", "lstm"): Convention("ifgo", "in_out", "one"),
    ("keras", "conv_lstm"): Convention("ifgo", "in_out", "one"),
    ("keras", "gru"): Convention("urn", "in_out", "two"),
    ("keras before", "gru"): Convention("urn", "in_out", "one", reset_after=False),
    ("linen", "vanilla"): Convention("h", "in_out", "one"),
    ("linen", "lstm"): Convention("ifgo", "in_out", "one", carry="ch"),
    ("linen", "conv_lstm"): Convention("igfo", "in_out", "two", forget_offset=1.0, carry="ch"),
    ("linen", "gru"): Convention("run", "in_out", "candidate"),
    ("linen", "ugrnn"): Convention("un", "in_out", "one"),
    ("nnx", "vanilla"): Convention("h", "in_out", "one"),
    ("nnx", "lstm"): Convention("ifgo", "in_out", "one", carry="ch"),
    ("nnx", "gru"): Convention("run", "in_out", "one"),
    ("haiku", "vanilla"): Convention("h", "in_out", "two"),
    ("haiku", "lstm"): Convention("igfo", "in_out", "one", forget_offset=1.0),
    ("haiku", "conv_lstm"): Convention("igfo", "in_out", "two", forget_offset=1.0),
    ("haiku", "gru"): Convention("urn", "in_out", "one", reset_after=False, update_inverted=True),
    ("equinox", "lstm"): Convention("ifgo", "out_in", "one"),
    ("equinox", "gru"): Convention("run", "out_in", "candidate"),
}


class Weights(NamedTuple):
    """The weights of one cell as a framework has them, gates side by side in its order; G gates.

    input: of x: ``[D, G H]`` or ``[G H, D]``.
    recurrent: of h: ``[R, G H]`` or ``[G H, R]``; R = H without a projection.
    bias: ``[G H]``, or that of the input product alone; None for none.
    recurrent_bias: ``[G H]`` of the recurrent product, or ``[H]`` of the candidate; None for none.
    projection: of the LSTM's output: ``[H, R]`` or ``[R, H]``; None for none.
    peephole: ``[3 H]``; None for none.
    """

    input: Any
    recurrent: Any
    bias: Any = None
    recurrent_bias: Any = None
    projection: Any = None
    peephole: Any = None


P = ParamSpec("P")
CellParams = VanillaParams | LSTMParams | LSTMVariantParams | GRUParams | ConvLSTMParams | UGRNNParams


def uncompiled(convert: Callable[P, Any]) -> Callable[P, Any]:
    """Let a conversion, whose last argument is weights, work on NumPy's arrays, for which nothing is compiled.

    Traced ones stay what they are, so that a conversion has gradients.
    """

    @functools.wraps(convert)
    def converted(*args: P.args, **kwargs: P.kwargs) -> Any:
        *about, weights = args
        return off_host(convert(*about, on_host(weights), **kwargs))  # pyright: ignore[reportCallIssue]

    return converted


@uncompiled
def to_ours(convention: Convention, kind: str, theirs: Weights) -> CellParams:
    """Return the parameters of our cell of a kind, "vanilla", "lstm" or "gru", from a framework's weights.

    An LSTM with a projection or peepholes has the parameters of `jaxrnn.lstm_variant`.
    """

    def ours(value: Any) -> Array:
        return _inverted(convention, _ordered(value, convention.gates, OURS[kind]), OURS[kind])

    kernel_in, kernel_out = ours(_transposed(convention, theirs.input)), ours(_transposed(convention, theirs.recurrent))
    none = space(kernel_in).zeros(kernel_in.shape[-1:], kernel_in.dtype)
    bias = none if theirs.bias is None else ours(theirs.bias)
    hidden_size = bias.shape[0] // len(OURS[kind])
    own = none[:hidden_size]
    if theirs.recurrent_bias is not None and convention.biases == "candidate":
        own = theirs.recurrent_bias
    elif theirs.recurrent_bias is not None:
        recurrent_bias = ours(theirs.recurrent_bias)
        if kind == "gru" and convention.reset_after:
            own = recurrent_bias[2 * hidden_size :]
            recurrent_bias = joined([recurrent_bias[: 2 * hidden_size], none[:hidden_size]])
        bias = bias + recurrent_bias
    if kind == "vanilla":
        return VanillaParams(kernel_in, kernel_out, bias)
    if kind == "ugrnn":
        return UGRNNParams(kernel_in, kernel_out, bias)
    if kind == "gru":
        return GRUParams(kernel_in, kernel_out, bias, own if convention.reset_after else None)
    bias = _with_offset(bias, convention.forget_offset)
    if kind == "conv_lstm":
        return ConvLSTMParams(kernel_in, kernel_out, bias)
    if theirs.projection is None and theirs.peephole is None:
        return LSTMParams(kernel_in, kernel_out, bias)
    return LSTMVariantParams(
        kernel_in,
        kernel_out,
        bias,
        peephole=None if theirs.peephole is None else _ordered(theirs.peephole, convention.peepholes, PEEPHOLES),
        projection=None if theirs.projection is None else _transposed(convention, theirs.projection),
    )


@uncompiled
def to_theirs(convention: Convention, kind: str, params: CellParams) -> Weights:
    """Return the weights of a framework from the parameters of our cell of a kind.

    Of two biases that are added, the recurrent product's is zero.

    Raises:
        ValueError: the framework has no place for them: a reset gate that acts elsewhere, a bias of the
            candidate's product that is not zero.
    """

    def theirs(value: Array) -> Array:
        return _ordered(_inverted(convention, value, OURS[kind]), OURS[kind], convention.gates)

    bias = params.bias
    own: Array | None = None
    if isinstance(params, GRUParams):
        own = params.candidate_bias
        if (own is not None) != convention.reset_after:
            acts = "after" if convention.reset_after else "before"
            raise ValueError(f"params: expected a GRU whose reset gate acts {acts} the product, got the other")
    if "f" in OURS[kind]:
        bias = _with_offset(bias, -convention.forget_offset)
    recurrent_bias = None
    if convention.biases == "two":
        first = space(bias).zeros_like(bias)
        recurrent_bias = first if own is None else theirs(joined([first[own.shape[0] :], own]))
    elif convention.biases == "candidate":
        recurrent_bias = own
    elif own is not None and (not checks.concrete(own) or bool(own.any())):
        raise ValueError("params.candidate_bias: expected zeros, as the framework has none, got other values")
    projection, peephole = (getattr(params, name, None) for name in ("projection", "peephole"))
    return Weights(
        _transposed(convention, theirs(params.input)),
        _transposed(convention, theirs(params.recurrent)),
        theirs(bias),
        recurrent_bias,
        projection=None if projection is None else _transposed(convention, projection),
        peephole=None if peephole is None else _ordered(peephole, PEEPHOLES, convention.peepholes),
    )


@uncompiled
def coupled_gates(params: LSTMVariantParams) -> LSTMVariantParams:
    """Return the parameters without a forget gate, for the coupled cell: gates i, g, o and peepholes i, o."""

    def without(value: Any, gates: int) -> Array:
        i, _, *others = blocks_of(value, gates)
        return joined([i, *others])

    return _gate_by_gate(params, without, (4, 3))


@uncompiled
def separate_gates(params: LSTMVariantParams) -> LSTMVariantParams:
    """Return the parameters of a coupled cell with a forget gate of zeros, which nothing reads."""

    def with_gate(value: Any, gates: int) -> Array:
        i, *others = blocks_of(value, gates)
        return joined([i, space(i).zeros_like(i), *others])

    return _gate_by_gate(params, with_gate, (3, 2))


def _gate_by_gate(params: LSTMVariantParams, change: Callable[[Any, int], Array], count: tuple[int, int]) -> Any:
    """Return the parameters with their gates, and peepholes, changed; of each there are so many."""
    gates, peepholes = count
    kernels = {name: change(getattr(params, name), gates) for name in ("input", "recurrent", "bias")}
    peephole = None if params.peephole is None else change(params.peephole, peepholes)
    return params._replace(**kernels, peephole=peephole)


def _ordered(value: Any, have: str, want: str) -> Array:
    """Return ``value`` with the gates on its last axis in another order."""
    blocks = dict(zip(have, blocks_of(value, len(have)), strict=True))
    return joined([blocks[gate] for gate in want])


def _transposed(convention: Convention, kernel: Any) -> Array:
    return kernel.T if convention.kernels == "out_in" else kernel


def _inverted(convention: Convention, value: Array, gates: str) -> Array:
    """Return ``value`` with its update gate negated, if the framework's is the share of the candidate."""
    if not convention.update_inverted or "u" not in gates:
        return value
    blocks = blocks_of(value, len(gates))
    return joined([-block if gate == "u" else block for gate, block in zip(gates, blocks, strict=True)])


def _with_offset(bias: Array, offset: float) -> Array:
    """Return the bias of an LSTM, gates i, f, g, o, with ``offset`` added to the forget gate's."""
    i, f, *others = blocks_of(bias, 4)
    return joined([i, f + bias.dtype.type(offset), *others]) if offset else bias
