"""What do more devices bring? jaxrnn with its batch spread over 1, 2, … all devices.

A ratio here is the time over that of one device, so below 1 is faster. Counts that do not divide the batch
are left out.
"""

import dataclasses
from typing import Literal

import jax

from benchmarks import races, tables
from benchmarks.contenders import jaxrnn_unroll
from benchmarks.problems import Problem, Shape, draw
from benchmarks.races import Entrant
from benchmarks.rows import Record, Row


@dataclasses.dataclass(frozen=True)
class Config(races.Budget):
    """What to spread."""

    cells: tuple[Literal["vanilla", "lstm", "gru"], ...] = ("vanilla", "lstm", "gru")
    """Cells."""
    modes: tuple[Literal["forward", "forward+backward"], ...] = ("forward", "forward+backward")
    """Forward alone, or with the gradients."""
    shapes: tuple[str, ...] = ("100x32x128x128", "100x32x256x256", "50x64x512x512", "784x32x1x128")
    """Steps, batch, input and hidden features: TxBxDxH."""


def run(config: Config, record: Record) -> None:
    """Race every count of devices against one."""
    shapes = list(map(Shape.parse, config.shapes))
    for mode in config.modes:
        for kind in config.cells:
            for shape in shapes:
                with record.reported(f"{kind} {shape} {mode}"):
                    record.add(races.race("parallelism", kind, shape, mode, enter(draw(kind, shape), mode), config))


def enter(problem: Problem, mode: str) -> list[Entrant]:
    """Return jaxrnn on every count of devices that can share the batch."""
    return [
        Entrant("jaxrnn", jaxrnn_unroll.program(problem, mode, devices=count), settings={"devices": count})
        for count in range(1, jax.local_device_count() + 1)
        if problem.shape.B % count == 0
    ]


def to_tables(rows: list[Row]) -> list[tables.Table]:
    """Return one table per mode."""
    return tables.per_mode(
        rows,
        "milliseconds (over those of one device)",
        "cell T×B×D×H",
        lambda row: f"{row.cell} {tables.shape_of(row)}",
        lambda row: f"{row.settings['devices']} devices" if row.settings["devices"] > 1 else "1 device",
        lambda row: f"{tables.short(row.milliseconds)} ({row.ratio:.2f})",
    )
