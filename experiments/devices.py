"""Every core a device: how many an experiment makes of the CPU, and how many share its batches."""

import os
from typing import Any

import jax

LEAST_ROWS = 8  # on a device: with fewer, a step is too short to be worth dividing


def use_every_core() -> None:
    """Make each CPU core that this process may use a device; JAX must not have started, or it stays as it is."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        jax.config.update("jax_num_cpu_devices", cores or 1)
    except RuntimeError:  # JAX has started, and has the devices it has
        return


def sharing(batch: int, at_most: int | None = None) -> list[Any]:
    """Return as many devices as can share ``batch`` rows evenly, `LEAST_ROWS` for each; one at least."""
    devices = jax.devices()[:at_most]
    fits = (count for count in range(len(devices), 1, -1) if batch % count == 0 and batch // count >= LEAST_ROWS)
    return devices[: next(fits, 1)]


def one_copy(tree: Any) -> Any:
    """Return arrays that every device has whole as arrays of the first one alone, which has all cores to itself."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)
