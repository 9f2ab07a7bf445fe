"""What the values of a model of ONNX are to the sequence that runs through it.

A value is one of these: a constant, which is a NumPy array; the sequence; numbers taken from a shape; zeros made
of such numbers, for initial states; what is given at every call, lengths and initial states; final states.
"""

from typing import Any, NamedTuple

import numpy as np

MOVES = (
    "Cast",
    "Concat",
    "Expand",
    "Gather",
    "Identity",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
)


class Sequence(NamedTuple):
    """The sequence: its axes are the model's own first and second, 0 and 1, "directions" and "features".

    Where both of the first are flattened to one, that is "rows".

    version: how often the network had grown when it was made: only the newest one runs through all of it.
    """

    axes: tuple[Any, ...]
    version: int = 0


class Numbers(NamedTuple):
    """Numbers taken from a shape; how many."""

    count: int


class Zeros(NamedTuple):
    """Zeros of a shape that the model finds when it runs."""


class Given(NamedTuple):
    """An input of the model besides the sequence, or a part of it: lengths or an initial state."""


class Final(NamedTuple):
    """A final state, or what is made of some."""


def beside(node: Any, attributes: dict[str, Any], inputs: list[Any]) -> Any:
    """Return what a node makes of values that are not the sequence."""
    operator = node.op_type
    if any(isinstance(value, Final) for value in inputs):
        return Final()
    if any(isinstance(value, Given) for value in inputs):
        if operator == "Shape":
            return Numbers(1)
        if operator in (*MOVES, "Less"):  # what makes a mask of lengths is given too
            return Given()
    elif operator in ("ConstantOfShape", "Expand") and isinstance(inputs[-1], Numbers):
        if not np.any(inputs[0] if operator == "Expand" else _filling(attributes)):
            return Zeros()
    elif any(isinstance(value, Zeros) for value in inputs):
        if operator in MOVES and (operator != "Concat" or all(_zero(value) for value in inputs)):
            return Zeros()
    elif all(isinstance(value, Numbers | np.ndarray) for value in inputs):
        counts = [value.count if isinstance(value, Numbers) else value.size for value in inputs]
        return Numbers(sum(counts) if operator == "Concat" else counts[-1 if operator == "Gather" else 0])
    raise unread(node, "initial states of zeros, or inputs of the model")


def unread(node: Any, expected: str) -> ValueError:
    """Return the error of a node that has no counterpart here."""
    return ValueError(f"model: expected {expected}, got the operator {node.op_type} ({node.name or node.output[0]})")


def _zero(value: Any) -> bool:
    return isinstance(value, Zeros) or (isinstance(value, np.ndarray) and not value.any())


def _filling(attributes: dict[str, Any]) -> Any:
    """Return what a ConstantOfShape fills with."""
    from onnx import numpy_helper

    return numpy_helper.to_array(attributes["value"]) if "value" in attributes else 0.0
