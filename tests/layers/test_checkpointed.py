"""A stack a segment at a time: the same values and gradients, from less memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from tests.registry import assert_trees_close, noisy_params, normal, normal_like

T, B = 5, 2  # segments of ⌈√5⌉ = 3, and 2 more steps
FLAGS = np.arange(T * B).reshape(T, B) % 3 != 1
AROUND = {"lengths": np.array([5, 3]), "mask": FLAGS, "resets": ~FLAGS}


def stack() -> jaxrnn.Layer:
    cells = jaxrnn.learned_carry(jaxrnn.gru(3, 2, dtype=jnp.float64)), jaxrnn.vanilla(2, 3, dtype=jnp.float64)
    return jaxrnn.serial(
        jaxrnn.dense(2, 3, dtype=jnp.float64), *(jaxrnn.recurrent(cell, gradient="autodiff") for cell in cells)
    )


@pytest.mark.parametrize("given", [(), ("mask",), ("lengths", "mask", "resets")], ids="-".join)
def test_values_and_gradients_are_those_of_the_layer(given, key, float64):
    """With a learned initial carry, which a reset inside a segment restores, and a carry given or not."""
    layer = stack()
    params, xs = noisy_params(layer, key), normal(key, (T, B, 2))
    carry = normal_like(key, layer.initial_carry(params, (B,))) if given else None
    options = {name: AROUND[name] for name in given}
    cotangents = normal_like(key, jax.eval_shape(layer.apply, params, xs))

    def differentiated(layer):
        def both(params, xs, carry):
            results, transpose = jax.vjp(lambda *arguments: layer.apply(*arguments, **options), params, xs, carry)
            return results, transpose(cotangents)

        return jax.jit(both)(params, xs, carry)

    expected = differentiated(layer)
    for segment in ("sqrt", 7) if len(given) == 3 else ("sqrt",):
        assert_trees_close(differentiated(jaxrnn.checkpointed(layer, segment)), expected)


def test_noise_of_a_segment_is_that_of_its_first_step(key):
    """Each segment has noise of its own, from the key alone."""
    layer, xs = jaxrnn.dropout(0.5), jnp.ones((T, B, 64))
    _, ys = jaxrnn.checkpointed(layer, 2).apply((), xs, key=key)
    parts = [layer.apply((), xs[t : t + 2], key=jax.random.fold_in(key, t))[1] for t in (0, 2, 4)]
    np.testing.assert_array_equal(ys, jnp.concatenate(parts))
    assert (ys[:2] != ys[2:4]).any()


def test_memory_for_a_loss_on_the_last_state():
    """By XLA's own account, and of two layers at once."""
    layer = jaxrnn.stacked(jaxrnn.lstm, 2, 16, num_layers=2)
    params, xs = noisy_params(layer, jax.random.key(0)), jnp.ones((900, 4, 2))

    def temporary_bytes(layer):
        loss = lambda params: (layer.apply(params, xs)[0][-1].h ** 2).sum()
        analysis = jax.jit(jax.grad(loss)).lower(params).compile().memory_analysis()
        assert analysis is not None
        return analysis.temp_size_in_bytes

    assert temporary_bytes(jaxrnn.checkpointed(layer)) <= 0.1 * temporary_bytes(layer)


def test_what_cannot_be_cut(key):
    """A layer that needs the future by its own account, or by the number of its outputs."""
    both = jaxrnn.stacked(jaxrnn.vanilla, 2, 3, num_layers=1, bidirectional=True)
    with pytest.raises(ValueError, match=r"\Alayer: expected one with a step, .* got one that needs the future"):
        jaxrnn.checkpointed(both)
    dense = jaxrnn.dense(2, 3)
    pairs = dense._replace(apply=lambda params, xs, *rest, **options: dense.apply(params, xs[::2], *rest, **options))
    with pytest.raises(ValueError, match=r"\Alayer: expected an output for each of 5 steps, got \(3, 2, 3\)"):
        jaxrnn.checkpointed(pairs).apply(dense.init(key), jnp.ones((T, B, 2)))


def test_wrong_arguments_are_named_as_by_the_layer(key):
    layer = jaxrnn.checkpointed(jaxrnn.dense(2, 3))
    params, xs = noisy_params(layer, key), jnp.ones((T, B, 2))
    for lengths, error, message in (
        (jnp.array([1.0, 2.0]), TypeError, "lengths: expected integers"),
        (jnp.array([1, 2, 3]), ValueError, r"lengths: expected shape \(2,\)"),
        (jnp.array([1, 6]), ValueError, "lengths: expected values from 0 to the 5 steps"),
    ):
        with pytest.raises(error, match=rf"\A{message}"):
            layer.apply(params, xs, lengths=lengths)
