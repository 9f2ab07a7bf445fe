"""Layers of which each sees all that came before: y_k = f_k([x, y_1, …, y_{k-1}])."""

from typing import Any

import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.layers.serial import serial
from jaxrnn.layers.shortcut import shortcut
from jaxrnn.types import Array, Layer, Params, recorded


@recorded
def dense_connections(*layers: Layer) -> Layer:
    """Return the layer whose k-th child sees all before it, y_k = f_k([x, y_1, …, y_{k-1}]).

    Its output is [x, y_1, …, y_n], along the features: D + K_1 + … + K_n of them, and the k-th child
    has D + K_1 + … + K_{k-1} inputs. Parameters, carry, keys and ``step`` are those of `serial`.

    Args:
        layers: one `Layer` or more.

    Raises:
        ValueError: no layer given; at the first call, an output with other axes than the input's.
        TypeError: an argument that is no `Layer`.

    Source: Huang, Liu, van der Maaten and Weinberger, "Densely Connected Convolutional Networks" (2017);
    of LSTMs, Ding, Xia, Yu, Li and Yang, "Densely Connected Bidirectional LSTM with Applications to
    Sentence Classification" (2018).

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> layer = jaxrnn.dense_connections(
        ...     jaxrnn.recurrent(jaxrnn.gru(3, 5)), jaxrnn.recurrent(jaxrnn.gru(8, 4))
        ... )
        >>> _, ys = layer.apply(layer.init(jax.random.key(0)), jnp.ones((7, 2, 3)))
        >>> ys.shape
        (7, 2, 12)
    """
    for index, layer in enumerate(layers):
        checks.layer(f"layers[{index}]", layer)
    return serial(*(shortcut(layer, _appended) for layer in layers))


def _appended(params: Params, x: Array, y: Any, name: str) -> Array:
    del params, name
    checks.same_but_features("layers: an output", y, x, "as its input, to be put beside it")
    return jnp.concatenate([x, y], axis=-1)
