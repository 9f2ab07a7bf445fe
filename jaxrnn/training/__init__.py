"""Training: one compiled step, truncated BPTT, a loop that can be stopped at any moment and resumed exactly."""

from jaxrnn.training.checkpoints import CheckpointError, load, save
from jaxrnn.training.loop import Fit, NonFiniteLossError, fit
from jaxrnn.training.step import TrainState, gradient_descent, train_state, train_step
from jaxrnn.training.truncated import Window, Windows, truncated_loss, windows

__all__ = [
    "CheckpointError",
    "Fit",
    "NonFiniteLossError",
    "TrainState",
    "Window",
    "Windows",
    "fit",
    "gradient_descent",
    "load",
    "save",
    "train_state",
    "train_step",
    "truncated_loss",
    "windows",
]
