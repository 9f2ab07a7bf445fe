"""Every step's features brought to mean square 1: y = x / √(mean(x²) + ε) ⊙ g."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.lax import rsqrt

from jaxrnn import checks
from jaxrnn.layers.layer_norm import broadcast, precise
from jaxrnn.layers.pointwise import pointwise
from jaxrnn.types import Array, Layer, recorded


class RMSNormParams(NamedTuple):
    """Weights of `rms_norm`: ``scale [D]``."""

    scale: Array


@recorded
def rms_norm(size: int, *, eps: float = 1e-5, feature_axes: int = 1, dtype: Any = jnp.float32) -> Layer:
    """Return the layer y_t = x_t / √(mean(x_t²) + ε) ⊙ g, the mean over the features of x_t.

    It is `layer_norm` without mean and bias. g starts at one. The mean is computed in float32 at least.

    Args:
        size: D of ``xs`` and ``ys [T, *B, D]``.
        eps: ε > 0, which keeps values and gradients finite where all features are zero.
        feature_axes: how many trailing axes of xs are features; more than 1 after a convolutional cell,
            whose channels are normalised at every position.
        dtype: of the parameters, and so of inputs and outputs.

    Raises:
        ValueError: a size or ``feature_axes`` below 1, an ε of 0 or below, a shape that does not fit.
        TypeError: an argument of the wrong type.

    Source: Zhang and Sennrich, "Root Mean Square Layer Normalization" (2019).

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> layer = jaxrnn.rms_norm(2)
        >>> _, ys = layer.apply(layer.init(jax.random.key(0)), jnp.array([[1.0, 7.0]]))
        >>> bool(jnp.allclose(ys, jnp.array([[0.2, 1.4]])))
        True
    """
    checks.size("size", size)
    checks.positive("eps", eps)
    checks.size("feature_axes", feature_axes)
    checks.floating(dtype=dtype)
    call = f"rms_norm({size})"

    def init(key: Array) -> RMSNormParams:
        checks.key("key", key)
        return RMSNormParams(jnp.ones(size, dtype))

    def function(params: RMSNormParams, xs: Array, key: Array | None, name: str) -> Array:
        del key
        checks.parameters(params, RMSNormParams, {"scale": (size,)}, call)
        checks.features(name, xs, size, params.scale.dtype, call)
        wide = precise(xs)
        normal = wide * rsqrt((wide * wide).mean(axis=-1, keepdims=True) + eps)
        return normal.astype(xs.dtype) * broadcast(params.scale, xs)

    return pointwise(init, function, feature_axes=feature_axes)
