"""Timing and checking: everyone in one process, in turn, and equal before anyone is timed."""

import random
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.errors import MismatchError

# Seconds of a wait, and how many of them before a call, at most. Linux books the work of a thread on
# another core at its ticks, as a rule every 4 ms: in a shorter wait it would not be seen.
REST, RESTS = 0.005, 10


class Timing(NamedTuple):
    """Seconds of one call: the median over the rounds and the interquartile range."""

    median: float
    spread: float
    rounds: int


def interleave(
    calls: Sequence[Callable[[], Any]],
    *,
    rounds: int,
    seconds: float,
    least: int = 1,
    warmup: int = 3,
    clock: Callable[[], float] = time.perf_counter,
    rest: Callable[[float], None] = time.sleep,
) -> list[Timing]:
    """Time ``calls`` in turn: in every round each has its turn once, in an order drawn anew.

    So whatever else the machine does meets all alike, and nobody always follows the same neighbour. A turn is
    two calls, of which the second is timed: as in a loop that trains, where a call follows one of its own.

    Args:
        calls: what to time. A call returns when its work is done.
        rounds, seconds: the rounds end at whichever comes first.
        least: rounds that there are however long they take, if ``rounds`` are no fewer.
        warmup: calls of each before the clock starts.
        clock, rest: the time in seconds, and how to wait.
    """
    times: list[list[float]] = [[] for _ in calls]
    order, chance = list(range(len(calls))), random.Random(0)
    for _ in range(warmup):
        for call in calls:
            call()
    start = clock()
    for done in range(1, rounds + 1):
        chance.shuffle(order)
        for index in order:
            settle(rest)
            calls[index]()
            before = clock()
            calls[index]()
            times[index].append(clock() - before)
        if done >= least and clock() - start >= seconds:
            break
    return list(map(summary, times))


def settle(rest: Callable[[float], None] = time.sleep, worked: Callable[[], float] = time.process_time) -> None:
    """Wait until the threads of this process sleep.

    Those of OpenMP, which are torch's, spin for some ten milliseconds after their work is done, and the next
    in turn would have to share the cores with them.

    Args:
        rest, worked: how to wait, and the seconds that all threads have worked so far.
    """
    for _ in range(RESTS):
        before = worked()
        rest(REST)
        if worked() - before < REST / 10:
            break


def summary(samples: list[float]) -> Timing:
    """Return median and interquartile range."""
    lower, median, upper = np.quantile(samples, [0.25, 0.5, 0.75])
    return Timing(float(median), float(upper - lower), len(samples))


def check(name: str, results: Any, expected: Any, tolerance: float) -> float:
    """Return the largest error of ``results`` relative to the largest value of each array of ``expected``.

    Both are trees of NumPy arrays of one structure. None in ``results`` is a weight that a library does
    not have, and is passed over.

    Raises:
        MismatchError: an error above ``tolerance``, another shape, another structure.
    """

    def leaves(tree: Any) -> list[tuple[Any, Any]]:
        return jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda leaf: leaf is None)

    got, wanted = leaves(results), leaves(expected)
    if [path for path, _ in got] != [path for path, _ in wanted]:
        raise MismatchError(f"{name}: results of another structure, {jax.tree.structure(results)}")
    largest = 0.0
    for (path, ours), (_, theirs) in zip(wanted, got, strict=True):
        if ours is None or theirs is None:
            continue
        where = f"{name}: results{jax.tree_util.keystr(path)}"
        if np.shape(ours) != np.shape(theirs):
            raise MismatchError(f"{where} has shape {np.shape(theirs)}, expected {np.shape(ours)}")
        error = float(np.max(np.abs(theirs - ours)) / max(np.max(np.abs(ours)), np.finfo(np.float32).tiny))
        if not error <= tolerance:
            raise MismatchError(f"{where} is off by {error:.1e} of the largest value, at most {tolerance:g} is allowed")
        largest = max(largest, error)
    return largest
