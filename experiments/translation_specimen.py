"""What a translator shows of itself: see `experiments.specimens`."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from experiments.data.lengths import pad
from experiments.data.translation import Pairs
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
from experiments.translator import attention, by_search, late, tokens_of
from jaxrnn.models import EncoderDecoder

SHOWN, ASKED = 3, 2  # sentences whose translation is looked into, and words of each


def specimen_of(
    name: str,
    cell: Callable[[int], jaxrnn.Cell],
    model: EncoderDecoder,
    reader: EncoderDecoder,
    params: Any,
    pairs: Pairs,
    words: Sequence[Words],
    steps: int,
) -> Specimen:
    """Return what an encoder of embedding → dropout → bidirectional layers shows on sentences, and what is attended to.

    Args:
        name: the model and its data.
        cell: from a number of input features to the cell of the encoder in one direction.
        model, params: of the whole translator.
        reader: the translator without the embedding of its source.
        pairs: sentences and their translations, of which only the sentences are looked at.
        words: the vocabularies of both.
        steps: words to read, about.
    """
    sentences = [tokenise(source) for source in pairs.sources]
    count = enough_of([*map(len, sentences)], steps)
    sentences = sentences[:count]
    lengths = np.array([*map(len, sentences)])
    tokens, _ = pad(words[0].encode(pairs.sources[:count]), int(lengths.max()))
    embedding, _, layers, *_ = params.encoder
    units = both_ways(cell, layers, look_up(embedding.table, tokens), lengths)
    before = np.concatenate([np.arange(length) for length in lengths])
    features = {"words read": before, "words still to come": np.repeat(lengths, lengths) - before - 1}
    state, starts = f"layer {len(layers)} forward h", starts_of(lengths.tolist())
    reading = Reading(laid_side_by_side(sentences), units, features, state, starts)

    after = params._replace(encoder=params.encoder[1:])
    written, maps, questions = written_by(model, params, pairs.sources[:SHOWN], words), [], []
    every = tokens_of(written, *words)
    pieces = zip(*written, *every, attention(model, params, every), strict=True)
    for source, target, read, wrote, weights in pieces:
        shown = [*tokenise(target), "·"]
        maps.append(Attention(target, shown, tokenise(source), weights))
        questions += questions_of(reader, after, embedding.table, tokenise(source), shown, read, wrote)
    return Specimen(name, reading, questions, maps)


def written_by(model: EncoderDecoder, params: Any, sources: list[str], words: Sequence[Words]) -> Pairs:
    """Return sentences and what the model makes of them, by the greedy choice."""
    found = by_search(model, words[1], 0.0, rows=len(sources))(params, words[0].encode(sources))
    return Pairs(sources, [first.text for first, *_ in found])


def questions_of(
    reader: EncoderDecoder,
    params: Any,
    table: jax.Array,
    symbols: Sequence[str],
    shown: Sequence[str],
    read: np.ndarray,
    wrote: np.ndarray,
) -> list[Question]:
    """Return why the words were written that depend on the source most, where those before them stand already.

    Args:
        reader, params: of the translator but for ``table``, the embedding of the source.
        symbols, shown: the words of the source and of the translation. read, wrote: their tokens.
    """
    inputs, unknown = (look_up(table, tokens) for tokens in (read, UNK))

    def log_odds(params: Any, inputs: jax.Array) -> jax.Array:
        logits = reader.apply(params, inputs, late(wrote))
        rows = np.arange(len(wrote))
        return logits[rows, wrote] - jax.nn.logsumexp(logits.at[rows, wrote].set(-np.inf), axis=-1)

    def score(params: Any, inputs: jax.Array) -> jax.Array:
        of_model, place = params
        return log_odds(of_model, inputs)[place]

    of_all = jax.jit(log_odds)
    gains = of_all(params, inputs) - of_all(params, jnp.broadcast_to(unknown, inputs.shape))
    # Only words: a full stop, or the end, follows from what has been written.
    gains = np.where([word.isalpha() for word in shown], gains, -np.inf)
    return [
        Question(
            f"log-odds of “{shown[place]}” in “{' '.join(shown[:-1])}”",
            [word + " " for word in symbols],
            inputs,
            unknown,
            score,
            (params, place),
        )
        for place in sorted(np.argsort(-gains)[:ASKED].tolist())
    ]
