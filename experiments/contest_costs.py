"""What a model costs: the time of an update, the time and the state of generating, the memory of a gradient.

Times are medians of calls in turn, one of each, so that whatever else the machine does meets all alike; nothing is
compiled among them.
"""

import functools
import math
import pathlib
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from experiments import runs
from experiments.contest_models import Contestant
from jaxrnn.decoding import generate
from jaxrnn.losses import softmax_cross_entropy
from jaxrnn.training import TrainState

Name = TypeVar("Name", bound=Hashable)
GENERATED = 64  # characters whose generation is timed together
MEMORY_BATCH = 8


class Generating(NamedTuple):
    """The cost of a character after ``context`` others, for one sequence."""

    context: int
    milliseconds: float
    state_bytes: int


class Memory(NamedTuple):
    """The temporary memory of the compiled gradient of B = 8 sequences, and the time it took to compile."""

    steps: int
    temporary_bytes: int
    compile_seconds: float


class Costs(NamedTuple):
    """What all models cost, by name.

    updates: milliseconds of an update, by task and model.
    """

    updates: dict[str, dict[str, float]]
    generating: dict[str, list[Generating]]
    memory: dict[str, list[Memory]]


def measured(
    path: pathlib.Path,
    updates: Mapping[str, Mapping[str, Callable[[], Any]]],
    models: Mapping[str, tuple[Contestant, Any]],
    tokens: np.ndarray,
    contexts: Sequence[int],
    lengths: Sequence[int],
    rounds: int,
) -> Costs:
    """Measure everything, or read it from a file that holds it.

    Args:
        path: of the file.
        updates: one more update, by task and model; see `updating`.
        models: with their parameters, as the others.
        tokens, contexts: see `generating`.
        lengths: see `gradient_memory`.
        rounds: of the clock.
    """
    if not path.exists():
        costs = Costs(
            {task: medians(calls, rounds) for task, calls in updates.items()},
            generating(models, tokens, contexts, rounds),
            {kind: gradient_memory(model, lengths) for kind, (model, _) in models.items()},
        )
        runs.write_json(path, costs._asdict())
    kept = Costs(**runs.read_json(path))
    return Costs(
        kept.updates,
        {kind: [Generating(*point) for point in points] for kind, points in kept.generating.items()},
        {kind: [Memory(*point) for point in points] for kind, points in kept.memory.items()},
    )


def medians(calls: Mapping[Name, Callable[[], Any]], rounds: int) -> dict[Name, float]:
    """Return the median milliseconds of each call, which returns what it waits for.

    Example:
        >>> sorted(medians({"add": lambda: 1 + 1}, rounds=3))
        ['add']
    """
    times: dict[Name, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        jax.block_until_ready(call())
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: float(np.median(taken)) for name, taken in times.items()}


def updating(step: Callable[..., Any], state: TrainState, batch: Any) -> Callable[[], Any]:
    """Return the call that makes one more update."""

    def call() -> Any:
        nonlocal state
        state, metrics = step(state, batch)
        return state, metrics

    return call


def generating(
    models: Mapping[str, tuple[Contestant, Any]], tokens: np.ndarray, contexts: Sequence[int], rounds: int
) -> dict[str, list[Generating]]:
    """Return what a character costs each model, and its state, for each number of characters read before.

    Args:
        models: with their parameters.
        tokens: what is read; again from its beginning where it is shorter than a context.
        contexts: how many characters are read first; the Transformer sees the last so many at every character.
        rounds: of the clock.
    """
    calls, state_bytes = {}, {}
    for kind, (model, params) in models.items():
        for context in contexts:
            layer, seen = model.within(context), np.resize(tokens, context + 1)
            carry = _read(layer, params, seen[:-1])
            calls[kind, context] = functools.partial(
                generate, layer, params, seen[-1:], GENERATED, temperature=0, carry=carry
            )
            state_bytes[kind, context] = sum(leaf.nbytes for leaf in jax.tree.leaves(carry))
    taken = medians(calls, rounds)
    return {
        kind: [Generating(n, taken[kind, n] / GENERATED, state_bytes[kind, n]) for n in contexts] for kind in models
    }


def _read(layer: jaxrnn.Layer, params: Any, tokens: np.ndarray) -> Any:
    """Return the carry after ``tokens [T]``, read in chunks: a Transformer's scores of all at once are T × T."""
    carry = layer.initial_carry(params)
    for chunk in tokens.reshape(-1, math.gcd(len(tokens), GENERATED)):
        carry = _after(layer, params, carry, chunk)
    return carry


@functools.partial(jax.jit, static_argnums=0)
def _after(layer: jaxrnn.Layer, params: Any, carry: Any, tokens: jax.Array) -> Any:
    return layer.apply(params, tokens, carry)[0]


def gradient_memory(model: Contestant, lengths: Sequence[int]) -> list[Memory]:
    """Return what the compiled gradient of a model takes for sequences of each length; nothing is run."""

    def loss(params: Any, tokens: jax.Array) -> jax.Array:
        return softmax_cross_entropy(model.layer.apply(params, tokens)[1], tokens)

    params = jax.eval_shape(model.layer.init, jax.random.key(0))
    measured = []
    for steps in lengths:
        lowered = jax.jit(jax.grad(loss)).lower(params, jax.ShapeDtypeStruct((steps, MEMORY_BATCH), jnp.int32))
        start = time.perf_counter()
        memory: Any = lowered.compile().memory_analysis()
        measured.append(Memory(steps, memory.temp_size_in_bytes, time.perf_counter() - start))
    return measured
