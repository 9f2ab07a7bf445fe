"""Plots of the translation experiment: what it learns step by step, and what it attends to."""

import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Alignment(NamedTuple):
    """A sentence, its translation, and the weights ``[T, S]`` of the source's words for each that is written."""

    source: list[str]
    target: list[str]
    weights: np.ndarray


def draw_curves(path: pathlib.Path, records: list[dict[str, Any]], baseline: float, title: str) -> None:
    """Plot losses and, below, BLEU on the validation sentences over steps.

    Args:
        path: of the PNG.
        records: of the run.
        baseline: BLEU of translating word by word.
        title: the plot's.
    """
    figure, (losses, bleu) = _figure(2, (9, 6.4), sharex=True)
    evaluated = [record for record in records if "evaluation" in record]
    steps = [record["step"] for record in evaluated]
    losses.plot(
        [record["step"] for record in records],
        [record["loss"] for record in records],
        color="tab:blue",
        alpha=0.6,
        linewidth=1,
        label="training, with smoothed labels and dropout",
    )
    marks = {"color": "tab:orange", "marker": "o", "markersize": 4, "clip_on": False, "zorder": 3}
    losses.plot(steps, [record["evaluation"]["loss"] for record in evaluated], label="validation, without", **marks)
    losses.set_ylabel("loss in nats per word")
    losses.set_ylim(0, 1.05 * max(record["loss"] for record in records))
    losses.legend(frameon=False)
    losses.set_title(title, loc="left", fontsize=11)
    bleu.plot(steps, [record["evaluation"]["bleu"] for record in evaluated], label="validation, greedy", **marks)
    bleu.axhline(baseline, color="0.45", linestyle="--", linewidth=1, label="word by word")
    bleu.set_ylabel("BLEU")
    bleu.set_ylim(0, None)
    bleu.set_xlim(0, steps[-1])
    bleu.set_xlabel("step")
    bleu.legend(frameon=False, loc="lower right")
    for axes in (losses, bleu):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.2)
    figure.savefig(path, dpi=150)


def draw_alignments(path: pathlib.Path, alignments: Sequence[Alignment], title: str) -> None:
    """Draw a matrix for each sentence: columns are its words, rows those of the translation, from above."""
    cell = 0.34
    widths = [len(alignment.source) for alignment in alignments]
    height = max(len(alignment.target) for alignment in alignments)
    size = cell * sum(widths) + 1.5 * len(alignments), cell * height + 2
    figure, panels = _figure(1, size, columns=len(alignments), width_ratios=widths)
    for axes, alignment in zip(panels, alignments, strict=True):
        axes.imshow(alignment.weights, cmap="Blues", vmin=0, vmax=1, aspect="equal")
        axes.set_xticks(range(len(alignment.source)), alignment.source, rotation=90, fontsize=9)
        axes.set_yticks(range(len(alignment.target)), alignment.target, fontsize=9)
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        axes.set_anchor("N")
        axes.spines[:].set_color("0.8")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    figure.savefig(path, dpi=150)


def _figure(rows: int, size: tuple[float, float], *, columns: int = 1, sharex: bool = False, **grid: Any) -> Any:
    """Return a figure without pyplot and its axes, one after the other."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, sharex=sharex, gridspec_kw=grid).ravel()
