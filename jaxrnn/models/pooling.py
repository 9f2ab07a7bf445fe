"""One vector for a sequence: ``ys [T, *B, F]`` and which of its steps are valid, ``[T, *B]``, to ``[*B, F]``.

Steps that are not valid have no part in it; where none is valid, and where T = 0, the result is zero.
"""

import jax
import jax.numpy as jnp

from jaxrnn.steps import zero_unless
from jaxrnn.types import Array


def last(ys: Array, valid: Array) -> Array:
    """Return y at the last valid step."""
    until_the_end = jax.lax.cumsum(valid.astype(jnp.int32), axis=0, reverse=True)
    return zero_unless(valid & (until_the_end == 1), ys).sum(axis=0)


def first(ys: Array, valid: Array) -> Array:
    """Return y at the first valid step."""
    so_far = jax.lax.cumsum(valid.astype(jnp.int32), axis=0)
    return zero_unless(valid & (so_far == 1), ys).sum(axis=0)


def ends(ys: Array, valid: Array) -> Array:
    """Return [→h at the last valid step, ←h at the first] of ``ys = [→h, ←h]``: both have read all of the sequence."""
    forward, backward = jnp.split(ys, 2, axis=-1)
    return jnp.concatenate([last(forward, valid), first(backward, valid)], axis=-1)


def mean(ys: Array, valid: Array) -> Array:
    """Return the mean of y over the valid steps."""
    count = jnp.maximum(valid.sum(axis=0), 1)
    return zero_unless(valid, ys).sum(axis=0) / jnp.expand_dims(count, -1).astype(ys.dtype)


def maximum(ys: Array, valid: Array) -> Array:
    """Return the maximum of y over the valid steps, of each feature."""
    highest = jnp.where(jnp.expand_dims(valid, -1), ys, -jnp.inf).max(axis=0, initial=-jnp.inf)
    return zero_unless(valid.any(axis=0), highest)
