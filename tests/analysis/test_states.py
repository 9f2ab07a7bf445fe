"""States and gates: each against what the equations of the cell say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.analysis import carries, gate_activations
from tests.registry import noisy_params

T, B, D, H = 5, (2,), 3, 4


def ran(cell, key):
    """Parameters, inputs, all carries, and the ones before every step."""
    keys = jax.random.split(key, 3)
    params, xs = noisy_params(cell, keys[0]), jax.random.normal(keys[1], (T, *B, D))
    first = jax.tree.map(lambda x: jax.random.normal(keys[2], x.shape, x.dtype), cell.initial_carry(params, B))
    after = carries(cell, params, xs, first)
    before = jax.tree.map(lambda x, xs: jnp.concatenate([x[None], xs[:-1]]), first, after)
    return params, xs, first, before, after


def test_the_last_carry_is_that_of_unroll(key):
    cell = jaxrnn.lstm(D, H)
    params, xs, first, _, after = ran(cell, key)
    last, ys = jaxrnn.unroll(cell, params, xs, first)
    np.testing.assert_allclose(after.h, ys, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(after.c[-1], last.c, rtol=1e-6, atol=1e-6)


def test_the_gates_of_an_lstm_make_its_next_state(key):
    cell = jaxrnn.lstm(D, H)
    params, xs, first, before, after = ran(cell, key)
    gates = gate_activations(cell, params, xs, first)
    c = gates["f"] * before.c + gates["i"] * gates["g"]
    np.testing.assert_allclose(c, after.c, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(gates["o"] * jnp.tanh(c), after.h, rtol=1e-5, atol=1e-5)
    assert all(gates[name].shape == (T, *B, H) for name in "ifgo")


@pytest.mark.parametrize("reset_after", [True, False])
def test_the_gates_of_a_gru_make_its_next_state(reset_after, key):
    cell = jaxrnn.gru(D, H, reset_after=reset_after)
    params, xs, first, before, after = ran(cell, key)
    gates = gate_activations(cell, params, xs, first)
    made = (1 - gates["u"]) * gates["n"] + gates["u"] * before
    np.testing.assert_allclose(made, after, rtol=1e-5, atol=1e-5)
    assert float(gates["r"].std()) > 0.01


@pytest.mark.parametrize(
    ("cell", "error", "message"),
    [
        (jaxrnn.vanilla(D, H), TypeError, "one of jaxrnn.lstm or jaxrnn.gru, got vanilla"),
        (jaxrnn.lstm(D, H)._replace(spec=None), TypeError, "got a cell of your own"),
        (None, TypeError, "cell: expected"),
        (jaxrnn.gru(D, H, activations=("sigmoid", "relu")), ValueError, "activations sigmoid and tanh"),
    ],
)
def test_gates_of_other_cells_are_refused(cell, error, message):
    with pytest.raises(error, match=message):
        gate_activations(cell, None, jnp.ones((T, D)))
