"""Recurrent networks as pure functions: cells, an unroll, and backpropagation through time three ways."""

from jaxrnn import initializers
from jaxrnn.bptt import Gradients, bptt
from jaxrnn.cells import (
    GRUParams,
    LearnedCarryParams,
    LSTMCarry,
    LSTMParams,
    VanillaParams,
    gru,
    learned_carry,
    lstm,
    split_cell,
    vanilla,
)
from jaxrnn.types import Adjoint, Cell, Layer
from jaxrnn.unrolling import unroll

__all__ = [
    "Adjoint",
    "Cell",
    "GRUParams",
    "Gradients",
    "LSTMCarry",
    "LSTMParams",
    "Layer",
    "LearnedCarryParams",
    "VanillaParams",
    "bptt",
    "gru",
    "initializers",
    "learned_carry",
    "lstm",
    "split_cell",
    "unroll",
    "vanilla",
]
