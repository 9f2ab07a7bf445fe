"""Layers that treat every step alike and keep no state, made from a function of one step."""

from collections.abc import Callable
from typing import Any

from jaxrnn import checks
from jaxrnn.steps import flags, leading_axes, time_and_batch, valid_steps, zero_unless
from jaxrnn.types import Array, Carry, Layer, Params


def pointwise(
    init: Callable[[Array], Params],
    function: Callable[[Params, Any, Array | None, str], Any],
    *,
    feature_axes: int = 1,
) -> Layer:
    """Return the stateless layer y_t = function(params, x_t), for all steps at once or one at a time.

    ``function(params, xs, key, name)`` works over any leading axes; ``name`` is the argument to name
    in its errors. Steps that are not valid give zero, and their inputs are set to zero before.
    """

    def initial_carry(params: Params, batch_shape: tuple[int, ...] = ()) -> Carry:
        del params, batch_shape
        return ()

    def apply(
        params: Params,
        xs: Any,
        carry: Carry | None = None,
        *,
        lengths: Any = None,
        mask: Any = None,
        resets: Any = None,
        key: Array | None = None,
    ) -> tuple[Carry, Any]:
        check_stateless(carry, key)
        time, batch = time_and_batch(xs, feature_axes)
        valid = valid_steps(time, batch, lengths, mask)
        if resets is not None:  # there is nothing to reset, but a wrong argument is wrong here too
            flags("resets", resets, (time, *batch), "[time, *batch]")
        return (), zero_unless(valid, function(params, zero_unless(valid, xs), key, "xs"))

    def step(params: Params, carry: Carry, x: Any, *, reset: Any = None, key: Array | None = None) -> tuple[Carry, Any]:
        check_stateless(carry, key)
        if reset is not None:
            flags("reset", reset, leading_axes("x", x, feature_axes, "[*batch, features]"), "[*batch]")
        return (), function(params, x, key, "x")

    return Layer(init, initial_carry, apply, step)


def check_stateless(carry: Carry | None, key: Array | None) -> None:
    """Raise unless the carry and the key are what a layer without a state can be given."""
    if key is not None:
        checks.key("key", key)
    if carry is not None:
        checks.same_structure("carry", carry, (), "of a layer without a state")
