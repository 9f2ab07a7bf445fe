"""Ways around a layer, each by its equation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from tests.registry import assert_trees_close

T, B, D = 3, 2, 4
LENGTHS = jnp.array([3, 1])
MASK = jnp.array([[True, True], [False, True], [True, True]])
VALID = jnp.array([[True, True], [False, False], [True, False]])


@pytest.fixture
def xs(key):
    return jax.random.normal(key, (T, B, D))


def test_residual(key, xs):
    """y = x + s f(x), where f's own zeros at steps that do not count are not enough."""
    inner = jaxrnn.dense(D, D, activation=jnp.tanh)
    params = inner.init(key)
    inside = inner.apply(params, xs, lengths=LENGTHS, mask=MASK)[1]
    for scale in (1.0, -0.25, 0):
        _, ys = jaxrnn.residual(inner, scale=scale).apply(params, xs, lengths=LENGTHS, mask=MASK)
        assert_trees_close(ys, jnp.where(VALID[..., None], xs, 0) + scale * inside, 1e-6)
    assert (jaxrnn.residual(inner, scale=0).apply(params, xs)[1] == xs).all()


def test_highway(key, float64):
    layer = jaxrnn.highway(jaxrnn.dense(D, D, dtype=jnp.float64), D, dtype=jnp.float64)
    params = layer.init(key)
    assert (params.bias == -1).all()
    xs, params = jax.random.normal(key, (T, B, D)), params._replace(bias=jax.random.normal(key, (D,)))
    _, ys = layer.apply(params, xs)
    x, kernel, bias = np.asarray(xs), np.asarray(params.kernel), np.asarray(params.bias)
    gate = 1 / (1 + np.exp(-(x @ kernel + bias)))
    f = x @ np.asarray(params.layer.kernel)
    np.testing.assert_allclose(ys, gate * f + (1 - gate) * x, rtol=1e-12)


def test_a_closed_gate_is_the_identity_and_an_open_one_the_layer(key, xs):
    inner = jaxrnn.dense(D, D)
    gates = jaxrnn.initializers.constant(-100.0), jaxrnn.initializers.constant(100.0)
    closed, opened = (jaxrnn.highway(inner, D, bias_init=bias) for bias in gates)
    params = closed.init(key)
    assert_trees_close(closed.apply(params, xs)[1], xs, 1e-6)
    assert_trees_close(opened.apply(opened.init(key), xs), inner.apply(params.layer, xs), 1e-6)


def test_dense_connections(key, xs):
    """y_1 = f_1(x), y_2 = f_2([x, y_1]), y_3 = f_3([x, y_1, y_2]), and out come [x, y_1, y_2, y_3]."""
    inner = [jaxrnn.dense(4, 3), jaxrnn.dense(7, 2), jaxrnn.dense(9, 1)]
    layer = jaxrnn.dense_connections(*inner)
    params = layer.init(key)
    seen = jnp.where(VALID[..., None], xs, 0)
    for child, p in zip(inner, params, strict=True):
        y = child.apply(p, seen, lengths=LENGTHS, mask=MASK)[1]
        seen = jnp.concatenate([seen, y], axis=-1)
    assert seen.shape == (T, B, 10)
    assert_trees_close(layer.apply(params, xs, lengths=LENGTHS, mask=MASK)[1], seen, 0.0)


def test_features_may_have_several_axes(key):
    """A shortcut asks neither how many axes are features, nor for more of the batch than the flags tell."""
    lift = jaxrnn.Layer(
        init=lambda key: (),
        initial_carry=lambda params, batch_shape=(): (),
        apply=lambda params, xs, carry=None, *, lengths=None, mask=None, resets=None, key=None: ((), xs),
    )
    xs = jax.random.normal(key, (T, B, 5, 6, D)).at[1:, 1].set(jnp.nan)
    _, ys = jaxrnn.residual(lift).apply((), xs, lengths=LENGTHS)
    assert (ys[:, 0] == 2 * xs[:, 0]).all()
    assert jnp.isnan(ys[1:, 1]).all()  # lift's own; x itself is gone
    assert jaxrnn.residual(lift).step is None


@pytest.mark.parametrize("around", [jaxrnn.residual, lambda f: jaxrnn.highway(f, D), jaxrnn.dense_connections])
def test_there_is_a_step_where_the_layer_has_one(around):
    cell = jaxrnn.vanilla(D, D)
    assert around(jaxrnn.recurrent(cell)).step is not None
    assert around(jaxrnn.recurrent(cell, reverse=True)).step is None
