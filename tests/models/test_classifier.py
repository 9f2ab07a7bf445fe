"""Classifiers: every pooling by its definition, sequences without steps, and both ends of a sequence."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.models import Classifier, classifier
from tests.models.drawing import params_of
from tests.registry import assert_trees_close

T, B, D, F, CLASSES = 5, 3, 2, 4, 3
LENGTHS = np.array([5, 2, 0])
POOLINGS = ("last", "ends", "mean", "max", "attention")


def model_of(pooling: str, encoder: jaxrnn.Layer | None = None, **options: Any) -> Classifier:
    """Return a classifier over the soonest compiled encoder there is."""
    encoder = encoder or jaxrnn.dense(D, F, dtype=jnp.float64)
    return classifier(encoder, F, CLASSES, pooling=pooling, dtype=jnp.float64, **options)


def pooled(pooling: str, params: Any, hs: np.ndarray) -> np.ndarray:
    """Return the pooling of one sequence, ``[T, F]``, by its definition."""
    if not len(hs):
        return np.zeros(F)
    if pooling == "attention":
        W_q, W_k, _, u = params
        scores = np.array([u @ np.tanh(h @ W_k + W_q[0]) for h in hs])
        return np.exp(scores) / np.exp(scores).sum() @ hs
    ends = np.concatenate([hs[-1, : F // 2], hs[0, F // 2 :]])
    return {"last": hs[-1], "ends": ends, "mean": hs.mean(axis=0), "max": hs.max(axis=0)}[pooling]


def weights_of(model: Classifier, *args: Any) -> Any:
    assert model.weights is not None
    return model.weights(*args, lengths=LENGTHS)


def drawn(model: Classifier, key: jax.Array) -> tuple[Any, jax.Array, jax.Array]:
    """Return parameters, sequences, and the same with NaN for padding."""
    params = params_of(model, key)
    xs = jax.random.normal(key, (T, B, D), jnp.float64)
    return params, xs, jnp.where((np.arange(T)[:, None] < LENGTHS)[..., None], xs, jnp.nan)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_values_are_those_of_the_definition_and_of_the_sequences_alone(pooling, key, float64):
    model = model_of(pooling, attention_size=6 if pooling == "attention" else None)
    params, xs, padded = drawn(model, key)
    mask = np.arange(T)[:, None] < LENGTHS

    @jax.jit
    def every_way(params, xs, padded):
        def alone(params):
            return jnp.stack([model.apply(params, xs[:length, b]) for b, length in enumerate(LENGTHS)])  # T = 0 once

        ways = (
            lambda params: model.apply(params, padded, lengths=LENGTHS),
            lambda params: model.apply(params, padded, mask=mask),
            alone,
        )
        transposed = [jax.vjp(way, params) for way in ways]
        return [logits for logits, _ in transposed], [vjp(logits) for logits, vjp in transposed]

    results, gradients = every_way(params, xs, padded)
    encoder, attention, head = jax.tree.map(np.asarray, params)
    for b, length in enumerate(LENGTHS):
        hs = np.asarray(xs)[:length, b] @ encoder.kernel + encoder.bias
        expected = pooled(pooling, attention, hs) @ head.kernel + head.bias
        for logits in results:
            np.testing.assert_allclose(logits[b], expected, rtol=0, atol=1e-12)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    assert_trees_close(gradients[0], gradients[2])
    assert_trees_close(gradients[1], gradients[2])


def test_ends_are_the_final_states_of_both_directions(key, float64):
    cell = jaxrnn.vanilla(D, F // 2, dtype=jnp.float64)._replace(adjoint=None)
    encoder = jaxrnn.bidirectional(jaxrnn.recurrent(cell), jaxrnn.recurrent(cell, reverse=True))
    model = model_of("ends", encoder)
    params, _, padded = drawn(model, key)

    @jax.jit
    def both(params):
        carry, _ = encoder.apply(params.encoder, padded, lengths=LENGTHS)
        states = jnp.concatenate([carry.forward, carry.backward], axis=-1)
        return model.apply(params, padded, lengths=LENGTHS), states @ params.head.kernel + params.head.bias[None]

    logits, expected = both(params)
    assert_trees_close(logits, expected, 1e-12)


def test_weights_are_those_of_the_pooling(key, float64):
    model = model_of("attention")
    params, xs, padded = drawn(model, key)
    both = jax.jit(lambda *args: (weights_of(model, *args), model.apply(*args, lengths=LENGTHS)))
    weights, logits = both(params, padded)
    weights, (encoder, _, head) = np.asarray(weights), jax.tree.map(np.asarray, params)
    np.testing.assert_allclose(weights.sum(axis=0), [1, 1, 0], atol=1e-12)
    assert not weights[np.arange(T)[:, None] >= LENGTHS].any()
    hs = np.asarray(xs) @ encoder.kernel + encoder.bias
    expected = (weights[..., None] * hs).sum(axis=0) @ head.kernel + head.bias
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-12)
    assert all(model_of(pooling).weights is None for pooling in POOLINGS[:-1])


@pytest.mark.parametrize("pooling", ["last", "attention"])
def test_an_encoder_may_shorten_its_input(pooling, key, float64):
    pyramid = jaxrnn.serial(jaxrnn.time_reduction(2), jaxrnn.dense(2 * D, F, dtype=jnp.float64))
    model = model_of(pooling, pyramid)
    params, xs, padded = drawn(model, key)

    @jax.jit
    def both(params: Any, xs: Any, padded: Any) -> tuple[Any, Any]:
        return model.apply(params, padded, lengths=LENGTHS)[1], model.apply(params, xs[:2, 1])

    ours, alone = both(params, xs, padded)
    assert_trees_close(ours, alone, 1e-12)
    if model.weights:
        weights = jax.eval_shape(lambda: weights_of(model, params, padded))
        assert weights.shape == (3, B)


def test_dropout_needs_a_key(key, float64):
    model = model_of("mean", dropout=0.5)
    params, xs, _ = drawn(model, key)
    without = model.apply(params, xs)
    assert_trees_close(without, model_of("mean").apply(params, xs), 0.0)
    assert (model.apply(params, xs, key=key) != without).any()


def test_last_is_allowed_after_a_bidirectional_layer():
    both = jaxrnn.stacked(jaxrnn.gru, D, 2, bidirectional=True)
    encoder = jaxrnn.serial(both, jaxrnn.recurrent(jaxrnn.gru(4, F)), jaxrnn.dropout(0.1))
    classifier(encoder, F, CLASSES, pooling="last")
    for encoder in (both, jaxrnn.serial(both, jaxrnn.dropout(0.1))):
        with pytest.raises(ValueError, match=r'\Apooling: expected "ends", .* for a bidirectional encoder, got "last"'):
            classifier(encoder, F, CLASSES, pooling="last")


@pytest.mark.parametrize("pooling", POOLINGS)
def test_dtypes_are_kept(pooling):
    model = classifier(
        jaxrnn.dense(D, F, dtype=jnp.bfloat16), F, CLASSES, pooling=pooling, dropout=0.1, dtype=jnp.bfloat16
    )
    key, xs = jax.random.key(0), jnp.ones((T, B, D), jnp.bfloat16)
    logits = jax.eval_shape(lambda: model.apply(model.init(key), xs, lengths=LENGTHS, key=key))
    assert (logits.shape, logits.dtype) == ((B, CLASSES), jnp.bfloat16)
