"""cuDNN's LSTM as JAX offers it, jax.experimental.rnn: batch-major, all weights in one vector, CUDA alone.

Its layout is torch's: W and U transposed, and two biases that are added together; the second is zero here.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import rnn

import jaxrnn
from benchmarks.errors import NotApplicableError
from benchmarks.problems import Problem
from benchmarks.programs import Network, Program, on_one_device


def program(problem: Problem, mode: str) -> Program:
    """Return the program of an LSTM in 32 bits, on a GPU."""
    if jax.default_backend() != "gpu":
        raise NotApplicableError("cuDNN needs a GPU")
    if problem.kind != "lstm" or problem.dtype == "bfloat16":
        raise NotApplicableError(f"no {problem.kind} in {problem.dtype}")
    T, B, D, H = problem.shape

    def apply(weights: jax.Array, xs: jax.Array) -> Any:
        start, lengths = jnp.zeros((1, B, H), xs.dtype), jnp.full((B,), T, jnp.int32)
        lstm: Any = rnn.lstm  # its decorator hides its type
        return lstm(xs, start, start, weights, lengths, D, H, 1, 0.0, False)[0]

    network = Network(pack(problem.params), apply, lambda gradients: unpack(gradients, D, H), batch_major=True)
    return on_one_device(network, problem.xs, mode)


def pack(params: jaxrnn.LSTMParams) -> jax.Array:
    """Return jaxrnn's parameters as cuDNN's vector."""
    parts = [params.input.T, params.recurrent.T, params.bias, jnp.zeros_like(params.bias)]
    return jnp.concatenate([part.ravel() for part in parts])


def unpack(weights: Any, D: int, H: int) -> jaxrnn.LSTMParams:
    """Return cuDNN's vector, or its gradient, as jaxrnn's parameters."""
    shapes = [(4 * H, D), (4 * H, H), (4 * H,)]
    parts = []
    for shape in shapes:
        size = math.prod(shape)
        parts.append(weights[:size].reshape(shape).T)
        weights = weights[size:]
    return jaxrnn.LSTMParams(*parts)
