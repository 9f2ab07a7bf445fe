"""The equations of the papers behind the less common cells, in NumPy with one matrix per gate, against `unroll`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from tests.cells.test_equations import gates, hold, sigmoid
from tests.registry import D, H, normal_like

pytestmark = pytest.mark.usefixtures("float64")


def relu(a):
    return np.maximum(a, 0)


def pre_activations(params, names, x, h):
    W, U, b = (gates(array, names) for array in params)
    return {gate: W[gate].T @ x + U[gate].T @ h + b[gate] for gate in names}


def minimal_gated(params, xs, h):
    W, U, b = (gates(array, "fn") for array in params)
    for x in xs:
        f = sigmoid(W["f"].T @ x + U["f"].T @ h + b["f"])
        n = np.tanh(W["n"].T @ x + U["n"].T @ (f * h) + b["n"])
        h = (1 - f) * h + f * n
        yield h, h


def residual_vanilla(params, xs, h, scale, phi):
    W, U, b = map(np.asarray, params)
    for x in xs:
        h = h + scale * phi(W.T @ x + U.T @ h + b)
        yield h, h


def normalized_vanilla(params, xs, h, phi, epsilon):
    W, U, gain, b = map(np.asarray, params)
    for x in xs:
        a = W.T @ x + U.T @ h
        h = phi(gain * (a - a.mean()) / np.sqrt(a.var() + epsilon) + b)
        yield h, h


def irnn(params, xs, h):
    W, U, b = map(np.asarray, params)
    for x in xs:
        h = relu(W.T @ x + U.T @ h + b)
        yield h, h


def indrnn(params, xs, h, phi):
    W, u, b = map(np.asarray, params)
    for x in xs:
        h = phi(W.T @ x + u * h + b)
        yield h, h


def ugrnn(params, xs, h):
    for x in xs:
        a = pre_activations(params, "cg", x, h)
        g = sigmoid(a["g"])
        h = g * h + (1 - g) * np.tanh(a["c"])
        yield h, h


def janet(params, xs, h, beta):
    for x in xs:
        a = pre_activations(params, "fc", x, h)
        h = sigmoid(a["f"]) * h + (1 - sigmoid(a["f"] - beta)) * np.tanh(a["c"])
        yield h, h


def intersection(params, xs, h):
    columns = np.split(np.arange(2 * H + 2 * D), [H, 2 * H, 2 * H + D])
    for x in xs:
        state, keep, out, through = (
            np.asarray(params.input)[:, c].T @ x + np.asarray(params.recurrent)[:, c].T @ h + np.asarray(params.bias)[c]
            for c in columns
        )
        y = sigmoid(through) * x + (1 - sigmoid(through)) * relu(out)
        h = sigmoid(keep) * h + (1 - sigmoid(keep)) * np.tanh(state)
        yield h, y


def cornn(params, xs, carry, dt, gamma, epsilon, implicit):
    W, U, b = map(np.asarray, params)
    y, z = carry
    for x in xs:
        drive = np.tanh(W.T @ x + U[:H].T @ y + U[H:].T @ z + b)
        if implicit:  # z_n = z_{n-1} + Δt (drive - γ y_{n-1} - ε z_n), solved for z_n
            z = np.linalg.solve((1 + dt * epsilon) * np.eye(H), z + dt * (drive - gamma * y))
        else:
            z = z + dt * drive - dt * gamma * y - dt * epsilon * z
        y = y + dt * z
        yield (y, z), y


def lem(params, xs, carry, dt):
    W, U, b = (gates(array, "12nm") for array in params)
    y, z = carry
    for x in xs:
        a = {gate: W[gate].T @ x + U[gate].T @ y + b[gate] for gate in "12n"}
        step, slow = dt * sigmoid(a["1"]), dt * sigmoid(a["2"])
        z = (1 - step) * z + step * np.tanh(a["n"])
        y = (1 - slow) * y + slow * np.tanh(W["m"].T @ x + U["m"].T @ z + b["m"])
        yield (y, z), y


def leaky(params, us, x, alpha, phi, recurrent):
    """``recurrent(params)[i, j]``: from unit i to unit j."""
    for u in us:
        total = np.asarray(params.input).T @ u + np.asarray(params.bias) + recurrent(params).T @ phi(x)
        x = x + alpha * (-x + total)
        yield x, phi(x)


MASK = np.array([[False, True, True], [True, False, True], [True, True, False]])


def by_dale(params):
    magnitude = np.abs(np.asarray(params.recurrent))
    return np.array([[sign * magnitude[i, j] * MASK[i, j] for j in range(H)] for i, sign in enumerate((1, 1, -1))])


def of_low_rank(params):
    m, n = np.asarray(params.left), np.asarray(params.right)
    return sum(np.outer(n[:, r], m[:, r]) for r in range(2)) / H


OSCILLATOR = {"dt": 0.3, "gamma": 1.7, "epsilon": 2.1}
CASES = {
    "minimal_gated": (jaxrnn.minimal_gated, {}, minimal_gated),
    "residual_vanilla": (
        jaxrnn.residual_vanilla,
        {"scale": 0.3, "activation": "sigmoid"},
        functools.partial(residual_vanilla, scale=0.3, phi=sigmoid),
    ),
    "normalized_vanilla": (
        jaxrnn.normalized_vanilla,
        {"epsilon": 0.01, "activation": "relu"},
        functools.partial(normalized_vanilla, phi=relu, epsilon=0.01),
    ),
    "irnn": (jaxrnn.irnn, {}, irnn),
    "indrnn": (jaxrnn.indrnn, {"activation": (jnp.sin, jnp.cos)}, functools.partial(indrnn, phi=np.sin)),
    "ugrnn": (jaxrnn.ugrnn, {}, ugrnn),
    "janet": (jaxrnn.janet, {"beta": 0.7}, functools.partial(janet, beta=0.7)),
    "intersection": (jaxrnn.intersection, {}, intersection),
    "cornn": (jaxrnn.cornn, OSCILLATOR, functools.partial(cornn, **OSCILLATOR, implicit=False)),
    "cornn, implicit": (
        jaxrnn.cornn,
        {**OSCILLATOR, "implicit": True},
        functools.partial(cornn, **OSCILLATOR, implicit=True),
    ),
    "lem": (jaxrnn.lem, {"dt": 0.7}, functools.partial(lem, dt=0.7)),
    "leaky": (
        jaxrnn.leaky,
        {"alpha": 0.3},
        functools.partial(leaky, alpha=0.3, phi=np.tanh, recurrent=lambda params: np.asarray(params.recurrent)),
    ),
    "leaky, by Dale's law": (
        jaxrnn.leaky,
        {"dt": 1, "tau": 4, "activation": "relu", "dale": 0.6, "mask": MASK},
        functools.partial(leaky, alpha=0.25, phi=relu, recurrent=by_dale),
    ),
    "leaky, of low rank": (
        jaxrnn.leaky,
        {"alpha": 0.3, "rank": 2},
        functools.partial(leaky, alpha=0.3, phi=np.tanh, recurrent=of_low_rank),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_values_are_those_of_the_equations(case, key, rng):
    hold(CASES[case], key, rng)


def gradient_of_the_sum(cell, key):
    """Return the gradient of the sum of four outputs with respect to parameters that are drawn."""
    params = normal_like(key, jax.eval_shape(cell.init, key))
    return jax.jit(jax.grad(lambda p: jaxrnn.unroll(cell, p, np.ones((4, D)))[1].sum()))(params)


# What the cells of `leaky` start from, and their noise


def test_inhibition_starts_as_strong_as_excitation(key):
    signs = np.array([1, -1, 1, 1] * 100)
    cell = jaxrnn.leaky(2, 400, alpha=0.1, dale=signs, recurrent_init=jaxrnn.initializers.fan_in())
    recurrent = np.asarray(cell.init(key).recurrent)
    strength = np.abs(recurrent).sum(axis=1)
    np.testing.assert_allclose(strength[signs < 0].sum() / strength[signs > 0].sum(), 1, atol=0.05)
    np.testing.assert_allclose(np.mean(np.square(recurrent)), 1 / 400, rtol=0.05)


@pytest.mark.parametrize("dale", [0.0, 1.0])
def test_units_of_one_kind_start_as_drawn(dale, key):
    ours, plain = (jaxrnn.leaky(2, 5, alpha=0.1, dale=each).init(key) for each in (dale, None))
    np.testing.assert_array_equal(ours.recurrent, plain.recurrent)


def test_a_connection_that_is_not_there_has_no_gradient(key):
    cell = jaxrnn.leaky(D, H, alpha=0.5, mask=MASK, dtype=jnp.float64)
    gradient = gradient_of_the_sum(cell, key)
    np.testing.assert_array_equal(gradient.recurrent != 0, MASK)


def test_noise_has_the_variance_of_the_equation(key):
    """A unit on its own is an autoregression of order 1, whose variance is 2α σ² / (1 - (1 - α)²)."""
    alpha, sigma, alone = 0.3, 0.7, np.zeros((80, 80), bool)
    cell = jaxrnn.leaky(1, 80, alpha=alpha, noise=sigma, mask=alone, recurrent_init=jaxrnn.initializers.fan_in())
    xs = np.zeros((30, 100, 1), np.float32)

    @jax.jit
    def run(key):
        params = cell.init(key)
        x, _ = jaxrnn.unroll(cell, params, xs, key=key)
        return x, cell.inputs(params, xs, key), jaxrnn.unroll(cell, params, xs)[0]

    x, inputs, quiet = jax.device_get(run(key))
    np.testing.assert_allclose(np.var(x), 2 * alpha * sigma**2 / (1 - (1 - alpha) ** 2), rtol=0.08)
    correlations = np.corrcoef(inputs.reshape(30, -1))  # between steps
    np.testing.assert_allclose(correlations, np.eye(30), atol=0.06)
    assert not quiet.any()


def test_dt_over_tau_is_alpha(key):
    one, other = jaxrnn.leaky(D, H, alpha=0.2), jaxrnn.leaky(D, H, dt=20, tau=100)
    params, xs = normal_like(key, jax.eval_shape(one.init, key)), np.ones((3, D), np.float32)
    both = jax.jit(lambda params: [jaxrnn.unroll(cell, params, xs)[1] for cell in (one, other)])
    np.testing.assert_array_equal(*both(params))


# What the other cells start from


def test_irnn_copies_its_state_at_the_start(key):
    cell = jaxrnn.irnn(D, H, dtype=jnp.float64)
    params, start = cell.init(key), np.array([0.5, 0.0, 2.0])
    h, _ = jax.jit(functools.partial(jaxrnn.unroll, cell))(params, np.zeros((9, D)), start)
    np.testing.assert_array_equal(h, start)
    np.testing.assert_array_equal(jaxrnn.irnn(D, H, scale=0.5).init(key).recurrent, 0.5 * np.eye(H))


def test_indrnn_starts_between_zero_and_its_bound(key):
    u = np.asarray(jaxrnn.indrnn(D, 500, bound=1.5).init(key).recurrent)
    assert u.shape == (500,)
    assert float(u.min()) >= 0
    assert 1.4 < float(u.max()) <= 1.5


FORGETFUL = {"ugrnn": ("cg", "g"), "janet": ("fc", "f"), "intersection": ("hqyp", "qp")}


@pytest.mark.parametrize("name", FORGETFUL)
def test_forget_bias_is_in_the_gates_alone(name, key):
    bias = getattr(jaxrnn, name)(H, H, forget_bias=2.0).init(key).bias
    names, kept = FORGETFUL[name]
    for gate, values in gates(bias, names).items():
        np.testing.assert_array_equal(values, 2.0 if gate in kept else 0.0)


def test_the_derivative_of_a_pair_is_its_own(key):
    """Where JAX differentiates the step too: a derivative of zero lets nothing through to the candidate."""
    cell = jaxrnn.ugrnn(D, H, activation=(jnp.tanh, jnp.zeros_like), dtype=jnp.float64)
    of_candidate, of_gate = np.split(np.asarray(gradient_of_the_sum(cell, key).bias), 2)
    assert not of_candidate.any()
    assert of_gate.all()
