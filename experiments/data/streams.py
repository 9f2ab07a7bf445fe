"""Long sequences as batches of streams, read side by side: what truncated BPTT and an evaluation run over."""

from typing import NamedTuple

import numpy as np


class Windows(NamedTuple):
    """All windows of one pass: ``inputs``, ``targets`` and ``mask``, each ``[N, W, B]``."""

    inputs: np.ndarray
    targets: np.ndarray
    mask: np.ndarray


def windows_per_epoch(count: int, batch: int, window: int) -> int:
    """Return how many whole windows there are in each of ``batch`` streams of ``count`` tokens in all."""
    return (count - 1) // (batch * window)


def training_streams(tokens: np.ndarray, epoch: int, batch: int, window: int, seed: int) -> np.ndarray:
    """Return ``tokens [N]`` as streams ``[T + 1, B]`` for an epoch, T a multiple of ``window``.

    Each stream continues where the one before it ends, and the last token of a stream is only a target.
    What does not fill a window in all streams, fewer than ``batch * window`` tokens, is left out at both
    ends; each epoch draws anew how much at which, so windows begin at other places than before.

    Example:
        >>> training_streams(np.arange(13), epoch=0, batch=2, window=3, seed=0).T.tolist()
        [[0, 1, 2, 3, 4, 5, 6], [6, 7, 8, 9, 10, 11, 12]]
    """
    length = windows_per_epoch(len(tokens), batch, window) * window
    spare = len(tokens) - 1 - batch * length
    begin = int(np.random.default_rng((seed, epoch)).integers(spare + 1))
    return tokens[begin + np.arange(length + 1)[:, None] + length * np.arange(batch)[None, :]]


def evaluation_windows(tokens: np.ndarray, first: int, batch: int, window: int) -> Windows:
    """Return all of ``tokens [N]`` as targets once, in ``batch`` streams; ``first`` is the input of the first.

    Only the ends of streams are padded, and the mask says where.

    Example:
        >>> inputs, targets, mask = evaluation_windows(np.array([5, 6, 7, 8, 9]), first=0, batch=2, window=2)
        >>> targets[mask].tolist(), inputs[mask].tolist(), targets.shape
        ([5, 8, 6, 9, 7], [0, 7, 5, 8, 6], (2, 2, 2))
    """
    stream = -(-len(tokens) // batch)
    padded = -(-stream // window) * window
    places = np.arange(batch)[:, None] * stream + np.arange(padded)[None, :]
    mask = (np.arange(padded)[None, :] < stream) & (places < len(tokens))
    places = np.minimum(places, len(tokens) - 1)
    before = np.concatenate([np.asarray([first], tokens.dtype), tokens[:-1]])

    def cut(streams: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(streams.reshape(batch, -1, window).transpose(1, 2, 0))

    return Windows(cut(before[places]), cut(tokens[places]), cut(mask))
