"""Keras's layers on JAX, masked and not, in either direction and in both, and ours."""

import functools
import os

os.environ["KERAS_BACKEND"] = "jax"  # read when Keras is imported

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.interop import from_keras, from_state, to_keras, to_state
from tests.interop.differential import B, D, H, T, assert_agree, assert_exact, drawn, lenient, noisy

keras = pytest.importorskip("keras")
layers = keras.layers
SPATIAL = (3, 2, 2)
MASK = np.array([[True, True, False, True], [False, True, True, False]])  # batch first
SQUASH = {"activation": "softsign", "recurrent_activation": "hard_sigmoid"}
ZEROS = {"kernel_initializer": "zeros", "recurrent_initializer": "zeros"}  # which are not compiled, and are replaced
EVERYTHING = {"return_sequences": True, "return_state": True, "dtype": "float64", **ZEROS}


def both(layer, merge):
    return layers.Bidirectional(layer(H, **EVERYTHING), merge_mode=merge, dtype="float64")


CASES = {
    "rnn": lambda: layers.SimpleRNN(H, activation="softplus", **EVERYTHING),
    "lstm backwards": lambda: layers.LSTM(H, go_backwards=True, **EVERYTHING),
    "lstm activations": lambda: layers.LSTM(H, **SQUASH, **EVERYTHING),
    "gru before": lambda: layers.GRU(H, reset_after=False, **SQUASH, **EVERYTHING),
    "gru no bias": lambda: layers.GRU(H, use_bias=False, **EVERYTHING),
    "both lstm": lambda: both(layers.LSTM, "ave"),
    "both gru": lambda: both(layers.GRU, "concat"),
    "conv 1d": lambda: layers.ConvLSTM1D(2, 2, dilation_rate=2, **EVERYTHING),
    "conv 2d": lambda: layers.ConvLSTM2D(2, (2, 1), strides=(2, 1), padding="same", **EVERYTHING),
    "conv 3d": lambda: layers.ConvLSTM3D(2, 2, **SQUASH, **EVERYTHING),
}
MASKED = {"rnn", "lstm backwards", "gru before", "both lstm"}


def built(layer, features):
    """Return a layer that has weights, and that says of masked steps what we do: nothing, zero."""
    layer.build((B, T, *features))
    for each in (layer, getattr(layer, "forward_layer", layer), getattr(layer, "backward_layer", layer)):
        each.zero_output_for_mask = True
    return layer


@pytest.mark.parametrize("case", CASES)
def test_agrees(case, rng, float64):
    features = (*SPATIAL[: int(case[5])], D) if "conv" in case else (D,)
    with lenient():
        theirs = built(CASES[case](), features)
    rest = [variable.value for variable in theirs.non_trainable_variables]
    mask = jnp.array(MASK) if case in MASKED else None

    def run(weights, xs, layer, params, carry):
        start = to_state("keras", layer, params, carry)
        arguments = {"initial_state": start, "mask": mask}
        (ys, *state), _ = theirs.stateless_call(weights, rest, xs.swapaxes(0, 1), **arguments)
        ys = ys.swapaxes(0, 1)
        return from_state("keras", layer, params, state), jnp.flip(ys, 0) if "backwards" in case else ys

    def convert(weights):
        with keras.StatelessScope(state_mapping=list(zip(theirs.trainable_variables, weights, strict=True))):
            return from_keras(theirs)

    weights = noisy(rng, [variable.value for variable in theirs.trainable_variables])
    # Keras rounds the tanh of what is in float64 to float32.
    assert_agree(rng, run, convert, weights, features, 1e-6, mask=None if mask is None else mask.T)


@pytest.mark.parametrize("merge", ["sum", "mul", None])
def test_merges(merge, rng):
    with lenient():
        theirs = layers.Bidirectional(layers.SimpleRNN(H, return_sequences=True, **ZEROS), merge_mode=merge)
        theirs.build((B, T, D))
        for variable in theirs.trainable_variables:
            variable.assign(rng.normal(size=variable.shape))
        xs = jnp.array(rng.normal(size=(B, T, D)), jnp.float32)
        expected = theirs(xs)
    layer, params = from_keras(theirs)
    _, ys = jax.jit(layer.apply)(params, xs.swapaxes(0, 1))
    for one, other in zip(jax.tree.leaves(ys), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one.swapaxes(0, 1), other, atol=1e-5)


def test_stacked_cells_become_layers():
    with lenient():
        cells = [layers.LSTMCell(H, **ZEROS), layers.GRUCell(2, **ZEROS)]
        theirs = layers.RNN(cells, go_backwards=True)
        theirs.build((B, T, D))
    layer, params = from_keras(theirs)
    expected = jaxrnn.serial(BACK(jaxrnn.lstm(D, H)), BACK(jaxrnn.gru(H, 2)))
    assert layer.spec == expected.spec
    assert [one.input.shape for one in params] == [(D, 4 * H), (H, 6)]


BACK = functools.partial(jaxrnn.recurrent, reverse=True)
LSTM = jaxrnn.lstm_variant(D, H, activations=("sigmoid", "relu", "relu"))
OURS = {
    "vanilla": BACK(jaxrnn.vanilla(D, H, activation="identity")),
    "gru before": jaxrnn.recurrent(jaxrnn.gru(D, H, reset_after=False, activations=("sigmoid", jnp.sin))),
    "stack": jaxrnn.serial(
        jaxrnn.bidirectional(jaxrnn.recurrent(LSTM), BACK(jaxrnn.lstm(D, H)), merge="mean"),
        jaxrnn.recurrent(jaxrnn.gru(H, 2)),
    ),
    "conv": jaxrnn.recurrent(
        jaxrnn.conv_lstm((*SPATIAL, D), 2, (2, 1, 2), padding="valid", strides=(1, 1, 1), dilation=(1, 2, 1))
    ),
}


@pytest.mark.parametrize("case", OURS)
def test_round_trip(case, rng):
    layer = OURS[case]
    params = drawn(rng, layer)
    with lenient():
        theirs = to_keras(layer, params)
    again, back = from_keras(theirs)
    assert_exact(back, params)
    assert again.spec == layer.spec


def test_low_precision_stays(rng):
    cell = jaxrnn.gru(D, H, dtype=jnp.bfloat16)
    layer = jaxrnn.bidirectional(jaxrnn.recurrent(cell), BACK(cell))
    params = drawn(rng, layer)
    with lenient():
        theirs = to_keras(layer, params)
        assert theirs(jnp.zeros((B, T, D), jnp.bfloat16)).dtype == jnp.bfloat16
    assert_exact(from_keras(theirs)[1], params)
