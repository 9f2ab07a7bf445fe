"""Attention: torch's, Bahdanau's equations in NumPy, masks, and axes that share a memory."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.test_util import check_grads

from jaxrnn import attention as kinds
from tests.registry import assert_trees_close, normal_like, on_device

pytestmark = pytest.mark.usefixtures("float64")
S, B, Q, M, A = 4, 3, 5, 3, 2
KINDS = {
    "dot": lambda: kinds.dot(M),
    "general": lambda: kinds.general(Q, M, dtype=jnp.float64),
    "scaled_dot": lambda: kinds.scaled_dot(Q, M, A, dtype=jnp.float64),
    "additive": lambda: kinds.additive(Q, M, A, dtype=jnp.float64),
}
LENGTHS = np.array([4, 2, 0])
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


def drawn(kind: str, key: jax.Array, *batch: int) -> tuple[kinds.Attention, Any, jax.Array, jax.Array]:
    """Return an attention, its parameters, a memory and a query."""
    attention = KINDS[kind]()
    params_key, memory_key, query_key = jax.random.split(key, 3)
    params = normal_like(params_key, jax.eval_shape(attention.init, params_key))
    memory = normal_like(memory_key, np.zeros((S, *batch, M)))
    return attention, params, memory, normal_like(query_key, np.zeros((*batch, attention.query_size)))


def by_the_paper(kind, params, memory, query):
    """One query, position by position."""
    W_q, W_k, W_v, u = (np.asarray(np.nan if leaf is None else leaf) for leaf in params)
    scores, values = [], []
    for m in np.asarray(memory):
        h = np.asarray(query)
        scores.append(
            {
                "dot": lambda m=m, h=h: h @ m,
                "general": lambda m=m, h=h: h @ (W_k.T @ m),
                "scaled_dot": lambda m=m, h=h: (W_q.T @ h) @ (W_k.T @ m) / np.sqrt(A),
                "additive": lambda m=m, h=h: u @ np.tanh(W_q.T @ h + W_k.T @ m),
            }[kind]()
        )
        values.append(m if params.value is None else W_v.T @ m)
    if not scores:
        return np.zeros(M if params.value is None else A), np.zeros(0)
    weights = np.exp(scores) / np.exp(scores).sum()
    return sum(w * v for w, v in zip(weights, values, strict=True)), weights


@EVERY_KIND
def test_values_are_those_of_the_equations(kind, key):
    """Each sequence up to its length; what stands beyond it may be NaN."""
    attention, params, memory, query = drawn(kind, key, B)
    mask = np.arange(S)[:, None] < LENGTHS

    @jax.jit
    def run(params, padded, query):
        prepared = attention.prepare(params, padded, lengths=LENGTHS)
        return attention.attend(params, prepared, query), prepared, attention.prepare(params, padded, mask=mask)

    memory, query = np.asarray(memory), np.asarray(query)
    (context, weights), prepared, by_mask = jax.device_get(
        run(params, np.where(mask[..., None], memory, np.nan), query)
    )
    for b, length in enumerate(LENGTHS):
        expected, expected_weights = by_the_paper(kind, params, memory[:length, b], query[b])
        np.testing.assert_allclose(context[b], expected, rtol=0, atol=1e-13)
        np.testing.assert_allclose(weights[b, :length], expected_weights, rtol=0, atol=1e-13)
        assert not weights[b, length:].any()
    assert_trees_close(by_mask, prepared, 0.0)


def test_scaled_dot_is_the_attention_of_torch(key):
    attention, params, memory, query = drawn("scaled_dot", key, B)
    q, k, v = (
        torch.from_numpy(np.asarray(x) @ np.asarray(weight))
        for x, weight in ((query, params.query), (memory, params.key), (memory, params.value))
    )
    mask = np.arange(S) < np.array([4, 2, 1])[:, None]
    theirs = torch.nn.functional.scaled_dot_product_attention(
        q[:, None], k.transpose(0, 1), v.transpose(0, 1), torch.from_numpy(mask)[:, None]
    )
    context, _ = attention.attend(params, attention.prepare(params, memory, mask=mask.T), query)
    np.testing.assert_allclose(context, theirs[:, 0].numpy(), rtol=0, atol=1e-13)


def test_scaled_dot_is_one_head_of_torch(key):
    attention = kinds.scaled_dot(A, M, A, dtype=jnp.float64)
    params = normal_like(key, jax.eval_shape(attention.init, key))
    memory, queries = normal_like(key, (np.zeros((S, B, M)), np.zeros((6, B, A))))
    theirs = torch.nn.MultiheadAttention(A, 1, bias=False, kdim=M, vdim=M, dtype=torch.float64)
    kernels = (theirs.q_proj_weight, theirs.k_proj_weight, theirs.v_proj_weight, theirs.out_proj.weight)
    for weight, kernel in zip(kernels, (*params[:3], np.eye(A)), strict=True):
        weight.data = torch.from_numpy(np.array(kernel).T)
    expected, expected_weights = theirs(*(torch.from_numpy(np.array(x)) for x in (queries, memory, memory)))
    context, weights = attention.attend(params, attention.prepare(params, memory), queries)
    np.testing.assert_allclose(context, expected.detach().numpy(), rtol=0, atol=1e-13)
    np.testing.assert_allclose(weights, expected_weights.detach().numpy().swapaxes(0, 1), rtol=0, atol=1e-13)


@EVERY_KIND
def test_gradient_by_differences(kind, key):
    attention, params, memory, query = drawn(kind, key, B)

    def attend(params, memory, query):
        return attention.attend(params, attention.prepare(params, memory, lengths=LENGTHS), query)

    check_grads(jax.jit(attend), (params, memory, query), order=1, modes=["rev"], atol=1e-6, rtol=1e-6)


@EVERY_KIND
def test_nothing_to_attend_to_is_zero_and_so_is_its_gradient(kind, key):
    attention, params, memory, query = drawn(kind, key, B)

    def attend(params, memory, query):
        return attention.attend(params, attention.prepare(params, memory, lengths=np.zeros(B, int)), query)

    @jax.jit
    def differentiate(*args):
        results, transpose = jax.vjp(attend, *args)
        return results, transpose(results), transpose(jax.tree.map(jnp.ones_like, results))

    for leaf in jax.tree.leaves(differentiate(params, np.full(memory.shape, np.nan), query)):
        np.testing.assert_array_equal(leaf, 0)


@EVERY_KIND
def test_axes_before_those_of_the_memory_share_it(kind, key):
    """All steps of a decoder, a beam, a memory for everyone, and none at all."""
    attention, params, memory, _ = drawn(kind, key, 2, B)
    memory, queries = np.asarray(memory), np.asarray(normal_like(key, np.zeros((4, 2, B, attention.query_size))))
    pairs = [(shared, queries) for shared in (memory, memory[:, 0], memory[:, 0, 0])]
    pairs.append((memory[:, :, :0], queries[:, :, :0]))

    @jax.jit
    def together(params, pairs):
        return [attention.attend(params, attention.prepare(params, shared), here) for shared, here in pairs]

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(None, 1, 0))
    def alone(params, memory, query):
        return attention.attend(params, attention.prepare(params, memory), query)

    for (shared, here), actual in zip(pairs, together(params, pairs), strict=True):
        if here.size:
            repeated = np.broadcast_to(
                np.expand_dims(shared, tuple(range(1, 6 - shared.ndim))), (S, *here.shape[:-1], M)
            )
            one_by_one = alone(params, repeated.reshape(S, -1, M), here.reshape(-1, attention.query_size))
            expected = [np.asarray(leaf).reshape(*here.shape[:-1], -1) for leaf in one_by_one]
            assert_trees_close(list(actual), expected)
        assert actual[0].shape == (*here.shape[:-1], attention.context_size)
        assert actual[1].shape == (*here.shape[:-1], S)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_large_scores_and_dtypes(dtype):
    attention = kinds.dot(2)
    params = attention.init(jax.random.key(0))

    @jax.jit
    def run(memory, query):
        prepared = attention.prepare(params, memory, lengths=2)
        return prepared, *attention.attend(params, prepared, query)

    memory, context, weights = run(on_device(np.eye(3, 2), dtype), on_device([1e4, -1e4], dtype))
    assert {leaf.dtype for leaf in jax.tree.leaves((memory, context, weights))} == {jnp.dtype(dtype)}
    assert weights.tolist() == [1, 0, 0]
