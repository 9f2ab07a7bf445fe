"""Truncated backpropagation through time over documents that no memory holds, read as they are needed.

Parallel streams read from one iterator of documents: each takes the next one when its own has ended. A
step that begins a document is a reset, so that no carry and no gradient passes from one to another::

    documents     aaaaa  bb  ccc  dddd        two streams, k1 = 3
    stream 0      [a a a] [a a d] [d d d]     resets at the first a and d
    stream 1      [b b c] [c c -] [- - -]     resets at the first b and c; - masked

Only the windows' own steps and one part of a document per stream are in memory at a time.

Source: Williams and Peng, "An Efficient Gradient-Based Algorithm for On-Line Training of Recurrent
Network Trajectories" (1990); the windows are those of `jaxrnn.training.truncated`.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from jaxrnn import checks
from jaxrnn.training.truncated import Window, check_sizes


class Steps(NamedTuple):
    """Consecutive steps of a stream: ``xs [N, ...]``, ``targets [N, ...]`` and bool ``begins``, ``valid [N]``."""

    xs: np.ndarray
    targets: np.ndarray
    begins: np.ndarray
    valid: np.ndarray


def stream_windows(documents: Iterable[Any], streams: int, k1: int, k2: int | None = None) -> Iterator[Window]:
    """Return the windows of ``documents``, one after another, until there is no step left.

    Every step of every document is new in exactly one window, in order, and its document's first step is
    a reset. All windows have the same shapes; a stream that has no more documents is masked. Streams that are
    divided among devices therefore need a loss with a weight: see the second example of `truncated_loss`.

    Args:
        documents: each a pair ``(xs [N, ...], targets [N, ...])``, or an array of tokens ``[N + 1]`` of
            which each is the target of the one before. One that is itself too long for memory: an
            iterator of its consecutive parts, pairs or tokens, that can be read beside other documents.
        streams: B, how many are read side by side.
        k1: steps between updates.
        k2: steps back-propagated, k2 ≥ k1; None for k1. See `windows`.

    Returns:
        An iterator of `Window`, for `truncated_loss` with the same k1 and k2; ``xs [k2, B, ...]``. The axes
        of its streams, as ``batch_axis`` of `train_step`: ``Window(xs=1, targets=1, mask=1, resets=1, start=0)``.

    Raises:
        ValueError: sizes below 1, k2 < k1; a document of other shapes or dtypes than the first.
        TypeError: documents that are no iterable, sizes that are no ints.

    Source: see the module.

    Example:
        >>> import numpy as np
        >>> from jaxrnn.training import stream_windows
        >>> first, second = stream_windows(map(np.arange, (4, 3, 4)), 2, 3)
        >>> first.xs.T.tolist(), first.targets.T.tolist()
        ([[0, 1, 2], [0, 1, 0]], [[1, 2, 3], [1, 2, 1]])
        >>> second.xs.T[1].tolist(), second.mask.T[1].tolist(), first.resets.T[1].tolist()
        ([1, 2, 0], [True, True, False], [True, False, True])
    """
    checks.size("streams", streams)
    k1, k2 = check_sizes(k1, k2)
    if not isinstance(documents, Iterable):
        raise TypeError(f"documents: expected an iterable of documents, got {type(documents).__name__}")
    return _windows(iter(documents), streams, k1, k2)


def stream_batches(
    documents: Callable[[int], Iterable[Any]], streams: int, k1: int, k2: int | None = None
) -> Callable[[int], Window]:
    """Return ``batches(n)``, window n of one pass over the documents after another, as `fit` takes it.

    It reads on from the window before, so that training reads the documents once. For any other n, as
    the first one of a run that is resumed, it reads them from the beginning up to there: ``batches(n)``
    depends on n alone. Reading is all that this costs, and the memory stays that of one window.

    Args:
        documents: ``documents(p)`` is an iterable of the documents of pass p = 0, 1, 2, …, the same at every
            call: shuffle by a generator that is seeded with p. It may be without end.
        streams, k1, k2: as in `stream_windows`.

    Raises:
        ValueError: sizes below 1, k2 < k1; at a call, a negative n, a pass of no steps.
        TypeError: ``documents`` that is no function, sizes that are no ints.

    Source: see the module.

    Example:
        >>> import numpy as np
        >>> from jaxrnn.training import stream_batches
        >>> batches = stream_batches(lambda p: map(np.arange, (4, 3, 4)), 2, 3)
        >>> [batches(n).start.tolist() for n in range(4)]
        [[True, True], [False, False], [True, True], [False, False]]
    """
    checks.functions(documents=documents)
    checks.size("streams", streams)
    check_sizes(k1, k2)

    def passes() -> Iterator[Window]:
        index = 0
        while True:
            empty = True
            for window in stream_windows(documents(index), streams, k1, k2):
                empty = False
                yield window
            if empty:
                raise ValueError(f"documents: expected at least one step in a pass, got none in pass {index}")
            index += 1

    source, following = passes(), 0

    def batches(n: int) -> Window:
        nonlocal source, following
        if checks.size("n", n, least=0) < following:
            source, following = passes(), 0
        for _ in range(n - following):
            next(source)
        window = next(source)
        following = n + 1
        return window

    return batches


def _windows(documents: Iterator[Any], streams: int, k1: int, k2: int) -> Iterator[Window]:
    readers = [_chunks(_parts(documents), k1) for _ in range(streams)]
    example, seen = None, []
    for stop in itertools.count(k1, k1):
        chunks = [next(reader) for reader in readers]
        for part in itertools.chain(*chunks):
            example = _check(part, part if example is None else example)
        if example is None or not any(chunks):
            return
        nothing = _map(lambda x: np.zeros((k2, *x.shape[1:]), x.dtype), example)
        new = [_map(lambda *xs: np.concatenate(xs)[:k1], *parts, nothing) for parts in chunks]
        before = seen or [nothing] * streams
        seen = [_map(lambda *xs: np.concatenate(xs)[-k2:], *steps) for steps in zip(before, new, strict=True)]
        xs, _, begins, valid = _map(lambda *xs: np.stack(xs, axis=1), *seen)
        targets = np.stack([steps.targets for steps in new], axis=1)
        yield Window(xs, targets, valid, begins, start=np.full(streams, stop <= k2))


def _chunks(parts: Iterator[Steps], length: int) -> Iterator[list[Steps]]:
    """Yield the steps of ``parts`` in lists of ``length`` steps, of fewer and then of none at the end."""
    rest = None
    while True:
        chunk, missing = [], length
        while missing and (part := rest or next(parts, None)) is not None:
            chunk.append(_rows(part, slice(None, missing)))
            rest = _rows(part, slice(missing, None)) if len(part.xs) > missing else None
            missing -= len(chunk[-1].xs)
        yield chunk


def _parts(documents: Iterator[Any]) -> Iterator[Steps]:
    """Yield the steps of one document after another, in parts of one step at least."""
    for document in documents:
        begun, last = False, None
        for part in document if isinstance(document, Iterator) else (document,):
            if isinstance(part, tuple):
                xs, targets = _pair(part)
            else:
                tokens = np.asarray(part) if last is None else np.concatenate([last, part])
                xs, targets = _pair((tokens[:-1], tokens[1:]) if tokens.ndim else (tokens, tokens))
                last = tokens[-1:]
            if len(xs):
                begins = np.zeros(len(xs), bool)
                begins[0] = not begun
                begun = True
                yield Steps(xs, targets, begins, np.ones(len(xs), bool))


def _pair(part: tuple[Any, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return xs and targets of as many steps, or raise."""
    arrays = [np.asarray(x) for x in part]
    if len(arrays) != 2 or any(x.ndim == 0 for x in arrays) or len(arrays[0]) != len(arrays[1]):
        shapes = ", ".join(str(x.shape) for x in arrays)
        raise ValueError(f"documents: expected (xs [N, ...], targets [N, ...]) or tokens [N], got shapes {shapes}")
    return arrays[0], arrays[1]


def _check(part: Steps, example: Steps) -> Steps:
    """Return ``example`` if ``part`` has its dtypes and shapes but for the number of steps, else raise."""
    for name, x, first in zip(("xs", "targets"), part, example, strict=False):
        if x.shape[1:] != first.shape[1:] or x.dtype != first.dtype:
            expected = f"{first.dtype} [N, {', '.join(map(str, first.shape[1:]))}], as in the first document"
            raise ValueError(f"documents: expected {name} of {expected}, got {x.dtype} {x.shape}")
    return example


def _rows(steps: Steps, rows: slice) -> Steps:
    return _map(lambda x: x[rows], steps)


def _map(function: Callable[..., np.ndarray], *steps: Steps) -> Steps:
    return Steps(*map(function, *steps))
