"""A shorter sequence: every n consecutive steps become one frame, as in the pyramid of a listener.

Frame t' is made of the steps n t', …, n t' + n - 1 that count: the valid ones, from the frame's last
reset on, so that no frame mixes two segments. A frame is valid if any of its steps is, and begins a
segment if any of its valid steps does.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import checks
from jaxrnn.layers.pointwise import check_stateless
from jaxrnn.steps import clipped_lengths, flags, time_and_batch, valid_like, valid_steps, zero_unless
from jaxrnn.types import Array, Carry, Layer, recorded


def concatenated(frames: Array, counts: Array) -> Array:
    """Return each frame's steps side by side, ``[T', *B, n D]``, zeros for those that do not count."""
    del counts
    return jnp.concatenate([frames[:, i] for i in range(frames.shape[1])], axis=-1)


def mean(frames: Array, counts: Array) -> Array:
    """Return the mean of each frame's steps that count, ``[T', *B, D]``."""
    count = jnp.maximum(counts.sum(axis=1), 1)
    return frames.sum(axis=1) / jnp.expand_dims(count, -1).astype(frames.dtype)


def maximum(frames: Array, counts: Array) -> Array:
    """Return the maximum of each frame's steps that count, ``[T', *B, D]``."""
    highest = jnp.where(jnp.expand_dims(counts, -1), frames, -jnp.inf).max(axis=1)
    return zero_unless(counts.any(axis=1), highest)


MODES: dict[str, Callable[[Array, Array], Array]] = {"concat": concatenated, "mean": mean, "max": maximum}


@recorded
def time_reduction(factor: int, mode: str = "concat") -> Layer:
    """Return the layer with one output for every n inputs, y_t' = [x_{n t'}, …, x_{n t' + n - 1}].

    Of T steps it makes T' = ⌈T / n⌉ frames; the last one ends in steps that are not valid if n does
    not divide T. Steps that are not valid are zeros in "concat", and left out of "mean" and "max"; so
    are those of a frame that come before a reset in it: let segments begin at multiples of n.
    `Layer.output_steps` gives what belongs to the frames, and `serial` passes it on to the layers after
    this one. There is no state, and no ``step``: the layer needs the future.

    Args:
        factor: n.
        mode: "concat", to n D features; "mean" or "max", to D.

    Raises:
        ValueError: a factor below 1, an unknown mode.
        TypeError: an argument of the wrong type.

    Source: Chan, Jaitly, Le and Vinyals, "Listen, Attend and Spell" (2016).

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> listener = jaxrnn.serial(jaxrnn.time_reduction(2), jaxrnn.recurrent(jaxrnn.gru(6, 5)))
        >>> lengths = jnp.array([7, 4])
        >>> _, ys = listener.apply(listener.init(jax.random.key(0)), jnp.ones((7, 2, 3)), lengths=lengths)
        >>> ys.shape, listener.output_steps(lengths)[0].tolist()
        ((4, 2, 5), [4, 2])
    """
    checks.size("factor", factor)
    reduced = MODES[checks.choice("mode", mode, tuple(MODES))]

    def init(key: Array) -> tuple[()]:
        del key
        return ()

    def initial_carry(params: tuple[()], batch_shape: tuple[int, ...] = ()) -> Carry:
        del params, batch_shape
        return ()

    def framed(x: Array) -> Array:
        """Return ``x [T, …]`` as ``[T', n, …]``, with zeros after its end."""
        frames = -(-x.shape[0] // factor)
        padded = jnp.pad(x, [(0, frames * factor - x.shape[0]), *[(0, 0)] * (x.ndim - 1)])
        return padded.reshape(frames, factor, *x.shape[1:])

    def apply(
        params: tuple[()],
        xs: Array,
        carry: Carry | None = None,
        *,
        lengths: Any = None,
        mask: Any = None,
        resets: Any = None,
        key: Array | None = None,
    ) -> tuple[Carry, Array]:
        checks.same_structure("params", params, (), "of a layer without parameters")
        check_stateless(carry, key)
        time, batch = time_and_batch(xs, 1)
        xs = checks.array("xs", xs)
        if not jnp.issubdtype(xs.dtype, jnp.floating):
            raise TypeError(f"xs: expected a floating dtype, got {xs.dtype}")
        valid = valid_steps(time, batch, lengths, mask)
        counts = framed(jnp.ones((time, *batch), bool) if valid is None else valid)
        if resets is not None:
            begins = framed(flags("resets", resets, (time, *batch), "[time, *batch]")) & counts
            counts = counts & ~_before_another(begins)
        return (), reduced(zero_unless(counts, framed(xs)), counts)

    def output_steps(lengths: Any = None, mask: Any = None, resets: Any = None) -> tuple[Any, Any, Any]:
        frame_lengths = frame_mask = frame_resets = None
        if lengths is not None:
            lengths = checks.array("lengths", lengths)
            frame_lengths = -(-clipped_lengths(lengths, np.iinfo(np.int32).max, lengths.shape) // factor)
        if mask is not None:
            mask = _flags("mask", mask)
            mask = valid_steps(mask.shape[0], mask.shape[1:], lengths, mask)
            frame_mask = framed(mask).any(axis=1)
        if resets is not None:
            begins = _flags("resets", resets)
            valid = valid_like(begins, lengths, mask)
            if valid is not None:
                begins = flags("resets", begins, valid.shape, "[time, *batch]") & valid
            frame_resets = framed(begins).any(axis=1)
        return frame_lengths, frame_mask, frame_resets

    return Layer(init, initial_carry, apply, None, output_steps)


def _flags(name: str, value: Any) -> Array:
    """Return ``value [T, *B]`` of any T and B."""
    value = checks.array(name, value)
    if value.ndim == 0:
        raise ValueError(f"{name}: expected [time, *batch], got shape ()")
    return flags(name, value, value.shape, "[time, *batch]")


def _before_another(begins: Array) -> Array:
    """Return which steps of a frame have a later one in it that begins a segment; ``[T', n, *B]``."""
    from_here_on = jax.lax.cumsum(begins.astype(jnp.int32), axis=1, reverse=True)
    return from_here_on > begins.astype(jnp.int32)
