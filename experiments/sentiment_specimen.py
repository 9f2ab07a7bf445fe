"""What a classifier of sentences shows of itself: see `experiments.specimens`."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

import jaxrnn
from experiments.data.lengths import pad
from experiments.data.words import UNK, Words, tokenise
from experiments.specimens import (
    Attention,
    Question,
    Reading,
    Specimen,
    both_ways,
    enough_of,
    laid_side_by_side,
    look_up,
    starts_of,
)
from experiments.text_features import clauses
from jaxrnn.models import Classifier

QUESTIONS = 4


def specimen_of(
    words: str,
    cell: Callable[[int], jaxrnn.Cell],
    reader: Classifier,
    params: Any,
    vocabulary: Words,
    texts: Sequence[str],
    steps: int,
) -> Specimen:
    """Return what embedding → layers in one direction or both → pooling → dense shows on sentences.

    Args:
        words: the model and its data.
        cell: from a number of input features to the cell of a layer in one direction.
        reader: the model without its embedding. params: of the whole model.
        vocabulary: of the words.
        texts: the sentences.
        steps: words to read, about.
    """
    table = params.encoder[0].table
    after = params._replace(encoder=params.encoder[1:])
    sentences = [tokenise(text) for text in texts]
    lengths = np.array([len(sentence) for sentence in sentences])
    count = enough_of(lengths.tolist(), steps)
    sentences, lengths = sentences[:count], lengths[:count]
    tokens, _ = pad(vocabulary.encode(texts[:count]), int(lengths.max()))
    units = both_ways(cell, params.encoder[2], look_up(table, tokens), lengths)
    of_each = [clauses(one) for one in sentences]
    features = {name: np.concatenate([one[name] for one in of_each]) for name in of_each[0]}
    state = f"layer {len(params.encoder[2])} forward h"
    reading = Reading(laid_side_by_side(sentences), units, features, state, starts_of(lengths.tolist()))

    def praise(params: Any, inputs: jax.Array) -> jax.Array:
        logits = reader.apply(params, inputs)
        return logits[1] - logits[0]

    questions, attention = [], []
    for place in asked(sentences):
        inputs = look_up(table, tokens[: lengths[place], place])
        shown = [word + " " for word in sentences[place]]
        questions.append(Question("log-odds of praise", shown, inputs, look_up(table, UNK), praise, after))
        if reader.weights is not None:
            weights = np.asarray(jax.jit(reader.weights)(after, inputs))[None]
            attention.append(Attention(" ".join(sentences[place]), [""], sentences[place], weights))
    return Specimen(words, reading, questions, attention)


def asked(sentences: Sequence[Sequence[str]]) -> list[int]:
    """Return the places of the first sentences with a turn, and with as many words as fit a line."""
    turns = {"not", "n't", "never", "hardly", "but", "although"}
    fitting = [place for place, words in enumerate(sentences) if turns & set(words) and 5 <= len(words) <= 18]
    return (fitting or [0])[:QUESTIONS]
