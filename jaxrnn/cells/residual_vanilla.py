"""The vanilla recurrent network as a residual one: each step adds to the state.

    a_t = x_t W + b + h_{t-1} U
    h_t = h_{t-1} + ρ φ(a_t)

Backward, with dh_t the whole cotangent of h_t:

    da_t     = ρ dh_t ⊙ φ'(a_t)
    dh_{t-1} = dh_t + da_t Uᵀ
    dW = Σ x_tᵀ da_t,   dU = Σ h_{t-1}ᵀ da_t,   db = Σ da_t,   dx_t = da_t Wᵀ
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn import initializers as init_with
from jaxrnn.cells.activations import resolve_activation
from jaxrnn.cells.products import affine_gradients, recurrent_product, weight_gradient
from jaxrnn.cells.vanilla import VanillaParams
from jaxrnn.cells.weights import weights
from jaxrnn.types import Adjoint, Array, Cell, recorded


@recorded
def residual_vanilla(
    input_size: int,
    hidden_size: int,
    *,
    scale: float = 1.0,
    activation: str | Callable | tuple[Callable, Callable] = "tanh",
    input_init: init_with.Initializer = init_with.fan_in(),
    recurrent_init: init_with.Initializer = init_with.orthogonal(),
    bias_init: init_with.Initializer = init_with.zeros,
    dtype: Any = jnp.float32,
    carry_dtype: Any = None,
) -> Cell:
    """Return the residual vanilla cell, h_t = h_{t-1} + ρ φ(x_t W + b + h_{t-1} U), with y_t = h_t.

    A step of Euler's method for dh/dt = φ(x W + b + h U), of length ρ: the identity carries h and its
    gradient through any number of steps.

    Args:
        input_size: D, the features of ``xs [T, *B, D]``.
        hidden_size: H, the features of the carry ``h [*B, H]`` and of ``ys [T, *B, H]``.
        scale: ρ, a constant; 1 over the number of steps keeps h of the size of φ.
        activation: φ, as in `vanilla`.
        input_init, recurrent_init, bias_init: `jaxrnn.initializers` for W, U and b.
        dtype: of the parameters, and so of inputs and outputs.
        carry_dtype: of h; that of the parameters unless given.

    Raises:
        ValueError: a size below 1, a scale that is not finite, an activation of unknown name.
        TypeError: an argument of the wrong type.

    Source: Liao and Poggio, "Bridging the Gaps Between Residual Learning, Recurrent Neural Networks and
    Visual Cortex" (2016).

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.residual_vanilla(3, 5, scale=0.1)
        >>> params = cell.init(jax.random.key(0))
        >>> h, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((7, 2, 3)))
        >>> h.shape, ys.shape
        ((2, 5), (7, 2, 5))
    """
    start = (input_size, hidden_size, input_init, recurrent_init, bias_init, dtype, carry_dtype)
    init, zeros, inputs = weights(VanillaParams, "residual_vanilla", (hidden_size,), *start)
    rho = checks.number("scale", scale)
    phi = resolve_activation(activation)

    def step(params: VanillaParams, h: Array, z: Array) -> tuple[Array, Array]:
        h, y, _, _ = forward(params, h, z)
        return h, y

    def forward(params: VanillaParams, h_before: Array, z: Array) -> tuple[Array, Array, Array, Array]:
        a = z.astype(h_before.dtype) + recurrent_product(h_before, params.recurrent)
        added = phi.function(a)
        h = h_before + rho * added
        return h, h.astype(z.dtype), h_before, phi.keep(a, added)

    def backward(transposed: Array, kept: Array, dh: Array, dy: Array) -> tuple[Array, Array, Array]:
        dh = dh + dy.astype(dh.dtype)
        da = rho * dh * phi.slope(kept)
        return dh + recurrent_product(da, transposed), da, da

    def gradients(
        params: VanillaParams, xs: Array, hs_before: Array, dzs: Array, das: Array
    ) -> tuple[VanillaParams, Array]:
        dinput, dbias, dxs = affine_gradients(xs, params.input, dzs)
        return VanillaParams(dinput, weight_gradient(hs_before, das), dbias), dxs

    adjoint = Adjoint(
        forward=forward,
        transpose=lambda params: params.recurrent.T,
        backward=backward,
        product=lambda params, hs_before: recurrent_product(hs_before, params.recurrent),
        gradients=gradients,
    )
    return Cell(init, zeros, step, inputs, adjoint)
