"""What a translator shows of itself: see `experiments.specimens`."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import jaxrnn
from experiments.data.lengths import pad
from experiments.data.translation import Pairs
from experiments.data.words import Words, tokenise
from experiments.specimens import Attention, Reading, Specimen, both_ways, enough_of, laid_side_by_side
from experiments.translator import attention, tokens_of
from jaxrnn.models import EncoderDecoder

SHOWN = 3


def specimen_of(
    name: str,
    cell: Callable[[int], jaxrnn.Cell],
    model: EncoderDecoder,
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
        pairs: sentences and their translations.
        words: the vocabularies of both.
        steps: words to read, about.
    """
    sentences = [tokenise(source) for source in pairs.sources]
    count = enough_of([*map(len, sentences)], steps)
    sentences = sentences[:count]
    lengths = np.array([*map(len, sentences)])
    tokens, _ = pad(words[0].encode(pairs.sources[:count]), int(lengths.max()))
    embedding, _, layers, *_ = params.encoder
    units = both_ways(cell, layers, embedding.table[tokens], lengths)
    before = np.concatenate([np.arange(length) for length in lengths])
    features = {"words read": before, "words still to come": np.repeat(lengths, lengths) - before - 1}
    reading = Reading(laid_side_by_side(sentences), units, features, f"layer {len(layers)} forward h")
    shown = Pairs(pairs.sources[:SHOWN], pairs.targets[:SHOWN])
    maps = [
        Attention(target, [*tokenise(target), "·"], tokenise(source), weights)
        for source, target, weights in zip(*shown, attention(model, params, tokens_of(shown, *words)), strict=True)
    ]
    return Specimen(name, reading, attention=maps)
