"""A learned vector for each token: y_t = E[x_t]."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxrnn import checks
from jaxrnn import initializers as init_with
from jaxrnn.layers.pointwise import pointwise
from jaxrnn.types import Array, Layer, recorded


class EmbeddingParams(NamedTuple):
    """Weights of `embedding`: ``table [V, D]``."""

    table: Array


@recorded
def embedding(
    vocabulary: int,
    size: int,
    *,
    table_init: init_with.Initializer = init_with.normal(1.0),
    dtype: Any = jnp.float32,
) -> Layer:
    """Return the layer y_t = E[x_t], a row of the table for each token.

    Args:
        vocabulary: V; tokens are integers from 0 to V - 1. Values are checked where they are known and
            clipped under jit.
        size: D of ``ys [T, *B, D]``; ``xs [T, *B]`` has no feature axis.
        table_init: a `jaxrnn.initializers` for E ``[V, D]``.
        dtype: of the table, and so of the outputs.

    Raises:
        ValueError: a size below 1; a token outside the vocabulary.
        TypeError: tokens that are no integers.

    Source: Bengio et al., "A Neural Probabilistic Language Model" (2003).

    Example:
        >>> import jax, jaxrnn
        >>> layer = jaxrnn.embedding(10, 3)
        >>> _, ys = layer.apply(layer.init(jax.random.key(0)), jax.numpy.array([[1, 9], [0, 4]]))
        >>> ys.shape
        (2, 2, 3)
    """
    checks.size("vocabulary", vocabulary)
    checks.size("size", size)
    checks.functions(table_init=table_init)
    checks.floating(dtype=dtype)
    call = f"embedding({vocabulary}, {size})"

    def init(key: Array) -> EmbeddingParams:
        checks.key("key", key)
        return EmbeddingParams(table_init(key, (vocabulary, size), dtype))

    def function(params: EmbeddingParams, tokens: Any, key: Array | None, name: str) -> Array:
        del key
        checks.parameters(params, EmbeddingParams, {"table": (vocabulary, size)}, call)
        given, tokens = tokens, checks.array(name, tokens)
        if not jnp.issubdtype(tokens.dtype, jnp.integer):
            raise TypeError(f"{name}: expected integer tokens for {call}, got dtype {tokens.dtype}")
        if tokens.size and checks.concrete(given):
            low, high = np.asarray(given).min(), np.asarray(given).max()
            if low < 0 or high >= vocabulary:
                raise ValueError(f"{name}: expected tokens from 0 to {vocabulary - 1}, got {low} to {high}")
        return jnp.take(params.table, tokens, axis=0, mode="clip")

    return pointwise(init, function, feature_axes=0)
