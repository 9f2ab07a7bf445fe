"""Recurrent networks as pure functions: cells, an unroll, and backpropagation through time three ways."""

from jaxrnn import decoding, initializers, losses, training
from jaxrnn.bptt import Gradients, bptt
from jaxrnn.cells import (
    GRUParams,
    LearnedCarryParams,
    LSTMCarry,
    LSTMParams,
    VanillaParams,
    all_carries,
    gru,
    learned_carry,
    lstm,
    split_cell,
    vanilla,
    variational_dropout,
    zoneout,
)
from jaxrnn.checking import GradientCheck, check_gradients
from jaxrnn.layers import (
    DenseParams,
    EmbeddingParams,
    dense,
    dropout,
    embedding,
    recurrent,
    serial,
    weight_dropout,
)
from jaxrnn.types import Adjoint, Cell, Layer, Split
from jaxrnn.unrolling import unroll

__all__ = [
    "Adjoint",
    "Cell",
    "DenseParams",
    "EmbeddingParams",
    "GRUParams",
    "GradientCheck",
    "Gradients",
    "LSTMCarry",
    "LSTMParams",
    "Layer",
    "LearnedCarryParams",
    "Split",
    "VanillaParams",
    "all_carries",
    "bptt",
    "check_gradients",
    "decoding",
    "dense",
    "dropout",
    "embedding",
    "gru",
    "initializers",
    "learned_carry",
    "losses",
    "lstm",
    "recurrent",
    "serial",
    "split_cell",
    "training",
    "unroll",
    "vanilla",
    "variational_dropout",
    "weight_dropout",
    "zoneout",
]
