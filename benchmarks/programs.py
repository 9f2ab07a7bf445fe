"""A contender made ready: compiled, its arguments in place, one call away from its results."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks.errors import NotApplicableError
from benchmarks.problems import host, loss
from jaxrnn.training import data_parallel


class Program(NamedTuple):
    """One contender's program.

    call: runs it once, to the end, and returns what it returns.
    read: what it returned, in jaxrnn's layout and NumPy.
    compile_seconds: of lowering and compiling; None where nothing is compiled.
    temporary_bytes: the compiled program's own memory, per device; None where it is unknown.
    """

    call: Callable[[], Any]
    read: Callable[[Any], Any] = host
    compile_seconds: float | None = None
    temporary_bytes: int | None = None


class Network(NamedTuple):
    """A network in JAX, as any library may write it.

    params: in the library's own layout.
    apply: ``(params, xs, *extras) -> ys``.
    restore: a tree like ``params`` (its gradients) in jaxrnn's layout.
    batch_major: xs and ys are ``[B, T, ...]``.
    """

    params: Any
    apply: Callable[..., Any]
    restore: Callable[[Any], Any] = lambda gradients: gradients
    batch_major: bool = False


def compiled(function: Callable[..., Any], *args: Any, read: Callable[[Any], Any] = host) -> Program:
    """Return the program of a JAX function with arrays that are in place."""
    start = time.perf_counter()
    program = jax.jit(function).lower(*args).compile()
    seconds = time.perf_counter() - start
    memory = program.memory_analysis()
    return Program(
        lambda: jax.block_until_ready(program(*args)), read, seconds, getattr(memory, "temp_size_in_bytes", None)
    )


def on_one_device(network: Network, xs: jax.Array, mode: str, *extras: Any) -> Program:
    """Return the program of a network on the first device: ys, or the loss mean(y²) and its gradients."""
    params, xs, extras = jax.device_put((network.params, _turn(network, xs), extras), jax.devices()[0])
    if mode == "forward":
        return compiled(network.apply, params, xs, *extras, read=lambda ys: _turn(network, host(ys)))

    def objective(params: Any, xs: jax.Array, *extras: Any) -> jax.Array:
        return loss(network.apply(params, xs, *extras))

    return compiled(jax.value_and_grad(objective), params, xs, *extras, read=_restored(network.restore))


def over_devices(
    network: Network, xs: jax.Array, mode: str, devices: int | None, *extras: Any, axes: Sequence[int] = ()
) -> Program:
    """Return the program of a time-major network in jaxrnn's layout, its batch divided among the first devices.

    devices: how many; None for as many as can share the batch, of which there must be two.
    axes: the batch axis of each extra.
    """
    batch_size = xs.shape[1]
    if devices is None:
        devices = max(count for count in range(1, jax.local_device_count() + 1) if batch_size % count == 0)
        if devices == 1:
            raise NotApplicableError(f"a batch of {batch_size} over {jax.local_device_count()} devices")
    if devices == 1:
        return on_one_device(network, xs, mode, *extras)
    over, batch, batch_axes = jax.local_devices()[:devices], (xs, *extras), (1, *axes)
    mesh = Mesh(over, ("batch",))
    whole, specs = PartitionSpec(), tuple(PartitionSpec(*(None,) * axis, "batch") for axis in batch_axes)
    params = jax.device_put(network.params, NamedSharding(mesh, whole))
    batch = tuple(jax.device_put(part, NamedSharding(mesh, spec)) for part, spec in zip(batch, specs, strict=True))
    if mode == "forward":
        apply = jax.shard_map(network.apply, mesh=mesh, in_specs=(whole, *specs), out_specs=specs[0])
        return compiled(apply, params, *batch)

    def objective(params: Any, batch: Any) -> jax.Array:
        return loss(network.apply(params, *batch))

    return compiled(data_parallel(objective, over, batch_axis=batch_axes), params, batch)


def _turn(network: Network, array: Any) -> Any:
    return array.swapaxes(0, 1) if network.batch_major else array


def _restored(restore: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def read(results: tuple[Any, Any]) -> tuple[np.ndarray, Any]:
        value, gradients = results
        return host(value), host(restore(gradients))

    return read
