"""How do time, memory and compilation grow with the length, the width and the depth of a network?

Forward and backward, over the steps T at B = 8, D = H = 64, over the hidden features H at T = 64, B = 32, and
over the depth of a stack at T = 64, B = 8, D = H = 64; jaxrnn on one device.
"""

import dataclasses
from typing import Any, Literal

import jax

import jaxrnn
from benchmarks import plots, problems, races, tables
from benchmarks.contenders import installed, naive_scan
from benchmarks.problems import Shape
from benchmarks.programs import Network, on_one_device
from benchmarks.races import Entrant
from benchmarks.rows import Record, Row

MODE = "forward+backward"


@dataclasses.dataclass(frozen=True)
class Config(races.Budget):
    """What to vary."""

    rounds: int = 10
    """Rounds of a race, at most; in every round each contender is timed once."""
    cell: Literal["vanilla", "lstm", "gru"] = "lstm"
    """Cell."""
    steps: tuple[int, ...] = (64, 256, 1024, 4096, 16384)
    """Lengths T to compare."""
    hidden: tuple[int, ...] = (32, 64, 128, 256, 512, 1024)
    """Hidden features H to compare."""
    depths: tuple[int, ...] = (1, 2, 4, 8)
    """Depths of a stack to compare."""
    contenders: tuple[Literal["jaxrnn-1", "torch", "flax", "haiku", "equinox", "keras", "naive"], ...] = (
        "jaxrnn-1",
        "naive",
        "torch",
    )
    """Who takes part over T and H."""

    def __post_init__(self) -> None:
        super().__post_init__()
        problems.positive(steps=self.steps, hidden=self.hidden, depths=self.depths)


def run(config: Config, record: Record) -> None:
    """Race over every size."""
    names = installed(config.contenders, record.say)
    sweeps = {
        "T": [Shape(steps, 8, 64, 64) for steps in config.steps],
        "H": [Shape(64, 32, hidden, hidden) for hidden in config.hidden],
    }
    for over, shapes in sweeps.items():
        for shape in shapes:
            with record.reported(f"{config.cell} {shape}"):
                entrants = [
                    entrant._replace(settings={"over": over})
                    for entrant in races.enter(names, config.cell, shape, MODE)
                ]
                record.add(races.race("scaling", config.cell, shape, MODE, entrants, config))
    for depth in config.depths:
        shape = Shape(64, 8, 64, 64)
        with record.reported(f"{config.cell} {shape}, {depth} layers"):
            record.add(races.race("scaling", config.cell, shape, MODE, stacks(config.cell, shape, depth), config))


def stacks(kind: str, shape: Shape, depth: int) -> list[Entrant]:
    """Return a stack of layers by jaxrnn and by naive scans."""
    problem = problems.draw(kind, shape)
    model = jaxrnn.serial(*[jaxrnn.recurrent(problem.cell)] * depth)

    def ours(params: Any, xs: jax.Array) -> jax.Array:
        return model.apply(params, xs)[1]

    def naive(params: Any, xs: jax.Array) -> jax.Array:
        for layer in params:
            xs = naive_scan.scan(kind, layer, xs)
        return xs

    params, settings = (problem.params,) * depth, {"over": "depth", "depth": depth}
    return [
        Entrant(name, on_one_device(Network(params, apply), problem.xs, MODE), settings=settings)
        for name, apply in {"jaxrnn-1": ours, "naive": naive}.items()
    ]


def size(row: Row) -> int:
    """Return the size that the row's sweep varies."""
    over = row.settings["over"]
    return row.settings["depth"] if over == "depth" else Shape(*row.shape)._asdict()[over]


def to_tables(rows: list[Row]) -> list[tables.Table]:
    """Return a table per sweep: time and ratio, memory, compile time."""
    made = []
    for over in dict.fromkeys(row.settings["over"] for row in rows):
        swept = [row for row in rows if row.settings["over"] == over]
        heads, lines = tables.pivot(swept, lambda row: f"{size(row):,}", lambda row: tables.label(row.peer), cell)
        title = f"{swept[0].cell} over {over}: ms (ratio to jaxrnn), temporary MB, seconds to compile"
        made.append(tables.Table(title, [over, *heads], lines, (tables.measured(swept),)))
    return made


def cell(row: Row) -> str:
    """Return time and ratio, and, for JAX, memory and compile time."""
    if row.temporary_bytes is None or row.compile_seconds is None:
        return tables.time_and_ratio(row)
    return f"{tables.time_and_ratio(row)}, {tables.short(row.temporary_bytes / 1e6)} MB, {row.compile_seconds:.2g} s"


def draw(rows: list[Row]) -> Any:
    """Return a figure of times over T and H, memory over T, and compile times over the depth."""
    by = {over: [row for row in rows if row.settings["over"] == over] for over in ("T", "H", "depth")}
    return plots.curves(
        {
            "milliseconds over T": ("T", by["T"], size, lambda row: row.milliseconds),
            "temporary bytes over T": ("T", by["T"], size, lambda row: row.temporary_bytes),
            "milliseconds over H": ("H", by["H"], size, lambda row: row.milliseconds),
            "seconds to compile over depth": ("depth", by["depth"], size, lambda row: row.compile_seconds),
        }
    )
