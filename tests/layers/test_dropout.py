"""Noise with the right mean and share of zeros, from the key and from nothing else."""

import jax
import jax.numpy as jnp
import pytest

import jaxrnn
from tests.layers.stepping import step_of


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_mean_and_share_of_zeros(rate, key):
    xs = jnp.array([[1.0, -2.0, 0.25]])
    kept = xs / (1 - rate)
    keys = jax.random.split(key, 20_000)
    ys = jax.vmap(lambda k: jaxrnn.dropout(rate).apply((), xs, key=k)[1])(keys)
    deviation = (rate / (1 - rate) / len(keys)) ** 0.5  # of the mean of m / (1 - p)
    assert (jnp.abs(ys.mean(axis=0) / xs - 1) < 5 * deviation).all()
    assert (jnp.abs((ys == 0).mean(axis=0) - rate) < 5 * (rate * (1 - rate) / len(keys)) ** 0.5).all()
    assert ((ys == 0) | (jnp.abs(ys - kept[None]) < 1e-6)).all()


@pytest.mark.parametrize("way", ["apply", "step"])
def test_the_key_alone_decides(way, key):
    layer = jaxrnn.dropout(0.5)
    xs = jnp.ones((50, 20))

    def run(key=None):
        return layer.apply((), xs, key=key)[1] if way == "apply" else step_of(layer)((), (), xs, key=key)[1]

    first, second = jax.random.split(key)
    assert (run() == xs).all()
    assert (run(first) == run(first)).all()
    assert (run(first) != run(second)).any()
    assert (run(jax.random.PRNGKey(3)) == run(jax.random.key(3))).all()


def test_every_step_and_sequence_has_its_own_noise(key):
    _, ys = jaxrnn.dropout(0.5).apply((), jnp.ones((6, 5, 64)), key=key)
    patterns = {tuple(row) for row in (ys == 0).reshape(30, 64).tolist()}
    assert len(patterns) == 30


def test_gradients_pass_where_values_pass(key):
    layer = jaxrnn.dropout(0.25)
    xs = jnp.full((10, 8), 3.0)
    _, ys = layer.apply((), xs, key=key)
    gradient = jax.grad(lambda xs: layer.apply((), xs, key=key)[1].sum())(xs)
    assert jnp.allclose(gradient, ys / 3)


def test_rate_zero_is_the_identity(key):
    xs = jnp.ones((3, 2, 4))
    assert (jaxrnn.dropout(0.0).apply((), xs, key=key)[1] == xs).all()


def test_it_has_no_parameters_and_no_state(key):
    layer = jaxrnn.dropout(0.5)
    assert layer.init(key) == ()
    assert layer.initial_carry((), (3,)) == ()
    assert layer.apply((), jnp.ones((3, 2)))[0] == ()
