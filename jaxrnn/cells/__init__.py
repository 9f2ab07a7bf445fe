"""The cells, one file each: parameters, equations, step and hand-derived backward."""

from jaxrnn.cells.all_carries import all_carries
from jaxrnn.cells.attending import AttendingParams, attending, with_memory
from jaxrnn.cells.conv_gru import ConvGRUParams, conv_gru
from jaxrnn.cells.conv_lstm import ConvLSTMParams, conv_lstm
from jaxrnn.cells.conv_vanilla import ConvVanillaParams, conv_vanilla
from jaxrnn.cells.cornn import CoRNNCarry, CoRNNParams, cornn
from jaxrnn.cells.gru import GRUParams, gru
from jaxrnn.cells.indrnn import IndRNNParams, indrnn
from jaxrnn.cells.intersection import IntersectionParams, intersection
from jaxrnn.cells.irnn import irnn
from jaxrnn.cells.janet import JANETParams, janet
from jaxrnn.cells.leaky import LeakyParams, leaky
from jaxrnn.cells.learned import LearnedCarryParams, learned_carry
from jaxrnn.cells.lem import LEMCarry, LEMParams, lem
from jaxrnn.cells.lstm import LSTMCarry, LSTMParams, lstm
from jaxrnn.cells.lstm_records import LSTMVariantParams
from jaxrnn.cells.lstm_variant import lstm_variant
from jaxrnn.cells.minimal_gated import MinimalGatedParams, minimal_gated
from jaxrnn.cells.normalized_vanilla import NormalizedVanillaParams, normalized_vanilla
from jaxrnn.cells.residual_vanilla import residual_vanilla
from jaxrnn.cells.split import split_cell
from jaxrnn.cells.ugrnn import UGRNNParams, ugrnn
from jaxrnn.cells.vanilla import VanillaParams, vanilla
from jaxrnn.cells.variational_dropout import variational_dropout
from jaxrnn.cells.zoneout import zoneout

__all__ = [
    "AttendingParams",
    "CoRNNCarry",
    "CoRNNParams",
    "ConvGRUParams",
    "ConvLSTMParams",
    "ConvVanillaParams",
    "GRUParams",
    "IndRNNParams",
    "IntersectionParams",
    "JANETParams",
    "LEMCarry",
    "LEMParams",
    "LSTMCarry",
    "LSTMParams",
    "LSTMVariantParams",
    "LeakyParams",
    "LearnedCarryParams",
    "MinimalGatedParams",
    "NormalizedVanillaParams",
    "UGRNNParams",
    "VanillaParams",
    "all_carries",
    "attending",
    "conv_gru",
    "conv_lstm",
    "conv_vanilla",
    "cornn",
    "gru",
    "indrnn",
    "intersection",
    "irnn",
    "janet",
    "leaky",
    "learned_carry",
    "lem",
    "lstm",
    "lstm_variant",
    "minimal_gated",
    "normalized_vanilla",
    "residual_vanilla",
    "split_cell",
    "ugrnn",
    "vanilla",
    "variational_dropout",
    "with_memory",
    "zoneout",
]
