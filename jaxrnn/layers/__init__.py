"""Layers: whole sequences, in a form for training and one for streaming that agree."""

from jaxrnn.layers.dense import DenseParams, dense
from jaxrnn.layers.dropout import dropout
from jaxrnn.layers.embedding import EmbeddingParams, embedding
from jaxrnn.layers.recurrent import recurrent
from jaxrnn.layers.serial import serial
from jaxrnn.layers.transformer import TransformerCarry, TransformerParams, transformer

__all__ = [
    "DenseParams",
    "EmbeddingParams",
    "TransformerCarry",
    "TransformerParams",
    "dense",
    "dropout",
    "embedding",
    "recurrent",
    "serial",
    "transformer",
]
