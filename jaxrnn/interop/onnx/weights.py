"""The weights of an ONNX node as a cell and its parameters, and back, by the table of `jaxrnn.interop.conventions`."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxrnn.interop.conventions import Convention, Weights
from jaxrnn.interop.descriptions import Described, convention_of, one_cell
from jaxrnn.interop.onnx.activations import ONNXActivation, write_activation
from jaxrnn.types import Array, Cell, Params

KINDS = {"RNN": "vanilla", "LSTM": "lstm", "GRU": "gru"}
OPERATORS = {kind: operator for operator, kind in KINDS.items()}
BEYOND = ("peephole", "coupled")  # what LSTM knows of the options of `jaxrnn.lstm_variant` besides its activations


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
    kind = KINDS[operator]
    return one_cell(convention_of("onnx", kind, reset_after), kind, weights, activations, coupled=coupled)


def write_cell(described: Described) -> NodeCell:
    """Return what a cell in one direction is to a node, or raise."""
    operator, flags = OPERATORS[described.kind], {}
    if operator == "GRU":
        flags = {"linear_before_reset": int(described.options["reset_after"])}
    elif described.options.get("coupled"):
        flags = {"input_forget": 1}
    theirs = described.weights("onnx")
    bias = jnp.concatenate([theirs.bias, theirs.recurrent_bias])
    weights = NodeWeights(theirs.input, theirs.recurrent, bias, theirs.peephole)
    return NodeCell(operator, tuple(map(write_activation, described.activations)), flags, weights)
