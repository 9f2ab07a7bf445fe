"""Tables in Markdown, and the one that every run ends with."""

from collections.abc import Iterable, Sequence

import rich.box
import rich.console
import rich.table

from experiments.runs import Row


def markdown(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown, without a newline at its end.

    Example:
        >>> print(markdown(["", "LSTM"], [["loss", "**1.2**"], ["∂|h|", "0"]]))
        |  | LSTM |
        | --- | --- |
        | loss | **1.2** |
        | ∂\\|h\\| | 0 |
    """
    made = [heads, ["---"] * len(heads), *lines]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in made)


def show(rows: Sequence[Row]) -> None:
    """Print figures beside what they are to be held against."""
    heads = ("floor", "baseline", "published")
    columns = [head for head in heads if any(getattr(row, head) for row in rows)]
    shown = rich.table.Table("", "figure", *columns, box=rich.box.SIMPLE_HEAD)
    for row in rows:
        shown.add_row(row.what, f"{row.value:.4g} {row.unit}", *(getattr(row, head) for head in columns))
    rich.console.Console(highlight=False, markup=False).print(shown)
