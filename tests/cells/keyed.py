"""Noise in tests: cells that always have it, and how far a mean of it may be off."""

from typing import Any

import jax
import jax.numpy as jnp

import jaxrnn


def keyed(cell: jaxrnn.Cell, key: jax.Array) -> jaxrnn.Cell:
    """Return ``cell`` with the noise of ``key``, whatever it is called with."""
    return cell._replace(inputs=lambda params, xs, _=None: cell.inputs(params, xs, key))


def assert_mean(samples: Any, mean: Any) -> None:
    """Fail unless the mean over the first axis is ``mean``, within five times its own deviation."""
    deviation = samples.std(axis=0) / len(samples) ** 0.5
    assert (jnp.abs(samples.mean(axis=0) - mean) <= 5 * deviation).all()
