"""Recurrent networks as pure functions: cells, an unroll, and backpropagation through time three ways."""

from jaxrnn import attention, decoding, initializers, losses, training
from jaxrnn.bptt import Gradients, bptt
from jaxrnn.cells import (
    AttendingParams,
    GRUParams,
    LearnedCarryParams,
    LSTMCarry,
    LSTMParams,
    VanillaParams,
    attending,
    gru,
    learned_carry,
    lstm,
    split_cell,
    vanilla,
    with_memory,
)
from jaxrnn.checking import GradientCheck, check_gradients
from jaxrnn.layers import (
    DenseParams,
    EmbeddingParams,
    TransformerCarry,
    TransformerParams,
    dense,
    dropout,
    embedding,
    recurrent,
    serial,
    transformer,
)
from jaxrnn.types import Adjoint, Cell, Layer
from jaxrnn.unrolling import unroll

__all__ = [
    "Adjoint",
    "AttendingParams",
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
    "TransformerCarry",
    "TransformerParams",
    "VanillaParams",
    "attending",
    "attention",
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
    "transformer",
    "unroll",
    "vanilla",
    "with_memory",
]
