"""Wrong arguments of the less common cells, made and run; those of the others are in `tests.test_errors`."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from tests import wrong
from tests.wrong import XS, Bad, D, Function, H, choices, params_of

SIZES = {"input_size": D, "hidden_size": H}
MAKING = [*wrong.sizes(*SIZES), *wrong.dtypes("dtype"), *wrong.NO_DTYPE, *wrong.dtypes("carry_dtype")]
INITIALIZERS = wrong.initializers("input_init", "recurrent_init", "bias_init")
UNKNOWN = "'tanh', 'relu', 'sigmoid', 'identity'"
ACTIVATION = [
    *choices("activation", UNKNOWN, "tan", error=ValueError),
    *choices("activation", "a pair (φ, φ') or a callable", None, ["tanh"], (jnp.tanh,)),
]


def numbers(*names: str) -> list[Bad]:
    """Return wrong values for numbers that may be anything finite."""
    return [
        row
        for name in names
        for row in (
            *choices(name, "a number", "1", None, True, (1.0,), jnp.ones(H)),
            *choices(name, "a finite number", float("nan"), float("inf"), error=ValueError),
        )
    ]


def positives(*names: str) -> list[Bad]:
    return [
        *numbers(*names),
        *(row for n in names for row in choices(n, "a number above 0", 0, -0.5, error=ValueError)),
    ]


def parameters(cell: jaxrnn.Cell, kind: str, call: str) -> Function:
    """Return an unroll, with wrong parameters for it."""
    rows = wrong.params(cell, kind, call)
    features = Bad("xs", XS[..., :2], ValueError, f"3 features on the last axis for {call}", "(5, 2, 2)")
    return Function(
        lambda params, xs: jaxrnn.unroll(cell, params, xs), {"params": params_of(cell), "xs": XS}, [*rows, features]
    )


LEAKY, LOW_RANK = jaxrnn.leaky(D, H, alpha=0.5), jaxrnn.leaky(D, H, alpha=0.5, rank=2)
MASK, SIGNS = np.ones((H, H), bool), np.array([1, 1, -1, 1])
TABLE = {
    "minimal_gated": Function(jaxrnn.minimal_gated, SIZES, [*MAKING, *INITIALIZERS]),
    "residual_vanilla": Function(
        jaxrnn.residual_vanilla, SIZES, [*MAKING, *INITIALIZERS, *ACTIVATION, *numbers("scale")]
    ),
    "normalized_vanilla": Function(
        jaxrnn.normalized_vanilla,
        SIZES,
        [*MAKING, *INITIALIZERS, *wrong.initializers("gain_init"), *ACTIVATION, *positives("epsilon")],
    ),
    "irnn": Function(jaxrnn.irnn, SIZES, [*MAKING, *wrong.initializers("input_init", "bias_init"), *numbers("scale")]),
    "indrnn": Function(
        jaxrnn.indrnn,
        SIZES,
        [*MAKING, *wrong.initializers("input_init", "bias_init"), *ACTIVATION, *positives("bound")],
    ),
    "ugrnn": Function(jaxrnn.ugrnn, SIZES, [*MAKING, *INITIALIZERS, *ACTIVATION, *numbers("forget_bias")]),
    "intersection": Function(
        jaxrnn.intersection,
        SIZES,
        [
            *MAKING,
            *INITIALIZERS,
            *numbers("forget_bias"),
            *choices("activations", "a pair (of the output, of the state)", None, "tanh", ("tanh",), ["relu", "tanh"]),
            Bad("activations", ("relu", "tan"), ValueError, UNKNOWN, "'tan'", "activations[1]"),
            Bad("activations", (None, "tanh"), TypeError, UNKNOWN, "None", "activations[0]"),
        ],
    ),
    "janet": Function(jaxrnn.janet, SIZES, [*MAKING, *INITIALIZERS, *numbers("beta", "forget_bias")]),
    "cornn": Function(
        jaxrnn.cornn,
        SIZES,
        [
            *MAKING,
            *INITIALIZERS,
            *positives("dt", "gamma", "epsilon"),
            *choices("implicit", "True or False", "yes", 1, None),
        ],
    ),
    "lem": Function(jaxrnn.lem, SIZES, [*MAKING, *INITIALIZERS, *positives("dt")]),
    "leaky": Function(
        jaxrnn.leaky,
        {**SIZES, "alpha": 0.5},
        [
            *MAKING,
            *INITIALIZERS,
            *ACTIVATION,
            *(row for row in positives("alpha") if row.value is not None),
            Bad("alpha", 1.5, ValueError, "at most 1", "1.5"),
            Bad("alpha", None, ValueError, "either alpha, or dt and tau", "none of them"),
            Bad("dt", 1.0, ValueError, "either alpha, or dt and tau", "alpha and dt", "alpha"),
            Bad("tau", 1.0, ValueError, "either alpha, or dt and tau", "alpha and tau", "alpha"),
            *numbers("noise"),
            Bad("noise", -0.1, ValueError, "at least 0", "-0.1"),
            *(Bad("dale", value, ValueError, "a fraction", str(value)) for value in (-0.1, 1.1)),
            *choices("dale", "a number", True, "most"),
            Bad("dale", SIGNS[:3], ValueError, "signs 1 and -1 of shape (4,)", "array"),
            Bad("dale", SIGNS * 2, ValueError, "signs 1 and -1 of shape (4,)", "array"),
            Bad("dale", [[1], [1, 1]], TypeError, "an array of known values", "list"),
            Bad("mask", MASK[:3], ValueError, "(4, 4) = [from, to]", "(3, 4)"),
            Bad("mask", MASK.astype(int), TypeError, "bool", "int64"),
            Bad("mask", [[True], [True, False]], TypeError, "an array of known values", "list"),
            *(row for row in wrong.sizes("rank") if row.value is not None),
        ],
    ),
    "leaky, by time constants": Function(
        lambda dt, tau: jaxrnn.leaky(D, H, dt=dt, tau=tau),
        {"dt": 1.0, "tau": 10.0},
        [
            *(row for row in positives("dt", "tau") if row.value is not None),
            Bad("dt", 20.0, ValueError, "alpha = dt / tau of at most 1", "2.0"),
            Bad("dt", None, ValueError, "either alpha, or dt and tau", "tau", "alpha"),
            Bad("tau", None, ValueError, "either alpha, or dt and tau", "dt", "alpha"),
        ],
    ),
    "leaky, of low rank": Function(
        lambda dale, mask: jaxrnn.leaky(D, H, alpha=0.5, rank=2, dale=dale, mask=mask),
        {"dale": None, "mask": None},
        [
            Bad("dale", 0.8, ValueError, "None with dale or mask", "2", "rank"),
            Bad("mask", MASK, ValueError, "None with dale or mask", "2", "rank"),
        ],
        traces=False,
    ),
    "parameters of a leaky": parameters(LEAKY, "LeakyParams", "leaky(3, 4)"),
    "parameters of a leaky of low rank": Function(
        lambda params: jaxrnn.unroll(LOW_RANK, params, XS),
        {"params": params_of(LOW_RANK)},
        [
            Bad("params", params_of(LEAKY), ValueError, "None for leaky(3, 4, rank=2)", "array"),
            Bad("params", params_of(jaxrnn.leaky(D, H, alpha=0.5, rank=3)), ValueError, "(4, 2)", "(4, 3)"),
        ],
    ),
    "parameters of a normalized_vanilla": parameters(
        jaxrnn.normalized_vanilla(D, H), "NormalizedVanillaParams", "normalized_vanilla(3, 4)"
    ),
    "parameters of an indrnn": parameters(jaxrnn.indrnn(D, H), "IndRNNParams", "indrnn(3, 4)"),
    "parameters of a minimal_gated": parameters(
        jaxrnn.minimal_gated(D, H), "MinimalGatedParams", "minimal_gated(3, 4)"
    ),
    "parameters of a residual_vanilla": parameters(
        jaxrnn.residual_vanilla(D, H), "VanillaParams", "residual_vanilla(3, 4)"
    ),
    "parameters of an intersection": parameters(jaxrnn.intersection(D, H), "IntersectionParams", "intersection(3, 4)"),
    "parameters of a cornn": parameters(jaxrnn.cornn(D, H), "CoRNNParams", "cornn(3, 4)"),
    "initial_carry of a lem": Function(
        jaxrnn.lem(D, H).initial_carry,
        {"params": params_of(jaxrnn.lem(D, H)), "batch_shape": (2,)},
        [*wrong.params(jaxrnn.lem(D, H), "LEMParams", "lem(3, 4)"), *wrong.BATCH],
    ),
}


@pytest.mark.parametrize("function", wrong.cases(TABLE))
def test_wrong_arguments(function):
    wrong.hold(function)


def test_every_argument_is_wrong_once():
    assert wrong.untested_arguments(TABLE) == []
