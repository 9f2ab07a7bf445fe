"""Text whose symbols are coloured by a number each, as a page and as a picture."""

import html
import pathlib
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.colors import Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from experiments import runs

WIDTH, NARROW, GAP = 100, 30, 3  # characters in a line; in one that panels side by side have at least; between them
POINTS, ADVANCE, HEIGHT = 9.0, 0.602, 1.35  # of the font DejaVu Sans Mono: size, and width and height of a cell in it


class Panel(NamedTuple):
    """A ``title``, ``symbols``, and ``values``, one for each.

    Values that are never negative are white at 0 and green at ``limit``; others red where positive, blue where
    negative. The limit is the greatest of them unless given.
    """

    title: str
    symbols: Sequence[str]
    values: np.ndarray
    limit: float | None = None


def write_page(path: pathlib.Path, title: str, panels: Sequence[Panel]) -> None:
    """Write a page of HTML with all panels; a symbol's value is shown where the pointer rests on it."""
    parts = []
    for panel in panels:
        spans = []
        for symbol, value, colour in zip(panel.symbols, panel.values, _colours(panel), strict=True):
            shown = html.escape(symbol.replace("\n", "↵\n"))
            spans.append(f'<span style="background:{to_hex(colour)}" title="{value:.3f}">{shown}</span>')
        parts.append(f"<section><h2>{html.escape(panel.title)}</h2>\n<pre>{''.join(spans)}</pre></section>")
    style = (
        "body{font-family:sans-serif;margin:2em;max-width:70em;color:#222;background:#fff}"
        "section{display:inline-block;vertical-align:top;min-width:18em;max-width:100%;margin-right:2em}"
        "h2{font-size:1em;margin:2em 0 0;width:0;min-width:100%}"  # as wide as the text below it
        "pre{white-space:pre-wrap;line-height:1.45}"
    )
    head = f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n'
    page = f"{head}<style>{style}</style>\n<h1>{html.escape(title)}</h1>\n" + "\n".join(parts) + "\n</html>\n"
    runs.write_text(path, page)


def draw_text(path: pathlib.Path, title: str, panels: Sequence[Panel]) -> None:
    """Draw all panels below each other, or side by side if they are narrow; lines have `WIDTH` characters at most."""
    laid = [_lines(panel.symbols) for panel in panels]
    widest = max(sum(len(text) for _, text in line) for lines in laid for line in lines)
    columns = max(1, min(len(panels), WIDTH // (max(widest, NARROW) + GAP)))
    column = WIDTH // columns
    headings = [textwrap.wrap(panel.title, WIDTH + 8 if columns == 1 else column - GAP) for panel in panels]
    heights = [len(lines) + len(heading) + 0.7 for lines, heading in zip(laid, headings, strict=True)]
    rows = [max(heights[place : place + columns]) for place in range(0, len(panels), columns)]
    headline = textwrap.wrap(title, WIDTH - 15)
    across, down = POINTS * ADVANCE / 72, POINTS * HEIGHT / 72  # inches
    margin = 0.15
    figure = Figure(figsize=(WIDTH * across + 2 * margin, (sum(rows) + 1.2 * len(headline) + 0.8) * down + 2 * margin))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, figure.get_figwidth()), ylim=(figure.get_figheight(), 0))
    axes.axis("off")
    for row, words in enumerate(headline):
        axes.text(margin, margin + (1.2 * row + 0.5) * down, words, fontsize=POINTS + 2, va="center", weight="bold")
    tops = margin + (1.2 * len(headline) + 0.8 + np.cumsum([0, *rows])) * down
    for place, (panel, lines, heading) in enumerate(zip(panels, laid, headings, strict=True)):
        top, left = tops[place // columns], margin + place % columns * column * across
        for row, words in enumerate(heading):
            axes.text(left, top + (row + 0.5) * down, words, fontsize=POINTS, va="center", color="0.25")
        colours = _colours(panel)
        for row, line in enumerate(lines, len(heading)):
            begin, y = 0, top + row * down
            for symbol, text in line:
                box = (left + begin * across, y), len(text) * across, down
                axes.add_patch(Rectangle(*box, color=colours[symbol], linewidth=0))
                begin += len(text)
            whole = "".join(text for _, text in line)
            # One text for each character: what a font has no fixed width for would shift the rest of the line.
            for number, character in enumerate(whole):
                if not character.isspace():
                    x = left + (number + 0.5) * across
                    axes.text(x, y + down / 2, character, fontsize=POINTS, family="monospace", va="center", ha="center")
    figure.savefig(path, dpi=110)


def _colours(panel: Panel) -> np.ndarray:
    values = np.asarray(panel.values, float)
    limit = panel.limit or float(np.abs(values).max(initial=0)) or 1.0
    signed = values.min(initial=0) < 0
    scale = Normalize(-limit if signed else 0, limit)
    colours = matplotlib.colormaps["RdBu_r" if signed else "Greens"](scale(values))
    colours[:, :3] = 0.4 + 0.6 * colours[:, :3]  # dark enough to tell apart, light enough to read black on
    return colours


def _lines(symbols: Sequence[str]) -> list[list[tuple[int, str]]]:
    """Return lines of (the symbol's place, what of it stands in the line)."""
    lines: list[list[tuple[int, str]]] = [[]]
    used = 0
    for place, symbol in enumerate(symbols):
        shown = symbol.replace("\n", "↵").replace("\t", " ")
        if used + len(shown) > WIDTH:
            lines.append([])
            used = 0
        for begin in range(0, len(shown), WIDTH):
            lines[-1].append((place, shown[begin : begin + WIDTH]))
        used += len(shown)
        if symbol.endswith("\n"):
            lines.append([])
            used = 0
    return lines if lines[-1] or len(lines) == 1 else lines[:-1]
