"""Sequences of different lengths in batches of like ones, so that little of a batch is padding.

Lengths are padded up to a multiple. An epoch's order is drawn, then sorted by padded length, longest
first, those of one padded length staying as they were drawn; neighbours are a batch, and the order of the
batches is drawn too. Where the batches are cut depends on the sorted padded lengths alone, so every epoch
has the same number of batches and the same few shapes, and a compiled step is compiled for each of them
once. What is drawn follows from the seed and the epoch: a step's batch is the same in a run that was
interrupted.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from experiments.runs import InputError


class Batch(NamedTuple):
    """``places`` of the sequences, ``[B]``, and the length that they are padded to, one for each column of lengths."""

    places: np.ndarray
    padded: tuple[int, ...]


class Batching(NamedTuple):
    """The batches of all epochs.

    batch: the function from a step, 0 being the first, to its `Batch`.
    per_epoch: how many batches an epoch has.
    shapes: the different ``(B, *padded)`` of all batches, longest first.
    padding_share: the share of tokens in an epoch's batches that are padding, in the first epoch.
    """

    batch: Callable[[int], Batch]
    per_epoch: int
    shapes: tuple[tuple[int, ...], ...]
    padding_share: float


def batching(
    lengths: Sequence[int] | np.ndarray,
    *,
    batch: int | None = None,
    tokens: int | None = None,
    multiple: int = 8,
    seed: int = 0,
    whole: bool = False,
) -> Batching:
    """Return batches of like lengths, of ``batch`` sequences each or of ``tokens`` with padding at most.

    Args:
        lengths: ``[N]``, or ``[N, K]`` for examples of K sequences each, as a source and its translation.
        batch: sequences in a batch.
        tokens: B · T at most, T being the longest of the batch's padded lengths. Give one of both.
        multiple: what lengths are padded to a multiple of.
        seed: of all that is drawn.
        whole: whether the last batch of an epoch is kept, which may be smaller, as for an evaluation. If
            not, fewer sequences than a batch has, of the shortest ones, are left out; each epoch others.

    Raises:
        InputError: fewer sequences than one batch has, or a longer one than ``tokens``.
        ValueError: both of ``batch`` and ``tokens``, or none.

    Example:
        >>> plan = batching([3, 9, 2, 8, 11, 1], batch=2, multiple=4)
        >>> [(place.tolist(), padded) for place, padded in map(plan.batch, range(plan.per_epoch))]
        [([1, 4], (12,)), ([3, 0], (8,)), ([5, 2], (4,))]
        >>> plan.shapes, round(plan.padding_share, 3)
        (((2, 12), (2, 8), (2, 4)), 0.292)
    """
    if (batch is None) == (tokens is None):
        raise ValueError(f"batch, tokens: expected one of both, got {batch} and {tokens}")
    columns = np.asarray(lengths, np.int64).reshape(len(lengths), -1)
    padded = np.maximum(-(-columns // multiple), 1) * multiple
    longest = padded.max(1)
    keys = (*padded.T[::-1], longest)  # of lexsort, the last counts most
    in_order = padded[np.lexsort(keys)[::-1]]
    cuts = [0]
    while cuts[-1] < len(in_order):
        size = batch if tokens is None else tokens // int(in_order[cuts[-1]].max())
        if not size:
            raise InputError(
                f"a sequence has {longest.max():,} tokens with padding, more than the {tokens:,} of a batch"
            )
        if cuts[-1] + size > len(in_order) and not whole:
            break
        cuts.append(min(cuts[-1] + size, len(in_order)))
    count = len(cuts) - 1
    if not count:
        raise InputError(f"{len(in_order):,} sequences are fewer than one batch of {batch or tokens:,} has")
    parts = [slice(*ends) for ends in itertools.pairwise(cuts)]
    shapes = [tuple(in_order[part].max(0).tolist()) for part in parts]

    @functools.lru_cache(maxsize=2)
    def epoch(number: int) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng((seed, number))
        drawn = random.permutation(len(in_order))
        return drawn[np.lexsort([key[drawn] for key in keys])[::-1]], random.permutation(count)

    def batch_of(step: int) -> Batch:
        number, place = divmod(step, count)
        places, order = epoch(number)
        return Batch(places[parts[order[place]]], shapes[order[place]])

    rows = [part.stop - part.start for part in parts]
    all_tokens = sum(size * sum(shape) for size, shape in zip(rows, shapes, strict=True))
    share = 1 - columns[epoch(0)[0][: cuts[-1]]].sum() / all_tokens
    different = dict.fromkeys((size, *shape) for size, shape in zip(rows, shapes, strict=True))
    return Batching(batch_of, count, tuple(different), float(share))


def pad(sequences: Sequence[np.ndarray], length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ``tokens [T, B]``, T = ``length``, 0 after the end of each sequence, and their lengths ``[B]``; int32.

    Example:
        >>> tokens, lengths = pad([np.array([5, 6]), np.array([7])], 3)
        >>> tokens.T.tolist(), lengths.tolist()
        ([[5, 6, 0], [7, 0, 0]], [2, 1])
    """
    lengths = np.array([len(sequence) for sequence in sequences], np.int32)
    tokens = np.zeros((length, len(sequences)), np.int32)
    for place, sequence in enumerate(sequences):
        tokens[: len(sequence), place] = sequence
    return tokens, lengths
