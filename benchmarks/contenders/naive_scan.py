"""A naive scan: the textbook's step, one sigmoid or tanh at a time, with the input product inside the step."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.errors import NotApplicableError
from benchmarks.problems import Problem
from benchmarks.programs import Network, Program, on_one_device


def vanilla(params: Any, h: Any, x: Any) -> tuple[Any, Any]:
    """Return (carry, y) after one step."""
    h = jnp.tanh(x @ params.input + h @ params.recurrent + params.bias)
    return h, h


def lstm(params: Any, carry: Any, x: Any) -> tuple[Any, Any]:
    """Return (carry, y) after one step."""
    h, c = carry
    i, f, g, o = jnp.split(x @ params.input + h @ params.recurrent + params.bias, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h, c), h


def gru(params: Any, h: Any, x: Any) -> tuple[Any, Any]:
    """Return (carry, y) after one step, the reset gate after the product."""
    r_x, u_x, n_x = jnp.split(x @ params.input + params.bias, 3, axis=-1)
    r_h, u_h, n_h = jnp.split(h @ params.recurrent, 3, axis=-1)
    r = jax.nn.sigmoid(r_x + r_h)
    u = jax.nn.sigmoid(u_x + u_h)
    n = jnp.tanh(n_x + r * (n_h + params.candidate_bias))
    h = (1 - u) * n + u * h
    return h, h


STEPS: dict[str, Callable[..., tuple[Any, Any]]] = {"vanilla": vanilla, "lstm": lstm, "gru": gru}


def initial_carry(kind: str, params: Any, batch: int) -> Any:
    """Return zeros for every state of the cell."""
    zeros = jnp.zeros((batch, params.recurrent.shape[0]), params.recurrent.dtype)
    return (zeros, zeros) if kind == "lstm" else zeros


def scan(kind: str, params: Any, xs: Any, *, reverse: bool = False) -> Any:
    """Return ys of the step over ``xs [T, B, D]``."""
    step, start = STEPS[kind], initial_carry(kind, params, xs.shape[1])
    return jax.lax.scan(lambda carry, x: step(params, carry, x), start, xs, reverse=reverse)[1]


def program(problem: Problem, mode: str) -> Program:
    """Return the program of a problem with a cell as it comes."""
    if problem.options:
        raise NotApplicableError(f"no step for {problem.kind} with {problem.variant}")
    network = Network(problem.params, lambda params, xs: scan(problem.kind, params, xs))
    return on_one_device(network, problem.xs, mode)
