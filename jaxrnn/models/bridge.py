"""The first state of a decoder out of the last states of an encoder: carry_0 = tanh(final W + b)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.layers.dense import DenseParams, dense
from jaxrnn.types import Array, Carry, Cell, Layer


class Bridge(NamedTuple):
    """A layer between two states.

    init: ``(key) -> params``.
    cross: ``(params, final, carry, batch) -> carry``. From the states an encoder ends in and the carry of
        zeros, or whatever it is, that the decoder would start from by itself, the one that it starts from.
    """

    init: Callable[..., DenseParams]
    cross: Callable[..., Carry]


def bridge(encoder: Layer, cell: Cell, dtype: Any) -> Bridge:
    """Return carry_0 = tanh(final W + b); ``final`` is all floating states of the encoder side by side."""
    states = _floating(jax.eval_shape(lambda: encoder.initial_carry(encoder.init(jax.random.key(0)))))
    carries = jax.tree.leaves(jax.eval_shape(lambda: cell.initial_carry(cell.init(jax.random.key(0)))))
    if not states:
        raise ValueError("bridge: expected False for an encoder without a floating state, got True")
    sizes, widths = [leaf.size for leaf in states], [leaf.size for leaf in carries]
    layer = dense(sum(sizes), sum(widths), activation=jnp.tanh, dtype=dtype)

    def cross(params: DenseParams, final: Carry, carry: Carry, batch: tuple[int, ...]) -> Carry:
        rows = [
            leaf.reshape(*batch, size).astype(params.kernel.dtype)
            for leaf, size in zip(_floating(final), sizes, strict=True)
        ]
        _, crossed = layer.apply(params, jnp.concatenate(rows, axis=-1)[None])
        leaves, structure = jax.tree.flatten(carry)
        parts = zip(jnp.split(crossed[0], np.cumsum(widths)[:-1], axis=-1), leaves, strict=True)
        return structure.unflatten([part.reshape(leaf.shape).astype(leaf.dtype) for part, leaf in parts])

    return Bridge(layer.init, cross)


def _floating(carry: Carry) -> list[Array]:
    return [leaf for leaf in jax.tree.leaves(carry) if jnp.issubdtype(leaf.dtype, jnp.floating)]
