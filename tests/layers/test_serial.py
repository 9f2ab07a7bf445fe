"""A stack: entries for each child, arguments for each child, gradients through all of them."""

import jax
import jax.numpy as jnp
import pytest

import jaxrnn
from tests.layers.stepping import step_of
from tests.registry import BY_NAME, assert_trees_close, noisy_params, normal

T, B, V = 4, 2, 7
RESETS = jnp.array([[False, True], [True, False], [False, True], [False, False]])


def model(gradient: str = "auto", dtype=jnp.float64) -> jaxrnn.Layer:
    return jaxrnn.serial(
        jaxrnn.embedding(V, 2, dtype=dtype),
        jaxrnn.recurrent(BY_NAME["learned-lstm"].cell(dtype), gradient=gradient),
        jaxrnn.dense(3, 2, activation=jnp.tanh, dtype=dtype),
        jaxrnn.recurrent(BY_NAME["gru-before"].cell(dtype), gradient=gradient, reverse=True),
        jaxrnn.dropout(0.4),
        jaxrnn.dense(3, V, dtype=dtype),
    )


def test_one_entry_for_each_child(key):
    layer = model(dtype=jnp.float32)
    params = noisy_params(layer, key)
    assert [type(entry) for entry in params] == [
        jaxrnn.EmbeddingParams,
        jaxrnn.LearnedCarryParams,
        jaxrnn.DenseParams,
        jaxrnn.GRUParams,
        tuple,
        jaxrnn.DenseParams,
    ]
    carry = layer.initial_carry(params, (B,))
    assert [type(entry) for entry in carry[:1] + carry[2:3] + carry[4:]] == [tuple] * 4
    assert isinstance(carry[1], jaxrnn.LSTMCarry)
    assert carry[3].shape == (B, 3)
    after, _ = jax.eval_shape(layer.apply, params, jnp.zeros((T, B), int))
    assert jax.tree.structure(after) == jax.tree.structure(carry)


def test_children_draw_different_parameters(key):
    first, second = jaxrnn.serial(jaxrnn.dense(3, 3), jaxrnn.dense(3, 3)).init(key)
    assert not (first.kernel == second.kernel).any()


def test_it_is_one_layer_after_another(key, float64):
    layers = [jaxrnn.dense(2, 2, dtype=jnp.float64), jaxrnn.recurrent(BY_NAME["lstm"].cell(jnp.float64))]
    stack = jaxrnn.serial(*layers)
    params, xs = noisy_params(stack, key), normal(key, (T, B, 2))
    options = {"lengths": jnp.array([4, 3]), "mask": ~RESETS, "resets": RESETS}
    hidden = layers[0].apply(params[0], xs, **options)[1]
    carry, ys = layers[1].apply(params[1], hidden, **options)
    assert_trees_close(stack.apply(params, xs, **options), (((), carry), ys), 0.0)
    assert_trees_close(jaxrnn.serial(layers[1]).apply(params[1:], hidden, **options), ((carry,), ys), 0.0)


def test_lengths_mask_and_resets_go_to_every_child(key, float64):
    """Left to its first child alone, a stack would give other values in both of its recurrent layers."""
    layer = model()
    params, xs = noisy_params(layer, key), jax.random.randint(key, (T, B), 0, V)
    apply = jax.jit(layer.apply)
    carry, ys = apply(params, xs, lengths=jnp.array([4, 2]), resets=jnp.zeros((T, B), bool).at[2, 0].set(True))
    (short_carry, short), (first_carry, first), (_, second) = (
        apply(params, part) for part in (xs[:2, 1:], xs[:2, :1], xs[2:, :1])
    )
    assert_trees_close(ys[:2, 1:], short)
    assert not ys[2:, 1].any()
    assert_trees_close(ys[:, :1], jnp.concatenate([first, second]))
    assert_trees_close(jax.tree.map(lambda leaf: leaf[1:], carry), short_carry)
    # In reverse the carry ends at the first segment.
    assert_trees_close(carry[3][:1], first_carry[3])


def test_gradients_through_a_stack_equal_autodiff(key, float64):
    params = model().init(key)
    xs = jax.random.randint(key, (T, B), 0, V)
    carry = jax.tree.map(lambda leaf: leaf + 0.5, model().initial_carry(params, (B,)))
    options = {"lengths": jnp.array([4, 3]), "resets": RESETS, "key": key}

    def gradients(gradient):
        def loss(params, carry):
            after, ys = model(gradient).apply(params, xs, carry, **options)
            return (ys**2).sum() + sum((leaf**3).sum() for leaf in jax.tree.leaves(after))

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(params, carry)

    assert_trees_close(gradients("auto"), gradients("autodiff"))


def test_step_is_none_where_a_child_has_none():
    reverse = jaxrnn.recurrent(jaxrnn.gru(2, 2), reverse=True)
    forward = jaxrnn.recurrent(jaxrnn.gru(2, 2))
    assert jaxrnn.serial(forward, reverse, forward).step is None
    assert jaxrnn.serial(forward, jaxrnn.serial(reverse)).step is None
    assert jaxrnn.serial(forward, forward).step is not None


@pytest.mark.parametrize("way", ["apply", "step"])
def test_every_child_has_a_key_of_its_own(way, key):
    """Two layers that drop half: with one key they would drop the same half."""
    layer = jaxrnn.serial(jaxrnn.dropout(0.5), jaxrnn.dropout(0.5))
    xs = jnp.ones((1, 10_000))
    if way == "apply":
        _, ys = layer.apply(((), ()), xs, key=key)
    else:
        _, ys = step_of(layer)(((), ()), ((), ()), xs[0], key=key)
    assert set(ys.ravel().tolist()) == {0.0, 4.0}
    assert abs((ys == 0).mean() - 0.75) < 0.02
