"""Activations of one's own: a rule that a function brings along is the derivative that every cell uses."""

import jax
import jax.numpy as jnp
import pytest

import jaxrnn
from tests.registry import assert_trees_close, noisy_params, normal


@jax.custom_vjp
def spike(a):
    """One above the threshold; backward, the derivative of a smooth function takes the place of none."""
    return (a > 0).astype(a.dtype)


spike.defvjp(lambda a: (spike(a), a), lambda a, dh: (dh / (1 + a * a),))


@jax.custom_vjp
def straight_through(a):
    """Rounded; backward, as if it were not."""
    return jnp.round(4 * a) / 4


straight_through.defvjp(lambda a: (straight_through(a), None), lambda _, dh: (dh,))

CELLS = {
    "vanilla": lambda phi: jaxrnn.vanilla(2, 3, activation=phi, dtype=jnp.float64),
    "gru-after": lambda phi: jaxrnn.gru(2, 3, activations=("sigmoid", phi), dtype=jnp.float64),
    "gru-before": lambda phi: jaxrnn.gru(2, 3, reset_after=False, activations=(phi, "tanh"), dtype=jnp.float64),
    "lstm-variant": lambda phi: jaxrnn.lstm_variant(2, 3, activations=(phi, "tanh", phi), dtype=jnp.float64),
}


@pytest.mark.parametrize("phi", [spike, straight_through], ids=["spike", "straight-through"])
@pytest.mark.parametrize("name", CELLS)
def test_a_rule_for_reverse_mode_alone_is_used(name, phi, key, float64):
    """`jax.custom_vjp` is how surrogate gradients are written, and JAX has no forward mode of it."""
    cell = CELLS[name](phi)
    params, xs = noisy_params(cell, key), normal(key, (4, 2, 2))

    def loss(params, gradient):
        return (jaxrnn.unroll(cell, params, xs, gradient=gradient)[1] ** 2).sum()

    by_hand, exact = (jax.jit(jax.grad(loss), static_argnums=1)(params, way) for way in ("manual", "autodiff"))
    assert jnp.abs(exact.recurrent).max() > 1e-3
    assert_trees_close(by_hand, exact)


def test_a_rule_for_reverse_mode_alone_is_used_without_jit(key, float64):
    """Each program is compiled where it is met, and so is what no gradient reads."""
    cell = CELLS["vanilla"](spike)
    _, ys = jaxrnn.unroll(cell, noisy_params(cell, key), normal(key, (4, 2, 2)))
    assert set(jnp.unique(ys).tolist()) == {0.0, 1.0}


def solved(a):
    """Return h of h + h³ = a by Newton's steps, as many as it takes."""
    step = lambda h: h - (h + h**3 - a) / (1 + 3 * h**2)
    return jax.lax.while_loop(lambda h: jnp.abs(h + h**3 - a).max() > 1e-12, step, jnp.zeros_like(a))


@pytest.mark.parametrize("name", CELLS)
def test_an_activation_may_have_forward_mode_alone(name, key, float64):
    """As a loop until something holds; its derivative here is 1 / (1 + 3h²)."""
    by_rule = jax.custom_vjp(solved)
    by_rule.defvjp(lambda a: (solved(a), solved(a)), lambda h, dh: (dh / (1 + 3 * h**2),))
    forward_alone, exact = CELLS[name](solved), CELLS[name](by_rule)
    params, xs = noisy_params(exact, key), normal(key, (4, 2, 2))
    loss = lambda cell, params: (jaxrnn.unroll(cell, params, xs)[1] ** 2).sum()
    got, expected = (jax.jit(jax.grad(loss, 1), static_argnums=0)(cell, params) for cell in (forward_alone, exact))
    assert_trees_close(got, expected)
    assert jnp.isfinite(jaxrnn.unroll(forward_alone, params, xs)[1]).all()
