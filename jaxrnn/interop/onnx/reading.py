"""A layer from a model of ONNX: its nodes are read in order, as what they are to a sequence that runs through them.

The axes of the sequence are followed through every Transpose, Squeeze and Reshape.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxrnn import checks
from jaxrnn.interop.arrays import off_host, require
from jaxrnn.interop.onnx.activations import OURS
from jaxrnn.interop.onnx.nodes import INPUTS, Direction, read_attributes, read_directions
from jaxrnn.interop.onnx.values import Final, Given, Numbers, Sequence, Zeros, beside, unread
from jaxrnn.layers.bidirectional import Directions, bidirectional
from jaxrnn.layers.dense import DenseParams, dense
from jaxrnn.layers.embedding import EmbeddingParams, embedding
from jaxrnn.layers.recurrent import recurrent
from jaxrnn.layers.serial import serial
from jaxrnn.types import Layer, Params

MERGES = {"ReduceSum": "sum", "ReduceMean": "mean", "ReduceProd": "product"}
UNCHANGED = ("Identity", "Dropout")


class Affine(NamedTuple):
    """A dense layer, as far as it has been read."""

    kernel: Any
    bias: Any = None
    activation: Any = None


class Recurrence(NamedTuple):
    """A recurrent layer, as far as it has been read."""

    directions: list[Direction]
    merge: str | None = None


class Table(NamedTuple):
    """An embedding."""

    table: Any


class Reader:
    """The walk over the nodes: ``values`` by name, the ``stages`` of the network, and which axis is time."""

    def __init__(self, graph: Any) -> None:
        from onnx import numpy_helper

        self.values: dict[str, Any] = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
        self.stages: list[Any] = []
        self.version = 0
        self.time: int | None = None
        inputs = [each for each in graph.input if each.name not in self.values]
        if not inputs:
            raise ValueError("model: expected an input, got none")
        self.values |= {each.name: Given() for each in inputs}
        rank = len(inputs[0].type.tensor_type.shape.dim)
        if rank not in (2, 3):
            raise ValueError(f"model: expected tokens of two axes or features of three first, got {rank} axes")
        self.values[inputs[0].name] = Sequence((0, 1, "features")[:rank])

    def read(self, node: Any) -> None:
        """Find what the outputs of a node are."""
        from onnx import helper

        attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        inputs = [self.values[name] if name else None for name in node.input]
        if all(isinstance(value, np.ndarray) for value in inputs):
            outputs = _folded(node)(inputs)
        elif any(isinstance(value, Sequence) and value.version < self.version for value in inputs):
            outputs = (self._older(node),)
        elif isinstance(inputs[0], Sequence) and node.op_type in INPUTS:
            outputs = self._recurrence(node, attributes, inputs)
        elif any(isinstance(value, Sequence) for value in inputs):
            outputs = (self._sequence(node, attributes, inputs),)
        else:
            outputs = (beside(node, attributes, inputs),) * len(node.output)
        self.values |= dict(zip(node.output, outputs, strict=False))

    def _recurrence(self, node: Any, given: dict[str, Any], inputs: list[Any]) -> tuple[Any, ...]:
        arrays = dict(zip(INPUTS[node.op_type], inputs, strict=False))
        for name in ("W", "R", "B", "P"):
            if arrays.get(name) is not None and not isinstance(arrays[name], np.ndarray):
                raise unread(node, f"constant weights {name}")
        if not isinstance(arrays.get("sequence_lens"), Given | None):
            raise unread(node, "lengths that are an input of the model, or none")
        for name in ("initial_h", "initial_c"):
            start = arrays.get(name)
            if not isinstance(start, Given | Zeros | None) and not (isinstance(start, np.ndarray) and not start.any()):
                raise unread(node, f"an {name} of zeros, or an input of the model")
        attributes = read_attributes(node.op_type, given)
        axes = arrays["X"].axes
        time = axes[attributes.layout]
        if self.time not in (None, time) or axes[2:] != ("features",):
            raise unread(node, "features last, and the same time axis in all recurrent nodes")
        self.time = time
        weights = off_host({name: arrays[name] for name in "WRBP" if arrays.get(name) is not None})
        stage = Recurrence(read_directions(node.op_type, attributes, weights))
        first, second, features = axes
        ways = (first, second, "directions") if attributes.layout else (first, "directions", second)
        return self._grown(stage, (*ways, features)), Final(), Final()

    def _sequence(self, node: Any, attributes: dict[str, Any], inputs: list[Any]) -> Any:
        """Return what a node makes of the sequence, its first input but for Gather and, perhaps, Add."""
        operator, constants = node.op_type, [value for value in inputs if isinstance(value, np.ndarray)]
        sequence = next(value for value in inputs if isinstance(value, Sequence))
        axes, last = sequence.axes, self.stages[-1] if self.stages else None
        if operator in UNCHANGED or (operator == "Cast" and axes == (0, 1)):
            return sequence
        if operator == "Shape":
            return Numbers(len(axes))
        if operator == "Gather" and axes == (0, 1) and inputs[1] is sequence and not attributes.get("axis"):
            return self._grown(Table(constants[0]), (*axes, "features"))
        if operator == "Transpose":
            order = attributes.get("perm", range(len(axes))[::-1])
            return sequence._replace(axes=tuple(axes[axis] for axis in order))
        if operator in ("Squeeze", *MERGES) and isinstance(last, Recurrence) and "directions" in axes:
            dropped = attributes.get("axes", constants[0] if constants else ())
            kept = operator in MERGES and attributes.get("keepdims", 1)
            if [axes[axis] for axis in np.ravel(dropped)] == ["directions"] and not kept:
                return self._merged(axes, MERGES.get(operator))
        if operator == "Reshape":
            return self._reshaped(node, axes, inputs[1])
        if operator == "Where" and isinstance(inputs[0], Given) and inputs[1] is sequence and _zeros(constants):
            return sequence  # zeros in padding, as a `Layer` has them
        if axes[-1] == "features" and "directions" not in axes and len(constants) == len(inputs) - 1:
            stage = self._affine(operator, attributes, inputs[0] is sequence, constants)
            if stage is not None:
                return self._grown(stage, axes)
        raise unread(node, "recurrent and dense layers, an embedding, and what lies between them")

    def _affine(self, operator: str, attributes: dict[str, Any], first: bool, constants: list[Any]) -> Affine | None:
        """Return the dense layer that a node begins or goes on with, of the sequence and ``constants``; or None.

        first: whether the sequence is the node's first input.
        """
        last = self.stages[-1] if self.stages else None
        if operator in ("MatMul", "Gemm"):
            kernel, *bias = constants
            kernel = kernel.T if attributes.get("transB") else kernel
            unscaled = attributes.get("alpha", 1.0) == attributes.get("beta", 1.0) == 1.0
            if (
                first
                and kernel.ndim == 2
                and unscaled
                and all(b.shape[-1:] == kernel.shape[1:] == (b.size,) for b in bias)
            ):
                return Affine(kernel, *(b.ravel() for b in bias))
        elif isinstance(last, Affine) and last.activation is None:
            added = constants[0] if constants else np.zeros(0)
            if operator == "Add" and last.bias is None and added.shape[-1:] == last.kernel.shape[1:] == (added.size,):
                return self.stages.pop()._replace(bias=added.ravel())
            if operator in OURS:
                return self.stages.pop()._replace(activation=OURS[operator])
        return None

    def _reshaped(self, node: Any, axes: tuple[Any, ...], shape: Any) -> Sequence:
        """Return the sequence after a Reshape: features of both directions side by side, or rows and back."""
        count = shape.count if isinstance(shape, Numbers) else np.size(shape)
        if len(axes) == 4 and count == 3 and axes[2:] == ("directions", "features"):
            return self._merged(axes, "concat")
        if len(axes) == 4 and count == 3 and len(self.stages[-1].directions) == 1:
            return self._merged(axes, None)
        if count == 2 and axes == (0, 1, "features"):
            return Sequence(("rows", "features"), self.version)
        if count == 3 and axes == ("rows", "features"):
            return Sequence((0, 1, "features"), self.version)
        raise unread(node, "that it puts features of both directions side by side")

    def _merged(self, axes: tuple[Any, ...], merge: str | None) -> Sequence:
        """Return the sequence without its axis of directions, which were merged."""
        last = self.stages.pop()
        if merge is None and len(last.directions) == 2:
            raise ValueError("model: expected both directions to be merged, got a Squeeze of two")
        return self._grown(last._replace(merge=merge), tuple(axis for axis in axes if axis != "directions"))

    def _grown(self, stage: Any, axes: tuple[Any, ...]) -> Sequence:
        """Return the sequence after a stage that is new, or has grown."""
        self.stages.append(stage)
        self.version += 1
        return Sequence(axes, self.version)

    def _older(self, node: Any) -> Numbers:
        """Return what a node makes of a sequence from before the last stage: only its shape may be asked for."""
        if node.op_type != "Shape":
            raise unread(node, "stages one after another")
        return Numbers(3)


def from_onnx(model: Any) -> tuple[Layer, Params]:
    """Return the layer that a model is, and its parameters.

    A model may be an embedding (Gather), recurrent layers (RNN, LSTM, GRU) and dense ones (MatMul, Gemm, Add,
    and Relu, Tanh, Sigmoid) in any order, with what exporters put between: Transpose, Squeeze, Reshape,
    constants, and initial states of zeros. One stage is that layer alone; more are a `jaxrnn.serial`.

    The layer takes ``xs [T, B, D]``, time first, whatever the model's own first axis is, and gives outputs
    in the same order. Inputs of the model besides the sequence are lengths and initial states, which go into
    ``apply`` as ``lengths`` and ``carry``.

    Args:
        model: an ``onnx.ModelProto``, or the path of one.

    Returns:
        ``(layer, params)``, in the dtype of the model.

    Raises:
        ValueError: an operator that has no counterpart here, named; the first, where there are more.
        ImportError: onnx is not installed.

    Source: the ONNX standard, version 22 of its operators.

    Example:
        >>> import jax, jaxrnn
        >>> from jaxrnn.interop.onnx import from_onnx, to_onnx
        >>> layer = jaxrnn.serial(jaxrnn.embedding(10, 3), jaxrnn.recurrent(jaxrnn.gru(3, 4)), jaxrnn.dense(4, 2))
        >>> layer, params = from_onnx(to_onnx(layer, layer.init(jax.random.key(0))))
        >>> params[0].table.shape, params[1].recurrent.shape, params[2].kernel.shape
        ((10, 3), (4, 12), (4, 2))
    """
    onnx = require("onnx")
    if not isinstance(model, onnx.ModelProto):
        model = onnx.load(checks.path("model", model))
    reader = Reader(model.graph)
    for node in model.graph.node:
        reader.read(node)
    outputs = [reader.values[each.name] for each in model.graph.output]
    whole = [each for each in outputs if isinstance(each, Sequence) and each.version == reader.version]
    if not any(sorted(map(str, each.axes)) == ["0", "1", "features"] for each in whole):
        raise ValueError("model: expected an output for every step, with both directions merged, got none")
    made = [_made(stage) for stage in reader.stages]
    if len(made) == 1:
        return made[0]
    return serial(*(layer for layer, _ in made)), tuple(params for _, params in made)


def _made(stage: Any) -> tuple[Layer, Params]:
    """Return the layer of a stage, and its parameters."""
    if isinstance(stage, Table):
        table = jnp.asarray(stage.table)
        return embedding(*table.shape, dtype=table.dtype), EmbeddingParams(table)
    if isinstance(stage, Affine):
        kernel, bias = jnp.asarray(stage.kernel), None if stage.bias is None else jnp.asarray(stage.bias)
        layer = dense(*kernel.shape, activation=stage.activation, bias=bias is not None, dtype=kernel.dtype)
        return layer, DenseParams(kernel, bias)
    directions = sorted(stage.directions, key=lambda each: each.reverse)
    layers = [recurrent(each.cell, reverse=each.reverse) for each in directions]
    if len(layers) == 1:
        return layers[0], directions[0].params
    return bidirectional(*layers, merge=stage.merge), Directions(*(each.params for each in directions))


def _folded(node: Any) -> Any:
    """Return a function of constants, by ONNX's reference evaluator."""
    from onnx.reference import ReferenceEvaluator

    return lambda constants: ReferenceEvaluator(node).run(None, dict(zip(node.input, constants, strict=True)))


def _zeros(constants: list[Any]) -> bool:
    return bool(constants) and not constants[0].any()
