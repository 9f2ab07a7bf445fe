"""Wrong arguments of the layers that are made of layers, and of those between them."""

import numpy as np
import pytest

import jaxrnn
from tests import wrong
from tests.layers.stepping import step_of
from tests.layers.test_errors import NO_CARRY, RESET
from tests.wrong import FLAGS, HS, KEY, LSTM, STEPS, XS, B, Bad, D, Function, H, choices, params_of

GRU, WIDE = jaxrnn.gru(D, H), jaxrnn.dense(D, H)
FORWARD, BACKWARD = jaxrnn.recurrent(GRU), jaxrnn.recurrent(GRU, reverse=True)
LARGER = jaxrnn.recurrent(jaxrnn.gru(D, 5), reverse=True)
BOTH = jaxrnn.bidirectional(FORWARD, BACKWARD)
SQUARE = jaxrnn.recurrent(jaxrnn.gru(D, D))
RESIDUAL, HIGHWAY = jaxrnn.residual(SQUARE), jaxrnn.highway(SQUARE, D)
PYRAMID = jaxrnn.time_reduction(2)
STATE = np.zeros((B, D), np.float32)


def a_layer(name: str, got: str | None = None) -> list[Bad]:
    return [
        Bad(name, LSTM, TypeError, "recurrent(cell)", "Cell", got),
        Bad(name, None, TypeError, "a Layer", "NoneType", got),
        Bad(name, tuple(WIDE), TypeError, "a Layer", "tuple", got),
    ]


def directions(name: str) -> list[Bad]:
    return [
        Bad(name, (HS, HS), TypeError, "Directions", "(array, array)"),
        Bad(name, HS, TypeError, "Directions", "array"),
        Bad(name, {"forward": HS}, TypeError, "Directions", "{'forward': array}"),
    ]


def run(layer: jaxrnn.Layer):
    return layer.apply(params_of(layer), XS)


def merged(merge: str):
    """Return a function of the backward layer that runs both."""
    return lambda backward: run(jaxrnn.bidirectional(FORWARD, backward, merge=merge))


COMPOSED = {
    "bidirectional": Function(
        jaxrnn.bidirectional,
        {"forward": FORWARD, "backward": BACKWARD},
        [
            *a_layer("forward"),
            *a_layer("backward"),
            Bad("backward", FORWARD, ValueError, "recurrent(cell, reverse=True)", "runs forward"),
            *choices(
                "merge", "'concat', 'sum', 'mean', 'product', 'both'", "add", None, ["sum"], "Sum", error=ValueError
            ),
        ],
    ),
    "checkpointed": Function(
        jaxrnn.checkpointed,
        {"layer": FORWARD},
        [
            *a_layer("layer"),
            Bad("layer", BACKWARD, ValueError, "one with a step", "needs the future"),
            *choices("segment", "'sqrt'", "carries", "half", error=ValueError),
            *(row for row in wrong.sizes("segment") if not isinstance(row.value, str)),
        ],
    ),
    "checkpointed.apply": Function(
        jaxrnn.checkpointed(FORWARD).apply,
        {"params": params_of(GRU), "xs": XS, "carry": HS, **STEPS},
        [
            Bad("params", HS, TypeError, "GRUParams of gru(3, 4", ""),
            *wrong.SEQUENCES,
            Bad("carry", (HS,), TypeError, "array", "(array,)"),
            *wrong.AROUND,
            *wrong.KEYS,
        ],
    ),
    "bidirectional by sum": Function(
        merged("sum"),
        {"backward": BACKWARD},
        [Bad("backward", LARGER, ValueError, "(5, 2, 4) as that of forward", "(5, 2, 5)")],
    ),
    "bidirectional by concat": Function(
        merged("concat"),
        {"backward": BACKWARD},
        [Bad("backward", PYRAMID, ValueError, "(5, 2, features) as that of forward", "(3, 2, 6)")],
    ),
    "bidirectional.init": Function(BOTH.init, {"key": KEY}, wrong.INIT_KEYS),
    "bidirectional.initial_carry": Function(
        BOTH.initial_carry, {"params": params_of(BOTH), "batch_shape": (B,)}, [*directions("params"), *wrong.BATCH]
    ),
    "bidirectional.apply": Function(
        BOTH.apply,
        {"params": params_of(BOTH), "xs": XS, "carry": jaxrnn.Directions(HS, HS), **STEPS},
        [
            *directions("params"),
            Bad("params", jaxrnn.Directions(params_of(GRU), HS), TypeError, "GRUParams of gru(3, 4", "rray"),
            *directions("carry"),
            Bad("carry", jaxrnn.Directions(HS, HS[0]), ValueError, "(2, 4) for a batch of shape (2,)", "(4,)"),
            *wrong.SEQUENCES,
            *(row for row in wrong.AROUND if row.error is ValueError),
            *wrong.KEYS,
        ],
    ),
    "stacked": Function(
        jaxrnn.stacked,
        {"cell": jaxrnn.gru, "input_size": D, "hidden_size": H},
        [
            Bad("cell", LSTM, TypeError, "a function that makes a Cell", "Cell"),
            Bad("cell", "lstm", TypeError, "a function that makes a Cell", "str"),
            Bad("cell", lambda *sizes: WIDE, TypeError, "Cell", "Layer"),
            *wrong.sizes("input_size"),
            *(row for row in wrong.sizes("hidden_size") if not isinstance(row.value, tuple)),
            Bad("hidden_size", (), ValueError, "one size or more", "none"),
            Bad("hidden_size", (4, 0), ValueError, "at least 1", "0", "hidden_size[1]"),
            Bad("hidden_size", [4.0], TypeError, "an int", "4.0", "hidden_size[0]"),
            *(row for row in wrong.sizes("num_layers") if row.value is not None),
            *choices("bidirectional", "True or False", "yes", 1, None),
            *choices("dropout", "0 <= dropout < 1", 1.0, -0.1, error=ValueError),
            *choices("dropout", "a number", None, "0.5"),
            *wrong.GRADIENTS,
            *wrong.CHECKPOINTS,
            *wrong.sizes("unroll_factor"),
        ],
        unchecked=("options",),  # the cell's own
    ),
    "stacked of several sizes": Function(
        lambda num_layers: jaxrnn.stacked(jaxrnn.gru, D, (4, 5, 6), num_layers=num_layers),
        {"num_layers": 3},
        choices("num_layers", "3, as there are sizes", 2, 4, error=ValueError),
    ),
    "residual": Function(
        jaxrnn.residual,
        {"layer": SQUARE},
        [
            *a_layer("layer"),
            *choices("scale", "a number", "1", None, True, np.ones(1)),
            *choices("scale", "a finite number", float("nan"), error=ValueError),
        ],
    ),
    "residual of what does not fit": Function(
        lambda layer: run(jaxrnn.residual(layer)),
        {"layer": SQUARE},
        [
            Bad("layer", WIDE, ValueError, "(5, 2, 3) as its input, to be added to it", "(5, 2, 4)"),
            Bad("layer", BACKWARD, ValueError, "(5, 2, 3) as its input", "(5, 2, 4)"),
        ],
    ),
    "dense_connections": Function(
        lambda layers: jaxrnn.dense_connections(*layers),
        {"layers": (WIDE,)},
        [
            Bad("layers", (), ValueError, "at least one Layer", "none"),
            Bad("layers", (WIDE, LSTM), TypeError, "recurrent(cell)", "Cell", "layers[1]"),
            Bad("layers", (None,), TypeError, "a Layer", "NoneType", "layers[0]"),
        ],
    ),
    "dense_connections of what does not fit": Function(
        lambda layers: run(jaxrnn.dense_connections(*layers)),
        {"layers": (WIDE,)},
        [Bad("layers", (PYRAMID,), ValueError, "(5, 2, features) as its input", "(3, 2, 6)")],
    ),
    "highway": Function(
        jaxrnn.highway,
        {"layer": SQUARE, "size": D},
        [
            *a_layer("layer"),
            *wrong.sizes("size"),
            *wrong.initializers("kernel_init", "bias_init"),
            *wrong.dtypes("dtype"),
            *wrong.NO_DTYPE,
        ],
    ),
    "highway of what does not fit": Function(
        lambda layer: run(jaxrnn.highway(layer, D)),
        {"layer": SQUARE},
        [Bad("layer", WIDE, ValueError, "(5, 2, 3) as its input, to be mixed with it", "(5, 2, 4)")],
    ),
    "highway of a size that does not fit": Function(
        lambda size: run(jaxrnn.highway(SQUARE, size)),
        {"size": D},
        [Bad("size", 4, ValueError, "4 features on the last axis for highway(layer, 4)", "(5, 2, 3)", "xs")],
    ),
}


RESIDUAL_PARAMS = [Bad("params", HS, TypeError, "GRUParams of gru(3, 3", "")]
HIGHWAY_PARAMS = [
    Bad("params", params_of(SQUARE), TypeError, "HighwayParams of highway(layer, 3)", "GRUParams"),
    Bad("params", params_of(HIGHWAY)._replace(bias=HS), ValueError, "(3,) for highway(layer, 3)", "(2, 4)"),
    Bad("params", params_of(HIGHWAY)._replace(layer=HS), TypeError, "GRUParams of gru(3, 3", "ndarray"),
]
CARRY = Bad("carry", {"h": HS}, TypeError, "array for a batch of shape (2,)", "{'h': array}")
WIDE_X = Bad("x", np.ones((B, 9), np.float32), ValueError, "3 features", "(1, 2, 9)", "xs")
SHORTCUTS = {
    "residual.init": Function(RESIDUAL.init, {"key": KEY}, wrong.INIT_KEYS),
    "highway.init": Function(HIGHWAY.init, {"key": KEY}, wrong.INIT_KEYS),
    "highway.initial_carry": Function(
        HIGHWAY.initial_carry, {"params": params_of(HIGHWAY), "batch_shape": (B,)}, [*HIGHWAY_PARAMS, *wrong.BATCH]
    ),
    "residual.apply": Function(
        RESIDUAL.apply,
        {"params": params_of(RESIDUAL), "xs": XS, "carry": STATE, **STEPS},
        [*RESIDUAL_PARAMS, CARRY, *wrong.FEATURES, *wrong.AROUND, *wrong.KEYS],
    ),
    "highway.apply": Function(
        HIGHWAY.apply,
        {"params": params_of(HIGHWAY), "xs": XS, "carry": STATE, **STEPS},
        [*HIGHWAY_PARAMS, CARRY, *wrong.SEQUENCES],
        unchecked=("lengths", "mask", "resets", "key"),  # the layer's own, as in residual
    ),
    "residual.step": Function(
        step_of(RESIDUAL),
        {"params": params_of(RESIDUAL), "carry": STATE, "x": XS[0], "reset": FLAGS[0]},
        [*RESIDUAL_PARAMS, CARRY, WIDE_X, *RESET, *wrong.KEYS],
    ),
    "highway.step": Function(
        step_of(HIGHWAY),
        {"params": params_of(HIGHWAY), "carry": STATE, "x": XS[0]},
        [*HIGHWAY_PARAMS, CARRY, WIDE_X],
        unchecked=("reset", "key"),
    ),
}


def norm(factory, kind: str, call: str) -> dict[str, Function]:
    layer = factory(D)
    right = params_of(layer)
    params = [
        Bad("params", tuple(right), TypeError, f"{kind} of {call}", "tuple"),
        Bad("params", right._replace(scale=XS), ValueError, f"(3,) for {call}", "(5, 2, 3)", "params.scale"),
        Bad("params", right._replace(scale=None), TypeError, f"(3,) for {call}", "None", "params.scale"),
        Bad("params", right._replace(scale=np.ones(D, int)), TypeError, "one floating dtype", "int"),
    ]
    return {
        "": Function(
            factory,
            {"size": D},
            [
                *wrong.sizes("size", "feature_axes"),
                *choices("eps", "a number above 0", 0, -1e-5, 0.0, error=ValueError),
                *choices("eps", "a number", None, "1e-5"),
                *wrong.dtypes("dtype"),
                *wrong.NO_DTYPE,
            ],
        ),
        ".init": Function(layer.init, {"key": KEY}, wrong.INIT_KEYS),
        ".apply": Function(
            layer.apply,
            {"params": right, "xs": XS, "carry": (), **STEPS},
            [*params, *wrong.FEATURES, *NO_CARRY],
            unchecked=("lengths", "mask", "resets", "key"),  # as in every layer made of a function of one step
        ),
    }


BETWEEN = {
    **{f"layer_norm{part}": f for part, f in norm(jaxrnn.layer_norm, "LayerNormParams", "layer_norm(3)").items()},
    **{f"rms_norm{part}": f for part, f in norm(jaxrnn.rms_norm, "RMSNormParams", "rms_norm(3)").items()},
    "time_reduction": Function(
        jaxrnn.time_reduction,
        {"factor": 2},
        [
            *wrong.sizes("factor"),
            *choices("mode", "'concat', 'mean', 'max'", "sum", None, ["mean"], error=ValueError),
        ],
    ),
    "time_reduction.init": Function(PYRAMID.init, {"key": KEY}, [], unchecked=("key",)),
    "time_reduction.apply": Function(
        PYRAMID.apply,
        {"params": (), "xs": XS, "carry": (), **STEPS},
        [
            Bad("params", HS, TypeError, "() of a layer without parameters", "array"),
            *wrong.SEQUENCES,
            Bad("xs", {"a": XS}, TypeError, "an array", "dict"),
            Bad("xs", XS > 0, TypeError, "a floating dtype", "bool"),
            *NO_CARRY,
            *wrong.AROUND,
            *wrong.KEYS,
        ],
    ),
    "time_reduction.output_steps": Function(
        PYRAMID.output_steps,
        STEPS,
        [
            *(row for row in wrong.AROUND if row.argument == "lengths" and row.error is TypeError),
            Bad("lengths", np.array([1, 2, 3]), ValueError, "(2,) = [*batch]", "(3,)"),
            *(row for row in wrong.AROUND if row.argument != "lengths" and row.error is TypeError),
            Bad("mask", True, ValueError, "[time, *batch]", "()"),
            Bad("resets", True, ValueError, "[time, *batch]", "()"),
            Bad("resets", FLAGS[:, :1], ValueError, "(5, 2) = [time, *batch]", "(5, 1)"),
        ],
    ),
}
TABLE = {**COMPOSED, **SHORTCUTS, **BETWEEN}


@pytest.mark.parametrize("function", wrong.cases(TABLE))
def test_wrong_arguments(function):
    wrong.hold(function)


def test_every_argument_is_wrong_once():
    assert wrong.untested_arguments(TABLE) == []
    tested = {function.call for function in TABLE.values()}
    assert {jaxrnn.bidirectional, jaxrnn.highway, jaxrnn.residual, jaxrnn.stacked, jaxrnn.time_reduction} <= tested
    assert {jaxrnn.layer_norm, jaxrnn.rms_norm} <= tested
