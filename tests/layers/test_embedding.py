"""Rows of a table, for tokens in its range."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from tests.layers.stepping import step_of

V, D = 5, 3


@pytest.fixture
def params(key):
    return jaxrnn.embedding(V, D).init(key)


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.int8])
@pytest.mark.parametrize("convert", [jnp.asarray, np.asarray], ids=["jax", "numpy"])
def test_each_token_is_a_row(convert, dtype, params):
    tokens = np.array([[0, 4], [2, 2], [3, 1]], dtype)
    _, ys = jaxrnn.embedding(V, D).apply(params, convert(tokens))
    assert (ys == np.asarray(params.table)[tokens]).all()


def test_tokens_outside_the_vocabulary(params):
    layer = jaxrnn.embedding(V, D)
    for token in (-1, V):
        with pytest.raises(ValueError, match=f"xs: expected tokens from 0 to 4, got 0 to {token}|xs: .* got -1 to 0"):
            layer.apply(params, jnp.array([[0, token]]))
        with pytest.raises(ValueError, match=f"x: expected tokens from 0 to 4, got {token} to {token}"):
            step_of(layer)(params, (), jnp.array(token))


def test_tokens_are_clipped_under_jit(params):
    _, ys = jax.jit(jaxrnn.embedding(V, D).apply)(params, jnp.array([-7, 0, V - 1, 99]))
    assert (ys == params.table[jnp.array([0, 0, V - 1, V - 1])]).all()


def test_padding_may_hold_anything(params):
    _, ys = jaxrnn.embedding(V, D).apply(params, jnp.array([[1], [-100], [99]]), lengths=jnp.array([1]))
    assert (ys[0, 0] == params.table[1]).all()
    assert not ys[1:].any()


def test_the_gradient_counts_tokens(params):
    tokens = jnp.array([[0, 2], [2, 2], [4, 1]])
    mask = jnp.array([[True, True], [True, False], [True, True]])

    def loss(params):
        return jaxrnn.embedding(V, D).apply(params, tokens, mask=mask)[1].sum()

    assert jax.grad(loss)(params).table.tolist() == [[count] * D for count in (1.0, 1.0, 2.0, 0.0, 1.0)]


def test_table_init(key):
    layer = jaxrnn.embedding(2000, 4, table_init=jaxrnn.initializers.normal(0.1), dtype=jnp.bfloat16)
    table = layer.init(key).table
    assert table.shape == (2000, 4)
    assert table.dtype == jnp.bfloat16
    assert abs(float(table.astype(jnp.float32).std()) - 0.1) < 0.01
