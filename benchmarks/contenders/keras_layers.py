"""Keras 3 on its JAX backend: SimpleRNN, LSTM and GRU by stateless_call under jit, batch-major, as Keras is.

Its GRU orders the gates z, r, h, with z our u, and has two biases that are added together but for the
candidate's.
"""

import os
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"  # read when Keras is imported

import jax
import jax.numpy as jnp
import keras

import jaxrnn
from benchmarks.errors import NotApplicableError
from benchmarks.problems import Problem
from benchmarks.programs import Network, Program, on_one_device

LAYERS = {"vanilla": keras.layers.SimpleRNN, "lstm": keras.layers.LSTM, "gru": keras.layers.GRU}


def program(problem: Problem, mode: str) -> Program:
    """Return the program of a problem with a cell as it comes."""
    if problem.options:
        raise NotApplicableError(f"no layer here for {problem.kind} with {problem.variant}")
    T, B, D, H = problem.shape
    layer = LAYERS[problem.kind](H, return_sequences=True, dtype=str(problem.xs.dtype))
    layer.build((B, T, D))
    rest = [variable.value for variable in layer.non_trainable_variables]

    def apply(params: Any, xs: jax.Array) -> jax.Array:
        return layer.stateless_call(params, rest, xs)[0]

    convert, restore = LAYOUTS[problem.kind]
    return on_one_device(Network(convert(problem.params), apply, restore, batch_major=True), problem.xs, mode)


def swap_r_and_u(gates: jax.Array) -> jax.Array:
    """Return the gates r, u, n as u, r, n, or back."""
    first, second, n = jnp.split(gates, 3, axis=-1)
    return jnp.concatenate([second, first, n], axis=-1)


def gru_params(params: jaxrnn.GRUParams) -> list:
    """Return Keras's parameters for jaxrnn's."""
    weights, recurrent, bias = map(swap_r_and_u, params[:3])
    recurrent_bias = jnp.zeros_like(bias).at[2 * len(recurrent) :].set(params.candidate_bias)
    return [weights, recurrent, jnp.stack([bias, recurrent_bias])]


def gru_gradients(gradients: Any) -> jaxrnn.GRUParams:
    """Return jaxrnn's gradients for Keras's."""
    weights, recurrent, biases = map(swap_r_and_u, gradients)
    return jaxrnn.GRUParams(weights, recurrent, biases[0], biases[1, 2 * len(recurrent) :])


LAYOUTS = {
    "vanilla": (list, lambda gradients: jaxrnn.VanillaParams(*gradients)),
    "lstm": (list, lambda gradients: jaxrnn.LSTMParams(*gradients)),
    "gru": (gru_params, gru_gradients),
}
