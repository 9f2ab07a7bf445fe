"""The pictures and the table of `experiments.image_sequence`."""

import pathlib
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import rich.box
import rich.table
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator, PercentFormatter

from experiments.image_saliency import TOLERANCE, Saliency
from experiments.training import Trained

NOTE: dict[str, Any] = {"textcoords": "offset points", "fontsize": 8, "va": "bottom", "ha": "right"}
LABELS = ({"label": "validation"}, {"label": "test, at the best validation", "linestyle": ""})
COLOURS = [to_hex(colour) for colour in matplotlib.colormaps["tab10"](range(10))]


class Trajectories(NamedTuple):
    """States of N images in two principal components, ``coordinates [rows, N, 2]``, with ``shares`` of the variance."""

    coordinates: np.ndarray
    labels: np.ndarray
    shares: list[float]


def draw_curves(
    path: pathlib.Path,
    trained: Trained,
    over_time: list[float],
    floors: dict[str, float],
    accuracy: float,
    title: str,
) -> None:
    """Draw the errors in validation over the training steps, and the test accuracy over the steps of a sequence."""
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    training, reading = figure.subplots(1, 2)
    evaluated = [record for record in trained.records if "evaluation" in record]
    steps, errors = zip(*((record["step"], record["evaluation"]["error"]) for record in evaluated), strict=True)
    tested, others = 1 - accuracy, {name: 1 - value for name, value in floors.items()}
    least = min((error for error in (*errors, tested, *others.values()) if error > 0), default=0.1) / 1.5
    shown = lambda error: max(error, least)  # a logarithm has no place for none
    training.plot(steps, [shown(error) for error in errors], color="tab:orange", marker="o", markersize=4, **LABELS[0])
    training.plot([trained.step], [shown(tested)], color="tab:red", marker="*", markersize=11, **LABELS[1])
    for name, error in others.items():
        if error > 0:
            training.axhline(error, color="0.45", linestyle="--", linewidth=1)
        training.annotate(f"{name}  {error:.1%}{'' if error else ' ↓'}", (steps[-1], shown(error)), (0, 3), **NOTE)
    training.annotate(f"{tested:.1%}", (trained.step, shown(tested)), (-7, 3), **NOTE | {"color": "tab:red"})
    training.set_yscale("log")
    training.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    training.yaxis.set_minor_locator(NullLocator())
    training.yaxis.set_major_formatter(FuncFormatter(lambda error, _: f"{100 * error:.3g}%"))
    training.set(xlabel="training step", ylabel="errors", xlim=(0, 1.02 * steps[-1]), ylim=(least / 1.2, 1.3))
    training.set_title(title, loc="left", fontsize=11)
    training.legend(loc="upper right", bbox_to_anchor=(1, 0.9), frameon=False)
    times = np.arange(1, len(over_time) + 1)
    reading.plot(times, over_time, color="tab:blue", marker="." if len(times) < 40 else None)
    reading.axhline(floors["majority"], color="0.45", linestyle="--", linewidth=1)
    reading.annotate(f"majority  {floors['majority']:.1%}", (times[-1], floors["majority"]), (0, 3), **NOTE)
    reading.annotate(f"{over_time[-1]:.1%}", (times[-1], over_time[-1]), (0, 4), **NOTE | {"color": "tab:blue"})
    reading.yaxis.set_major_formatter(PercentFormatter(1))
    reading.set(xlabel="steps read", ylabel="accuracy", ylim=(0, 1.05), xlim=(0, None))
    reading.set_title("test accuracy, were the sequence cut there", loc="left", fontsize=11)
    for axes in (training, reading):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.2)
    figure.savefig(path, dpi=130)


def draw_states(path: pathlib.Path, shown: Trajectories, title: str) -> None:
    """Draw the way of each image's state, row after row to a dot at the last, in the colour of its class."""
    figure = Figure(figsize=(12, 5.4), layout="constrained")
    ways, means = figure.subplots(1, 2, sharex=True, sharey=True)
    x, y = np.moveaxis(shown.coordinates, -1, 0)
    for image, label in enumerate(shown.labels):
        ways.plot(x[:, image], y[:, image], color=COLOURS[label], linewidth=0.6, alpha=0.45)
    ways.scatter(x[-1], y[-1], color=[COLOURS[label] for label in shown.labels], s=22, zorder=3)
    for label in np.unique(shown.labels):
        of_class = shown.labels == label
        means.plot(x[:, of_class].mean(axis=1), y[:, of_class].mean(axis=1), color=COLOURS[label], linewidth=1.5)
        end = x[-1, of_class].mean(), y[-1, of_class].mean()
        means.text(*end, str(label), ha="center", va="center", color="white", weight="bold", bbox=dot(COLOURS[label]))
    for axes in (ways, means):
        axes.set_xlabel(f"first component, {shown.shares[0]:.0%} of the variance")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.15)
    ways.set_ylabel(f"second component, {shown.shares[1]:.0%}")
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    ways.set_title(f"states of {len(shown.labels)} test images, after each row", loc="left", fontsize=11)
    means.set_title("mean of each class, its label after the last row", loc="left", fontsize=11)
    handles = [Line2D([], [], color=COLOURS[label], marker="o", label=str(label)) for label in np.unique(shown.labels)]
    figure.legend(handles=handles, loc="outside right center", frameon=False, title="digit")
    figure.savefig(path, dpi=130)


def dot(colour: Any) -> dict[str, Any]:
    """Return the box of a text that makes it a dot."""
    return {"boxstyle": "circle,pad=0.25", "color": colour}


def draw_saliency(path: pathlib.Path, shown: Saliency, title: str) -> None:
    """Draw one image of each class above its two maps: red speaks for the label, blue against it.

    Below an integral that misses much stands how much, as a share of what its pixels must add up to.
    """
    count = len(shown.labels)
    figure = Figure(figsize=(1.15 * count + 0.9, 4.4), layout="constrained")
    rows = figure.subplots(3, count, squeeze=False)
    maps = (shown.gradients, shown.attributions)
    for column in range(count):
        answer = "" if shown.answers[column] == shown.labels[column] else f" (said {shown.answers[column]})"
        rows[0, column].set_title(f"{shown.labels[column]}{answer}", fontsize=10)
        rows[0, column].imshow(shown.images[column], cmap="gray_r")
        for row, values in enumerate((each[column] for each in maps), 1):
            limit = np.abs(values).max() or 1.0
            rows[row, column].imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit)
    for axes in rows.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_color("0.8")
    for axes, words in zip(rows[:, 0], ("image", "gradient", "integrated\ngradients"), strict=True):
        axes.set_ylabel(words, fontsize=9)
    for axes, gap in zip(rows[2], shown.gaps, strict=True):
        if gap > TOLERANCE:
            axes.set_xlabel(f"misses {gap:.0%}", fontsize=9, color="tab:red")
    words = (
        f"red speaks for the label, blue against it; integrals are right to {TOLERANCE:.0%} unless they say otherwise"
    )
    figure.suptitle(f"{title}\n{words}", x=0.01, ha="left", fontsize=11)
    figure.savefig(path, dpi=130)


def table(floors: dict[str, float], accuracy: float, step: int, name: str, count: int) -> rich.table.Table:
    """Return the table of the methods without a network and, last, of the best model of a run, called ``name``."""
    shown = rich.table.Table(title=f"Accuracy on {count:,} test images", title_justify="left", box=rich.box.SIMPLE_HEAD)
    shown.add_column("model", no_wrap=True)
    shown.add_column("accuracy", justify="right")
    shown.add_column("errors", justify="right")
    for method, value in floors.items():
        shown.add_row(method, f"{value:.2%}", str(round((1 - value) * count)))
    shown.add_row(
        f"{name} (best, at step {step:,})", f"{accuracy:.2%}", str(round((1 - accuracy) * count)), style="bold"
    )
    return shown
