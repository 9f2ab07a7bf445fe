"""The weights of an ONNX node as a cell and its parameters, and back, by the table of `jaxrnn.interop.conventions`."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxrnn.cells.gru import gru
from jaxrnn.cells.lstm import lstm
from jaxrnn.cells.lstm_records import LSTMVariantParams
from jaxrnn.cells.lstm_variant import lstm_variant
from jaxrnn.cells.vanilla import vanilla
from jaxrnn.interop.conventions import CONVENTIONS, Convention, Weights, to_ours
from jaxrnn.types import Array, Cell, Params

KINDS = {"RNN": "vanilla", "LSTM": "lstm", "GRU": "gru"}


class NodeWeights(NamedTuple):
    """The weights of one direction of a node: ``W [G H, D]``, ``R [G H, H]``, ``B [2 G H]``, ``P [3 H]``."""

    W: Array
    R: Array
    B: Array | None = None
    P: Array | None = None


def convention_of(operator: str, reset_after: bool) -> Convention:
    """Return how ONNX writes down the weights of an operator; ``reset_after``: of a GRU."""
    framework = "onnx before" if operator == "GRU" and not reset_after else "onnx"
    return CONVENTIONS[framework, KINDS[operator]]


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
