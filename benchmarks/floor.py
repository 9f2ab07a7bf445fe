"""The floor under every time: the products' arithmetic, done as fast as this machine multiplies matrices.

    forward:   x W and h U                                  2 T B (D + H) G H
    backward:  dz Uᵀ, dU = Σ hᵀ dz and dW = Σ xᵀ dz         2 T B (D + 2 H) G H

floating-point operations, G the cell's gates; xs is no parameter, so there is no dx.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.problems import GATES, PRECISIONS, Shape


def operations(kind: str, shape: Shape, mode: str) -> int:
    """Return the floating-point operations of the products in one call.

    Example:
        >>> operations("lstm", Shape(T=1, B=1, D=2, H=3), "forward")
        120
    """
    T, B, D, H = shape
    products = (D + H) if mode == "forward" else (D + H) + (D + 2 * H)
    return 2 * T * B * products * GATES[kind] * H


class Product(NamedTuple):
    """A matrix product to race with the rest, so that whatever slows them down slows it down alike."""

    call: Callable[[], Any]
    operations: int


@functools.cache
def square_product(dtype: str, size: int = 2048) -> Product:
    """Return the product of two square matrices on the default device, at the precision that is set."""
    a = jax.random.normal(jax.random.key(0), (size, size), PRECISIONS[dtype][0])
    product = jax.jit(jnp.matmul).lower(a, a).compile()
    return Product(lambda: product(a, a).block_until_ready(), 2 * size**3)


def milliseconds(kind: str, shape: Shape, mode: str, rate: float) -> float:
    """Return the time of the products alone at ``rate`` operations per second."""
    return 1e3 * operations(kind, shape, mode) / rate
