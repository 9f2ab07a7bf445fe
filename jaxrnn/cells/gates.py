"""All gates of a step by one tanh.

With σ(x) = ½ tanh(x/2) + ½, a row of gates, some σ and some tanh, is

    s = k ⊙ tanh(k ⊙ a) + (1 - k)        with k = ½ in the columns of σ, 1 in those of tanh

A compiler that meets a tanh and several sigmoids of slices of one array computes each of them again
for every result that needs it. σ is exact to the rounding of 1: below 1e-7 in float32, it may be 0.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxrnn.types import Array


class Gates(NamedTuple):
    """Which columns of a row of gates are σ, the others being tanh: ``sigmoid [columns]``, 1 or 0."""

    sigmoid: np.ndarray

    def __call__(self, a: Array) -> Array:
        """Return the gates s of pre-activations ``a [*B, columns]``; those of low precision are rounded once."""
        wide = a.astype(jnp.float32) if jnp.finfo(a.dtype).bits < 32 else a
        k, offset = self._row(1 - 0.5 * self.sigmoid, wide), self._row(0.5 * self.sigmoid, wide)
        return (jnp.tanh(wide * k) * k + offset).astype(a.dtype)

    def _row(self, values: np.ndarray, like: Array) -> Array:
        return jnp.asarray(values.astype(like.dtype).reshape((1,) * (like.ndim - 1) + (-1,)))


def raised(bias: Array, gate: slice, value: float) -> Array:
    """Return the bias ``[G H]`` with ``value`` added to the columns of one gate."""
    change = np.zeros(bias.shape, bias.dtype)
    change[gate] = value
    return bias + change


def gates(kinds: str, hidden_size: int) -> Gates:
    """Return the gates of ``kinds``, one letter for each, s for σ and t for tanh, ``hidden_size`` columns wide."""
    return Gates(np.repeat([float(kind == "s") for kind in kinds], hidden_size))
