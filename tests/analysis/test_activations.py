"""Gates and states against the equations and `unroll`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.analysis import activations
from tests.registry import noisy_params


@pytest.mark.parametrize("reverse", [False, True])
def test_gates_of_an_lstm_make_its_states(key, reverse):
    cell = jaxrnn.lstm(3, 4)
    params, xs = cell.init(key), jax.random.normal(key, (6, 2, 3))
    lengths = jnp.array([6, 4])
    at = {name: np.asarray(x) for name, x in activations(cell, params, xs, lengths=lengths, reverse=reverse).items()}
    assert list(at) == ["i", "f", "g", "o", "c", "h"]
    np.testing.assert_allclose(
        at["h"], jaxrnn.unroll(cell, params, xs, lengths=lengths, reverse=reverse)[1], rtol=1e-5, atol=1e-6
    )
    c = at["c"][::-1] if reverse else at["c"]
    before = np.concatenate([np.zeros_like(c[:1]), c[:-1]])
    before = before[::-1] if reverse else before
    np.testing.assert_allclose(at["c"], at["f"] * before + at["i"] * at["g"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(at["h"], at["o"] * np.tanh(at["c"]), rtol=1e-5, atol=1e-6)
    assert all((x[4:, 1] == 0).all() for x in at.values())


@pytest.mark.parametrize(
    "options", [{"activations": ("sigmoid", jnp.sin)}, {"reset_after": False}], ids=["reset after", "reset before"]
)
def test_gates_of_a_gru_make_its_state(key, options):
    cell = jaxrnn.gru(3, 4, **options)
    params, xs = noisy_params(cell, key), jax.random.normal(key, (5, 3))
    at = activations(cell, params, xs)
    assert list(at) == ["r", "u", "n", "h"]
    before = jnp.concatenate([jnp.zeros_like(at["h"][:1]), at["h"][:-1]])
    np.testing.assert_allclose(at["h"], (1 - at["u"]) * at["n"] + at["u"] * before, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        at["h"], jax.jit(functools.partial(jaxrnn.unroll, cell))(params, xs)[1], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("cell", "names"),
    [(jaxrnn.vanilla(3, 4), ["h"]), (jaxrnn.gru(3, 4)._replace(spec=None), ["h"]), (jaxrnn.lem(3, 4), None)],
)
def test_other_cells_have_their_states(key, cell, names):
    params, xs = jax.jit(cell.init)(key), jax.random.normal(key, (5, 3))
    at = activations(cell, params, xs)
    _, ys = jax.jit(functools.partial(jaxrnn.unroll, cell))(params, xs)
    carry = cell.initial_carry(params)
    assert list(at) == (names or [name for name in carry._fields if name != "h"] + ["h"] * hasattr(carry, "h"))
    assert any(np.allclose(values, ys, atol=1e-6) for values in at.values())
