"""What a trained model shows of itself: what `experiments.interpret` asks of an experiment.

An experiment whose runs can be looked into has a function ``specimen(config, directory, steps) -> Specimen``, of a
run's configuration and directory and of how many steps to read; everything else is the same for all of them. Where
a run leaves several models, ``parts(config, directory)`` names them, and ``specimen`` takes one of the names, ``part``.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import Cell, Directions, unroll
from jaxrnn.analysis import activations


class Reading(NamedTuple):
    """What a model read, and what went on in it; none of it was in its training.

    symbols: what stands at each of T steps, with its blank or end of line; side by side they are the text.
    units: gates and states by name, each ``[T, H]``; "layer 1 c" is the part c of what is called layer 1.
    features: what can be named of each step, each ``[T]``.
    state: the units whose way through the steps is drawn.
    starts: the steps at which something begins that was read on its own, such as a sentence.
    """

    symbols: Sequence[str]
    units: dict[str, np.ndarray]
    features: dict[str, np.ndarray]
    state: str
    starts: Sequence[int] = (0,)


class Question(NamedTuple):
    """An answer whose reasons are asked for.

    what: the answer, in words.
    symbols: what was read, as in `Reading`.
    inputs: as the model sees it, ``[T, D]``.
    baseline: an input that says nothing, ``[D]`` or ``[T, D]``.
    score: ``(params, inputs) -> scalar``, how much the model is for that answer.
    params: of the model, or of what of it comes after its inputs.
    """

    what: str
    symbols: Sequence[str]
    inputs: jax.Array
    baseline: jax.Array
    score: Callable[[Any, jax.Array], jax.Array]
    params: Any


class Attention(NamedTuple):
    """How much each of ``columns`` counts for each of ``rows``, ``weights [rows, columns]``."""

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    weights: np.ndarray


class Heads(NamedTuple):
    """How much each of the same ``symbols`` sees of each, by every head: ``weights [layers, heads, T, T]``."""

    symbols: Sequence[str]
    weights: np.ndarray


class Specimen(NamedTuple):
    """A model and its data in a few ``words``, and what there is to see; what there is not is left out."""

    words: str
    reading: Reading | None = None
    questions: Sequence[Question] = ()
    attention: Sequence[Attention] = ()
    heads: Heads | None = None


def laid_side_by_side(sentences: Sequence[Sequence[str]]) -> list[str]:
    """Return the words of sentences as the symbols of a `Reading`, a line for each sentence.

    Example:
        >>> laid_side_by_side([["not", "bad"], ["dull"]])
        ['not ', 'bad\\n', 'dull\\n']
    """
    return [word + ("\n" if place == len(one) - 1 else " ") for one in sentences for place, word in enumerate(one)]


def enough_of(lengths: Sequence[int], steps: int) -> int:
    """Return how many sentences of these lengths have about so many words.

    Example:
        >>> enough_of([4, 5, 6], 8)
        2
    """
    return int(np.searchsorted(np.cumsum(lengths), steps)) + 1


def starts_of(lengths: Sequence[int]) -> list[int]:
    """Return where sequences of these lengths begin, one after the other.

    Example:
        >>> starts_of([4, 5, 6])
        [0, 4, 9]
    """
    return np.cumsum([0, *lengths])[:-1].tolist()


def look_up(table: jax.Array, tokens: Any) -> jax.Array:
    """Return ``table[tokens]``, by NumPy: a specimen has few tokens of many shapes, and JAX compiles for each."""
    return jax.device_put(np.asarray(table)[tokens])


def one_way(cells: Sequence[Cell], layers: Sequence[Any], xs: jax.Array) -> dict[str, np.ndarray]:
    """Return the gates and states of layers, in a row, as `Reading` has them; the last is the state.

    Args:
        cells: of the layers. layers: their parameters.
        xs: ``[T, D]`` or ``[T, B, D]``.
    """
    units = {}
    for number, (cell, params) in enumerate(zip(cells, layers, strict=True), 1):
        at = jax.jit(functools.partial(activations, cell))(params, xs)
        units |= {f"layer {number} {name}": in_a_row(at[name]) for name in in_order(at)}
        if number < len(cells):
            _, xs = jax.jit(functools.partial(unroll, cell))(params, xs)  # the outputs, which not every state holds
    return units


def in_a_row(steps: Any) -> np.ndarray:
    """Return ``[T, D]`` or ``[T, B, D]`` as ``[B T, D]``, one sequence after the other."""
    steps = np.asarray(steps)
    return np.moveaxis(steps, 0, -2).reshape(-1, steps.shape[-1])


def both_ways(
    cell: Callable[[int], Cell], layers: Sequence[Any], xs: jax.Array, lengths: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the gates and states of layers, one sequence after the other, as `Reading` has them.

    Args:
        cell: from a number of input features to the cell of a layer in one direction.
        layers: their parameters, `Directions` of them where a layer is bidirectional.
        xs: ``[T, B, D]``. lengths: ``[B]``.
    """
    units, read = {}, np.arange(len(xs)) < np.asarray(lengths)[:, None]
    for number, directions in enumerate(layers, 1):
        outputs = []
        ways = directions._asdict() if isinstance(directions, Directions) else {"forward": directions}
        for way, params in ways.items():
            of_cell = functools.partial(activations, cell(xs.shape[-1]), lengths=lengths, reverse=way == "backward")
            at = jax.jit(of_cell)(params, xs)
            units |= {
                f"layer {number} {way} {name}": np.asarray(at[name]).swapaxes(0, 1)[read] for name in in_order(at)
            }
            outputs.append(at["h"])
        xs = jnp.concatenate(outputs, axis=-1)
    return units


def in_order(names: Iterable[str]) -> list[str]:
    """Return the names of gates and states in the order of the equations, which a compiled function's dict has lost.

    Example:
        >>> in_order(["c", "f", "g", "h", "i", "o"])
        ['i', 'f', 'g', 'o', 'c', 'h']
    """
    return sorted(names, key=lambda name: ("ifgorunch".find(name), name))
