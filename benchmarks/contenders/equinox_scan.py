"""Equinox: jax.lax.scan over its cell for one sequence, as its documentation does, vmapped over the batch."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

import jaxrnn
from benchmarks.errors import NotApplicableError
from benchmarks.problems import Problem
from benchmarks.programs import Network, Program, on_one_device

CELLS = {"lstm": eqx.nn.LSTMCell, "gru": eqx.nn.GRUCell}


def program(problem: Problem, mode: str) -> Program:
    """Return the program of an LSTM, or of a GRU that resets after the product."""
    if problem.kind not in CELLS or problem.options:
        raise NotApplicableError(f"no cell for {problem.kind} {problem.variant}")

    def sequence(cell: Any, xs: jax.Array) -> jax.Array:
        zeros = jnp.zeros(cell.hidden_size, xs.dtype)

        def step(state: Any, x: jax.Array) -> tuple[Any, jax.Array]:
            state = cell(x, state)
            return state, state[0] if problem.kind == "lstm" else state

        return jax.lax.scan(step, (zeros, zeros) if problem.kind == "lstm" else zeros, xs)[1]

    # Mapped over axis 1, the sequences need not be turned batch-first and back.
    batch = jax.vmap(sequence, in_axes=(None, 1), out_axes=1)
    return on_one_device(Network(cell(problem), batch, restore), problem.xs, mode)


def cell(problem: Problem) -> eqx.Module:
    """Return Equinox's cell with the parameters of the problem."""
    params = problem.params
    made = CELLS[problem.kind](problem.shape.D, problem.shape.H, dtype=params.bias.dtype, key=jax.random.key(0))
    values = [params.input.T, params.recurrent.T, *params[2:]]
    names = ["weight_ih", "weight_hh", "bias", "bias_n"][: len(values)]
    return eqx.tree_at(lambda cell: [getattr(cell, name) for name in names], made, values)


def restore(gradients: Any) -> Any:
    """Return jaxrnn's gradients for Equinox's."""
    weights = gradients.weight_ih.T, gradients.weight_hh.T, gradients.bias
    if isinstance(gradients, eqx.nn.GRUCell):
        return jaxrnn.GRUParams(*weights, gradients.bias_n)
    return jaxrnn.LSTMParams(*weights)
