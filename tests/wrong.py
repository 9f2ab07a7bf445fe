"""Wrong arguments: one wrong value in a call that is right otherwise, and what the error must say.

`hold` is the check: the error begins with the name of the argument, says what was expected and what came, and comes
while JAX traces. A table of `Function` per file of tests says what is wrong with each argument; `test_every_argument`
there fails for an argument that no row is about.
"""

import inspect
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn

T, B, D, H, V = 5, 2, 3, 4, 7
KEY = jax.random.key(0)
XS, HS = np.ones((T, B, D), np.float32), np.zeros((B, H), np.float32)
LENGTHS, FLAGS = np.array([5, 2]), np.ones((T, B), bool)
STEPS = {"lengths": LENGTHS, "mask": FLAGS, "resets": FLAGS}
LSTM = jaxrnn.lstm(D, H)


def lstm_carry(h: Any, c: Any) -> Any:
    return jaxrnn.LSTMCarry(h, c)


LSTM_CARRY = lstm_carry(HS, HS)


class Bad(NamedTuple):
    """A wrong value; the error's message begins with ``named``, then has both fragments, in this order."""

    argument: str
    value: Any
    error: type[Exception]
    expected: str
    got: str
    named: str | None = None  # the argument, unless the error is right to name something else


class Function(NamedTuple):
    """A function with arguments that are right, and values that are wrong for one of them.

    unchecked: arguments that take anything, or that another `Function` of the table is about.
    traces: whether it can be traced at all.
    """

    call: Callable[..., Any]
    right: dict[str, Any]
    wrong: list[Bad]
    unchecked: tuple[str, ...] = ()
    traces: bool = True


def cases(functions: dict[str, Function]) -> list[Any]:
    """Return a `pytest.param` for every function: one test for all its rows, of which there are thousands."""
    return [pytest.param(function, id=name) for name, function in functions.items()]


def hold(function: Function) -> None:
    """Fail unless every row's error is as the row says; the failure tells of all that are not."""
    others = []
    for row in function.wrong:
        try:
            _hold(function, row)
        except (Exception, pytest.fail.Exception) as error:
            others.append(f"{row.argument}={row.value!r}: {type(error).__name__}: {error}")
    assert not others, "\n".join(others)


def _hold(function: Function, row: Bad) -> None:
    """Fail unless the error is as the row says, with values that are known and with arrays that are traced."""
    arguments = {**function.right, row.argument: row.value}
    pattern = rf"\A{re.escape(row.named or row.argument)}[:.\[](.|\n)*{re.escape(row.expected)}(.|\n)*"
    with pytest.raises(row.error, match=pattern + re.escape(row.got)):
        function.call(**arguments)
    arrays = {name: value for name, value in arguments.items() if _of_arrays(value)}
    if function.traces and arrays and _of_arrays(list(filter(_of_arrays, function.right.values()))):
        with pytest.raises(row.error, match=pattern):
            jax.eval_shape(lambda traced: function.call(**{**arguments, **traced}), arrays)


def untested_arguments(functions: dict[str, Function]) -> list[str]:
    """Return the arguments that no row is about."""
    return [
        f"{name}: {argument}"
        for name, function in functions.items()
        for argument in inspect.signature(function.call).parameters
        if argument not in function.unchecked and argument not in {row.argument for row in function.wrong}
    ]


def _of_arrays(value: Any) -> bool:
    leaves = jax.tree.leaves(value)
    return bool(leaves) and all(isinstance(leaf, (jax.Array, np.ndarray)) for leaf in leaves)


def params_of(record: Any) -> Any:
    """Return parameters of a cell or layer, all zero."""
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), jax.eval_shape(record.init, KEY))


# Rows that many functions share


def sizes(*names: str) -> list[Bad]:
    values: list[tuple[Any, type[Exception], str]] = [(0, ValueError, "at least 1"), (-3, ValueError, "at least 1")]
    values += [(value, TypeError, "an int") for value in (3.0, "3", None, True, jnp.array(3), (3,))]
    return [Bad(name, value, error, expected, repr(value)[:5]) for name in names for value, error, expected in values]


def choices(name: str, expected: str, *values: Any, error: type[Exception] = TypeError) -> list[Bad]:
    return [Bad(name, value, error, expected, repr(value)) for value in values]


def initializers(*names: str) -> list[Bad]:
    return [row for name in names for row in choices(name, "a function", None, "zeros", 0.0)]


def dtypes(name: str) -> list[Bad]:
    return [
        Bad(name, jnp.int32, TypeError, "a floating dtype", "int32"),
        Bad(name, jnp.complex64, TypeError, "a floating dtype", "complex64"),
        *choices(name, "a floating dtype", "float23", 3, (3,)),
    ]


def rates(*names: str) -> list[Bad]:
    return [
        row
        for name in names
        for row in (
            *choices(name, f"0 <= {name} < 1", 1.0, -0.1, 2, error=ValueError),
            *choices(name, "a finite number", float("nan"), error=ValueError),
            *choices(name, "a number", "0.5", None, True, jnp.array(0.5)),
        )
    ]


NO_DTYPE = choices("dtype", "a floating dtype", None)
KEYS = [
    Bad("key", 0, TypeError, "a jax.random.key", "int"),
    Bad("key", "seed", TypeError, "a jax.random.key", "str"),
    Bad("key", np.ones(2), TypeError, "a jax.random.key", "float"),
    Bad("key", [0, 1], TypeError, "a jax.random.key", "[int, int]"),
    Bad("key", jax.random.split(KEY, 3), ValueError, "one jax.random.key", "(3,)"),
    Bad("key", np.zeros((3, 2), np.uint32), ValueError, "one jax.random.key", "(3, 2)"),
]
INIT_KEYS = [*KEYS, Bad("key", None, TypeError, "a jax.random.key", "None")]
A_CELL = [
    Bad("cell", None, TypeError, "Cell", "NoneType"),
    Bad("cell", jaxrnn.dropout(0.5), TypeError, "Cell", "Layer"),
    Bad("cell", jaxrnn.lstm, TypeError, "Cell", "function"),
    Bad("cell", tuple(LSTM), TypeError, "Cell", "tuple"),
]
BATCH = [
    *choices("batch_shape", "a tuple of ints", 2, (2.0,), (True,), None),
    *choices("batch_shape", "at least 0", (3, -1), error=ValueError),
]
DIRECTIONS = choices("reverse", "True or False", "yes", 1, None)
GRADIENTS = choices("gradient", "'auto', 'manual', 'autodiff'", "hand", None, True, ["auto"], error=ValueError)
CHECKPOINTS = [
    *choices("checkpoint", "None", "none", "half", error=ValueError),
    *(row for row in sizes("checkpoint") if not isinstance(row.value, str) and row.value is not None),
]

SEQUENCES = [
    Bad("xs", None, TypeError, "an array [time, *batch, features]", "NoneType"),
    Bad("xs", 1.0, TypeError, "an array [time, *batch, features]", "float"),
    Bad("xs", "text", TypeError, "an array [time, *batch, features]", "str"),
    Bad("xs", [[1.0, 2.0, 3.0]], TypeError, "an array [time, *batch, features]", "list"),
    Bad("xs", (), TypeError, "an array [time, *batch, features]", "tuple"),
    Bad("xs", np.ones((), np.float32), ValueError, "[time, *batch, features]", "()"),
    Bad("xs", np.ones(D, np.float32), ValueError, "[time, *batch, features]", "(3,)"),
]
FEATURES = [
    *SEQUENCES,
    Bad("xs", [XS], TypeError, "an array", "list"),
    Bad("xs", {"a": XS}, TypeError, "an array", "dict"),
    Bad("xs", np.ones((T, B, 9), np.float32), ValueError, "3 features on the last axis", "(5, 2, 9)"),
    Bad("xs", XS.astype(np.int32), TypeError, "float32, that of params", "int32"),
    Bad("xs", XS.astype(np.float16), TypeError, "float32, that of params", "float16"),
    Bad("xs", XS > 0, TypeError, "float32, that of params", "bool"),
]


def flags(name: str) -> list[Bad]:
    return [
        Bad(name, FLAGS.T, ValueError, "(5, 2) = [time, *batch]", "(2, 5)"),
        Bad(name, FLAGS[:, 0], ValueError, "(5, 2) = [time, *batch]", "(5,)"),
        Bad(name, FLAGS[..., None], ValueError, "(5, 2) = [time, *batch]", "(5, 2, 1)"),
        Bad(name, True, ValueError, "(5, 2) = [time, *batch]", "()"),
        Bad(name, FLAGS.astype(np.int32), TypeError, "bool", "int32"),
        Bad(name, FLAGS.astype(np.float32), TypeError, "bool", "float32"),
        Bad(name, [0, 3], TypeError, "bool", "int32"),
        Bad(name, "all", TypeError, "an array", "str"),
        Bad(name, [[True], [True, False]], TypeError, "an array", "list"),
        Bad(name, {"a": 1}, TypeError, "an array", "dict"),
    ]


AROUND = [
    Bad("lengths", np.array([1.0, 2.0], np.float32), TypeError, "integers", "float32"),
    Bad("lengths", np.array([True, False]), TypeError, "integers", "bool"),
    Bad("lengths", 3, ValueError, "(2,) = [*batch]", "()"),
    Bad("lengths", np.array([1, 2, 3]), ValueError, "(2,) = [*batch]", "(3,)"),
    Bad("lengths", np.ones((T, B), int), ValueError, "(2,) = [*batch]", "(5, 2)"),
    Bad("lengths", [1, None], TypeError, "an array", "list"),
    Bad("lengths", "12", TypeError, "an array", "str"),
    *flags("mask"),
    *flags("resets"),
]


def params(record: Any, kind: str, call: str) -> list[Bad]:
    """Return wrong parameters for the cell or layer that ``call`` made, whose parameters are a ``kind``."""
    right = params_of(record)
    name, weight = next(iter(right._asdict().items()))
    shape, named = f"{weight.shape} for {call}", f"params.{name}"
    turned = weight.T if weight.shape[0] != weight.shape[1] else weight[:-1]
    return [
        Bad("params", None, TypeError, f"{kind} of {call}", "NoneType"),
        Bad("params", tuple(right), TypeError, f"{kind} of {call}", "tuple"),
        Bad("params", right._asdict(), TypeError, f"{kind} of {call}", "dict"),
        Bad("params", XS, TypeError, f"{kind} of {call}", ""),
        Bad("params", right._replace(**{name: turned}), ValueError, shape, str(turned.shape), named),
        Bad("params", jax.tree.map(lambda w: w[None], right), ValueError, shape, str((1, *weight.shape)), named),
        Bad("params", right._replace(**{name: None}), TypeError, shape, "None", named),
        Bad("params", right._replace(**{name: [0.0]}), TypeError, shape, "[float]", named),
        Bad("params", jax.tree.map(lambda w: w.astype(np.int32), right), TypeError, "one floating dtype", "int32"),
    ]


LSTM_PARAMS = [
    *params(LSTM, "LSTMParams", "lstm(3, 4)"),
    Bad("params", params_of(jaxrnn.vanilla(D, H)), TypeError, "LSTMParams of lstm(3, 4)", "VanillaParams"),
    Bad("params", params_of(jaxrnn.lstm(D, 5)), ValueError, "(3, 16) for lstm(3, 4)", "(3, 20)"),
    Bad("params", params_of(LSTM)._replace(bias=np.zeros(16, np.float16)), TypeError, "one floating dtype", "float16"),
    Bad("params", params_of(LSTM)._replace(bias=np.zeros((1, 16))), ValueError, "(16,)", "(1, 16)"),
]
NAMES, OF_BATCH = "LSTMCarry(h=array, c=array)", "(2, 4) for a batch of shape (2,)"
LSTM_CARRIES = [
    Bad("carry", (HS, HS), TypeError, NAMES, "(array, array)"),
    Bad("carry", HS, TypeError, NAMES, "array"),
    Bad("carry", (), TypeError, NAMES, "()"),
    Bad("carry", "zeros", TypeError, NAMES, "str"),
    Bad("carry", lstm_carry(HS, None), TypeError, NAMES, "LSTMCarry(h=array, c=None)"),
    Bad("carry", lstm_carry(HS[0], HS[0]), ValueError, OF_BATCH, "(4,)", "carry.h"),
    Bad("carry", lstm_carry(HS, HS.T), ValueError, OF_BATCH, "(4, 2)", "carry.c"),
    Bad("carry", lstm_carry(HS, HS[None]), ValueError, OF_BATCH, "(1, 2, 4)", "carry.c"),
    Bad("carry", lstm_carry(HS, HS.astype(np.float16)), TypeError, "float32", "float16", "carry.c"),
    Bad("carry", lstm_carry(HS, "c"), TypeError, OF_BATCH, "str", "carry.c"),
    Bad("carry", lstm_carry(HS, 0.0), ValueError, OF_BATCH, "()", "carry.c"),
]
