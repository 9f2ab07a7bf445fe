"""Haiku: hk.dynamic_unroll over its cores, time-major.

Its vanilla network applies ReLU; its LSTM orders the gates i, g, f, o and adds 1 to the forget gate; its GRU
resets before the product, and its update gate z is 1 - u, so that its weights are ours with the sign turned.
"""

from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp

import jaxrnn
from benchmarks.contenders import CONTENDERS
from benchmarks.errors import NotApplicableError
from benchmarks.problems import Problem
from benchmarks.programs import Network, Program, on_one_device

CORES = {"vanilla": lambda H: hk.VanillaRNN(H, double_bias=False), "lstm": hk.LSTM, "gru": hk.GRU}


def program(problem: Problem, mode: str) -> Program:
    """Return the program of a problem with Haiku's variant of the cell."""
    if problem.options != CONTENDERS["haiku"].options_of(problem.kind):
        raise NotApplicableError(f"no core for {problem.kind} with {problem.variant or 'its defaults'}")

    def network(xs: jax.Array) -> Any:
        core = CORES[problem.kind](problem.shape.H)
        return hk.dynamic_unroll(core, xs, core.initial_state(xs.shape[1]))[0]

    apply = hk.without_apply_rng(hk.transform(network)).apply
    convert, restore = LAYOUTS[problem.kind]
    return on_one_device(Network(convert(problem.params), apply, restore), problem.xs, mode)


def vanilla_params(params: jaxrnn.VanillaParams) -> dict:
    """Return Haiku's parameters for jaxrnn's."""
    return {
        "vanilla_rnn/linear": {"w": params.input, "b": params.bias},
        "vanilla_rnn/linear_1": {"w": params.recurrent},
    }


def vanilla_gradients(gradients: Any) -> jaxrnn.VanillaParams:
    """Return jaxrnn's gradients for Haiku's."""
    inner, outer = gradients["vanilla_rnn/linear"], gradients["vanilla_rnn/linear_1"]
    return jaxrnn.VanillaParams(inner["w"], outer["w"], inner["b"])


def swap_f_and_g(gates: jax.Array) -> jax.Array:
    """Return the gates i, f, g, o as i, g, f, o, or back."""
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    return jnp.concatenate([i, g, f, o], axis=-1)


def lstm_params(params: jaxrnn.LSTMParams) -> dict:
    """Return Haiku's parameters for jaxrnn's."""
    H = params.recurrent.shape[0]
    weights = jnp.concatenate([params.input, params.recurrent])
    bias = params.bias.at[H : 2 * H].add(-1)
    return {"lstm/linear": {"w": swap_f_and_g(weights), "b": swap_f_and_g(bias)}}


def lstm_gradients(gradients: Any) -> jaxrnn.LSTMParams:
    """Return jaxrnn's gradients for Haiku's."""
    weights, bias = swap_f_and_g(gradients["lstm/linear"]["w"]), swap_f_and_g(gradients["lstm/linear"]["b"])
    D = len(weights) - bias.shape[-1] // 4
    return jaxrnn.LSTMParams(weights[:D], weights[D:], bias)


def update_first(gates: jax.Array) -> jax.Array:
    """Return the gates r, u, n as -u, r, n."""
    r, u, n = jnp.split(gates, 3, axis=-1)
    return jnp.concatenate([-u, r, n], axis=-1)


def reset_first(gates: jax.Array) -> jax.Array:
    """Return the gates -u, r, n as r, u, n."""
    z, r, n = jnp.split(gates, 3, axis=-1)
    return jnp.concatenate([r, -z, n], axis=-1)


def gru_params(params: jaxrnn.GRUParams) -> dict:
    """Return Haiku's parameters for jaxrnn's."""
    w_i, w_h, b = map(update_first, params[:3])
    return {"gru": {"w_i": w_i, "w_h": w_h, "b": b}}


def gru_gradients(gradients: Any) -> jaxrnn.GRUParams:
    """Return jaxrnn's gradients for Haiku's."""
    w_i, w_h, b = (reset_first(gradients["gru"][name]) for name in ("w_i", "w_h", "b"))
    return jaxrnn.GRUParams(w_i, w_h, b, None)


LAYOUTS = {
    "vanilla": (vanilla_params, vanilla_gradients),
    "lstm": (lstm_params, lstm_gradients),
    "gru": (gru_params, gru_gradients),
}
