"""The affine layer y_t = ψ(x_t W + b), the usual output head of a recurrent network."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn import initializers as init_with
from jaxrnn.cells.activations import ACTIVATIONS
from jaxrnn.cells.products import affine
from jaxrnn.layers.pointwise import pointwise
from jaxrnn.types import Array, Layer, recorded


class DenseParams(NamedTuple):
    """Weights of `dense`: ``kernel [D, K]``, and ``bias [K]`` or None."""

    kernel: Array
    bias: Array | None


@recorded
def dense(
    input_size: int,
    output_size: int,
    *,
    activation: str | Callable[[Array], Array] | None = None,
    bias: bool = True,
    kernel_init: init_with.Initializer = init_with.fan_in(),
    bias_init: init_with.Initializer = init_with.zeros,
    feature_axes: int = 1,
    dtype: Any = jnp.float32,
) -> Layer:
    """Return the layer y_t = ψ(x_t W + b), the same at every step.

    Args:
        input_size: D of ``xs [T, *B, D]``.
        output_size: K of ``ys [T, *B, K]``.
        activation: ψ, any callable, or the name of one as in `jaxrnn.vanilla`; None for the identity: losses
            take logits.
        bias: whether to add b.
        kernel_init, bias_init: `jaxrnn.initializers` for W and b.
        feature_axes: how many trailing axes of xs are features; more than 1 after a convolutional cell,
            whose channels are multiplied at every position: a 1 × 1 convolution.
        dtype: of the parameters, and so of inputs and outputs.

    Raises:
        ValueError: a size or ``feature_axes`` below 1, a shape that does not fit.
        TypeError: an argument of the wrong type.

    Example:
        >>> import jax, jaxrnn
        >>> layer = jaxrnn.dense(3, 2)
        >>> _, ys = layer.apply(layer.init(jax.random.key(0)), jax.numpy.ones((7, 4, 3)))
        >>> ys.shape
        (7, 4, 2)
    """
    checks.size("input_size", input_size)
    checks.size("output_size", output_size)
    checks.flag("bias", bias)
    if isinstance(activation, str):
        psi = ACTIVATIONS[checks.choice("activation", activation, tuple(ACTIVATIONS))].function
    elif activation is None or callable(activation):
        psi = activation
    else:
        raise TypeError(f"activation: expected a name, a callable or None, got {activation!r}")
    checks.functions(kernel_init=kernel_init, bias_init=bias_init)
    checks.size("feature_axes", feature_axes)
    checks.floating(dtype=dtype)
    shapes = {"kernel": (input_size, output_size), "bias": (output_size,) if bias else None}
    call = f"dense({input_size}, {output_size})"

    def init(key: Array) -> DenseParams:
        checks.key("key", key)
        kernel_key, bias_key = jax.random.split(key)
        kernel = kernel_init(kernel_key, (input_size, output_size), dtype)
        return DenseParams(kernel, bias_init(bias_key, (output_size,), dtype) if bias else None)

    def function(params: DenseParams, xs: Array, key: Array | None, name: str) -> Array:
        del key
        checks.parameters(params, DenseParams, shapes, call)
        checks.features(name, xs, input_size, params.kernel.dtype, call)
        ys = affine(xs, params.kernel, params.bias)
        return ys if psi is None else psi(ys)

    return pointwise(init, function, feature_axes=feature_axes)
