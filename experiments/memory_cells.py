"""The cells that `experiments.long_memory` compares, by name."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jaxrnn
from jaxrnn import initializers
from jaxrnn.types import Array


class Contender(NamedTuple):
    """A cell and how it starts: in words, and ``make(inputs, hidden, steps) -> Cell``."""

    words: str
    make: Callable[[int, int, int], jaxrnn.Cell]


def chrono(cell: jaxrnn.Cell, steps: int, keeps: int, admits: int | None = None) -> jaxrnn.Cell:
    """Return ``cell`` with a start that forgets over 1 to T steps, unit by unit: σ(log u) keeps a memory for u.

    The bias of the gate that keeps the memory is log u, u from U(1, T - 1), and that of the one that admits to
    it, where there is one, is -log u. Gates are given by their places in ``params.bias``.

    Source: Tallec and Ollivier, "Can Recurrent Neural Networks Warp Time?" (2018).
    """

    def init(key: Array) -> Any:
        cell_key, chrono_key = jax.random.split(key)
        params = cell.init(cell_key)
        hidden = params.recurrent.shape[0]
        bias = jnp.log(jax.random.uniform(chrono_key, (hidden,), minval=1.0, maxval=max(steps - 1.0, 2.0)))
        gates = params.bias.reshape(-1, hidden).at[keeps].set(bias)
        return params._replace(bias=(gates if admits is None else gates.at[admits].set(-bias)).reshape(-1))

    return cell._replace(init=init)


CONTENDERS = {
    "vanilla-scaled": Contender(
        "vanilla, N(0, 1/H)", lambda D, H, T: jaxrnn.vanilla(D, H, recurrent_init=initializers.fan_in())
    ),
    "vanilla-orthogonal": Contender("vanilla, orthogonal", lambda D, H, T: jaxrnn.vanilla(D, H)),
    "vanilla-identity": Contender("vanilla, identity and ReLU", lambda D, H, T: jaxrnn.irnn(D, H)),
    "linear-orthogonal": Contender("linear, orthogonal", lambda D, H, T: jaxrnn.vanilla(D, H, activation="identity")),
    "residual": Contender("residual vanilla, ρ = 1/T", lambda D, H, T: jaxrnn.residual_vanilla(D, H, scale=1 / T)),
    "lstm-bias-0": Contender("LSTM, forget bias 0", lambda D, H, T: jaxrnn.lstm(D, H, forget_bias=0.0)),
    "lstm-bias-1": Contender("LSTM, forget bias 1", lambda D, H, T: jaxrnn.lstm(D, H)),
    "lstm-chrono": Contender("LSTM, chrono", lambda D, H, T: chrono(jaxrnn.lstm(D, H), T, keeps=1, admits=0)),
    "lstm-peephole": Contender("LSTM, peepholes", lambda D, H, T: jaxrnn.lstm_variant(D, H, peephole=True)),
    "lstm-coupled": Contender("LSTM, coupled gates", lambda D, H, T: jaxrnn.lstm_variant(D, H, coupled=True)),
    "gru": Contender("GRU", lambda D, H, T: jaxrnn.gru(D, H)),
    "gru-chrono": Contender("GRU, chrono", lambda D, H, T: chrono(jaxrnn.gru(D, H), T, keeps=1)),
    "minimal-gated": Contender("minimal gated unit", lambda D, H, T: jaxrnn.minimal_gated(D, H)),
    "ugrnn": Contender("update gate RNN", lambda D, H, T: jaxrnn.ugrnn(D, H)),
    "janet": Contender("JANET, chrono", lambda D, H, T: chrono(jaxrnn.janet(D, H), T, keeps=0)),
    "indrnn": Contender("IndRNN", lambda D, H, T: jaxrnn.indrnn(D, H, bound=2 ** (1 / T))),
    "cornn": Contender("coRNN", lambda D, H, T: jaxrnn.cornn(D, H)),
    "lem": Contender("LEM", lambda D, H, T: jaxrnn.lem(D, H)),
}
