"""Layers one input at a time."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import jaxrnn


def step_of(layer: jaxrnn.Layer) -> Callable[..., Any]:
    """Return the layer's step, which it must have."""
    assert layer.step is not None
    return layer.step


def stepwise(layer: jaxrnn.Layer, params: Any, xs: Any, carry: Any, resets: Any = None) -> tuple[Any, np.ndarray]:
    """Return what `Layer.step` gives, one input after another, in the form of `Layer.apply`.

    Steps are taken apart and put together in NumPy, for which nothing is compiled.
    """
    step = jax.jit(step_of(layer))
    ys = []
    for t, x in enumerate(np.asarray(xs)):
        carry, y = step(params, carry, x, reset=None if resets is None else np.asarray(resets)[t])
        ys.append(y)
    return carry, np.stack(ys)
