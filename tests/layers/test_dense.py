"""ψ(x W + b), the same at every step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from tests.layers.stepping import step_of


@pytest.mark.parametrize("activation", [None, jnp.tanh, jax.nn.softmax], ids=["identity", "tanh", "softmax"])
@pytest.mark.parametrize("shape", [(3,), (4, 3), (4, 2, 5, 3)], ids=str)
def test_value(shape, activation, rng):
    layer = jaxrnn.dense(3, 2, activation=activation)
    kernel, bias = rng.standard_normal((3, 2), np.float32), rng.standard_normal(2, np.float32)
    x = rng.standard_normal(shape, np.float32)
    params = jaxrnn.DenseParams(jnp.array(kernel), jnp.array(bias))
    expected = x @ kernel + bias
    expected = expected if activation is None else activation(expected)
    np.testing.assert_allclose(step_of(layer)(params, (), jnp.array(x))[1], expected, rtol=1e-5, atol=1e-6)
    if len(shape) > 1:
        np.testing.assert_allclose(layer.apply(params, jnp.array(x))[1], expected, rtol=1e-5, atol=1e-6)


def test_without_bias(key):
    layer = jaxrnn.dense(3, 2, bias=False)
    params = layer.init(key)
    assert params.bias is None
    assert not layer.apply(params, jnp.zeros((4, 3)))[1].any()


def test_initial_values(key):
    layer = jaxrnn.dense(
        400, 50, bias_init=jaxrnn.initializers.constant(0.5), kernel_init=jaxrnn.initializers.fan_in(2.0)
    )
    kernel, bias = layer.init(key)
    assert abs(kernel.std() * 400**0.5 - 2.0) < 0.1
    assert (bias == 0.5).all()
    assert not jaxrnn.dense(3, 2).init(key).bias.any()


def test_kernel_and_bias_draw_from_different_keys(key):
    normal = jaxrnn.initializers.normal(1.0)
    kernel, bias = jaxrnn.dense(1, 6, kernel_init=normal, bias_init=normal).init(key)
    assert not (kernel[0] == bias).any()
