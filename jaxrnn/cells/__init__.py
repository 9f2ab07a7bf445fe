"""The cells, one file each: parameters, equations, step and hand-derived backward."""

from jaxrnn.cells.gru import GRUParams, gru
from jaxrnn.cells.learned import LearnedCarryParams, learned_carry
from jaxrnn.cells.lstm import LSTMCarry, LSTMParams, lstm
from jaxrnn.cells.lstm_records import LSTMVariantParams
from jaxrnn.cells.lstm_variant import lstm_variant
from jaxrnn.cells.split import split_cell
from jaxrnn.cells.vanilla import VanillaParams, vanilla

__all__ = [
    "GRUParams",
    "LSTMCarry",
    "LSTMParams",
    "LSTMVariantParams",
    "LearnedCarryParams",
    "VanillaParams",
    "gru",
    "learned_carry",
    "lstm",
    "lstm_variant",
    "split_cell",
    "vanilla",
]
