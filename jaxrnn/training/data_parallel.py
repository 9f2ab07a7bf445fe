"""The gradient of a loss over a batch that is divided among devices: one shard each, one sum at the end.

    L = Σ_d S_d / Σ_d w_d        ∇L = Σ_d ∇S_d / Σ_d w_d

with S_d the sum of the losses on device d and w_d their number or weight. Dividing after the sums
keeps masks exact: a mean of means would count the steps of a short sequence for more. A loss that is a
mean over rows that all count the same is divided by the number of devices before its gradient is taken.

On a CPU with several cores each core is a device where JAX was told so before it started, by
``jax.config.update("jax_num_cpu_devices", 2)``; small steps then run on all cores at once. With kernels of
megabytes and few rows one device is faster: each has gradients of all weights to make and to sum.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np

from jaxrnn.sharding import vary_over
from jaxrnn.types import Array, Params

DEVICES = "devices"  # the name of the mesh axis
SMALL = 2**15  # numbers; the devices meet once for each array that they sum, and smaller ones are summed as one


def data_parallel(
    loss_fn: Callable[[Params, Any], Any], devices: Sequence[Any] | None = None, *, batch_axis: Any = 0
) -> Callable[[Params, Any], tuple[Array, Params]]:
    """Return ``(params, batch) -> (loss, grads)``, with the batch divided among ``devices``.

    L = Σ_d S_d / Σ_d w_d over devices d. Equal to ``jax.value_and_grad`` of the loss on one device, to
    rounding. Call it inside your own `jax.jit`.

    Args:
        loss_fn: ``(params, batch) -> loss`` on any part of the batch: a mean over rows that all count
            the same, or a pair (sum S, weight w), such as the sum over steps that count and their
            number: `jaxrnn.losses.sum_and_weight` makes it of a masked mean. The weight does not depend
            on the parameters.
        devices: which; all of the default backend unless given. With one, nothing is divided.
        batch_axis: the axis along which to divide, for all arrays of ``batch``, or a pytree that is a
            prefix of ``batch``; None for what every device gets whole. (``xs [T, B, D]`` has 1, lengths
            ``[B]`` have 0.) To draw noise, give each row a key of its own: a key that all devices get
            whole draws the same noise on each.

    Raises:
        ValueError: no devices, one of them twice; at the first call, a batch that the devices cannot
            share evenly: pad it with rows of weight 0.
        TypeError: an argument of the wrong type.

    Source: Valiant, "A bridging model for parallel computation" (1990).

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxrnn.training import data_parallel
        >>> def loss_fn(w, batch):
        ...     x, counts = batch
        ...     return jnp.sum(counts * (w * x) ** 2), jnp.sum(counts)
        >>> batch = jnp.array([1.0, 2.0, 3.0, 0.0]), jnp.array([1.0, 1.0, 1.0, 0.0])
        >>> loss, gradient = jax.jit(data_parallel(loss_fn))(jnp.array(3.0), batch)
        >>> round(float(loss), 4), round(float(gradient), 4)
        (42.0, 28.0)
    """
    if not callable(loss_fn):
        raise TypeError(f"loss_fn: expected a function (params, batch), got {loss_fn!r}")
    gradient = parallel_gradient(lambda params, batch: (loss_fn(params, batch), ()), mesh_over(devices), batch_axis)

    def value_and_grad(params: Params, batch: Any) -> tuple[Array, Params]:
        (loss, _), grads = gradient(params, batch)
        return loss, grads

    return value_and_grad


def mesh_over(devices: Sequence[Any] | None) -> jax.sharding.Mesh:
    """Return the mesh with one axis over ``devices``, all of the default backend if None."""
    if devices is not None and not (
        isinstance(devices, Sequence) and all(isinstance(device, jax.Device) for device in devices)
    ):
        raise TypeError(f"devices: expected a sequence of jax.Device, or None for all, got {devices!r}")
    devices = jax.devices() if devices is None else list(devices)
    if not devices or len(set(devices)) < len(devices):
        raise ValueError(f"devices: expected one or more, each once, got {devices}")
    return jax.sharding.Mesh(np.array(devices), (DEVICES,), axis_types=(jax.sharding.AxisType.Auto,))


def specs(axes: Any) -> Any:
    """Return the `PartitionSpec` of each axis in the pytree ``axes``; that of None is whole."""
    whole = jax.sharding.PartitionSpec()
    spec = lambda axis: whole if axis is None else jax.sharding.PartitionSpec(*(None,) * axis, DEVICES)
    return jax.tree.map(spec, axes, is_leaf=lambda axis: axis is None)


def parallel_gradient(
    loss_fn: Callable[[Params, Any], tuple[Any, Any]],
    mesh: jax.sharding.Mesh | None,
    batch_axis: Any,
    aux_axis: Any = 0,
    name: str = "batch",
) -> Callable[[Params, Any], tuple[tuple[Array, Any], Params]]:
    """Return ``(params, batch) -> ((loss, aux), grads)`` of ``loss_fn``, which returns ``(loss, aux)``.

    mesh: with one axis over the devices; None for the one that is there, where nothing is divided.
    aux_axis: along which axis the parts of aux are joined, as a prefix of it; None for their mean.
    name: what errors call the batch.
    """
    _check_axes(batch_axis)
    devices = 1 if mesh is None else mesh.size
    alone = devices == 1

    def shard(params: Params, batch: Any) -> tuple[tuple[Array, Any], Params]:
        def total(params: Params) -> tuple[Array, tuple[Array | None, Any]]:
            loss, aux = loss_fn(params, batch)
            total, weight = _total_and_weight(loss, devices)
            return total, (weight, aux)

        # Parameters that vary have gradients that vary: each device's own, which are summed here and only here.
        params = params if alone else vary_over(frozenset({DEVICES}), params)
        (total_loss, (weight, aux)), grads = jax.value_and_grad(total, has_aux=True)(params)
        if not alone:
            weight, aux = vary_over(frozenset({DEVICES}), (weight, aux))
            total_loss, weight, grads = _sum_over_devices((total_loss, weight, grads))
            aux = _map_prefix(lambda axis, x: jax.lax.pmean(x, DEVICES) if axis is None else x, aux_axis, aux)
        if weight is None:
            return (total_loss, aux), grads
        divisor = jnp.where(weight == 0, jnp.ones_like(weight), weight)  # where nothing counts, the loss is 0
        return (total_loss / divisor, aux), jax.tree.map(lambda grad: grad / divisor.astype(grad.dtype), grads)

    def gradient(params: Params, batch: Any) -> tuple[tuple[Array, Any], Params]:
        if mesh is None or alone:
            return shard(params, batch)
        _check_shares(name, batch, batch_axis, devices)
        in_specs, out_specs = (specs(None), specs(batch_axis)), ((specs(None), specs(aux_axis)), specs(None))
        return jax.shard_map(shard, mesh=mesh, in_specs=in_specs, out_specs=out_specs)(params, batch)

    return gradient


def _total_and_weight(loss: Any, devices: int) -> tuple[Array, Array | None]:
    """Return (S, w) of a loss that is such a pair, and of a mean its part of the mean over all devices, and None."""
    parts = loss if isinstance(loss, tuple) else (loss,)
    # Under jit a weight has no value to ask about, but a shape it has.
    shapes = [jnp.shape(part) for part in parts]
    if shapes != [()] * (2 if isinstance(loss, tuple) else 1):
        given = " and ".join(map(str, shapes)) or None
        raise ValueError(f"loss_fn: expected a scalar loss, or a pair (sum, weight) of scalars, got shape {given}")
    total, *weight = map(jnp.asarray, parts)
    if not jnp.issubdtype(total.dtype, jnp.floating):
        raise TypeError(f"loss_fn: expected a floating loss, got dtype {total.dtype}")
    if not weight:
        return total / devices, None
    return total, jax.lax.stop_gradient(weight[0].astype(total.dtype))


def _sum_over_devices(tree: Any) -> Any:
    """Return the sums of all leaves, the small ones of each dtype together."""
    leaves, structure = jax.tree.flatten(tree)
    groups: dict[Any, dict[int, Array]] = {}
    for n, leaf in enumerate(leaves):
        groups.setdefault(leaf.dtype if leaf.size <= SMALL else n, {})[n] = leaf
    vectors, restore = zip(*map(jax.flatten_util.ravel_pytree, groups.values()), strict=True)
    sums = {}
    for vector, restored in zip(jax.lax.psum(vectors, DEVICES), restore, strict=True):
        sums |= restored(vector)
    return structure.unflatten([sums[n] for n in range(len(leaves))])


def _map_prefix(f: Callable[[int | None, Any], Any], axes: Any, tree: Any) -> Any:
    """Return ``f(axis, leaf)`` for all leaves of ``tree``, of which ``axes`` is a prefix with None as a leaf."""
    return jax.tree.map(
        lambda axis, branch: jax.tree.map(lambda leaf: f(axis, leaf), branch),
        axes,
        tree,
        is_leaf=lambda axis: axis is None,
    )


def _check_axes(batch_axis: Any) -> None:
    for axis in jax.tree.leaves(batch_axis):
        if isinstance(axis, bool) or not isinstance(axis, int):
            raise TypeError(f"batch_axis: expected ints or None, got {axis!r}")
        if axis < 0:
            raise ValueError(f"batch_axis: expected an axis from 0, got {axis}")


def _check_shares(name: str, batch: Any, batch_axis: Any, devices: int) -> None:
    try:
        axes = jax.tree.leaves(_map_prefix(lambda axis, _: -1 if axis is None else axis, batch_axis, batch))
    except ValueError as error:
        raise ValueError(f"batch_axis: expected an int or a prefix of the batch, got {batch_axis!r}") from error
    for axis, (path, leaf) in zip(axes, jax.tree_util.tree_leaves_with_path(batch), strict=True):
        shape, where = jnp.shape(leaf), (name + jax.tree_util.keystr(path)).removeprefix(".")
        if axis >= len(shape):
            raise ValueError(f"{where}: expected a batch axis {axis} (batch_axis), got shape {shape}")
        if axis >= 0 and shape[axis] % devices:
            raise ValueError(
                f"{where}: expected rows that {devices} devices can share evenly, got {shape[axis]} along axis {axis}; "
                "pad the batch with rows of weight 0 and return (sum, weight) from loss_fn"
            )
