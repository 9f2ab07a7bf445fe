"""The pictures of `experiments.long_memory`: learning curves, and the loss of every cell beside what was measured."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from experiments.data.memory import Task
from experiments.memory_report import LEAST, STANDINGS, Outcome, ranked, standing

COLOURS: dict[str, str] = dict(zip(STANDINGS, ("#1b7837", "#2166ac", "#777777", "#b2182b", "#762a83"), strict=True))
LOWEST = 1e-16  # share of a gradient at the foot of the picture
COLUMNS = 6
NOTE: dict[str, Any] = {"textcoords": "offset points", "va": "center", "fontsize": 8}


def draw_curves(path: pathlib.Path, task: Task, outcomes: Sequence[Outcome], solved: float) -> None:
    """Draw the held-out loss of each cell over the steps, before those of all others in grey; the best come first."""
    rows = -(-len(outcomes) // COLUMNS)
    figure = Figure(figsize=(14, 2.1 * rows + 0.9), layout="constrained")
    places = figure.subplots(rows, min(COLUMNS, len(outcomes)), sharex=True, sharey=True, squeeze=False).ravel()
    curves = [np.asarray(told.curve, float).reshape(-1, 2).T for told in outcomes]
    highest = max([task.floor, *(loss for told in outcomes for _, loss in told.curve)])
    lowest = min([solved, *(loss for told in outcomes for _, loss in told.curve)])
    for axes, told in zip(places, ranked(outcomes), strict=False):
        came_to = standing(told, task.floor)
        for curve in curves:
            axes.plot(*curve, color="0.85", linewidth=0.7)
        axes.plot(*np.asarray(told.curve, float).reshape(-1, 2).T, color=COLOURS[came_to], linewidth=2)
        for value in (task.floor, solved):
            axes.axhline(value, color="0.3", linestyle=":", linewidth=1)
        axes.set_title(told.words, loc="left", fontsize=10, pad=14)
        when = f"solved at step {told.solved_step:,}" if told.solved_step else f"{told.loss:.4f}, {came_to}"
        axes.text(0, 1.02, when, transform=axes.transAxes, fontsize=9, color=COLOURS[came_to])
        axes.spines[["top", "right"]].set_visible(False)
        axes.set(yscale="log", ylim=(lowest / 1.3, min(highest, 5 * task.floor) * 1.2), xlim=(0, None))
    for axes in places[len(outcomes) :]:
        axes.set_visible(False)
    words = {"fontsize": 8, "color": "0.3", "ha": "right", "transform": places[0].get_yaxis_transform()}
    places[0].text(0.99, task.floor * 1.06, "without memory", **words)
    places[0].text(0.99, solved * 1.06, "solved", **words)
    figure.supxlabel("step", fontsize=10)
    figure.supylabel(task.unit, fontsize=10)
    figure.suptitle(f"{task.name}: loss on held-out sequences", x=0.01, ha="left")
    figure.savefig(path, dpi=120)


def draw_measures(path: pathlib.Path, task: Task, outcomes: Sequence[Outcome], solved: float) -> None:
    """Draw a line for each cell: its loss, the gradient that reaches step 1, and what its state keeps of step 1."""
    figure = Figure(figsize=(12, 0.27 * len(outcomes) + 1.9), layout="constrained")
    losses, gradients, states = figure.subplots(1, 3, sharey=True)
    order = ranked(outcomes)
    for place, told in enumerate(order):
        colour = COLOURS[standing(told, task.floor)]
        losses.plot(told.loss, place, marker="o", color=colour)
        losses.annotate(f"{told.loss:.4f}", (told.loss, place), (7, 0), **NOTE, color=colour)
        reach = np.maximum([told.reach_start[-1], told.reach_end[-1]], LOWEST)
        _from_to(gradients, place, reach, colour)
        _from_to(states, place, np.array([told.kept_start, told.kept_end]), colour)
    for value, words in ((task.floor, "without memory"), (solved, "solved")):
        losses.axvline(value, color="0.3", linestyle=":", linewidth=1, zorder=0)
        losses.text(value, -1.1, words, ha="center", fontsize=8, color="0.3")
    gradients.axvline(LEAST, color="0.3", linestyle=":", linewidth=1, zorder=0)
    gradients.text(LEAST, -1.1, "vanished", ha="right", fontsize=8, color="0.3")
    lowest, highest = min(told.loss for told in order), max(told.loss for told in order)
    losses.set(xscale="log", xlim=(min(lowest, solved) / 1.5, 4 * max(highest, task.floor)), xlabel=task.unit)
    losses.set(yticks=range(len(order)), yticklabels=[told.words for told in order])
    losses.set_ylim(len(order) - 0.5, -1.4)
    gradients.set(xscale="log", xlim=(LOWEST / 3, None), xlabel=f"at most {LOWEST:.0e} on the left edge")
    states.set(xlim=(-0.03, 1.03), xlabel="variance that a linear probe explains")
    states.xaxis.set_major_formatter(PercentFormatter(1))
    titles = f"{task.name}: loss", "gradient that reaches step 1", "beginning kept in the state"
    for axes, title in zip((losses, gradients, states), titles, strict=True):
        axes.set_title(title, loc="left", fontsize=11)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", color="0.93")
        axes.set_axisbelow(True)
    found = [name for name in STANDINGS if name in {standing(told, task.floor) for told in order}]
    dot: dict[str, Any] = {"marker": "o", "linestyle": ""}
    keys = [Line2D([], [], color=COLOURS[name], label=name, **dot) for name in found]
    keys.append(Line2D([], [], color="0.3", markerfacecolor="white", label="at the start", **dot))
    keys.append(Line2D([], [], color="0.3", label="best parameters", **dot))
    figure.legend(handles=keys, loc="outside lower center", ncols=len(keys), frameon=False, fontsize=9)
    figure.savefig(path, dpi=120)


def _from_to(axes: Any, place: int, values: np.ndarray, colour: str) -> None:
    axes.plot(values, [place, place], color=colour, linewidth=1.2, alpha=0.6)
    axes.plot(values[0], place, marker="o", color=colour, markerfacecolor="white", clip_on=False)
    axes.plot(values[1], place, marker="o", color=colour, clip_on=False)
