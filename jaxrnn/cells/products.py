"""The products that the cells share, with their transposes written out."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.types import Array


def affine(x: Array, kernel: Array, bias: Array | None = None) -> Array:
    """Return x W + b over the last axis; ``x [..., D]``, ``kernel [D, H]``, ``bias [H]`` or None."""
    # Of matrices, as its transpose then is: with two axes to contract, XLA for CPUs transposes dy in memory.
    return biased((rows(x) @ kernel).reshape(*x.shape[:-1], kernel.shape[-1]), bias)


def biased(y: Array, bias: Array | None) -> Array:
    """Return y + b in the dtype of y; ``y [..., H]``, ``bias [H]`` or None."""
    return y if bias is None else y + bias.astype(y.dtype).reshape((1,) * (y.ndim - 1) + bias.shape)


def affine_gradients(x: Array, kernel: Array, dy: Array) -> tuple[Array, Array, Array]:
    """Return (dW, db, dx) of y = x W + b: dW = Σ xᵀ dy, db = Σ dy, dx = dy Wᵀ, sums over all rows."""
    return weight_gradient(x, dy), bias_gradient(dy), dy @ kernel.T


def weight_gradient(x: Array, dy: Array) -> Array:
    """Return dW = Σ xᵀ dy: one product over all rows; ``x [..., D]``, ``dy [..., H]``, ``dW [D, H]``."""
    return rows(x).T @ rows(dy)


def bias_gradient(dy: Array) -> Array:
    """Return db = Σ dy over all rows; ``dy [..., H]``."""
    return rows(dy).sum(axis=0)


def rows(x: Array) -> Array:
    """Return ``x [..., D]`` as a matrix ``[rows, D]``."""
    return x.reshape(-1, x.shape[-1])


def recurrent_product(h: Array, kernel: Array, bias: Array | None = None) -> Array:
    """Return h U + b in the dtype of the carry; weights of a lower precision are multiplied as they are.

    Of a kernel that is `spaced`, the columns are left out that b does not have.
    """
    a = jnp.matmul(h.astype(kernel.dtype), kernel, preferred_element_type=h.dtype)
    return a if bias is None else biased(a[..., : bias.shape[0]], bias)


PAGE = 4096  # bytes; what lies a multiple of it apart shares its places in the first cache
SPACE = 128  # bytes; two lines of the cache
FEW_ROWS = 48  # of h; with more, a product reads a kernel in an order of its own, and columns of zeros only cost


def spaced(kernel: Array, h: Array) -> Array:
    """Return ``kernel [K, N]`` for h U in a loop, with columns of zeros after it where that is faster, on CPUs.

    Where the rows of a matrix begin at multiples of a page, the lines that a product reads together drive each
    other out of the cache.
    """
    width, size = kernel.shape[1], kernel.dtype.itemsize
    if width * size % PAGE or checks.symbolic(h.size) or jax.default_backend() != "cpu":
        return kernel
    return jnp.pad(kernel, ((0, 0), (0, SPACE // size))) if 1 < h.size // h.shape[-1] <= FEW_ROWS else kernel


def diagonal_product(x: Array, diagonal: Array) -> Array:
    """Return d ⊙ x, the product with the diagonal matrix of d, in the dtype of x; ``x [..., H]``, ``diagonal [H]``."""
    return x * diagonal.astype(x.dtype).reshape((1,) * (x.ndim - 1) + diagonal.shape)


def diagonal_gradient(x: Array, dy: Array) -> Array:
    """Return dd = Σ x ⊙ dy of y = d ⊙ x, over all rows; ``x [..., H]``, ``dy [..., H]``, ``dd [H]``."""
    return bias_gradient(x * dy)


def zero_carry(shape: tuple[int, ...], params_dtype: Any, carry_dtype: Any) -> Array:
    """Return zeros in ``carry_dtype``, or in the dtype of the parameters where that is None."""
    return jnp.zeros(shape, params_dtype if carry_dtype is None else carry_dtype)
