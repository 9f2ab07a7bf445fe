"""A model of ONNX from a layer: what `Layer.spec` says of it, node by node, the sequence time first throughout."""

from typing import Any

import jax
import numpy as np

from jaxrnn import checks
from jaxrnn.cells.activations import named
from jaxrnn.interop.arrays import require
from jaxrnn.interop.descriptions import Described, Recurrence, flat, parameters_of, recurrence, ways
from jaxrnn.interop.onnx.activations import OURS
from jaxrnn.interop.onnx.weights import BEYOND, NodeCell, write_cell
from jaxrnn.layers.embedding import EmbeddingParams
from jaxrnn.types import Layer, Params, Spec

OPSET, IR_VERSION = 22, 10  # the newest of the recurrent operators, and the format of that time
REDUCTIONS = {"sum": "ReduceSum", "mean": "ReduceMean", "product": "ReduceProd"}
LAYERS = "recurrent, bidirectional, stacked, serial, embedding, dense or dropout"


class Writer:
    """The graph as it grows: nodes, constants by name, and the initial and final states, by name and shape."""

    def __init__(self, lengths: bool, carry: bool) -> None:
        self.lengths, self.carry = lengths, carry
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}
        self.states: dict[str, list[Any]] = {}
        self.count = 0  # of recurrent nodes
        self.padded = False  # whether the last outputs of padding are other than zero

    def node(self, operator: str, *inputs: str, outputs: tuple[str, ...] = (), **attributes: Any) -> str:
        """Add a node; return the name of its first output."""
        from onnx import helper

        name = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, outputs or (name,), name=name, **attributes))
        return self.nodes[-1].output[0]

    def constant(self, value: Any) -> str:
        """Add a constant; return its name."""
        name = f"constant_{len(self.constants)}"
        self.constants[name] = np.asarray(value)
        return name

    def layer(self, spec: Spec | None, params: Params, xs: str) -> str:
        """Add the nodes of a layer that runs over ``xs``; return the name of its outputs."""
        factory, options = (None, {}) if spec is None else (spec.factory, dict(spec.options))
        if factory in ("recurrent", "bidirectional"):
            return self.recurrence(recurrence("onnx", spec, params, BEYOND), xs)
        if factory == "embedding":
            self.padded = True
            return self.node("Gather", self.constant(params.table), xs)
        if factory == "dense":
            self.padded = True
            ys = self.node("MatMul", xs, self.constant(params.kernel))
            ys = ys if params.bias is None else self.node("Add", ys, self.constant(params.bias))
            activation = named(options["activation"])
            if activation in (None, "identity"):
                return ys
            if activation not in OURS.values():
                names = ", ".join(OURS.values())
                raise ValueError(f"layer: expected a dense with the activation {names} or none, got {activation}")
            return self.node(next(name for name, ours in OURS.items() if ours == activation), ys)
        raise ValueError(f"layer: expected one of {LAYERS}, got {factory or 'one of your own'}")

    def recurrence(self, entry: Recurrence, xs: str) -> str:
        """Add one recurrent layer, in one direction or in both."""
        directions = ways(entry)
        direction = "bidirectional" if len(directions) == 2 else "reverse" if directions[0].reverse else "forward"
        cells = [write_cell(each) for each in directions]
        options = _attributes(cells)
        operator, hidden_size = cells[0].operator, cells[0].weights.R.shape[-1]
        parts, shape = "hc" if operator == "LSTM" else "h", [len(cells), "batch", hidden_size]
        starts, finals = ([f"{when}_{part}_{self.count}" for part in parts] for when in ("initial", "final"))
        if self.carry:
            self.states |= dict.fromkeys([*starts, *finals], shape)
        else:
            starts, finals = [""] * len(parts), []
        of_ways = zip(*(cell.weights for cell in cells), strict=True)
        W, R, B, P = ("" if way[0] is None else self.constant(np.stack(way)) for way in of_ways)
        inputs = [xs, W, R, B, "lengths" if self.lengths else "", *starts, *([P] if operator == "LSTM" else [])]
        outputs = f"states_{self.count}", *finals
        ys = self.node(operator, *inputs, outputs=outputs, direction=direction, hidden_size=hidden_size, **options)
        self.count, self.padded = self.count + 1, False
        if isinstance(entry, Described):
            return self.node("Squeeze", ys, self.constant(np.array([1])))
        if entry.merge == "concat":
            ys = self.node("Transpose", ys, perm=[0, 2, 1, 3])
            return self.node("Reshape", ys, self.constant(np.array([0, 0, -1])))
        if entry.merge in REDUCTIONS:
            return self.node(REDUCTIONS[entry.merge], ys, self.constant(np.array([1])), keepdims=0)
        raise ValueError(f"layer: expected outputs of both directions merged to one, got merge={entry.merge!r}")

    def masked(self, ys: str, dtype: Any) -> str:
        """Add what makes outputs of padding zero, as they are in every `Layer`; return the name of the outputs."""
        if not self.lengths or not self.padded:
            return ys
        first, one = self.constant(np.array(0, np.int32)), self.constant(np.array(1, np.int32))
        time = self.node("Squeeze", self.node("Cast", self.node("Shape", ys, start=0, end=1), to=6))  # int32
        times = self.node("Unsqueeze", self.node("Range", first, time, one), self.constant(np.array([1])))
        valid = self.node("Unsqueeze", self.node("Less", times, "lengths"), self.constant(np.array([2])))
        return self.node("Where", valid, ys, self.constant(np.zeros((), dtype)))


def to_onnx(layer: Layer, params: Params, *, lengths: bool = False, carry: bool = False) -> Any:
    """Return the model of ONNX that computes ``layer.apply(params, xs)``, with opset 22, checked by ONNX.

    Its input is ``xs [time, batch, features]``, or int64 tokens ``[time, batch]`` for an embedding, and its
    output ``ys``. Time and batch may be of any size. Dropout is left out; weights are constants.

    Args:
        layer: of `jaxrnn.recurrent`, `bidirectional`, `stacked`, `serial`, `embedding`, `dense` and `dropout`, with
            cells of `vanilla`, `lstm`, `lstm_variant` and `gru` whose activations ONNX has a name for.
        params: its parameters.
        lengths: whether the model takes ``lengths``, int32 ``[batch]``, as another input.
        carry: whether it takes initial states and gives final ones: ``initial_h_0``, ``final_h_0`` and so on of
            each recurrent layer, ``[directions, batch, hidden]``, and ``_c_0`` of an LSTM.

    Returns:
        An ``onnx.ModelProto``.

    Raises:
        ValueError: a layer, cell, option or activation that ONNX has nothing for, named.
        TypeError: no `Layer`; parameters of another structure.
        ImportError: onnx is not installed.

    Source: the ONNX standard, version 22 of its operators.

    Example:
        >>> import jax, jaxrnn
        >>> from jaxrnn.interop.onnx import to_onnx
        >>> layer = jaxrnn.stacked(jaxrnn.lstm, 3, 5, num_layers=2, bidirectional=True)
        >>> model = to_onnx(layer, layer.init(jax.random.key(0)), carry=True)
        >>> [node.op_type for node in model.graph.node]
        ['LSTM', 'Transpose', 'Reshape', 'LSTM', 'Transpose', 'Reshape', 'Identity']
    """
    require("onnx")
    from onnx import TensorProto, checker, helper, numpy_helper

    checks.flag("lengths", lengths)
    checks.flag("carry", carry)
    layers = list(flat(layer.spec, parameters_of(layer, params)))
    of_params = jax.tree.leaves(params)[0].dtype

    writer = Writer(lengths, carry)
    ys = "xs"
    for spec, own in layers:
        ys = writer.layer(spec, own, ys)
    writer.node("Identity", writer.masked(ys, of_params), outputs=("ys",))
    dtype, value = helper.np_dtype_to_tensor_dtype(of_params), helper.make_tensor_value_info
    inputs = [value("xs", dtype, ["time", "batch", jax.tree.leaves(params)[0].shape[0]])]
    if isinstance(layers[0][1], EmbeddingParams):
        inputs = [value("xs", TensorProto.INT64, ["time", "batch"])]
    if lengths:
        inputs.append(value("lengths", TensorProto.INT32, ["batch"]))
    states = [(name, value(name, dtype, shape)) for name, shape in writer.states.items()]
    graph = helper.make_graph(
        writer.nodes,
        "jaxrnn",
        inputs + [state for name, state in states if name.startswith("initial")],
        [value("ys", dtype, ["time", "batch", None])] + [state for name, state in states if name.startswith("final")],
        [numpy_helper.from_array(array, name) for name, array in writer.constants.items()],
    )
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="jaxrnn")
    checker.check_model(model)
    return model


def _attributes(cells: list[NodeCell]) -> dict[str, Any]:
    """Return the attributes of a node that its cells decide, which must agree on all but activations."""
    first, *others = cells
    shapes = [[None if weight is None else weight.shape for weight in cell.weights] for cell in cells]
    if (
        any((cell.operator, cell.flags) != (first.operator, first.flags) for cell in others)
        or shapes[1:] != shapes[:-1]
    ):
        raise ValueError("layer: expected cells of one kind, size and options in both directions, got others")
    activations = [activation for cell in cells for activation in cell.activations]
    # The function of the memory, the third of an LSTM, is not clipped.
    free = [index for index in range(len(activations)) if first.operator == "LSTM" and index % 3 == 2]
    clips = {each.clip for index, each in enumerate(activations) if index not in free}
    if len(clips) > 1 or any(activations[index].clip is not None for index in free):
        raise ValueError(f"layer: expected one clip of all but the memory of an LSTM, got {activations}")
    alphas = [each.alpha for each in activations if each.alpha is not None]
    betas = [each.beta for each in activations if each.beta is not None]
    attributes = {"activations": [each.name for each in activations], "activation_alpha": alphas}
    attributes |= {"activation_beta": betas, "clip": clips.pop(), **first.flags}
    return {name: given for name, given in attributes.items() if given not in (None, [])}
