"""The products that the cells share, with their transposes written out."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from jaxrnn.cells.layouts import pays_to_turn, turned
from jaxrnn.types import Array


def affine(x: Array, kernel: Array, bias: Array | None = None) -> Array:
    """Return x W + b over the last axis; ``x [..., D]``, ``kernel [D, H]``, ``bias [H]`` or None."""
    # Of matrices, as its transpose then is: with two axes to contract, XLA for CPUs transposes dy in memory.
    return biased(matrix_product(rows(x), kernel).reshape(*x.shape[:-1], kernel.shape[-1]), bias)


def biased(y: Array, bias: Array | None) -> Array:
    """Return y + b in the dtype of y; ``y [..., H]``, ``bias [H]`` or None."""
    return y if bias is None else y + bias.astype(y.dtype).reshape((1,) * (y.ndim - 1) + bias.shape)


def affine_gradients(x: Array, kernel: Array, dy: Array) -> tuple[Array, Array, Array]:
    """Return (dW, db, dx) of y = x W + b: dW = Σ xᵀ dy, db = Σ dy, dx = dy Wᵀ, sums over all rows."""
    return weight_gradient(x, dy), bias_gradient(dy), dy @ kernel.T


def weight_gradient(x: Array, dy: Array) -> Array:
    """Return dW = Σ xᵀ dy: one product over all rows; ``x [..., D]``, ``dy [..., H]``, ``dW [D, H]``."""
    x, dy = rows(x), rows(dy)
    return (turned(x) if pays_to_turn(x, dy.shape[-1]) else x.T) @ dy


def bias_gradient(dy: Array) -> Array:
    """Return db = Σ dy over all rows; ``dy [..., H]``."""
    return rows(dy).sum(axis=0)


def rows(x: Array) -> Array:
    """Return ``x [..., D]`` as a matrix ``[rows, D]``."""
    return x.reshape(-1, x.shape[-1])


def matrix_product(x: Array, kernel: Array, dtype: Any = None) -> Array:
    """Return x W in ``dtype``, the product's own unless given; ``x [..., D]``, ``kernel [D, H]``."""
    if pays_to_turn(x, kernel.shape[-1]):
        return _product_of_many_rows(x, kernel, dtype)
    return jnp.matmul(x, kernel, preferred_element_type=dtype)


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _product_of_many_rows(x: Array, kernel: Array, dtype: Any) -> Array:
    """Return x W, with the derivative in W a product with xᵀ in an array of its own, and so its transpose Σ xᵀ dy."""
    return jnp.matmul(x, kernel, preferred_element_type=dtype)


@partial(_product_of_many_rows.defjvp, symbolic_zeros=True)
def _(dtype: Any, primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Array]:
    (x, kernel), (dx, dkernel) = primals, tangents
    product = partial(jnp.matmul, preferred_element_type=dtype)
    parts = []
    if not isinstance(dx, SymbolicZero):
        parts.append(product(dx, kernel))
    if not isinstance(dkernel, SymbolicZero):
        parts.append(product(turned(x).T, dkernel))
    return product(x, kernel), sum(parts[1:], parts[0])


def recurrent_product(h: Array, kernel: Array | tuple[Array, ...], bias: Array | None = None) -> Array:
    """Return h U + b in the dtype of the carry; weights of a lower precision are multiplied as they are.

    Of a kernel `for_a_loop`, pieces are multiplied one by one, and columns left out that b does not have.
    """
    pieces = kernel if isinstance(kernel, tuple) else (kernel,)
    products = [matrix_product(h.astype(piece.dtype), piece, h.dtype) for piece in pieces]
    a = products[0] if len(products) == 1 else jnp.concatenate(products, axis=-1)
    return a if bias is None else biased(a[..., : bias.shape[0]], bias)


def diagonal_product(x: Array, diagonal: Array) -> Array:
    """Return d ⊙ x, the product with the diagonal matrix of d, in the dtype of x; ``x [..., H]``, ``diagonal [H]``."""
    return x * diagonal.astype(x.dtype).reshape((1,) * (x.ndim - 1) + diagonal.shape)


def diagonal_gradient(x: Array, dy: Array) -> Array:
    """Return dd = Σ x ⊙ dy of y = d ⊙ x, over all rows; ``x [..., H]``, ``dy [..., H]``, ``dd [H]``."""
    return bias_gradient(x * dy)


def zero_carry(shape: tuple[int, ...], params_dtype: Any, carry_dtype: Any) -> Array:
    """Return zeros in ``carry_dtype``, or in the dtype of the parameters where that is None."""
    return jnp.zeros(shape, params_dtype if carry_dtype is None else carry_dtype)
