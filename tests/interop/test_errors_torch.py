"""What is wrong with weights from torch, said by the names that they have there, and what torch has no module for."""

import re

import numpy as np
import pytest

import jaxrnn
from jaxrnn.interop import from_torch, from_torch_state, to_torch, to_torch_state
from tests import wrong
from tests.wrong import HS, LSTM, Bad, Function, H, choices, params_of

torch = pytest.importorskip("torch")


def weights(rows=16, D=3, R=4, places=("_l0",), **others):
    """Return the state dict of an LSTM of 4 features, or of what else it has rows for."""
    state = {}
    for place in places:
        state |= {
            f"weight_ih{place}": np.ones((rows, D), np.float32),
            f"weight_hh{place}": np.ones((rows, R), np.float32),
        }
        state |= {f"bias_{which}{place}": np.ones(rows, np.float32) for which in ("ih", "hh")}
    return {**state, **others}


def without(name, **arguments):
    state = weights(**arguments)
    del state[name]
    return state


F32 = np.zeros(16, np.float32)
SHAPE = "of shape (16, 4), as the others"
MODULES = "a module of torch, a state dict or a path"
SOURCES = [
    Bad("source", without("bias_hh_l0"), ValueError, "one RNN, LSTM or GRU", "missing bias_hh_l0"),
    Bad("source", without("weight_hh_l1", places=("_l0", "_l1"), D=4), ValueError, "one", "missing weight_hh_l1"),
    Bad("source", without("weight_ih_l0_reverse", places=("_l0", "_l0_reverse")), ValueError, "", "weight_ih_l0_rev"),
    Bad("source", weights(places=("_l0", "_l1"), D=3), ValueError, f"weight_ih_l1 {SHAPE}", "(16, 3)"),
    Bad("source", weights(places=("_l0", "_l7"), D=4), ValueError, "missing weight_ih_l1,", "…"),
    Bad("source", weights(places=("_l0", "_l99999999999")), ValueError, "", "missing weights of 100000000000 layers"),
    Bad("source", weights(weight_h_l0=F32, extra=F32), ValueError, "", "unexpected weight_h_l0, extra"),
    Bad("source", weights(weight_hr_l0=np.ones((2, 4), np.float32)), ValueError, "weight_hh_l0 of shape (16, 2)", ""),
    Bad("source", weights(12, weight_hr_l0=np.ones((2, 4), np.float32)), ValueError, "with a projection", "(12, 3)"),
    Bad("source", weights(rows=20), ValueError, "1, 3 or 4 times 4 rows", "(20, 3)"),
    Bad("source", weights(bias_ih_l0=F32[:7]), ValueError, "bias_ih_l0 of shape (16,)", "(7,)"),
    Bad("source", weights(bias_ih_l0=F32.astype(np.float16)), TypeError, "one dtype", "float16, float32"),
    Bad("source", weights(bias_ih_l0=F32.astype(int)), TypeError, "a floating dtype", "int64"),
    Bad("source", weights(bias_ih_l0=F32.astype(float)), TypeError, "float64", "set jax_enable_x64"),
    Bad("source", weights(bias_ih_l0="zeros"), TypeError, "bias_ih_l0: expected an array", "str"),
    Bad("source", {}, ValueError, "such as weight_ih_l0 and weight_hh_l0", "none"),
    Bad("source", {"encoder.weight_ih_l0": F32}, ValueError, "such as weight_ih_l0", "encoder.weight_ih_l0"),
    Bad("source", {"weight_ih_l0": F32, "weight_hh_l0": F32}, ValueError, "two axes", "(16,)"),
    Bad("source", 3, TypeError, MODULES, "int"),
    Bad("source", torch.nn.Linear(3, 4), TypeError, "a torch.nn.RNN, LSTM, GRU or one of their cells", "Linear"),
]
OF_FILES = [
    *choices("prefix", "a str", 3, None),
    Bad("prefix", "rnn.", ValueError, "such as weight_ih_l0", "none", "source"),
    *choices("activation", "None for a LSTM", "tanh", error=ValueError),
    *choices("batch_first", "True or False", 1, "yes"),
    *choices("dropout", "0 <= dropout < 1", 1.5, error=ValueError),
    *choices("dropout", "a number", "0.1"),
]
OF_MODULES = [
    Bad(name, value, ValueError, "None with a module, which says it itself", repr(value))
    for name, value in {"prefix": "rnn.", "activation": "tanh", "batch_first": False, "dropout": 0.5}.items()
]
OPTIONS = {"prefix": "", "activation": None, "batch_first": None, "dropout": None}

GRU, BACK = jaxrnn.recurrent(jaxrnn.gru(3, H)), jaxrnn.recurrent(jaxrnn.gru(3, H), reverse=True)
STACK = jaxrnn.stacked(jaxrnn.lstm, 3, H, num_layers=2)
BOTH = jaxrnn.stacked(jaxrnn.gru, 3, H, bidirectional=True)
HAS = "cells that torch has (vanilla, lstm, gru)"
LAYERS = [
    Bad("layer", LSTM, TypeError, "a Layer", "Cell"),
    Bad("layer", jaxrnn.stacked(jaxrnn.gru, 3, [4, 5]), ValueError, "torch.nn.GRU", "hidden_size=4 and 5"),
    Bad("layer", jaxrnn.stacked(jaxrnn.gru, 3, 4, reset_after=False), ValueError, "torch.nn.GRU", "reset_after=False"),
    Bad(
        "layer",
        jaxrnn.recurrent(jaxrnn.gru(3, 4, activations=("sigmoid", "relu"))),
        ValueError,
        "torch.nn.GRU",
        "activations=('sigmoid', 'relu')",
    ),
    Bad("layer", jaxrnn.recurrent(jaxrnn.vanilla(3, 4, activation="identity")), ValueError, "RNN", "('identity',)"),
    Bad("layer", jaxrnn.recurrent(jaxrnn.lstm_variant(3, 4, cell_clip=1.0)), ValueError, "without cell_clip", "one"),
    Bad("layer", jaxrnn.recurrent(jaxrnn.lstm_variant(3, 4, projection_size=4)), ValueError, "", "projection_size=4"),
    Bad("layer", jaxrnn.bidirectional(GRU, BACK, merge="sum"), ValueError, "torch.nn.GRU", "merge='sum'"),
    Bad("layer", BACK, ValueError, "runs forward, or in both directions", "reverse"),
    Bad("layer", jaxrnn.bidirectional(BACK, BACK), ValueError, "one layer runs forward", "two in reverse"),
    Bad("layer", jaxrnn.serial(GRU, jaxrnn.bidirectional(GRU, BACK)), ValueError, "one direction or in both", "others"),
    Bad("layer", jaxrnn.serial(GRU, jaxrnn.recurrent(LSTM)), ValueError, "one kind", "others"),
    Bad("layer", jaxrnn.recurrent(jaxrnn.janet(3, 4)), ValueError, HAS, "janet"),
    Bad("layer", jaxrnn.recurrent(LSTM._replace(spec=None)), ValueError, HAS, "a cell of your own"),
    Bad("layer", GRU._replace(spec=None), ValueError, "stacks of them", "a layer of your own"),
    Bad("layer", jaxrnn.dense(3, 4), ValueError, "recurrent and bidirectional layers", "dense"),
]
OF_STACK = params_of(STACK)
HALF = (OF_STACK[0], OF_STACK[1]._replace(bias=OF_STACK[1].bias.astype(np.float16)))
PARAMS = [
    Bad("params", OF_STACK[:1], TypeError, "of the layer", "(LSTMParams"),
    Bad("params", None, TypeError, "of the layer", "None"),
    Bad("params", (OF_STACK[0]._replace(input=HS), OF_STACK[1]), ValueError, "(3, 16)", "(2, 4)"),
    Bad("params", HALF, TypeError, "one dtype", "float16, float32"),
]
H_N = np.zeros((2, 5, 4), np.float32)
CARRY = (wrong.LSTM_CARRY,) * 2
TABLE = {
    "from_torch": Function(from_torch, {"source": weights(), **OPTIONS}, [*SOURCES, *OF_FILES], traces=False),
    "from_torch, a module": Function(
        from_torch, {"source": torch.nn.GRU(2, 3), **OPTIONS}, OF_MODULES, ("source",), traces=False
    ),
    "from_torch, an RNN": Function(
        lambda activation: from_torch(weights(rows=4), activation=activation),
        {"activation": "relu"},
        choices("activation", "'tanh', 'relu'", "selu", error=ValueError),
    ),
    "to_torch, layers": Function(
        lambda layer: to_torch(layer, params_of(layer) if isinstance(layer, jaxrnn.Layer) else None),
        {"layer": STACK},
        LAYERS,
        traces=False,
    ),
    "to_torch": Function(to_torch, {"layer": STACK, "params": OF_STACK}, PARAMS, ("layer",), traces=False),
    "from_torch_state": Function(
        from_torch_state,
        {"layer": STACK, "state": (H_N, H_N)},
        [
            *(row for row in LAYERS if re.search("Layer|janet|dense", row.expected + row.got)),
            Bad("state", H_N, TypeError, "the pair (h_n, c_n) of an LSTM", "array"),
            Bad("state", (H_N[:1],) * 2, ValueError, "(2, *batch, features)", "(1, 5, 4)"),
            Bad("state", ("h", "c"), TypeError, "an array", "str"),
        ],
        traces=False,
    ),
    "to_torch_state": Function(
        to_torch_state,
        {"layer": STACK, "carry": CARRY},
        [
            *(row for row in LAYERS if re.search("Layer|janet|dense", row.expected + row.got)),
            Bad("carry", CARRY[:1], TypeError, "(LSTMCarry(h=array, c=array), LSTMCarry", "(LSTMCarry"),
            Bad("carry", (HS, HS), TypeError, "(LSTMCarry(h=array, c=array), LSTMCarry", "(array, array)"),
        ],
        traces=False,
    ),
    "to_torch_state, both directions": Function(
        lambda carry: to_torch_state(BOTH, carry),
        {"carry": None},
        [Bad("carry", (HS,), TypeError, "(Directions(forward=array, backward=array),)", "(array,)")],
        traces=False,
    ),
}


@pytest.mark.parametrize("function", wrong.cases(TABLE))
def test_wrong_arguments(function):
    wrong.hold(function)


def test_every_argument_is_wrong_once():
    assert wrong.untested_arguments(TABLE) == []


def test_a_file_that_is_cut_short(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "weights.safetensors"
    whole = numpy.save(weights())
    for end in (0, 4, 40, -1):
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match=r"weights.safetensors: expected a safetensors file, .* cut short"):
            from_torch(path)
    with pytest.raises(FileNotFoundError):
        from_torch(tmp_path / "none")
