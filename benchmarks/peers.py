"""How fast is jaxrnn beside torch, Flax, Haiku, Equinox, Keras and a naive scan?

Forward, and forward with the gradient of mean(y²) in all parameters. Each ratio is a peer's time over that
of jaxrnn with the same variant of the cell, so above 1 jaxrnn is faster. The floor is the arithmetic of the
products at the rate of a large product, which takes its turn in the race.
"""

import dataclasses
from typing import Any, Literal

from benchmarks import floor, plots, races, tables
from benchmarks.contenders import LIBRARIES_IN_JAX, installed
from benchmarks.problems import Shape
from benchmarks.rows import Record, Row

CAP = 3.0  # so that one shape on which a peer stumbles does not carry the mean


@dataclasses.dataclass(frozen=True)
class Config(races.Budget):
    """What to race."""

    cells: tuple[Literal["vanilla", "lstm", "gru"], ...] = ("vanilla", "lstm", "gru")
    """Cells."""
    modes: tuple[Literal["forward", "forward+backward"], ...] = ("forward", "forward+backward")
    """Forward alone, or with the gradients."""
    shapes: tuple[str, ...] = (
        "100x32x128x128", "100x32x256x256", "50x64x512x512", "784x32x1x128", "1000x1x64x64",
    )  # fmt: skip
    """Steps, batch, input and hidden features: TxBxDxH."""
    contenders: tuple[
        Literal["jaxrnn", "jaxrnn-1", "torch", "flax", "haiku", "equinox", "keras", "naive"], ...
    ] = ("jaxrnn", "jaxrnn-1", "torch", "flax", "haiku", "equinox", "keras", "naive")  # fmt: skip
    """Who takes part; jaxrnn-1 is jaxrnn on one device."""


def run(config: Config, record: Record) -> None:
    """Race every cell and shape in every mode."""
    shapes = list(map(Shape.parse, config.shapes))
    names = installed(config.contenders, record.say)
    product = floor.square_product("float32")
    for mode in config.modes:
        for kind in config.cells:
            for shape in shapes:
                with record.reported(f"{kind} {shape} {mode}"):
                    entrants = races.enter(names, kind, shape, mode)
                    record.add(races.race("peers", kind, shape, mode, entrants, config, product=product))


OURS_AGAIN = "jaxrnn, peer's variant"


def contender(row: Row) -> str:
    """Return the column that a row belongs to: jaxrnn's other variants share one."""
    return OURS_AGAIN if row.variant and row.peer in races.OURS else tables.label(row.peer)


RIVALS = {
    "torch": ("torch",),
    "the fastest other JAX library per shape": LIBRARIES_IN_JAX,
    "the naive scan": ("naive",),
}


def summary(rows: list[Row]) -> list[str]:
    """Return, per cell, geometric means of the ratios to jaxrnn, and to jaxrnn on one device."""
    ratios = [(row, row.ratio) for row in rows]
    # A variant of jaxrnn that a peer is compared with runs on all devices alone, so those peers are left out.
    one_device = {(row.cell, row.shape, row.variant): row.ratio for row in rows if row.peer == "jaxrnn-1"}
    keyed = [((row.cell, row.shape, row.variant), row) for row in rows]
    on_one = [(row, row.ratio / one_device[key]) for key, row in keyed if key in one_device]
    several = any(row.peer == "jaxrnn" for row in rows)
    lines = []
    for kind in dict.fromkeys(row.cell for row in rows):
        if said := means(kind, ratios):
            lines.append(f"{kind}, geometric means over the shapes, ratios capped at {CAP:g}: {said}.")
        if several and (said := means(kind, on_one)):
            lines.append(f"{kind}, the same for jaxrnn on one device: {said}.")
    return lines


def means(kind: str, ratios: list[tuple[Row, float]]) -> str:
    """Return a cell's geometric means: torch, the fastest other JAX library, the naive scan."""
    said = []
    for name, peers in RIVALS.items():
        best: dict[Any, float] = {}
        for row, ratio in ratios:
            if row.cell == kind and row.peer in peers:
                best[row.shape] = min(best.get(row.shape, CAP), ratio)
        if best:
            said.append(f"{tables.geometric_mean(best.values()):.2f}× to {name}")
    return ", ".join(said)


def to_table(rows: list[Row], mode: str) -> tables.Table:
    """Return one mode's table."""
    heads, lines = tables.pivot(
        rows,
        lambda row: f"{row.cell} {tables.shape_of(row)}",
        contender,
        tables.time_and_ratio,
        order=[*tables.LABELS, OURS_AGAIN],
    )
    ours = {
        f"{row.cell} {tables.shape_of(row)}": row
        for row in rows
        if row.peer in races.OURS and row.ratio == 1 and not row.variant
    }
    variants = {
        f"{tables.label(row.peer)}'s {row.cell} is jaxrnn's with {row.variant}, and its ratio is to that."
        for row in rows
        if row.variant and row.peer not in races.OURS
    }
    return tables.Table(
        f"{mode}: milliseconds (ratio to jaxrnn; above 1, jaxrnn is faster)",
        ["cell T×B×D×H", *heads, "floor (its share of jaxrnn's time)"],
        [[*line, tables.floor_and_share(ours[line[0]])] for line in lines],
        (*summary(rows), *sorted(variants), tables.measured(rows)),
    )


def to_tables(rows: list[Row]) -> list[tables.Table]:
    """Return one table per mode."""
    modes = dict.fromkeys(row.mode for row in rows)
    return [to_table([row for row in rows if row.mode == mode], mode) for mode in modes]


def draw(rows: list[Row]) -> Any:
    """Return a figure of the ratios by shape."""
    return plots.ratios([row for row in rows if row.peer not in races.OURS])
