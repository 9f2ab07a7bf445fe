"""Wrong arguments of every layer, made, applied and stepped."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from tests import wrong
from tests.layers.stepping import step_of
from tests.wrong import FLAGS, HS, KEY, LSTM, LSTM_CARRY, STEPS, XS, B, Bad, D, Function, H, T, V, choices, params_of

RECURRENT, EMBEDDING = jaxrnn.recurrent(LSTM), jaxrnn.embedding(V, D)
DENSE, DROPOUT = jaxrnn.dense(D, H), jaxrnn.dropout(0.5)
STACK = jaxrnn.serial(EMBEDDING, jaxrnn.recurrent(jaxrnn.gru(D, H)), DROPOUT, jaxrnn.dense(H, V))
TOKENS = np.ones((T, B), np.int32)

NO_CARRY = [
    Bad("carry", HS, TypeError, "() of a layer without a state", "array"),
    Bad("carry", (HS,), TypeError, "() of a layer without a state", "(array,)"),
]
NO_TOKENS = [
    Bad("xs", np.ones((T, B), np.float32), TypeError, "integer tokens for embedding(7, 3)", "float32"),
    Bad("xs", FLAGS, TypeError, "integer tokens for embedding(7, 3)", "bool"),
    Bad("xs", [[1, 2]], TypeError, "an array [time, *batch", "list"),
    Bad("xs", "text", TypeError, "an array [time, *batch", "str"),
    Bad("xs", 3, TypeError, "an array [time, *batch", "int"),
    Bad("xs", np.array(3), ValueError, "[time, *batch", "()"),
]
NO_TOKEN = [
    Bad("x", np.ones(B, np.float32), TypeError, "integer tokens for embedding(7, 3)", "float32"),
    Bad("x", FLAGS[0], TypeError, "integer tokens for embedding(7, 3)", "bool"),
]
RESET = [
    Bad("reset", np.ones(3, bool), ValueError, "(2,) = [*batch]", "(3,)"),
    Bad("reset", FLAGS[:1], ValueError, "(2,) = [*batch]", "(1, 2)"),
    Bad("reset", True, ValueError, "(2,) = [*batch]", "()"),
    Bad("reset", np.ones(B, np.int32), TypeError, "bool", "int32"),
    Bad("reset", "now", TypeError, "an array", "str"),
]
STACK_PARAMS = [
    Bad("params", None, TypeError, "one entry per layer", "NoneType"),
    Bad("params", {"a": 1}, TypeError, "one entry per layer", "dict"),
    Bad("params", params_of(STACK)[:2], ValueError, "4 entries, one per layer", "2"),
    Bad("params", ((), *params_of(STACK)[1:]), TypeError, "EmbeddingParams of embedding(7, 3)", "tuple"),
    Bad("params", (*params_of(STACK)[:3], params_of(DENSE)), ValueError, "(4, 7) for dense(4, 7)", "(3, 4)"),
]
STACK_CARRIES = [
    Bad("carry", HS, TypeError, "one entry per layer", ""),
    Bad("carry", ((), HS), ValueError, "4 entries, one per layer", "2"),
    Bad("carry", (HS, (), (), ()), TypeError, "()", "array"),
    Bad("carry", ((), LSTM_CARRY, (), ()), TypeError, "array", "LSTMCarry(h=array, c=array)"),
    Bad("carry", ((), HS[0], (), ()), ValueError, "(2, 4) for a batch of shape (2,)", "(4,)"),
]


def run_stack(sizes):
    layer = jaxrnn.serial(*(jaxrnn.dense(*pair) for pair in sizes))
    return layer.apply(params_of(layer), XS)


FEATURE_AXES = wrong.sizes("feature_axes")
TABLE = {
    "recurrent": Function(
        jaxrnn.recurrent,
        {"cell": LSTM},
        [
            *wrong.A_CELL,
            *wrong.DIRECTIONS,
            *wrong.GRADIENTS,
            *wrong.CHECKPOINTS,
            *wrong.sizes("unroll_factor"),
        ],
    ),
    "recurrent of a cell without an adjoint": Function(
        lambda gradient: jaxrnn.recurrent(LSTM._replace(adjoint=None), gradient=gradient),
        {"gradient": "auto"},
        [Bad("gradient", "manual", ValueError, '"manual" needs a cell with an adjoint', "split_cell")],
    ),
    "recurrent.init": Function(RECURRENT.init, {"key": KEY}, wrong.INIT_KEYS),
    "recurrent.initial_carry": Function(
        RECURRENT.initial_carry, {"params": params_of(LSTM), "batch_shape": (B,)}, wrong.LSTM_PARAMS + wrong.BATCH
    ),
    "recurrent.apply": Function(
        RECURRENT.apply,
        {"params": params_of(LSTM), "xs": XS, "carry": LSTM_CARRY, **STEPS},
        [*wrong.LSTM_PARAMS, *wrong.FEATURES, *wrong.LSTM_CARRIES, *wrong.AROUND, *wrong.KEYS],
    ),
    "recurrent.step": Function(
        step_of(RECURRENT),
        {"params": params_of(LSTM), "carry": LSTM_CARRY, "x": XS[0], "reset": FLAGS[0]},
        [
            *wrong.LSTM_PARAMS,
            *wrong.LSTM_CARRIES,
            Bad("carry", None, TypeError, wrong.NAMES, "None"),
            Bad("x", None, TypeError, "an array [*batch, features]", "NoneType"),
            Bad("x", [1.0, 2.0, 3.0], TypeError, "an array [*batch, features]", "list"),
            Bad("x", np.ones((), np.float32), ValueError, "[*batch, features]", "()"),
            # The cell's own check knows one name for its input, a sequence of one step.
            Bad("x", np.ones((B, 9), np.float32), ValueError, "3 features", "(1, 2, 9)", "xs"),
            Bad("x", np.ones((B, D), np.int32), TypeError, "float32", "int32", "xs"),
            Bad("x", XS, ValueError, "(5, 2, 4) for a batch of shape (5, 2)", "(2, 4)", "carry.h"),
            *RESET,
            *wrong.KEYS,
        ],
    ),
    "serial": Function(
        lambda layers: jaxrnn.serial(*layers),
        {"layers": (DENSE, DROPOUT)},
        [
            Bad("layers", (), ValueError, "at least one Layer", "none"),
            Bad("layers", (DENSE, LSTM), TypeError, "recurrent(cell)", "Cell", "layers[1]"),
            Bad("layers", ([DENSE, DROPOUT],), TypeError, "a Layer", "list", "layers[0]"),
            Bad("layers", (DENSE, None), TypeError, "a Layer", "NoneType", "layers[1]"),
        ],
    ),
    "serial of sizes that do not fit": Function(
        run_stack,
        {"sizes": ((D, H), (H, D))},
        [Bad("sizes", ((D, H), (5, 6)), ValueError, "5 features on the last axis for dense(5, 6)", "(5, 2, 4)", "xs")],
    ),
    "serial.init": Function(STACK.init, {"key": KEY}, wrong.INIT_KEYS),
    "serial.initial_carry": Function(
        STACK.initial_carry, {"params": params_of(STACK), "batch_shape": (B,)}, [*STACK_PARAMS[:3], *wrong.BATCH]
    ),
    "serial.apply": Function(
        STACK.apply,
        {"params": params_of(STACK), "xs": TOKENS, "carry": ((), HS, (), ()), **STEPS},
        [
            *(row._replace(named=row.named or "params") for row in STACK_PARAMS),
            *STACK_CARRIES,
            *NO_TOKENS,
            *wrong.AROUND,
            *wrong.KEYS,
        ],
    ),
    "serial.step": Function(
        step_of(STACK),
        {"params": params_of(STACK), "carry": ((), HS, (), ()), "x": TOKENS[0], "reset": FLAGS[0]},
        [
            *STACK_PARAMS,
            *STACK_CARRIES,
            Bad("carry", None, TypeError, "one entry per layer", "NoneType"),
            *NO_TOKEN,
            *RESET,
            *wrong.KEYS,
        ],
    ),
    "embedding": Function(
        jaxrnn.embedding,
        {"vocabulary": V, "size": D},
        [
            *wrong.sizes("vocabulary", "size"),
            *wrong.initializers("table_init"),
            *wrong.dtypes("dtype"),
            *wrong.NO_DTYPE,
        ],
    ),
    "embedding.init": Function(EMBEDDING.init, {"key": KEY}, wrong.INIT_KEYS),
    "embedding.apply": Function(
        EMBEDDING.apply,
        {"params": params_of(EMBEDDING), "xs": TOKENS, "carry": (), **STEPS},
        [
            *wrong.params(EMBEDDING, "EmbeddingParams", "embedding(7, 3)"),
            *NO_TOKENS,
            *NO_CARRY,
            *wrong.AROUND,
            *wrong.KEYS,
        ],
    ),
    "embedding.step": Function(
        step_of(EMBEDDING),
        {"params": params_of(EMBEDDING), "carry": (), "x": TOKENS[0], "reset": FLAGS[0]},
        [
            *wrong.params(EMBEDDING, "EmbeddingParams", "embedding(7, 3)"),
            *NO_TOKEN,
            *NO_CARRY,
            *RESET,
            *wrong.KEYS,
        ],
    ),
    "dense": Function(
        jaxrnn.dense,
        {"input_size": D, "output_size": H},
        [
            *wrong.sizes("input_size", "output_size"),
            *wrong.initializers("kernel_init", "bias_init"),
            *wrong.dtypes("dtype"),
            *wrong.NO_DTYPE,
            *choices("activation", "a name, a callable or None", (jnp.tanh,), 0),
            *choices("activation", "one of 'tanh', 'relu'", "selu", error=ValueError),
            *choices("bias", "True or False", None, 1, "no"),
            *FEATURE_AXES,
        ],
    ),
    "dense.init": Function(DENSE.init, {"key": KEY}, wrong.INIT_KEYS),
    "dense.apply": Function(
        DENSE.apply,
        {"params": params_of(DENSE), "xs": XS, "carry": (), **STEPS},
        [
            *wrong.params(DENSE, "DenseParams", "dense(3, 4)"),
            Bad("params", params_of(DENSE)._replace(bias=None), TypeError, "(4,) for dense(3, 4)", "None"),
            *wrong.FEATURES,
            *NO_CARRY,
            *wrong.AROUND,
            *wrong.KEYS,
        ],
    ),
    "dense.step": Function(
        step_of(DENSE),
        {"params": params_of(DENSE), "carry": (), "x": XS[0], "reset": FLAGS[0]},
        [
            *wrong.params(DENSE, "DenseParams", "dense(3, 4)"),
            *NO_CARRY,
            Bad("x", np.ones((B, 9), np.float32), ValueError, "3 features on the last axis for dense(3, 4)", "(2, 9)"),
            Bad("x", np.ones((B, D), np.int32), TypeError, "float32, that of params", "int32"),
            Bad("x", np.ones((), np.float32), ValueError, "features", "()"),
            *RESET,
            *wrong.KEYS,
        ],
    ),
    "dropout": Function(
        jaxrnn.dropout,
        {"rate": 0.5},
        [*wrong.rates("rate"), *FEATURE_AXES],
    ),
    "flatten": Function(jaxrnn.flatten, {"feature_axes": 2}, FEATURE_AXES),
    "flatten.apply": Function(
        jaxrnn.flatten(2).apply,
        {"params": (), "xs": np.ones((T, B, D, H), np.float32), "carry": (), **STEPS},
        [
            Bad("params", params_of(DENSE), TypeError, "() of a layer without parameters", "DenseParams"),
            *wrong.SEQUENCES,
            *NO_CARRY,
            *wrong.AROUND,
            *wrong.KEYS,
        ],
    ),
    "weight_dropout": Function(
        jaxrnn.weight_dropout,
        {"layer": RECURRENT, "rate": 0.5},
        [
            Bad("layer", None, TypeError, "a Layer", "NoneType"),
            Bad("layer", LSTM, TypeError, "recurrent(cell)", "Cell"),
            *wrong.rates("rate"),
            *choices("where", "a function", None, "recurrent", ("recurrent",)),
        ],
    ),
    "weight_dropout, run": Function(
        lambda where, key: jaxrnn.weight_dropout(RECURRENT, 0.5, where=where).apply(params_of(LSTM), XS, key=key),
        {"where": lambda path: path == "recurrent", "key": KEY},
        [
            *wrong.KEYS,
            Bad("where", lambda path: path == "kernel", ValueError, "one of the parameters input, recurrent", "none"),
        ],
    ),
    "weight_dropout.step": Function(
        step_of(jaxrnn.weight_dropout(RECURRENT, 0.5)),
        {"params": params_of(LSTM), "carry": LSTM_CARRY, "x": XS[0], "key": KEY},
        [
            Bad("params", params_of(jaxrnn.vanilla(D, H)), TypeError, "LSTMParams of lstm(3, 4)", "VanillaParams"),
            Bad("carry", HS, TypeError, wrong.NAMES, "array"),
            Bad("x", 1.0, TypeError, "an array [*batch, features]", "float"),
            *RESET,
            *wrong.KEYS,
        ],
    ),
    "dropout.init": Function(DROPOUT.init, {"key": KEY}, [], unchecked=("key",)),
    "dropout.apply": Function(
        DROPOUT.apply,
        {"params": (), "xs": XS, "carry": (), "key": KEY, **STEPS},
        [
            Bad("params", params_of(DENSE), TypeError, "() of a layer without parameters", "DenseParams"),
            Bad("params", None, TypeError, "() of a layer without parameters", "None"),
            Bad("xs", np.ones((T, B, D), np.int32), TypeError, "a floating dtype", "int32"),
            *wrong.SEQUENCES,
            *NO_CARRY,
            *wrong.AROUND,
            *wrong.KEYS,
        ],
    ),
    "dropout.step": Function(
        step_of(DROPOUT),
        {"params": (), "carry": (), "x": XS[0], "reset": FLAGS[0], "key": KEY},
        [
            Bad("params", params_of(DENSE), TypeError, "() of a layer without parameters", "DenseParams"),
            Bad("x", np.ones((B, D), np.int32), TypeError, "a floating dtype", "int32"),
            Bad("x", "text", TypeError, "an array", "str"),
            *NO_CARRY,
            *RESET,
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
    assert {jaxrnn.recurrent, jaxrnn.embedding, jaxrnn.dense, jaxrnn.dropout, jaxrnn.weight_dropout} <= tested


@pytest.mark.parametrize("tokens", [[[0, 7]], [[-1, 0]]], ids=str)
def test_known_tokens_are_checked_and_traced_ones_clipped(tokens):
    layer, params = jaxrnn.embedding(V, D), EMBEDDING.init(KEY)
    with pytest.raises(ValueError, match=r"\Axs: expected tokens from 0 to 6, got (0 to 7|-1 to 0)"):
        layer.apply(params, np.array(tokens))
    _, ys = jax.jit(layer.apply)(params, np.array(tokens))
    assert (ys == params.table[np.clip(tokens, 0, 6)]).all()
