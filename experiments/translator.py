"""From sentences to sentences: tokens in batches, the search for translations, attention, and BLEU."""

import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sacrebleu.metrics.bleu import BLEU

from experiments import runs
from experiments.data.lengths import Batch as Chosen
from experiments.data.lengths import batching, pad
from experiments.data.translation import Pairs
from experiments.data.words import BOS, EOS, PAD, UNK, Words, detokenise
from experiments.training import Hook
from jaxrnn.models import EncoderDecoder

METRIC = BLEU(lowercase=True)  # its tokeniser is 13a
SHOWN = 3  # sentences of which samples and attention are shown
ROWS, MULTIPLE = 128, 12  # of the batches that are searched and evaluated: how many sentences, padded to what


class Tokens(NamedTuple):
    """The tokens of pairs of sentences; a target has ``<eos>`` at its end."""

    sources: list[np.ndarray]
    targets: list[np.ndarray]

    def lengths(self) -> list[int]:
        """Return the length of the longer of each pair."""
        return [max(map(len, pair)) for pair in zip(self.sources, self.targets, strict=True)]


class Batch(NamedTuple):
    """Sources ``[S, B]`` and targets ``[T, B]`` with their lengths ``[B]``."""

    source: Any
    source_lengths: Any
    target: Any
    target_lengths: Any


class Found(NamedTuple):
    """A translation, and its ln P divided by the length penalty."""

    text: str
    score: float


Translate = Callable[..., list[list[Found]]]


def tokens_of(pairs: Pairs, source_words: Words, target_words: Words) -> Tokens:
    """Return the tokens of pairs of sentences."""
    targets = [np.append(target, np.int32(EOS)) for target in target_words.encode(pairs.targets)]
    return Tokens(source_words.encode(pairs.sources), targets)


def laid_out(tokens: Tokens, chosen: Chosen) -> Batch:
    """Return the arrays of the sentences of a batch, sources and targets padded to the same length."""
    sources, targets = ([side[place] for place in chosen.places] for side in tokens)
    return Batch(*pad(sources, *chosen.padded), *pad(targets, *chosen.padded))


def late(target: Any) -> jax.Array:
    """Return what the decoder reads while it writes ``target [T, B]``: ``<bos>``, and all of it but the last."""
    return jnp.concatenate([jnp.full_like(target[:1], BOS), target[:-1]])


def by_search(model: EncoderDecoder, words: Words, length_penalty: float, rows: int = ROWS) -> Translate:
    """Return ``(params, sources, beams=1) -> for each source what the search has found``, the best first.

    One beam is the greedy choice. A translation is at most twice as long as its source with padding. ``rows`` sources
    are searched side by side, whatever their number: the last ones are repeated, which saves compiling.
    """

    @functools.partial(jax.jit, static_argnames="beams")
    def search(params: Any, source: Any, lengths: Any, beams: int) -> Any:
        start = jnp.full(source.shape[1:], BOS, jnp.int32)
        options = {"beams": beams, "length": 2 * source.shape[0], "end_token": EOS, "length_penalty": length_penalty}
        return model.beam_search(_words_only(params), source, start, **options, source_lengths=lengths)

    def translate(params: Any, sources: Sequence[np.ndarray], beams: int = 1) -> list[list[Found]]:
        plan = batching([*map(len, sources)], batch=rows, multiple=MULTIPLE, whole=True)
        found: list[list[Found]] = [[] for _ in sources]
        for places, padded in map(plan.batch, range(plan.per_epoch)):
            side_by_side = [sources[place] for place in np.resize(places, rows)]
            hypotheses = search(params, *pad(side_by_side, *padded), beams)
            tokens, scores = np.asarray(hypotheses.tokens), np.asarray(hypotheses.scores)
            for row, place in enumerate(places):
                texts = [detokenise(words.decode(tokens[:, row, beam])) for beam in range(beams)]
                found[place] = [Found(*pair) for pair in zip(texts, scores[row].tolist(), strict=True)]
        return found

    return translate


def _words_only(params: Any) -> Any:
    """Return parameters of a decoder that never writes ``<pad>``, ``<unk>`` or ``<bos>``."""
    *layers, head = params.decoder
    bias = head.bias.at[jnp.array([PAD, UNK, BOS])].set(-1e9)
    return params._replace(decoder=(*layers, head._replace(bias=bias)))


def attention(model: EncoderDecoder, params: Any, tokens: Tokens) -> list[np.ndarray]:
    """Return the weights ``[T, S]`` of each pair: how much of each source word the decoder sees as it writes."""
    batch = laid_out(tokens, Chosen(np.arange(len(tokens.sources)), (max(tokens.lengths()),)))
    align = jax.jit(model.align)
    weights = np.asarray(align(params, batch.source, late(batch.target), source_lengths=batch.source_lengths))
    pairs = zip(*tokens, strict=True)
    return [weights[: len(target), row, : len(source)] for row, (source, target) in enumerate(pairs)]


def show_samples(translate: Translate, pairs: Pairs, tokens: Tokens) -> Hook:
    """Return the hook that prints the first sentences and their translations."""

    def hook(params: Any, record: dict[str, Any]) -> None:
        for source, found in zip(pairs.sources, translate(params, tokens.sources[:SHOWN]), strict=False):
            print(f"  {source}\n  > {found[0].text}", flush=True)

    return hook


def write_translations(path: pathlib.Path, pairs: Pairs, written: list[str]) -> None:
    """Write every sentence, its reference and its translation."""
    lines = [f"{source}\n  = {target}\n  > {ours}\n" for source, target, ours in zip(*pairs, written, strict=True)]
    runs.write_text(path, "".join(lines))


def bleu(written: Sequence[str], references: Sequence[str]) -> float:
    """Return sacrebleu's BLEU, from 0 to 100, of translations of which each has one reference.

    Example:
        >>> round(bleu(["ein haus am see ."], ["Ein Haus am See."]), 1)
        100.0
    """
    return METRIC.corpus_score(list(written), [list(references)]).score


def exact(written: Sequence[str], references: Sequence[str]) -> float:
    """Return the share of translations that are the reference, but for case."""
    return float(np.mean([ours == theirs.lower() for ours, theirs in zip(written, references, strict=True)]))
