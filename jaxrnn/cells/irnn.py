"""The IRNN of Le, Jaitly and Hinton (2015): rectified units that start by copying their state.

    h_t = max(0, x_t W + b + h_{t-1} U)        with U = s I, b = 0 and a small W at the start

It is `vanilla` with another start; the formulas of its gradient are there.
"""

from typing import Any

import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn import initializers as init_with
from jaxrnn.cells.vanilla import vanilla
from jaxrnn.types import Cell


def irnn(
    input_size: int,
    hidden_size: int,
    *,
    scale: float = 1.0,
    input_init: init_with.Initializer = init_with.normal(0.001),
    bias_init: init_with.Initializer = init_with.zeros,
    dtype: Any = jnp.float32,
    carry_dtype: Any = None,
) -> Cell:
    """Return the IRNN, `vanilla` with h_t = max(0, x_t W + b + h_{t-1} U) and U = s I at the start.

    Args:
        input_size: D, the features of ``xs [T, *B, D]``.
        hidden_size: H, the features of the carry ``h [*B, H]`` and of ``ys [T, *B, H]``.
        scale: s; below 1 where what is long past should matter less (the paper takes 0.01 for speech).
        input_init, bias_init: `jaxrnn.initializers` for W and b.
        dtype: of the parameters, and so of inputs and outputs.
        carry_dtype: of h; that of the parameters unless given.

    Raises:
        ValueError: a size below 1, a scale that is not finite.
        TypeError: an argument of the wrong type.

    Source: Le, Jaitly and Hinton, "A Simple Way to Initialize Recurrent Networks of Rectified Linear
    Units" (2015).

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.irnn(3, 2)
        >>> cell.init(jax.random.key(0)).recurrent.tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    return vanilla(
        input_size,
        hidden_size,
        activation="relu",
        input_init=input_init,
        recurrent_init=init_with.identity(checks.number("scale", scale)),
        bias_init=bias_init,
        dtype=dtype,
        carry_dtype=carry_dtype,
    )
