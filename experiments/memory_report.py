"""What `experiments.long_memory` shows: a picture, a table, and in words why a cell failed."""

import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib.figure
import numpy as np
import rich.box
import rich.console
import rich.table

from experiments import runs
from experiments.data.memory import Task

LEAST, MOST = 1e-4, 1e4  # shares of a gradient beyond which it has vanished, or exploded
LOWEST = 1e-16  # share of a gradient at the foot of the picture


class Outcome(NamedTuple):
    """What training a cell gave.

    words: the cell and its start. parameters: how many numbers it learns.
    loss: of the best parameters, on sequences that chose nothing.
    solved_step, solved_seconds: when it first solved the task on held-out sequences; None if it did not.
    steps, seconds: of the whole training.
    diverged: the step whose loss was no number, or None.
    reach_start, reach_end: gradient norms from the answer back to step 1, at the start and at the best.
    example: a sequence and its answer, in a line.
    curve: steps and held-out losses.
    """

    words: str
    parameters: int
    loss: float
    solved_step: int | None
    solved_seconds: float | None
    steps: int
    seconds: float
    diverged: int | None
    reach_start: list[float]
    reach_end: list[float]
    example: str
    curve: list[Any]


def verdict(told: Outcome, floor: float) -> str:
    """Return whether a cell solved the task, and what was measured where it did not."""
    start, reach = told.reach_start[-1], told.reach_end[-1]
    if told.solved_step is not None:
        return f"solved at step {told.solved_step:,}"
    if told.diverged is not None:
        return f"not solved: it diverged at step {told.diverged:,}"
    if told.loss < 0.9 * floor:
        return f"not solved in {told.steps:,} steps, but {1 - told.loss / floor:.0%} below the floor"
    if reach < LEAST <= start:
        return f"not solved: training loses the gradient, of which {start:.1g} reached step 1, and {reach:.0e} does"
    if reach < LEAST:
        return f"not solved: the gradient vanishes, {reach:.0e} of it reaches step 1"
    if reach > MOST:
        return f"not solved: the gradient explodes, {reach:.0e} times it reaches step 1"
    return f"not solved in {told.steps:,} steps, though {reach:.1g} of the gradient reaches step 1"


def row(task: Task, told: Outcome, published: str) -> runs.Row:
    """Return the figure of a cell for the report."""
    return runs.Row(
        f"{task.name}: {told.words}; {verdict(told, task.floor)}",
        told.loss,
        task.unit,
        floor=f"{task.floor:.4f} (no memory)",
        published=published,
        parameters=told.parameters,
        seconds=told.seconds,
    )


def show(task: Task, outcomes: Sequence[Outcome]) -> None:
    """Print the table of all cells, those that solved the task first; then the verdicts, and what each answers."""
    title = f"{task.name}: {task.unit} ({task.floor:.4f} without memory), and the gradient's share at step 1"
    shown = rich.table.Table(title=title, title_justify="left", box=rich.box.SIMPLE_HEAD)
    shown.add_column("cell", no_wrap=True)
    for name in ("loss", "parameters", "minutes", "start", "best"):
        shown.add_column(name, justify="right", min_width=len(name))
    ordered = sorted(outcomes, key=_rank)
    for told in ordered:
        shares = f"{told.reach_start[-1]:.0e}", f"{told.reach_end[-1]:.0e}"
        shown.add_row(told.words, f"{told.loss:.4f}", f"{told.parameters:,}", f"{told.seconds / 60:.1f}", *shares)
    console = rich.console.Console(highlight=False)
    console.print(shown)
    for told in ordered:
        line = f"{told.words}: {verdict(told, task.floor)}; {told.example}"
        console.print(line, markup=False, soft_wrap=True)


def draw(path: pathlib.Path, task: Task, outcomes: Sequence[Outcome], solved: float) -> None:
    """Draw the held-out losses over the steps, and at the start the gradient over the steps back from the answer."""
    figure = matplotlib.figure.Figure(figsize=(14, 5.6), layout="constrained")
    losses, gradients = figure.subplots(1, 2)
    colors = matplotlib.colormaps["tab20"].colors  # pyright: ignore
    lines = []
    for told, color in zip(outcomes, (colors[::2] + colors[1::2]) * len(outcomes), strict=False):
        style: dict[str, Any] = {"color": color, "linewidth": 2.0 if told.solved_step else 1.2}
        style["linestyle"] = "-" if told.solved_step else "--"
        (line,) = losses.plot(*np.asarray(told.curve, float).reshape(-1, 2).T, **style)
        gradients.plot(np.maximum(told.reach_start, LOWEST / 10), **style)
        when = f"step {told.solved_step:,}" if told.solved_step else "not solved"
        lines.append((_rank(told), line, f"{told.words}: {when}"))
    for value, words in ((task.floor, "without memory"), (solved, "solved")):
        losses.axhline(value, color="0.4", linestyle=":", linewidth=1)
        losses.text(
            0.99, value, f"{words} {value:.4g}", transform=losses.get_yaxis_transform(), va="bottom", ha="right"
        )
    highest = max([task.floor, *(loss for told in outcomes for _, loss in told.curve)])
    losses.set(yscale="log", ylim=(solved / 4, min(highest, 5 * task.floor) * 1.2), xlabel="step", ylabel=task.unit)
    losses.set_title(f"{task.name}: loss on held-out sequences", loc="left")
    lowest = min(min(told.reach_start) for told in outcomes)
    gradients.set(yscale="log", ylim=(max(lowest / 2, LOWEST), None), xlabel="steps back from the answer")
    gradients.set_ylabel("norm of the gradient, 1 at the answer")
    gradients.set_title("What reaches each step at the start of training", loc="left")
    for axes in (losses, gradients):
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlim(0, None)
    lines.sort(key=lambda entry: entry[0])
    names = [name for *_, name in lines]
    gradients.legend([line for _, line, _ in lines], names, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.savefig(path, dpi=150)


def _rank(told: Outcome) -> tuple[float, float]:
    return (float("inf") if told.solved_step is None else told.solved_step, told.loss)
