"""The pictures of `experiments.gradient_flow`."""

import itertools
from collections.abc import Iterable
from typing import Any, NamedTuple

import matplotlib.figure
import numpy as np


class Curves(NamedTuple):
    """Gradient norms relative to the last step, over steps back 0..T-1: median, and 10 and 90 percent."""

    median: np.ndarray
    low: np.ndarray
    high: np.ndarray


PALETTE = ("#c8502d", "#1f6f8b", "#3a9d6e", "#8e5ea2", "#b8860b", "#555555")
GREY = "#8a8a8a"


def colored(items: Iterable[Any]) -> list[tuple[Any, str]]:
    """Return every item with a colour of its own, the first ones always the same."""
    return list(zip(items, itertools.cycle(PALETTE), strict=False))


def short(value: float) -> str:
    """Return a positive number for a title: plain if near one, else as a power of ten."""
    if 0.01 <= value < 100:
        return f"{value:.2g}"
    if not np.isfinite(value):
        return str(value)
    return f"$10^{{{np.log10(value):.0f}}}$" if value > 0 else "0"


def two_panels() -> tuple[matplotlib.figure.Figure, Any]:
    """Return a figure with two panels side by side."""
    figure = matplotlib.figure.Figure(figsize=(13, 5), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels


def final(losses: np.ndarray) -> float:
    """Return the mean loss of the last tenth of the updates."""
    return float(losses[-max(1, len(losses) // 10) :].mean())


def largest_norm(norms: np.ndarray) -> float:
    """Return the largest gradient norm up to where one is not finite, if one is."""
    finite = norms[np.isfinite(norms)]
    return float(finite.max()) if len(finite) else np.nan


def visible(lines: Iterable[np.ndarray]) -> tuple[float, float]:
    """Return limits of a logarithmic axis that hold all positive finite values, with some room."""
    values = np.concatenate([line[(line > 0) & np.isfinite(line)] for line in lines])
    low, high = np.log10(values.min()), np.log10(values.max())
    room = 0.05 * max(high - low, 1)
    return 10 ** (low - room), 10 ** (high + room)


def label_ends(axes: Any, ends: dict[str, tuple[float, str]]) -> None:
    """Write names, each with its line's (last value, colour), at the right edge of a panel, none on another."""
    low, high = np.log10(axes.get_ylim())
    gap, right = 0.06 * (high - low), axes.get_xlim()[1]
    order = sorted(ends, key=lambda name: ends[name][0])
    places = [float(np.clip(np.log10(max(ends[name][0], 10**low)), low, high)) for name in order]
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + gap)
    for i, place in enumerate(places):  # those pushed over the top come down again
        highest = high - gap * (len(places) - 1 - i)
        axes.annotate(
            order[i],
            (right, 10 ** min(place, highest)),
            xytext=(6, 0),
            textcoords="offset points",
            color=ends[order[i]][1],
            va="center",
            fontsize=9.5,
            annotation_clip=False,
        )


def plot_norms(
    axes: Any, measured: dict[str, Curves], title: str, labels: dict[str, str] | None = None, limits: Any = None
) -> None:
    """Plot gradient norms over steps back from the last, with bands."""
    ends = {}
    for (name, curve), color in colored(measured.items()):
        back = np.arange(len(curve.median))
        axes.plot(back, np.where(curve.median > 0, curve.median, np.nan), color=color, lw=2)
        axes.fill_between(back, curve.low, curve.high, color=color, alpha=0.15, lw=0)
        ends[labels[name] if labels else name] = (float(curve.median[-1]), color)
    axes.axhline(1, color=GREY, lw=0.8)
    axes.set(yscale="log", xlim=(0, len(back) - 1), ylim=limits or visible(curve.median for curve in measured.values()))
    axes.set(xlabel="steps back from the last", ylabel="‖∂L/∂carry‖ relative to the last step")
    axes.set_title(title, fontsize=11)
    label_ends(axes, ends)


def smooth(losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the middles of some 60 stretches of updates, and the mean loss in each."""
    length = max(1, len(losses) // 60)
    means = losses[: len(losses) // length * length].reshape(-1, length).mean(axis=1)
    return (np.arange(len(means)) + 0.5) * length, means


def plot_updates(
    axes: Any, lines: dict[str, tuple[np.ndarray, np.ndarray]], level: tuple[str, float], title: str
) -> None:
    """Plot lines over updates on a logarithmic axis, beside one level with a name."""
    name_of_level, height = level
    ends = {name_of_level: (height, GREY)}
    for (name, (updates, values)), color in colored(lines.items()):
        axes.plot(updates, values, color=color, lw=1.8)
        last = float(values[-1])
        ends[name if np.isfinite(last) else f"{name}: diverged"] = (last if np.isfinite(last) else np.inf, color)
    axes.axhline(height, color=GREY, lw=1, ls="--")
    limits = visible([*(values for _, values in lines.values()), np.array([height])])
    axes.set(
        yscale="log", ylim=limits, xlim=(1, max(2, *(updates[-1] for updates, _ in lines.values()))), xlabel="update"
    )
    axes.set_title(title, fontsize=11)
    label_ends(axes, ends)


def plot_losses(axes: Any, losses: dict[str, np.ndarray], floor: float, title: str) -> None:
    """Plot smoothed training losses beside the floor."""
    lines = {name: smooth(values) for name, values in losses.items()}
    plot_updates(axes, lines, ("answering the mean", floor), title)
    axes.set_ylabel("mean squared error in training")


def draw_cells(
    start: dict[str, Curves], end: dict[str, Curves], losses: dict[str, np.ndarray], floor: float
) -> matplotlib.figure.Figure:
    """Draw gradient norms of the three cells, before and after training."""
    figure, (left, right) = two_panels()
    limits = visible(curve.median for curve in (*start.values(), *end.values()))
    plot_norms(left, start, "before training", limits=limits)
    errors = {name: f"{name}, error {final(values):.2g}" for name, values in losses.items()}
    title = f"after training on the adding problem (answering the mean: error {floor:.2g})"
    plot_norms(right, end, title, errors, limits)
    reach = ", ".join(f"{name} {short(start[name].median[-1])} → {short(end[name].median[-1])}" for name in start)
    figure.suptitle(f"How much of the gradient at the last step reaches the first, before → after training: {reach}")
    return figure


def draw_spectra(start: dict[str, np.ndarray], end: dict[str, np.ndarray]) -> matplotlib.figure.Figure:
    """Draw the singular values of ∂carry_T/∂carry_t over t."""
    figure = matplotlib.figure.Figure(figsize=(13, 7), layout="constrained")
    panels = figure.subplots(2, len(start), sharex=True, sharey=True)
    top = max(logs.max() for logs in (*start.values(), *end.values()))
    bottom = 2.5 * min(logs[:, 0].min() for logs in (*start.values(), *end.values())) - 2
    for row, (when, spectra) in zip(panels, {"before": start, "after": end}.items(), strict=True):
        for axes, ((name, logs), color) in zip(row, colored(spectra.items()), strict=True):
            times = np.arange(len(logs))
            least, lower, median, upper, most = np.quantile(np.maximum(logs, -1e3), [0, 0.25, 0.5, 0.75, 1], axis=1)
            axes.fill_between(times, least, most, color=color, alpha=0.14, lw=0, label="all singular values")
            axes.fill_between(times, lower, upper, color=color, alpha=0.3, lw=0, label="middle half")
            axes.plot(times, median, color=color, lw=1.2, label="median")
            axes.plot(times, most, color=color, lw=2.6, label="largest")
            axes.axhline(0, color=GREY, lw=0.8)
            axes.set_title(
                f"{name} {when} training: largest {short(10.0 ** most[0])} over {times[-1]} steps", fontsize=11
            )
            axes.yaxis.set_major_formatter(lambda value, _: f"$10^{{{value:.0f}}}$")
            axes.set(ylim=(bottom, top + 0.04 * (top - bottom)), xlim=(0, times[-1]))
            axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[-1]:
        axes.set_xlabel("step t")
    for axes in panels[:, 0]:
        axes.set_ylabel(r"singular values of $\partial\,$carry$_T\,/\,\partial\,$carry$_t$")
    handles, labels = panels[0, -1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    kept = ", ".join(
        f"{name} {survivors(start[name])} → {survivors(end[name])} of {len(start[name][0])}" for name in start
    )
    figure.suptitle(f"Directions of the first state that reach the last with over a thousandth, before → after: {kept}")
    return figure


def survivors(logs: np.ndarray) -> int:
    """Return how many singular values over all steps are above a thousandth."""
    return int((logs[0] > -3).sum())


def draw_starts(measured: dict[str, Curves], losses: dict[str, np.ndarray], floor: float) -> matplotlib.figure.Figure:
    """Draw what the start of the recurrent weights changes."""
    figure, (left, right) = two_panels()
    plot_norms(left, measured, "gradient at the start")
    plot_losses(right, losses, floor, "training on the adding problem, the same for all")
    best = min(losses, key=lambda name: (np.isnan(final(losses[name])), final(losses[name])))
    reach = [curve.median[-1] for curve in measured.values()]
    figure.suptitle(
        f"Starts of vanilla's recurrent weights: on its way to the first step the gradient is multiplied by "
        f"{short(min(reach))} to {short(max(reach))}; lowest error {final(losses[best]):.2g}, {best}"
    )
    return figure


def draw_forget_biases(
    measured: dict[str, Curves], losses: dict[str, np.ndarray], floor: float, biases: tuple[float, ...]
) -> matplotlib.figure.Figure:
    """Draw what the LSTM's forget bias changes."""
    figure, (left, right) = two_panels()
    plot_norms(left, measured, "gradient at the start (dotted: σ(bias) per step)")
    for bias, color in colored(biases):
        back = np.arange(len(next(iter(measured.values())).median))
        left.plot(back, (1 / (1 + np.exp(-bias))) ** back, ":", color=color, lw=1.2)
    plot_losses(right, losses, floor, "training on delayed recall")
    errors = ", ".join(f"{final(values):.2g} with {name}" for name, values in losses.items())
    figure.suptitle(f"Forget bias of the LSTM: error {errors} (answering the mean: {floor:.2g})")
    return figure


def draw_clipping(
    norms: dict[str, np.ndarray], losses: dict[str, np.ndarray], floor: float, threshold: float
) -> matplotlib.figure.Figure:
    """Draw gradient norms and losses of plain gradient descent with and without clipping."""
    figure, (left, right) = two_panels()
    updates = {name: np.arange(1, len(values) + 1) for name, values in losses.items()}
    largest = ", ".join(f"{short(largest_norm(values))} {name}" for name, values in norms.items())
    ends = ", ".join(f"{final(values):.2g} {name}" for name, values in losses.items())
    for axes, lines, level, title in (
        (left, norms, ("threshold", threshold), f"largest gradient: {largest}"),
        (right, losses, ("answering the mean", floor), f"error in the end: {ends}"),
    ):
        plot_updates(axes, {name: (updates[name], values) for name, values in lines.items()}, level, title)
        axes.set(xscale="log")  # what happens, happens in the first updates
    left.set_ylabel("global norm of the gradient, before clipping")
    right.set_ylabel("mean squared error in training")
    figure.suptitle("Gradient descent on delayed recall from a start that explodes, ReLU with 1.03 times the identity")
    return figure
