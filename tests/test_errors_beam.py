"""Wrong arguments of beam search."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn.decoding import beam_search
from tests import wrong
from tests.wrong import HS, B, Bad, Function, V, choices

START = np.ones(B, np.int32)
END_TOKENS = [
    *(row for row in wrong.sizes("end_token") if row.error is TypeError),
    Bad("end_token", -1, ValueError, "at least 0", "-1"),
    Bad("end_token", V, ValueError, "a token from 0 to 6", "7"),
]
SEARCHES = [
    *wrong.sizes("beams", "length"),
    *END_TOKENS,
    *choices("length_penalty", "a number", None, "0.6"),
    *choices("length_penalty", "at least 0", -1.0, error=ValueError),
    *choices("length_penalty", "a finite number", float("nan"), error=ValueError),
    Bad("length_penalty", np.ones(2), ValueError, "a scalar", "(2,)"),
]
SEARCHING = {"beams": 2, "length_penalty": 0.6}


def step(carry, tokens):
    return carry, jnp.zeros((*tokens.shape, V))


TABLE = {
    "beam_search": Function(
        beam_search,
        {"step": step, "carry": HS, "start": START, "length": 3, "end_token": 0, **SEARCHING},
        [
            Bad("step", None, TypeError, "a function (carry, tokens) -> (carry, logits)", "NoneType"),
            Bad("step", lambda carry, tokens: carry, TypeError, "(carry, logits)", "array"),
            Bad("step", lambda carry, tokens: (0.0, step(carry, tokens)[1]), ValueError, "(2, 2, 4)", "()"),
            Bad("step", lambda carry, tokens: (carry, jnp.zeros((5, V))), ValueError, "(2, 2, 'V')", "(5, 7)"),
            Bad("step", lambda carry, tokens: (carry, None), ValueError, "(2, 2, 'V')", "None"),
            Bad("step", lambda carry, tokens: (carry, tokens[..., None]), TypeError, "floating logits", "int32"),
            Bad("carry", HS[:1], ValueError, "(2, '...')", "(1, 4)"),
            Bad("carry", "text", TypeError, "an array", "str"),
            Bad("start", None, TypeError, "an array", "NoneType"),
            Bad("start", HS[:, 0], TypeError, "integer tokens", "float32"),
            *SEARCHES,
        ],
    ),
}


@pytest.mark.parametrize("function", wrong.cases(TABLE))
def test_wrong_arguments(function):
    wrong.hold(function)


def test_every_argument_is_wrong_once():
    assert wrong.untested_arguments(TABLE) == []
