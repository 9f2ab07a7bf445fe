"""RNN, LSTM and GRU of ONNX: one node is one cell for each direction, run over a sequence.

    Y [T, directions, B, H], Y_h [directions, B, H], Y_c = node(X [T, B, D], W, R, B, sequence_lens, initial_h, …)

with ``W [directions, gates H, D]``, ``R [directions, gates H, H]``, ``B [directions, 2 gates H]``, the biases
of both products, and ``P [directions, 3H]``, the peepholes. With layout 1 the batch is the first axis of all
but the weights.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import checks
from jaxrnn.cells.lstm import LSTMCarry
from jaxrnn.interop.arrays import require
from jaxrnn.interop.descriptions import convention_of
from jaxrnn.interop.onnx.activations import read_activations
from jaxrnn.interop.onnx.weights import KINDS, NodeWeights, read_cell, ways_of
from jaxrnn.types import Array, Cell, Params
from jaxrnn.unrolling import unroll

DIRECTIONS = ("forward", "reverse", "bidirectional")
INPUTS = {
    "RNN": ("X", "W", "R", "B", "sequence_lens", "initial_h"),
    "LSTM": ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"),
    "GRU": ("X", "W", "R", "B", "sequence_lens", "initial_h"),
}
DEFAULT_ACTIVATIONS = {"RNN": ("Tanh",), "LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh")}


class Attributes(NamedTuple):
    """The attributes of a node, with the defaults of the operator.

    activations: those of every direction, as a cell takes them.
    """

    reversed: tuple[bool, ...]
    activations: tuple[tuple[Any, ...], ...]
    hidden_size: int | None
    layout: int
    input_forget: bool
    linear_before_reset: bool


class Direction(NamedTuple):
    """What one direction of a node is: a cell, its parameters, and whether it runs in reverse."""

    cell: Cell
    params: Params
    reverse: bool


def run_node(node: Any, inputs: Sequence[Any]) -> list[Array | None]:
    """Return the outputs of a node RNN, LSTM or GRU of ONNX, computed by `jaxrnn.unroll`.

    All attributes of the operators up to version 22 count. ``clip`` bounds what the activations of gates
    and candidate take, not c_t, and of ``activation_alpha`` and ``activation_beta`` each function that has
    one takes the next, both as in ONNX Runtime. A sequence of length 0 keeps its initial state.

    Args:
        node: an ``onnx.NodeProto``.
        inputs: an array for each of the node's inputs, in order, None where one is absent. X decides the
            dtype: float16, bfloat16, float32, or float64 where JAX has it enabled.

    Returns:
        An array for each of the node's outputs, None where its name is empty.

    Raises:
        ValueError: an operator, attribute, shape or number of inputs that does not fit.
        TypeError: a dtype that does not fit.
        ImportError: onnx is not installed.

    Source: the operators RNN, LSTM and GRU of the ONNX standard, version 22.

    Example:
        >>> import numpy as np
        >>> from jaxrnn.interop.onnx import run_node
        >>> from onnx import helper
        >>> node = helper.make_node("GRU", ["X", "W", "R"], ["Y", "Y_h"], hidden_size=5, linear_before_reset=1)
        >>> xs, W, R = (np.ones(shape, np.float32) for shape in [(7, 2, 3), (1, 15, 3), (1, 15, 5)])
        >>> ys, h = run_node(node, [xs, W, R])
        >>> ys.shape, h.shape
        ((7, 1, 2, 5), (1, 2, 5))
    """
    helper = require("onnx").helper
    if getattr(node, "op_type", None) not in INPUTS or node.domain not in ("", "ai.onnx"):
        found = f"{getattr(node, 'domain', '')} {getattr(node, 'op_type', node)}".strip()
        raise ValueError(f"node: expected one of {', '.join(INPUTS)}, got {found}")
    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    outputs = run_operator(node.op_type, given, inputs)
    if len(node.output) > len(outputs):
        raise ValueError(f"node: expected at most {len(outputs)} outputs of {node.op_type}, got {len(node.output)}")
    return [output if name else None for name, output in zip(node.output, outputs, strict=False)]


def run_operator(operator: str, attributes: Mapping[str, Any], inputs: Sequence[Any]) -> list[Array]:
    """Return Y, Y_h and, of an LSTM, Y_c; ``attributes`` and ``inputs`` as a node has them."""
    if len(inputs) > len(INPUTS[operator]):
        raise ValueError(f"inputs: expected at most {len(INPUTS[operator])} of {operator}, got {len(inputs)}")
    arrays = dict(zip(INPUTS[operator], inputs, strict=False))
    arrays = {name: _array(name, value) for name, value in arrays.items() if value is not None}
    for name in ("X", "W", "R"):
        if name not in arrays:
            raise ValueError(f"{name}: expected an array, got None")
    read = read_attributes(operator, attributes)
    directions = read_directions(operator, read, arrays)
    xs = arrays["X"]
    if xs.ndim != 3:
        raise ValueError(f"X: expected three axes, got shape {xs.shape}")
    if read.layout:
        xs = xs.swapaxes(0, 1)
    carries, ys = [], []
    for index, (cell, params, reverse) in enumerate(directions):
        zeros = _parts(cell.initial_carry(params, xs.shape[1:2]))
        names = ("initial_h", "initial_c")[: len(zeros)]
        starts = [_start(name, arrays.get(name), read, index, zero) for name, zero in zip(names, zeros, strict=True)]
        carry = LSTMCarry(*starts) if operator == "LSTM" else starts[0]
        carry, y = unroll(cell, params, xs, carry, lengths=arrays.get("sequence_lens"), reverse=reverse)
        carries.append(_parts(carry))
        ys.append(y)
    finals = [jnp.stack(parts, axis=read.layout) for parts in zip(*carries, strict=True)]
    ys = jnp.stack(ys, axis=1)  # [T, directions, B, H]
    return [ys.transpose(2, 0, 1, 3) if read.layout else ys, *finals]


def read_attributes(operator: str, given: Mapping[str, Any]) -> Attributes:
    """Return the `Attributes` of a node, from those it gives; None stands for one not given."""
    given = {name: value for name, value in given.items() if value is not None}
    known = {"direction", "clip", "activations", "activation_alpha", "activation_beta", "hidden_size", "layout"}
    known |= {"LSTM": {"input_forget"}, "GRU": {"linear_before_reset"}}.get(operator, set())
    known |= {"output_sequence"}  # of version 1: whether Y is asked for, which the node's outputs say too
    for name in given.keys() - known:
        raise ValueError(f"{name}: expected no such attribute of {operator}, got {given[name]!r}")
    direction = checks.choice("direction", _text(given.get("direction", "forward")), DIRECTIONS)
    coupled, after = bool(given.get("input_forget", 0)), bool(given.get("linear_before_reset", 0))
    ways = ways_of(convention_of("onnx", KINDS[operator], after), direction)
    layout = given.get("layout", 0)
    if layout not in (0, 1):
        raise ValueError(f"layout: expected 0 or 1, got {layout!r}")
    defaults = DEFAULT_ACTIVATIONS[operator]
    names = [_text(name) for name in given.get("activations") or defaults * len(ways)]
    # ONNX's own default for RNN names one function for each of two directions, whatever the direction.
    if operator == "RNN" and len(ways) == 1 and names == ["Tanh", "Tanh"]:
        names = names[:1]
    if len(names) != len(defaults) * len(ways):
        raise ValueError(f"activations: expected {len(defaults) * len(ways)} of {direction} {operator}, got {names}")
    clip = given.get("clip") or None  # 0 is how a model says that there is none
    if clip is not None:
        checks.positive("clip", clip)
    bounds = [None if operator == "LSTM" and index % 3 == 2 else clip for index in range(len(names))]
    alphas, betas = given.get("activation_alpha") or (), given.get("activation_beta") or ()
    activations = read_activations(names, alphas, betas, bounds)
    of_each = tuple(tuple(activations[i : i + len(defaults)]) for i in range(0, len(names), len(defaults)))
    return Attributes(ways, of_each, given.get("hidden_size"), layout, coupled, after)


def read_directions(operator: str, attributes: Attributes, arrays: Mapping[str, Any]) -> list[Direction]:
    """Return the cell and the parameters of every direction, from a node's ``arrays`` W, R, B and P."""
    W, R, B, P = (arrays.get(name) for name in "WRBP")
    assert W is not None
    assert R is not None
    reset_after = attributes.linear_before_reset
    count, gates = len(attributes.reversed), len(convention_of("onnx", KINDS[operator], reset_after).gates)
    hidden_size = R.shape[-1] if attributes.hidden_size is None else attributes.hidden_size
    shapes = {
        "W": (W, (count, gates * hidden_size, W.shape[-1] if W.ndim == 3 else "features")),
        "R": (R, (count, gates * hidden_size, hidden_size)),
        "B": (B, (count, 2 * gates * hidden_size)),
        "P": (P, (count, 3 * hidden_size)),
    }
    for name, (value, expected) in shapes.items():
        if value is not None and value.shape != expected:
            raise ValueError(f"{name}: expected shape {expected} of {operator}, got {value.shape}")
    directions = []
    for index, reverse in enumerate(attributes.reversed):
        weights = NodeWeights(W[index], R[index], *(None if value is None else value[index] for value in (B, P)))
        activations = attributes.activations[index]
        cell, params = read_cell(operator, activations, attributes.input_forget, reset_after, weights)
        directions.append(Direction(cell, params, reverse))
    return directions


def _array(name: str, value: Any) -> Array:
    array = checks.array(name, value)
    given = np.dtype(getattr(value, "dtype", array.dtype))
    if given == np.float64 != array.dtype:
        raise TypeError(f"{name}: expected float32, or JAX with float64 enabled (jax.enable_x64), got float64")
    return array


def _start(name: str, given: Array | None, attributes: Attributes, index: int, zeros: Array) -> Array:
    """Return the initial state of a direction, ``[B, H]``: its part of what is given, or zeros."""
    if given is None:
        return zeros
    (batch, hidden_size), ways, axis = zeros.shape, len(attributes.reversed), attributes.layout
    expected = (batch, ways, hidden_size) if axis else (ways, batch, hidden_size)
    if given.shape != expected:
        raise ValueError(f"{name}: expected shape {expected}, got {given.shape}")
    return given[:, index] if axis else given[index]


def _parts(carry: Any) -> tuple[Array, ...]:
    """Return h and, of an LSTM, c."""
    return tuple(jax.tree.leaves(carry))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else value
