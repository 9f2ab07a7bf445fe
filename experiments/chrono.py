"""The chrono start: gates that keep what they hold for about as long as a sequence is.

A gate that keeps its state with f = σ(b) at every step forgets it after about 1 / (1 - f) = 1 + exp(b) steps. So
b = log u, u ~ U(1, T - 1), spreads the units' memories over all spans up to T, and what comes in starts at 1 - f:

    LSTM:   b_f = log u, b_i = -b_f
    GRU:    b_u = log u, its update gate being the one that keeps
    JANET:  b_f = log u

Source: Tallec and Ollivier, "Can recurrent neural networks warp time?" (2018).
"""

from typing import Any

import jax
import jax.numpy as jnp

import jaxrnn


def chrono(cell: jaxrnn.Cell, longest: int) -> jaxrnn.Cell:
    """Return an LSTM, GRU or JANET that starts with memories of up to ``longest`` steps."""

    def init(key: jax.Array) -> Any:
        cell_key, span_key = jax.random.split(key)
        params = cell.init(cell_key)
        size = params.recurrent.shape[0]
        spans = jax.random.uniform(span_key, (size,), params.bias.dtype, minval=1, maxval=max(longest - 1, 2))
        kept = jnp.log(spans)
        match params:
            case jaxrnn.LSTMParams():  # gates i, f, g, o
                bias = params.bias.at[:size].set(-kept).at[size : 2 * size].set(kept)
            case jaxrnn.GRUParams():  # r, u, n
                bias = params.bias.at[size : 2 * size].set(kept)
            case jaxrnn.JANETParams():  # f, c
                bias = params.bias.at[:size].set(kept)
            case _:
                raise TypeError(f"cell: expected an LSTM, GRU or JANET, got one with {type(params).__name__}")
        return params._replace(bias=bias)

    return cell._replace(init=init)
