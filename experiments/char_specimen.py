"""What a character model shows of itself on a text: see `experiments.specimens`."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from experiments.data.text import Vocabulary
from experiments.specimens import Question, Reading, Specimen, look_up, one_way
from experiments.text_features import Features

CLOSERS, CONTEXT, QUESTIONS = ")'\"]:", 80, 3


def specimen_of(
    words: str,
    cells: Sequence[jaxrnn.Cell],
    params: Any,
    vocabulary: Vocabulary,
    text: str,
    features: Callable[[str], Features],
) -> Specimen:
    """Return what embedding → (cell → dropout) × layers → dense shows on ``text``.

    Args:
        words: the model and its data.
        cells, params: of the whole model; dropout has no parameters, and is not at work here.
        vocabulary: of the characters.
        text: to read, from the initial carry on.
        features: what can be named of its characters.
    """
    embedding, *inner, head = params
    tokens, layers = vocabulary.encode(text), inner[::2]
    units = one_way(cells, layers, look_up(embedding.table, tokens))
    reading = Reading(text, units, features(text), f"layer {len(cells)} h")
    logits = units[reading.state] @ head.kernel + head.bias[None]
    reader = jaxrnn.serial(*map(jaxrnn.recurrent, cells), jaxrnn.dense(*head.kernel.shape))
    places = places_asked(text, log_likelihoods(logits, tokens))
    return Specimen(words, reading, questions_of(reader, (*layers, head), embedding.table, tokens, text, places))


def log_likelihoods(logits: jax.Array | np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Return ln P of each next token, ``[T - 1]``, of ``logits [T, V]`` and ``tokens [T]``."""
    log_probabilities = np.asarray(jax.nn.log_softmax(logits[:-1]))
    return np.take_along_axis(log_probabilities, tokens[1:, None], axis=1)[:, 0]


def questions_of(
    reader: jaxrnn.Layer, params: Any, table: jax.Array, tokens: np.ndarray, text: str, places: Sequence[int]
) -> list[Question]:
    """Return what makes the character likely that follows each of the places.

    Args:
        reader, params: from characters, each a row of ``table``, to logits of the next.
        table: of the embedding.
        tokens, text: what is read, of which the reader sees the last `CONTEXT`.
        places: of the last character read.
    """
    # The average character of the text says nothing of the one that comes next.
    baseline = jax.device_put(np.asarray(table)[tokens].mean(axis=0))

    def question(place: int) -> Question:
        read, target = context(place), int(tokens[place + 1])

        def score(params: Any, inputs: jax.Array) -> jax.Array:
            logits = reader.apply(params, inputs)[1][-1]
            return logits[target] - jax.nn.logsumexp(logits.at[target].set(-jnp.inf))

        what = f"log-odds of {text[place + 1]!r} next"
        return Question(what, text[read], look_up(table, tokens[read]), baseline, score, params)

    return [question(place) for place in places]


def context(place: int) -> slice:
    """Return the characters that a question reads: up to the one at ``place``, `CONTEXT` of them if there are as many.

    Example:
        >>> context(200), context(30)
        (slice(121, 201, None), slice(0, 31, None))
    """
    return slice(max(0, place + 1 - CONTEXT), place + 1)


def places_asked(text: str, log_probabilities: np.ndarray) -> list[int]:
    """Return where to ask what the next character depends on.

    Of the places before each character that closes something, after a while without any of them, it is the one
    where that character is likeliest; ``log_probabilities [T - 1]`` are those of each next character.
    """
    free = 0
    best: dict[str, int] = {}
    for place, (character, after) in enumerate(itertools.pairwise(text)):
        free = 0 if character in CLOSERS else free + 1
        likelier = after not in best or log_probabilities[place] > log_probabilities[best[after]]
        if after in CLOSERS and free >= 12 and place >= CONTEXT and likelier:
            best[after] = place
    likeliest = sorted(best.values(), key=lambda place: -log_probabilities[place])
    return likeliest[:QUESTIONS] or [len(text) - 2]
