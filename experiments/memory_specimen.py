"""What a network shows of itself on the problems of long memory: see `experiments.specimens`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from experiments.data.memory import BEGIN, BLANK, COPIED, SYMBOLS
from experiments.specimens import Heads, Question, Reading, Specimen, look_up, starts_of
from experiments.text_features import Features

ADDED = 3  # sums that are asked about
RECALLED = (0, COPIED // 2, COPIED - 1)  # places of the symbols that are asked about
NOTHING = 0.5  # a number that says nothing: the mean of all


def adding_specimen(
    words: str, reader: jaxrnn.Layer, params: Any, units: dict[str, np.ndarray], state: str, xs: jax.Array
) -> Specimen:
    """Return what a network shows on the adding problem.

    Args:
        words: the model and its data.
        reader, params: from inputs to answers.
        units, state: as in `Reading`, on ``xs``.
        xs: numbers and marks ``[T, B, 2]``.
    """
    steps, count, _ = xs.shape
    numbers = np.asarray(xs)
    symbols = adding_symbols(numbers)
    reading = Reading(symbols, units, adding_features(numbers), state, starts_of([steps] * count))

    @jax.jit
    def answer(params: Any, inputs: jax.Array) -> jax.Array:
        return reader.apply(params, inputs)[1][-1, 0]

    def question(place: int) -> Question:
        inputs, baseline = numbers[:, place], numbers[:, place].copy()
        baseline[:, 0] = NOTHING
        first, second = inputs[inputs[:, 1] > 0, 0]
        what = f"answer {float(answer(params, inputs)):.2f} to {first:.2f} + {second:.2f}"
        read = symbols[place * steps : (place + 1) * steps]
        return Question(what, read, jax.device_put(inputs), jax.device_put(baseline), answer, params)

    return Specimen(words, reading, [question(place) for place in range(min(ADDED, count))])


def adding_symbols(xs: np.ndarray) -> list[str]:
    """Return the numbers ``[T, B, 2]``: their first decimal, or in brackets where they are marked.

    Example:
        >>> "".join(adding_symbols(np.array([[[0.31, 0.0]], [[0.46, 1.0]], [[0.92, 0.0]]])))
        '3[0.46]9\\n'
    """
    shown = [
        [f"[{number:.2f}]" if mark else str(int(10 * number)) for number, mark in sequence]
        for sequence in xs.swapaxes(0, 1)
    ]
    return [symbol for line in shown for symbol in (*line[:-1], line[-1] + "\n")]


def adding_features(xs: np.ndarray) -> Features:
    """Return what can be named of each step of the adding problem, one sequence after the other."""
    numbers, marks = np.moveaxis(xs, 2, 0)
    sums, counts = np.cumsum(numbers * marks, axis=0), np.cumsum(marks, axis=0)
    steps = np.arange(len(xs))[:, None]
    marked = np.maximum.accumulate(np.where(marks > 0, steps, 0))
    features = {
        "sum so far": sums,
        "the last marked number": np.where(counts > 0, np.take_along_axis(numbers, marked, axis=0), 0),
        "marked numbers so far": counts,
        "steps since the last mark": steps - marked,
        "the number shown": numbers,
    }
    return {name: values.T.reshape(-1).astype(np.float32) for name, values in features.items()}


def copy_specimen(
    words: str,
    reader: jaxrnn.Layer,
    params: Any,
    table: jax.Array,
    units: dict[str, np.ndarray],
    state: str,
    tokens: np.ndarray,
    heads: np.ndarray | None = None,
) -> Specimen:
    """Return what a network shows on the copy problem.

    Args:
        words: the model and its data.
        reader, params: from tokens, each a row of ``table``, to logits.
        table: what stands for each token, ``[SYMBOLS + 2, D]``.
        units, state: as in `Reading`, on ``tokens``.
        tokens: ``[T, B]``.
        heads: of a Transformer, its attention on the first sequence, ``[layers, heads, T, T]``.
    """
    steps, count = tokens.shape
    symbols = copy_symbols(tokens)
    reading = Reading(symbols, units, copy_features(tokens), state, starts_of([steps] * count))
    # A sequence that says nothing has no symbols, but the sign to begin where it is.
    baseline = look_up(table, np.where(tokens[:, 0] == BEGIN, BEGIN, BLANK))

    def question(place: int) -> Question:
        step, symbol = steps - COPIED + place, int(tokens[place, 0])

        def score(params: Any, inputs: jax.Array) -> jax.Array:
            logits = reader.apply(params, inputs)[1][step]
            return logits[symbol] - jax.nn.logsumexp(logits.at[symbol].set(-jnp.inf))

        what = f"log-odds of {symbol} as the answer {place + 1} of {COPIED}"
        return Question(what, symbols[:steps], look_up(table, tokens[:, 0]), baseline, score, params)

    maps = None if heads is None else Heads(symbols[:steps], heads)
    return Specimen(words, reading, [question(place) for place in RECALLED], heads=maps)


def copy_symbols(tokens: np.ndarray) -> list[str]:
    """Return tokens ``[T, B]``, with a point for a blank, ? to begin, and then what is to be recalled.

    Example:
        >>> tokens = np.array([7, *[1] * 9, 0, 9, *[0] * 10])
        >>> "".join(copy_symbols(tokens[:, None]))
        '7111111111·?7111111111\\n'
    """
    known = np.concatenate([tokens[:-COPIED], tokens[:COPIED]])
    shown = np.array(["·", *map(str, range(1, SYMBOLS + 1)), "?"])[known]
    return [symbol for line in shown.T.tolist() for symbol in (*line[:-1], line[-1] + "\n")]


def copy_features(tokens: np.ndarray) -> Features:
    """Return what can be named of each step of the copy problem, one sequence after the other."""
    shown, steps = tokens[:COPIED], np.arange(len(tokens))[:, None] + np.zeros_like(tokens)
    recalled = np.concatenate([np.zeros_like(tokens[COPIED:]), shown])
    features = {
        "symbols are shown": steps < COPIED,
        "symbols are asked for": recalled > 0,
        "steps read": steps,
        **{f"{symbol} is to be recalled": recalled == symbol for symbol in range(1, SYMBOLS + 1)},
    }
    return {name: values.T.reshape(-1).astype(np.float32) for name, values in features.items()}


def sequences(steps: int, length: int) -> int:
    """Return how many sequences of a length have about so many steps, two at least.

    Example:
        >>> sequences(1000, 220), sequences(100, 220)
        (5, 2)
    """
    return max(2, round(steps / length))
