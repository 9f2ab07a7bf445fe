"""The language model: its equation, one matrix used twice, and steps that agree with sequences."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.models import LanguageModelParams, language_model
from tests.layers.stepping import step_of, stepwise
from tests.models.drawing import params_of
from tests.registry import assert_trees_close

V, D, T, B = 6, 3, 4, 2
TOKENS = np.array([[1, 2], [0, 5], [3, 3], [4, 1]], np.int32)


def layer_of(hidden: int) -> jaxrnn.Layer:
    return jaxrnn.recurrent(jaxrnn.vanilla(D, hidden, dtype=jnp.float64), gradient="autodiff")


def model_of(hidden: int, **options: Any) -> jaxrnn.Layer:
    return language_model(V, D, layer_of(hidden), dtype=jnp.float64, **options)


def by_the_equation(hidden: int, params: LanguageModelParams, tokens: Any) -> Any:
    """Return logits = h P Eᵀ + b, each matrix by its own name."""
    E = params.embedding.table
    _, hs = layer_of(hidden).apply(params.layer, E[tokens])
    if params.projection is not None:
        hs = hs @ params.projection.kernel
    kernel, bias = params.output
    assert bias is not None
    return hs @ (E.T if kernel is None else kernel) + bias[None, None]


@pytest.mark.parametrize(("hidden", "tied"), [(D, True), (5, True), (5, False)])
def test_values_and_gradients_are_those_of_the_equation(hidden, tied, key, float64):
    model = model_of(hidden, tied=tied)
    params = params_of(model, key)
    assert (params.output.kernel is None, params.projection is None) == (tied, hidden == D or not tied)
    weights = jax.random.normal(key, (T, B, V), jnp.float64)

    @jax.jit
    def both(params):
        ours = jax.value_and_grad(lambda p: (weights * model.apply(p, TOKENS)[1]).sum())
        theirs = jax.value_and_grad(lambda p: (weights * by_the_equation(hidden, p, TOKENS)).sum())
        return ours(params), theirs(params)

    ours, theirs = both(params)
    assert_trees_close(ours, theirs)
    assert all((leaf != 0).any() for leaf in jax.tree.leaves(ours[1]))


def test_steps_agree_with_sequences(key, float64):
    model = model_of(5)
    params = params_of(model, key)
    carry = model.initial_carry(params, (B,))
    resets = np.array([[False, True], [True, False], [False, False], [False, True]])
    applied = jax.jit(model.apply)(params, TOKENS, carry, resets=resets)
    assert_trees_close(stepwise(model, params, jnp.array(TOKENS), carry, resets), applied)


def test_padding_is_as_if_it_were_not_there(key, float64):
    model, lengths = model_of(5), np.array([4, 2])
    params = params_of(model, key)
    apply = jax.jit(model.apply)
    carry, logits = apply(params, np.where(np.arange(T)[:, None] < lengths, TOKENS, 99), lengths=lengths)
    assert not logits[2:, 1].any()
    half_carry, half = apply(params, TOKENS[:2])
    assert_trees_close(logits[:2], half, 1e-12)
    assert_trees_close(carry[2][1], half_carry[2][1], 1e-12)


def test_dropout_needs_a_key(key, float64):
    model = model_of(D, dropout=0.5)
    params, apply = params_of(model, key), jax.jit(model.apply)
    (_, without), (_, other) = apply(params, TOKENS), apply(params, TOKENS, key=key)
    assert_trees_close(without, jax.jit(model_of(D).apply)(params, TOKENS)[1], 0.0)
    assert (without != other).any()


def test_tied_logits_begin_as_large_as_the_hidden_state(key):
    model = language_model(2000, 64, jaxrnn.dense(64, 64))
    table = model.init(key).embedding.table
    assert 0.9 < float((table @ jnp.ones(64)).std()) < 1.1


def test_a_layer_that_reads_ahead_leaves_it_without_a_step():
    both = jaxrnn.stacked(jaxrnn.gru, D, 2, bidirectional=True)
    assert language_model(V, D, both).step is None


def test_beam_search_over_a_prompt(key, float64):
    """The score of what is found is the model's own ln P of it."""
    model = model_of(5)
    params = params_of(model, key)

    @jax.jit
    def search(params):
        carry, _ = model.apply(params, TOKENS[:-1])
        step = functools.partial(step_of(model), params)
        found = jaxrnn.decoding.beam_search(step, carry, TOKENS[-1], beams=2, length=3, end_token=0)
        read = jnp.concatenate([TOKENS, found.tokens[:-1, :, 0]])
        return found, jax.nn.log_softmax(model.apply(params, read)[1][T - 1 :])

    found, log_probabilities = search(params)
    chosen = np.take_along_axis(np.asarray(log_probabilities), np.asarray(found.tokens)[:, :, :1], axis=-1)[..., 0]
    counted = np.arange(3)[:, None] < np.asarray(found.lengths)[:, 0]
    np.testing.assert_allclose((chosen * counted).sum(axis=0), found.scores[:, 0], atol=1e-12)
