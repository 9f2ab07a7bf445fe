"""Flax's cells and layers, of linen and of nnx, and ours."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.interop import from_flax, from_state, to_flax, to_nnx, to_state
from tests.interop.differential import B, D, H, T, assert_agree, assert_exact, drawn, lenient, noisy
from tests.registry import assert_trees_close

linen = pytest.importorskip("flax.linen")
nnx = pytest.importorskip("flax.nnx")
LENGTHS = np.array([T, 2])
SPATIAL = (3, 2)
SQUASH = {"gate_fn": jax.nn.hard_sigmoid, "activation_fn": jax.nn.softplus}


def rnn(cell, **options):
    return linen.RNN(cell, time_major=True, return_carry=True, keep_order=True, **options)


def linen_both(merge, cells):
    return linen.Bidirectional(*map(linen.RNN, cells), time_major=True, return_carry=True, **merge)


LINEN = {
    "simple": lambda: rnn(linen.SimpleCell(H, residual=True, activation_fn=jnp.sin), reverse=True),
    "lstm": lambda: rnn(linen.LSTMCell(H)),
    "optimized lstm": lambda: rnn(linen.OptimizedLSTMCell(H, **SQUASH)),
    "mgu": lambda: rnn(linen.MGUCell(H)),
    "mgu without reset": lambda: rnn(linen.MGUCell(H, reset_gate=False)),
    "conv": lambda: rnn(linen.ConvLSTMCell(2, (2, 3))),
    "both": lambda: linen_both({"merge_fn": lambda a, b: a * b}, [linen.LSTMCell(H), linen.GRUCell(H)]),
}


def our_results(layer, params, result):
    """Return Flax's (state, ys) as ours: padding zero."""
    state, ys = result
    valid = jnp.arange(T)[:, None] < LENGTHS
    return from_state("flax", layer, params, state), jnp.where(valid.reshape(T, B, *[1] * (ys.ndim - 2)), ys, 0.0)


@pytest.mark.parametrize("case", LINEN)
def test_linen_agrees(case, rng, float64):
    module = LINEN[case]()
    features = (*SPATIAL, D) if "conv" in case else (D,)
    with lenient():
        shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((T, B, *features), jnp.float32))
    variables = noisy(rng, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes))

    def theirs(variables, xs, layer, params, carry):
        start = to_state("flax", layer, params, carry)
        return our_results(layer, params, module.apply(variables, xs, initial_carry=start, seq_lengths=LENGTHS))

    convert = lambda variables: from_flax(module, variables, spatial=SPATIAL if "conv" in case else None)
    assert_agree(rng, theirs, convert, variables, features, lengths=LENGTHS)


def nnx_rnn(cell, **options):
    return nnx.RNN(cell, time_major=True, return_carry=True, keep_order=True, **options)


def nnx_cell(name, **options):
    cell = getattr(nnx, name)
    return cell(D, H, param_dtype=jnp.float64, dtype=jnp.float64, rngs=nnx.Rngs(0), **options)


NNX = {
    "simple": lambda: nnx_rnn(nnx_cell("SimpleCell", residual=True)),
    "lstm": lambda: nnx_rnn(nnx_cell("LSTMCell"), reverse=True),
    "gru": lambda: nnx_rnn(nnx_cell("GRUCell", **SQUASH)),
    "both": lambda: nnx.Bidirectional(
        *(nnx.RNN(nnx_cell("OptimizedLSTMCell")) for _ in range(2)), time_major=True, return_carry=True
    ),
}


@pytest.mark.parametrize("case", NNX)
def test_nnx_agrees(case, rng, float64):
    graph, state, rest = nnx.split(NNX[case](), nnx.Param, ...)
    merged = lambda state: nnx.merge(graph, state, rest, copy=True)

    def theirs(state, xs, layer, params, carry):
        start = to_state("flax", layer, params, carry)
        return our_results(layer, params, merged(state)(xs, initial_carry=start, seq_lengths=LENGTHS))

    assert_agree(rng, theirs, lambda state: from_flax(merged(state)), noisy(rng, state), lengths=LENGTHS)


def layers():
    """Return layers that both have, with the activations that Flax takes, in one direction, in both, and stacked."""
    back = lambda cell: jaxrnn.recurrent(cell, reverse=True)
    lstm = jaxrnn.lstm_variant(D, H, activations=("sigmoid", "relu", "relu"))
    gru = jaxrnn.gru(2 * H, 2, activations=("sigmoid", "identity"))
    both = jaxrnn.bidirectional(jaxrnn.recurrent(lstm), back(jaxrnn.lstm(D, H)))
    summed = jaxrnn.bidirectional(jaxrnn.recurrent(gru), back(gru), merge="sum")
    return {"vanilla": back(jaxrnn.vanilla(D, H)), "stack": jaxrnn.serial(both, summed)}


OF_LINEN = {
    **layers(),
    "ugrnn": jaxrnn.recurrent(jaxrnn.ugrnn(D, H, activation=jnp.sin)),
    "conv": jaxrnn.recurrent(jaxrnn.conv_lstm((*SPATIAL, D), H, (2, 1))),
}


def without_candidate_bias(params):
    is_gru = lambda leaf: isinstance(leaf, jaxrnn.GRUParams)
    zero = lambda one: one._replace(candidate_bias=jnp.zeros_like(one.candidate_bias)) if is_gru(one) else one
    return jax.tree.map(zero, params, is_leaf=is_gru)


@pytest.mark.parametrize("case", OF_LINEN)
def test_round_trip_to_linen(case, rng):
    layer = OF_LINEN[case]
    params = drawn(rng, layer)
    module, variables = to_flax(layer, params)
    again, back = from_flax(module, variables, spatial=SPATIAL)
    if case == "conv":  # 1 is taken from the forget bias, and added again
        assert_trees_close(back, params, 1e-6)
    else:
        assert_exact(back, params)
    assert again.spec == layer.spec
    with lenient():
        shapes = jax.eval_shape(
            module.init, jax.random.key(0), jnp.zeros((B, T, *(SPATIAL if case == "conv" else ()), D))
        )
    assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, variables)


@pytest.mark.parametrize("case", layers())
def test_round_trip_to_nnx(case, rng):
    layer = layers()[case]
    params = without_candidate_bias(drawn(rng, layer))
    again, back = from_flax(to_nnx(layer, params))
    assert_exact(back, params)
    assert again.spec == layer.spec
