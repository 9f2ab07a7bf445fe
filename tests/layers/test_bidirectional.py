"""Both ends of a sequence, each direction as it is alone, and what is made of the two."""

import jax
import jax.numpy as jnp
import pytest

import jaxrnn
from jaxrnn.layers.bidirectional import MERGES
from tests.registry import BY_NAME, assert_trees_close, normal_like

T, B = 4, 3
RESETS = jnp.array([[False, True, False], [True, False, False], [False, True, True], [False, False, False]])
STEPS = {"lengths": jnp.array([4, 3, 0]), "mask": ~RESETS, "resets": RESETS}


def test_every_merge_is_of_the_directions_alone(key, float64):
    cells = BY_NAME["learned-lstm"].cell(jnp.float64), BY_NAME["gru-after"].cell(jnp.float64)
    alone = jaxrnn.recurrent(cells[0]), jaxrnn.recurrent(cells[1], reverse=True)
    layers = {merge: jaxrnn.bidirectional(*alone, merge=merge) for merge in MERGES}
    params = layers["both"].init(key)
    carry = normal_like(key, layers["both"].initial_carry(params, (B,)))
    xs = jax.random.normal(key, (T, B, 2))

    @jax.jit
    def run(params, carry):
        merged = {merge: layer.apply(params, xs, carry, **STEPS) for merge, layer in layers.items()}
        return merged, [layer.apply(p, xs, c, **STEPS) for layer, p, c in zip(alone, params, carry, strict=True)]

    merged, ((after_forward, hs), (after_backward, gs)) = run(params, carry)
    expected = {
        "concat": jnp.concatenate([hs, gs], axis=-1),
        "sum": hs + gs,
        "mean": (hs + gs) / 2,
        "product": hs * gs,
        "both": jaxrnn.Directions(hs, gs),
    }
    after = jaxrnn.Directions(after_forward, after_backward)
    assert_trees_close(merged, {merge: (after, ys) for merge, ys in expected.items()}, 1e-15)


def test_directions_may_differ(key):
    """In their sizes, where outputs are put side by side, and in how many layers they are of."""
    deep = jaxrnn.serial(jaxrnn.dense(2, 7), jaxrnn.recurrent(jaxrnn.lstm(7, 5), reverse=True))
    layer = jaxrnn.bidirectional(jaxrnn.recurrent(jaxrnn.gru(2, 3)), deep)
    params = jax.eval_shape(layer.init, key)
    carry, ys = jax.eval_shape(layer.apply, params, jnp.ones((T, B, 2)))
    assert ys.shape == (T, B, 8)
    assert jax.tree.map(jnp.shape, carry) == jax.tree.map(
        jnp.shape, jax.eval_shape(lambda params: layer.initial_carry(params, (B,)), params)
    )
    assert layer.step is None


def test_each_direction_draws_for_itself(key):
    drop = jaxrnn.dropout(0.5)
    _, (hs, gs) = jaxrnn.bidirectional(drop, drop._replace(step=None), merge="both").apply(
        jaxrnn.Directions((), ()), jnp.ones((100, 100)), key=key
    )
    assert abs((hs == gs).mean() - 0.5) < 0.05
    cell = jaxrnn.vanilla(2, 3, recurrent_init=jaxrnn.initializers.zeros)
    params = jaxrnn.bidirectional(jaxrnn.recurrent(cell), jaxrnn.recurrent(cell, reverse=True)).init(key)
    assert (params.forward.input != params.backward.input).any()


@pytest.mark.parametrize("mode", ["mean", "concat"])
def test_both_directions_may_shorten_time(mode, key):
    """As a pyramid does; the lengths of what comes after are those of the frames."""
    width = 4 if mode == "concat" else 2

    def reader(reverse):
        return jaxrnn.serial(
            jaxrnn.time_reduction(2, mode), jaxrnn.recurrent(jaxrnn.vanilla(width, 3), reverse=reverse)
        )

    layer = jaxrnn.bidirectional(reader(False), reader(True))
    _, ys = jax.eval_shape(lambda xs: layer.apply(layer.init(key), xs), jnp.ones((5, B, 2)))
    assert ys.shape == (3, B, 6)
    assert layer.output_steps(jnp.array([5, 2, 0]))[0].tolist() == [3, 1, 0]
