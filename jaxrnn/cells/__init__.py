"""The cells, one file each: parameters, equations, step and hand-derived backward."""

from jaxrnn.cells.attending import AttendingParams, attending, with_memory
from jaxrnn.cells.gru import GRUParams, gru
from jaxrnn.cells.learned import LearnedCarryParams, learned_carry
from jaxrnn.cells.lstm import LSTMCarry, LSTMParams, lstm
from jaxrnn.cells.split import split_cell
from jaxrnn.cells.vanilla import VanillaParams, vanilla

__all__ = [
    "AttendingParams",
    "GRUParams",
    "LSTMCarry",
    "LSTMParams",
    "LearnedCarryParams",
    "VanillaParams",
    "attending",
    "gru",
    "learned_carry",
    "lstm",
    "split_cell",
    "vanilla",
    "with_memory",
]
