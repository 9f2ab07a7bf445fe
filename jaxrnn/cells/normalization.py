"""Layer normalisation of Ba, Kiros and Hinton (2016), and its backward by hand.

Over the H entries of the last axis, with μ their mean and ε a small number:

    s = 1 / √(mean((x - μ)²) + ε)
    y = s (x - μ)

Backward, for any ε:

    dx = s (dy - mean(dy) - y mean(dy ⊙ y))

Its gain γ and bias β come after it, γ ⊙ y + β, which is linear in both.
"""

from typing import NamedTuple

import jax.numpy as jnp

from jaxrnn.cells.products import diagonal_product
from jaxrnn.types import Array


class Normalized(NamedTuple):
    """What is normalised, and what its backward needs: y ``[..., H]``, and s ``[..., 1]``."""

    y: Array
    s: Array


def layer_norm_forward(x: Array, epsilon: float) -> Normalized:
    """Return y = s (x - μ) and s = 1 / √(mean((x - μ)²) + ε); ``x [..., H]``, that of low precision rounded once.

    Example:
        >>> layer_norm_forward(jnp.array([1.0, 3.0]), 0.0).y.tolist()
        [-1.0, 1.0]
    """
    wide = _wide(x)
    centered = wide - jnp.mean(wide, axis=-1, keepdims=True)
    s = 1 / jnp.sqrt(jnp.mean(centered * centered, axis=-1, keepdims=True) + epsilon)
    return Normalized((centered * s).astype(x.dtype), s.astype(x.dtype))


def layer_norm_backward(normalized: Normalized, dy: Array) -> Array:
    """Return dx = s (dy - mean(dy) - y mean(dy ⊙ y)).

    Example:
        >>> layer_norm_backward(layer_norm_forward(jnp.array([1.0, 3.0]), 0.0), jnp.array([0.5, -7.0])).tolist()
        [0.0, 0.0]
    """
    y, s, wide = _wide(normalized.y), _wide(normalized.s), _wide(dy)
    through_mean = jnp.mean(wide, axis=-1, keepdims=True)
    through_scale = jnp.mean(wide * y, axis=-1, keepdims=True)
    return (s * (wide - through_mean - y * through_scale)).astype(dy.dtype)


def gain_and_bias(y: Array, gain: Array, bias: Array) -> Array:
    """Return γ ⊙ y + β in the dtype of y; ``y [..., H]``, ``gain [H]``, ``bias [H]``."""
    return diagonal_product(y, gain) + bias.astype(y.dtype).reshape((1,) * (y.ndim - 1) + bias.shape)


def _wide(x: Array) -> Array:
    return x.astype(jnp.float32) if jnp.finfo(x.dtype).bits < 32 else x
