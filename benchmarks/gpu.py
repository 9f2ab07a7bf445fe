"""How fast is one step on a GPU, beside cuDNN, torch, Flax and a naive scan, and beside the products alone?

Microseconds a step of a network with D = H, for every cell, size and dtype; "tf32" is float32 whose products
may round their factors to 10 bits, "float32" does not allow it. cuDNN (jax.experimental.rnn) has the LSTM in
float32 and tf32 alone. A contender that fails is named with its error, and the others go on. Without a GPU
the sizes are small, to show that everything runs.
"""

import contextlib
import dataclasses
import itertools
import math
from typing import Any, Literal

import jax

from benchmarks import floor, measure, races, tables
from benchmarks.contenders import CONTENDERS, Contender, installed
from benchmarks.errors import NotApplicableError
from benchmarks.problems import PRECISIONS, Problem, Shape, draw, positive, tolerance
from benchmarks.races import Entrant
from benchmarks.rows import Record, Row


@dataclasses.dataclass(frozen=True)
class Config(races.Budget):
    """What to race."""

    rounds: int = 20
    """Rounds of a race, at most; in every round each contender is timed once."""
    seconds: float = 2.0
    """Seconds of a race, but for the round that is under way."""
    cells: tuple[Literal["lstm", "gru", "vanilla"], ...] = ("lstm", "gru", "vanilla")
    """Cells."""
    modes: tuple[Literal["forward", "forward+backward"], ...] = ("forward", "forward+backward")
    """Forward alone, or with the gradients."""
    hidden: tuple[int, ...] = (128, 256, 512, 1024)
    """Input and hidden features, D = H."""
    batches: tuple[int, ...] = (1, 32, 256)
    """Batches B."""
    steps: tuple[int, ...] = (128, 1024)
    """Steps T."""
    dtypes: tuple[Literal["float32", "tf32", "bfloat16"], ...] = ("float32", "tf32", "bfloat16")
    """Of parameters, inputs and products."""
    contenders: tuple[Literal["jaxrnn-1", "naive", "flax", "torch", "cudnn"], ...] = (
        "jaxrnn-1",
        "naive",
        "flax",
        "torch",
        "cudnn",
    )
    """Who takes part; jaxrnn-1 is jaxrnn on one device."""
    unroll: tuple[int, ...] = ()
    """Steps per iteration of jaxrnn's loop to try besides 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(hidden=self.hidden, batches=self.batches, steps=self.steps, unroll=self.unroll)


def run(config: Config, record: Record) -> None:
    """Race every size, whatever fails."""
    on_gpu = jax.default_backend() == "gpu"
    if not on_gpu:
        record.say("There is no GPU: small sizes on the CPU, only to show that everything runs.")
        config = smaller(config)
    named = dict.fromkeys(["jaxrnn-1", *installed(config.contenders, record.say)])
    contenders = {name: CONTENDERS[name] for name in named}
    for count in config.unroll:
        again = CONTENDERS["jaxrnn-1"]._replace(options={"devices": 1, "unroll": count})
        contenders[f"jaxrnn-1, unroll={count}"] = again
    sizes = itertools.product(config.cells, config.hidden, config.batches, config.steps, config.dtypes, config.modes)
    for kind, hidden, batch, steps, dtype, mode in sizes:
        shape = Shape(steps, batch, hidden, hidden)
        with jax.default_matmul_precision(PRECISIONS[dtype][1]), record.reported(f"{kind} {shape} {dtype} {mode}"):
            product = floor.square_product(dtype, size=8192 if on_gpu else 256)
            entrants, errors = survivors(contenders, draw(kind, shape, dtype=dtype), mode, record)
            if entrants:
                rows = races.race(
                    "gpu", kind, shape, mode, entrants, config, dtype=dtype, errors=errors, product=product
                )
                if rows[0].peer != "jaxrnn-1":  # which failed: there is nothing to be a ratio to
                    rows = [dataclasses.replace(row, ratio=math.nan) for row in rows]
                record.add(rows)


def smaller(config: Config) -> Config:
    """Return the configuration with small sizes in place of those that were not given."""
    small = {"hidden": (16,), "batches": (1, 4), "steps": (8,), "rounds": 2}
    as_it_comes = Config()
    given = {name for name in small if getattr(config, name) != getattr(as_it_comes, name)}
    return dataclasses.replace(config, **{name: size for name, size in small.items() if name not in given})


def survivors(
    contenders: dict[str, Contender], problem: Problem, mode: str, record: Record
) -> tuple[list[Entrant], list[float]]:
    """Return who compiles, runs and agrees with the first, with its error; say who does not."""
    entrants: list[Entrant] = []
    errors: list[float] = []
    expected: Any = None
    for name, contender in contenders.items():
        with record.reported(name), contextlib.suppress(NotApplicableError):
            program = contender.module.program(problem, mode, **contender.options)
            results = program.read(program.call())
            expected = results if expected is None else expected
            errors.append(measure.check(name, results, expected, tolerance(problem.dtype)))
            entrants.append(Entrant(name, program, distribution=contender.distribution))
    return entrants, errors


def microseconds(row: Row) -> str:
    """Return the microseconds of one step, the ratio to jaxrnn's, and the share of the floor in it."""
    share = "" if row.floor_milliseconds is None else f", {row.floor_milliseconds / row.milliseconds:.1%}"
    ratio = "–" if math.isnan(row.ratio) else f"{row.ratio:.2f}×"
    return f"{tables.short(1e3 * row.milliseconds / row.shape[0])} ({ratio}{share})"


def to_tables(rows: list[Row]) -> list[tables.Table]:
    """Return the one table."""
    heads, lines = tables.pivot(
        rows,
        lambda row: f"{row.cell} H={row.shape[3]} B={row.shape[1]} T={row.shape[0]} {row.dtype} {row.mode}",
        lambda row: tables.label(row.peer),
        microseconds,
        order=tables.LABELS,
    )
    title = "Microseconds a step (ratio to jaxrnn, above 1 jaxrnn is faster; share of the floor in the time)"
    return [tables.Table(title, ["", *heads], lines, (tables.measured(rows),))]
