"""Beam search against all sequences there are, against lists sorted in Python, and against the greedy choice."""

import functools
import itertools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn.decoding import Hypotheses, beam_search

V, LENGTH, END, ALPHAS = 3, 4, 0, (0.0, 0.7, 3.0)
START = np.array([1, 2])


def tables(seed: int, vocabulary: int = V) -> np.ndarray:
    """Return ln P of the next token, for every two tokens before it."""
    logits = 2 * np.random.default_rng(seed).normal(size=(vocabulary,) * 3)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def search(table: Any, start: Any, **options: Any) -> Hypotheses:
    """Run the search over a table; the token before the last is the carry, so that it must follow its prefix."""

    def step(carry, token):
        return {"before": token}, table[carry["before"], token]

    return beam_search(step, {"before": start}, start, **{"length": LENGTH, "end_token": END, **options})


def run(table: np.ndarray, start: np.ndarray, alpha: float = 0.0, **options: int) -> Hypotheses:
    return jax.tree.map(np.asarray, compiled(**options)(jnp.array(table), jnp.array(start, jnp.int32), alpha))


@functools.cache
def compiled(**options: int) -> Any:
    return jax.jit(lambda table, start, alpha: search(table, start, length_penalty=alpha, **options))


def probability(table: np.ndarray, start: int, tokens: tuple[int, ...]) -> float:
    path = (start, start, *tokens)
    return sum(table[path[i : i + 3]] for i in range(len(tokens)))


def penalty(length: int, alpha: float) -> float:
    return ((5 + length) / (5 + 1)) ** alpha


def every_sequence(length: int) -> list[tuple[int, ...]]:
    others = [token for token in range(V) if token != END]
    ended = [(*rest, END) for m in range(length) for rest in itertools.product(others, repeat=m)]
    return ended + list(itertools.product(others, repeat=length))


def ranked(table: np.ndarray, start: int, sequences: Any, alpha: float) -> list[tuple[float, tuple[int, ...]]]:
    scored = [(probability(table, start, tokens) / penalty(len(tokens), alpha), tokens) for tokens in sequences]
    return sorted(scored, key=lambda pair: -pair[0])


def by_lists(table: np.ndarray, start: int, beams: int, length: int, alpha: float) -> list[tuple[float, Any]]:
    """Return what a beam finds that always goes on to the longest length."""
    prefixes, found = [()], []
    for _ in range(length):
        extended = [(*prefix, token) for prefix in prefixes for token in range(table.shape[0])]
        extended.sort(key=lambda tokens: -probability(table, start, tokens))
        found += [tokens for tokens in extended[:beams] if tokens[-1] == END]
        prefixes = [tokens for tokens in extended if tokens[-1] != END][:beams]
    return ranked(table, start, found + prefixes, alpha)[:beams]


def assert_found(found: Hypotheses, expected: list[tuple[float, Any]]) -> None:
    """Fail unless ``found``, of one sequence, is ``expected`` and nothing after it."""
    for i, (score, tokens) in enumerate(expected):
        np.testing.assert_allclose(found.scores[i], score, atol=1e-12)
        assert found.lengths[i] == len(tokens)
        assert found.tokens[:, i].tolist() == [*tokens, *[END] * (len(found.tokens) - len(tokens))]
    rest = len(expected)
    assert np.isneginf(found.scores[rest:]).all()
    assert not found.lengths[rest:].any()
    assert (found.tokens[:, rest:] == END).all()


def of_row(found: Hypotheses, row: Any) -> Hypotheses:
    return Hypotheses(found.tokens[(slice(None), *row)], found.scores[row], found.lengths[row])


@pytest.mark.parametrize("alpha", ALPHAS)
def test_a_wide_beam_finds_every_sequence_in_order(alpha, float64):
    table = tables(0)
    found = run(table, START, alpha, beams=V**LENGTH)
    for row, start in enumerate(START):
        assert_found(of_row(found, (row,)), ranked(table, start, every_sequence(LENGTH), alpha))


@pytest.mark.parametrize("beams", [2, 3])
def test_stopping_early_loses_nothing(beams, float64):
    """The reference never stops before the longest length."""
    for seed, alpha in itertools.product(range(12), ALPHAS):
        table = tables(seed, 5)
        found = run(table, np.array([[1, 4]]), alpha, beams=beams, length=6)
        for row, start in (((0, 0), 1), ((0, 1), 4)):
            assert_found(of_row(found, row), by_lists(table, start, beams, 6, alpha))


def test_one_beam_is_greedy(float64):
    ended = 0
    for seed in range(20):
        table, before, token, tokens = tables(seed, 5), 2, 2, []
        while len(tokens) < 6 and token != END:
            before, token = token, int(table[before, token].argmax())
            tokens.append(token)
        ended += token == END
        assert_found(run(table, np.array(2), beams=1, length=6), [(probability(table, 2, tuple(tokens)), tokens)])
    assert 0 < ended < 20


def test_a_sequence_does_not_depend_on_those_beside_it(float64):
    table, starts = tables(3, 5), np.array([1, 2, 3, 4])
    together = run(table, starts, 0.7, beams=2, length=6)
    for row, start in enumerate(starts):
        alone = run(table, np.array([start] * 4), 0.7, beams=2, length=6)
        np.testing.assert_array_equal(of_row(together, (row,)).scores, alone.scores[row])
        np.testing.assert_array_equal(of_row(together, (row,)).tokens, alone.tokens[:, row])


def test_a_short_sequence_is_not_displaced_by_prefixes(float64):
    """Its probability is below that of every prefix until the last step, at which these have spread out."""
    table = np.full((5, 5, 5), 0.2)
    table[1, 1] = [0.3, 1e-9, 0.35, 0.35, 1e-9]
    found = run(np.log(table), np.array([[1, 4]]), beams=3, length=6)
    assert found.tokens[:, 0, 0, 0].tolist() == [END] * 6
    np.testing.assert_allclose(np.exp(found.scores[0, 0, 0]), 0.3, rtol=1e-6)


def test_the_loop_ends_when_nothing_can_do_better():
    steps = []
    logits = jnp.array([0.0, -20.0, -20.0])

    def step(carry, token):
        jax.debug.callback(lambda: steps.append(1))
        return carry, jnp.broadcast_to(logits, (*token.shape, 3))

    found = beam_search(step, (), jnp.ones(2, int), beams=2, length=50, end_token=END)
    jax.effects_barrier()
    assert len(steps) == 2
    assert found.lengths.tolist() == [[1, 2], [1, 2]]


def test_there_is_one_loop():
    program = str(jax.make_jaxpr(lambda table: search(table, jnp.array(1), beams=3))(jnp.zeros((V, V, V))))
    assert len(re.findall(r"\b(while|scan)\[", program)) == 1


def test_banned_tokens_are_not_found(float64):
    table = tables(1)
    table[..., 2] = -np.inf
    found = run(table, START, beams=V**LENGTH)
    assert not (found.tokens == 2).any()
    assert (np.isfinite(found.scores).sum(axis=-1) == LENGTH + 1).all()
    assert not np.isnan(found.scores).any()


def test_scores_of_half_precision_logits_are_summed_in_float32():
    table = jnp.zeros((V, V, V), jnp.bfloat16)
    found = jax.eval_shape(lambda table: search(table, jnp.array(1), beams=9), table)
    assert (found.scores.shape, found.scores.dtype) == ((9,), jnp.float32)
    assert (found.tokens.shape, found.tokens.dtype, found.lengths.dtype) == ((LENGTH, 9), jnp.int32, jnp.int32)


def test_a_vocabulary_of_nothing_but_the_end():
    found = run(np.zeros((1, 1, 1), np.float32), np.array(0), beams=2)
    assert found.scores.tolist() == [0.0, -np.inf]
    assert found.lengths.tolist() == [1, 0]
