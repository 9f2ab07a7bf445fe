"""Wrong arguments of `lstm_variant`."""

import jax.numpy as jnp
import pytest

import jaxrnn
from tests import wrong
from tests.test_errors import CELL_FUNCTIONS
from tests.wrong import HS, LSTM, XS, Bad, D, Function, H, choices, params_of

CELL = jaxrnn.lstm_variant(D, H, peephole=True, projection_size=2)


def bounds(name):
    return [
        *choices(name, "a positive number or None", 0, -0.5, error=ValueError),
        *choices(name, "a number", "1", True, jnp.ones(H)),
    ]


TABLE = {
    "lstm_variant": Function(
        jaxrnn.lstm_variant,
        {"input_size": D, "hidden_size": H, "projection_size": 2},
        [
            *CELL_FUNCTIONS["lstm"].wrong,
            *(row for name in ("peephole", "coupled") for row in choices(name, "True or False", "yes", 1, None)),
            *(row for row in wrong.sizes("projection_size") if row.value is not None),
            *choices("normalization", "'before_bias', 'ba2016'", "layer", True, ["ba2016"], error=ValueError),
            *choices("epsilon", "a positive number", 0, -1e-5, error=ValueError),
            *choices("epsilon", "a number", None, "1e-5"),
            *choices("activations", "three", "tanh", None, ("sigmoid", "tanh"), jnp.tanh),
            Bad("activations", ("sigmoid", "tan", "tanh"), ValueError, "'tanh', 'relu'", "'tan'", "activations[1]"),
            Bad("activations", ("sigmoid", "tanh", 3), TypeError, "(φ, φ') or a callable", "3", "activations[2]"),
            *bounds("cell_clip"),
            *bounds("projection_clip"),
        ],
    ),
    "lstm_variant without a projection": Function(
        lambda projection_clip: jaxrnn.lstm_variant(D, H, projection_clip=projection_clip),
        {"projection_clip": None},
        [Bad("projection_clip", 1.0, ValueError, "None without a projection_size", "1.0")],
    ),
    "parameters of an lstm_variant": Function(
        lambda params: jaxrnn.unroll(CELL, params, XS),
        {"params": params_of(CELL)},
        [
            *wrong.params(CELL, "LSTMVariantParams", "lstm_variant(3, 4, peephole=True, projection_size=2)"),
            Bad("params", params_of(LSTM), TypeError, "LSTMVariantParams of lstm_variant(3, 4", "LSTMParams"),
            Bad("params", params_of(jaxrnn.lstm_variant(D, H)), ValueError, "(2, 16)", "(4, 16)", "params.recurrent"),
            Bad("params", params_of(CELL)._replace(peephole=None), TypeError, "(12,)", "None", "params.peephole"),
            Bad("params", params_of(CELL)._replace(gain=HS[0]), ValueError, "None for", "array", "params.gain"),
        ],
    ),
}


@pytest.mark.parametrize("function", wrong.cases(TABLE))
def test_wrong_arguments(function):
    wrong.hold(function)


def test_every_argument_is_wrong_once():
    assert wrong.untested_arguments(TABLE) == []
