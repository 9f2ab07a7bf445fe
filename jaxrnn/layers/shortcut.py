"""Layers with a way around them, y_t = join(x_t, f(x)_t), made from a layer and what joins the two."""

from collections.abc import Callable
from typing import Any

from jaxrnn import checks
from jaxrnn.steps import valid_like, zero_unless
from jaxrnn.types import Array, Carry, Layer, Params


def shortcut(
    layer: Layer,
    join: Callable[[Params, Any, Any, str], Any],
    *,
    init: Callable[[Array], Params] | None = None,
    inner: Callable[[Params], Params] = lambda params: params,
) -> Layer:
    """Return the layer y_t = join(params, x_t, f(x)_t), for all steps at once or one at a time.

    ``join(params, x, y, name)`` works over any leading axes and gives zero for zeros; ``name`` is the
    argument to name in its errors about x. The carry is the layer's, and so are the parameters, unless
    ``init`` makes others and ``inner`` finds the layer's among them.
    """
    checks.layer("layer", layer)

    def initial_carry(params: Params, batch_shape: tuple[int, ...] = ()) -> Carry:
        return layer.initial_carry(inner(params), batch_shape)

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
        carry, ys = layer.apply(inner(params), xs, carry, lengths=lengths, mask=mask, resets=resets, key=key)
        return carry, join(params, zero_unless(valid_like(xs, lengths, mask), xs), ys, "xs")

    child_step = layer.step
    if child_step is None:
        return Layer(init or layer.init, initial_carry, apply, None, layer.output_steps)

    def step(params: Params, carry: Carry, x: Any, *, reset: Any = None, key: Array | None = None) -> tuple[Carry, Any]:
        carry, y = child_step(inner(params), carry, x, reset=reset, key=key)
        return carry, join(params, x, y, "x")

    return Layer(init or layer.init, initial_carry, apply, step, layer.output_steps)
