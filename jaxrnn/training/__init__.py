"""Training: one compiled step, on one device or all, truncated BPTT, a loop that can be stopped and resumed exactly."""

from jaxrnn.training.checkpoints import CheckpointError, load, save
from jaxrnn.training.data_parallel import data_parallel
from jaxrnn.training.loop import Fit, NonFiniteLossError, fit
from jaxrnn.training.memory import keep_memory
from jaxrnn.training.step import TrainState, gradient_descent, train_state, train_step
from jaxrnn.training.streams import stream_batches, stream_windows
from jaxrnn.training.truncated import Window, Windows, truncated_loss, windows

__all__ = [
    "CheckpointError",
    "Fit",
    "NonFiniteLossError",
    "TrainState",
    "Window",
    "Windows",
    "data_parallel",
    "fit",
    "gradient_descent",
    "keep_memory",
    "load",
    "save",
    "stream_batches",
    "stream_windows",
    "train_state",
    "train_step",
    "truncated_loss",
    "windows",
]
