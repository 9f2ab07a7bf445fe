"""Gradient flow against closed answers, finite differences, jax.grad of the rest of the sequence, and LAPACK."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jaxrnn
from jaxrnn.analysis import (
    carry_gradients,
    gradient_norms,
    log_singular_values,
    spectral_radius,
    state_jacobians,
)
from tests.registry import BY_NAME, D, H, assert_trees_close, noisy_params, normal_like

T, MIDDLE, B = 5, 2, (2, 1)
# Every kind of carry and of step; activations and gradients of the unroll play no part here.
KINDS = ("vanilla-tanh", "lstm", "gru-after", "gru-before", "learned-lstm", "user-lstm", "user-step")
logs_of = jax.jit(log_singular_values)


def flat(tree, lead):
    """Concatenate the leaves of ``tree [*lead, ...]`` in order, ``[*lead, n]``."""
    return jnp.concatenate([leaf.reshape(*lead, -1) for leaf in jax.tree.leaves(tree)], axis=-1)


def quadratic(weights):
    """A loss that sees every number of every carry."""

    def loss(carries):
        terms = jax.tree.map(lambda w, leaf: (w * leaf + 0.5 * leaf**2).sum(), weights, carries)
        return jnp.stack(jax.tree.leaves(terms)).sum()

    return loss


def carries_of(cell, params, xs, carry):
    """All carries of a sequence by a plain Python loop, without the library's unroll."""
    zs, carries = cell.inputs(params, xs), []
    for t in range(len(xs)):
        carry, _ = cell.step(params, carry, jax.tree.map(lambda z, t=t: z[t], zs))
        carries.append(carry)
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *carries)


@pytest.mark.parametrize("entry", [BY_NAME[name] for name in KINDS], ids=str)
def test_every_view_of_the_gradient_agrees(entry, key, float64):
    """Gradients, those of the rest of the sequence by jax.grad, norms and Jacobians, with two batch axes."""
    keys, cell = jax.random.split(key, 4), entry.cell(jnp.float64)
    params, xs = noisy_params(cell, keys[0]), jax.random.normal(keys[1], (T, *B, *entry.features))
    carry = normal_like(keys[2], cell.initial_carry(params, B))
    loss = quadratic(normal_like(keys[3], jax.eval_shape(lambda: carries_of(cell, params, xs, carry))))

    @jax.jit
    def views(params, xs, carry):
        carries = carries_of(cell, params, xs, carry)

        def from_the_middle_on(carry_t):
            before, now = jax.tree.map(lambda leaf: leaf[:MIDDLE], carries), jax.tree.map(lambda x: x[None], carry_t)
            after = carries_of(cell, params, xs[MIDDLE + 1 :], carry_t)
            return loss(jax.tree.map(lambda *leaves: jnp.concatenate(leaves), before, now, after))

        gradients = carry_gradients(cell, params, xs, loss, carry)
        norms = gradient_norms(cell, params, xs, loss, carry)
        rest = jax.grad(from_the_middle_on)(jax.tree.map(lambda leaf: leaf[MIDDLE], carries))
        return gradients, norms, rest, state_jacobians(cell, params, xs, carry), jax.grad(loss)(carries)

    gradients, norms, rest, jacobians, direct = views(params, xs, carry)
    assert_trees_close(jax.tree.map(lambda leaf: leaf[MIDDLE], gradients), rest)
    vectors, direct = flat(gradients, (T, *B)), flat(direct, (T, *B))
    through = jnp.einsum("t...ab,t...a->t...b", jacobians[1:], vectors[1:])
    np.testing.assert_allclose(vectors[:-1], direct[:-1] + through, atol=1e-10)
    np.testing.assert_allclose(vectors[-1], direct[-1], atol=1e-10)
    np.testing.assert_allclose(norms.total, np.linalg.norm(vectors, axis=-1), rtol=1e-12)
    by_part = jax.tree.map(lambda leaf: jnp.linalg.norm(leaf, axis=-1), gradients)
    assert_trees_close(norms.parts, by_part, tolerance=1e-12)


@pytest.mark.parametrize("name", ["vanilla", "lstm"])
def test_carry_gradients_match_finite_differences(name, key, float64):
    cell = getattr(jaxrnn, name)(D, H, dtype=jnp.float64)
    keys = jax.random.split(key, 4)
    params, xs = noisy_params(cell, keys[0]), jax.random.normal(keys[1], (T, D))
    start = cell.initial_carry(params)
    loss = quadratic(normal_like(keys[2], jax.eval_shape(lambda: carries_of(cell, params, xs, start))))
    gradients, t, step = carry_gradients(cell, params, xs, loss), 2, 1e-6
    carries = carries_of(cell, params, xs, start)
    direction = normal_like(keys[3], start)

    def moved(by):
        at_t = jax.tree.map(lambda leaf, d: leaf[t] + by * d, carries, direction)
        later = carries_of(cell, params, xs[t + 1 :], at_t)
        joined = jax.tree.map(
            lambda leaf, now, rest: jnp.concatenate([leaf[:t], now[None], rest]), carries, at_t, later
        )
        return loss(joined)

    numeric = (moved(step) - moved(-step)) / (2 * step)
    by_gradient = sum(jax.tree.leaves(jax.tree.map(lambda g, d: (g[t] * d).sum(), gradients, direction)))
    np.testing.assert_allclose(by_gradient, numeric, rtol=1e-7)


def test_norms_of_a_linear_network_have_a_closed_form(key, float64):
    keys = jax.random.split(key, 4)
    cell = jaxrnn.vanilla(D, 5, activation="identity", recurrent_init=jaxrnn.initializers.fan_in(), dtype=jnp.float64)
    params, xs, g = cell.init(keys[0]), jax.random.normal(keys[1], (40, D)), jax.random.normal(keys[2], (5,))
    norms = gradient_norms(cell, params, xs, lambda hs: hs[-1] @ g).total
    u = np.asarray(params.recurrent)  # h_t = ... + h_{t-1} U, so dh_{t-1} = dh_t Uᵀ
    expected = [np.linalg.norm(np.linalg.matrix_power(u, 40 - t) @ g) for t in range(1, 41)]
    np.testing.assert_allclose(norms, expected, rtol=1e-10)


def test_a_loss_at_every_step_of_a_linear_network_adds_up(key, float64):
    keys = jax.random.split(key, 3)
    cell = jaxrnn.vanilla(D, 4, activation="identity", dtype=jnp.float64)
    params, xs, gs = cell.init(keys[0]), jax.random.normal(keys[1], (9, D)), jax.random.normal(keys[2], (9, 4))
    gradients = carry_gradients(cell, params, xs, lambda hs: (hs * gs).sum())
    u = np.asarray(params.recurrent)
    expected = [np.sum([np.linalg.matrix_power(u, k - t) @ gs[k] for k in range(t, 9)], axis=0) for t in range(9)]
    np.testing.assert_allclose(gradients, expected, rtol=1e-10, atol=1e-12)


def test_norms_survive_where_their_squares_underflow():
    cell = jaxrnn.vanilla(1, 4, activation="identity", recurrent_init=jaxrnn.initializers.identity(0.1))
    params = cell.init(jax.random.key(0))
    norms = gradient_norms(cell, params, jnp.ones((31, 1)), lambda hs: hs[-1].sum())
    np.testing.assert_allclose(norms.total[0], 2e-30, rtol=1e-4)


def test_low_precision_carries_give_float32_norms(key):
    cell = jaxrnn.vanilla(D, H, dtype=jnp.bfloat16)
    xs = jnp.ones((2, D), jnp.bfloat16)
    norms = gradient_norms(cell, cell.init(key), xs, lambda hs: hs[-1].sum())
    assert norms.total.dtype == jnp.float32
    assert bool((norms.total > 0).all())


@pytest.mark.parametrize("name", ["vanilla", "lstm"])
def test_jacobians_match_finite_differences(name, key, float64):
    cell = getattr(jaxrnn, name)(D, H, dtype=jnp.float64)
    keys = jax.random.split(key, 2)
    params, xs, step = noisy_params(cell, keys[0]), jax.random.normal(keys[1], (T, D)), 1e-6
    before = jax.tree.map(lambda leaf: leaf[2], carries_of(cell, params, xs, cell.initial_carry(params)))
    vector, unravel = ravel_pytree(before)

    def after(vector):
        last = carries_of(cell, params, xs[3:4], unravel(vector))
        return flat(jax.tree.map(lambda leaf: leaf[0], last), ())

    columns = [(after(vector + step * e) - after(vector - step * e)) / (2 * step) for e in jnp.eye(vector.size)]
    np.testing.assert_allclose(state_jacobians(cell, params, xs)[3], jnp.stack(columns, axis=1), atol=1e-8)


def products(jacobians):
    """∂c_T/∂c_t for t = 0..T, multiplied out."""
    out = [np.eye(jacobians.shape[-1])]
    for jacobian in np.asarray(jacobians)[::-1]:
        out.append(out[-1] @ jacobian)
    return np.stack(out[::-1])


@pytest.mark.parametrize("n", [1, 2, 7])
def test_log_singular_values_agree_with_lapack(n, key, float64):
    jacobians = jax.random.normal(key, (4, n, n)) / n**0.5
    logs = logs_of(jacobians)
    assert logs.shape == (5, n)
    expected = np.linalg.svd(products(jacobians), compute_uv=False)
    np.testing.assert_allclose(np.exp(logs), expected, rtol=1e-8, atol=1e-14)


LONG, N = 300, 6


def test_log_singular_values_of_powers_of_a_symmetric_matrix(float64, rng):
    eigenvalues = np.array([1.1, -0.9, 0.9, 0.5, 0.1, -1e-3])
    q = np.linalg.qr(rng.normal(size=(N, N)))[0]
    matrix = (q * eigenvalues) @ q.T
    logs = logs_of(jnp.broadcast_to(jnp.array(matrix), (LONG, N, N)))
    powers = np.arange(LONG, -1, -1)[:, None]
    np.testing.assert_allclose(logs, powers * np.log(np.abs(eigenvalues)), rtol=1e-9, atol=1e-9)


def test_log_singular_values_leave_the_range_of_floats(rng):
    jacobians = 0.2 * rng.normal(size=(LONG, N, N))
    logs = logs_of(jnp.array(jacobians, jnp.float32))
    assert logs.dtype == jnp.float32
    assert float(logs[0, 0]) < np.log(1e-45)  # zero in float32
    assert float(logs[0, 0] - logs[0, -1]) > 2 * np.log(1e38)  # no single scale would hold both
    with jax.enable_x64(True):
        in_float64 = np.asarray(logs_of(jnp.array(jacobians)))
    np.testing.assert_allclose(in_float64[0].sum(), np.linalg.slogdet(jacobians)[1].sum(), rtol=1e-10)
    np.testing.assert_allclose(logs[0], in_float64[0], rtol=1e-4)


def test_equal_singular_values_stay_equal(float64, rng):
    rotations = np.linalg.qr(rng.normal(size=(LONG, N, N)))[0]
    np.testing.assert_allclose(logs_of(jnp.array(rotations)), 0, atol=1e-11)


def test_singular_jacobians_give_minus_infinity_or_next_to_nothing(float64, rng):
    assert bool(jnp.isneginf(logs_of(jnp.zeros((LONG, N, N)))[0]).all())
    dead = np.stack([rng.normal(size=(N, N)), *[np.eye(N)] * (LONG - 1)])
    dead[0, 1] = 0
    logs = logs_of(jnp.array(dead))[0]
    assert float(logs[-1]) < np.log(1e-14)
    np.testing.assert_allclose(np.exp(logs), np.linalg.svd(dead[0], compute_uv=False), atol=1e-12)


def test_log_singular_values_take_batches_and_no_steps(key, float64):
    jacobians = jax.random.normal(key, (3, 2, 1, 4, 4))
    logs = logs_of(jacobians)
    assert logs.shape == (4, 2, 1, 4)
    expected = np.linalg.svd(products(jacobians[:, 1, 0]), compute_uv=False)
    np.testing.assert_allclose(np.exp(logs[:, 1, 0]), expected, rtol=1e-8, atol=1e-14)
    np.testing.assert_array_equal(log_singular_values(jacobians[:0, 0, 0]), np.zeros((1, 4)))


def test_spectral_radius(float64):
    angle = 0.7
    rotation = 1.5 * jnp.array([[jnp.cos(angle), -jnp.sin(angle)], [jnp.sin(angle), jnp.cos(angle)]])
    triangular = jnp.array([[0.5, 100.0], [0.0, -0.25]])
    np.testing.assert_allclose(spectral_radius(jnp.stack([rotation, triangular])), [1.5, 0.5], rtol=1e-12)


def bad(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_bad_arguments_are_named():
    cell, xs = jaxrnn.vanilla(D, H), jnp.ones((T, D))
    params = cell.init(jax.random.key(0))
    no_function: Any = 3.0
    bad(lambda: carry_gradients(cell, params, xs, no_function), TypeError, "loss: expected a function")
    bad(lambda: carry_gradients(cell, params, xs, lambda hs: hs[-1]), ValueError, r"loss: expected a scalar.*\(3,\)")
    bad(lambda: gradient_norms(cell, params, jnp.ones((T, D + 1)), jnp.sum), ValueError, "xs: expected 2 features")
    bad(lambda: state_jacobians(cell, params, xs, jnp.ones(H + 1)), ValueError, r"carry: expected shape \(3,\)")
    bad(lambda: state_jacobians(params, params, xs), TypeError, "cell: expected a jaxrnn Cell")
    bad(
        lambda: log_singular_values(jnp.ones((3, 2, 4))),
        ValueError,
        r"jacobians: expected shape \[time, \*batch, n, n\]",
    )
    bad(lambda: log_singular_values(jnp.ones((3, 3))), ValueError, "jacobians: expected shape")
    bad(lambda: log_singular_values(jnp.ones((3, 2, 2), int)), TypeError, "jacobians: expected float32 or float64")
    bad(lambda: spectral_radius(jnp.ones((2, 3))), ValueError, r"matrix: expected shape \[..., n, n\], got \(2, 3\)")
