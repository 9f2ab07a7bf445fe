"""Dropout between layers: y = x ⊙ m / (1 - p), with m drawn anew for every element and step."""

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.layers.pointwise import pointwise
from jaxrnn.types import Array, Layer, recorded


@recorded
def dropout(rate: float, *, feature_axes: int = 1) -> Layer:
    """Return the layer y_t = x_t ⊙ m_t / (1 - p), m_t ~ Bernoulli(1 - p) for every element.

    The noise comes from the ``key`` given to `Layer.apply` or `Layer.step`; without a key the layer is
    the identity. E[y_t] = x_t.

    Args:
        rate: p, the share of elements set to zero, 0 ≤ p < 1.
        feature_axes: how many trailing axes of xs are features; more than 1 after a convolutional cell.

    Raises:
        ValueError: a rate outside [0, 1); ``feature_axes`` below 1.
        TypeError: a rate that is no number; ``feature_axes`` that is no int.

    Source: Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting" (2014);
    between recurrent layers, Zaremba, Sutskever and Vinyals (2014).

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> layer = jaxrnn.dropout(0.5)
        >>> _, ys = layer.apply((), jnp.ones((4, 2, 3)), key=jax.random.key(0))
        >>> sorted(set(ys.ravel().tolist()))
        [0.0, 2.0]
        >>> bool((layer.apply((), jnp.ones((4, 2, 3)))[1] == 1).all())
        True
    """
    checks.rate("rate", rate)
    checks.size("feature_axes", feature_axes)

    def init(key: Array) -> tuple[()]:
        del key
        return ()

    def function(params: tuple[()], xs: Array, key: Array | None, name: str) -> Array:
        checks.same_structure("params", params, (), "of a layer without parameters")
        xs = checks.array(name, xs)
        if not jnp.issubdtype(xs.dtype, jnp.inexact):
            raise TypeError(f"{name}: expected a floating dtype, got {xs.dtype}")
        if key is None or rate == 0:
            return xs
        keep = jax.random.bernoulli(key, 1 - rate, xs.shape)
        return jnp.where(keep, xs / (1 - rate), jnp.zeros_like(xs))

    return pointwise(init, function, feature_axes=feature_axes)
