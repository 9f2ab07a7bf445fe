"""Wrong arguments of what saves and exports a layer, and of what draws weights."""

import jax
import jax.numpy as jnp
import pytest

import jaxrnn
from jaxrnn.interop import drawn_as, export_layer, load_layer, save_layer
from tests import wrong
from tests.wrong import A_CELL, LSTM, Bad, D, Function, H, choices, params_of

pytest.importorskip("safetensors")
LAYER = jaxrnn.recurrent(LSTM)
PARAMS, X = params_of(LAYER), jax.ShapeDtypeStruct((D,), jnp.float32)
PATHS = [Bad("path", 3, TypeError, "a path", "int"), Bad("path", None, TypeError, "a path", "None")]
OWN = LAYER._replace(spec=None)


def by_length(params, xs, **steps):
    return LAYER.apply(params, xs if xs.shape[0] > 3 else xs[:1], **steps)


BY_LENGTH = LAYER._replace(apply=by_length)
LAYERS = [Bad("layer", LSTM, TypeError, "a Layer", "Cell"), Bad("layer", None, TypeError, "a Layer", "NoneType")]
OTHERS = [
    Bad("params", params_of(jaxrnn.gru(D, H)), TypeError, "LSTMParams(input=array", "GRUParams"),
    Bad("params", PARAMS._replace(bias=PARAMS.input), ValueError, "(16,)", "(3, 16)", "params.bias"),
]
NAMES = "'torch', 'keras', 'flax', 'nnx', 'haiku', 'equinox'"
TABLE = {
    "save_layer": Function(
        save_layer,
        {"path": "none/model.safetensors", "layer": LAYER, "params": PARAMS},
        [*PATHS, *LAYERS, Bad("layer", OWN, ValueError, "one that jaxrnn made", "one of your own"), *OTHERS],
        traces=False,
    ),
    "load_layer": Function(load_layer, {"path": "none"}, PATHS, traces=False),
    "export_layer": Function(
        export_layer,
        {"layer": LAYER, "params": PARAMS, "x": X, "inside": True, "platforms": None},
        [
            *LAYERS,
            Bad("layer", BY_LENGTH, ValueError, "the same for every number of steps", ""),
            *OTHERS,
            Bad("x", 3, TypeError, "the jax.ShapeDtypeStruct of one input", "int"),
            Bad("x", jax.ShapeDtypeStruct((7,), jnp.float32), ValueError, "3 features", "7", "xs"),
            *choices("inside", "True or False", None, "yes"),
            *choices("platforms", "names such as ('cpu', 'cuda'), or None", "cpu", (3,)),
        ],
        traces=False,
    ),
    "drawn_as": Function(
        drawn_as,
        {"cell": LSTM, "framework": "torch"},
        [
            *A_CELL,
            Bad("cell", jaxrnn.janet(D, H), ValueError, "jaxrnn.vanilla, lstm or gru", "janet"),
            Bad("cell", LSTM._replace(spec=None), ValueError, "jaxrnn.vanilla, lstm or gru", "one of your own"),
            *choices("framework", NAMES, "jax", None, error=ValueError),
        ],
        traces=False,
    ),
    "drawn_as, vanilla": Function(
        lambda framework: drawn_as(jaxrnn.vanilla(D, H), framework),
        {"framework": "torch"},
        [Bad("framework", "equinox", ValueError, "one that has a vanilla network", "'equinox'")],
    ),
}


@pytest.mark.parametrize("function", wrong.cases(TABLE))
def test_wrong_arguments(function):
    wrong.hold(function)


def test_every_argument_is_wrong_once():
    assert wrong.untested_arguments(TABLE) == []
