"""Two problems of long memory, drawn and not read: what is asked for at the end was shown at the beginning.

The adding problem (Hochreiter and Schmidhuber 1997). Two inputs a step, a number from U(0, 1) and a marker.
Two numbers are marked, one in each half; the answer at the last step is their sum. Always answering 1 errs
by the variance of the sum, 1/6.

The copy problem (Hochreiter and Schmidhuber 1997, as Arjovsky, Shah and Bengio 2016 state it). Ten symbols of
eight, T - 1 blanks, a sign to begin, ten blanks; the answers are T + 10 blanks, then the ten symbols in order.
Who answers the blanks right and guesses at the symbols, which needs no memory, loses 10 ln 8 / (T + 20) a step.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.losses import mean_squared_error, softmax_cross_entropy

Array = jax.Array

COPIED, SYMBOLS = 10, 8
BLANK, BEGIN = 0, SYMBOLS + 1  # symbols are 1 to 8


class Task(NamedTuple):
    """A problem of a given length.

    name: in words. unit: what its loss counts.
    floor: the loss without memory.
    inputs, outputs: sizes D of ``xs`` and K of the answers.
    draw: ``(key, batch) -> (xs [S, B, D], targets [N, B, ...])``; the targets are those of the last N of S steps.
    loss: ``(answers [N, B, K], targets) -> scalar``.
    first: the first of the S steps whose answer may need what step 0 has shown.
    shown: ``(xs [S, B, D]) -> (beginning [B, K], rest [B, R])``: what has to be kept from the beginning until then,
        and what else the answer is made of.
    tell: ``(xs [S, D], targets [N, ...], answers [N, K]) -> str``, of one sequence, in a line.
    """

    name: str
    unit: str
    floor: float
    inputs: int
    outputs: int
    draw: Callable[[Array, int], tuple[Array, Array]]
    loss: Callable[[Array, Array], Array]
    first: int
    shown: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    tell: Callable[[np.ndarray, np.ndarray, np.ndarray], str]


def adding(steps: int) -> Task:
    """Return the adding problem over T = ``steps``.

    Example:
        >>> task = adding(50)
        >>> xs, targets = task.draw(jax.random.key(0), 4)
        >>> xs.shape, targets.shape, round(task.floor, 3)
        ((50, 4, 2), (1, 4, 1), 0.167)
    """

    def draw(key: Array, batch: int) -> tuple[Array, Array]:
        xs, sums = draw_adding(key, steps, batch)
        return xs, sums[None, :, None]

    def shown(xs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        marked = xs[..., 0] * xs[..., 1]
        return marked[: steps // 2].sum(axis=0)[:, None], marked[steps // 2 :].sum(axis=0)[:, None]

    def tell(xs: np.ndarray, targets: np.ndarray, answers: np.ndarray) -> str:
        first, second = xs[xs[:, 1] > 0, 0]
        return f"{first:.2f} + {second:.2f} = {targets.item():.2f}, answered {answers.item():.2f}"

    name = f"adding, T = {steps}"
    return Task(name, "squared error", 1 / 6, 2, 1, draw, mean_squared_error, steps - 1, shown, tell)


def copy(steps: int) -> Task:
    """Return the copy problem with T = ``steps``, T + 20 steps in all.

    Example:
        >>> task = copy(50)
        >>> xs, targets = task.draw(jax.random.key(0), 4)
        >>> xs.shape, targets.shape, round(task.floor, 3)
        ((70, 4, 10), (70, 4), 0.297)
    """

    def draw(key: Array, batch: int) -> tuple[Array, Array]:
        tokens, targets = draw_copy(key, steps, batch)
        return jax.nn.one_hot(tokens, SYMBOLS + 2), targets

    def shown(xs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        symbols = xs[:COPIED, :, 1:BEGIN].swapaxes(0, 1)
        return symbols.reshape(len(symbols), -1), np.zeros((len(symbols), 0), xs.dtype)

    def tell(xs: np.ndarray, targets: np.ndarray, answers: np.ndarray) -> str:
        wanted, recalled = (
            "".join(map(str, symbols[-COPIED:])) for symbols in (targets.tolist(), answers.argmax(axis=-1).tolist())
        )
        return f"shown {wanted}, answered {recalled}"

    floor = COPIED * math.log(SYMBOLS) / (steps + 2 * COPIED)
    name, sizes = f"copy, T = {steps}", (SYMBOLS + 2, SYMBOLS + 1)
    return Task(name, "nats per step", floor, *sizes, draw, softmax_cross_entropy, steps + COPIED, shown, tell)


@functools.partial(jax.jit, static_argnums=(1, 2))
def draw_adding(key: Array, steps: int, batch: int) -> tuple[Array, Array]:
    """Draw the adding problem: ``xs [T, B, 2]``, numbers and markers, and the sums ``[B]``."""
    number_key, first_key, second_key = jax.random.split(key, 3)
    numbers = jax.random.uniform(number_key, (steps, batch))
    first = jax.random.randint(first_key, (1, batch), 0, steps // 2)
    second = jax.random.randint(second_key, (1, batch), steps // 2, steps)
    times = jnp.arange(steps)[:, None]
    marks = ((times == first) | (times == second)).astype(numbers.dtype)
    return jnp.stack([numbers, marks], axis=-1), (numbers * marks).sum(axis=0)


@functools.partial(jax.jit, static_argnums=(1, 2))
def draw_copy(key: Array, steps: int, batch: int) -> tuple[Array, Array]:
    """Draw the copy problem: tokens and targets, both ints ``[T + 20, B]``.

    Example:
        >>> tokens, targets = draw_copy(jax.random.key(0), 3, 1)
        >>> "".join(map(str, tokens[:, 0].tolist())), "".join(map(str, targets[:, 0].tolist()))
        ('61164418640090000000000', '00000000000006116441864')
    """
    shown = jax.random.randint(key, (COPIED, batch), 1, SYMBOLS + 1)
    blanks = jnp.zeros((steps + COPIED, batch), shown.dtype)
    return jnp.concatenate([shown, blanks.at[steps - 1].set(BEGIN)]), jnp.concatenate([blanks, shown])
