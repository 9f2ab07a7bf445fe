"""The table of `experiments.transformer_or_rnn`: a column for each model, a line for everything that is compared."""

from collections.abc import Mapping
from typing import NamedTuple

import rich.box
import rich.console
import rich.table

from experiments import tables
from experiments.contest_costs import MEMORY_BATCH, Costs
from experiments.contest_training import Entry, Learnt


class Table(NamedTuple):
    """Names of the models, and lines of a label and an entry for each model."""

    models: list[str]
    lines: list[tuple[str, list[str]]]


def table(
    entries: Mapping[str, Mapping[str, Entry]],
    short: Mapping[str, int],
    learnt: Mapping[str, Mapping[str, Learnt]],
    carried: Mapping[str, float],
    costs: Costs,
) -> Table:
    """Return the table; the losses of the learning rate that was chosen are bold.

    Args:
        entries, learnt: by task and model.
        short: updates of the short trainings, by task.
        carried: losses on the text with a state from window to window, by model.
        costs: of every model.
    """
    kinds, lines = list(carried), []
    for task, of_task in entries.items():
        first, found = of_task[kinds[0]], learnt[task]
        unit, updates = first.task.unit, first.task.training.steps
        lines += [
            (f"{first.task.title}: size", [of_task[kind].model.sizes for kind in kinds]),
            ("parameters", [f"{of_task[kind].model.parameters:,}" for kind in kinds]),
        ]
        lines += [
            (
                f"{unit} after {short[task]:,} updates → best of {updates:,}, learning rate {rate:.3g}",
                [_tried(found[kind], rate) for kind in kinds],
            )
            for rate in found[kinds[0]].tried
        ]
        lines += [
            (f"{unit}, best of {updates:,} updates", [f"**{_loss(found[kind].loss)}**" for kind in kinds]),
            ("milliseconds for an update", [f"{costs.updates[task][kind]:.3g}" for kind in kinds]),
        ]
        if task == "text":
            lines.append((f"{unit}, with a state between windows", [f"{carried[kind]:.4f}" for kind in kinds]))
    for points in zip(*(costs.generating[kind] for kind in kinds), strict=True):
        label = f"generating after {points[0].context:,} characters: milliseconds each, state"
        lines.append((label, [f"{point.milliseconds:.3g}, {_bytes(point.state_bytes)}" for point in points]))
    for points in zip(*(costs.memory[kind] for kind in kinds), strict=True):
        label = f"gradient of {MEMORY_BATCH} × {points[0].steps:,} characters: memory, seconds to compile"
        lines.append((label, [f"{_bytes(point.temporary_bytes)}, {point.compile_seconds:.2g}" for point in points]))
    return Table([entries["text"][kind].model.name for kind in kinds], lines)


def markdown(shown: Table) -> str:
    """Return a table in Markdown."""
    return tables.markdown(["", *shown.models], [(label, *values) for label, values in shown.lines])


def show(shown: Table) -> None:
    """Print a table."""
    printed = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    printed.add_column("")
    for model in shown.models:
        printed.add_column(model, justify="right")
    for label, values in shown.lines:
        printed.add_row(
            label, *(f"[bold]{value[2:-2]}[/bold]" if value.startswith("**") else value for value in values)
        )
    rich.console.Console(highlight=False).print(printed)


def _tried(one: Learnt, rate: float) -> str:
    text = _loss(one.tried[rate]) + (f" → {_loss(one.full[rate])}" if rate in one.full else "")
    return f"**{text}**" if rate == one.rate else text


def _loss(loss: float | None) -> str:
    """Return a loss in words.

    Example:
        >>> _loss(1.41422), _loss(0.000017), _loss(None)
        ('1.4142', '1.7e-05', 'not finite')
    """
    if loss is None:
        return "not finite"
    return f"{loss:.4f}" if loss >= 0.01 else f"{loss:.2g}"


def _bytes(count: int) -> str:
    """Return a number of bytes in words.

    Example:
        >>> _bytes(984), _bytes(5000), _bytes(5_500_000)
        ('984 B', '4.88 KiB', '5.25 MiB')
    """
    size, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if size >= 1000:
            size, unit = size / 1024, larger
    return f"{size:.3g} {unit}"
