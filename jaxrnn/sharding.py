"""What a loop must know of `jax.shard_map`: over which mesh axes a value differs between devices.

A scan's carry must have one type throughout, and inside `shard_map` that type includes the axes over
which it varies. Zeros made on the spot vary over none; after one step with sharded data they do.
"""

from typing import Any

import jax

ONE_THREAD = 2**16  # numbers in a kernel; XLA for CPUs shares a product with a larger one among threads of all devices


def varying_axes(tree: Any) -> frozenset:
    """Return the mesh axes over which any leaf of ``tree`` varies; empty outside `shard_map`."""
    axes: frozenset = frozenset()
    for leaf in jax.tree.leaves(tree):
        axes |= jax.typeof(leaf).manual_axis_type.varying
    return axes


def on_several_devices(tree: Any) -> bool:
    """Return whether several devices have ``tree``, each its own; in a `shard_map` without `check_vma` nobody knows."""
    mesh = jax.sharding.get_abstract_mesh()
    return any(mesh.shape.get(axis, 1) > 1 for axis in varying_axes(tree))


def vary_over(axes: frozenset, tree: Any) -> Any:
    """Return ``tree`` with every leaf marked as varying over ``axes``; values stay as they are."""

    def cast(leaf: Any) -> Any:
        missing = tuple(sorted(axes - varying_axes(leaf)))
        return jax.lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(cast, tree)
