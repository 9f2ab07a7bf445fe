"""DropConnect: which weights are dropped, once a call, their mean, and their gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from tests.cells.keyed import assert_mean
from tests.examples import one_by_one
from tests.layers.stepping import step_of
from tests.registry import D, H, assert_trees_close

T, B = 3, 2


def seen_by(rate=0.25, **options):
    """Return a layer with dropped weights whose output is what it is given: its parameters, and its key."""

    def apply(params, xs, carry=None, *, lengths=None, mask=None, resets=None, key=None):
        del xs, carry, lengths, mask, resets
        return (), (params, key)

    def step(params, carry, x, *, reset=None, key=None):
        del x, reset
        return carry, (params, key)

    layer = jaxrnn.Layer(lambda key: (), lambda params, batch_shape=(): (), apply, step)
    return jaxrnn.weight_dropout(layer, rate, **options)


PARAMS = {
    "recurrent": jnp.full((40, 40), 3.0),
    "stack": (jaxrnn.LSTMParams(*jnp.ones((3, 5, 5))), {"kernel": jnp.ones(9)}),
}


def changed(layer, key):
    _, (params, _) = layer.apply(PARAMS, None, key=key)
    leaves = zip(jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(PARAMS), strict=True)
    return {jax.tree_util.keystr(path, simple=True, separator="/") for (path, new), old in leaves if (new != old).any()}


def test_recurrent_kernels_are_chosen_unless_others_are(key):
    assert changed(seen_by(), key) == {"recurrent", "stack/0/recurrent"}
    assert changed(seen_by(where=lambda path: path.startswith("stack/1")), key) == {"stack/1/kernel"}
    assert changed(seen_by(), None) == set()


def test_a_weight_is_left_with_its_probability(key):
    """A share p is zero, the others are 1 / (1 - p) times what they were."""
    _, (params, _) = seen_by().apply(PARAMS, None, key=key)
    left = np.asarray(params["recurrent"]) / 3
    np.testing.assert_allclose(np.unique(left), [0, 1 / 0.75], rtol=1e-6)
    assert abs((left == 0).mean() - 0.25) < 5 * (0.25 * 0.75 / left.size) ** 0.5


def test_the_mean_over_keys_is_the_weight(key):
    weights = {"recurrent": jnp.array([[1.0, -2.0], [0.5, 4.0]])}
    draw = jax.jit(jax.vmap(lambda k: seen_by().apply(weights, None, key=k)[1][0]["recurrent"]))
    assert_mean(draw(jax.random.split(key, 5_000)), weights["recurrent"])


def test_the_layer_has_a_key_of_its_own(key):
    for _, (params, inner) in (seen_by().apply(PARAMS, None, key=key), step_of(seen_by())(PARAMS, (), None, key=key)):
        assert (jax.random.key_data(inner) != jax.random.key_data(key)).any()
        assert (params["recurrent"] == 0).any()
    assert seen_by().apply(PARAMS, None)[1][1] is None


def test_no_weight_chosen(key):
    with pytest.raises(
        ValueError, match=r"\Awhere: expected to select .* parameters recurrent, stack/0/input, .* none"
    ):
        seen_by(where=lambda path: False).apply(PARAMS, None, key=key)


def example(key):
    layer = jaxrnn.weight_dropout(jaxrnn.recurrent(jaxrnn.vanilla(D, H, dtype=jnp.float64)), 0.5)
    return layer, layer.init(key), jax.random.normal(key, (T, B, D))


def test_apply_and_step_agree_under_one_key(key, float64):
    """All steps of a sequence have the weights of one draw, and so have all steps that are given its key."""
    layer, params, xs = example(key)
    final, ys = one_by_one(layer.apply, params, xs, key=key)
    carry = layer.initial_carry(params, (B,))
    for x, expected in zip(xs, ys, strict=True):
        carry, y = one_by_one(step_of(layer), params, carry, x, key=key)
        assert_trees_close(y, expected)
    assert_trees_close(carry, final)
    assert (one_by_one(layer.apply, params, xs)[1] != ys).any()


def test_gradients_are_zero_where_weights_are_dropped(key, float64):
    """And elsewhere 1 / (1 - p) times those of the weights that are left."""
    layer, params, xs = example(key)
    left = seen_by(0.5).apply(params, None, key=key)[1][0]
    scale = jnp.where(left.recurrent == 0, 0.0, 2.0)
    assert_trees_close(left, params._replace(recurrent=scale * params.recurrent))

    def gradient(layer, params, key=None):
        return one_by_one(jax.grad(lambda p: (layer.apply(p, xs, key=key)[1] ** 2).sum()), params)

    expected = gradient(jaxrnn.recurrent(jaxrnn.vanilla(D, H, dtype=jnp.float64)), left)
    expected = expected._replace(recurrent=scale * expected.recurrent)
    assert_trees_close(gradient(layer, params, key), expected)
