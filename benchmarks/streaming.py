"""How long does one step of a stream take, in a compiled loop and by one call from Python?

Every output is the next input, as in generation, so that no input product can be done ahead. "loop" is one
compiled loop of T steps (torch: a Python loop over its cell), "call" one step called from Python.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax

import jaxrnn
from benchmarks import races, tables
from benchmarks.contenders import installed, naive_scan
from benchmarks.problems import Problem, Shape, draw, host, positive
from benchmarks.programs import Program, compiled
from benchmarks.races import Entrant
from benchmarks.rows import Record, Row

COMPARED = 20  # steps: a network that is fed its own outputs may be chaotic, and rounding then grows without end


@dataclasses.dataclass(frozen=True)
class Config(races.Budget):
    """What to step."""

    cells: tuple[Literal["vanilla", "lstm", "gru"], ...] = ("vanilla", "lstm", "gru")
    """Cells."""
    hidden: tuple[int, ...] = (128, 512)
    """Features of inputs, state and outputs, D = H."""
    batches: tuple[int, ...] = (1, 32)
    """Streams at once, B."""
    steps: int = 1000
    """Steps of a loop, T."""
    contenders: tuple[Literal["jaxrnn-1", "torch", "flax", "naive"], ...] = ("jaxrnn-1", "torch", "flax", "naive")
    """Who takes part; jaxrnn-1 is jaxrnn on one device."""

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(hidden=self.hidden, batches=self.batches, steps=(self.steps,))


class Stream(NamedTuple):
    """A network one step at a time: ``step(params, carry, x) -> (carry, y)``."""

    params: Any
    carry: Any
    step: Callable[..., tuple[Any, Any]]


def run(config: Config, record: Record) -> None:
    """Race every cell and size, in a loop and by a call."""
    names = installed(config.contenders, record.say)
    for mode, kind, hidden, batch in itertools.product(("loop", "call"), config.cells, config.hidden, config.batches):
        shape = Shape(config.steps if mode == "loop" else 1, batch, hidden, hidden)
        with record.reported(f"{kind} {shape} {mode}"):
            record.add(races.race("streaming", kind, shape, mode, enter(names, draw(kind, shape), mode), config))


def enter(names: Sequence[str], problem: Problem, mode: str) -> list[Entrant]:
    """Return who of ``names`` can step, jaxrnn first."""
    return races.jaxrnn_first(names, lambda name: PROGRAMS[name](problem, mode))


def in_jax(stream: Callable[[Problem], Stream]) -> Callable[[Problem, str], Program]:
    """Return how to make the program of a stream in JAX."""

    def program(problem: Problem, mode: str) -> Program:
        params, carry, step = stream(problem)
        params, carry, x = jax.device_put((params, carry, problem.xs[0]), jax.devices()[0])

        def fed_back(params: Any, carry: Any, x: Any) -> Any:
            def body(state: Any, _: None) -> Any:
                state = step(params, *state)
                return state, state[1]

            return jax.lax.scan(body, (carry, x), length=problem.shape.T)[1]

        if mode == "loop":
            return compiled(fed_back, params, carry, x, read=lambda ys: host(ys)[:COMPARED])
        return compiled(step, params, carry, x, read=lambda after: host(after[1])[None])

    return program


def by_jaxrnn(problem: Problem) -> Stream:
    """Return the stream of `Layer.step`."""
    layer = jaxrnn.recurrent(problem.cell)
    assert layer.step is not None
    return Stream(problem.params, layer.initial_carry(problem.params, (problem.shape.B,)), layer.step)


def by_naive_step(problem: Problem) -> Stream:
    """Return the stream of the textbook's step."""
    carry = naive_scan.initial_carry(problem.kind, problem.params, problem.shape.B)
    return Stream(problem.params, carry, naive_scan.STEPS[problem.kind])


def by_flax(problem: Problem) -> Stream:
    """Return the stream of Flax's cell."""
    from flax import nnx

    from benchmarks.contenders import flax_nnx

    graph, params = nnx.split(flax_nnx.cell(problem))
    carry = naive_scan.initial_carry(problem.kind, problem.params, problem.shape.B)
    return Stream(params, carry, lambda params, carry, x: nnx.merge(graph, params)(carry, x))


def by_torch(problem: Problem, mode: str) -> Program:
    """Return the program of torch's cell, called step by step."""
    import torch

    from benchmarks.contenders import torch_nn

    cells = {"vanilla": torch.nn.RNNCell, "lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell}
    cell = cells[problem.kind](problem.shape.D, problem.shape.H)
    torch_nn.load(cell, problem.params, suffix="")
    cell.to(torch_nn.device())
    first = torch_nn.tensor(problem.xs[0])

    def call() -> Any:
        with torch.inference_mode():
            x, carry, ys = first, None, []
            for _ in range(problem.shape.T):
                carry = cell(x, carry)
                x = carry[0] if problem.kind == "lstm" else carry
                ys.append(x)
            return torch_nn.finished(torch.stack(ys))

    return Program(call, lambda ys: torch_nn.array(ys)[:COMPARED])


PROGRAMS = {"jaxrnn-1": in_jax(by_jaxrnn), "naive": in_jax(by_naive_step), "flax": in_jax(by_flax), "torch": by_torch}


def microseconds(row: Row) -> str:
    """Return the microseconds of one step and the ratio to jaxrnn's."""
    return f"{tables.short(1e3 * row.milliseconds / row.shape[0])} ({row.ratio:.2f}×)"


def to_tables(rows: list[Row]) -> list[tables.Table]:
    """Return one table per mode."""
    return tables.per_mode(
        rows,
        "microseconds a step (ratio to jaxrnn; above 1, jaxrnn is faster)",
        "cell",
        lambda row: f"{row.cell} H = {row.shape[3]}, B = {row.shape[1]}",
        lambda row: tables.label(row.peer),
        microseconds,
    )
