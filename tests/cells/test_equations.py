"""Each cell's equations, written again in NumPy with one matrix per gate, against `unroll`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from tests.registry import D, H, noisy_params, normal

T = 4
pytestmark = pytest.mark.usefixtures("float64")


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def gates(array, names):
    """Return the columns of each gate by name."""
    return dict(zip(names, np.split(np.asarray(array), len(names), axis=-1), strict=True))


def vanilla(params, xs, h, phi):
    W, U, b = map(np.asarray, params)
    for x in xs:
        h = phi(W.T @ x + U.T @ h + b)
        yield h, h


def lstm(params, xs, carry):
    W, U, b = (gates(array, "ifgo") for array in params)
    h, c = carry
    for x in xs:
        a = {gate: W[gate].T @ x + U[gate].T @ h + b[gate] for gate in "ifgo"}
        c = sigmoid(a["f"]) * c + sigmoid(a["i"]) * np.tanh(a["g"])
        h = sigmoid(a["o"]) * np.tanh(c)
        yield (h, c), h


def gru(params, xs, h, reset_after, sigma=sigmoid, phi=np.tanh):
    W, U, b = (gates(array, "run") for array in params[:3])
    for x in xs:
        r = sigma(W["r"].T @ x + b["r"] + U["r"].T @ h)
        u = sigma(W["u"].T @ x + b["u"] + U["u"].T @ h)
        if reset_after:
            n = phi(W["n"].T @ x + b["n"] + r * (U["n"].T @ h + np.asarray(params.candidate_bias)))
        else:
            n = phi(W["n"].T @ x + b["n"] + U["n"].T @ (r * h))
        h = (1 - u) * n + u * h
        yield h, h


CASES = {
    "tanh": (jaxrnn.vanilla, {}, functools.partial(vanilla, phi=np.tanh)),
    "relu": (jaxrnn.vanilla, {"activation": "relu"}, functools.partial(vanilla, phi=lambda a: np.maximum(a, 0))),
    "sigmoid": (jaxrnn.vanilla, {"activation": "sigmoid"}, functools.partial(vanilla, phi=sigmoid)),
    "identity": (jaxrnn.vanilla, {"activation": "identity"}, functools.partial(vanilla, phi=lambda a: a)),
    "pair": (jaxrnn.vanilla, {"activation": (jnp.sin, jnp.cos)}, functools.partial(vanilla, phi=np.sin)),
    "callable": (jaxrnn.vanilla, {"activation": jnp.arctan}, functools.partial(vanilla, phi=np.arctan)),
    "lstm": (jaxrnn.lstm, {}, lstm),
    "gru-after": (jaxrnn.gru, {}, functools.partial(gru, reset_after=True)),
    "gru-before": (jaxrnn.gru, {"reset_after": False}, functools.partial(gru, reset_after=False)),
    "gru-activations": (
        jaxrnn.gru,
        {"activations": ((jnp.sin, jnp.cos), jnp.arctan)},
        functools.partial(gru, reset_after=True, sigma=np.sin, phi=np.arctan),
    ),
    "gru-before-activations": (
        jaxrnn.gru,
        {"reset_after": False, "activations": ("tanh", "sigmoid")},
        functools.partial(gru, reset_after=False, sigma=np.tanh, phi=sigmoid),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_values_are_those_of_the_equations(case, key, rng):
    hold(CASES[case], key, rng)


def hold(case, key, rng):
    """Fail unless the cell's outputs and last carry are those that ``equations(params, xs, carry)`` yield."""
    factory, options, equations = case
    cell = factory(D, H, dtype=jnp.float64, **options)
    params = noisy_params(cell, key)
    xs = rng.standard_normal((T, D))
    start = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape), cell.initial_carry(params))
    carry, ys = jax.jit(functools.partial(jaxrnn.unroll, cell))(params, xs, start)
    carries, expected = zip(*equations(params, xs, start), strict=True)
    np.testing.assert_allclose(ys, np.stack(expected), rtol=0, atol=1e-13)
    for leaf, want in zip(jax.tree.leaves(carry), jax.tree.leaves(carries[-1]), strict=True):
        np.testing.assert_allclose(leaf, want, rtol=0, atol=1e-13)


def test_the_two_gru_differ(key):
    """They are two networks: with the same weights, reset before and after the product give other values."""
    after, before = jaxrnn.gru(D, H, dtype=jnp.float64), jaxrnn.gru(D, H, reset_after=False, dtype=jnp.float64)
    params = noisy_params(after, key)._replace(candidate_bias=np.zeros(H))
    xs = normal(key, (T, D))

    @jax.jit
    def both(params, xs):
        without = params._replace(candidate_bias=None)
        return jaxrnn.unroll(after, params, xs)[1], jaxrnn.unroll(before, without, xs)[1]

    ys, others = jax.device_get(both(params, xs))
    np.testing.assert_allclose(ys[0], others[0], rtol=0, atol=1e-13)  # from zero there is nothing to reset
    assert np.abs(ys - others).max() > 1e-3


def test_the_update_of_the_gru_asks_for_no_slope(key):
    """So JAX can differentiate it where φ has a derivative and φ' has none, as within `variational_dropout`."""

    def no_slope(a):
        raise AssertionError("asked for the slope")

    cell = jaxrnn.gru(D, H, activations=("sigmoid", (jnp.tanh, no_slope)), dtype=jnp.float64)
    assert cell.split is not None
    recur, update = cell.split
    params, xs = cell.init(key), normal(key, (1, 2, D))
    h, z = cell.initial_carry(params, (2,)), jax.tree.map(lambda z: z[0], cell.inputs(params, xs))
    assert np.isfinite(jax.grad(lambda h: update(h, z, recur(params, h))[0].sum())(h)).all()
