"""Long memory: which recurrent cells learn to use what they saw hundreds of steps ago.

Tasks. The adding problem and the copy problem over T steps, see `experiments.data.memory`, each with the loss
of a model without memory, its floor. Every update draws new sequences, from its own number; the same ones for
every cell.

Model. A recurrent cell of H units and a linear readout of its outputs, trained by Adam with gradients clipped at
global norm 1. All cells have the same H, steps and learning rate, and not the same number of parameters. A cell
has solved the problem if its loss is at most `solved`; training ends at half of that. The best parameters are
those of the least loss on held-out sequences, and the loss told is that on others, drawn for it alone.

Why a cell fails. For the loss of the first answer that may need step 1, ‖∂L/∂carry_1‖ relative to the same norm
at the step of that answer, by `jaxrnn.analysis.gradient_norms` in float64: the share of the gradient that
reaches step 1. It is the median over sequences, at the start and for the best parameters. Where it has vanished,
nothing that early can be learned; a cell may still grow a memory if the answers of some sequences need only
what is near, as in the adding problem.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from experiments import memory_report, runs
from experiments.data.memory import COPIED, Task, adding, copy, draw_adding, draw_copy
from experiments.memory_cells import CONTENDERS
from experiments.memory_report import Outcome
from experiments.memory_specimen import adding_specimen, copy_specimen, sequences
from experiments.specimens import Specimen, one_way
from experiments.training import BEST, METRICS, Diverged, Training, best_params, first_params, independent, train
from jaxrnn.analysis import gradient_norms
from jaxrnn.training import metrics

Array = jax.Array
TASKS = {"adding": adding, "copy": copy}
PUBLISHED = {
    ("adding", "lstm-bias-1"): "at the floor for T = 600 (LSTM, Bai et al. 2018)",
    ("copy", "lstm-bias-1"): "at the floor for T = 1,000 (LSTM, Bai et al. 2018)",
}
RESULT = "result.json"
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
    memory_report.draw(directory / "curves.png", task, list(outcomes.values()), config.solved)
    memory_report.show(task, list(outcomes.values()))
    rows = [memory_report.row(task, told, PUBLISHED.get((config.task, name), "")) for name, told in outcomes.items()]
    return {
        "rows": [row._asdict() for row in rows],
        "pictures": {
            "curves.png": f"{task.name}: held-out loss of every cell with the floor, and the gradient back in time"
        },
        "floor": task.floor,
        "solved": [name for name, told in outcomes.items() if told.solved_step],
        "cells": {name: told._asdict() for name, told in outcomes.items()},
    }


def outcome(name: str, task: Task, config: Config, directory: pathlib.Path) -> Outcome:
    """Train a cell in its part of the run, or go on with it, and measure it."""
    words, make = CONTENDERS[name]
    print(f"\n{words}", flush=True)
    cell, own = make(task.inputs, config.hidden, config.length), directory / name
    model = jaxrnn.serial(jaxrnn.recurrent(cell), jaxrnn.dense(config.hidden, task.outputs))
    drawn = jax.random.fold_in(jax.random.key(config.training.seed), DRAWS)
    train_key, valid_key, test_key, probe_key = jax.random.split(drawn, 4)
    valid, test = (task.draw(key, config.held_out) for key in (valid_key, test_key))

    def answers(params: Any, xs: Array, targets: Array) -> Array:
        return model.apply(params, xs)[1][-len(targets) :]

    def loss(params: Any, batch: tuple[Array, Array]) -> Array:
        return task.loss(answers(params, *batch), batch[1])

    evaluate, diverged = jax.jit(loss), None
    try:
        train(
            own,
            config.training,
            model.init,
            independent(lambda params, batch, key: loss(params, batch)),
            batches(task, config.batch, train_key),
            rows=config.batch,
            evaluate=lambda params: {"loss": evaluate(params, valid)},
            enough=config.solved / 2,
            run=directory,
        )
    except Diverged as error:
        print(error, flush=True)
        diverged = error.step
    start, _ = first_params(config.training, model.init)
    best = best_params(own, start) if (own / BEST).exists() else start
    measured = float(evaluate(best, test))
    records = metrics.read(own / METRICS)
    evaluated = [record for record in records if record.get("evaluation", {}).get("loss") is not None]
    below = [record for record in evaluated if record["evaluation"]["loss"] <= config.solved]
    first = below[0] if below and measured <= config.solved else {}
    reach = reach_of(cell, task, task.draw(probe_key, config.gradients))
    one = jax.tree.map(lambda leaf: leaf[:, :1], test)
    return Outcome(
        words=words,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(start)),
        loss=measured,
        solved_step=first.get("step"),
        solved_seconds=first.get("seconds"),
        steps=records[-1]["step"] if records else 0,
        seconds=records[-1]["seconds"] if records else 0.0,
        diverged=diverged,
        reach_start=reach(start),
        reach_end=reach(best),
        example=task.tell(*(np.asarray(leaf)[:, 0] for leaf in (*one, answers(best, *one)))),
        curve=[(record["step"], record["evaluation"]["loss"]) for record in evaluated],
    )


def parts(config: Config, directory: pathlib.Path) -> list[str]:
    """Return the cells of a run whose training has ended, the one with the least loss first."""
    ended = [
        name for name in config.cells if (directory / name / RESULT).exists() and (directory / name / BEST).exists()
    ]
    if not ended:
        raise runs.InputError(f"{directory}: no cell is trained yet; continue with --resume {directory.name}")
    return sorted(ended, key=lambda name: runs.read_json(directory / name / RESULT)["loss"])


def specimen(config: Config, directory: pathlib.Path, steps: int, part: str) -> Specimen:
    """Return what a cell of a run shows on sequences that it was not trained on."""
    task, (words, make) = TASKS[config.task](config.length), CONTENDERS[part]
    cell, readout = make(task.inputs, config.hidden, config.length), jaxrnn.dense(config.hidden, task.outputs)
    model = jaxrnn.serial(jaxrnn.recurrent(cell), readout)
    params = best_params(directory / part, jax.eval_shape(model.init, jax.random.key(0)))
    key = jax.random.fold_in(jax.random.key(config.training.seed), DRAWS + 1)
    words, units_of = f"{words}, {config.hidden} units, on {task.name}", functools.partial(one_way, [cell], params[:1])
    if config.task == "adding":
        xs, _ = draw_adding(key, config.length, sequences(steps, config.length))
        return adding_specimen(words, model, params, units_of(xs), "layer 1 h", xs)
    tokens, _ = draw_copy(key, config.length, sequences(steps, config.length + 2 * COPIED))
    table = jnp.eye(task.inputs)
    return copy_specimen(words, model, params, table, units_of(table[tokens]), "layer 1 h", np.asarray(tokens))


def batches(task: Task, batch: int, key: Array) -> Callable[[int], tuple[Array, Array]]:
    """Return the function from a step to its sequences."""
    return jax.jit(lambda step: task.draw(jax.random.fold_in(key, step), batch))


def reach_of(cell: jaxrnn.Cell, task: Task, drawn: tuple[Array, Array]) -> Callable[[Any], list[float]]:
    """Return ``(params) -> ‖∂L/∂carry_t‖``, from the step of the first answer, where it is 1, back to step 1.

    L is the loss of that answer; the norms are medians over the sequences ``drawn``, in float64.
    """
    xs, targets = drawn
    xs, wanted = xs[: task.first + 1], targets[task.first - len(xs) :][:1]

    @jax.jit
    def norms(params: Any, xs: Array, wanted: Array) -> Array:
        cell_params, readout = params

        def loss(carries: Any) -> Array:
            h = getattr(carries, "h", carries)[-1:]
            _, answer = jaxrnn.dense(h.shape[-1], task.outputs, dtype=h.dtype).apply(readout, h)
            return task.loss(answer, wanted) * wanted.shape[1]  # a sum: the sequences stay apart

        total = gradient_norms(cell, cell_params, xs, loss).total
        return jnp.median(total[::-1] / total[-1:], axis=1)

    def precise(leaf: Array) -> Array:
        return leaf.astype(jnp.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    def reach(params: Any) -> list[float]:
        with jax.enable_x64(True):
            return norms(*jax.tree.map(precise, (params, xs, wanted))).tolist()

    return reach
