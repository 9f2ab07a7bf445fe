"""Wrong arguments of losses, of decoding and of training."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import decoding, losses, training
from tests import wrong
from tests.wrong import FLAGS, HS, KEY, LSTM, XS, B, Bad, Function, H, T, choices, flags, params_of

K, V = 3, 7
PREDICTIONS = TARGETS = np.full((T, B, K), 0.5, np.float32)
LABELS = np.ones((T, B), np.int32)
FEATURE_AXES = [
    *choices("feature_axes", "an int", 1.0, "1", None, True),
    *choices("feature_axes", "0 to the 3 axes of predictions", -1, 4, error=ValueError),
]
NO_PREDICTIONS = [
    Bad("predictions", LABELS, TypeError, "a floating dtype", "int32"),
    Bad("predictions", "text", TypeError, "an array", "str"),
    Bad("predictions", None, TypeError, "an array", "NoneType"),
]
NO_TARGETS = [
    Bad("targets", TARGETS.swapaxes(0, 1), ValueError, "(5, 2, 3), that of predictions", "(2, 5, 3)"),
    Bad("targets", TARGETS[0], ValueError, "(5, 2, 3)", "(2, 3)"),
    Bad("targets", TARGETS.astype(np.float16), TypeError, "float32, that of predictions", "float16"),
    Bad("targets", TARGETS.astype(np.int32), TypeError, "float32, that of predictions", "int32"),
    Bad("targets", "text", TypeError, "an array", "str"),
]
REGRESSION = {"predictions": PREDICTIONS, "targets": TARGETS, "mask": FLAGS}
LOSSES = {
    "half_squared_error": Function(
        losses.half_squared_error, REGRESSION, [*NO_PREDICTIONS, *NO_TARGETS, *flags("mask"), *FEATURE_AXES]
    ),
    "mean_squared_error": Function(
        losses.mean_squared_error, REGRESSION, [*NO_PREDICTIONS, *NO_TARGETS, *flags("mask"), *FEATURE_AXES]
    ),
    "sigmoid_cross_entropy": Function(
        losses.sigmoid_cross_entropy, REGRESSION, [*NO_PREDICTIONS, *NO_TARGETS, *flags("mask"), *FEATURE_AXES]
    ),
    "softmax_cross_entropy": Function(
        losses.softmax_cross_entropy,
        {"predictions": PREDICTIONS, "targets": LABELS, "mask": FLAGS},
        [
            *NO_PREDICTIONS,
            Bad("predictions", np.ones((), np.float32), ValueError, "[time, *batch, classes]", "()"),
            Bad("targets", LABELS.T, ValueError, "(5, 2) = [time, *batch]", "(2, 5)"),
            Bad("targets", PREDICTIONS, TypeError, "integers", "float32"),
            Bad("targets", np.ones((T, B, K), np.int32), ValueError, "(5, 2)", "(5, 2, 3)"),
            Bad("targets", None, TypeError, "an array", "NoneType"),
            *flags("mask"),
            *wrong.rates("label_smoothing"),
        ],
    ),
    "ctc": Function(
        losses.ctc,
        {"logits": PREDICTIONS, "labels": np.ones((B, 2), np.int32), "mask": FLAGS},
        [
            Bad("logits", LABELS, TypeError, "a floating dtype", "int32"),
            Bad("logits", PREDICTIONS[:, 0, 0], ValueError, "[time, *batch, classes]", "(5,)"),
            Bad("labels", np.ones((3, 2), np.int32), ValueError, "(2, 2) = [*batch, N]", "(3, 2)"),
            Bad("labels", np.ones((B, 2), np.float32), TypeError, "integers", "float32"),
            *flags("mask"),
            Bad("lengths", np.array([1, 2, 3]), ValueError, "(2,) = [*batch]", "(3,)"),
            Bad("lengths", np.ones(B, np.float32), TypeError, "integers", "float32"),
            Bad("label_lengths", np.array([1, 2, 3]), ValueError, "(2,) = [*batch]", "(3,)"),
            Bad("label_lengths", np.ones(B, np.float32), TypeError, "integers", "float32"),
            *choices("blank_id", "an int", 0.0, None, True),
            *choices("blank_id", "a class from 0 to 2", -1, 3, error=ValueError),
        ],
    ),
    "sum_and_weight": Function(
        losses.sum_and_weight,
        {"loss": losses.mean_squared_error},
        [
            *choices("loss", "a function", None, "mean_squared_error"),
            Bad("loss", losses.ctc, ValueError, "a mean over the steps that count", "ctc"),
            Bad("loss", functools.partial(losses.ctc, blank_id=1), ValueError, "a mean over the steps", "ctc"),
            Bad("loss", losses.half_squared_error, ValueError, "a mean over the steps", "half_squared_error"),
        ],
    ),
}

LAYER = jaxrnn.serial(jaxrnn.embedding(V, 3), jaxrnn.recurrent(LSTM), jaxrnn.dense(H, V))
LOGITS = np.ones((B, V), np.float32)
A_LAYER = [
    Bad("layer", LSTM, TypeError, "a jaxrnn Layer", "Cell"),
    Bad("layer", None, TypeError, "a jaxrnn Layer", "NoneType"),
    Bad("layer", jaxrnn.recurrent(LSTM, reverse=True), ValueError, "one with a step", "needs the future"),
]
NO_LOGITS = [
    Bad("logits", LABELS, TypeError, "a floating dtype", "int32"),
    Bad("logits", np.ones((), np.float32), ValueError, "[..., vocabulary]", "()"),
    Bad("logits", "text", TypeError, "an array", "str"),
]
CHOICE = [
    *choices("temperature", "at least 0", -1.0, error=ValueError),
    *choices("temperature", "a number", "hot", None),
    Bad("temperature", np.ones(2, np.float32), ValueError, "a scalar", "(2,)"),
    *choices("top_k", "at least 1", 0, -2, error=ValueError),
    *choices("top_k", "an int", 1.5, "3", True),
    *choices("top_p", "0 < top_p <= 1", 0.0, 1.5, -0.1, error=ValueError),
    *choices("top_p", "a number", "most", True),
    Bad("top_p", np.ones(2, np.float32), ValueError, "a scalar", "(2,)"),
]
DECODING = {
    "greedy": Function(decoding.greedy, {"logits": LOGITS}, NO_LOGITS),
    "sample": Function(decoding.sample, {"key": KEY, "logits": LOGITS}, [*NO_LOGITS, *CHOICE], unchecked=("key",)),
    "generate": Function(
        decoding.generate,
        {"layer": LAYER, "params": params_of(LAYER), "prompt": LABELS, "length": 3, "key": KEY},
        [
            *A_LAYER,
            Bad("params", None, TypeError, "one entry per layer", "NoneType"),
            Bad("params", params_of(LAYER)[:2], ValueError, "3 entries", "2"),
            Bad("prompt", PREDICTIONS, TypeError, "integer tokens", "float32"),
            Bad("prompt", LABELS[:0], ValueError, "at least one step", "(0, 2)"),
            Bad("prompt", np.array(3), ValueError, "at least one step", "()"),
            Bad("prompt", "text", TypeError, "an array", "str"),
            *choices("length", "an int", 3.0, "3", None, True),
            *choices("length", "at least 0", -1, error=ValueError),
            Bad("key", None, ValueError, "a jax.random.key", "None"),
            *CHOICE,
            Bad("carry", (HS,), ValueError, "3 entries", "1"),
        ],
    ),
    "stream": Function(decoding.stream, {"layer": LAYER}, A_LAYER),
}

OPTIMIZER = training.gradient_descent(0.1)
STATE = training.train_state(jnp.ones(()), OPTIMIZER, KEY)
NO_OPTIMIZER = [
    Bad("optimizer", "adam", TypeError, "an optax GradientTransformation", "str"),
    Bad("optimizer", None, TypeError, "an optax GradientTransformation", "NoneType"),
]
DEVICES = [
    *choices("devices", "a sequence of jax.Device", 2, "cpu", [0, 1], jax.devices()[0]),
    *choices("devices", "one or more, each once", [], jax.devices()[:1] * 2, error=ValueError),
]
BATCH_AXIS = [
    *choices("batch_axis", "ints or None", 1.0, "0", True),
    *choices("batch_axis", "an axis from 0", -1, error=ValueError),
]


def loss_fn(params, carry, batch, key):
    return params * batch, (carry, {})


STEP = training.train_step(loss_fn, OPTIMIZER)


def update(result):
    """Run one step with a loss function that returns ``result``."""
    return training.train_step(lambda *args: result, OPTIMIZER)(training.train_state(HS, OPTIMIZER, KEY), 0.0)


WINDOWS = [
    *wrong.sizes("k1"),
    *(row for row in wrong.sizes("k2") if row.value is not None),
    *choices("k2", "at least k1 = 3", 2, error=ValueError),
]
TRAINING = {
    "train_state": Function(
        training.train_state,
        {"params": HS, "optimizer": OPTIMIZER, "key": KEY},
        [
            *NO_OPTIMIZER,
            Bad("key", 0, TypeError, "a jax.random.key", "int"),
            Bad("key", np.ones(2, np.float32), TypeError, "a jax.random.key", ""),
        ],
        unchecked=("params", "carry"),
    ),
    "train_step": Function(
        training.train_step,
        {"loss_fn": loss_fn, "optimizer": OPTIMIZER},
        [*choices("loss_fn", "a function", None, "mean_squared_error"), *NO_OPTIMIZER, *DEVICES, *BATCH_AXIS],
    ),
    "data_parallel": Function(
        training.data_parallel,
        {"loss_fn": lambda params, batch: params * batch.sum()},
        [*choices("loss_fn", "a function", None, "mean_squared_error"), *DEVICES, *BATCH_AXIS],
    ),
    "a batch for two devices": Function(
        lambda batch, axis=0: training.data_parallel(lambda w, xs: w * xs.sum(), batch_axis=axis)(jnp.ones(()), batch),
        {"batch": jnp.ones((4, 3))},
        [
            Bad("batch", jnp.ones((3, 4)), ValueError, "rows that 2 devices can share evenly", "3 along axis 0"),
            Bad("batch", jnp.ones(()), ValueError, "a batch axis 0", "()"),
            Bad("axis", 1, ValueError, "rows that 2 devices can share evenly", "3 along axis 1", "batch"),
            Bad("axis", 2, ValueError, "a batch axis 2", "(4, 3)", "batch"),
            Bad("axis", (0, 0), ValueError, "a prefix of the batch", "(0, 0)", "batch_axis"),
        ],
    ),
    "the result of a loss_fn": Function(
        update,
        {"result": (jnp.ones(()), ((), {}))},
        [
            Bad("result", jnp.ones(()), TypeError, "(loss, (carry, metrics))", "", "loss_fn"),
            Bad("result", (jnp.ones(()), ()), TypeError, "(loss, (carry, metrics))", "tuple", "loss_fn"),
            Bad("result", (jnp.ones(2), ((), {})), ValueError, "a scalar loss", "(2,)", "loss_fn"),
            Bad("result", (jnp.ones((), int), ((), {})), TypeError, "a floating loss", "int32", "loss_fn"),
            Bad("result", (jnp.ones(()), (HS, {})), TypeError, "() as the carry it was given", "array", "loss_fn"),
            Bad("result", (jnp.ones(()), ((), {"a": HS})), ValueError, "scalar metrics", "(2, 4)", "loss_fn"),
        ],
    ),
    "windows": Function(
        training.windows,
        {"xs": XS, "targets": XS, "k1": 3, "mask": FLAGS, "resets": FLAGS},
        [
            Bad("xs", np.ones((), np.float32), ValueError, "[time, *batch", "()"),
            Bad("xs", XS[:0], ValueError, "at least one step", "(0, 2, 3)"),
            Bad("targets", XS[:4], ValueError, "of xs", ""),
            *WINDOWS,
            *(row for row in flags("mask")[:6]),
            *(row for row in flags("resets")[:6]),
        ],
        unchecked=("batch_axes",),
        traces=False,
    ),
    "truncated_loss": Function(
        training.truncated_loss,
        {"layer": LAYER, "loss": losses.mean_squared_error, "k1": 3},
        [*A_LAYER[:2], *choices("loss", "a function", None, "mse"), *WINDOWS],
    ),
    "stream_windows": Function(
        training.stream_windows,
        {"documents": [np.arange(5)], "streams": 2, "k1": 3},
        [
            Bad("documents", None, TypeError, "an iterable of documents", "NoneType"),
            *wrong.sizes("streams"),
            *WINDOWS,
        ],
        traces=False,
    ),
    "stream_batches": Function(
        training.stream_batches,
        {"documents": lambda index: [np.arange(5)], "streams": 2, "k1": 3},
        [*choices("documents", "a function", None, [np.arange(5)]), *wrong.sizes("streams"), *WINDOWS],
    ),
    "a batch of stream_batches": Function(
        training.stream_batches(lambda index: [np.arange(5)], 2, 3),
        {"n": 0},
        [*choices("n", "at least 0", -1, error=ValueError), *choices("n", "an int", 1.0, None, "0")],
    ),
    "fit": Function(
        lambda **arguments: training.fit(**arguments, progress=False),
        {"state": STATE, "step": STEP, "batches": lambda n: 1.0, "steps": 2},
        [
            Bad("state", None, TypeError, "a TrainState", "NoneType"),
            Bad("state", tuple(STATE), TypeError, "a TrainState", "tuple"),
            *wrong.sizes("steps", "log_every"),
            *(row for row in wrong.sizes("evaluate_every", "checkpoint_every") if row.value is not None),
            Bad("evaluate_every", 3, ValueError, "expected one, since evaluate_every is 3", "None", "evaluate"),
            Bad(
                "stop_when",
                lambda record: True,
                ValueError,
                "expected one, since stop_when is asked",
                "None",
                "evaluate",
            ),
            Bad("checkpoint_every", 3, ValueError, "since checkpoint_every is 3", "None", "checkpoint_path"),
            *choices("time_limit", "more than 0 seconds", 0, -1.5, error=ValueError),
            *choices("time_limit", "a number", "1h", True),
        ],
        unchecked=("arguments",),
        traces=False,
    ),
}
TABLE = {**LOSSES, **DECODING, **TRAINING}


@pytest.mark.parametrize("function", wrong.cases(TABLE))
def test_wrong_arguments(function):
    wrong.hold(function)


def test_every_argument_is_wrong_once():
    assert wrong.untested_arguments(TABLE) == []


@pytest.mark.parametrize("labels", [[[0, 3]], [[-1, 0]]], ids=str)
def test_known_labels_are_checked(labels):
    with pytest.raises(ValueError, match=r"\Atargets: expected labels from 0 to 2, got (0 to 3|-1 to 0)"):
        losses.softmax_cross_entropy(np.zeros((1, 2, K), np.float32), np.array(labels))
    assert jnp.isnan(jax.jit(losses.softmax_cross_entropy)(np.zeros((1, 2, K), np.float32), np.array(labels)))
