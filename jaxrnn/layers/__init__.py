"""Layers: whole sequences, in a form for training and one for streaming that agree."""

from jaxrnn.layers.dense import DenseParams, dense
from jaxrnn.layers.dropout import dropout
from jaxrnn.layers.embedding import EmbeddingParams, embedding
from jaxrnn.layers.recurrent import recurrent
from jaxrnn.layers.serial import serial
from jaxrnn.layers.weight_dropout import weight_dropout

__all__ = ["DenseParams", "EmbeddingParams", "dense", "dropout", "embedding", "recurrent", "serial", "weight_dropout"]
