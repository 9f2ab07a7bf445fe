"""jaxrnn: `jaxrnn.unroll`, on one device or with the batch spread over several."""

from typing import Any

import jax

import jaxrnn
from benchmarks.problems import Problem
from benchmarks.programs import Network, Program, over_devices


def program(problem: Problem, mode: str, *, devices: int | None = None, unroll: int = 1) -> Program:
    """Return the program on that many devices, for None on as many as can share the batch."""

    def apply(params: Any, xs: jax.Array) -> jax.Array:
        return jaxrnn.unroll(problem.cell, params, xs, unroll=unroll)[1]

    return over_devices(Network(problem.params, apply), problem.xs, mode, devices)
