"""Haiku's cores, one on top of the other and in either direction, and ours."""

import jax
import jax.numpy as jnp
import pytest

import jaxrnn
from jaxrnn.interop import from_haiku, from_state, to_haiku, to_state
from tests.interop.differential import B, D, H, T, assert_agree, assert_exact, drawn, lenient, noisy
from tests.registry import assert_trees_close

hk = pytest.importorskip("haiku")
SPATIAL = (3, 2, 2)


def network(make, reverse=False):
    """Return (init, apply) of a function of xs and of the state."""

    def run(xs, state):
        core = make()
        if state is None:
            state = core.initial_state(B)
        return hk.dynamic_unroll(core, xs, state, reverse=reverse)

    return hk.without_apply_rng(hk.transform(run))


def convolutional(axes):
    return lambda: getattr(hk, f"Conv{axes}DLSTM")(SPATIAL[:axes], 2, 2)


CASES = {
    "vanilla": (lambda: hk.VanillaRNN(H), hk.VanillaRNN, False),
    "vanilla, one bias": (lambda: hk.VanillaRNN(H, double_bias=False), "VanillaRNN", True),
    "gru": (lambda: hk.GRU(H), hk.GRU, False),
    "lstm": (lambda: hk.LSTM(H, name="mine"), {"mine": hk.LSTM}, True),
    "deep": (lambda: hk.DeepRNN([hk.LSTM(H), hk.LSTM(2)]), {"lstm": "LSTM", "lstm_1": "LSTM"}, False),
    "conv 2d": (convolutional(2), hk.Conv2DLSTM, True),
}


@pytest.mark.parametrize("case", CASES)
def test_agrees(case, rng, float64):
    make, core, reverse = CASES[case]
    spatial = SPATIAL[: int(case[5])] if "conv" in case else ()
    init, apply = network(make, reverse)
    with lenient():
        weights = jax.eval_shape(init, jax.random.key(0), jnp.zeros((T, B, *spatial, D)), None)

    def theirs(weights, xs, layer, params, carry):
        state = to_state("haiku", layer, params, carry)
        ys, state = apply(weights, xs, tuple(state) if case == "deep" else state)
        return from_state("haiku", layer, params, state), ys

    convert = lambda weights: from_haiku(weights, core, spatial=spatial or None, reverse=reverse)
    assert_agree(rng, theirs, convert, noisy(rng, weights), (*spatial, D))


CELLS = {
    "vanilla": jaxrnn.vanilla(D, H, activation="relu"),
    "lstm": jaxrnn.lstm(D, H),
    "gru": jaxrnn.gru(D, H, reset_after=False),
    "conv_lstm": jaxrnn.conv_lstm((*SPATIAL[:2], D), H, 2),
}
CLASSES = {"vanilla": "VanillaRNN", "lstm": "LSTM", "gru": "GRU", "conv_lstm": "Conv2DLSTM"}


@pytest.mark.parametrize("kind", CELLS)
def test_round_trip(kind, rng):
    layer = jaxrnn.recurrent(CELLS[kind])
    params = drawn(rng, layer)
    _, back = from_haiku(to_haiku(layer, params), getattr(hk, CLASSES[kind]), spatial=SPATIAL[:2])
    if "lstm" in kind:  # 1 is taken from the forget bias, and added again
        assert_trees_close(back, params, 1e-6)
    else:
        assert_exact(back, params)


@pytest.mark.parametrize(("axes", "core"), [(1, hk.Conv1DLSTM), (3, hk.Conv3DLSTM)])
def test_cores_of_other_images_have_other_names(axes, core):
    spatial = SPATIAL[:axes]
    with lenient():
        init, _ = network(convolutional(axes))
        weights = jax.eval_shape(init, jax.random.key(0), jnp.zeros((T, B, *spatial, D)), None)
    params = jax.eval_shape(lambda weights: from_haiku(weights, core, spatial=spatial)[1], weights)
    assert params.input.shape == (*[2] * axes, D, 8)


def test_a_stack_is_named_as_haiku_names_it(rng):
    layer = jaxrnn.stacked(jaxrnn.lstm, D, (H, 2))
    theirs = to_haiku(layer, drawn(rng, layer))
    with lenient():
        init, _ = network(CASES["deep"][0])
        expected = jax.eval_shape(init, jax.random.key(0), jnp.zeros((T, B, D)), None)
    assert jax.tree.map(jnp.shape, theirs) == jax.tree.map(jnp.shape, expected)
