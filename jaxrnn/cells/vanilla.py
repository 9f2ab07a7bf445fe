"""The vanilla recurrent network of Elman, "Finding Structure in Time" (1990).

    a_t = x_t W + b + h_{t-1} U
    h_t = φ(a_t)

Backward, with dh_t the whole cotangent of h_t (its own output's and what comes from step t+1):

    da_t     = dh_t ⊙ φ'(a_t)
    dh_{t-1} = da_t Uᵀ
    dW = Σ x_tᵀ da_t,   dU = Σ h_{t-1}ᵀ da_t,   db = Σ da_t,   dx_t = da_t Wᵀ
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn import initializers as init_with
from jaxrnn.cells.activations import resolve_activation
from jaxrnn.cells.products import affine, affine_gradients, recurrent_product, weight_gradient, zero_carry
from jaxrnn.types import Adjoint, Array, Cell, Split, recorded


class VanillaParams(NamedTuple):
    """Weights of `vanilla`: ``input [D, H]``, ``recurrent [H, H]``, ``bias [H]``."""

    input: Array
    recurrent: Array
    bias: Array


@recorded
def vanilla(
    input_size: int,
    hidden_size: int,
    *,
    activation: str | Callable | tuple[Callable, Callable] = "tanh",
    input_init: init_with.Initializer = init_with.fan_in(),
    recurrent_init: init_with.Initializer = init_with.orthogonal(),
    bias_init: init_with.Initializer = init_with.zeros,
    dtype: Any = jnp.float32,
    carry_dtype: Any = None,
) -> Cell:
    """Return the vanilla (Elman) cell, h_t = φ(x_t W + b + h_{t-1} U), with y_t = h_t.

    Args:
        input_size: D, the features of ``xs [T, *B, D]``.
        hidden_size: H, the features of the carry ``h [*B, H]`` and of ``ys [T, *B, H]``.
        activation: φ: "tanh", "relu", "sigmoid", "identity", an elementwise callable (φ' is then its
            own derivative by autodiff, or the rule of its `jax.custom_vjp`), or a pair (φ, φ'), both functions of the
            pre-activation.
        input_init, recurrent_init, bias_init: `jaxrnn.initializers` for W, U and b.
        dtype: of the parameters, and so of inputs and outputs.
        carry_dtype: of h; that of the parameters unless given.

    Raises:
        ValueError: a size below 1, an activation of unknown name.
        TypeError: an argument of the wrong type.

    Source: Elman, "Finding Structure in Time" (1990).

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.vanilla(3, 5)
        >>> params = cell.init(jax.random.key(0))
        >>> h, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((7, 2, 3)))
        >>> h.shape, ys.shape
        ((2, 5), (7, 2, 5))
    """
    checks.size("input_size", input_size)
    checks.size("hidden_size", hidden_size)
    checks.functions(input_init=input_init, recurrent_init=recurrent_init, bias_init=bias_init)
    checks.floating(dtype=dtype, carry_dtype=dtype if carry_dtype is None else carry_dtype)
    phi = resolve_activation(activation)
    shapes = {"input": (input_size, hidden_size), "recurrent": (hidden_size, hidden_size), "bias": (hidden_size,)}
    call = f"vanilla({input_size}, {hidden_size})"

    def init(key: Array) -> VanillaParams:
        checks.key("key", key)
        input_key, recurrent_key, bias_key = jax.random.split(key, 3)
        return VanillaParams(
            input=input_init(input_key, shapes["input"], dtype),
            recurrent=recurrent_init(recurrent_key, shapes["recurrent"], dtype),
            bias=bias_init(bias_key, shapes["bias"], dtype),
        )

    def initial_carry(params: VanillaParams, batch_shape: tuple[int, ...] = ()) -> Array:
        checks.parameters(params, VanillaParams, shapes, call)
        checks.batch(batch_shape)
        return zero_carry((*batch_shape, hidden_size), params.recurrent.dtype, carry_dtype)

    def inputs(params: VanillaParams, xs: Array, key: Array | None = None) -> Array:
        del key
        checks.parameters(params, VanillaParams, shapes, call)
        checks.features("xs", xs, input_size, params.input.dtype, call)
        return affine(xs, params.input, params.bias)

    def recur(params: VanillaParams, h: Array) -> Array:
        return recurrent_product(h, params.recurrent)

    def update(h: Array, z: Array, a: Array) -> tuple[Array, Array]:
        h = phi.function(z.astype(h.dtype) + a)
        return h, h.astype(z.dtype)

    def step(params: VanillaParams, h: Array, z: Array) -> tuple[Array, Array]:
        return update(h, z, recur(params, h))

    def forward(params: VanillaParams, h_before: Array, z: Array) -> tuple[Array, Array, Array, Array]:
        a = z.astype(h_before.dtype) + recur(params, h_before)
        h = phi.function(a)
        return h, h.astype(z.dtype), h_before, phi.keep(a, h)

    def backward(transposed: Array, kept: Array, dh: Array, dy: Array) -> tuple[Array, Array, Array]:
        da = (dh + dy.astype(dh.dtype)) * phi.slope(kept)
        return recurrent_product(da, transposed), da, da

    def gradients(
        params: VanillaParams, xs: Array, hs_before: Array, dzs: Array, das: Array
    ) -> tuple[VanillaParams, Array]:
        dinput, dbias, dxs = affine_gradients(xs, params.input, dzs)
        return VanillaParams(dinput, weight_gradient(hs_before, das), dbias), dxs

    adjoint = Adjoint(
        forward=forward,
        transpose=lambda params: params.recurrent.T,
        backward=backward,
        product=recur,
        gradients=gradients,
    )
    return Cell(init, initial_carry, step, inputs, adjoint, split=Split(recur, update))
