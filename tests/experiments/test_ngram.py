import math
from collections import Counter, defaultdict

import numpy as np
import pytest

from experiments.ngram import lzma_loss, witten_bell


def probability(train: list[int], context: list[int], token: int, vocabulary: int) -> float:
    """Witten-Bell as it is defined, by counting again for every question."""
    followers: dict[tuple[int, ...], Counter] = defaultdict(Counter)
    for end in range(len(context), len(train)):
        followers[tuple(train[end - len(context) : end])][train[end]] += 1
    seen = followers[tuple(context)]
    shorter = probability(train, context[1:], token, vocabulary) if context else 1 / vocabulary
    total, different = sum(seen.values()), len(seen)
    return (seen[token] + different * shorter) / (total + different) if total else shorter


@pytest.mark.parametrize(("vocabulary", "scale"), [(5, 1), (7, 1), (10**6, 137_777)])
def test_it_agrees_with_the_definition(vocabulary: int, scale: int):
    # A vocabulary of a million makes contexts of four tokens too many for 64 bits.
    rng = np.random.default_rng(0)
    train, valid = ((scale * rng.integers(0, 5, count) ** 2 // 4) for count in (60, 25))
    losses = witten_bell(train, valid, vocabulary, 5)
    for order, loss in enumerate(losses, 1):
        expected = [
            -math.log(
                probability(train.tolist(), valid[max(0, end - order + 1) : end].tolist(), int(token), vocabulary)
            )
            for end, token in enumerate(valid)
        ]
        assert loss == pytest.approx(np.mean(expected), abs=1e-12)


@pytest.mark.parametrize("context", [[0, 1, 2], [2, 2, 2], [1], []])
def test_probabilities_sum_to_one(context: list[int]):
    train = np.random.default_rng(1).integers(0, 3, 40)  # token 3 never occurs

    def total(valid: list[int]) -> float:
        return len(valid) * witten_bell(train, np.array(valid), 4, 4)[-1] if valid else 0.0

    probabilities = [math.exp(total(context) - total([*context, token])) for token in range(4)]
    assert sum(probabilities) == pytest.approx(1)
    assert min(probabilities) > 0


def test_longer_contexts_help_where_there_is_something_to_know():
    losses = witten_bell(np.tile([0, 0, 1, 1], 500), np.tile([0, 0, 1, 1], 50), 2, 3)
    assert losses[0] == pytest.approx(math.log(2), abs=1e-3)
    assert losses[1] == pytest.approx(math.log(2), abs=1e-2)
    assert losses[2] < 0.02


def test_lzma_counts_what_the_validation_text_adds():
    letters = np.random.default_rng(2).integers(0, 16, 40_000)
    train, other = ("".join(map(chr, 97 + part)) for part in (letters[:20_000], letters[20_000:]))
    assert lzma_loss(train, train) < 0.05
    assert lzma_loss(train, other) == pytest.approx(math.log(16), rel=0.1)
