"""The vanilla recurrent network with layer normalisation of Ba, Kiros and Hinton (2016).

    a_t = x_t W + h_{t-1} U
    n_t = s_t (a_t - μ_t)              s_t = 1 / √(mean((a_t - μ_t)²) + ε),   μ_t = mean(a_t)
    h_t = φ(p_t)                       p_t = γ ⊙ n_t + b

Backward, with dh_t the whole cotangent of h_t:

    dp_t     = dh_t ⊙ φ'(p_t)
    dn_t     = dp_t ⊙ γ
    da_t     = s_t (dn_t - mean(dn_t) - n_t mean(dn_t ⊙ n_t))
    dh_{t-1} = da_t Uᵀ
    dW = Σ x_tᵀ da_t,   dU = Σ h_{t-1}ᵀ da_t,   dγ = Σ n_t ⊙ dp_t,   db = Σ dp_t,   dx_t = da_t Wᵀ
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn import initializers as init_with
from jaxrnn.cells.activations import resolve_activation
from jaxrnn.cells.normalization import Normalized, gain_and_bias, layer_norm_backward, layer_norm_forward
from jaxrnn.cells.products import (
    affine,
    bias_gradient,
    diagonal_gradient,
    diagonal_product,
    recurrent_product,
    weight_gradient,
    zero_carry,
)
from jaxrnn.types import Adjoint, Array, Cell, recorded


class NormalizedVanillaParams(NamedTuple):
    """Weights of `normalized_vanilla`: ``input [D, H]``, ``recurrent [H, H]``, ``gain [H]``, ``bias [H]``."""

    input: Array
    recurrent: Array
    gain: Array
    bias: Array


class Parts(NamedTuple):
    """What depends on the parameters, and its cotangents: a = h U and p = γ ⊙ n + b, both ``[*B, H]``."""

    a: Array
    p: Array


class Saved(NamedTuple):
    """What the backward step needs: n and s, and what φ' is computed from."""

    normalized: Normalized
    kept: Array


@recorded
def normalized_vanilla(
    input_size: int,
    hidden_size: int,
    *,
    activation: str | Callable | tuple[Callable, Callable] = "tanh",
    epsilon: float = 1e-5,
    input_init: init_with.Initializer = init_with.fan_in(),
    recurrent_init: init_with.Initializer = init_with.orthogonal(),
    gain_init: init_with.Initializer = init_with.constant(1.0),
    bias_init: init_with.Initializer = init_with.zeros,
    dtype: Any = jnp.float32,
    carry_dtype: Any = None,
) -> Cell:
    """Return the layer-normalised vanilla cell, h_t = φ(γ ⊙ LN(x_t W + h_{t-1} U) + b), with y_t = h_t.

    LN(a) = (a - mean(a)) / √(var(a) + ε) over the H features, at each step and for each sequence apart.

    Args:
        input_size: D, the features of ``xs [T, *B, D]``.
        hidden_size: H, the features of the carry ``h [*B, H]`` and of ``ys [T, *B, H]``.
        activation: φ, as in `vanilla`.
        epsilon: ε, above 0.
        input_init, recurrent_init, gain_init, bias_init: `jaxrnn.initializers` for W, U, γ and b.
        dtype: of the parameters, and so of inputs and outputs.
        carry_dtype: of h; that of the parameters unless given.

    Raises:
        ValueError: a size below 1, an ε that is not above 0, an activation of unknown name.
        TypeError: an argument of the wrong type.

    Source: Ba, Kiros and Hinton, "Layer Normalization" (2016).

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.normalized_vanilla(3, 5)
        >>> params = cell.init(jax.random.key(0))
        >>> h, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((7, 2, 3)))
        >>> h.shape, ys.shape
        ((2, 5), (7, 2, 5))
    """
    checks.size("input_size", input_size)
    checks.size("hidden_size", hidden_size)
    checks.positive("epsilon", epsilon)
    checks.functions(input_init=input_init, recurrent_init=recurrent_init, gain_init=gain_init, bias_init=bias_init)
    checks.floating(dtype=dtype, carry_dtype=dtype if carry_dtype is None else carry_dtype)
    phi = resolve_activation(activation)
    shapes = {
        "input": (input_size, hidden_size),
        "recurrent": (hidden_size, hidden_size),
        "gain": (hidden_size,),
        "bias": (hidden_size,),
    }
    call = f"normalized_vanilla({input_size}, {hidden_size})"

    def init(key: Array) -> NormalizedVanillaParams:
        checks.key("key", key)
        inits = (input_init, recurrent_init, gain_init, bias_init)
        keys = jax.random.split(key, len(inits))
        return NormalizedVanillaParams(
            *(draw(k, shape, dtype) for draw, k, shape in zip(inits, keys, shapes.values(), strict=True))
        )

    def initial_carry(params: NormalizedVanillaParams, batch_shape: tuple[int, ...] = ()) -> Array:
        checks.parameters(params, NormalizedVanillaParams, shapes, call)
        checks.batch(batch_shape)
        return zero_carry((*batch_shape, hidden_size), params.recurrent.dtype, carry_dtype)

    def inputs(params: NormalizedVanillaParams, xs: Array, key: Array | None = None) -> Array:
        del key
        checks.parameters(params, NormalizedVanillaParams, shapes, call)
        checks.features("xs", xs, input_size, params.input.dtype, call)
        return affine(xs, params.input, None)

    def step(params: NormalizedVanillaParams, h: Array, z: Array) -> tuple[Array, Array]:
        h, y, _, _ = forward(params, h, z)
        return h, y

    def forward(params: NormalizedVanillaParams, h_before: Array, z: Array) -> tuple[Array, Array, Any, Saved]:
        normalized = layer_norm_forward(
            z.astype(h_before.dtype) + recurrent_product(h_before, params.recurrent), epsilon
        )
        p = gain_and_bias(normalized.y, params.gain, params.bias)
        h = phi.function(p)
        return h, h.astype(z.dtype), (h_before, normalized.y), Saved(normalized, phi.keep(p, h))

    def transpose(params: NormalizedVanillaParams) -> tuple[Array, Array]:
        return params.recurrent.T, params.gain

    def backward(transposed: tuple[Array, Array], saved: Saved, dh: Array, dy: Array) -> tuple[Array, Array, Parts]:
        recurrent, gain = transposed
        dp = (dh + dy.astype(dh.dtype)) * phi.slope(saved.kept)
        da = layer_norm_backward(saved.normalized, diagonal_product(dp, gain))
        return recurrent_product(da, recurrent), da, Parts(da, dp)

    def product(params: NormalizedVanillaParams, operands: tuple[Array, Array]) -> Parts:
        h, n = operands
        return Parts(recurrent_product(h, params.recurrent), gain_and_bias(n, params.gain, params.bias))

    def gradients(
        params: NormalizedVanillaParams, xs: Array, operands: tuple[Array, Array], dzs: Array, das: Parts
    ) -> tuple[NormalizedVanillaParams, Array]:
        hs_before, ns = operands
        return NormalizedVanillaParams(
            input=weight_gradient(xs, dzs),
            recurrent=weight_gradient(hs_before, das.a),
            gain=diagonal_gradient(ns, das.p),
            bias=bias_gradient(das.p),
        ), dzs @ params.input.T

    return Cell(init, initial_carry, step, inputs, Adjoint(forward, transpose, backward, product, gradients))
