"""Pictures of measurements."""

from collections.abc import Callable
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from benchmarks.rows import Row
from benchmarks.tables import label, shape_of

MARKERS = "osD^vPX*<>"


def ratios(rows: list[Row]) -> Figure:
    """Draw every peer's ratio by cell and shape, one panel per mode."""
    modes = list(dict.fromkeys(row.mode for row in rows))
    places = {place: index for index, place in enumerate(dict.fromkeys((row.cell, shape_of(row)) for row in rows))}
    peers = list(dict.fromkeys(row.peer for row in rows))
    figure = Figure(figsize=(4 + 4 * len(modes), 2 + 0.3 * len(places)), layout="constrained")
    panels = figure.subplots(1, len(modes), sharex=True, sharey=True, squeeze=False)[0]
    for axes, mode in zip(panels, modes, strict=True):
        for peer, marker in zip(peers, MARKERS, strict=False):
            found = [row for row in rows if (row.mode, row.peer) == (mode, peer)]
            heights = [places[row.cell, shape_of(row)] for row in found]
            axes.plot([row.ratio for row in found], heights, marker, label=label(peer), alpha=0.8)
        axes.axvline(1, color="0.3", linewidth=1)
        axes.set(xscale="log", title=mode, xlabel="time over that of jaxrnn: to the right, jaxrnn is faster")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}×")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_yticks(list(places.values()), [" ".join(place) for place in places])
        tidy(axes)
    panels[0].invert_yaxis()
    panels[-1].legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return figure


def curves(panels: dict[str, tuple[str, list[Row], Callable[[Row], Any], Callable[[Row], Any]]]) -> Figure:
    """Draw quantities over a size, one line per peer, both axes logarithmic.

    Args:
        panels: by title: the name of the size, the rows, and what of a row stands along x and y.
    """
    figure = Figure(figsize=(5.5 * len(panels), 4), layout="constrained")
    places = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, (size, rows, x, y)) in zip(places, panels.items(), strict=True):
        for peer, marker in zip(dict.fromkeys(row.peer for row in rows if y(row) is not None), MARKERS, strict=False):
            found = [row for row in rows if row.peer == peer]
            axes.plot([x(row) for row in found], [y(row) for row in found], marker + "-", label=label(peer))
        axes.set_xscale("log", base=2)
        axes.set(yscale="log", xlabel=size, title=title)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        tidy(axes)
        axes.legend(frameon=False)
    return figure


def tidy(axes: Any) -> None:
    """Leave a grid and two of the four spines."""
    axes.grid(which="both", alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)
