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
    """What is normalised, and what its backward needs: y ``[..., H]``, and s ``[..., blocks]``."""

    y: Array
    s: Array


def layer_norm_forward(x: Array, epsilon: float, blocks: int = 1) -> Normalized:
    """Return y = s (x - μ) and s = 1 / √(mean((x - μ)²) + ε), for each of the blocks that x ``[..., H]`` is cut into.

    What is of low precision is rounded once.

    Example:
        >>> layer_norm_forward(jnp.array([1.0, 3.0]), 0.0).y.tolist()
        [-1.0, 1.0]
    """
    wide = _cut(x, blocks)
    centered = wide - jnp.mean(wide, axis=-1, keepdims=True)
    s = 1 / jnp.sqrt(jnp.mean(centered * centered, axis=-1, keepdims=True) + epsilon)
    return Normalized((centered * s).astype(x.dtype).reshape(x.shape), s[..., 0].astype(x.dtype))


def layer_norm_backward(normalized: Normalized, dy: Array) -> Array:
    """Return dx = s (dy - mean(dy) - y mean(dy ⊙ y)), means over the blocks that were normalised.

    Example:
        >>> layer_norm_backward(layer_norm_forward(jnp.array([1.0, 3.0]), 0.0), jnp.array([0.5, -7.0])).tolist()
        [0.0, 0.0]
    """
    blocks = normalized.s.shape[-1]
    y, s, wide = _cut(normalized.y, blocks), _cut(normalized.s, blocks), _cut(dy, blocks)
    through_mean = jnp.mean(wide, axis=-1, keepdims=True)
    through_scale = jnp.mean(wide * y, axis=-1, keepdims=True)
    return (s * (wide - through_mean - y * through_scale)).astype(dy.dtype).reshape(dy.shape)


def gain_and_bias(y: Array, gain: Array, bias: Array | None) -> Array:
    """Return γ ⊙ y + β in the dtype of y; ``y [..., H]``, ``gain [H]``, ``bias [H]`` or None."""
    scaled = diagonal_product(y, gain)
    return scaled if bias is None else scaled + bias.astype(y.dtype).reshape((1,) * (y.ndim - 1) + bias.shape)


def normalize(
    x: Array, gain: Array | None, bias: Array | None, epsilon: float, blocks: int = 1
) -> tuple[Array, Normalized | None]:
    """Return γ ⊙ N(x) + β, and what was normalised; x itself where there is no gain."""
    if gain is None:
        return x, None
    normalized = layer_norm_forward(x, epsilon, blocks)
    return gain_and_bias(normalized.y, gain, bias), normalized


def normalize_backward(normalized: Normalized | None, gain: Array | None, dy: Array) -> Array:
    """Return dx = Nᵀ(γ ⊙ dy) of y = γ ⊙ N(x) + β; dy itself where there is no gain."""
    if normalized is None or gain is None:
        return dy
    return layer_norm_backward(normalized, diagonal_product(dy, gain))


def _cut(x: Array, blocks: int) -> Array:
    """Return ``x [..., H]`` as ``[..., blocks, H / blocks]``, in float32 at least."""
    x = x.reshape(*x.shape[:-1], blocks, x.shape[-1] // blocks)
    return x.astype(jnp.float32) if jnp.finfo(x.dtype).bits < 32 else x
