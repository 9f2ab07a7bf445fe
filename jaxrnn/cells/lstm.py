"""Long short-term memory: Hochreiter and Schmidhuber (1997), with the forget gate of Gers et al. (2000).

    [i_t, f_t, g_t, o_t] = [σ, σ, tanh, σ](x_t W + b + h_{t-1} U)
    c_t = f_t ⊙ c_{t-1} + i_t ⊙ g_t
    h_t = o_t ⊙ tanh(c_t)

Backward, with dh_t and dc_t the whole cotangents of h_t and c_t:

    dc_t    += dh_t ⊙ o_t ⊙ (1 - tanh²(c_t))
    da_t     = [dc_t ⊙ g_t ⊙ i_t(1-i_t),  dc_t ⊙ c_{t-1} ⊙ f_t(1-f_t),  dc_t ⊙ i_t ⊙ (1-g_t²),
                dh_t ⊙ tanh(c_t) ⊙ o_t(1-o_t)]
    dc_{t-1} = dc_t ⊙ f_t
    dh_{t-1} = da_t Uᵀ
    dW = Σ x_tᵀ da_t,   dU = Σ h_{t-1}ᵀ da_t,   db = Σ da_t,   dx_t = da_t Wᵀ
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn import initializers as init_with
from jaxrnn.cells.gates import gates, raised
from jaxrnn.cells.layouts import for_a_loop
from jaxrnn.cells.products import affine, affine_gradients, recurrent_product, weight_gradient, zero_carry
from jaxrnn.types import Adjoint, Array, Cell, Split, recorded


class LSTMParams(NamedTuple):
    """Weights of `lstm`, gates i, f, g, o side by side: ``input [D, 4H]``, ``recurrent [H, 4H]``, ``bias [4H]``."""

    input: Array
    recurrent: Array
    bias: Array


class LSTMCarry(NamedTuple):
    """State of `lstm` and of `lstm_variant`: the output ``h [*B, H]`` and the memory ``c [*B, H]``."""

    h: Array
    c: Array


class Saved(NamedTuple):
    """What the backward step needs of a step: its gates ``[*B, 4H]``, and c_{t-1} ``[*B, H]``, which give c_t again."""

    gates: Array
    c_before: Array


@recorded
def lstm(
    input_size: int,
    hidden_size: int,
    *,
    forget_bias: float = 1.0,
    input_init: init_with.Initializer = init_with.fan_in(),
    recurrent_init: init_with.Initializer = init_with.orthogonal(),
    bias_init: init_with.Initializer = init_with.zeros,
    dtype: Any = jnp.float32,
    carry_dtype: Any = None,
) -> Cell:
    """Return the LSTM cell: c_t = f ⊙ c_{t-1} + i ⊙ g and h_t = o ⊙ tanh(c_t), with y_t = h_t.

    The gates are [i, f, g, o] = [σ, σ, tanh, σ](x_t W + b + h_{t-1} U).

    Args:
        input_size: D, the features of ``xs [T, *B, D]``.
        hidden_size: H; the carry is ``LSTMCarry(h [*B, H], c [*B, H])``, and ``ys [T, *B, H]``.
        forget_bias: added to the forget gate's part of the bias when it is drawn, so that the memory
            is kept at the start (Jozefowicz, Zaremba and Sutskever 2015).
        input_init, recurrent_init, bias_init: `jaxrnn.initializers` for W, U and b, gate by gate.
        dtype: of the parameters, and so of inputs and outputs.
        carry_dtype: of h and c; that of the parameters unless given.

    Raises:
        ValueError: a size below 1.
        TypeError: an argument of the wrong type.

    Source: Hochreiter and Schmidhuber, "Long Short-Term Memory" (1997); Gers, Schmidhuber and Cummins,
    "Learning to Forget" (2000).

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.lstm(3, 5)
        >>> params = cell.init(jax.random.key(0))
        >>> (h, c), ys = jaxrnn.unroll(cell, params, jax.numpy.ones((7, 2, 3)))
        >>> h.shape, c.shape, ys.shape
        ((2, 5), (2, 5), (7, 2, 5))
    """
    checks.size("input_size", input_size)
    checks.size("hidden_size", hidden_size)
    checks.number("forget_bias", forget_bias)
    checks.functions(input_init=input_init, recurrent_init=recurrent_init, bias_init=bias_init)
    checks.floating(dtype=dtype, carry_dtype=dtype if carry_dtype is None else carry_dtype)
    shapes = {
        "input": (input_size, 4 * hidden_size),
        "recurrent": (hidden_size, 4 * hidden_size),
        "bias": (4 * hidden_size,),
    }
    call = f"lstm({input_size}, {hidden_size})"

    def init(key: Array) -> LSTMParams:
        checks.key("key", key)
        input_key, recurrent_key, bias_key = jax.random.split(key, 3)
        bias = init_with.per_gate(bias_init, 4)(bias_key, shapes["bias"], dtype)
        return LSTMParams(
            input=init_with.per_gate(input_init, 4)(input_key, shapes["input"], dtype),
            recurrent=init_with.per_gate(recurrent_init, 4)(recurrent_key, shapes["recurrent"], dtype),
            bias=raised(bias, slice(hidden_size, 2 * hidden_size), forget_bias),
        )

    def initial_carry(params: LSTMParams, batch_shape: tuple[int, ...] = ()) -> LSTMCarry:
        checks.parameters(params, LSTMParams, shapes, call)
        checks.batch(batch_shape)
        # Two arrays, not one twice: a compiled step may be given their memory to reuse.
        h, c = (zero_carry((*batch_shape, hidden_size), params.recurrent.dtype, carry_dtype) for _ in range(2))
        return LSTMCarry(h, c)

    def inputs(params: LSTMParams, xs: Array, key: Array | None = None) -> Array:
        del key
        checks.parameters(params, LSTMParams, shapes, call)
        checks.features("xs", xs, input_size, params.input.dtype, call)
        return affine(xs, params.input)

    squash = gates("ssts", hidden_size)

    def recur(params: LSTMParams, carry: LSTMCarry) -> Array:
        return recurrent_product(carry.h, params.recurrent, params.bias)

    def activations(carry: LSTMCarry, z: Array, a: Array) -> tuple[LSTMCarry, Array]:
        s = squash(z.astype(carry.h.dtype) + a)
        i, f, g, o = jnp.split(s, 4, axis=-1)
        c = f * carry.c + i * g
        return LSTMCarry(o * jnp.tanh(c), c), s

    def update(carry: LSTMCarry, z: Array, a: Array) -> tuple[LSTMCarry, Array]:
        after, _ = activations(carry, z, a)
        return after, after.h.astype(z.dtype)

    def step(params: LSTMParams, carry: LSTMCarry, z: Array) -> tuple[LSTMCarry, Array]:
        return update(carry, z, recur(params, carry))

    def forward(params: LSTMParams, carry: LSTMCarry, z: Array) -> tuple[LSTMCarry, Array, Array, Saved]:
        after, s = activations(carry, z, recur(params, carry))
        return after, after.h.astype(z.dtype), carry.h, Saved(s, carry.c)

    def backward(transposed: Array, saved: Saved, dcarry: LSTMCarry, dy: Array) -> tuple[LSTMCarry, Array, Array]:
        i, f, g, o = jnp.split(saved.gates, 4, axis=-1)
        tanh_c = jnp.tanh(f * saved.c_before + i * g)
        dh = dcarry.h + dy.astype(dcarry.h.dtype)
        dc = dcarry.c + dh * o * (1 - tanh_c * tanh_c)
        di, df = dc * g * i * (1 - i), dc * saved.c_before * f * (1 - f)
        dg, do = dc * i * (1 - g * g), dh * tanh_c * o * (1 - o)
        da = jnp.concatenate([di, df, dg, do], axis=-1)
        return LSTMCarry(h=recurrent_product(da, transposed), c=dc * f), da, da

    def gradients(params: LSTMParams, xs: Array, hs_before: Array, dzs: Array, das: Array) -> tuple[LSTMParams, Array]:
        dinput, dbias, dxs = affine_gradients(xs, params.input, dzs)
        return LSTMParams(dinput, weight_gradient(hs_before, das), dbias), dxs

    adjoint = Adjoint(
        forward=forward,
        transpose=lambda params: params.recurrent.T,
        backward=backward,
        product=lambda params, hs_before: recurrent_product(hs_before, params.recurrent, params.bias),
        gradients=gradients,
        prepare=lambda params, carry: params._replace(recurrent=for_a_loop(params.recurrent, carry.h)),
    )
    return Cell(init, initial_carry, step, inputs, adjoint, split=Split(recur, update))
