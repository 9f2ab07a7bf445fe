"""Which steps of a sequence count, and which begin a new segment: lengths, mask and resets as one.

The contract, for every cell and layer:

- Step t of a sequence is valid if ``mask[t]`` and ``t < length``. A step that is not valid holds the
  carry and gives zero output. Its input is set to zero before anything sees it, so that NaN in
  padding reaches no value and no gradient, and its own gradient is exactly zero.
- ``resets[t]`` says that step t begins a new segment: forward, step t starts from the cell's own
  initial carry; in reverse, the carry is replaced after step t. Segments are independent either way.
  Resets at steps that are not valid are ignored.
- In reverse a sequence starts at its own last valid step. ``ys[t]`` always belongs to ``xs[t]``.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import checks
from jaxrnn.types import Array


class Steps(NamedTuple):
    """What happens around each step, in terms of the loop that runs it; None where it never happens.

    valid: ``[T, *B]``, whether the step is taken.
    restart: ``[T, *B]``, whether the carry is replaced by the initial one before the step is taken.
    restart_last: ``[*B]``, whether it is replaced after the last step taken (in reverse, step 0).
    """

    valid: Array | None = None
    restart: Array | None = None
    restart_last: Array | None = None


def resolve_steps(
    time: int, batch: tuple[int, ...], lengths: Any, mask: Any, resets: Any, reverse: bool = False
) -> Steps:
    """Return the `Steps` of sequences ``[time, *batch]``, after checking all three arguments."""
    valid = valid_steps(time, batch, lengths, mask)
    if resets is None:
        return Steps(valid)
    begins = flags("resets", resets, (time, *batch), "[time, *batch]")
    if valid is not None:
        begins = begins & valid
    if not reverse or time == 0:
        return Steps(valid, begins)
    never = jnp.zeros_like(begins[:1])
    return Steps(valid, jnp.concatenate([begins[1:], never]), begins[0])


def valid_steps(time: int, batch: tuple[int, ...], lengths: Any, mask: Any) -> Array | None:
    """Return which steps are valid, bool ``[time, *batch]``, or None where all are."""
    valid = None
    if lengths is not None:
        clipped = clipped_lengths(lengths, time, batch)
        times = jnp.arange(time, dtype=clipped.dtype).reshape((time,) + (1,) * len(batch))
        valid = times < jnp.expand_dims(clipped, 0)
    if mask is not None:
        mask = flags("mask", mask, (time, *batch), "[time, *batch]")
        valid = mask if valid is None else valid & mask
    return valid


def valid_like(xs: Array, lengths: Any, mask: Any) -> Array | None:
    """Return which steps of ``xs`` are valid, where it is not known how many of its axes are features."""
    if mask is not None:
        mask = checks.array("mask", mask)
        return valid_steps(xs.shape[0], mask.shape[1:], lengths, mask)
    if lengths is not None:
        return valid_steps(xs.shape[0], checks.array("lengths", lengths).shape, lengths, None)
    return None


def time_and_batch(xs: Any, feature_axes: int) -> tuple[int, tuple[int, ...]]:
    """Return T and the batch shape of ``xs [T, *B, features]``, the same for all its leaves."""
    leading = leading_axes("xs", xs, feature_axes, "[time, *batch, features]")
    if not leading:
        raise ValueError(f"xs: expected [time, *batch, features], got shape {jax.tree.leaves(xs)[0].shape}")
    return leading[0], leading[1:]


def leading_axes(name: str, x: Any, feature_axes: int, layout: str) -> tuple[int, ...]:
    """Return the axes of ``x`` before its features, the same for all its leaves."""
    leaves = jax.tree.leaves(x)
    if not leaves or not all(hasattr(leaf, "shape") for leaf in leaves):
        raise TypeError(f"{name}: expected an array {layout}, got {type(x).__name__}")
    if any(len(leaf.shape) < feature_axes for leaf in leaves):
        raise ValueError(f"{name}: expected {layout} with {feature_axes} feature axes, got shape {leaves[0].shape}")
    shapes = {tuple(leaf.shape[: len(leaf.shape) - feature_axes]) for leaf in leaves}
    if len(shapes) > 1:
        raise ValueError(f"{name}: expected the same axes before the features in all leaves, got {sorted(shapes)}")
    return shapes.pop()


def flags(name: str, value: Any, shape: tuple[int, ...], layout: str) -> Array:
    """Return ``value`` as a bool array of the given shape, or raise."""
    value = checks.array(name, value)
    if value.dtype != jnp.bool_:
        raise TypeError(f"{name}: expected bool, got dtype {value.dtype}")
    if value.shape != shape:
        raise ValueError(f"{name}: expected shape {shape} = {layout}, got {value.shape}")
    return value


def select(where: Array | None, chosen: Any, other: Any) -> Any:
    """Return ``chosen`` where ``where [..., *B]`` holds, else ``other``, leaf by leaf ``[..., *B, features]``."""

    if where is None:
        return chosen
    return jax.tree.map(lambda x, y: jnp.where(jnp.expand_dims(where, range(where.ndim, x.ndim)), x, y), chosen, other)


def zero_unless(where: Array | None, tree: Any) -> Any:
    """Return ``tree`` with zeros where ``where`` does not hold."""
    return tree if where is None else select(where, tree, jax.tree.map(jnp.zeros_like, tree))


def clipped_lengths(
    lengths: Any, time: int, batch: tuple[int, ...], name: str = "lengths", sequence: str = "xs"
) -> Array:
    """Return ``lengths [*B]`` as int32 from 0 to ``time``, or raise, with the names of the two arguments."""
    given, lengths = lengths, checks.array(name, lengths)
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise TypeError(f"{name}: expected integers, got dtype {lengths.dtype}")
    if lengths.shape != batch:
        raise ValueError(f"{name}: expected shape {batch} = [*batch], got {lengths.shape}")
    # A list may hold both what is known and what is traced.
    if lengths.size and checks.concrete(given):
        low, high = np.asarray(given).min(), np.asarray(given).max()
        if low < 0 or high > time:
            raise ValueError(f"{name}: expected values from 0 to the {time} steps of {sequence}, got {low} to {high}")
    # A narrow dtype may be unable to count the steps.
    wide = lengths if jnp.iinfo(lengths.dtype).bits >= 32 else lengths.astype(jnp.int32)
    return jnp.clip(wide, 0, jnp.asarray(time, wide.dtype)).astype(jnp.int32)
