"""Several axes of features as one, from a convolutional cell to a dense layer."""

import math

from jaxrnn import checks
from jaxrnn.layers.pointwise import pointwise
from jaxrnn.types import Array, Layer, recorded


@recorded
def flatten(feature_axes: int) -> Layer:
    """Return the layer y_t = x_t with its last n axes as one: ``[T, *B, *spatial, K]`` to ``[T, *B, D]``.

    Args:
        feature_axes: n; 2 after a convolutional cell over one spatial axis, 3 over two, 4 over three.

    Raises:
        ValueError: n below 1, inputs of fewer axes.
        TypeError: n that is no int.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> model = jaxrnn.serial(
        ...     jaxrnn.recurrent(jaxrnn.conv_lstm((5, 4, 1), 2, 3)), jaxrnn.flatten(3), jaxrnn.dense(5 * 4 * 2, 10)
        ... )
        >>> lengths = jnp.array([6, 3])
        >>> _, ys = model.apply(model.init(jax.random.key(0)), jnp.ones((6, 2, 5, 4, 1)), lengths=lengths)
        >>> ys.shape
        (6, 2, 10)
    """
    checks.size("feature_axes", feature_axes)

    def init(key: Array) -> tuple[()]:
        del key
        return ()

    def function(params: tuple[()], xs: Array, key: Array | None, name: str) -> Array:
        del key
        checks.same_structure("params", params, (), "of a layer without parameters")
        xs = checks.array(name, xs)
        leading = xs.shape[: xs.ndim - feature_axes]
        return xs.reshape(*leading, math.prod(xs.shape[len(leading) :]))

    return pointwise(init, function, feature_axes=feature_axes)
