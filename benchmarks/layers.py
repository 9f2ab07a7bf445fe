"""What do a stack, both directions, lengths, resets and dropout cost, beside torch and a naive scan?

A stack of two layers; one layer in both directions; lengths drawn from 1 to T, so that half the steps are
padding (torch packs them, which is timed too); resets at one step in twenty (torch has none); and a stack
with dropout between its layers, which draws other noise in every library and so cannot be compared: without
its dropout it is the first stack.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from benchmarks import networks, races, tables
from benchmarks.contenders import installed
from benchmarks.problems import Shape
from benchmarks.rows import Record, Row


@dataclasses.dataclass(frozen=True)
class Config(races.Budget):
    """What to race."""

    cases: tuple[Literal["stack", "bidirectional", "lengths", "resets", "dropout"], ...] = (
        "stack",
        "bidirectional",
        "lengths",
        "resets",
        "dropout",
    )
    """Which kinds of network."""
    cells: tuple[Literal["vanilla", "lstm", "gru"], ...] = ("lstm", "gru")
    """Cells."""
    modes: tuple[Literal["forward", "forward+backward"], ...] = ("forward", "forward+backward")
    """Forward alone, or with the gradients."""
    shapes: tuple[str, ...] = ("100x32x256x256",)
    """Steps, batch, input and hidden features: TxBxDxH."""
    contenders: tuple[Literal["jaxrnn", "jaxrnn-1", "torch", "naive"], ...] = ("jaxrnn", "jaxrnn-1", "torch", "naive")
    """Who takes part; jaxrnn is on all devices, jaxrnn-1 on one."""


def run(config: Config, record: Record) -> None:
    """Race every case, cell and shape in every mode."""
    shapes = list(map(Shape.parse, config.shapes))
    names = installed(config.contenders, record.say)
    for mode in config.modes:
        for kind in config.cells:
            for shape in shapes:
                for name in config.cases:
                    with record.reported(f"{name}, {kind} {shape} {mode}"):
                        race(config, record, mode, networks.draw(name, kind, shape), names)


def race(config: Config, record: Record, mode: str, case: networks.Case, names: Sequence[str]) -> None:
    """Race one case."""
    entrants = races.jaxrnn_first(names, lambda name: networks.PROGRAMS[name](case, mode), settings={"case": case.name})
    errors = [None] * len(entrants) if case.name == "dropout" else None
    kind, shape = case.problem.kind, case.problem.shape
    record.add(races.race("layers", kind, shape, mode, entrants, config, errors=errors))


def to_tables(rows: list[Row]) -> list[tables.Table]:
    """Return one table per mode."""
    return tables.per_mode(
        rows,
        "milliseconds (ratio to jaxrnn; above 1, jaxrnn is faster)",
        "network, cell T×B×D×H",
        lambda row: f"{row.settings['case']}, {row.cell} {tables.shape_of(row)}",
        lambda row: tables.label(row.peer),
        tables.time_and_ratio,
    )
