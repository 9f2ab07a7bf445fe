"""Keras's ConvLSTM1D, 2D and 3D as an independent reference: values, and gradients of weights and inputs."""

import functools
import importlib.util
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from tests.registry import assert_trees_close

if importlib.util.find_spec("keras") is None:
    pytest.skip("keras is not installed", allow_module_level=True)
os.environ["KERAS_BACKEND"] = "jax"  # read when Keras is imported
import keras

T, B = 3, 2
CASES = {
    "1d dilation": (keras.layers.ConvLSTM1D, ((5, 2), 3, 2), {"padding": "same"}, {"dilation": 2}),
    "2d valid": (keras.layers.ConvLSTM2D, ((4, 3, 2), 3, (3, 2)), {"padding": "valid"}, {}),
    "3d strides": (keras.layers.ConvLSTM3D, ((3, 2, 2, 1), 2, (2, 1, 2)), {"padding": "same"}, {"strides": (2, 1, 1)}),
}


@pytest.fixture(autouse=True)
def strict():
    """Forbid nothing, in place of the fixture of the same name for all other tests: Keras promotes as it pleases."""


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_of_keras(name, rng, float64):
    """Its gates i, f, c, o are our i, f, g, o; its batch comes before time."""
    layer_class, (shape, hidden, kernel), padding, others = CASES[name]
    cell = jaxrnn.conv_lstm(shape, hidden, kernel, dtype=jnp.float64, **padding, **others)
    named = {"dilation": "dilation_rate", "strides": "strides"}
    options = padding | {named[option]: value for option, value in others.items()}
    zeros = {"kernel_initializer": "zeros", "recurrent_initializer": "zeros"}  # drawn in vain otherwise
    options |= zeros | {"activation": jnp.tanh}  # its own tanh rounds float64 to float32
    layer = layer_class(hidden, kernel, **options, return_sequences=True, dtype="float64")
    layer.build((B, T, *shape))
    rest = [variable.value for variable in layer.non_trainable_variables]
    params, xs = jax.eval_shape(cell.init, jax.random.key(0)), jax.ShapeDtypeStruct((T, B, *shape), jnp.float64)
    _, dys = jax.eval_shape(functools.partial(jaxrnn.unroll, cell), params, xs)
    params, xs, dys = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape) / 2, (params, xs, dys))

    def by_keras(params, xs):
        ys, _ = layer.stateless_call(list(params), rest, xs.swapaxes(0, 1))
        return ys.swapaxes(0, 1)

    @functools.partial(jax.jit, static_argnums=0)
    def differentiate(outputs, params, xs):
        ys, transpose = jax.vjp(outputs, params, xs)
        return ys, transpose(dys)

    ours = differentiate(lambda params, xs: jaxrnn.unroll(cell, params, xs)[1], params, xs)
    assert_trees_close(ours, differentiate(by_keras, params, xs))
    assert np.abs(ours[0]).max() > 0.1
