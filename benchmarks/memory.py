"""What does checkpointing in time save, and what does it cost?

Forward and backward over the steps T, for a loss on the last state, B = 8, D = H = 64, by jaxrnn on one device:
all residuals kept, the carry of every ⌈√T⌉-th step, or the carry of every step.
"""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp

import jaxrnn
from benchmarks import plots, problems, races, tables
from benchmarks.problems import Shape
from benchmarks.programs import Program, compiled
from benchmarks.races import Entrant
from benchmarks.rows import Record, Row

MODE = "forward+backward"
WAYS = {"everything": None, "sqrt": "sqrt", "carries": "carries"}


@dataclasses.dataclass(frozen=True)
class Config(races.Budget):
    """What to vary."""

    rounds: int = 10
    """Rounds of a race, at most; in every round each contender is timed once."""
    cells: tuple[Literal["vanilla", "lstm", "gru"], ...] = ("lstm", "gru")
    """Cells."""
    steps: tuple[int, ...] = (256, 1024, 4096, 16384, 65536)
    """Lengths T to compare."""
    batch: int = 8
    """Sequences B."""
    hidden: int = 64
    """Features D = H."""

    def __post_init__(self) -> None:
        super().__post_init__()
        problems.positive(steps=self.steps, batch=(self.batch,), hidden=(self.hidden,))


def run(config: Config, record: Record) -> None:
    """Race every way to keep less, over every length."""
    for kind in config.cells:
        for steps in config.steps:
            shape = Shape(steps, config.batch, config.hidden, config.hidden)
            with record.reported(f"{kind} {shape}"):
                problem = problems.draw(kind, shape)
                entrants = [Entrant(kept, program(problem, checkpoint)) for kept, checkpoint in WAYS.items()]
                record.add(races.race("memory", kind, shape, MODE, entrants, config))


def program(problem: problems.Problem, checkpoint: str | None) -> Program:
    """Return the gradient of the last state's mean square."""

    def loss(params: Any, xs: jax.Array) -> jax.Array:
        final, _ = jaxrnn.unroll(problem.cell, params, xs, checkpoint=checkpoint)
        return sum((jnp.mean(jnp.square(leaf)) for leaf in jax.tree.leaves(final)), jnp.zeros(()))

    arguments = jax.device_put((problem.params, problem.xs), jax.devices()[0])
    return compiled(jax.value_and_grad(loss), *arguments)


def share(row: Row, rows: list[Row]) -> float:
    """Return the temporary memory of a row as a share of what keeping everything takes."""
    whole = next(
        other for other in rows if (other.cell, other.shape, other.peer) == (row.cell, row.shape, "everything")
    )
    assert row.temporary_bytes is not None
    assert whole.temporary_bytes is not None
    return row.temporary_bytes / whole.temporary_bytes


def to_tables(rows: list[Row]) -> list[tables.Table]:
    """Return a table per cell: time and ratio, memory and its share, compile time."""

    def cell(row: Row) -> str:
        assert row.temporary_bytes is not None
        memory = f"{tables.short(row.temporary_bytes / 1e6)} MB ({share(row, rows):.1%})"
        return f"{tables.time_and_ratio(row)}, {memory}, {row.compile_seconds:.2g} s"

    made = []
    for kind in dict.fromkeys(row.cell for row in rows):
        of_kind = [row for row in rows if row.cell == kind]
        heads, lines = tables.pivot(of_kind, lambda row: f"{row.shape[0]:,}", lambda row: row.peer, cell)
        title = f"{kind}, what is kept: ms (ratio to everything), temporary MB (share), seconds to compile"
        made.append(tables.Table(title, ["T", *heads], lines, (tables.measured(of_kind),)))
    return made


def draw(rows: list[Row]) -> Any:
    """Return a figure of memory and time over T, for the first cell."""
    of_kind = [row for row in rows if row.cell == rows[0].cell]
    over = lambda row: row.shape[0]
    return plots.curves(
        {
            f"temporary bytes, {rows[0].cell}": ("T", of_kind, over, lambda row: row.temporary_bytes),
            f"milliseconds, {rows[0].cell}": ("T", of_kind, over, lambda row: row.milliseconds),
        }
    )
