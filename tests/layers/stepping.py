"""Layers one input at a time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import jaxrnn


def step_of(layer: jaxrnn.Layer) -> Callable[..., Any]:
    """Return the layer's step, which it must have."""
    assert layer.step is not None
    return layer.step


def stepwise(layer: jaxrnn.Layer, params: Any, xs: jax.Array, carry: Any, resets: Any = None) -> tuple[Any, Any]:
    """Return what `Layer.step` gives, one input after another, in the form of `Layer.apply`."""
    step = jax.jit(step_of(layer))
    ys = []
    for t, x in enumerate(xs):
        carry, y = step(params, carry, x, reset=None if resets is None else resets[t])
        ys.append(y)
    return carry, jnp.stack(ys)
