"""The independently recurrent network of Li et al. (2018): each unit sees of the past only itself.

    h_t = φ(x_t W + b + u ⊙ h_{t-1})

Units mix between layers alone. Through T steps the gradient of a unit is scaled by u^T ∏ φ', so that |u| ≤ γ^(1/T)
bounds what it can grow to by γ.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn import initializers as init_with
from jaxrnn.cells.activations import elementwise
from jaxrnn.cells.products import affine, diagonal_product, zero_carry
from jaxrnn.cells.split import split_cell
from jaxrnn.types import Array, Cell, recorded


class IndRNNParams(NamedTuple):
    """Weights of `indrnn`: ``input [D, H]``, ``recurrent [H]``, ``bias [H]``."""

    input: Array
    recurrent: Array
    bias: Array


@recorded
def indrnn(
    input_size: int,
    hidden_size: int,
    *,
    bound: float = 1.0,
    activation: str | Callable | tuple[Callable, Callable] = "relu",
    input_init: init_with.Initializer = init_with.fan_in(),
    bias_init: init_with.Initializer = init_with.zeros,
    dtype: Any = jnp.float32,
    carry_dtype: Any = None,
) -> Cell:
    """Return the IndRNN cell, h_t = φ(x_t W + b + u ⊙ h_{t-1}), with y_t = h_t.

    Args:
        input_size: D, the features of ``xs [T, *B, D]``.
        hidden_size: H, the features of the carry ``h [*B, H]`` and of ``ys [T, *B, H]``.
        bound: u is drawn from U(0, bound). The paper takes 2^(1/T) for sequences of T steps, and clips u
            to it after every update too: ``jnp.clip(params.recurrent, -bound, bound)`` does.
        activation: φ, as in `vanilla`.
        input_init, bias_init: `jaxrnn.initializers` for W and b.
        dtype: of the parameters, and so of inputs and outputs.
        carry_dtype: of h; that of the parameters unless given.

    Raises:
        ValueError: a size below 1, a bound that is not above 0, an activation of unknown name.
        TypeError: an argument of the wrong type.

    Source: Li, Li, Cook, Zhu and Gao, "Independently Recurrent Neural Network (IndRNN)" (2018).

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.indrnn(3, 5, bound=2 ** (1 / 7))
        >>> params = cell.init(jax.random.key(0))
        >>> h, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((7, 2, 3)))
        >>> h.shape, ys.shape
        ((2, 5), (7, 2, 5))
    """
    checks.size("input_size", input_size)
    checks.size("hidden_size", hidden_size)
    checks.positive("bound", bound)
    checks.functions(input_init=input_init, bias_init=bias_init)
    checks.floating(dtype=dtype, carry_dtype=dtype if carry_dtype is None else carry_dtype)
    phi = elementwise(activation)
    shapes = {"input": (input_size, hidden_size), "recurrent": (hidden_size,), "bias": (hidden_size,)}
    call = f"indrnn({input_size}, {hidden_size})"

    def init(key: Array) -> IndRNNParams:
        checks.key("key", key)
        input_key, recurrent_key, bias_key = jax.random.split(key, 3)
        return IndRNNParams(
            input=input_init(input_key, shapes["input"], dtype),
            recurrent=jax.random.uniform(recurrent_key, shapes["recurrent"], dtype, maxval=bound),
            bias=bias_init(bias_key, shapes["bias"], dtype),
        )

    def initial_carry(params: IndRNNParams, batch_shape: tuple[int, ...] = ()) -> Array:
        checks.parameters(params, IndRNNParams, shapes, call)
        checks.batch(batch_shape)
        return zero_carry((*batch_shape, hidden_size), params.recurrent.dtype, carry_dtype)

    def inputs(params: IndRNNParams, xs: Array, key: Array | None = None) -> Array:
        del key
        checks.parameters(params, IndRNNParams, shapes, call)
        checks.features("xs", xs, input_size, params.input.dtype, call)
        return affine(xs, params.input, params.bias)

    def recur(params: IndRNNParams, h: Array) -> Array:
        return diagonal_product(h, params.recurrent)

    def update(h: Array, z: Array, a: Array) -> tuple[Array, Array]:
        del h
        h = phi(z.astype(a.dtype) + a)
        return h, h.astype(z.dtype)

    return split_cell(init, initial_carry, recur, update, inputs=inputs)
