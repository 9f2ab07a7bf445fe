"""What each step of a Transformer sees: the valid steps of its segment, of those carried and of those at hand.

The position p_t of a step is the number of valid steps before it in its segment, carried ones included.
Step t sees step s if s is valid, of the same segment, and

    causal:  0 ≤ p_t - p_s < context        otherwise:  |p_t - p_s| < context

What is carried on is the last of the steps of the segment that is open at the end.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.steps import zero_unless
from jaxrnn.types import Array


class View(NamedTuple):
    """What T steps see of the C steps carried, and of each other.

    positions: int ``[B, T]``; -1 at a step that is not valid and has none before it.
    visible: bool ``[B, T, C + T]``.
    kept: bool ``[B, C + T]``, what belongs to the segment that is open at the end.
    count: int ``[B]``, how many steps that has had.
    scattered: whether there may be steps between those kept, and after them, that are not.
    """

    positions: Array
    visible: Array
    kept: Array
    count: Array
    scattered: bool


def view(
    count: Array, slots: int, valid: Array | None, begins: Array | None, time: int, causal: bool, context: int | None
) -> View:
    """Return the `View` of T steps after ``count [B]`` others, the last of which stand in the C slots.

    ``valid`` and ``begins`` are ``[B, T]``, which steps count and which begin a segment.
    """
    rows = count.shape[0]
    counted = jnp.ones((rows, time), bool) if valid is None else valid
    total = jnp.cumsum(counted.astype(jnp.int32), axis=1)
    before = jnp.broadcast_to(-count[:, None], (rows, time))  # how many steps the segment has had at total = 0
    segment = jnp.zeros((rows, time), jnp.int32)
    if begins is not None:
        begins = begins & counted
        before = jax.lax.cummax(jnp.where(begins, total - 1, before), axis=1)
        segment = jnp.cumsum(begins.astype(jnp.int32), axis=1)
    positions = total - 1 - before

    carried = count[:, None] - slots + jnp.arange(slots, dtype=jnp.int32).reshape(1, -1)
    every_position = jnp.concatenate([carried, positions], axis=1)
    every_segment = jnp.concatenate([jnp.zeros_like(carried), segment], axis=1)
    there = jnp.concatenate([carried >= 0, counted], axis=1)

    apart = positions[:, :, None] - every_position[:, None, :]
    visible = there[:, None, :] & (segment[:, :, None] == every_segment[:, None, :])
    if causal:
        visible &= apart >= 0
    if context is not None:
        visible &= jnp.abs(apart) < context
    kept = there & (every_segment == segment[:, -1:])
    return View(positions, visible, kept, positions[:, -1] + 1, scattered=valid is not None)


def newest(seen: View, slots: int, x: Array) -> Array:
    """Return the last kept of ``x [B, C + T, ...]`` in C slots, zeros before them where they are fewer."""
    kept = seen.kept
    if seen.scattered:
        order = jnp.argsort(kept, axis=1, stable=True)[:, -slots:]
        kept = jnp.take_along_axis(kept, order, axis=1)
        x = jnp.take_along_axis(x, order.reshape(*order.shape, *(1,) * (x.ndim - 2)), axis=1)
    return zero_unless(kept[:, -slots:], x[:, -slots:])
