"""Layers: whole sequences, in a form for training and one for streaming that agree."""

from jaxrnn.layers.bidirectional import Directions, bidirectional
from jaxrnn.layers.checkpointed import checkpointed
from jaxrnn.layers.dense import DenseParams, dense
from jaxrnn.layers.dense_connections import dense_connections
from jaxrnn.layers.dropout import dropout
from jaxrnn.layers.embedding import EmbeddingParams, embedding
from jaxrnn.layers.flatten import flatten
from jaxrnn.layers.highway import HighwayParams, highway
from jaxrnn.layers.layer_norm import LayerNormParams, layer_norm
from jaxrnn.layers.recurrent import recurrent
from jaxrnn.layers.residual import residual
from jaxrnn.layers.rms_norm import RMSNormParams, rms_norm
from jaxrnn.layers.serial import serial
from jaxrnn.layers.stacked import stacked
from jaxrnn.layers.time_reduction import time_reduction
from jaxrnn.layers.transformer import TransformerCarry, TransformerParams, transformer
from jaxrnn.layers.weight_dropout import weight_dropout

__all__ = [
    "DenseParams",
    "Directions",
    "EmbeddingParams",
    "HighwayParams",
    "LayerNormParams",
    "RMSNormParams",
    "TransformerCarry",
    "TransformerParams",
    "bidirectional",
    "checkpointed",
    "dense",
    "dense_connections",
    "dropout",
    "embedding",
    "flatten",
    "highway",
    "layer_norm",
    "recurrent",
    "residual",
    "rms_norm",
    "serial",
    "stacked",
    "time_reduction",
    "transformer",
    "weight_dropout",
]
