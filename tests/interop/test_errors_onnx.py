"""Wrong arguments of what is about ONNX, and what it has nothing for."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.interop.onnx import ONNXActivation, from_onnx, run_node, to_onnx
from tests import wrong
from tests.interop.onnx_runtime import onnx
from tests.wrong import Bad, Function, choices, params_of

make_node = onnx.helper.make_node
T, B, D, H = 4, 3, 2, 3
GRU, BEFORE = jaxrnn.gru(D, H), jaxrnn.gru(D, H, reset_after=False)
LAYER = jaxrnn.recurrent(GRU)
CLIPPED = jaxrnn.gru(D, H, activations=(ONNXActivation("Sigmoid", clip=0.4), "tanh"))


def both(cell, back, **merge):
    return jaxrnn.bidirectional(jaxrnn.recurrent(cell), jaxrnn.recurrent(back, reverse=True), **merge)


def of(cell):
    return jaxrnn.recurrent(cell)


KINDS, ONE = "cells that onnx has (vanilla, lstm, gru)", "cells of one kind, size and options"
LAYERS = [
    Bad("layer", GRU, TypeError, "a Layer", "Cell"),
    Bad("layer", jaxrnn.layer_norm(D), ValueError, "dense or dropout", "layer_norm"),
    Bad("layer", LAYER._replace(spec=None), ValueError, "dense or dropout", "one of your own"),
    Bad("layer", of(jaxrnn.janet(D, H)), ValueError, KINDS, "janet"),
    Bad("layer", of(GRU._replace(spec=None)), ValueError, KINDS, "a cell of your own"),
    Bad("layer", of(jaxrnn.lstm_variant(D, H, projection_size=2)), ValueError, "without projection_size", "one"),
    Bad("layer", of(jaxrnn.vanilla(D, H, activation=jnp.sin)), ValueError, "that ONNX has", "sin", "activation"),
    Bad("layer", jaxrnn.dense(D, H, activation=jnp.sin), ValueError, "relu, tanh, sigmoid or none", "sin"),
    Bad("layer", both(GRU, GRU, merge="both"), ValueError, "merged to one", "merge='both'"),
    Bad("layer", both(GRU, BEFORE), ValueError, ONE, "others"),
    Bad("layer", both(GRU, jaxrnn.gru(D, 2)), ValueError, ONE, "others"),
    Bad("layer", both(GRU, jaxrnn.vanilla(D, H)), ValueError, ONE, "others"),
    Bad("layer", of(CLIPPED), ValueError, "one clip of all but the memory", "clip=0.4"),
    Bad(
        "layer",
        jaxrnn.bidirectional(jaxrnn.serial(LAYER), jaxrnn.recurrent(GRU, reverse=True)),
        ValueError,
        "recurrent and bidirectional layers",
        "serial",
    ),
]
PARAMS = params_of(LAYER)
TO = [
    Bad("params", params_of(of(jaxrnn.gru(5, H))), ValueError, "(2, 9)", "(5, 9)"),
    Bad("params", PARAMS._replace(bias=PARAMS.bias.astype(np.float16)), TypeError, "one dtype", "float16, float32"),
    Bad("params", None, TypeError, "GRUParams", "None"),
    *choices("lengths", "True or False", "yes", None, 1),
    *choices("carry", "True or False", "yes", None, 1),
]
SHAPES = {
    "X": (T, B, D),
    "W": (1, 3 * H, D),
    "R": (1, 3 * H, H),
    "B": (1, 6 * H),
    "sequence_lens": (B,),
    "initial_h": (1, B, H),
}


def arrays(**shapes):
    """Return the inputs of a GRU, of other shapes than the right ones where they are given."""
    return [
        None if shape is None else np.ones(shape, np.int32 if name == "sequence_lens" else np.float32)
        for name, shape in {**SHAPES, **shapes}.items()
    ]


def gru(**attributes):
    return make_node("GRU", list(SHAPES), ["Y", "Y_h"], **attributes)


def node_of(got, expected, named, **attributes):
    return Bad("node", gru(**attributes), ValueError, expected, got, named)


NODE = Function(
    run_node,
    {"node": gru(), "inputs": arrays()},
    [
        Bad("node", make_node("Conv", ["X"], ["Y"]), ValueError, "one of RNN, LSTM, GRU", "Conv"),
        Bad("node", "GRU", ValueError, "one of RNN, LSTM, GRU", "GRU"),
        Bad("node", make_node("GRU", list(SHAPES), list("YHC")), ValueError, "at most 2 outputs of GRU", "3"),
        node_of("'backward'", "one of 'forward'", "direction", direction="backward"),
        node_of("2", "0 or 1", "layout", layout=2),
        node_of("-1.0", "a number above 0", "clip", clip=-1.0),
        node_of("1", "no such attribute of GRU", "input_forget", input_forget=1),
        node_of("['Tanh']", "2 of forward GRU", "activations", activations=["Tanh"]),
        node_of("'Gelu'", "one of 'Relu'", "activations", activations=["Tanh", "Gelu"]),
        node_of("(1, 9, 2)", "(1, 12, 2) of GRU", "W", hidden_size=4),
        Bad("inputs", arrays(X=(T, D)), ValueError, "three axes", "(4, 2)", "X"),
        Bad("inputs", arrays(W=(2, 3 * H, D)), ValueError, "(1, 9, 2) of GRU", "(2, 9, 2)", "W"),
        Bad("inputs", arrays(R=(1, 4 * H, H)), ValueError, "(1, 9, 3) of GRU", "(1, 12, 3)", "R"),
        Bad("inputs", arrays(B=(1, 3 * H)), ValueError, "(1, 18) of GRU", "(1, 9)", "B"),
        Bad("inputs", arrays(initial_h=(B, H)), ValueError, "(1, 3, 3)", "(3, 3)", "initial_h"),
        Bad("inputs", arrays(W=None), ValueError, "an array", "None", "W"),
        Bad("inputs", arrays(other=(1,)), ValueError, "at most 6 of GRU", "7"),
        Bad("inputs", ["X", *arrays()[1:]], TypeError, "an array", "str", "X"),
    ],
    traces=False,
)
TURNED = Function(
    lambda inputs: run_node(gru(layout=1), inputs),
    {"inputs": arrays()},
    [Bad("inputs", arrays(initial_h=(1, T, H)), ValueError, "(4, 1, 3)", "(1, 4, 3)", "initial_h")],
    traces=False,
)
ACTIVATION = Function(
    ONNXActivation,
    {"name": "LeakyRelu", "alpha": 0.1, "beta": None, "clip": None},
    [
        *choices("name", "one of 'Relu'", "Gelu", None, error=ValueError),
        *choices("alpha", "a number", "0.1"),
        Bad("alpha", None, ValueError, "a number, such as 0.01, for LeakyRelu", "None"),
        Bad("beta", 0.1, ValueError, "None for LeakyRelu", "0.1"),
        *choices("clip", "a positive number or None", -1.0, 0, error=ValueError),
        *choices("clip", "a number", "3"),
    ],
    traces=False,
)
TABLE = {
    "to_onnx, layers": Function(lambda layer: to_onnx(layer, params_of(layer)), {"layer": LAYER}, LAYERS, traces=False),
    "to_onnx": Function(
        to_onnx, {"layer": LAYER, "params": PARAMS, "lengths": False, "carry": False}, TO, ("layer",), traces=False
    ),
    "from_onnx": Function(
        from_onnx,
        {"model": None},
        [Bad("model", 3, TypeError, "a path", "int"), Bad("model", None, TypeError, "a path", "None")],
        traces=False,
    ),
    "run_node": NODE,
    "run_node, turned": TURNED,
    "ONNXActivation": ACTIVATION,
}


@pytest.mark.parametrize("function", wrong.cases(TABLE))
def test_wrong_arguments(function):
    wrong.hold(function)


def test_every_argument_is_wrong_once():
    assert wrong.untested_arguments(TABLE) == []


def test_what_is_in_training_alone_goes_through():
    """Checkpoints and dropout are no part of the model, and a function that has a name is that."""
    cell = jaxrnn.variational_dropout(jaxrnn.vanilla(D, H, activation=jnp.tanh), 0.1)
    layer = jaxrnn.checkpointed(jaxrnn.weight_dropout(jaxrnn.recurrent(cell), 0.1))
    params = params_of(layer)
    assert to_onnx(layer, params) == to_onnx(jaxrnn.recurrent(jaxrnn.vanilla(D, H)), params)
