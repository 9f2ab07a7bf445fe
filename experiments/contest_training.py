"""A model learns a task: first for a short time with each learning rate of a grid, then in full with the best few.

What learns fastest at first may not end best, so the short trainings choose who is trained in full, and these
choose the rate.
"""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import contest_costs, runs
from experiments.contest_models import Contestant
from experiments.contest_tasks import Task, evaluation
from experiments.devices import one_copy, sharing
from experiments.training import (
    Diverged,
    Evaluation,
    Params,
    Trained,
    Training,
    first_params,
    independent,
    optimizer_of,
    schedule_of,
    train,
)
from jaxrnn.losses import softmax_cross_entropy
from jaxrnn.training import NonFiniteLossError, fit, train_state, train_step


class Entry(NamedTuple):
    """A model with a task.

    loss: as `experiments.training.train` takes it.
    step: an update, compiled once for the short trainings, the training in full and the clock.
    evaluate: the figures on the task's validation sequences.
    """

    model: Contestant
    task: Task
    loss: Callable[..., Any]
    step: Callable[..., Any]
    evaluate: Evaluation

    def update(self) -> Callable[[], Any]:
        """Return the call that makes one more update, for the clock."""
        params, key = first_params(self.task.training, self.model.layer.init)
        state = train_state(params, following(self.task.training, 1.0), key)
        return contest_costs.updating(self.step, state, self.task.batches(0))


class Learnt(NamedTuple):
    """What a model has learnt.

    tried: the validation loss at the end of the short training with each learning rate, None if it is not finite.
    full: the least validation loss of each training in full, by learning rate; None if it diverged.
    rate: the learning rate of the best of these.
    loss: its least validation loss.
    curve: its pairs of updates made and validation loss.
    params: those of the least loss.
    """

    tried: dict[float, float | None]
    full: dict[float, float | None]
    rate: float
    loss: float
    curve: list[tuple[int, float]]
    params: Params


def enter(model: Contestant, task: Task) -> Entry:
    """Return a model with a task."""

    def loss(params: Params, batch: Any, key: jax.Array) -> jax.Array:
        inputs, targets = batch
        return softmax_cross_entropy(model.layer.apply(params, inputs)[1], targets)

    devices = sharing(task.rows, task.training.devices)
    step = train_step(independent(loss), following(task.training, 1.0), devices=devices, batch_axis=1)
    return Entry(model, task, independent(loss), step, evaluation(model.layer, task.valid))


def learn(entry: Entry, rates: Sequence[float], short: int, finalists: int, directory: pathlib.Path) -> Learnt:
    """Tune and train a model, or go on with what ``directory``, a part of the run's, holds.

    Args:
        entry: the model and the task.
        rates: to try.
        short: updates for which each is tried.
        finalists: how many of them train the model in full.
        directory: for tuning.json, and a folder of `experiments.training.train` for each training in full.

    Raises:
        runs.InputError: no learning rate leads to a finite loss.
        KeyboardInterrupt: Ctrl-C; what is done is kept.
    """
    model, task = entry.model, entry.task
    print(f"\n{task.title}: {model.name} {model.sizes}, {model.parameters:,} parameters", flush=True)
    directory.mkdir(exist_ok=True)
    tried = tune(entry, rates, short, directory / "tuning.json")
    chosen = _in_order(tried)[:finalists]
    trained = {rate: _in_full(entry, rate, directory) for rate in chosen}
    full = {rate: one and one.figures["loss"] for rate, one in trained.items()}
    ended = {rate: one for rate, one in trained.items() if one is not None}
    if not ended:
        raise runs.InputError(f"{model.name}: no learning rate led to a finite loss; give a lower --learning-rate")
    rate = min(ended, key=lambda rate: ended[rate].figures["loss"])
    best = ended[rate]
    curve = [(record["step"], record["evaluation"]["loss"]) for record in best.records if "evaluation" in record]
    return Learnt(tried, full, rate, best.figures["loss"], curve, best.params)


def _in_order(tried: Mapping[float, float | None]) -> list[float]:
    finite = {rate: loss for rate, loss in tried.items() if loss is not None}
    return sorted(finite, key=finite.__getitem__)


def _in_full(entry: Entry, rate: float, directory: pathlib.Path) -> Trained | None:
    """Train a model with one rate, or go on with it; None if it diverges."""
    task = entry.task
    try:
        return train(
            directory / f"rate-{rate:g}",
            task.training,
            entry.model.layer.init,
            entry.loss,
            task.batches,
            rows=task.rows,
            evaluate=entry.evaluate,
            tokens_per_step=task.tokens,
            optimizer=following(task.training, rate),
            step=entry.step,
        )
    except Diverged as error:
        print(f"learning rate {rate:g}: {error}", flush=True)
        return None


def tune(entry: Entry, rates: Sequence[float], short: int, path: pathlib.Path) -> dict[float, float | None]:
    """Return the validation loss at the end of a short training with each rate; those in the file are not repeated."""
    tried = {float(rate): loss for rate, loss in runs.read_json(path)} if path.exists() else {}
    for rate in rates:
        if rate not in tried:
            tried[rate] = _attempt(entry, rate, short)
            print(f"learning rate {rate:g}, {short} updates: validation loss {tried[rate]}", flush=True)
            runs.write_json(path, list(tried.items()))
    return tried


def following(options: Training, rate: float, steps: int | None = None) -> optax.GradientTransformation:
    """Return the optimiser of ``options`` with another highest learning rate, and perhaps fewer steps.

    The learning rates of all steps are part of its state, so that one compiled step serves every choice of them.
    """
    steps = options.steps if steps is None else steps
    rates = np.zeros(options.steps, np.float32)
    rates[:steps] = schedule_of(dataclasses.replace(options, learning_rate=rate, steps=steps))(np.arange(steps))

    def init(params: Any) -> Any:
        return jnp.zeros((), jnp.int32), jnp.asarray(rates)

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        count, rates = state
        return jax.tree.map(lambda leaf: leaf * rates[count], updates), (count + 1, rates)

    return optax.chain(optimizer_of(options, 1.0), optax.GradientTransformation(init, update))


def _attempt(entry: Entry, rate: float, short: int) -> float | None:
    params, key = first_params(entry.task.training, entry.model.layer.init)
    state = train_state(params, following(entry.task.training, rate, short), key)
    try:
        end = fit(state, entry.step, entry.task.batches, steps=short, progress=False)
    except NonFiniteLossError:
        return None
    if end.reason != "steps":
        raise KeyboardInterrupt
    loss = float(entry.evaluate(one_copy(end.state.params))["loss"])
    return loss if math.isfinite(loss) else None
