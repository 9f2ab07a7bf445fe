"""A layer that adds to its input: y_t = x_t + s f(x)_t."""

from typing import Any

from jaxrnn import checks
from jaxrnn.layers.shortcut import shortcut
from jaxrnn.types import Array, Layer, Params, recorded


@recorded
def residual(layer: Layer, *, scale: float = 1.0) -> Layer:
    """Return the layer that adds ``layer`` to its input, y_t = x_t + s f(x)_t.

    Parameters, carry and ``step`` are those of ``layer``, of which x and f(x) have one shape; at s = 0
    the layer is the identity.

    Args:
        layer: f, any `Layer` with as many output as input features; ``serial(layer_norm(n), f)`` for
            the normalised input that deep stacks like best.
        scale: s.

    Raises:
        ValueError: at the first call, an output of another shape than the input.
        TypeError: a ``layer`` that is no `Layer`, a scale that is no number.

    Source: He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition" (2016); between the
    layers of an LSTM, Wu et al., "Google's Neural Machine Translation System" (2016).

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> layer = jaxrnn.residual(jaxrnn.recurrent(jaxrnn.gru(3, 3)))
        >>> params, xs = layer.init(jax.random.key(0)), jnp.ones((7, 2, 3))
        >>> h, ys = layer.apply(params, xs)
        >>> bool(jnp.allclose(ys[-1], xs[-1] + h))
        True
    """
    checks.number("scale", scale)

    def join(params: Params, x: Array, y: Array, name: str) -> Any:
        del params, name
        checks.same_structure("layer: its output", y, x, "as its input, to be added to it")
        return x + scale * y

    return shortcut(layer, join)
