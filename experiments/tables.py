"""Tables in Markdown."""

from collections.abc import Iterable, Sequence


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
