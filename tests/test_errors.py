"""Wrong arguments of everything that makes a cell, runs one or differentiates one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import initializers
from tests import wrong
from tests.wrong import HS, KEY, LSTM, STEPS, XS, B, Bad, D, Function, H, T, choices, params_of

VANILLA, GRU, BEFORE = jaxrnn.vanilla(D, H), jaxrnn.gru(D, H), jaxrnn.gru(D, H, reset_after=False)
LEARNED = jaxrnn.learned_carry(VANILLA)
SEQUENCE = {"cell": LSTM, "params": params_of(LSTM), "xs": XS, "carry": wrong.LSTM_CARRY, **STEPS}
CELL = [
    *wrong.sizes("input_size", "hidden_size"),
    *wrong.initializers("input_init", "recurrent_init", "bias_init"),
    *wrong.dtypes("dtype"),
    *wrong.NO_DTYPE,
    *wrong.dtypes("carry_dtype"),
]
IMAGE, LAYOUT = (5, 2, D), "1 to 3 spatial sizes and the channels"
CONV = jaxrnn.conv_lstm(IMAGE, H, 3)
CONV_CELL = [
    *choices("input_shape", LAYOUT, 3, None, "32"),
    *choices("input_shape", LAYOUT, (), (3,), (2, 2, 2, 2, 2), error=ValueError),
    Bad("input_shape", (5, 0, D), ValueError, "at least 1", "0"),
    Bad("input_shape", (5, 2.0, D), TypeError, "an int", "2.0"),
    *wrong.sizes("hidden_channels", "groups"),
    Bad("groups", 3, ValueError, "a divisor of 3 input and 4 hidden channels", "3"),
    Bad("groups", 2, ValueError, "a divisor of 3 input and 4 hidden channels", "2"),
    *(
        row
        for name in ("kernel_size", "strides", "dilation", "recurrent_kernel_size")
        for row in (
            *choices(name, "an int, or one for each of 2 axes", (2,), (1, 2, 3), error=ValueError),
            Bad(name, 0, ValueError, "at least 1", "0"),
            Bad(name, (2, -1), ValueError, "at least 1", "-1"),
            Bad(name, (2, 1.0), TypeError, "an int", "1.0"),
            *choices(name, "an int", "3", 2.0, True),
        )
    ),
    *choices("padding", "'same', 'valid'", "SAME", 1, None, error=ValueError),
    *wrong.initializers("input_init", "recurrent_init", "bias_init"),
    *wrong.dtypes("dtype"),
    *wrong.NO_DTYPE,
    *wrong.dtypes("carry_dtype"),
]
CONV_CALL = {"input_shape": IMAGE, "hidden_channels": H, "kernel_size": 3}
SPLIT = {
    "init": lambda key: jnp.eye(D),
    "initial_carry": lambda params, batch_shape=(): jnp.zeros((*batch_shape, D)),
    "recur": lambda params, h: h @ params,
    "update": lambda h, z, a: (z + a, z + a),
}


def run(cell: jaxrnn.Cell):
    """Return a function of the parameters of a cell, for rows about these."""
    return lambda params: jaxrnn.unroll(cell, params, XS)


def run_split(update):
    return jaxrnn.unroll(jaxrnn.split_cell(**{**SPLIT, "update": update}), np.eye(D, dtype=np.float32), XS)


def run_activation(activation):
    return jaxrnn.unroll(jaxrnn.vanilla(D, H, activation=activation), params_of(VANILLA), XS)


RATES = [
    Bad("rate", (0.1, 0.2, 0.3), ValueError, f"one for each part of the carry {wrong.NAMES}", "(float, float, float)"),
    Bad("rate", [0.1, 0.2], ValueError, f"one for each part of the carry {wrong.NAMES}", "[float, float]"),
    Bad("rate", {"h": 0.1}, ValueError, f"one for each part of the carry {wrong.NAMES}", "{'h': float}"),
]
COTANGENTS = [
    Bad("dys", HS, ValueError, "(5, 2, 4)", "(2, 4)"),
    Bad("dys", np.ones((B, T, H), np.float32), ValueError, "(5, 2, 4)", "(2, 5, 4)"),
    Bad("dys", np.ones((T, B, H), np.int32), TypeError, "float32", "int32"),
    Bad("dys", [1.0], TypeError, "array", "[float]"),
    Bad("dys", 1.0, ValueError, "(5, 2, 4)", "()"),
    Bad("dcarry", HS, TypeError, wrong.NAMES, "array"),
    Bad("dcarry", wrong.lstm_carry(HS, HS[0]), ValueError, "(2, 4)", "(4,)", "dcarry.c"),
]
CELL_FUNCTIONS = {
    "vanilla": Function(
        jaxrnn.vanilla,
        {"input_size": D, "hidden_size": H},
        [
            *CELL,
            *choices("activation", "'tanh', 'relu', 'sigmoid', 'identity'", "tan", "", error=ValueError),
            *choices("activation", "a pair (φ, φ') or a callable", None, ("tanh", "relu"), ["tanh"], (jnp.tanh,)),
        ],
    ),
    "vanilla, run": Function(
        run_activation,
        {"activation": jnp.tanh},
        [
            Bad("activation", lambda a: a.sum(), ValueError, "(2, 4)", "()", "cell.step: carry"),
        ],
    ),
    "lstm": Function(
        jaxrnn.lstm,
        {"input_size": D, "hidden_size": H},
        [
            *CELL,
            *choices("forget_bias", "a number", "1", None, True, (1.0,), jnp.ones(H)),
            *choices("forget_bias", "a finite number", float("nan"), float("inf"), error=ValueError),
        ],
    ),
    "gru": Function(
        jaxrnn.gru,
        {"input_size": D, "hidden_size": H},
        [
            *CELL,
            *choices("reset_after", "True or False", "yes", 1, None),
            *choices(
                "activations", "a pair (of the gates, of the candidate)", None, "tanh", ("tanh",), ["tanh", "tanh"]
            ),
            Bad("activations", ("tan", "tanh"), ValueError, "'tanh', 'relu'", "'tan'", "activations[0]"),
            Bad("activations", ("sigmoid", None), TypeError, "'tanh', 'relu'", "None", "activations[1]"),
        ],
    ),
    "conv_vanilla": Function(
        jaxrnn.conv_vanilla,
        CONV_CALL,
        [
            *CONV_CELL,
            *choices("activation", "'tanh', 'relu', 'sigmoid', 'identity'", "tan", error=ValueError),
            *choices("activation", "a pair (φ, φ') or a callable", None, ("tanh", "relu")),
        ],
    ),
    "conv_lstm": Function(
        jaxrnn.conv_lstm,
        CONV_CALL,
        [
            *CONV_CELL,
            *choices("forget_bias", "a number", "1", None),
            *choices("forget_bias", "finite", float("nan"), error=ValueError),
            *choices("activations", "three", "tanh", None, ("sigmoid", "tanh"), jnp.tanh),
            Bad("activations", ("sigmoid", "tan", "tanh"), ValueError, "'tanh', 'relu'", "'tan'", "activations[1]"),
        ],
    ),
    "conv_gru": Function(
        jaxrnn.conv_gru, CONV_CALL, [*CONV_CELL, *choices("reset_after", "True or False", "yes", 1, None)]
    ),
    "conv_lstm without room": Function(
        lambda kernel_size: jaxrnn.conv_lstm(IMAGE, H, kernel_size, padding="valid", dilation=2),
        {"kernel_size": (3, 1)},
        [
            Bad("kernel_size", (4, 1), ValueError, "at most the (5, 2) positions", "spans (7, 1)"),
            Bad("kernel_size", 2, ValueError, "at most the (5, 2) positions", "(2, 2), which with dilation (2, 2)"),
        ],
    ),
    "conv_lstm, run": Function(
        lambda params, xs: jaxrnn.unroll(CONV, params, xs),
        {"params": params_of(CONV), "xs": np.ones((T, B, *IMAGE), np.float32)},
        [
            *wrong.params(CONV, "ConvLSTMParams", "conv_lstm((5, 2, 3), 4, (3, 3))"),
            *wrong.SEQUENCES[:-1],
            Bad("xs", np.ones(IMAGE, np.float32), ValueError, "[time, *batch, features]", "(5, 2, 3)"),
            Bad(
                "xs", np.ones((T, B, 2, 5, D), np.float32), ValueError, "(5, 2, 3) on the last axes", "(5, 2, 2, 5, 3)"
            ),
            Bad("xs", np.ones((T, B, *IMAGE), np.float16), TypeError, "float32, that of params", "float16"),
            Bad("xs", [np.ones((T, *IMAGE), np.float32)], TypeError, "an array [..., *(5, 2, 3)]", "list"),
        ],
    ),
    "init": Function(LSTM.init, {"key": KEY}, wrong.INIT_KEYS),
    "initial_carry": Function(
        LSTM.initial_carry, {"params": params_of(LSTM), "batch_shape": (B,)}, [*wrong.LSTM_PARAMS, *wrong.BATCH]
    ),
    "parameters of a vanilla": Function(
        run(VANILLA), {"params": params_of(VANILLA)}, wrong.params(VANILLA, "VanillaParams", "vanilla(3, 4)")
    ),
    "parameters of a gru": Function(
        run(GRU),
        {"params": params_of(GRU)},
        [
            *wrong.params(GRU, "GRUParams", "gru(3, 4, reset_after=True)"),
            Bad("params", params_of(BEFORE), TypeError, "(4,) for gru(3, 4, reset_after=True)", "None"),
        ],
    ),
    "parameters of a gru that resets before": Function(
        run(BEFORE),
        {"params": params_of(BEFORE)},
        [Bad("params", params_of(GRU), ValueError, "None for gru(3, 4, reset_after=False)", "array")],
    ),
    "learned_carry": Function(jaxrnn.learned_carry, {"cell": VANILLA}, wrong.A_CELL),
    "parameters of a learned_carry": Function(
        run(LEARNED),
        {"params": params_of(LEARNED)},
        [
            Bad("params", params_of(VANILLA), TypeError, "LearnedCarryParams", "VanillaParams"),
            Bad("params", params_of(LEARNED)._replace(carry=HS[0, :1]), ValueError, "(4,)", "(1,)", "params.carry"),
            Bad("params", params_of(LEARNED)._replace(carry=HS), ValueError, "(4,)", "(2, 4)", "params.carry"),
            Bad("params", params_of(LEARNED)._replace(carry=wrong.LSTM_CARRY), TypeError, "array", "LSTMCarry"),
            Bad("params", params_of(LEARNED)._replace(cell=None), TypeError, "VanillaParams", "NoneType"),
        ],
    ),
    "initial_carry of a learned_carry": Function(
        LEARNED.initial_carry,
        {"params": params_of(LEARNED), "batch_shape": (B,)},
        [Bad("params", HS, TypeError, "LearnedCarryParams", ""), *wrong.BATCH],
    ),
    "all_carries": Function(jaxrnn.all_carries, {"cell": VANILLA}, wrong.A_CELL),
    "zoneout": Function(
        jaxrnn.zoneout,
        {"cell": LSTM, "rate": (0.1, 0.5)},
        [
            *wrong.A_CELL,
            *wrong.rates("rate"),
            Bad("rate", (0.5, 1.0), ValueError, "0 <= rate < 1", "1.0"),
            Bad("rate", (0.5, "0.5"), TypeError, "a number", "'0.5'"),
            *choices("rate", "one for each part of the carry", (), {}),
        ],
    ),
    "zoneout, run": Function(
        lambda rate, key=None: jaxrnn.unroll(jaxrnn.zoneout(LSTM, rate), params_of(LSTM), XS, key=key),
        {"rate": (0.1, 0.5), "key": KEY},
        [*RATES, *wrong.KEYS],
    ),
    "zoneout, run without a key": Function(
        lambda rate: jaxrnn.unroll(jaxrnn.zoneout(LSTM, rate), params_of(LSTM), XS), {"rate": (0.1, 0.5)}, RATES
    ),
    "variational_dropout": Function(
        jaxrnn.variational_dropout,
        {"cell": GRU, "rate": 0.5},
        [
            *wrong.A_CELL,
            Bad("cell", BEFORE, ValueError, "split at its product (Cell.split)", "without"),
            *wrong.rates("rate", "input_rate"),
            *choices("input_rate", "a number", (0.5,)),
        ],
    ),
    "variational_dropout, run": Function(
        lambda rate, xs: jaxrnn.unroll(
            jaxrnn.variational_dropout(LSTM, rate, input_rate=0.5), params_of(LSTM), xs, key=KEY
        ),
        {"rate": (0.1, 0.5), "xs": XS},
        [
            *RATES,
            Bad("xs", XS.astype(np.int32), TypeError, "a floating dtype where input_rate is not 0", "int32"),
            Bad("xs", XS[..., :2], ValueError, "3 features", "(5, 2, 2)"),
        ],
    ),
    "split_cell": Function(
        jaxrnn.split_cell,
        SPLIT,
        [
            *(row for name in (*SPLIT, "inputs") for row in choices(name, "a function", None, 3)),
            *choices("feature_axes", "at least 0", -1, error=ValueError),
            *choices("feature_axes", "an int", 1.0, None),
        ],
    ),
    "split_cell, run": Function(
        run_split,
        {"update": SPLIT["update"]},
        [
            Bad("update", lambda h, z, a: z + a, TypeError, "(carry, y)", "array", "cell.step"),
            Bad("update", lambda h, z, a: (a, a, a), TypeError, "(carry, y)", "(array, array, array)", "cell.step"),
            Bad("update", lambda h, z, a: (z[..., :2], a), ValueError, "(2, 3)", "(2, 2)", "cell.step: carry"),
            Bad("update", lambda h, z, a: (z.astype(int), a), TypeError, "float32", "int32", "cell.step: carry"),
            Bad("update", lambda h, z, a: ((h, h), a), TypeError, "array", "(array, array)", "cell.step: carry"),
        ],
    ),
}
RUNNING_FUNCTIONS = {
    "unroll": Function(
        jaxrnn.unroll,
        SEQUENCE,
        [
            *wrong.A_CELL,
            *wrong.LSTM_PARAMS,
            *wrong.FEATURES,
            *wrong.LSTM_CARRIES,
            *wrong.AROUND,
            *wrong.DIRECTIONS,
            *wrong.CHECKPOINTS,
            *wrong.GRADIENTS,
            *wrong.sizes("unroll"),
            *wrong.KEYS,
            # Batch-major sequences: what does not fit them is named.
            Bad("xs", XS.swapaxes(0, 1), ValueError, "(5,) = [*batch]", "(2,)", "lengths"),
        ],
    ),
    "unroll of a cell without an adjoint": Function(
        lambda gradient: jaxrnn.unroll(VANILLA._replace(adjoint=None), params_of(VANILLA), XS, gradient=gradient),
        {"gradient": "auto"},
        [Bad("gradient", "manual", ValueError, '"manual" needs a cell with an adjoint', "split_cell")],
    ),
    "unroll of sequences alone": Function(
        lambda xs: jaxrnn.unroll(LSTM, params_of(LSTM), xs),
        {"xs": XS},
        [
            Bad("xs", np.moveaxis(XS, 2, 0), ValueError, "3 features on the last axis", "(3, 5, 2)"),
            Bad("xs", XS[..., 0], ValueError, "3 features on the last axis", "(5, 2)"),
        ],
    ),
    "unroll with a mask alone": Function(
        lambda xs: jaxrnn.unroll(LSTM, params_of(LSTM), xs, mask=wrong.FLAGS),
        {"xs": XS},
        [Bad("xs", XS.swapaxes(0, 1), ValueError, "(2, 5) = [time, *batch]", "(5, 2)", "mask")],
    ),
    "unroll with a carry alone": Function(
        lambda xs: jaxrnn.unroll(VANILLA, params_of(VANILLA), xs, HS),
        {"xs": XS},
        [Bad("xs", XS.swapaxes(0, 1), ValueError, "(5, 4) for a batch of shape (5,)", "(2, 4)", "carry")],
    ),
    "bptt": Function(
        jaxrnn.bptt,
        SEQUENCE,
        [
            *wrong.A_CELL,
            Bad("cell", LSTM._replace(adjoint=None), ValueError, "hand-derived formulas", "without"),
            *wrong.LSTM_PARAMS,
            *wrong.FEATURES,
            *wrong.LSTM_CARRIES,
            *COTANGENTS,
            *wrong.AROUND,
            *wrong.DIRECTIONS,
            *wrong.KEYS,
        ],
    ),
    "check_gradients": Function(
        lambda **arguments: jaxrnn.check_gradients(**arguments),
        # In its float64, a NumPy array closed over would be another constant than elsewhere.
        {name: jax.tree.map(jnp.array, value) for name, value in SEQUENCE.items() if name != "cell"}
        | {"cell": LSTM, "verbose": False},
        [
            *wrong.A_CELL,
            *(row for row in wrong.FEATURES if row.got in ("NoneType", "()", "(3,)", "(5, 2, 9)")),
            Bad("params", params_of(VANILLA), TypeError, "LSTMParams of lstm(3, 4)", "VanillaParams"),
            *(row for row in wrong.LSTM_CARRIES if row.got not in ("float16", "str")),
            *(row for row in wrong.AROUND if row.got != "int32"),
            *wrong.DIRECTIONS,
            *choices("verbose", "True or False", 1, None),
        ],
        unchecked=("arguments",),
        traces=False,
    ),
}
INITIALIZERS = {
    "fan_in()": Function(
        lambda shape: initializers.fan_in()(KEY, shape, jnp.float32),
        {"shape": (3, 4)},
        choices("shape", "a kernel (..., in, out)", (3,), (), error=ValueError),
    ),
    "identity()": Function(
        lambda shape: initializers.identity()(KEY, shape, jnp.float32),
        {"shape": (3, 3)},
        choices("shape", "a square matrix (H, H)", (3, 4), (3,), (3, 3, 3), error=ValueError),
    ),
    "per_gate()": Function(
        lambda shape: initializers.per_gate(initializers.zeros, 3)(KEY, shape, jnp.float32),
        {"shape": (3, 6)},
        choices("shape", "a last axis that 3 gates divide", (3, 4), (2,), error=ValueError),
    ),
}
TABLE = {**CELL_FUNCTIONS, **RUNNING_FUNCTIONS, **INITIALIZERS}


@pytest.mark.parametrize("function", wrong.cases(TABLE))
def test_wrong_arguments(function):
    wrong.hold(function)


def test_every_argument_is_wrong_once():
    assert wrong.untested_arguments(TABLE) == []
    tested = {function.call for function in TABLE.values()}
    public = {jaxrnn.vanilla, jaxrnn.lstm, jaxrnn.gru, jaxrnn.learned_carry, jaxrnn.split_cell}
    public |= {jaxrnn.conv_vanilla, jaxrnn.conv_lstm, jaxrnn.conv_gru}
    public |= {jaxrnn.all_carries, jaxrnn.variational_dropout, jaxrnn.zoneout}
    assert public | {jaxrnn.unroll, jaxrnn.bptt} <= tested


# Values are known outside jit only


@pytest.mark.parametrize("lengths", [[-1, 2], [1, 6], [0, 2**31 - 1]], ids=str)
@pytest.mark.parametrize("make", [jnp.array, np.array, list])
def test_lengths_out_of_range(make, lengths):
    with pytest.raises(ValueError, match=rf"\Alengths: expected values from 0 to the 5 steps .* got {lengths[0]} to"):
        jaxrnn.unroll(LSTM, params_of(LSTM), XS, lengths=make(lengths))


@pytest.mark.parametrize("dtype", [np.int32, np.int8, np.int16])
def test_lengths_are_clipped_under_jit(dtype, key):
    params = LSTM.init(key)
    clipped = jax.jit(lambda lengths: jaxrnn.unroll(LSTM, params, XS, lengths=lengths))(np.array([-3, 99], dtype))
    expected = jaxrnn.unroll(LSTM, params, XS, lengths=np.array([0, 5]))
    assert all((a == b).all() for a, b in zip(jax.tree.leaves(clipped), jax.tree.leaves(expected), strict=True))


LAYERS = {"recurrent": jaxrnn.recurrent(jaxrnn.vanilla(D, D)), "residual": jaxrnn.residual(jaxrnn.dense(D, D))}


@pytest.mark.parametrize("name", LAYERS)
def test_lists_may_hold_what_is_traced(name, key):
    """Beside what is known, which is not looked at then."""
    layer = LAYERS[name]
    params = layer.init(key)
    run = lambda **steps: layer.apply(params, XS, **steps)[1]
    lengths = jax.jit(lambda length: run(lengths=[length, 9]))(3)
    mask = jax.jit(lambda valid: run(mask=[[valid, True]] * T))(False)
    assert (lengths == run(lengths=[3, 5])).all()
    assert (mask == run(lengths=[0, 5])).all()


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.uint32])
def test_lengths_of_a_dtype_too_narrow_for_the_steps(dtype):
    params = VANILLA.init(KEY)
    lengths = np.array([3, 127], dtype)
    _, ys = jax.jit(lambda lengths: jaxrnn.unroll(VANILLA, params, jnp.ones((300, 2, D)), lengths=lengths))(lengths)
    assert (ys != 0).any(axis=-1).sum(axis=0).tolist() == [3, 127]


def test_float64_where_the_parameters_are_float32():
    with pytest.raises(TypeError, match=r"\Axs: expected dtype float32, that of params, got float64"):
        jaxrnn.unroll(LSTM, params_of(LSTM), np.ones((T, B, D)))
    with jax.enable_x64(True), pytest.raises(TypeError, match=r"\Axs: expected dtype float32, .* got float64"):
        jax.jit(lambda xs: jaxrnn.unroll(LSTM, params_of(LSTM), xs))(np.ones((T, B, D)))


def test_a_cell_passed_through_jit_is_named():
    with pytest.raises(TypeError, match=r"at path cell\.init"):
        jax.jit(jaxrnn.unroll)(LSTM, params_of(LSTM), XS)


def test_positional_options_are_refused():
    with pytest.raises(TypeError, match="positional arguments"):
        jaxrnn.unroll(LSTM, params_of(LSTM), XS, None, np.array([5, 2]))  # type: ignore[misc]


# What is right, though it may look wrong

ACCEPTED = {
    "NumPy arrays": {},
    "JAX arrays": {"xs": jnp.array(XS), "lengths": jnp.array([5, 2]), "mask": jnp.array(wrong.FLAGS)},
    "lists": {"lengths": [5, 0], "mask": [[True, False]] * T, "resets": [[False, True]] * T},
    "other integers": {"lengths": np.array([5, 2], np.uint16)},
    "an old key": {"key": jax.random.PRNGKey(0)},
    "a new key": {"key": KEY},
    "more steps at once than there are": {"unroll": 100},
    "a NumPy int": {"unroll": np.int64(2)},
    "no steps": {"xs": XS[:0], "lengths": [0, 0], "mask": wrong.FLAGS[:0], "resets": wrong.FLAGS[:0]},
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_right_argument(name):
    arguments = {**SEQUENCE, **ACCEPTED[name]}
    (h, c), ys = jaxrnn.unroll(**arguments)
    assert h.shape == c.shape == (B, H)
    assert ys.shape == (len(arguments["xs"]), B, H)
