"""The cells, one file each: parameters, equations, step and hand-derived backward."""

from jaxrnn.cells.all_carries import all_carries
from jaxrnn.cells.gru import GRUParams, gru
from jaxrnn.cells.learned import LearnedCarryParams, learned_carry
from jaxrnn.cells.lstm import LSTMCarry, LSTMParams, lstm
from jaxrnn.cells.split import split_cell
from jaxrnn.cells.vanilla import VanillaParams, vanilla
from jaxrnn.cells.variational_dropout import variational_dropout
from jaxrnn.cells.zoneout import zoneout

__all__ = [
    "GRUParams",
    "LSTMCarry",
    "LSTMParams",
    "LearnedCarryParams",
    "VanillaParams",
    "all_carries",
    "gru",
    "learned_carry",
    "lstm",
    "split_cell",
    "vanilla",
    "variational_dropout",
    "zoneout",
]
