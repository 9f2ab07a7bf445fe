"""What the gates of an LSTM or a GRU did at every step."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.analysis.states import before_and_after
from jaxrnn.types import Array, Carry, Cell, Params


def gate_activations(
    cell: Cell, params: Params, xs: Any, carry: Carry | None = None, *, key: Array | None = None
) -> dict[str, Array]:
    """Return what every gate of an LSTM or GRU was at every step, by its letter, each ``[T, *B, H]``.

        lstm    i, f, o = σ(a) and g = tanh(a), the four parts of a = x_t W + b + h_{t-1} U
        gru     r, u = σ(a) and the candidate n

    Args:
        cell: of `jaxrnn.lstm` or `jaxrnn.gru`.
        params, xs, carry, key: as in `jaxrnn.unroll`.

    Raises:
        ValueError, TypeError: as `jaxrnn.unroll`; a cell of another kind, or a GRU with activations of its own.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> from jaxrnn.analysis import gate_activations
        >>> cell = jaxrnn.lstm(3, 5, forget_bias=100.0)
        >>> gates = gate_activations(cell, cell.init(jax.random.key(0)), jnp.ones((7, 2, 3)))
        >>> sorted(gates), gates["f"].shape, float(gates["f"].min())
        (['f', 'g', 'i', 'o'], (7, 2, 5), 1.0)
    """
    kind = cell.spec.factory if isinstance(cell, Cell) and cell.spec is not None else "a cell of your own"
    if kind not in ("lstm", "gru"):
        raise TypeError(f"cell: expected one of jaxrnn.lstm or jaxrnn.gru, got {kind}")
    assert cell.spec is not None
    options = dict(cell.spec.options)
    if options.get("activations", ("sigmoid", "tanh")) != ("sigmoid", "tanh"):
        raise ValueError(f"cell: expected the activations sigmoid and tanh, got {options['activations']}")
    zs, befores, _ = before_and_after(cell, params, xs, carry, key=key)
    return _lstm_gates(params, zs, befores.h) if kind == "lstm" else _gru_gates(params, zs, befores)


def _lstm_gates(params: Params, zs: Array, h: Array) -> dict[str, Array]:
    i, f, g, o = jnp.split(zs.astype(h.dtype) + _product(h, params.recurrent), 4, axis=-1)
    return {"i": jax.nn.sigmoid(i), "f": jax.nn.sigmoid(f), "g": jnp.tanh(g), "o": jax.nn.sigmoid(o)}


def _gru_gates(params: Params, zs: Any, h: Array) -> dict[str, Array]:
    size = h.shape[-1]
    a = _product(h, params.recurrent[:, : 2 * size])
    r, u = jnp.split(jax.nn.sigmoid(zs.ru.astype(h.dtype) + a), 2, axis=-1)
    candidate = params.recurrent[:, 2 * size :]
    if params.candidate_bias is None:  # the reset gate acts before the product
        q = _product(r * h, candidate)
    else:
        bias = jnp.broadcast_to(params.candidate_bias.astype(h.dtype), h.shape)
        q = r * (_product(h, candidate) + bias)
    return {"r": r, "u": u, "n": jnp.tanh(zs.n.astype(h.dtype) + q)}


def _product(h: Array, kernel: Array) -> Array:
    return h @ kernel.astype(h.dtype)
