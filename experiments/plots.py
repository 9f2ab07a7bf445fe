"""Plots shared by the experiments."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def learning_curves(
    path: pathlib.Path,
    train: tuple[Sequence[float], Sequence[float]],
    valid: tuple[Sequence[float], Sequence[float]],
    floors: Mapping[str, float],
    *,
    title: str,
    unit: str,
) -> None:
    """Plot the loss in training and validation over steps, with a labelled line for each floor.

    Args:
        path: of the PNG.
        train, valid: steps and losses; ``valid`` is marked point by point.
        floors: what to compare with, by name.
        title: the plot's, one line or more.
        unit: of the losses.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    steps, losses = np.asarray(train[0], float), np.asarray(train[1], float)
    axes.plot(steps, losses, color="tab:blue", alpha=0.6, linewidth=1, label="training")
    axes.plot(*valid, color="tab:orange", marker="o", markersize=4, label="validation", clip_on=False, zorder=3)
    end = max([1.0, *steps.tolist(), *map(float, valid[0])])
    axes.set_xlim(0, end)
    seen = [*valid[1], *floors.values()]
    low = min([*seen, *losses.tolist()]) if len(losses) else min(seen)
    # The first steps start far above everything else and would squeeze it.
    high = max(floors.values()) if floors else max(seen)
    margin = 0.05 * (high - low)
    axes.set_ylim(low - margin, high + 2 * margin)
    floor_lines([axes], floors)
    best = int(np.argmin(valid[1])) if len(valid[1]) else None
    if best is not None:
        axes.annotate(
            f"{valid[1][best]:.3f}",
            (valid[0][best], valid[1][best]),
            xytext=(0, 9),
            textcoords="offset points",
            ha="right" if valid[0][best] > 0.5 * end else "left",
            color="tab:orange",
            fontweight="bold",
        )
    axes.set_xlabel("step")
    axes.set_ylabel(f"loss in {unit}")
    axes.set_title(title, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.2)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, borderaxespad=0)
    figure.savefig(path, dpi=150)


def floor_lines(panels: Sequence[Any], floors: Mapping[str, float]) -> None:
    """Draw a line for each floor in panels that share their y axis, whose limits are set; labels stand to the right.

    Labels that would lie on each other are moved up, on a linear axis.
    """
    low, high = panels[-1].get_ylim()
    for place, (name, value) in zip(_apart(list(floors.values()), 0.04 * (high - low)), floors.items(), strict=True):
        for axes in panels:
            axes.axhline(value, color="0.45", linestyle="--", linewidth=1, zorder=0.9)
        panels[-1].annotate(
            f"{name}  {value:.3f}",
            (1, place),
            xycoords=("axes fraction", "data"),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color="0.25",
        )


def _apart(values: list[float], distance: float) -> list[float]:
    """Return places for labels near ``values``, none closer to the next than ``distance``."""
    order = np.argsort(values)
    places = np.asarray(values, float)[order]
    for index in range(1, len(places)):
        places[index] = max(places[index], places[index - 1] + distance)
    apart = np.empty_like(places)
    apart[order] = places
    return apart.tolist()
