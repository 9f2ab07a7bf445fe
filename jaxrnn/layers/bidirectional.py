"""Two layers over the same sequence, one from each end: y_t = merge(→h_t, ←h_t)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.layers.serial import keys_of
from jaxrnn.types import Array, Carry, Layer, recorded


class Directions(NamedTuple):
    """What belongs to each direction of a `bidirectional`: parameters, carry, or outputs that are not merged."""

    forward: Any
    backward: Any


def concatenated(hs: Array, gs: Array) -> Array:
    """Return [→h_t, ←h_t]."""
    checks.same_but_features("backward: its output", gs, hs, "as that of forward")
    return jnp.concatenate([hs, gs], axis=-1)


def elementwise(function: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    """Return the merge of outputs that have one shape."""

    def merged(hs: Array, gs: Array) -> Array:
        checks.same_structure("backward: its output", gs, hs, "as that of forward")
        return function(hs, gs)

    return merged


MERGES = {
    "concat": concatenated,
    "sum": elementwise(lambda hs, gs: hs + gs),
    "mean": elementwise(lambda hs, gs: (hs + gs) / 2),
    "product": elementwise(lambda hs, gs: hs * gs),
    "both": Directions,
}


@recorded
def bidirectional(forward: Layer, backward: Layer, *, merge: str = "concat") -> Layer:
    """Return the layer that reads a sequence from both ends: y_t = merge(→h_t, ←h_t).

    →h_t has seen x_1 … x_t and ←h_t has seen x_t … x_T, each sequence to its own last valid step, so
    that y_t knows the whole of it. Parameters and carry are `Directions`; each direction gets a key of
    its own. ``step`` is None: it needs the future.

    Args:
        forward: a `Layer`, such as ``recurrent(cell)``.
        backward: another, in reverse: ``recurrent(cell, reverse=True)``.
        merge: "concat", along the features; "sum", "mean" or "product", of outputs of one shape; "both",
            `Directions` of the two outputs as they are.

    Raises:
        ValueError: a ``backward`` that does not run in reverse; an unknown merge; at the first call,
            outputs that cannot be merged.
        TypeError: an argument that is no `Layer`.

    Source: Schuster and Paliwal, "Bidirectional Recurrent Neural Networks" (1997).

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> layer = jaxrnn.bidirectional(
        ...     jaxrnn.recurrent(jaxrnn.gru(3, 5)), jaxrnn.recurrent(jaxrnn.gru(3, 5), reverse=True)
        ... )
        >>> params, xs = layer.init(jax.random.key(0)), jnp.ones((7, 2, 3))
        >>> carry, ys = layer.apply(params, xs, lengths=jnp.array([7, 4]))
        >>> ys.shape, bool(jnp.allclose(carry.forward, ys[jnp.array([6, 3]), jnp.arange(2), :5]))
        ((7, 2, 10), True)
    """
    checks.layer("forward", forward)
    checks.layer("backward", backward)
    if backward.step is not None:
        raise ValueError(
            "backward: expected a layer in reverse, such as recurrent(cell, reverse=True), got one that runs forward"
        )
    merged = MERGES[checks.choice("merge", merge, tuple(MERGES))]

    def init(key: Array) -> Directions:
        checks.key("key", key)
        forward_key, backward_key = jax.random.split(key)
        return Directions(forward.init(forward_key), backward.init(backward_key))

    def initial_carry(params: Directions, batch_shape: tuple[int, ...] = ()) -> Directions:
        _check("params", params)
        return Directions(
            forward.initial_carry(params.forward, batch_shape), backward.initial_carry(params.backward, batch_shape)
        )

    def apply(
        params: Directions,
        xs: Any,
        carry: Carry | None = None,
        *,
        lengths: Any = None,
        mask: Any = None,
        resets: Any = None,
        key: Array | None = None,
    ) -> tuple[Directions, Any]:
        _check("params", params)
        before = Directions(None, None) if carry is None else carry
        _check("carry", before)
        steps = {"lengths": lengths, "mask": mask, "resets": resets}
        forward_key, backward_key = keys_of(key, 2)
        after_forward, hs = forward.apply(params.forward, xs, before.forward, **steps, key=forward_key)
        after_backward, gs = backward.apply(params.backward, xs, before.backward, **steps, key=backward_key)
        return Directions(after_forward, after_backward), merged(hs, gs)

    return Layer(init, initial_carry, apply, None, forward.output_steps)


def _check(name: str, value: Any) -> None:
    if not isinstance(value, Directions):
        raise TypeError(f"{name}: expected the Directions of a bidirectional, got {checks.outline(value)}")
