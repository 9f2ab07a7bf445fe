"""A layer with a gate that carries its input past it: y_t = g_t ⊙ f(x)_t + (1 - g_t) ⊙ x_t."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn import initializers as init_with
from jaxrnn.cells.products import affine
from jaxrnn.layers.shortcut import shortcut
from jaxrnn.types import Array, Layer, Params, recorded


class HighwayParams(NamedTuple):
    """Weights of `highway`: those of its ``layer``, and of its gate ``kernel [D, D]`` and ``bias [D]``."""

    layer: Params
    kernel: Array
    bias: Array


@recorded
def highway(
    layer: Layer,
    size: int,
    *,
    kernel_init: init_with.Initializer = init_with.fan_in(),
    bias_init: init_with.Initializer = init_with.constant(-1.0),
    dtype: Any = jnp.float32,
) -> Layer:
    """Return the layer y_t = g_t ⊙ f(x)_t + (1 - g_t) ⊙ x_t, with g_t = σ(x_t W + b).

    The carry and ``step`` are those of ``layer``.

    Args:
        layer: f, any `Layer` with as many output as input features.
        size: D of both.
        kernel_init, bias_init: `jaxrnn.initializers` for W and b; with b below zero the gate starts
            near closed, and the layer near the identity.
        dtype: of W and b, that of the layer's parameters.

    Raises:
        ValueError: a size below 1; at the first call, an output of another shape than the input.
        TypeError: an argument of the wrong type.

    Source: Srivastava, Greff and Schmidhuber, "Training Very Deep Networks" (2015); between the layers of
    an LSTM, Zhang et al., "Highway Long Short-Term Memory RNNs for Distant Speech Recognition" (2016).

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> layer = jaxrnn.highway(jaxrnn.recurrent(jaxrnn.gru(3, 3)), 3)
        >>> _, ys = layer.apply(layer.init(jax.random.key(0)), jnp.ones((7, 2, 3)))
        >>> ys.shape
        (7, 2, 3)
    """
    checks.size("size", size)
    checks.functions(kernel_init=kernel_init, bias_init=bias_init)
    checks.floating(dtype=dtype)
    shapes = {"kernel": (size, size), "bias": (size,)}
    call = f"highway(layer, {size})"

    def init(key: Array) -> HighwayParams:
        checks.key("key", key)
        layer_key, kernel_key, bias_key = jax.random.split(key, 3)
        kernel = kernel_init(kernel_key, (size, size), dtype)
        return HighwayParams(layer.init(layer_key), kernel, bias_init(bias_key, (size,), dtype))

    def inner(params: HighwayParams) -> Params:
        checks.parameters(params, HighwayParams, shapes, call)
        return params.layer

    def join(params: HighwayParams, x: Array, y: Array, name: str) -> Array:
        checks.features(name, x, size, params.kernel.dtype, call)
        checks.same_structure("layer: its output", y, x, "as its input, to be mixed with it")
        g = jax.nn.sigmoid(affine(x, params.kernel, params.bias))
        return g * y + (1 - g) * x

    return shortcut(layer, join, init=init, inner=inner)
