"""How `experiments.textbook_gradients` shows what it measured: a table in two forms, and two pictures."""

import pathlib
import re
from typing import NamedTuple

import matplotlib.figure
import numpy as np
import rich.box
import rich.console
import rich.table
import rich.text

from experiments import tables
from experiments import textbook_claims as texts

Flows = dict[tuple[str, int], texts.Flow]  # by name of the start, and units


class Reading(NamedTuple):
    """One way to read a claim, and the right formula's figure beside it.

    The claim's is its error, or what it raised, or the growth of its gradient, log10: (median, least, most)
    over the draws. The right one's is an error, or for growth a median growth.
    """

    how: str
    right: float
    error: float | None = None
    raised: str | None = None
    growth: tuple[float, float, float] | None = None


class Row(NamedTuple):
    """A claim with its readings."""

    claim: str
    wrong: str
    right: str
    readings: list[Reading]


def power(decades: float) -> str:
    """Return a growth as text: ×10^3.5, or zero."""
    return "0 in float64" if np.isneginf(decades) else f"×10^{decades:.1f}"


CAPTION = (
    "Errors are relative to jax.grad in float64: 0.01 is one percent, 1 is as wrong as answering zero. Rows 12 to 14: "
    "growth of the gradient's norm from the last step to the first, median and range over the draws."
)


def figures(reading: Reading) -> tuple[str, str]:
    """Return a reading's figure and the right one's, as text."""
    if reading.growth is not None:
        median, least, most = reading.growth
        spread = "" if np.isneginf(least) else f" ({least:.1f} to {most:.1f})"
        return power(median) + spread, power(reading.right)
    right = f"{reading.right:.0e}" if reading.right else "exact"
    return (f"cannot run, {reading.raised}" if reading.raised else f"{reading.error:.2f}"), right


def described(reading: Reading) -> rich.text.Text:
    """Return a reading and its figure for the terminal."""
    figure = (figures(reading)[0], "red")
    if reading.raised:
        return rich.text.Text.assemble(f"{reading.how}: ", figure)
    return rich.text.Text.assemble(figure, f"{',' if reading.growth else ' '} {reading.how}")


def print_table(rows: list[Row]) -> None:
    """Print the table on the terminal, a claim per line of it, a line per reading within."""
    table = rich.table.Table(box=rich.box.HORIZONTALS, pad_edge=False, show_lines=True, caption=CAPTION)
    table.add_column("", justify="right")
    for heading, ratio in {"claim, and what is wrong": 5, "error of each reading": 6, "right": 4}.items():
        table.add_column(heading, ratio=ratio, overflow="fold")
    table.add_column("error", justify="right", no_wrap=True)
    for number, row in enumerate(rows, 1):
        claim = rich.text.Text.assemble((row.claim, "bold"), f"\n{row.wrong}")
        readings = rich.text.Text("\n").join(map(described, row.readings))
        errors = "\n".join(dict.fromkeys(figures(reading)[1] for reading in row.readings))
        table.add_row(str(number), claim, readings, rich.text.Text(row.right), rich.text.Text(errors, "cyan"))
    rich.console.Console().print(table)


def markdown(rows: list[Row]) -> str:
    """Return the table as Markdown, a line per reading."""
    heads, lines = ("", "claim", "what is wrong", "read as", "its error", "right", "its error"), []
    for number, row in enumerate(rows, 1):
        first = (str(number), row.claim, row.wrong, row.right)
        for reading in row.readings:
            figure, right = figures(reading)
            lines.append((*first[:3], reading.how, figure, first[3], right))
            first = ("", "", "", "")
    return tables.markdown(heads, lines) + "\n"


def typeset(text: str) -> str:
    """Return ``text`` with its subscripts, h_t or h_{t-1}, as matplotlib writes formulas."""
    return re.sub(r"(\w'?)_(?:\{([^}]*)\}|([a-zA-Z0-9]+))", r"$\1_{\2\3}$", text)


CLAIM, RIGHT = "#c8502d", "#1f6f8b"
BEHIND = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}


def draw_errors(rows: list[Row], path: pathlib.Path) -> None:
    """Draw the errors of rows 1 to 11 as bars on a logarithmic axis, the claims' beside the right formulas'."""
    floor, top, y = 1e-17, 60.0, 0.0
    height = sum(len(row.readings) + 2.7 for row in rows)
    figure = matplotlib.figure.Figure(figsize=(11, 0.2 * height + 0.8), layout="constrained")
    axes = figure.subplots()
    for number, row in enumerate(rows, 1):
        axes.text(floor, y, typeset(f"{number}.  {row.claim}"), va="center", fontsize=10.5)
        axes.text(top, y, typeset(row.wrong), va="center", ha="right", fontsize=8.5, style="italic", color="#555555")
        y += 1.05
        for reading in row.readings:
            if reading.error is None:
                axes.barh(y, top - floor, left=floor, height=0.86, color="white", edgecolor=CLAIM, hatch="////", lw=0.8)
                axes.text(
                    2 * floor,
                    y,
                    f"{typeset(reading.how)}: cannot run, {reading.raised}",
                    va="center",
                    color=CLAIM,
                    fontsize=8.5,
                    bbox=BEHIND,
                )
            else:
                axes.barh(y, reading.error - floor, left=floor, height=0.86, color=CLAIM)
                axes.text(2 * floor, y, typeset(reading.how), va="center", color="white", fontsize=8.5)
                axes.text(1.3 * reading.error, y, f"{reading.error:.2f}", va="center", color=CLAIM, fontsize=9)
            y += 1
        right = row.readings[0].right
        end = max(right, 1.3 * floor)
        axes.barh(y, end - floor, left=floor, height=0.86, color=RIGHT)
        axes.text(
            1.4 * end,
            y,
            typeset(f"{figures(row.readings[0])[1]}  right: {row.right}"),
            va="center",
            color=RIGHT,
            fontsize=8.5,
        )
        y += 1.65
    worst = max(reading.right for row in rows for reading in row.readings)
    least = min(reading.error for row in rows for reading in row.readings if reading.error is not None)
    axes.set(xscale="log", xlim=(floor, top), ylim=(y - 0.9, -0.8), yticks=[])
    axes.set_xticks([10.0**k for k in range(-16, 2, 2)])
    axes.set_xlabel(
        "relative error against jax.grad in float64  (0.01 is one percent, 1 is as wrong as answering zero)"
    )
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.suptitle(
        f"As printed, each claim is off by {least:.0%} or more, or cannot run; set right, each agrees to {worst:.0e}",
        fontsize=12.5,
    )
    figure.savefig(path, dpi=150)


COLORS = {
    "N(0, 1)": "#c8502d",
    "0.01 · N(0, 1)": "#8e5ea2",
    "uniform on [0, 1)": "#a37400",
    "uniform on [0, 1), without tanh": "#d9a92b",
    "N(0, 1/fan-in)": "#3a9d6e",
    "orthogonal U": "#1f6f8b",
}


def draw_flows(flows: Flows, path: pathlib.Path) -> None:
    """Draw ‖∂L/∂h_t‖ over the steps back from the end, for every start and size."""
    figure = matplotlib.figure.Figure(figsize=(13, 5.4), layout="constrained")
    for axes, (units, steps) in zip(figure.subplots(1, 2), texts.SIZES.items(), strict=True):
        decades = {}
        for start in texts.starts():
            norms = flows[start.name, units].norms[:, ::-1]
            with np.errstate(divide="ignore"):
                least, median, most = np.quantile(np.maximum(np.log10(norms), -1e3), [0, 0.5, 1], axis=0)
            style = "-" if start.activation == "tanh" else ":"
            axes.plot(median, style, color=COLORS[start.name], lw=2.2)
            axes.fill_between(np.arange(steps + 1), least, most, color=COLORS[start.name], alpha=0.15, lw=0)
            decades[start.name] = flows[start.name, units].decades()[0]
        finite = [value for value in decades.values() if np.isfinite(value)]
        low, high = 1.25 * min(finite), 1.05 * max(finite)
        axes.set(
            xlim=(0, steps), ylim=(low, high), xlabel="steps back from the last", title=f"{units} units, {steps} steps"
        )
        axes.axhline(0, color="#8a8a8a", lw=0.8)
        axes.yaxis.set_major_formatter(lambda value, _: f"$10^{{{value:.0f}}}$")
        axes.spines[["top", "right"]].set_visible(False)
        gap, place = 0.05 * (high - low), low - np.inf
        for name, value in sorted(decades.items(), key=lambda item: item[1]):
            place = max(value, low + gap / 2, place + gap)
            factor = "0 in float64" if np.isneginf(value) else f"$\\times 10^{{{value:.1f}}}$"
            axes.text(1.02 * steps, place, f"{name}: {factor}", color=COLORS[name], va="center", fontsize=9.5)
    figure.axes[0].set_ylabel("‖∂L/∂h‖ relative to the last step\n(median and range of the draws)")
    units, steps = list(texts.SIZES.items())[-1]
    growth = {name: f"$10^{{{flows[name, units].decades()[0]:.0f}}}$" for name in COLORS}
    figure.suptitle(
        f"Over {steps} steps, weights from N(0, 1) multiply the gradient by {growth['N(0, 1)']}, "
        f"0.01 · N(0, 1) by {growth['0.01 · N(0, 1)']}, scaled and orthogonal ones by {growth['orthogonal U']}",
        fontsize=12.5,
    )
    figure.savefig(path, dpi=150)
