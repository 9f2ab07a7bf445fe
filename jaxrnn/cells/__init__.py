"""The cells, one file each: parameters, equations, step and hand-derived backward."""

from jaxrnn.cells.conv_gru import ConvGRUParams, conv_gru
from jaxrnn.cells.conv_lstm import ConvLSTMParams, conv_lstm
from jaxrnn.cells.conv_vanilla import ConvVanillaParams, conv_vanilla
from jaxrnn.cells.gru import GRUParams, gru
from jaxrnn.cells.learned import LearnedCarryParams, learned_carry
from jaxrnn.cells.lstm import LSTMCarry, LSTMParams, lstm
from jaxrnn.cells.split import split_cell
from jaxrnn.cells.vanilla import VanillaParams, vanilla

__all__ = [
    "ConvGRUParams",
    "ConvLSTMParams",
    "ConvVanillaParams",
    "GRUParams",
    "LSTMCarry",
    "LSTMParams",
    "LearnedCarryParams",
    "VanillaParams",
    "conv_gru",
    "conv_lstm",
    "conv_vanilla",
    "gru",
    "learned_carry",
    "lstm",
    "split_cell",
    "vanilla",
]
