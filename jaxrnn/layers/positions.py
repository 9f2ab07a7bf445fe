"""Where a step stands in its sequence, told to a layer that by itself sees a set: by addition, or by rotation.

With frequencies ω_i = 10000^{-2i/D}, i = 0 .. D/2 - 1, and the features in two halves,

    sinusoids:  x + [sin(p ω), cos(p ω)]
    rotation:   [a cos(p ω) - b sin(p ω),  a sin(p ω) + b cos(p ω)]   for x = [a, b]

A product of two rotated vectors depends on the difference of their positions alone.

Sources: Vaswani et al., "Attention Is All You Need" (2017); Su et al., "RoFormer: Enhanced Transformer with
Rotary Position Embedding" (2021).
"""

import jax.numpy as jnp

from jaxrnn.scores import float32_at_least
from jaxrnn.types import Array

LONGEST = 10_000.0  # wavelength / 2π


def sinusoids(positions: Array, size: int, dtype: jnp.dtype) -> Array:
    """Return [sin(p ω), cos(p ω)] ``[..., size]`` of integer ``positions [...]``."""
    angles = _angles(positions, size, dtype)
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1).astype(dtype)


def rotated(x: Array, positions: Array) -> Array:
    """Return ``x [..., N, size]`` with every pair of features turned by p ω; ``positions [...]``."""
    angles = jnp.expand_dims(_angles(positions, x.shape[-1], x.dtype), -2)
    sin, cos = jnp.sin(angles).astype(x.dtype), jnp.cos(angles).astype(x.dtype)
    a, b = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)


def _angles(positions: Array, size: int, dtype: jnp.dtype) -> Array:
    """Return p ω ``[..., size / 2]``; in float32 at least, or neighbours would share their angles."""
    wide = float32_at_least(dtype)
    frequencies = LONGEST ** (-jnp.arange(size // 2, dtype=wide) / (size // 2))
    return jnp.expand_dims(positions.astype(wide), -1) * frequencies.reshape((1,) * positions.ndim + (-1,))
