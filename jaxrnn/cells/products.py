"""The products that the cells share, with their transposes written out."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.sharding import ONE_THREAD, on_several_devices
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


def recurrent_product(h: Array, kernel: Array | tuple[Array, ...], bias: Array | None = None) -> Array:
    """Return h U + b in the dtype of the carry; weights of a lower precision are multiplied as they are.

    Of a kernel `for_a_loop`, pieces are multiplied one by one, and columns left out that b does not have.
    """
    pieces = kernel if isinstance(kernel, tuple) else (kernel,)
    products = [jnp.matmul(h.astype(piece.dtype), piece, preferred_element_type=h.dtype) for piece in pieces]
    a = products[0] if len(products) == 1 else jnp.concatenate(products, axis=-1)
    return a if bias is None else biased(a[..., : bias.shape[0]], bias)


PAGE = 4096  # bytes; what lies a multiple of it apart shares its places in the first cache
SPACE = 128  # bytes; two lines of the cache
FEW_ROWS = 48  # of h; with more, a product reads a kernel in an order of its own, and all this only costs
NARROW = 64  # columns of a piece; with fewer, the products take longer than the one they stand for
TOGETHER = 32  # columns; a product computes so many at once, and takes as long for a part of them


def for_a_loop(kernel: Array, h: Array) -> Array | tuple[Array, ...]:
    """Return ``kernel [K, N]`` as h U in a loop is fastest on CPUs: as it is, in pieces side by side, or spaced.

    In pieces where several devices run the loop at once, and XLA would share the product among the threads of all: a
    step waits for those longer than it takes.
    Spaced, with columns of zeros after it, where its rows begin at multiples of a page: the lines that a product
    reads together drive each other out of the cache.
    """
    if checks.symbolic(h.size) or not 1 < h.size // h.shape[-1] <= FEW_ROWS or jax.default_backend() != "cpu":
        return kernel
    (height, width), size = kernel.shape, kernel.dtype.itemsize
    columns = ONE_THREAD // height // TOGETHER * TOGETHER
    if on_several_devices(h) and width > columns >= NARROW:
        return tuple(jnp.split(kernel, tuple(range(columns, width, columns)), axis=1))
    return kernel if width * size % PAGE else jnp.pad(kernel, ((0, 0), (0, SPACE // size)))


def diagonal_product(x: Array, diagonal: Array) -> Array:
    """Return d ⊙ x, the product with the diagonal matrix of d, in the dtype of x; ``x [..., H]``, ``diagonal [H]``."""
    return x * diagonal.astype(x.dtype).reshape((1,) * (x.ndim - 1) + diagonal.shape)


def diagonal_gradient(x: Array, dy: Array) -> Array:
    """Return dd = Σ x ⊙ dy of y = d ⊙ x, over all rows; ``x [..., H]``, ``dy [..., H]``, ``dd [H]``."""
    return bias_gradient(x * dy)


def zero_carry(shape: tuple[int, ...], params_dtype: Any, carry_dtype: Any) -> Array:
    """Return zeros in ``carry_dtype``, or in the dtype of the parameters where that is None."""
    return jnp.zeros(shape, params_dtype if carry_dtype is None else carry_dtype)
