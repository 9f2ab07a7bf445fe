"""Why a cell fails at a problem of long memory: how far back a gradient reaches, and what its state keeps.

The gradient. For the loss L of the first answer that may need step 1, ‖∂L/∂carry_t‖ relative to the same norm at the
step before that answer, by `jaxrnn.analysis.gradient_norms` in float64, as the median over sequences. Where it has
vanished, nothing that early can be learned from that answer; a cell may still grow a memory if the answers of some
sequences need only what is near, as in the adding problem.

The state. A linear probe reads the beginning (the first number; the symbols shown) in the whole carry at the step of
that answer: ridge regression, in closed form,

    W = (SᵀS + λN I)⁻¹ SᵀY

for states S and what was shown, Y, of N sequences, both centred. Its score on as many other sequences is the share of
the variance of Y that it explains, 1 - Σ(Y - SW)² / ΣY², at least 0. The states are scaled as a whole to a mean
variance of 1, so that the smallest λ leaves out what only very large weights could find; the best score of three λ
counts, as a small one fits noise where there is little to read. Beside the state, the probe is told the rest of the
answer (the second number), so that a state that holds the sum alone holds the first. What the probe does not read may
still be there in a form that is not linear, which the model's readout at that step, linear too, could not use either.

The answers before that one. In the copy problem they are blanks and need no memory of what was shown; a loss above the
floor is theirs where it is that of a model which has not yet learned them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from experiments.data.memory import Task
from jaxrnn.analysis import gradient_norms

Array = jax.Array
RIDGES = (1e-4, 1e-2, 1.0)  # λ


def needless(task: Task, steps: int, answers: Array, targets: Array) -> Array:
    """Return the part of the loss that is of answers before the first that may need step 1, in sequences of S steps."""
    before = task.first - steps + len(targets)
    if before == 0:
        return jnp.zeros((), answers.dtype)
    return task.loss(answers[:before], targets[:before]) * before / len(targets)


def reach_of(
    cell: jaxrnn.Cell, model: jaxrnn.Layer, task: Task, drawn: tuple[Array, Array]
) -> Callable[[Any], list[float]]:
    """Return ``(params) -> ‖∂L/∂carry_t‖``, from the step before the first answer, where it is 1, back to step 1.

    L is the loss of that answer; the norms are medians over the sequences ``drawn``, in float64.
    """
    xs, targets = map(np.asarray, drawn)
    before, x, wanted = xs[: task.first], xs[task.first :][:1], targets[task.first - len(xs) :][:1]

    @jax.jit
    def norms(params: Any, before: Array, x: Array, wanted: Array) -> Array:
        def loss(carries: Any) -> Array:
            last = jax.tree.map(lambda leaf: leaf[-1], carries)
            _, answer = model.apply(params, x, (last, ()))
            return task.loss(answer, wanted) * wanted.shape[1]  # a sum: the sequences stay apart

        total = gradient_norms(cell, params[0], before, loss).total
        return jnp.median(total[::-1] / total[-1:], axis=1)

    def precise(leaf: Any) -> np.ndarray:
        return np.asarray(leaf, np.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else np.asarray(leaf)

    def reach(params: Any) -> list[float]:
        with jax.enable_x64(True):
            return norms(*jax.tree.map(precise, (params, before, x, wanted))).tolist()

    return reach


def kept_of(cell: jaxrnn.Cell, task: Task, drawn: Sequence[tuple[Array, Array]]) -> Callable[[Any], float]:
    """Return ``(params) -> share`` of what the sequences ``drawn`` show that a linear probe reads in their states."""
    shown, rest = (
        np.concatenate(parts) for parts in zip(*(task.shown(np.asarray(xs)) for xs, _ in drawn), strict=True)
    )

    @jax.jit
    def states(params: Any, xs: Array) -> Array:
        carry, _ = jaxrnn.unroll(cell, params, xs[: task.first + 1])
        return jnp.concatenate(jax.tree.leaves(carry), axis=-1)

    def kept(params: Any) -> float:
        return linear_share(np.concatenate([states(params[0], xs) for xs, _ in drawn]), shown, rest)

    return kept


def linear_share(states: np.ndarray, shown: np.ndarray, rest: np.ndarray) -> float:
    """Return the share of the variance of ``shown [N, K]`` that is linear in ``states [N, F]`` and ``rest [N, R]``.

    The first half of the N sequences fits the probe, the second one scores it.
    """
    half = len(shown) // 2
    features = np.concatenate([_scaled(states, half), _scaled(rest, half)], axis=1)
    wanted = shown - shown[:half].mean(axis=0)
    gram, product = features[:half].T @ features[:half], features[:half].T @ wanted[:half]

    def share(ridge: float) -> float:
        weights = np.linalg.solve(gram + ridge * half * np.eye(len(gram)), product)
        return 1 - float(np.sum((wanted[half:] - features[half:] @ weights) ** 2) / np.sum(wanted[half:] ** 2))

    return max(0.0, *map(share, RIDGES))


def _scaled(features: np.ndarray, half: int) -> np.ndarray:
    """Return the features in float64, centred, with a mean variance of 1 over the first half of the rows."""
    centred = features.astype(np.float64) - features[:half].mean(axis=0, dtype=np.float64)
    spread = np.sqrt(np.mean(centred[:half] ** 2)) if centred.size else 0.0
    return centred / spread if spread > 0 else centred
