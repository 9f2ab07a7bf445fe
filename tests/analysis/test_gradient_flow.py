"""Gradient flow against closed answers, finite differences, jax.grad of the rest of the sequence, and LAPACK."""

import functools
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
from tests.registry import BY_NAME, D, H, assert_trees_close, on_device

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


def draw(cell: jaxrnn.Cell, rng: np.random.Generator, batch: tuple[int, ...] = ()) -> Any:
    """Draw parameters, inputs, the carry before them, and weights for all the carries after them."""

    def shapes():
        params = cell.init(jax.random.key(0))
        carry = cell.initial_carry(params, batch)
        return params, jnp.zeros((T, *batch, D)), carry, jax.tree.map(lambda leaf: jnp.stack([leaf] * T), carry)

    return jax.tree.map(lambda leaf: on_device(0.7 * rng.normal(size=leaf.shape), leaf.dtype), jax.eval_shape(shapes))


@pytest.mark.parametrize("entry", [BY_NAME[name] for name in KINDS], ids=str)
def test_every_view_of_the_gradient_agrees(entry, rng, float64):
    """Gradients, those of the rest of the sequence by jax.grad, norms and Jacobians, with two batch axes."""
    cell = entry.cell(jnp.float64)

    @jax.jit
    def views(params, xs, carry, weights):
        carries, loss = carries_of(cell, params, xs, carry), quadratic(weights)

        def from_the_middle_on(carry_t):
            before, now = jax.tree.map(lambda leaf: leaf[:MIDDLE], carries), jax.tree.map(lambda x: x[None], carry_t)
            after = carries_of(cell, params, xs[MIDDLE + 1 :], carry_t)
            return loss(jax.tree.map(lambda *leaves: jnp.concatenate(leaves), before, now, after))

        gradients = carry_gradients(cell, params, xs, loss, carry)
        norms = gradient_norms(cell, params, xs, loss, carry)
        rest = jax.grad(from_the_middle_on)(jax.tree.map(lambda leaf: leaf[MIDDLE], carries))
        vectors, direct = flat(gradients, (T, *B)), flat(jax.grad(loss)(carries), (T, *B))
        return gradients, norms, rest, state_jacobians(cell, params, xs, carry), vectors, direct

    gradients, norms, rest, jacobians, vectors, direct = jax.device_get(views(*draw(cell, rng, B)))
    assert_trees_close(jax.tree.map(lambda leaf: leaf[MIDDLE], gradients), rest)
    through = np.einsum("t...ab,t...a->t...b", jacobians[1:], vectors[1:])
    np.testing.assert_allclose(vectors[:-1], direct[:-1] + through, atol=1e-10)
    np.testing.assert_allclose(vectors[-1], direct[-1], atol=1e-10)
    np.testing.assert_allclose(norms.total, np.linalg.norm(vectors, axis=-1), rtol=1e-12)
    by_part = jax.tree.map(lambda leaf: np.linalg.norm(leaf, axis=-1), gradients)
    assert_trees_close(norms.parts, by_part, tolerance=1e-12)


@pytest.mark.parametrize("name", ["vanilla", "lstm"])
def test_carry_gradients_match_finite_differences(name, rng, float64):
    cell, t, step = getattr(jaxrnn, name)(D, H, dtype=jnp.float64), 2, 1e-6

    @jax.jit
    def both(params, xs, direction, weights):
        loss, start = quadratic(weights), cell.initial_carry(params)
        carries = carries_of(cell, params, xs, start)

        def moved(by):
            at_t = jax.tree.map(lambda leaf, d: leaf[t] + by * d, carries, direction)
            later = carries_of(cell, params, xs[t + 1 :], at_t)
            joined = jax.tree.map(
                lambda leaf, now, rest: jnp.concatenate([leaf[:t], now[None], rest]), carries, at_t, later
            )
            return loss(joined)

        gradients = carry_gradients(cell, params, xs, loss)
        by_gradient = sum(jax.tree.leaves(jax.tree.map(lambda g, d: (g[t] * d).sum(), gradients, direction)))
        return by_gradient, (moved(step) - moved(-step)) / (2 * step)

    by_gradient, numeric = both(*draw(cell, rng))
    np.testing.assert_allclose(by_gradient, numeric, rtol=1e-7)


def linear(rng, hidden_size, steps):
    """Return a linear network, its parameters and inputs."""
    cell = jaxrnn.vanilla(D, hidden_size, activation="identity", dtype=jnp.float64)
    shapes = (D, hidden_size), (hidden_size, hidden_size), (hidden_size,)
    params = jaxrnn.VanillaParams(*(jnp.array(rng.normal(size=shape) / hidden_size**0.5) for shape in shapes))
    return cell, params, jnp.array(rng.normal(size=(steps, D)))


def test_norms_of_a_linear_network_have_a_closed_form(rng, float64):
    (cell, params, xs), g = linear(rng, 5, 40), rng.normal(size=5)
    norms = jax.jit(lambda params, xs: gradient_norms(cell, params, xs, lambda hs: hs[-1] @ g).total)(params, xs)
    u = np.asarray(params.recurrent)  # h_t = ... + h_{t-1} U, so dh_{t-1} = dh_t Uᵀ
    expected = [np.linalg.norm(np.linalg.matrix_power(u, 40 - t) @ g) for t in range(1, 41)]
    np.testing.assert_allclose(norms, expected, rtol=1e-10)


def test_a_loss_at_every_step_of_a_linear_network_adds_up(rng, float64):
    (cell, params, xs), gs = linear(rng, 4, 9), rng.normal(size=(9, 4))
    gradients = jax.jit(lambda params, xs: carry_gradients(cell, params, xs, lambda hs: (hs * gs).sum()))(params, xs)
    u = np.asarray(params.recurrent)
    expected = [np.sum([np.linalg.matrix_power(u, k - t) @ gs[k] for k in range(t, 9)], axis=0) for t in range(9)]
    np.testing.assert_allclose(gradients, expected, rtol=1e-10, atol=1e-12)


def last_norms(cell, xs, key):
    """Return the norms of the gradient of the sum of the last state, under parameters drawn from the key."""
    return jax.jit(lambda xs, key: gradient_norms(cell, cell.init(key), xs, lambda hs: hs[-1].sum()).total)(xs, key)


def test_norms_survive_where_their_squares_underflow(key):
    cell = jaxrnn.vanilla(1, 4, activation="identity", recurrent_init=jaxrnn.initializers.identity(0.1))
    np.testing.assert_allclose(last_norms(cell, np.ones((31, 1), np.float32), key)[0], 2e-30, rtol=1e-4)


def test_low_precision_carries_give_float32_norms(key):
    norms = last_norms(jaxrnn.vanilla(D, H, dtype=jnp.bfloat16), np.ones((2, D), jnp.bfloat16), key)
    assert norms.dtype == jnp.float32
    assert (np.asarray(norms) > 0).all()


@pytest.mark.parametrize("name", ["vanilla", "lstm"])
def test_jacobians_match_finite_differences(name, rng, float64):
    cell = getattr(jaxrnn, name)(D, H, dtype=jnp.float64)
    step = 1e-6

    @jax.jit
    def both(params, xs):
        before = jax.tree.map(lambda leaf: leaf[2], carries_of(cell, params, xs, cell.initial_carry(params)))
        vector, unravel = ravel_pytree(before)

        def after(vector):
            last = carries_of(cell, params, xs[3:4], unravel(vector))
            return flat(jax.tree.map(lambda leaf: leaf[0], last), ())

        column = lambda e: (after(vector + step * e) - after(vector - step * e)) / (2 * step)
        return state_jacobians(cell, params, xs)[3], jax.vmap(column, out_axes=1)(jnp.eye(vector.size))

    jacobian, columns = both(*draw(cell, rng)[:2])
    np.testing.assert_allclose(jacobian, columns, atol=1e-8)


def products(jacobians):
    """∂c_T/∂c_t for t = 0..T, multiplied out."""
    out = [np.eye(jacobians.shape[-1])]
    for jacobian in jacobians[::-1]:
        out.append(out[-1] @ jacobian)
    return np.stack(out[::-1])


@pytest.mark.parametrize("n", [1, 2, 7])
def test_log_singular_values_agree_with_lapack(n, rng, float64):
    jacobians = rng.normal(size=(4, n, n)) / n**0.5
    logs = logs_of(jacobians)
    assert logs.shape == (5, n)
    expected = np.linalg.svd(products(jacobians), compute_uv=False)
    np.testing.assert_allclose(np.exp(logs), expected, rtol=1e-8, atol=1e-14)


LONG, N = 300, 6


def test_log_singular_values_of_powers_of_a_symmetric_matrix(float64, rng):
    eigenvalues = np.array([1.1, -0.9, 0.9, 0.5, 0.1, -1e-3])
    q = np.linalg.qr(rng.normal(size=(N, N)))[0]
    matrix = (q * eigenvalues) @ q.T
    logs = logs_of(np.broadcast_to(matrix, (LONG, N, N)))
    powers = np.arange(LONG, -1, -1)[:, None]
    np.testing.assert_allclose(logs, powers * np.log(np.abs(eigenvalues)), rtol=1e-9, atol=1e-9)


def test_log_singular_values_leave_the_range_of_floats(rng):
    jacobians = 0.2 * rng.normal(size=(LONG, N, N))
    logs = jax.device_get(logs_of(jacobians.astype(np.float32)))
    assert logs.dtype == jnp.float32
    assert float(logs[0, 0]) < np.log(1e-45)  # zero in float32
    assert float(logs[0, 0] - logs[0, -1]) > 2 * np.log(1e38)  # no single scale would hold both
    with jax.enable_x64(True):
        in_float64 = np.asarray(logs_of(jacobians))
    np.testing.assert_allclose(in_float64[0].sum(), np.linalg.slogdet(jacobians)[1].sum(), rtol=1e-10)
    np.testing.assert_allclose(logs[0], in_float64[0], rtol=1e-4)


def test_equal_singular_values_stay_equal(float64, rng):
    rotations = np.linalg.qr(rng.normal(size=(LONG, N, N)))[0]
    np.testing.assert_allclose(logs_of(rotations), 0, atol=1e-11)


def test_singular_jacobians_give_minus_infinity_or_next_to_nothing(float64, rng):
    assert np.isneginf(np.asarray(logs_of(np.zeros((LONG, N, N))))[0]).all()
    dead = np.stack([rng.normal(size=(N, N)), *[np.eye(N)] * (LONG - 1)])
    dead[0, 1] = 0
    logs = np.asarray(logs_of(dead))[0]
    assert float(logs[-1]) < np.log(1e-14)
    np.testing.assert_allclose(np.exp(logs), np.linalg.svd(dead[0], compute_uv=False), atol=1e-12)


def test_log_singular_values_take_batches_and_no_steps(rng, float64):
    jacobians = rng.normal(size=(3, 2, 1, 4, 4))
    logs = np.asarray(logs_of(jacobians))
    assert logs.shape == (4, 2, 1, 4)
    expected = np.linalg.svd(products(jacobians[:, 1, 0]), compute_uv=False)
    np.testing.assert_allclose(np.exp(logs[:, 1, 0]), expected, rtol=1e-8, atol=1e-14)
    np.testing.assert_array_equal(logs_of(jacobians[:0, 0, 0]), np.zeros((1, 4)))


def test_spectral_radius(float64):
    angle = 0.7
    rotation = 1.5 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    triangular = np.array([[0.5, 100.0], [0.0, -0.25]])
    matrices = jnp.array(np.stack([rotation, triangular]))
    np.testing.assert_allclose(spectral_radius(matrices), [1.5, 0.5], rtol=1e-12)


def bad(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_bad_arguments_are_named(rng):
    cell = jaxrnn.vanilla(D, H)
    params, xs, *_ = draw(cell, rng)
    ones: Any = functools.partial(np.ones, dtype=np.float32)
    no_function: Any = 3.0
    bad(lambda: carry_gradients(cell, params, xs, no_function), TypeError, "loss: expected a function")
    bad(lambda: carry_gradients(cell, params, xs, lambda hs: hs[-1]), ValueError, r"loss: expected a scalar.*\(3,\)")
    bad(lambda: gradient_norms(cell, params, ones((T, D + 1)), jnp.sum), ValueError, "xs: expected 2 features")
    bad(lambda: state_jacobians(cell, params, xs, ones(H + 1)), ValueError, r"carry: expected shape \(3,\)")
    bad(lambda: state_jacobians(params, params, xs), TypeError, "cell: expected a jaxrnn Cell")
    bad(
        lambda: log_singular_values(ones((3, 2, 4))),
        ValueError,
        r"jacobians: expected shape \[time, \*batch, n, n\]",
    )
    bad(lambda: log_singular_values(ones((3, 3))), ValueError, "jacobians: expected shape")
    bad(lambda: log_singular_values(ones((3, 2, 2), dtype=int)), TypeError, "jacobians: expected float32 or float64")
    bad(lambda: spectral_radius(ones((2, 3))), ValueError, r"matrix: expected shape \[..., n, n\], got \(2, 3\)")
