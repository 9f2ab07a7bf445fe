"""What the models of `experiments.transformer_or_rnn` learn: the next character of a text, and the copy problem."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from experiments import runs
from experiments.data import streams
from experiments.data.memory import COPIED, SYMBOLS, draw_copy
from experiments.training import Evaluation, Training
from jaxrnn.losses import softmax_cross_entropy

HELD_OUT = 1 << 30  # batches from here on are for validation; no training is so long


class Task(NamedTuple):
    """A task.

    name: of folders and files. title, unit: in words.
    vocabulary: how many tokens there are.
    batches: ``(n) -> (inputs, targets)``, ints ``[T, B]``.
    rows, tokens: how many sequences, and how many tokens, a batch has.
    valid: what every evaluation runs over.
    training: all but the learning rate.
    """

    name: str
    title: str
    unit: str
    vocabulary: int
    batches: Callable[[int], Any]
    rows: int
    tokens: int
    valid: streams.Windows
    training: Training


def next_character(
    title: str, vocabulary: int, train: np.ndarray, valid: streams.Windows, batch: int, window: int, training: Training
) -> Task:
    """Return the task of the next character: windows of ``train`` that begin anywhere.

    Raises:
        runs.InputError: a text shorter than a window.
    """
    if len(train) <= window:
        raise runs.InputError(f"{len(train):,} characters for training: give a longer text, or a smaller --window")

    def draw(step: int) -> tuple[np.ndarray, np.ndarray]:
        begins = np.random.default_rng((training.seed, step)).integers(len(train) - window, size=batch)
        drawn = train[begins + np.arange(window + 1)[:, None]]
        return drawn[:-1], drawn[1:]

    return Task("text", title, "nats per character", vocabulary, draw, batch, batch * window, valid, training)


def copying(length: int, batch: int, training: Training, held_out: int = 16) -> Task:
    """Return the copy problem of T = ``length``, with ``held_out`` batches for validation."""
    key = jax.random.key(training.seed)

    @jax.jit
    def draw(step: Any) -> tuple[jax.Array, jax.Array]:
        return draw_copy(jax.random.fold_in(key, step), length, batch)

    inputs, targets = (np.stack(part) for part in zip(*(draw(HELD_OUT + n) for n in range(held_out)), strict=True))
    valid = streams.Windows(inputs, targets, np.ones(inputs.shape, bool))
    title, tokens = f"the copy problem, T = {length}", batch * (length + 2 * COPIED)
    return Task("copy", title, "nats per step", SYMBOLS + 2, draw, batch, tokens, valid, training)


def evaluation(layer: jaxrnn.Layer, data: streams.Windows, *, carried: bool = False) -> Evaluation:
    """Return the function from parameters to the mean loss over ``data``.

    Every window begins with the initial carry; where ``carried``, with that of the window before it.
    """

    @jax.jit
    def mean(params: Any, data: streams.Windows) -> jax.Array:
        def window(carry: Any, part: streams.Windows) -> tuple[Any, jax.Array]:
            after, logits = layer.apply(params, part.inputs, carry)
            counted = jnp.sum(part.mask, dtype=jnp.float32)
            loss = softmax_cross_entropy(logits, part.targets, part.mask) * counted
            return after if carried else carry, loss

        _, losses = jax.lax.scan(window, layer.initial_carry(params, data.inputs.shape[2:]), data)
        return jnp.sum(losses) / jnp.sum(data.mask, dtype=jnp.float32)

    return lambda params: {"loss": mean(params, data)}
