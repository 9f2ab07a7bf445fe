"""Wrong arguments of the converters of Keras, Flax, Haiku and Equinox, and what they say where these are missing."""

import os

os.environ["KERAS_BACKEND"] = "jax"  # read when Keras is imported

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import interop
from tests import wrong
from tests.wrong import LSTM, Bad, D, Function, H, choices, params_of

equinox, haiku, keras, linen, nnx = map(pytest.importorskip, ("equinox", "haiku", "keras", "flax.linen", "flax.nnx"))
LAYER, PARAMS = jaxrnn.recurrent(LSTM), params_of(LSTM)
BEFORE, RESIDUAL = jaxrnn.recurrent(jaxrnn.gru(D, H, reset_after=False)), jaxrnn.residual_vanilla(D, H)
BOTH = jaxrnn.bidirectional(LAYER, jaxrnn.recurrent(LSTM, reverse=True))
PEEPHOLE = jaxrnn.recurrent(jaxrnn.lstm_variant(D, H, peephole=True))
TWO_ACTIVATIONS = jaxrnn.recurrent(jaxrnn.lstm_variant(D, H, activations=("sigmoid", "tanh", "relu")))
STRIDED = jaxrnn.recurrent(jaxrnn.conv_lstm((4, D), H, 2, strides=2))
GROUPS = jaxrnn.recurrent(jaxrnn.conv_lstm((4, 2), H, 2, groups=2))
CANDIDATE = jaxrnn.recurrent(jaxrnn.gru(D, H))
WITH_BIAS = params_of(jaxrnn.gru(D, H))._replace(candidate_bias=np.ones(H, np.float32))


def alone(to):
    """Return a converter of layers with parameters that fit."""

    def convert(layer):
        return to(layer, params_of(layer) if isinstance(layer, jaxrnn.Layer) else PARAMS)

    return convert


LAYERS = [
    Bad("layer", LSTM, TypeError, "a Layer", "Cell"),
    Bad("layer", None, TypeError, "a Layer", "NoneType"),
    Bad("layer", LAYER._replace(spec=None), ValueError, "or stacks of them", "a layer of your own"),
    Bad("layer", jaxrnn.recurrent(RESIDUAL), ValueError, "lstm", "residual_vanilla"),
    Bad("layer", jaxrnn.recurrent(LSTM._replace(spec=None)), ValueError, "lstm", "a cell of your own"),
    Bad("layer", jaxrnn.serial(LAYER, jaxrnn.dense(H, 2)), ValueError, "recurrent and bidirectional", "dense"),
    Bad("layer", PEEPHOLE, ValueError, "without peephole", "one"),
]
UNKNOWN = [
    Bad(
        "params",
        params_of(jaxrnn.gru(D, H)),
        TypeError,
        "LSTMParams(input=array, recurrent=array, bias=array) of the layer",
        "GRUParams",
    ),
    Bad("params", None, TypeError, "of the layer", "None"),
]
KERAS_LSTM, KERAS_SOFTMAX = keras.layers.LSTM(H), keras.layers.LSTM(H, activation="softmax")
KERAS_FLIPPED = keras.layers.Bidirectional(keras.layers.LSTM(H, go_backwards=True), backward_layer=keras.layers.LSTM(H))
EQX_LINEAR = equinox.filter_eval_shape(equinox.nn.Linear, D, H, key=jax.random.key(0))
MGU = linen.MGUCell(H, reset_gate=False, gate_fn=jnp.tanh)
CONV = linen.ConvLSTMCell(H, (2,), strides=(2,))


class Mine(linen.GRUCell):
    """A cell that may do anything."""


@pytest.fixture(autouse=True, scope="module")
def layers_are_built():
    with jax.numpy_rank_promotion("allow"):
        KERAS_SOFTMAX.build((None, None, D))
        KERAS_FLIPPED.build((None, None, D))


def weights(*names):
    one = {"kernel": np.ones((H, H), np.float32), "bias": np.ones(H, np.float32)}
    return dict.fromkeys(names, one)


MGU_WEIGHTS = weights("if", "in", "hf", "hn")
RIGHT = {"layer": LAYER, "params": PARAMS}
TO = {
    "to_keras": (interop.to_keras, [Bad("layer", TWO_ACTIVATIONS, ValueError, "candidate and output", "two")]),
    "to_flax": (
        interop.to_flax,
        [
            Bad("layer", TWO_ACTIVATIONS, ValueError, "candidate and output", "two"),
            Bad("layer", BEFORE, ValueError, "acts after", "the other", "params"),
            Bad("layer", STRIDED, ValueError, "strides=(1,), as Flax has it", "(2,)"),
        ],
    ),
    "to_nnx": (
        interop.to_nnx,
        [
            Bad("layer", jaxrnn.recurrent(jaxrnn.ugrnn(D, H)), ValueError, "nnx has (vanilla, lstm, gru)", "ugrnn"),
        ],
    ),
    "to_haiku": (
        interop.to_haiku,
        [
            Bad("layer", BOTH, ValueError, "one direction", "bidirectional"),
            Bad("layer", jaxrnn.recurrent(jaxrnn.vanilla(D, H)), ValueError, "('relu',) of haiku", "('tanh',)"),
            Bad("layer", CANDIDATE, ValueError, "acts before", "the other", "params"),
            Bad("layer", GROUPS, ValueError, "groups=1, as Haiku has it", "2"),
        ],
    ),
    "to_equinox": (
        interop.to_equinox,
        [
            Bad("layer", BOTH, ValueError, "one direction", "bidirectional"),
            Bad("layer", jaxrnn.recurrent(jaxrnn.vanilla(D, H)), ValueError, "equinox has (lstm, gru)", "vanilla"),
        ],
    ),
}
TABLE = {
    "from_keras": Function(
        interop.from_keras,
        {"layer": KERAS_LSTM},
        [
            Bad("layer", KERAS_LSTM, ValueError, "built", "not"),
            Bad("layer", keras.layers.Dense(3), ValueError, "a recurrent layer of Keras", "Dense"),
            Bad("layer", "lstm", ValueError, "a recurrent layer of Keras", "str"),
            Bad("layer", KERAS_SOFTMAX, ValueError, "an elementwise function", "softmax", "activation"),
            Bad("layer", KERAS_FLIPPED, ValueError, "runs forward", "go_backwards=True"),
        ],
        traces=False,
    ),
    "from_flax": Function(
        interop.from_flax,
        {"module": linen.GRUCell(H), "variables": weights("ir", "iz", "in", "hr", "hz", "hn"), "spatial": None},
        [
            Bad("module", linen.GRUCell, TypeError, "flax.linen or flax.nnx", "type"),
            Bad("module", linen.Dense(H), ValueError, "a cell of Flax", "Dense"),
            Bad("module", Mine(H), ValueError, "a cell of Flax", "Mine"),
            Bad("module", linen.RNN(linen.GRUCell(H)), ValueError, "'cell' for a RNN", "ir, iz", "variables"),
            Bad("variables", None, TypeError, "the module of linen", "None"),
            Bad("variables", [1.0], TypeError, "the module of linen", "[float]"),
        ],
        unchecked=("spatial",),
        traces=False,
    ),
    "from_flax, nnx": Function(
        lambda variables: interop.from_flax(nnx.Sequential(), variables),
        {"variables": None},
        [Bad("variables", {}, TypeError, "None with a module of nnx", "{}")],
        traces=False,
    ),
    "from_flax, others": Function(
        lambda module: interop.from_flax(module, MGU_WEIGHTS, spatial=(4,)),
        {"module": MGU},
        [
            Bad("module", MGU, ValueError, "whose gate is a sigmoid", "tanh"),
            Bad("module", CONV, ValueError, "the positions of its images", "(2,), SAME"),
        ],
        traces=False,
    ),
    "from_flax, images": Function(
        lambda spatial: interop.from_flax(linen.ConvLSTMCell(H, (2, 2)), weights("ih", "hh"), spatial=spatial),
        {"spatial": (3, 3)},
        [
            Bad("spatial", None, TypeError, "2 sizes of images", "None"),
            Bad("spatial", (3,), ValueError, "2 sizes of images", "(3,)"),
        ],
        traces=False,
    ),
    "from_flax, merge": Function(
        lambda module: interop.from_flax(
            module, {way + "_rnn": {"cell": weights("i", "h")} for way in ("forward", "backward")}
        ),
        {"module": None},
        [
            Bad(
                "module",
                linen.Bidirectional(*(linen.RNN(linen.SimpleCell(H)) for _ in "12"), merge_fn=jnp.maximum),
                ValueError,
                "one of concat, sum, mean, product, both",
                "maximum",
            )
        ],
        traces=False,
    ),
    "from_haiku": Function(
        interop.from_haiku,
        {"params": {"gru": {}}, "core": haiku.Conv1DLSTM, "spatial": (3,), "reverse": False},
        [
            Bad("params", None, TypeError, "a dict by module", "NoneType"),
            Bad("params", {"gru": {}}, ValueError, "the module 'conv1_dlstm/input_to_hidden'", "gru"),
            Bad("core", haiku.ResetCore, ValueError, "one of VanillaRNN, LSTM, GRU", "ResetCore"),
            Bad("core", "rnn", ValueError, "one of VanillaRNN, LSTM, GRU", "rnn"),
            *wrong.DIRECTIONS,
        ],
        unchecked=("spatial",),
        traces=False,
    ),
    "from_haiku, images": Function(
        lambda spatial: interop.from_haiku(
            {f"conv1_dlstm/{way}_to_hidden": {"w": wrong.XS, "b": wrong.XS} for way in ("input", "hidden")},
            "Conv1DLSTM",
            spatial=spatial,
        ),
        {"spatial": (3,)},
        [
            Bad("spatial", None, TypeError, "1 sizes of images", "None"),
            Bad("spatial", (3, 3), ValueError, "1 sizes of images", "(3, 3)"),
        ],
        traces=False,
    ),
    "from_equinox": Function(
        interop.from_equinox,
        {"cell": [], "reverse": False},
        [Bad("cell", EQX_LINEAR, ValueError, "a GRUCell or an LSTMCell", "Linear"), *wrong.DIRECTIONS],
        traces=False,
    ),
    **{name: Function(alone(to), {"layer": LAYER}, [*LAYERS, *rows], traces=False) for name, (to, rows) in TO.items()},
    **{
        f"{name}, both": Function(to, RIGHT, UNKNOWN, ("layer", "options"), traces=False)
        for name, (to, _) in TO.items()
    },
    "to_nnx, a bias": Function(
        lambda params: interop.to_nnx(CANDIDATE, params),
        {"params": WITH_BIAS},
        [
            Bad(
                "params",
                WITH_BIAS,
                ValueError,
                "zeros, as the framework has none",
                "other values",
                "params.candidate_bias",
            )
        ],
        traces=False,
    ),
    "from_state": Function(
        interop.from_state,
        {"framework": "flax", "layer": LAYER, "params": PARAMS, "state": (wrong.HS, wrong.HS)},
        [
            *choices("framework", "'keras', 'flax'", "torch", None, error=ValueError),
            *LAYERS[:3],
            *UNKNOWN,
            Bad("state", (wrong.HS,), ValueError, "2 arrays for the layer", "1"),
            Bad("state", ("h", "c"), TypeError, "an array", "str"),
        ],
        traces=False,
    ),
    "to_state": Function(
        interop.to_state,
        {"framework": "flax", "layer": LAYER, "params": PARAMS, "carry": wrong.LSTM_CARRY},
        [
            *choices("framework", "'keras', 'flax'", "torch", None, error=ValueError),
            *LAYERS[:3],
            *UNKNOWN,
            Bad("carry", (wrong.HS, wrong.HS), TypeError, "that of the layer", "(array, array)"),
        ],
        traces=False,
    ),
}


@pytest.mark.parametrize("function", wrong.cases(TABLE))
def test_wrong_arguments(function):
    wrong.hold(function)


def test_every_argument_is_wrong_once():
    assert wrong.untested_arguments(TABLE) == []


@pytest.mark.parametrize(
    ("package", "distribution", "call"),
    [
        ("keras", "keras", lambda: interop.from_keras(None)),
        ("keras", "keras", lambda: interop.to_keras(LAYER, PARAMS)),
        ("flax.linen", "flax", lambda: interop.from_flax(None)),
        ("flax.linen", "flax", lambda: interop.to_flax(LAYER, PARAMS)),
        ("flax.nnx", "flax", lambda: interop.to_nnx(LAYER, PARAMS)),
        ("equinox", "equinox", lambda: interop.from_equinox(None)),
        ("equinox", "equinox", lambda: interop.to_equinox(LAYER, PARAMS)),
        ("haiku", "dm-haiku", lambda: interop.to_state("haiku", LAYER, PARAMS, wrong.LSTM_CARRY)),
    ],
)
def test_a_missing_package_is_named(package, distribution, call, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=f"pip install {distribution}"):
        call()


def test_haiku_itself_is_not_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "haiku", None)
    assert interop.from_haiku(interop.to_haiku(LAYER, PARAMS), "LSTM")[0].spec == LAYER.spec
