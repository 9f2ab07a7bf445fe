"""Forecasts: by their equations, from each sequence's own last step, with and without the truth."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.models import Forecaster, forecaster
from tests.models.drawing import params_of
from tests.registry import assert_trees_close

T, B, K, H, N = 5, 3, 2, 4, 3
LENGTHS = np.array([5, 2, 0])
LAYER = jaxrnn.recurrent(jaxrnn.vanilla(K, H, dtype=jnp.float64)._replace(adjoint=None))
METHODS = pytest.mark.parametrize("method", ["direct", "autoregressive"])


def model_of(method: str, horizon: int = N, layer: jaxrnn.Layer = LAYER) -> Forecaster:
    return forecaster(layer, H, horizon, K, method=method, dtype=jnp.float64)


def drawn(model: Forecaster, key: jax.Array) -> tuple[Any, jax.Array]:
    params = params_of(model, key)
    return params, jax.random.normal(key, (T, B, K), jnp.float64)


def by_the_equations(method: str, params: Any, history: Any, truth: Any = None) -> np.ndarray:
    """Return the forecasts of one sequence, ``[T, K]``, one step after another."""
    layer, (kernel, bias) = jax.tree.map(np.asarray, params)
    h = np.zeros(H)
    for x in history:
        h = np.tanh(x @ layer.input + h @ layer.recurrent + layer.bias)
    if method == "direct":
        return (h @ kernel + bias).reshape(N, K)
    forecasts = [h @ kernel + bias]
    for n in range(N - 1):
        x = forecasts[-1] if truth is None else truth[n]
        h = np.tanh(x @ layer.input + h @ layer.recurrent + layer.bias)
        forecasts.append(h @ kernel + bias)
    return np.stack(forecasts)


@METHODS
def test_values_are_those_of_the_equations(method, key, float64):
    model = model_of(method)
    params, xs = drawn(model, key)
    padded = jnp.where((np.arange(T)[:, None] < LENGTHS)[..., None], xs, jnp.nan)
    forecasts = jax.jit(model.apply)(params, padded, lengths=LENGTHS)
    assert forecasts.shape == (N, B, K)
    for b, length in enumerate(LENGTHS):
        expected = by_the_equations(method, params, np.asarray(xs)[:length, b])
        np.testing.assert_allclose(forecasts[:, b], expected, rtol=0, atol=1e-12)


def test_forced_reads_the_truth(key, float64):
    model = model_of("autoregressive")
    assert model.forced is not None
    params, xs = drawn(model, key)
    truth = jax.random.normal(key, (N, B, K), jnp.float64)
    forced = jax.jit(model.forced)
    forecasts = forced(params, xs, truth, lengths=LENGTHS)
    for b, length in enumerate(LENGTHS):
        expected = by_the_equations("autoregressive", params, np.asarray(xs)[:length, b], np.asarray(truth)[:, b])
        np.testing.assert_allclose(forecasts[:, b], expected, rtol=0, atol=1e-12)
    free = jax.jit(model.apply)(params, xs, lengths=LENGTHS)
    assert_trees_close(forced(params, xs, free, lengths=LENGTHS), free, 1e-12)
    assert model_of("direct").forced is None


@METHODS
def test_padding_has_no_gradient(method, key, float64):
    model = model_of(method)
    params, xs = drawn(model, key)
    valid = (np.arange(T)[:, None] < LENGTHS)[..., None]

    @jax.jit
    def gradient(params, xs):
        return jax.grad(lambda *args: (model.apply(*args, lengths=LENGTHS) ** 2).sum(), (0, 1))(params, xs)

    clean, dirty = gradient(params, xs), gradient(params, jnp.where(valid, xs, jnp.nan))
    assert_trees_close(dirty, clean, 0.0)
    assert all(jnp.isfinite(leaf).all() and (leaf != 0).any() for leaf in jax.tree.leaves(dirty))
    assert not jnp.where(valid, 0.0, dirty[1]).any()


def test_a_horizon_of_one_is_the_same_either_way(key, float64):
    direct, autoregressive = model_of("direct", 1), model_of("autoregressive", 1)
    params, xs = drawn(direct, key)
    ours, theirs = jax.jit(lambda *args: (direct.apply(*args), autoregressive.apply(*args)))(params, xs)
    assert_trees_close(ours, theirs, 0.0)
    assert autoregressive.forced is not None
    assert_trees_close(autoregressive.forced(params, xs, ours), ours, 1e-12)


def test_noise_needs_a_key(key, float64):
    noisy = jaxrnn.serial(jaxrnn.dense(K, H, dtype=jnp.float64), jaxrnn.dropout(0.5))
    model = model_of("autoregressive", 2, noisy)
    params, xs = drawn(model, key)
    plain = model.apply(params, xs)
    assert_trees_close(model.apply(params, xs), plain, 0.0)
    other = model.apply(params, xs, key=key)
    assert (other[0] != plain[0]).any()
    assert (other[1] != plain[1]).any()


@METHODS
def test_dtypes_are_kept(method):
    cell = jaxrnn.vanilla(K, H, dtype=jnp.bfloat16, carry_dtype=jnp.float32)
    model = forecaster(jaxrnn.recurrent(cell), H, N, K, method=method, dtype=jnp.bfloat16)
    xs = jnp.ones((T, B, K), jnp.bfloat16)
    forecasts = jax.eval_shape(lambda: model.apply(model.init(jax.random.key(0)), xs))
    assert (forecasts.shape, forecasts.dtype) == ((N, B, K), jnp.bfloat16)
