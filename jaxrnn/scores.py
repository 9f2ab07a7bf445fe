"""What attention computes with a memory: scores of its positions, weights, averages, and their transposes.

With keys k_s and values v_s the S rows of a memory, and q a query,

    e_s = score(q, k_s),   w = softmax(e) over the valid positions,   c = Σ_s w_s v_s

Backward, for queries q_t, all of which are known once the loop over them is through:

    dw_s = dc · v_s,   de = w ⊙ (dw - Σ_s w_s dw_s),   dv_s = Σ_t w_s dc
    q · k:            dq = Σ_s de_s k_s,             dk_s = Σ_t de_s q
    u · tanh(q + k):  dp_s = de_s u ⊙ (1 - tanh²(q + k_s)),   dq = Σ_s dp_s,   dk_s = Σ_t dp_s,
                      du = Σ_t Σ_s de_s tanh(q + k_s)

A memory is ``[*B, S, A]``, one matrix for each sequence. A query is ``[..., *B, A]``: whatever axes come
before those of the memory, of steps, of beams, of rows that `vmap` adds, share it.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.types import Array


class Score(NamedTuple):
    """A score and its transposes; u ``[A]`` or None are its parameters.

    function: ``(u, keys [*B, S, A], q [..., *B, A]) -> e [..., *B, S]``.
    to_query: ``(u, keys, q, de) -> dq``.
    to_keys: ``(u, keys, q, de) -> (du, dkeys)``, summed over all queries.
    """

    function: Callable[..., Array]
    to_query: Callable[..., Array]
    to_keys: Callable[..., tuple[Array | None, Array]]


def project(h: Array, kernel: Array | None) -> Array:
    """Return the query q = h W_q, or h itself where there is no W_q."""
    return h if kernel is None else _einsum("qa,...q->...a", kernel, h)


def against(rows: Array, x: Array) -> Array:
    """Return the products x · row_s ``[..., *B, S]`` of ``x [..., *B, A]`` with ``rows [*B, S, A]``."""
    products = _einsum("rsa,kra->krs", _matrices(rows), _beside(rows, x))
    return products.reshape(*x.shape[:-1], rows.shape[-2])


def average(rows: Array, weights: Array) -> Array:
    """Return Σ_s w_s row_s ``[..., *B, A]`` of ``rows [*B, S, A]`` by ``weights [..., *B, S]``."""
    sums = _einsum("rsa,krs->kra", _matrices(rows), _beside(rows, weights))
    return sums.reshape(*weights.shape[:-1], rows.shape[-1])


def row_gradient(rows: Array, weights: Array, x: Array) -> Array:
    """Return Σ w_s x, the transpose of both products above in ``rows [*B, S, A]``, over all queries."""
    return jnp.einsum("krs,kra->rsa", _beside(rows, weights), _beside(rows, x)).reshape(rows.shape)


def seen(valid: Array | None, scores: Array) -> Array | None:
    """Return which of ``scores [..., *B, S]`` are of positions ``valid [*B, S]`` (1 or 0); None where all are."""
    if valid is None:
        return None
    queries = _beside(valid[..., None], scores)
    return jnp.broadcast_to(valid.reshape(1, *queries.shape[1:]) > 0, queries.shape).reshape(scores.shape)


def softmax(scores: Array, seen: Array | None) -> Array:
    """Return w = softmax(e) over those of ``scores [..., S]`` that are seen; zero where none is."""
    wide = scores.astype(float32_at_least(scores.dtype))
    if seen is not None:
        wide = jnp.where(seen, wide, -jnp.inf)
    # The largest score, or any number where there is none: -∞ minus -∞ would be NaN.
    largest = jnp.max(wide, axis=-1, keepdims=True, initial=jnp.finfo(wide.dtype).min)
    powers = jnp.exp(wide - jax.lax.stop_gradient(largest))
    total = powers.sum(axis=-1, keepdims=True)
    return (powers / jnp.where(total > 0, total, jnp.ones_like(total))).astype(scores.dtype)


def float32_at_least(dtype: Any) -> Any:
    """Return float32 in place of a narrower dtype: what is computed in it is rounded once, at the end."""
    return jnp.float32 if jnp.finfo(dtype).bits < 32 else dtype


def softmax_gradient(weights: Array, dweights: Array) -> Array:
    """Return de = w ⊙ (dw - Σ_s w_s dw_s)."""
    return weights * (dweights - (weights * dweights).sum(axis=-1, keepdims=True))


PRODUCT = Score(
    function=lambda u, keys, q: against(keys, q),
    to_query=lambda u, keys, q, de: average(keys, de),
    to_keys=lambda u, keys, q, de: (None, row_gradient(keys, de, q)),
)


def _hidden(keys: Array, q: Array) -> Array:
    """Return tanh(q + k_s) ``[k, rows, S, A]``."""
    return jnp.tanh(jnp.expand_dims(_beside(keys, q), 2) + jnp.expand_dims(_matrices(keys), 0).astype(q.dtype))


def _additive(u: Array, keys: Array, q: Array) -> Array:
    return _einsum("a,krsa->krs", u, _hidden(keys, q)).reshape(*q.shape[:-1], keys.shape[-2])


def _additive_slopes(u: Array, keys: Array, q: Array, de: Array) -> Array:
    """Return de_s u ⊙ (1 - tanh²(q + k_s)) ``[k, rows, S, A]``."""
    hidden = _hidden(keys, q)
    return jnp.expand_dims(_beside(keys, de), 3) * u.astype(q.dtype).reshape(1, 1, 1, -1) * (1 - hidden * hidden)


def _additive_to_query(u: Array, keys: Array, q: Array, de: Array) -> Array:
    return _additive_slopes(u, keys, q, de).sum(axis=2).reshape(q.shape)


def _additive_to_keys(u: Array, keys: Array, q: Array, de: Array) -> tuple[Array, Array]:
    du = jnp.einsum("krs,krsa->a", _beside(keys, de), _hidden(keys, q))
    return du, _additive_slopes(u, keys, q, de).sum(axis=0).reshape(keys.shape)


ADDITIVE = Score(_additive, _additive_to_query, _additive_to_keys)


def _matrices(rows: Array) -> Array:
    """Return ``rows [*B, S, A]`` with one batch axis, of r matrices."""
    return rows.reshape(math.prod(rows.shape[:-2]), *rows.shape[-2:])


def _beside(rows: Array, x: Array) -> Array:
    """Return ``x [..., *B, A]`` as ``[k, r, A]``, k queries for each of the r matrices of ``rows [*B, S, ...]``."""
    matrices, queries = math.prod(rows.shape[:-2]), math.prod(x.shape[:-1])
    if queries % max(matrices, 1) or (matrices == 0 and queries > 0):
        raise ValueError(f"query: expected axes that end in {rows.shape[:-2]}, those of the memory, got {x.shape[:-1]}")
    return x.reshape(queries // matrices if matrices else 1, matrices, x.shape[-1])


def _einsum(formula: str, weights: Array, x: Array) -> Array:
    """Return the sum of products in the dtype of ``x``; weights of a lower precision are multiplied as they are."""
    return jnp.einsum(formula, weights, x.astype(weights.dtype), preferred_element_type=x.dtype)
