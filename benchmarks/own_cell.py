"""How fast is a cell of one's own, written as a `split_cell`, beside the library's and beside autodiff?

All three compute the same from the same parameters, on one device: the library's cell with its formulas by hand,
`jaxrnn.split_cell` with its generic backward, and the same cell with gradient="autodiff".
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

import jaxrnn
from benchmarks import races, tables
from benchmarks.problems import Problem, Shape, draw
from benchmarks.programs import Network, on_one_device
from benchmarks.races import Entrant
from benchmarks.rows import Record, Row


@dataclasses.dataclass(frozen=True)
class Config(races.Budget):
    """What to race."""

    cells: tuple[Literal["vanilla", "lstm", "gru"], ...] = ("vanilla", "lstm", "gru")
    """Cells."""
    modes: tuple[Literal["forward", "forward+backward"], ...] = ("forward+backward",)
    """Forward alone, or with the gradients."""
    shapes: tuple[str, ...] = ("100x32x128x128", "100x32x256x256", "50x64x512x512", "784x32x1x128", "1000x1x64x64")
    """Steps, batch, input and hidden features: TxBxDxH."""


class Equations(NamedTuple):
    """The two parts of a step: see `jaxrnn.split_cell`."""

    recur: Callable[[Any, Any], Any]
    update: Callable[[Any, Any, Any], tuple[Any, Any]]


def vanilla(h: Any, z: Any, a: Any) -> tuple[Any, Any]:
    """Return (carry, y) after one step."""
    h = jnp.tanh(z + a)
    return h, h


def lstm(carry: Any, z: Any, a: Any) -> tuple[Any, Any]:
    """Return (carry, y) after one step."""
    i, f, g, o = jnp.split(z + a, 4, axis=-1)
    c = jax.nn.sigmoid(f) * carry.c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return jaxrnn.LSTMCarry(h, c), h


def gru(h: Any, z: Any, a: Any) -> tuple[Any, Any]:
    """Return (carry, y) after one step, the reset gate after the product."""
    product, candidate_bias = a
    r_z, u_z, n_z = jnp.split(z, 3, axis=-1)
    r_a, u_a, n_a = jnp.split(product, 3, axis=-1)
    u = jax.nn.sigmoid(u_z + u_a)
    h = u * h + (1 - u) * jnp.tanh(n_z + candidate_bias + jax.nn.sigmoid(r_z + r_a) * n_a)
    return h, h


def gru_recur(params: Any, h: Any) -> Any:
    """Return h U with its biases, and that of the candidate which the reset gate lets alone."""
    gates, candidate = jnp.split(params.bias, [2 * h.shape[-1]])
    product = h @ params.recurrent + jnp.concatenate([gates, params.candidate_bias])
    return product, jnp.broadcast_to(candidate, h.shape)


EQUATIONS = {
    "vanilla": Equations(lambda params, h: h @ params.recurrent + params.bias, vanilla),
    "lstm": Equations(lambda params, carry: carry.h @ params.recurrent + params.bias, lstm),
    "gru": Equations(gru_recur, gru),
}


def inputs(params: Any, xs: Any, key: Any = None) -> Any:
    """Return z = x W of all steps, by a product of a matrix."""
    del key
    return (xs.reshape(-1, xs.shape[-1]) @ params.input).reshape(*xs.shape[:-1], -1)


def run(config: Config, record: Record) -> None:
    """Race every cell and shape in every mode."""
    shapes = list(map(Shape.parse, config.shapes))
    for mode in config.modes:
        for kind in config.cells:
            for shape in shapes:
                with record.reported(f"{kind} {shape} {mode}"):
                    record.add(races.race("own_cell", kind, shape, mode, enter(draw(kind, shape), mode), config))


def enter(problem: Problem, mode: str) -> list[Entrant]:
    """Return the library's cell, the same equations as a `split_cell`, and those by autodiff."""
    cell = problem.cell
    own = jaxrnn.split_cell(cell.init, cell.initial_carry, *EQUATIONS[problem.kind], inputs=inputs)
    made = {"by hand": (cell, "auto"), "split_cell": (own, "auto"), "autodiff": (own, "autodiff")}
    return [
        Entrant(name, on_one_device(Network(problem.params, unrolled(*which)), problem.xs, mode))
        for name, which in made.items()
    ]


def unrolled(cell: jaxrnn.Cell, gradient: Any) -> Callable[..., Any]:
    """Return ``(params, xs) -> ys``."""
    return lambda params, xs: jaxrnn.unroll(cell, params, xs, gradient=gradient)[1]


def to_tables(rows: list[Row]) -> list[tables.Table]:
    """Return one table per mode."""
    return tables.per_mode(
        rows,
        "milliseconds (over those of the library's cell)",
        "cell T×B×D×H",
        lambda row: f"{row.cell} {tables.shape_of(row)}",
        lambda row: row.peer,
        tables.time_and_ratio,
    )
