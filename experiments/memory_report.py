"""What `experiments.long_memory` says: what a cell came to, in words what was measured where it failed, and a table."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import rich.box
import rich.console
import rich.table

from experiments import runs
from experiments.data.memory import Task

NEAR = 0.05  # share of the floor that a loss at the floor may be away from it
LEAST, MOST = 1e-4, 1e4  # shares of a gradient beyond which it has vanished, or exploded
MUCH = 0.5  # share of the beginning
STEEP = 100  # norm of a gradient
FALLING = 0.02  # share of a loss
STANDINGS: tuple[str, ...] = ("solved", "below the floor", "at the floor", "above the floor", "diverged")


class Outcome(NamedTuple):
    """What training a cell gave.

    words: the cell and its start. parameters: how many numbers it learns.
    loss: of the best parameters, on sequences that chose nothing.
    needless: the part of that loss which is of answers that need no memory.
    solved_step, solved_seconds: when it first solved the task on held-out sequences; None if it did not.
    steps, seconds: of the whole training.
    diverged: the step whose loss was no number, or None.
    reach_start, reach_end: gradient norms from the answer back to step 1, at the start and at the best.
    kept_start, kept_end: the share of the beginning in the state at the answer, at the start and at the best.
    steepest: the greatest norm of a gradient, before clipping. clipped: the share of updates that were.
    example: a sequence and its answer, in a line.
    curve: steps and held-out losses.
    """

    words: str
    parameters: int
    loss: float
    needless: float
    solved_step: int | None
    solved_seconds: float | None
    steps: int
    seconds: float
    diverged: int | None
    reach_start: list[float]
    reach_end: list[float]
    kept_start: float
    kept_end: float
    steepest: float
    clipped: float
    example: str
    curve: list[Any]


def standing(told: Outcome, floor: float) -> str:
    """Return which of `STANDINGS` a cell came to."""
    if told.solved_step is not None:
        return "solved"
    if told.diverged is not None:
        return "diverged"
    return _beside(told.loss, floor)


def verdict(told: Outcome, floor: float) -> str:
    """Return whether a cell solved the task, and what was measured where it did not."""
    if told.solved_step is not None:
        return f"solved at step {told.solved_step:,}"
    where = _beside(told.loss, floor)
    if where != "at the floor":
        where = f"{abs(told.loss / floor - 1):.0%} {where}"
    if told.diverged is not None:
        where = f"diverged at step {told.diverged:,}, until then {where}"
    return f"not solved, {where}: {'; '.join(findings(told, floor))}"


def findings(told: Outcome, floor: float) -> Iterator[str]:
    """Yield what was measured of a cell that failed: always gradient and state, the rest where there is something."""
    if told.needless > NEAR * floor:
        yield f"{told.needless / told.loss:.0%} of its loss is of answers that need no memory"
    before, reach = told.reach_start[-1], told.reach_end[-1]
    if reach < LEAST <= before:
        yield f"training loses the gradient, {before:.0e} of it reached step 1 and {reach:.0e} does"
    elif reach < LEAST:
        yield f"the gradient vanishes, {reach:.0e} of it reaches step 1"
    elif reach > MOST:
        yield f"the gradient explodes, {reach:.0e} times it reaches step 1"
    else:
        yield f"{reach:.1g} of the gradient reaches step 1"
    before, kept = told.kept_start, told.kept_end
    if kept < MUCH <= before:
        yield f"training loses what the state kept of the beginning, {before:.0%} at the start and {kept:.0%} now"
    elif kept >= MUCH and told.loss > (1 - NEAR) * floor:
        yield f"the state keeps {kept:.0%} of the beginning, and the answers make no use of it"
    else:
        yield f"the state keeps {kept:.0%} of the beginning"
    if told.steepest > STEEP:
        yield f"gradients grow to a norm of {told.steepest:.0e} in training, {told.clipped:.0%} of updates are clipped"
    if (fell := fall(told)) > FALLING:
        yield f"the loss still fell by {fell:.0%} in the second half of training"


def fall(told: Outcome) -> float:
    """Return by which share the least held-out loss fell in the second half of the training."""
    losses = [loss for _, loss in told.curve]
    first = [loss for step, loss in told.curve if step <= told.steps / 2]
    return 1 - min(losses) / min(first) if first else 0.0


def row(task: Task, told: Outcome, published: str) -> runs.Row:
    """Return the figure of a cell for the report."""
    return runs.Row(
        f"{task.name}: {told.words}",
        told.loss,
        task.unit,
        floor=f"{task.floor:.4f} (no memory)",
        published=published,
        parameters=told.parameters,
        seconds=told.seconds,
        outcome=verdict(told, task.floor),
    )


def show(task: Task, outcomes: Sequence[Outcome]) -> None:
    """Print the table of all cells, those that solved the task first; then the verdicts, and what each answers."""
    title = f"{task.name}: {task.unit} ({task.floor:.4f} without memory)"
    shown = rich.table.Table(
        title=title, title_justify="left", box=rich.box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    shown.add_column("cell, from start to best", no_wrap=True)
    for name in ("loss", "weights", "min", "gradient\nat step 1", "beginning\nkept"):
        shown.add_column(name, justify="right", no_wrap=True)
    for told in ranked(outcomes):
        reach = f"{told.reach_start[-1]:.0e} → {told.reach_end[-1]:.0e}"
        kept = f"{told.kept_start:.0%} → {told.kept_end:.0%}"
        figures = (f"{told.loss:.4f}", f"{told.parameters:,}", f"{told.seconds / 60:.1f}")
        shown.add_row(told.words, *figures, reach, kept)
    console = rich.console.Console(highlight=False)
    console.print(shown)
    for told in ranked(outcomes):
        line = f"{told.words}: {verdict(told, task.floor)}; {told.example}"
        console.print(line, markup=False, soft_wrap=True)


def ranked(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return those that solved the task first, the sooner the better, and the others by their loss."""
    return sorted(outcomes, key=lambda told: (told.solved_step is None, told.solved_step or 0, told.loss))


def _beside(loss: float, floor: float) -> str:
    if abs(loss / floor - 1) <= NEAR:
        return "at the floor"
    return "below the floor" if loss < floor else "above the floor"
