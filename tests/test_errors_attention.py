"""Wrong arguments of attention, of the cell that attends, and of the Transformer."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import attention as kinds
from tests import wrong
from tests.layers.stepping import step_of
from tests.wrong import FLAGS, HS, KEY, LENGTHS, LSTM, STEPS, XS, B, Bad, D, Function, H, T, choices, params_of

S, M, A = 6, 3, 2
GENERAL, ADDITIVE = kinds.general(H, M), kinds.additive(H, M, A)
ATTENTION_PARAMS = params_of(ADDITIVE)
SOURCE, SOURCE_MASK = np.ones((S, B, M), np.float32), np.ones((S, B), bool)
MEMORY = ADDITIVE.prepare(ATTENTION_PARAMS, SOURCE)
CELL = jaxrnn.attending(LSTM, ADDITIVE, D)
PARAMS = params_of(CELL)
READY = PARAMS._replace(memory=MEMORY)
KERNELS = [*wrong.initializers("kernel_init"), *wrong.dtypes("dtype"), *wrong.NO_DTYPE]
KIND_PARAMS = [
    Bad("params", None, TypeError, "AttentionParams of additive(4, 3, 2)", "NoneType"),
    Bad("params", tuple(ATTENTION_PARAMS), TypeError, "AttentionParams of additive(4, 3, 2)", "tuple"),
    Bad("params", params_of(GENERAL), TypeError, "(4, 2) for additive(4, 3, 2)", "None", "params.query"),
    Bad(
        "params", ATTENTION_PARAMS._replace(value=HS), ValueError, "None for additive(4, 3, 2)", "array", "params.value"
    ),
]
SOURCES = [
    Bad("memory", None, TypeError, "an array [positions, *batch, features]", "NoneType"),
    Bad("memory", [[1.0]], TypeError, "an array [positions, *batch, features]", "list"),
    Bad("memory", SOURCE[0, 0], ValueError, "[positions, *batch, features]", "(3,)"),
    Bad("memory", np.ones((S, B, 5), np.float32), ValueError, "3 features", "(6, 2, 5)"),
    Bad("memory", SOURCE.astype(np.int32), TypeError, "a floating dtype", "int32"),
    Bad("memory", SOURCE.astype(np.float16), TypeError, "float32", "float16"),
    Bad("lengths", LENGTHS[:1], ValueError, "(2,) = [*batch]", "(1,)"),
    Bad("lengths", np.ones(B, np.float32), TypeError, "integers", "float32"),
    Bad("mask", FLAGS, ValueError, "(6, 2) = [time, *batch]", "(5, 2)"),
    Bad("mask", SOURCE_MASK.astype(np.int32), TypeError, "bool", "int32"),
]


def unroll_with(**replaced):
    return jaxrnn.unroll(CELL, READY._replace(**replaced), XS)


SPLIT = {
    "init": lambda key: jnp.eye(D),
    "initial_carry": lambda params, batch_shape=(): jnp.zeros((*batch_shape, D)),
    "recur": lambda params, h: h @ params,
    "update": lambda h, z, a: (z + a, z + a),
}
DICT_CARRY = jaxrnn.split_cell(
    **{
        **SPLIT,
        "initial_carry": lambda params, batch_shape=(): {"s": jnp.zeros((*batch_shape, D))},
        "recur": lambda params, carry: carry["s"] @ params,
        "update": lambda carry, z, a: ({"s": z + a}, z + a),
    }
)
DICT_OUTPUT = jaxrnn.split_cell(**{**SPLIT, "update": lambda h, z, a: (z + a, {"y": z + a})})
OWN_NOISE = jaxrnn.split_cell(
    **{**SPLIT, "update": lambda h, z, a: (z["z"] + a, z["z"] + a)},
    inputs=lambda params, xs, key=None: {"z": xs} if key is None else {"z": xs, "noise": xs},
)
LAYER = jaxrnn.transformer(4, 2, context=3)
LAYER_PARAMS = params_of(LAYER)
WIDE = np.ones((T, B, 4), np.float32)
CARRY = LAYER.initial_carry(LAYER_PARAMS, (B,))
LAYER_PARAMETERS = [
    Bad("params", None, TypeError, "TransformerParams of transformer(4, 2, 1)", "NoneType"),
    Bad("params", params_of(LSTM), TypeError, "TransformerParams of transformer(4, 2, 1)", "LSTMParams"),
    Bad("params", params_of(jaxrnn.transformer(4, 2, 2, context=3)), TypeError, "for transformer(4, 2, 1)", ""),
    Bad(
        "params",
        params_of(jaxrnn.transformer(8, 2)),
        ValueError,
        "(4,) for transformer(4, 2, 1)",
        "(8,)",
        "params.blocks",
    ),
]
CARRIES = [
    Bad("carry", HS, TypeError, "TransformerCarry(keys=array, values=array, count=array)", "array"),
    Bad("carry", (), TypeError, "TransformerCarry(keys=array, values=array, count=array)", "()"),
    Bad(
        "carry",
        LAYER.initial_carry(LAYER_PARAMS),
        ValueError,
        "for a batch of shape (2,)",
        "(1, 3, 2, 2)",
        "carry.keys",
    ),
]
TABLE = {
    "dot": Function(kinds.dot, {"size": 3}, wrong.sizes("size")),
    "general": Function(
        kinds.general, {"query_size": H, "memory_size": M}, [*wrong.sizes("query_size", "memory_size"), *KERNELS]
    ),
    "scaled_dot": Function(
        kinds.scaled_dot,
        {"query_size": H, "memory_size": M, "size": A},
        [*wrong.sizes("query_size", "memory_size", "size"), *KERNELS],
    ),
    "additive": Function(
        kinds.additive,
        {"query_size": H, "memory_size": M, "size": A},
        [*wrong.sizes("query_size", "memory_size", "size"), *KERNELS],
    ),
    "Attention.init": Function(ADDITIVE.init, {"key": KEY}, wrong.INIT_KEYS),
    "Attention.prepare": Function(
        ADDITIVE.prepare,
        {"params": ATTENTION_PARAMS, "memory": SOURCE, "lengths": LENGTHS, "mask": SOURCE_MASK},
        [*KIND_PARAMS, *SOURCES],
    ),
    "Attention.attend": Function(
        ADDITIVE.attend,
        {"params": ATTENTION_PARAMS, "memory": MEMORY, "query": HS},
        [
            *KIND_PARAMS,
            Bad("memory", SOURCE, TypeError, "Memory of additive(4, 3, 2)", ""),
            Bad("memory", MEMORY._replace(keys=None), TypeError, "an array", "NoneType", "memory.keys"),
            Bad("memory", MEMORY._replace(keys=SOURCE), ValueError, "(6, 2, 2)", "(6, 2, 3)", "memory.keys"),
            Bad("memory", MEMORY._replace(valid=HS), ValueError, "(2, 6)", "(2, 4)", "memory.valid"),
            Bad("query", None, TypeError, "an array [..., *batch, features]", "NoneType"),
            Bad("query", np.ones((B, 9), np.float32), ValueError, "4 features", "(2, 9)"),
            Bad("query", HS.astype(np.float16), TypeError, "float32", "float16"),
            Bad("query", HS[:1], ValueError, "batch axes that end (1,)", "(2,)", "memory"),
            Bad("query", HS[0], ValueError, "batch axes that end ()", "(2,)", "memory"),
        ],
    ),
    "Attention.check": Function(
        ADDITIVE.check,
        {"params": ATTENTION_PARAMS, "memory": MEMORY, "leading": (B,)},
        [
            *KIND_PARAMS,
            Bad("memory", None, TypeError, "Memory of additive(4, 3, 2)", "NoneType"),
            Bad("leading", (B, 3), ValueError, "batch axes that end (2, 3)", "(2,)", "memory"),
        ],
        traces=False,
    ),
    "attending": Function(
        jaxrnn.attending,
        {"cell": LSTM, "attention": ADDITIVE, "input_size": D},
        [
            *wrong.A_CELL,
            Bad("cell", DICT_CARRY, TypeError, "an array [*B, H] or has a field h", "{'s': array}"),
            Bad("attention", None, TypeError, "an Attention", "NoneType"),
            Bad("attention", kinds.dot, TypeError, "an Attention", "function"),
            Bad("attention", kinds.dot(3), ValueError, "queries of 4 features", "3"),
            *wrong.sizes("input_size"),
            Bad("input_size", 5, ValueError, "3 features", "(5,)", "xs"),
            *choices("outputs", "a tuple of 'y', 'context', 'weights'", (), "y", ("h",), None, error=ValueError),
            Bad("outputs", ("y", "y"), ValueError, "each once", "('y', 'y')"),
            *wrong.initializers("context_init"),
        ],
    ),
    "attending of a cell of your own": Function(
        lambda cell: jaxrnn.attending(cell, kinds.dot(D), D),
        {"cell": jaxrnn.split_cell(**SPLIT)},
        [
            Bad("cell", DICT_OUTPUT, TypeError, "one array as its output", "{'y': array}"),
            Bad("cell", OWN_NOISE, TypeError, "with a key as without one, {'z': array}", "'z': array}; noise may"),
        ],
    ),
    "with_memory": Function(
        jaxrnn.with_memory,
        {"params": PARAMS, "attention": ADDITIVE, "memory": SOURCE, "lengths": LENGTHS, "mask": SOURCE_MASK},
        [
            Bad("params", ATTENTION_PARAMS, TypeError, "AttendingParams", "AttentionParams"),
            Bad("params", None, TypeError, "AttendingParams", "NoneType"),
            Bad("attention", None, TypeError, "an Attention", "NoneType"),
            *SOURCES,
        ],
    ),
    "unroll of an attending cell": Function(
        unroll_with,
        {"memory": MEMORY, "context": PARAMS.context, "attention": ATTENTION_PARAMS, "cell": PARAMS.cell},
        [
            Bad("memory", None, ValueError, "what with_memory puts there", "None", "params.memory"),
            Bad(
                "memory", kinds.dot(H).prepare(kinds.AttentionParams(), HS), ValueError, "(2,", "(2, 4)", "memory.keys"
            ),
            Bad("context", HS, ValueError, "(3, 16) for attending", "(2, 4)", "params.context"),
            Bad("attention", params_of(GENERAL), TypeError, "(4, 2) for additive(4, 3, 2)", "None", "params.query"),
            Bad("cell", None, TypeError, "LSTMParams of lstm(3, 4)", "NoneType", "params"),
        ],
        unchecked=("replaced",),
        traces=False,
    ),
    "transformer": Function(
        jaxrnn.transformer,
        {"features": 4, "heads": 2, "num_layers": 1},
        [
            *wrong.sizes("features", "heads", "num_layers"),
            Bad("heads", 3, ValueError, "a divisor of the 4 features", "3"),
            Bad("heads", 4, ValueError, "pairs of features for 'rotary'", "4 in 4 heads", "position"),
            *(row for row in wrong.sizes("feedforward", "context") if row.value is not None),
            *choices("causal", "True or False", None, 1),
            *choices("dropout", "0 <= dropout < 1", 1.0, -0.1, error=ValueError),
            *choices("dropout", "a number", "0.5", None),
            *choices("position", "'rotary', 'learned', 'sinusoidal'", "absolute", 3, error=ValueError),
            Bad("position", "learned", ValueError, "a context for 'learned'", "None"),
            *KERNELS,
        ],
    ),
    "transformer.init": Function(LAYER.init, {"key": KEY}, wrong.INIT_KEYS),
    "transformer.initial_carry": Function(
        LAYER.initial_carry, {"params": LAYER_PARAMS, "batch_shape": (B,)}, [*LAYER_PARAMETERS, *wrong.BATCH]
    ),
    "transformer.apply": Function(
        LAYER.apply,
        {"params": LAYER_PARAMS, "xs": WIDE, "carry": CARRY, **STEPS},
        [
            *LAYER_PARAMETERS,
            *CARRIES,
            *wrong.SEQUENCES,
            Bad("xs", XS, ValueError, "4 features on the last axis for transformer(4, 2, 1)", "(5, 2, 3)"),
            Bad("xs", WIDE.astype(np.int32), TypeError, "float32, that of params", "int32"),
            *wrong.AROUND,
            *wrong.KEYS,
        ],
    ),
    "transformer.step": Function(
        step_of(LAYER),
        {"params": LAYER_PARAMS, "carry": CARRY, "x": WIDE[0], "reset": FLAGS[0]},
        [
            *LAYER_PARAMETERS,
            *CARRIES,
            Bad("carry", None, TypeError, "TransformerCarry", "None"),
            Bad("x", None, TypeError, "an array [*batch, features]", "NoneType"),
            Bad("x", XS[0], ValueError, "4 features", "(2, 3)"),
            Bad("x", WIDE[0].astype(np.int32), TypeError, "float32, that of params", "int32"),
            Bad("reset", FLAGS[0, :1], ValueError, "(2,) = [*batch]", "(1,)"),
            Bad("reset", LENGTHS, TypeError, "bool", "int"),
            *wrong.KEYS,
        ],
    ),
}


@pytest.mark.parametrize("function", wrong.cases(TABLE))
def test_wrong_arguments(function):
    wrong.hold(function)


def test_every_argument_is_wrong_once():
    assert wrong.untested_arguments(TABLE) == []
    tested = {function.call for function in TABLE.values()}
    public = {getattr(kinds, name) for name in kinds.__all__ if name[0].islower()}
    assert public | {jaxrnn.attending, jaxrnn.with_memory, jaxrnn.transformer} <= tested


def test_a_transformer_without_a_carry_says_so():
    layer = jaxrnn.transformer(4, 2)
    with pytest.raises(TypeError, match=r"\Acarry: expected \(\)"):
        layer.apply(params_of(layer), WIDE, CARRY)
