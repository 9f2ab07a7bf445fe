"""The floor under every time: the products' arithmetic, done as fast as this machine multiplies matrices.

    forward:   x W and h U                                  2 T B (D + H) G H
    backward:  dz Uᵀ, dU = Σ hᵀ dz and dW = Σ xᵀ dz         2 T B (D + 2 H) G H

floating-point operations, G the cell's gates; xs is no parameter, so there is no dx.
"""

import functools
import time

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


@functools.cache
def peak(dtype: str, size: int = 2048, calls: int = 10) -> float:
    """Return operations per second of a square matrix product on the default device: the best of ``calls``."""
    a = jax.random.normal(jax.random.key(0), (size, size), PRECISIONS[dtype][0])
    product = jax.jit(jnp.matmul).lower(a, a).compile()
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        product(a, a).block_until_ready()
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times)


def milliseconds(kind: str, shape: Shape, mode: str, peak: float) -> float:
    """Return the time of the products alone at ``peak`` operations per second."""
    return 1e3 * operations(kind, shape, mode) / peak
