"""Flax: nnx.RNN over its cells, time-major, split into graph and parameters and merged under jit.

Its GRU has no bias inside the reset gate's product.
"""

from typing import Any

import jax
from flax import nnx

import jaxrnn
from benchmarks.errors import NotApplicableError
from benchmarks.problems import Problem
from benchmarks.programs import Network, Program, on_one_device

CELLS = {"vanilla": nnx.SimpleCell, "lstm": nnx.OptimizedLSTMCell, "gru": nnx.GRUCell}


def program(problem: Problem, mode: str) -> Program:
    """Return the program of a problem with a cell as it comes."""
    if problem.options:
        raise NotApplicableError(f"no cell for {problem.kind} with {problem.variant}")
    graph, params, rest = nnx.split(nnx.RNN(cell(problem), time_major=True), nnx.Param, ...)

    def apply(params: Any, xs: jax.Array) -> Any:
        return nnx.merge(graph, params, rest, copy=True)(xs)  # the call counts its random keys, in its own copy

    network = Network(params, apply, lambda gradients: restore(problem.kind, gradients["cell"]))
    return on_one_device(network, problem.xs, mode)


def cell(problem: Problem) -> nnx.RNNCellBase:
    """Return Flax's cell with the parameters of the problem."""
    params, dtype = problem.params, problem.xs.dtype
    made = CELLS[problem.kind](
        problem.shape.D,
        problem.shape.H,
        dtype=dtype,
        param_dtype=dtype,
        recurrent_kernel_init=nnx.initializers.zeros,  # replaced below; the default cannot be drawn in bfloat16
        rngs=nnx.Rngs(0),
    )
    biased = made.dense_h if problem.kind == "lstm" else made.dense_i
    made.dense_i.kernel.set_value(params.input)
    made.dense_h.kernel.set_value(params.recurrent)
    biased.bias.set_value(params.bias)
    return made


def restore(kind: str, gradients: Any) -> Any:
    """Return a cell's gradients in jaxrnn's layout."""
    weights, recurrent = gradients["dense_i"]["kernel"][...], gradients["dense_h"]["kernel"][...]
    bias = gradients["dense_h" if kind == "lstm" else "dense_i"]["bias"][...]
    if kind == "lstm":
        return jaxrnn.LSTMParams(weights, recurrent, bias)
    if kind == "gru":
        return jaxrnn.GRUParams(weights, recurrent, bias, None)
    return jaxrnn.VanillaParams(weights, recurrent, bias)
