"""Long expressive memory of Rusch et al. (2022): two states, each with steps of its own length.

The carry (h, c) is the paper's (y, z), and Δ, Δ̄ are its Δt and Δt̄; z here is what `Cell.inputs` gives.

    Δ_t = Δt σ(x_t W_1 + b_1 + h_{t-1} U_1)
    Δ̄_t = Δt σ(x_t W_2 + b_2 + h_{t-1} U_2)
    n_t = tanh(x_t W_n + b_n + h_{t-1} U_n)
    c_t = (1 - Δ_t) ⊙ c_{t-1} + Δ_t ⊙ n_t
    m_t = tanh(x_t W_m + b_m + c_t U_m)
    h_t = (1 - Δ̄_t) ⊙ h_{t-1} + Δ̄_t ⊙ m_t

Backward, with dh_t and dc_t the whole cotangents of h_t and c_t, and d1, d2, dn, dm those of the pre-activations:

    dm = dh_t ⊙ Δ̄_t ⊙ (1-m_t²),              d2 = dh_t ⊙ (m_t - h_{t-1}) ⊙ Δ̄_t (1 - Δ̄_t/Δt)
    dc_t += dm U_mᵀ
    dn = dc_t ⊙ Δ_t ⊙ (1-n_t²),              d1 = dc_t ⊙ (n_t - c_{t-1}) ⊙ Δ_t (1 - Δ_t/Δt)
    dc_{t-1} = dc_t ⊙ (1-Δ_t),               dh_{t-1} = dh_t ⊙ (1-Δ̄_t) + [d1, d2, dn] U_12nᵀ
    dz = [d1, d2, dn, dm];   dW = Σ x_tᵀ dz,   db = Σ dz,   dx_t = dz Wᵀ
    dU = Σ [h_{t-1}ᵀ d1, h_{t-1}ᵀ d2, h_{t-1}ᵀ dn, c_tᵀ dm]
"""

from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn import initializers as init_with
from jaxrnn.cells.gates import gates
from jaxrnn.cells.products import affine_gradients, recurrent_product, weight_gradient
from jaxrnn.cells.weights import weights
from jaxrnn.types import Adjoint, Array, Cell, recorded


class LEMParams(NamedTuple):
    """Weights of `lem`, 1, 2, n, m side by side: ``input [D, 4H]``, ``recurrent [H, 4H]``, ``bias [4H]``."""

    input: Array
    recurrent: Array
    bias: Array


class LEMCarry(NamedTuple):
    """State of `lem`: the output ``h [*B, H]`` and the memory ``c [*B, H]``."""

    h: Array
    c: Array


class Saved(NamedTuple):
    """What the backward step needs of a step: [s_1, s_2, n, m] ``[*B, 4H]``, with Δ = Δt s; and the carry it took."""

    gates: Array
    before: LEMCarry


@recorded
def lem(
    input_size: int,
    hidden_size: int,
    *,
    dt: float = 1.0,
    input_init: init_with.Initializer = init_with.fan_in(),
    recurrent_init: init_with.Initializer = init_with.orthogonal(),
    bias_init: init_with.Initializer = init_with.zeros,
    dtype: Any = jnp.float32,
    carry_dtype: Any = None,
) -> Cell:
    """Return the LEM cell: c_t = (1 - Δ) ⊙ c_{t-1} + Δ ⊙ n and h_t = (1 - Δ̄) ⊙ h_{t-1} + Δ̄ ⊙ m, with y_t = h_t.

    The steps are [Δ, Δ̄] = Δt σ(x_t W_12 + b_12 + h_{t-1} U_12), the candidates
    n = tanh(x_t W_n + b_n + h_{t-1} U_n) and m = tanh(x_t W_m + b_m + c_t U_m).

    Args:
        input_size: D, the features of ``xs [T, *B, D]``.
        hidden_size: H; the carry is ``LEMCarry(h [*B, H], c [*B, H])``, and ``ys [T, *B, H]``.
        dt: Δt, above 0, the longest step.
        input_init, recurrent_init, bias_init: `jaxrnn.initializers` for W, U and b, gate by gate.
        dtype: of the parameters, and so of inputs and outputs.
        carry_dtype: of h and c; that of the parameters unless given.

    Raises:
        ValueError: a size below 1, a dt that is not above 0.
        TypeError: an argument of the wrong type.

    Source: Rusch, Mishra, Erichson and Mahoney, "Long Expressive Memory for Sequence Modeling" (2022).

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.lem(3, 5)
        >>> params = cell.init(jax.random.key(0))
        >>> (h, c), ys = jaxrnn.unroll(cell, params, jax.numpy.ones((7, 2, 3)))
        >>> h.shape, c.shape, ys.shape
        ((2, 5), (2, 5), (7, 2, 5))
    """
    start = (input_size, hidden_size, input_init, recurrent_init, bias_init, dtype, carry_dtype)
    init, zeros, inputs = weights(LEMParams, "lem", (hidden_size,) * 4, *start)
    checks.positive("dt", dt)
    squash = gates("sst", hidden_size)

    def initial_carry(params: LEMParams, batch_shape: tuple[int, ...] = ()) -> LEMCarry:
        return LEMCarry(zeros(params, batch_shape), zeros(params, batch_shape))

    def split(x: Array) -> list[Array]:
        """Return the parts that h acts on, 1, 2 and n, and the one that c acts on, of ``x [..., 4H]``."""
        return jnp.split(x, [3 * hidden_size], axis=-1)

    def step(params: LEMParams, carry: LEMCarry, z: Array) -> tuple[LEMCarry, Array]:
        carry, y, _, _ = forward(kernels_of(params), carry, z)
        return carry, y

    def kernels_of(params: LEMParams) -> list[Array]:
        return split(params.recurrent)

    def forward(kernels: list[Array], carry: LEMCarry, z: Array) -> tuple[LEMCarry, Array, LEMCarry, Saved]:
        h_before, c_before = carry
        (z_12n, z_m), (kernel_12n, kernel_m) = split(z.astype(h_before.dtype)), kernels
        s_12n = squash(z_12n + recurrent_product(h_before, kernel_12n))
        s_1, s_2, n = jnp.split(s_12n, 3, axis=-1)
        short, long = dt * s_1, dt * s_2
        c = (1 - short) * c_before + short * n
        m = jnp.tanh(z_m + recurrent_product(c, kernel_m))
        h = (1 - long) * h_before + long * m
        return LEMCarry(h, c), h.astype(z.dtype), LEMCarry(h_before, c), Saved(_beside(s_12n, m), carry)

    def transpose(params: LEMParams) -> tuple[Array, Array]:
        kernel_12n, kernel_m = kernels_of(params)
        return kernel_12n.T, kernel_m.T

    def backward(
        transposed: tuple[Array, Array], saved: Saved, dcarry: LEMCarry, dy: Array
    ) -> tuple[LEMCarry, Array, Array]:
        transposed_12n, transposed_m = transposed
        (h_before, c_before), (s_1, s_2, n, m) = saved.before, jnp.split(saved.gates, 4, axis=-1)
        short, long = dt * s_1, dt * s_2
        dh = dcarry.h + dy.astype(dcarry.h.dtype)
        d2, dm = dh * (m - h_before) * long * (1 - s_2), dh * long * (1 - m * m)
        dc = dcarry.c + recurrent_product(dm, transposed_m)
        d1, dn = dc * (n - c_before) * short * (1 - s_1), dc * short * (1 - n * n)
        dh_before = dh * (1 - long) + recurrent_product(_beside(d1, d2, dn), transposed_12n)
        da = _beside(d1, d2, dn, dm)
        return LEMCarry(dh_before, dc * (1 - short)), da, da

    def product(params: LEMParams, operands: LEMCarry) -> Array:
        kernel_12n, kernel_m = kernels_of(params)
        return _beside(recurrent_product(operands.h, kernel_12n), recurrent_product(operands.c, kernel_m))

    def gradients(params: LEMParams, xs: Array, operands: LEMCarry, dzs: Array, das: Array) -> tuple[LEMParams, Array]:
        dinput, dbias, dxs = affine_gradients(xs, params.input, dzs)
        das_12n, das_m = split(das)
        drecurrent = _beside(weight_gradient(operands.h, das_12n), weight_gradient(operands.c, das_m))
        return LEMParams(dinput, drecurrent, dbias), dxs

    adjoint = Adjoint(
        forward, transpose, backward, product, gradients, prepare=lambda params, carry: kernels_of(params)
    )
    return Cell(init, initial_carry, step, inputs, adjoint)


def _beside(*parts: Array) -> Array:
    return jnp.concatenate(parts, axis=-1)
