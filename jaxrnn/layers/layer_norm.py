"""Every step's features brought to mean 0 and variance 1: y = (x - μ) / √(σ² + ε) ⊙ g + b."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.lax import rsqrt

from jaxrnn import checks
from jaxrnn.layers.pointwise import pointwise
from jaxrnn.types import Array, Layer, recorded


class LayerNormParams(NamedTuple):
    """Weights of `layer_norm`: ``scale [D]`` and ``bias [D]``."""

    scale: Array
    bias: Array


@recorded
def layer_norm(size: int, *, eps: float = 1e-5, feature_axes: int = 1, dtype: Any = jnp.float32) -> Layer:
    """Return the layer y_t = (x_t - μ_t) / √(σ_t² + ε) ⊙ g + b, μ and σ² over the features of x_t.

    g starts at one and b at zero. μ and σ² are computed in float32 at least.

    Args:
        size: D of ``xs`` and ``ys [T, *B, D]``.
        eps: ε > 0, which keeps values and gradients finite where all features are alike.
        feature_axes: how many trailing axes of xs are features; more than 1 after a convolutional cell,
            whose channels are normalised at every position.
        dtype: of the parameters, and so of inputs and outputs.

    Raises:
        ValueError: a size or ``feature_axes`` below 1, an ε of 0 or below, a shape that does not fit.
        TypeError: an argument of the wrong type.

    Source: Ba, Kiros and Hinton, "Layer Normalization" (2016).

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> layer = jaxrnn.layer_norm(4)
        >>> _, ys = layer.apply(layer.init(jax.random.key(0)), jnp.array([[1.0, 2.0, 3.0, 6.0]]))
        >>> bool(abs(ys.mean()) < 1e-6), bool(abs(ys.var() - 1) < 1e-4)
        (True, True)
    """
    checks.size("size", size)
    checks.positive("eps", eps)
    checks.size("feature_axes", feature_axes)
    checks.floating(dtype=dtype)
    call = f"layer_norm({size})"

    def init(key: Array) -> LayerNormParams:
        checks.key("key", key)
        return LayerNormParams(jnp.ones(size, dtype), jnp.zeros(size, dtype))

    def function(params: LayerNormParams, xs: Array, key: Array | None, name: str) -> Array:
        del key
        checks.parameters(params, LayerNormParams, {"scale": (size,), "bias": (size,)}, call)
        checks.features(name, xs, size, params.scale.dtype, call)
        wide = precise(xs)
        centred = wide - wide.mean(axis=-1, keepdims=True)
        normal = centred * rsqrt((centred * centred).mean(axis=-1, keepdims=True) + eps)
        return normal.astype(xs.dtype) * broadcast(params.scale, xs) + broadcast(params.bias, xs)

    return pointwise(init, function, feature_axes=feature_axes)


def precise(xs: Array) -> Array:
    """Return ``xs`` in float32 at least: what is left of x - μ needs a μ of more than bfloat16's 8 bits."""
    return xs if jnp.finfo(xs.dtype).bits >= 32 else xs.astype(jnp.float32)


def broadcast(weight: Array, xs: Array) -> Array:
    """Return ``weight [D]`` with as many axes as ``xs [..., D]``."""
    return weight.reshape((1,) * (xs.ndim - 1) + weight.shape)
