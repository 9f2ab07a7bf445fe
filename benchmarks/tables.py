"""Tables, for a terminal and as GitHub's markdown."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import rich.console
import rich.measure
import rich.table

from benchmarks.contenders import CONTENDERS
from benchmarks.rows import Row


class Table(NamedTuple):
    """A title, column heads, lines of cells, and notes below."""

    title: str
    heads: list[str]
    lines: list[list[str]]
    notes: tuple[str, ...] = ()


def show(table: Table) -> None:
    """Print a table to the terminal."""
    drawn = rich.table.Table(title=table.title, title_justify="left")
    for index, head in enumerate(table.heads):
        drawn.add_column(head, justify="left" if index == 0 else "right", no_wrap=index == 0)
    for line in table.lines:
        drawn.add_row(*line)
    console = rich.console.Console()
    needed = rich.measure.Measurement.get(console, console.options.update(max_width=1000), drawn).maximum
    console = rich.console.Console(width=max(console.width, needed))
    console.print()
    console.print(drawn)
    for note in table.notes:
        console.print(note, markup=False, highlight=False)


def markdown(table: Table) -> str:
    """Return a table as GitHub's markdown.

    Example:
        >>> print(markdown(Table("Speed", ["cell", "ms"], [["lstm", "1.5"]], ("On a laptop.",))))
        **Speed**
        <BLANKLINE>
        | cell | ms |
        | --- | ---: |
        | lstm | 1.5 |
        <BLANKLINE>
        On a laptop.
    """
    rule = ["---", *["---:"] * (len(table.heads) - 1)]
    lines = ["| " + " | ".join(cells) + " |" for cells in (table.heads, rule, *table.lines)]
    return "\n".join([f"**{table.title}**", "", *lines, *(part for note in table.notes for part in ("", note))])


def pivot(
    rows: Iterable[Row],
    line: Callable[[Row], str],
    column: Callable[[Row], str],
    cell: Callable[[Row], str],
    order: Sequence[str] = (),
) -> tuple[list[str], list[list[str]]]:
    """Return column heads and lines, one cell per row; lines and heads in ``order``, or as they first appear."""
    cells: dict[str, dict[str, str]] = {}
    for row in rows:
        cells.setdefault(line(row), {})[column(row)] = cell(row)
    found = dict.fromkeys(head for line in cells.values() for head in line)
    heads = [head for head in order if head in found] + [head for head in found if head not in order]
    return heads, [[name, *(line.get(head, "–") for head in heads)] for name, line in cells.items()]


def per_mode(
    rows: Sequence[Row],
    title: str,
    head: str,
    line: Callable[[Row], str],
    column: Callable[[Row], str],
    cell: Callable[[Row], str],
) -> list[Table]:
    """Return a `pivot` for each mode, its title after the mode's name, ``head`` over the names of its lines."""
    made = []
    for mode in dict.fromkeys(row.mode for row in rows):
        of_mode = [row for row in rows if row.mode == mode]
        heads, lines = pivot(of_mode, line, column, cell)
        made.append(Table(f"{mode}: {title}", [head, *heads], lines, (measured(of_mode),)))
    return made


ABOUT_THE_MACHINE = ("python", "platform", "cpus", "processor", "device", "devices", "memory", "jaxrnn")
LABELS = [contender.label for contender in CONTENDERS.values()]


def short(value: float) -> str:
    """Return a number with three digits.

    Example:
        >>> short(0.01234), short(12.34), short(1234.5)
        ('0.0123', '12.3', '1,234')
    """
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:,.0f}"


def time_and_ratio(row: Row) -> str:
    """Return a median in milliseconds and the ratio to jaxrnn's."""
    return f"{short(row.milliseconds)} ({row.ratio:.2f}×)"


def floor_and_share(row: Row) -> str:
    """Return the floor in milliseconds and its share of the row's time."""
    if row.floor_milliseconds is None:
        return "–"
    return f"{short(row.floor_milliseconds)} ({row.floor_milliseconds / row.milliseconds:.0%})"


def shape_of(row: Row) -> str:
    """Return T×B×D×H."""
    return "×".join(map(str, row.shape))


def label(peer: str) -> str:
    """Return a contender's name in tables."""
    return CONTENDERS[peer].label if peer in CONTENDERS else peer


def measured(rows: Sequence[Row]) -> str:
    """Return of how many calls the medians are, and on what they were measured, in one line."""
    calls = sorted({row.rounds for row in rows})
    several = f"{calls[0]} to {calls[-1]}" if calls[1:] else f"{calls[0]}"
    about = {name: value for row in rows for name, value in row.versions.items()}
    machine = f"{about['devices']} × {about['device']}, {about['cpus']} CPUs ({about['processor']})"
    libraries = [f"{name} {value}" for name, value in about.items() if name not in ABOUT_THE_MACHINE]
    memory = [f"memory {about['memory']}"] if "memory" in about else []
    return f"Medians of {several} calls; {', '.join([machine, 'Python ' + about['python'], *libraries, *memory])}."


def geometric_mean(values: Iterable[float]) -> float:
    """Return exp of the mean of the logarithms.

    Example:
        >>> round(geometric_mean([1.0, 4.0]), 6)
        2.0
    """
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs))
