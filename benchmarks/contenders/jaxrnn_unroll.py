"""jaxrnn: `jaxrnn.unroll`, on one device or with the batch spread over several."""

from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jaxrnn
from benchmarks.errors import NotApplicableError
from benchmarks.problems import Problem, loss
from benchmarks.programs import Network, Program, compiled, on_one_device

BATCH_OVER_DEVICES = PartitionSpec(None, "batch")


def program(problem: Problem, mode: str, *, devices: int | None = None, unroll: int = 1) -> Program:
    """Return the program on that many devices, all of them for None."""

    def apply(params: Any, xs: jax.Array) -> jax.Array:
        return jaxrnn.unroll(problem.cell, params, xs, unroll=unroll)[1]

    count = jax.local_device_count() if devices is None else devices
    if problem.shape.B % count != 0 or (devices is None and count == 1):
        raise NotApplicableError(f"a batch of {problem.shape.B} over {count} devices")
    if count == 1:
        return on_one_device(Network(problem.params, apply), problem.xs, mode)

    over = jax.local_devices()[:count]
    mesh = Mesh(over, ("batch",))
    params = jax.device_put(problem.params, NamedSharding(mesh, PartitionSpec()))
    xs = jax.device_put(problem.xs, NamedSharding(mesh, BATCH_OVER_DEVICES))
    if mode == "forward":
        specs = {"in_specs": (PartitionSpec(), BATCH_OVER_DEVICES), "out_specs": BATCH_OVER_DEVICES}
        return compiled(jax.shard_map(apply, mesh=mesh, **specs), params, xs)

    def objective(params: Any, xs: jax.Array) -> jax.Array:
        return loss(apply(params, xs))

    return compiled(jaxrnn.training.data_parallel(objective, over, batch_axis=1), params, xs)
