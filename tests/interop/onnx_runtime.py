"""ONNX Runtime, which the tests hold converters against."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def run_model(model, inputs):
    """Return the outputs of a model by name."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def model_of(nodes, inputs, outputs, constants=()):
    """Return the model of ``nodes`` with inputs like the arrays of ``inputs``, and constants, arrays by name.

    outputs: by name, how many axes each has.
    """
    of_type = onnx.helper.np_dtype_to_tensor_dtype
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes,
        "model",
        [value(name, of_type(np.asarray(array).dtype), array.shape) for name, array in inputs.items()],
        [value(name, onnx.TensorProto.FLOAT, [None] * axes) for name, axes in outputs.items()],
        [onnx.numpy_helper.from_array(array, name) for name, array in dict(constants).items()],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 22)], ir_version=10)
