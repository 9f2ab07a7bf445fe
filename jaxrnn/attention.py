"""Attention over a memory: which of its S positions matter to a query, and what these hold.

    e_s = score(q, k_s),   w = softmax(e) over the valid positions,   c = Σ_s w_s v_s

==========  ======  ============  ========  ==============
kind        q       k_s           v_s       score(q, k)
==========  ======  ============  ========  ==============
dot         h       m_s           m_s       q · k
general     h       m_s W_k       m_s       q · k
scaled_dot  h W_q   m_s W_k / √A  m_s W_v   q · k
additive    h W_q   m_s W_k       m_s       u · tanh(q + k)
==========  ======  ============  ========  ==============

Keys and values do not depend on the query, and are computed once, before any loop over queries. Where
no position is valid, w and c are zero. `jaxrnn.scores` has the products and their transposes.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn import initializers as init_with
from jaxrnn.scores import ADDITIVE, PRODUCT, Score, average, project, seen, softmax
from jaxrnn.steps import leading_axes, valid_steps, zero_unless
from jaxrnn.types import Array, Spec, recorded

__all__ = ["Attention", "AttentionParams", "Memory", "additive", "dot", "general", "scaled_dot"]


class AttentionParams(NamedTuple):
    """Weights of an `Attention`, None where it has none.

    query: W_q ``[Q, A]``, for a query of Q features.
    key: W_k ``[M, A]``, for a memory of M features.
    value: W_v ``[M, A]``.
    score: u ``[A]``.
    """

    query: Array | None = None
    key: Array | None = None
    value: Array | None = None
    score: Array | None = None


class Memory(NamedTuple):
    """What `Attention.prepare` makes of a memory, a matrix of S rows for each sequence.

    keys: ``[*B, S, A]``.
    values: ``[*B, S, C]``.
    valid: ``[*B, S]``, 1 or 0; None where all are. In the dtype of the rest, since what is not floating
        has no place among parameters that are differentiated.
    """

    keys: Array
    values: Array
    valid: Array | None


class Attention(NamedTuple):
    """One kind of attention, as pure functions.

    init: ``(key) -> params``.
    prepare: ``(params, memory [S, *B, M], *, lengths=None, mask=None) -> Memory``. ``lengths [*B]`` and
        ``mask [S, *B]`` say which positions are valid; what stands in the others is never seen.
    attend: ``(params, memory, query) -> (context, weights)``: ``query [..., *B, Q]``,
        ``context [..., *B, C]``, ``weights [..., *B, S]``. Any axes before those of the memory share
        it: all steps of a decoder at once, or a beam.
    check: ``(params, memory, leading) -> None``. Raises unless these are what `init` and `prepare` give, and
        queries ``[*leading, Q]`` can attend to the memory.
    score: how keys and query give e.
    query_size: Q.
    context_size: C.
    spec: the call that made it.
    """

    init: Callable[..., AttentionParams]
    prepare: Callable[..., Memory]
    attend: Callable[..., tuple[Array, Array]]
    check: Callable[..., None]
    score: Score
    query_size: int
    context_size: int
    spec: Spec | None = None


@recorded
def dot(size: int) -> Attention:
    """Return dot-product attention, e_s = h · m_s, c = Σ_s softmax(e)_s m_s; it has no weights.

    Args:
        size: Q = M = C, the features of query and memory.

    Raises:
        ValueError: a size below 1.
        TypeError: a size that is no int.

    Source: Luong, Pham and Manning, "Effective Approaches to Attention-based Neural Machine Translation"
    (2015).

    Example:
        >>> import jax.numpy as jnp
        >>> attention = dot(2)
        >>> memory = attention.prepare((params := attention.init(jax.random.key(0))), jnp.eye(3, 2), lengths=2)
        >>> context, weights = attention.attend(params, memory, jnp.array([100.0, 0.0]))
        >>> context.tolist(), weights.tolist()
        ([1.0, 0.0], [1.0, 0.0, 0.0])
    """
    checks.size("size", size)
    return _attention(f"dot({size})", {}, PRODUCT, size, size, size)


@recorded
def general(
    query_size: int,
    memory_size: int,
    *,
    kernel_init: init_with.Initializer = init_with.fan_in(),
    dtype: Any = jnp.float32,
) -> Attention:
    """Return attention by a bilinear form, e_s = h · (m_s W_k), c = Σ_s softmax(e)_s m_s.

    Args:
        query_size: Q, the features of the query h.
        memory_size: M = C, the features of the memory.
        kernel_init: a `jaxrnn.initializers` for W_k ``[M, Q]``.
        dtype: of the parameters.

    Raises:
        ValueError: a size below 1.
        TypeError: an argument of the wrong type.

    Source: Luong, Pham and Manning, "Effective Approaches to Attention-based Neural Machine Translation"
    (2015).

    Example:
        >>> attention = general(5, 3)
        >>> attention.init(jax.random.key(0)).key.shape
        (3, 5)
    """
    checks.size("query_size", query_size)
    checks.size("memory_size", memory_size)
    call = f"general({query_size}, {memory_size})"
    shapes = {"key": (memory_size, query_size)}
    return _attention(call, shapes, PRODUCT, query_size, memory_size, memory_size, kernel_init, dtype)


@recorded
def scaled_dot(
    query_size: int,
    memory_size: int,
    size: int,
    *,
    kernel_init: init_with.Initializer = init_with.fan_in(),
    dtype: Any = jnp.float32,
) -> Attention:
    """Return scaled dot-product attention, one head: e_s = (h W_q) · (m_s W_k) / √A, c = Σ_s softmax(e)_s m_s W_v.

    Args:
        query_size: Q, the features of the query h.
        memory_size: M, the features of the memory.
        size: A = C, the features of queries, keys and values after their products.
        kernel_init: a `jaxrnn.initializers` for W_q ``[Q, A]``, W_k and W_v ``[M, A]``.
        dtype: of the parameters.

    Raises:
        ValueError: a size below 1.
        TypeError: an argument of the wrong type.

    Source: Vaswani et al., "Attention Is All You Need" (2017).

    Example:
        >>> attention = scaled_dot(5, 3, 4)
        >>> params = attention.init(jax.random.key(0))
        >>> memory = attention.prepare(params, jnp.ones((7, 2, 3)))
        >>> context, weights = attention.attend(params, memory, jnp.ones((2, 5)))
        >>> context.shape, weights.shape
        ((2, 4), (2, 7))
    """
    checks.size("query_size", query_size)
    checks.size("memory_size", memory_size)
    checks.size("size", size)
    call = f"scaled_dot({query_size}, {memory_size}, {size})"
    shapes = {"query": (query_size, size), "key": (memory_size, size), "value": (memory_size, size)}
    scale = 1 / math.sqrt(size)
    return _attention(call, shapes, PRODUCT, query_size, memory_size, size, kernel_init, dtype, scale)


@recorded
def additive(
    query_size: int,
    memory_size: int,
    size: int,
    *,
    kernel_init: init_with.Initializer = init_with.fan_in(),
    dtype: Any = jnp.float32,
) -> Attention:
    """Return additive attention, e_s = u · tanh(h W_q + m_s W_k), c = Σ_s softmax(e)_s m_s.

    The keys are inside the tanh: their gradient over T queries makes an array ``[T, *B, S, A]``, where
    that of the other kinds is a product.

    Args:
        query_size: Q, the features of the query h.
        memory_size: M = C, the features of the memory.
        size: A, the units of the score's hidden layer.
        kernel_init: a `jaxrnn.initializers` for W_q ``[Q, A]``, W_k ``[M, A]`` and u, as ``[A, 1]``.
        dtype: of the parameters.

    Raises:
        ValueError: a size below 1.
        TypeError: an argument of the wrong type.

    Source: Bahdanau, Cho and Bengio, "Neural Machine Translation by Jointly Learning to Align and
    Translate" (2015).

    Example:
        >>> attention = additive(5, 3, 4)
        >>> params = attention.init(jax.random.key(0))
        >>> memory = attention.prepare(params, jnp.ones((7, 2, 3)), lengths=jnp.array([7, 0]))
        >>> context, weights = attention.attend(params, memory, jnp.ones((2, 5)))
        >>> weights.sum(axis=-1).round(3).tolist(), context[1].tolist()
        ([1.0, 0.0], [0.0, 0.0, 0.0])
    """
    checks.size("query_size", query_size)
    checks.size("memory_size", memory_size)
    checks.size("size", size)
    call = f"additive({query_size}, {memory_size}, {size})"
    shapes = {"query": (query_size, size), "key": (memory_size, size), "score": (size,)}
    return _attention(call, shapes, ADDITIVE, query_size, memory_size, memory_size, kernel_init, dtype)


LAYOUT = "[positions, *batch, features]"


def _attention(
    call: str,
    shapes: dict[str, tuple[int, ...]],
    score: Score,
    query_size: int,
    memory_size: int,
    context_size: int,
    kernel_init: init_with.Initializer = init_with.fan_in(),
    dtype: Any = jnp.float32,
    scale: float = 1.0,
) -> Attention:
    checks.functions(kernel_init=kernel_init)
    checks.floating(dtype=dtype)
    every_shape = {name: shapes.get(name) for name in AttentionParams._fields}

    def init(key: Array) -> AttentionParams:
        checks.key("key", key)
        keys = dict(zip(AttentionParams._fields, jax.random.split(key, len(AttentionParams._fields)), strict=True))
        matrices = {name: (*shape, 1)[:2] for name, shape in shapes.items()}
        drawn = {name: kernel_init(keys[name], shape, dtype) for name, shape in matrices.items()}
        return AttentionParams(**{name: kernel.reshape(shapes[name]) for name, kernel in drawn.items()})

    def prepare(params: AttentionParams, memory: Array, *, lengths: Any = None, mask: Any = None) -> Memory:
        checks.parameters(params, AttentionParams, every_shape, call)
        leading = leading_axes("memory", memory, 1, LAYOUT)
        if not leading:
            raise ValueError(f"memory: expected {LAYOUT}, got shape {memory.shape}")
        checks.floating(memory=memory.dtype)
        checks.features("memory", memory, memory_size, (memory if params.key is None else params.key).dtype, call)
        valid = valid_steps(leading[0], leading[1:], lengths, mask)
        rows = jnp.moveaxis(zero_unless(valid, jnp.asarray(memory)), 0, -2)
        keys = rows if params.key is None else rows @ (scale * params.key)
        values = rows if params.value is None else rows @ params.value
        return Memory(keys, values, None if valid is None else jnp.moveaxis(valid, 0, -1).astype(rows.dtype))

    def check(params: AttentionParams, memory: Any, leading: tuple[int, ...]) -> None:
        checks.parameters(params, AttentionParams, every_shape, call)
        if not isinstance(memory, Memory):
            raise TypeError(f"memory: expected the Memory of {call}, got {type(memory).__name__}")
        batch = leading_axes("memory.keys", memory.keys, 2, "[*batch, positions, features]")
        positions = memory.keys.shape[-2]
        key_size = query_size if params.query is None else params.query.shape[-1]
        of_memory: dict[str, tuple[int, ...] | None] = {
            "keys": (*batch, positions, key_size),
            "values": (*batch, positions, context_size),
            "valid": None if memory.valid is None else (*batch, positions),
        }
        checks.parameters(memory, Memory, of_memory, call, "memory")
        if leading[len(leading) - len(batch) :] != batch or len(leading) < len(batch):
            raise ValueError(f"memory: expected batch axes that end {leading}, those of the queries, got {batch}")

    def attend(params: AttentionParams, memory: Memory, query: Array) -> tuple[Array, Array]:
        check(params, memory, leading_axes("query", query, 1, "[..., *batch, features]"))
        checks.features("query", query, query_size, memory.keys.dtype, call)
        q = project(query, params.query)
        scores = score.function(params.score, memory.keys, q)
        weights = softmax(scores, seen(memory.valid, scores))
        return average(memory.values, weights), weights

    return Attention(init, prepare, attend, check, score, query_size, context_size)
