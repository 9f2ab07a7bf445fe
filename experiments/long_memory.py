"""Long memory: which recurrent cells learn to use what they saw hundreds of steps ago.

Tasks. The adding problem and the copy problem over T steps, see `experiments.data.memory`, each with the loss
of a model without memory, its floor. Every update draws new sequences, from its own number; the same ones for
every cell.

Model. A recurrent cell of H units and a linear readout of its outputs, trained by Adam with gradients clipped at
global norm 1; the recurrent weights of the IndRNN are clipped too, after every update. All cells have the same H,
steps and learning rate, and not the same number of parameters. A cell has solved the problem if its loss is at most
`solved`; training ends at half of that. The best parameters are those of the least loss on held-out sequences, and
the loss told is that on others, drawn for it alone.

Why a cell fails. Measured are the share of the gradient that reaches step 1 and the share of the beginning that the
states keep, see `experiments.memory_measures`, both at the start and for the best parameters; how much of the loss is
that of steps whose answers need no memory; the greatest norm of a gradient before clipping, and how many updates were
clipped, from means over ten updates; and how far the held-out loss fell in the second half of the training.
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from experiments import memory_report, runs
from experiments.data.memory import COPIED, Task, adding, copy, draw_adding, draw_copy
from experiments.memory_cells import CONTENDERS, optimizer_for
from experiments.memory_measures import kept_of, needless, reach_of
from experiments.memory_plots import draw_curves, draw_measures
from experiments.memory_report import Outcome
from experiments.memory_specimen import adding_specimen, copy_specimen, sequences
from experiments.specimens import Specimen, one_way
from experiments.training import (
    BEST,
    METRICS,
    RESULT,
    Diverged,
    Training,
    best_params,
    first_params,
    independent,
    train,
)
from jaxrnn.training import metrics

Array = jax.Array
TASKS = {"adding": adding, "copy": copy}
PUBLISHED = {
    ("adding", "lstm-bias-1"): "at the floor for T = 600 (LSTM, Bai et al. 2018)",
    ("copy", "lstm-bias-1"): "at the floor for T = 1,000 (LSTM, Bai et al. 2018)",
}
TESTED = 8  # times as many sequences as an evaluation has
DRAWS = 2  # folded into the key of the seed, whose children 0 and 1 are those of `first_params`


@dataclasses.dataclass(frozen=True)
class Config:
    """Task, cells and training."""

    task: Literal["adding", "copy"] = "adding"
    """The problem."""
    length: int = 200
    """Its steps, T; the copy problem has T + 20 in all."""
    cells: tuple[str, ...] = tuple(CONTENDERS)
    """The cells to compare."""
    hidden: int = 64
    """Units of the recurrent layer, H."""
    batch: int = 32
    """Sequences in an update."""
    held_out: int = 500
    """Sequences in an evaluation."""
    solved: float = 0.01
    """Largest loss that counts as solved."""
    gradients: int = 32
    """Sequences on which gradients are measured."""
    training: Training = Training(
        steps=2000, learning_rate=3e-3, weight_decay=0.0, evaluate_every=100, checkpoint_every=500
    )
    """How each cell is trained."""

    def __post_init__(self) -> None:
        for name, least in {"length": 4, "hidden": 2, "batch": 1, "held_out": 1, "gradients": 1}.items():
            runs.require(getattr(self, name) >= least, name, f"at least {least}", getattr(self, name))
        runs.require(self.solved > 0, "solved", "more than 0", self.solved)
        known = set(self.cells) <= set(CONTENDERS) and len(set(self.cells)) == len(self.cells) > 0
        runs.require(known, "cells", f"some of {', '.join(CONTENDERS)}, each once", " ".join(self.cells))


QUICK = Config(
    length=20,
    cells=("vanilla-orthogonal", "lstm-bias-1", "gru"),
    hidden=32,
    held_out=200,
    training=Training(steps=300, learning_rate=1e-2, weight_decay=0.0, evaluate_every=50),
)


def run(config: Config, directory: pathlib.Path) -> dict[str, Any]:
    """Train every cell that ``directory`` has no result of, compare all, and return the figures."""
    task = TASKS[config.task](config.length)
    print(
        f"Task: {task.name}; floor, without memory: {task.floor:.4f} {task.unit}; solved: {config.solved:g}\n"
        f"Training: at most {config.training.steps:,} steps of {config.batch} new sequences for each cell",
        flush=True,
    )
    outcomes = {}
    for name in config.cells:
        path = directory / name / RESULT
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            runs.write_json(path, outcome(name, task, config, directory)._asdict())
        outcomes[name] = Outcome(**runs.read_json(path))
    draw_curves(directory / "curves.png", task, list(outcomes.values()), config.solved)
    draw_measures(directory / "measures.png", task, list(outcomes.values()), config.solved)
    memory_report.show(task, list(outcomes.values()))
    rows = [memory_report.row(task, told, PUBLISHED.get((config.task, name), "")) for name, told in outcomes.items()]
    return {
        "rows": [row._asdict() for row in rows],
        "pictures": {
            "curves.png": f"{task.name}: held-out loss of every cell over the steps, with the floor",
            "measures.png": f"{task.name}: loss, gradient that reaches step 1, and what the state keeps, of every cell",
        },
        "floor": task.floor,
        "solved": [name for name, told in outcomes.items() if told.solved_step],
        "cells": {name: told._asdict() for name, told in outcomes.items()},
    }


def outcome(name: str, task: Task, config: Config, directory: pathlib.Path) -> Outcome:
    """Train a cell in its part of the run, or go on with it, and measure it."""
    contender, own = CONTENDERS[name], directory / name
    print(f"\n{contender.words}", flush=True)
    cell = contender.make(task.inputs, config.hidden, config.length)
    model = jaxrnn.serial(jaxrnn.recurrent(cell), jaxrnn.dense(config.hidden, task.outputs))
    drawn = jax.random.fold_in(jax.random.key(config.training.seed), DRAWS)
    train_key, valid_key, test_key, gradient_key = jax.random.split(drawn, 4)
    valid = task.draw(valid_key, config.held_out)
    tests = [task.draw(key, config.held_out) for key in jax.random.split(test_key, TESTED)]

    def answers(params: Any, xs: Array, targets: Array) -> Array:
        return model.apply(params, xs)[1][-len(targets) :]

    def loss(params: Any, batch: tuple[Array, Array]) -> Array:
        return task.loss(answers(params, *batch), batch[1])

    @jax.jit
    def losses(params: Any, batch: tuple[Array, Array]) -> tuple[Array, Array]:
        ys = answers(params, *batch)
        return task.loss(ys, batch[1]), needless(task, len(batch[0]), ys, batch[1])

    diverged = None
    try:
        train(
            own,
            config.training,
            model.init,
            independent(lambda params, batch, key: loss(params, batch)),
            batches(task, config.batch, train_key),
            rows=config.batch,
            evaluate=lambda params: {"loss": losses(params, valid)[0]},
            enough=config.solved / 2,
            optimizer=optimizer_for(contender, config.training, config.length),
        )
    except Diverged as error:
        print(error, flush=True)
        diverged = error.step
    start, _ = first_params(config.training, model.init)
    best = best_params(own, start) if (own / BEST).exists() else start
    measured, without_need = np.mean([losses(best, batch) for batch in tests], axis=0).tolist()
    records = metrics.read(own / METRICS)
    evaluated = [record for record in records if record.get("evaluation", {}).get("loss") is not None]
    below = [record for record in evaluated if record["evaluation"]["loss"] <= config.solved]
    first = below[0] if below and measured <= config.solved else {}
    norms = [record["gradient_norm"] for record in records]
    reach = reach_of(cell, model, task, task.draw(gradient_key, config.gradients))
    kept = kept_of(cell, task, tests)
    one = jax.tree.map(lambda leaf: leaf[:, :1], tests[0])
    return Outcome(
        words=contender.words,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(start)),
        loss=measured,
        needless=without_need,
        solved_step=first.get("step"),
        solved_seconds=first.get("seconds"),
        steps=records[-1]["step"] if records else 0,
        seconds=records[-1]["seconds"] if records else 0.0,
        diverged=diverged,
        reach_start=reach(start),
        reach_end=reach(best),
        kept_start=kept(start),
        kept_end=kept(best),
        steepest=max(norms, default=0.0),
        clipped=float(np.mean([norm > config.training.clip for norm in norms])) if norms else 0.0,
        example=task.tell(*(np.asarray(leaf)[:, 0] for leaf in (*one, answers(best, *one)))),
        curve=[(record["step"], record["evaluation"]["loss"]) for record in evaluated],
    )


def parts(config: Config, directory: pathlib.Path) -> list[str]:
    """Return the cells of a run whose training has ended, the one with the least loss first."""
    ended = [name for name in config.cells if (directory / name / RESULT).exists()]
    with_a_model = [name for name in ended if (directory / name / BEST).exists()]
    if ended and not with_a_model:
        raise runs.InputError(f"{directory}: no cell has a model; all diverged at once, or each {BEST} was deleted")
    if not with_a_model:
        raise runs.InputError(f"{directory}: no cell is trained yet; continue it: {runs.resume_command(directory)}")
    return sorted(with_a_model, key=lambda name: runs.read_json(directory / name / RESULT)["loss"])


def specimen(config: Config, directory: pathlib.Path, steps: int, part: str) -> Specimen:
    """Return what a cell of a run shows on sequences that it was not trained on."""
    task, contender = TASKS[config.task](config.length), CONTENDERS[part]
    cell, readout = contender.make(task.inputs, config.hidden, config.length), jaxrnn.dense(config.hidden, task.outputs)
    model = jaxrnn.serial(jaxrnn.recurrent(cell), readout)
    params = best_params(directory / part, jax.eval_shape(model.init, jax.random.key(0)))
    key = jax.random.fold_in(jax.random.key(config.training.seed), DRAWS + 1)
    words = f"{contender.words}, {config.hidden} units, on {task.name}"
    if config.task == "adding":
        xs, _ = draw_adding(key, config.length, sequences(steps, config.length))
        units = one_way([cell], params[:1], xs)
        return adding_specimen(words, model, params, units, [*units][-1], xs)
    tokens, _ = draw_copy(key, config.length, sequences(steps, config.length + 2 * COPIED))
    table = jnp.eye(task.inputs)
    units = one_way([cell], params[:1], table[tokens])
    return copy_specimen(words, model, params, table, units, [*units][-1], np.asarray(tokens))


def batches(task: Task, batch: int, key: Array) -> Callable[[int], tuple[Array, Array]]:
    """Return the function from a step to its sequences."""
    return jax.jit(lambda step: task.draw(jax.random.fold_in(key, step), batch))
