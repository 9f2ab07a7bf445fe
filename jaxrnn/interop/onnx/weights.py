"""The weights of an ONNX node as a cell and its parameters, and back, by the table of `jaxrnn.interop.conventions`."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxrnn.cells.gru import gru
from jaxrnn.cells.lstm import lstm
from jaxrnn.cells.lstm_records import LSTMVariantParams
from jaxrnn.cells.lstm_variant import lstm_variant
from jaxrnn.cells.vanilla import vanilla
from jaxrnn.interop.conventions import CONVENTIONS, Convention, Weights, to_ours, to_theirs
from jaxrnn.interop.onnx.activations import ONNXActivation, write_activation
from jaxrnn.types import Array, Cell, Params, Spec

KINDS = {"RNN": "vanilla", "LSTM": "lstm", "GRU": "gru"}
OPERATORS = {"vanilla": "RNN", "lstm": "LSTM", "lstm_variant": "LSTM", "gru": "GRU"}
WITHOUT = ("projection_size", "normalization", "cell_clip", "projection_clip")  # of lstm_variant, unknown to ONNX


class NodeWeights(NamedTuple):
    """The weights of one direction of a node: ``W [G H, D]``, ``R [G H, H]``, ``B [2 G H]``, ``P [3 H]``."""

    W: Array
    R: Array
    B: Array | None = None
    P: Array | None = None


class NodeCell(NamedTuple):
    """One direction of a node: its operator, activations, the attributes that are flags, and its weights."""

    operator: str
    activations: tuple[ONNXActivation, ...]
    flags: dict[str, int]
    weights: NodeWeights


def convention_of(operator: str, reset_after: bool) -> Convention:
    """Return how ONNX writes down the weights of an operator; ``reset_after``: of a GRU."""
    framework = "onnx before" if operator == "GRU" and not reset_after else "onnx"
    return CONVENTIONS[framework, KINDS[operator]]


def ways_of(convention: Convention, direction: str) -> tuple[bool, ...]:
    """Return which directions of a node run in reverse, in the order in which its weights have them."""
    if direction != "bidirectional":
        return (direction == "reverse",)
    return tuple(each == "backward" for each in convention.directions)


def read_cell(
    operator: str, activations: tuple[Any, ...], coupled: bool, reset_after: bool, theirs: NodeWeights
) -> tuple[Cell, Params]:
    """Return the cell that one direction of a node is, and its parameters."""
    bias, recurrent_bias = (None, None) if theirs.B is None else jnp.split(theirs.B, 2)
    weights = Weights(theirs.W, theirs.R, bias, recurrent_bias, peephole=theirs.P)
    params = to_ours(convention_of(operator, reset_after), KINDS[operator], weights)
    sizes, dtype = (theirs.W.shape[1], theirs.R.shape[1]), theirs.W.dtype
    if operator == "RNN":
        return vanilla(*sizes, activation=activations[0], dtype=dtype), params
    if operator == "GRU":
        return gru(*sizes, reset_after=reset_after, activations=(activations[0], activations[1]), dtype=dtype), params
    if activations == ("sigmoid", "tanh", "tanh") and not coupled and theirs.P is None:
        return lstm(*sizes, dtype=dtype), params
    phi, chi, psi = activations
    cell = lstm_variant(
        *sizes, peephole=theirs.P is not None, coupled=coupled, activations=(phi, chi, psi), dtype=dtype
    )
    variant = LSTMVariantParams(params.input, params.recurrent, params.bias, getattr(params, "peephole", None))
    return cell, _without_forget_gate(variant) if coupled else variant


def _without_forget_gate(params: LSTMVariantParams) -> LSTMVariantParams:
    """Return the parameters of the coupled cell, whose gates are i, g, o and whose peepholes are i, o."""

    def without(value: Array, gates: int) -> Array:
        i, _, *others = jnp.split(value, gates, axis=-1)
        return jnp.concatenate([i, *others], axis=-1)

    peephole = None if params.peephole is None else without(params.peephole, 3)
    return LSTMVariantParams(
        without(params.input, 4), without(params.recurrent, 4), without(params.bias, 4), peephole=peephole
    )


def write_cell(made_by: Spec | None, params: Any) -> NodeCell:
    """Return what a cell, by its `Spec`, and its parameters are to a node, or raise."""
    if made_by is None or made_by.factory not in OPERATORS:
        got = "one of your own" if made_by is None else made_by.factory
        raise ValueError(f"layer: expected cells made by {', '.join(OPERATORS)}, got {got}")
    options, operator = dict(made_by.options), OPERATORS[made_by.factory]
    for name in WITHOUT:
        if options.get(name) is not None:
            raise ValueError(f"layer: expected an LSTM without {name}, which ONNX does not have, got {options[name]!r}")
    default = (options.get("activation"),) if operator == "RNN" else ("sigmoid", "tanh", "tanh")
    activations = tuple(map(write_activation, options.get("activations", default)))
    reset_after, flags = options.get("reset_after", False), {}
    if operator == "GRU":
        flags = {"linear_before_reset": int(reset_after)}
    if options.get("coupled"):
        flags, params = {"input_forget": 1}, _with_forget_gate(params)
    theirs = to_theirs(convention_of(operator, reset_after), KINDS[operator], params)
    bias = jnp.concatenate([theirs.bias, theirs.recurrent_bias])
    return NodeCell(operator, activations, flags, NodeWeights(theirs.input, theirs.recurrent, bias, theirs.peephole))


def _with_forget_gate(params: LSTMVariantParams) -> LSTMVariantParams:
    """Return the parameters with a forget gate of zeros, which nothing reads where it is coupled."""

    def with_gate(value: Array, gates: int) -> Array:
        i, *others = jnp.split(value, gates, axis=-1)
        return jnp.concatenate([i, jnp.zeros_like(i), *others], axis=-1)

    peephole = None if params.peephole is None else with_gate(params.peephole, 2)
    return LSTMVariantParams(
        with_gate(params.input, 3), with_gate(params.recurrent, 3), with_gate(params.bias, 3), peephole=peephole
    )
