"""What a character model shows of itself on a text: see `experiments.specimens`."""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from experiments.data.text import Vocabulary
from experiments.specimens import Question, Reading, Specimen, in_order
from experiments.text_features import Features
from jaxrnn.analysis import activations

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
    tokens = vocabulary.encode(text)
    xs, units = embedding.table[tokens], {}
    for number, (cell, own) in enumerate(zip(cells, inner[::2], strict=True), 1):
        at = jax.jit(functools.partial(activations, cell))(own, xs)
        units |= {f"layer {number} {name}": np.asarray(at[name]) for name in in_order(at)}
        xs = at["h"]
    log_probabilities = np.asarray(jax.nn.log_softmax(xs[:-1] @ head.kernel + head.bias[None]))
    reading = Reading(text, units, features(text), f"layer {len(cells)} h")
    # The average character of the text says nothing of the one that comes next.
    baseline = embedding.table[tokens].mean(axis=0)
    reader = jaxrnn.serial(*map(jaxrnn.recurrent, cells))

    def question(place: int) -> Question:
        read, target = slice(place - CONTEXT + 1, place + 1), int(tokens[place + 1])

        def score(params: Any, inputs: jax.Array) -> jax.Array:
            of_cells, head = params
            _, hs = reader.apply(of_cells, inputs)
            logits = hs[-1] @ head.kernel + head.bias
            return logits[target] - jax.nn.logsumexp(logits.at[target].set(-jnp.inf))

        what = f"log-odds of {text[place + 1]!r} next"
        return Question(what, text[read], embedding.table[tokens[read]], baseline, score, (tuple(inner[::2]), head))

    places = places_asked(text, np.take_along_axis(log_probabilities, tokens[1:, None], axis=1)[:, 0])
    return Specimen(words, reading, [question(place) for place in places])


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
