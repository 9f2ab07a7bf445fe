"""What cells with the weights W, U and b have in common: their start, a state of zeros, and x W + b before the loop."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.cells.products import affine, zero_carry
from jaxrnn.initializers import Initializer
from jaxrnn.types import Array


class Weights(NamedTuple):
    """Functions of parameters with the fields ``input [D, G]``, ``recurrent [H, G]``, ``bias [G]``.

    init: `Cell.init`, gate by gate.
    zeros: ``(params, batch_shape=()) -> [*B, H]``, one state of `Cell.initial_carry`.
    inputs: `Cell.inputs`, x W + b.
    """

    init: Callable[..., Any]
    zeros: Callable[..., Array]
    inputs: Callable[..., Array]


def weights(
    kind: type,
    name: str,
    widths: Sequence[int],
    input_size: int,
    hidden_size: int,
    input_init: Initializer,
    recurrent_init: Initializer,
    bias_init: Initializer,
    dtype: Any,
    carry_dtype: Any,
    *,
    states: int = 1,
) -> Weights:
    """Return the `Weights` of the cell called ``name``, after checking what all such cells take.

    kind: the class of its parameters, with three fields.
    widths: the columns of each gate, G being their sum.
    states: how many states of H features the recurrent weights multiply, ``recurrent [states H, G]``.
    """
    checks.size("input_size", input_size)
    checks.size("hidden_size", hidden_size)
    checks.functions(input_init=input_init, recurrent_init=recurrent_init, bias_init=bias_init)
    checks.floating(dtype=dtype, carry_dtype=dtype if carry_dtype is None else carry_dtype)
    shapes = {
        "input": (input_size, sum(widths)),
        "recurrent": (states * hidden_size, sum(widths)),
        "bias": (sum(widths),),
    }
    call = f"{name}({input_size}, {hidden_size})"

    def blocks(initializer: Initializer, key: Array, heights: Sequence[int]) -> Array:
        keys = jax.random.split(key, (len(heights), len(widths)))
        return jnp.block(
            [
                [initializer(k, (height, width), dtype) for k, width in zip(row, widths, strict=True)]
                for row, height in zip(keys, heights, strict=True)
            ]
        )

    def init(key: Array) -> Any:
        checks.key("key", key)
        input_key, recurrent_key, bias_key = jax.random.split(key, 3)
        bias_keys = jax.random.split(bias_key, len(widths))
        return kind(
            input=blocks(input_init, input_key, [input_size]),
            recurrent=blocks(recurrent_init, recurrent_key, [hidden_size] * states),
            bias=jnp.concatenate([bias_init(k, (width,), dtype) for k, width in zip(bias_keys, widths, strict=True)]),
        )

    def zeros(params: Any, batch_shape: tuple[int, ...] = ()) -> Array:
        checks.parameters(params, kind, shapes, call)
        checks.batch(batch_shape)
        return zero_carry((*batch_shape, hidden_size), params.recurrent.dtype, carry_dtype)

    def inputs(params: Any, xs: Array, key: Array | None = None) -> Array:
        del key
        checks.parameters(params, kind, shapes, call)
        checks.features("xs", xs, input_size, params.input.dtype, call)
        return affine(xs, params.input, params.bias)

    return Weights(init, zeros, inputs)
