"""jaxrnn: `jaxrnn.unroll`, on one device or with the batch spread over several."""

from typing import Any

import jax

import jaxrnn
from benchmarks.errors import NotApplicableError
from benchmarks.problems import Problem
from benchmarks.programs import Network, Program, on_one_device, over_devices


def program(problem: Problem, mode: str, *, devices: int | None = None, unroll: int = 1) -> Program:
    """Return the program on that many devices, all of them for None."""

    def apply(params: Any, xs: jax.Array) -> jax.Array:
        return jaxrnn.unroll(problem.cell, params, xs, unroll=unroll)[1]

    network = Network(problem.params, apply)
    if devices == 1:
        return on_one_device(network, problem.xs, mode)
    return over_devices(network, problem.xs, mode, devices or several())


def several() -> int:
    """Return how many devices there are, if there is more than one."""
    if (count := jax.local_device_count()) == 1:
        raise NotApplicableError("one device is all there is")
    return count
