"""Parameters that no program had to be compiled for."""

from typing import Any

import jax
import numpy as np

from tests.registry import on_device


def params_of(model: Any, key: jax.Array) -> Any:
    """Draw parameters for a model or layer, none of them zero or alike; the key says which."""
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    shapes = jax.eval_shape(model.init, key)
    return jax.tree.map(lambda leaf: on_device(0.7 * rng.normal(size=leaf.shape), leaf.dtype), shapes)
