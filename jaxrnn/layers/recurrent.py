"""A cell as a layer: the unroll for sequences, the step for streams."""

from typing import Any

import jax

from jaxrnn import checks
from jaxrnn.checkpointing import check_checkpoint
from jaxrnn.steps import flags, leading_axes, select
from jaxrnn.types import Array, Carry, Cell, Layer, Params, recorded
from jaxrnn.unrolling import GRADIENTS, unroll


@recorded
def recurrent(
    cell: Cell,
    *,
    reverse: bool = False,
    gradient: str = "auto",
    checkpoint: str | int | None = None,
    unroll_factor: int = 1,
) -> Layer:
    """Return the layer that runs ``cell`` over time: carry_t, y_t = step(params, carry_{t-1}, z_t).

    Args:
        cell: the `Cell`; its parameters and carry are the layer's.
        reverse, gradient, checkpoint: as in `jaxrnn.unroll`. A layer that runs in reverse needs the
            future, so its `Layer.step` is None.
        unroll_factor: `jaxrnn.unroll`'s ``unroll``, steps per iteration of the loop.

    Raises:
        TypeError: ``cell`` is no `Cell`.
        ValueError: an unknown choice.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> layer = jaxrnn.recurrent(jaxrnn.gru(3, 5))
        >>> params, xs = layer.init(jax.random.key(0)), jnp.ones((2, 3))
        >>> h, ys = layer.apply(params, xs)
        >>> carry, y0 = layer.step(params, layer.initial_carry(params), xs[0])
        >>> carry, y1 = layer.step(params, carry, xs[1])
        >>> bool(jnp.allclose(ys, jnp.stack([y0, y1]), atol=1e-6))
        True
    """
    checks.cell("cell", cell)
    checks.flag("reverse", reverse)
    checks.choice("gradient", gradient, GRADIENTS)
    checks.size("unroll_factor", unroll_factor)
    check_checkpoint(checkpoint, cell, gradient)
    if gradient == "manual" and cell.adjoint is None:
        raise ValueError('gradient: "manual" needs a cell with an adjoint; write it as a split_cell, or use "auto"')

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
        return unroll(
            cell,
            params,
            xs,
            carry,
            lengths=lengths,
            mask=mask,
            resets=resets,
            reverse=reverse,
            checkpoint=checkpoint,
            gradient=gradient,
            unroll=unroll_factor,
            key=key,
        )

    def step(params: Params, carry: Carry, x: Any, *, reset: Any = None, key: Array | None = None) -> tuple[Carry, Any]:
        if key is not None:
            checks.key("key", key)
        batch = leading_axes("x", x, cell.feature_axes, "[*batch, features]")
        zs = cell.inputs(params, jax.tree.map(lambda leaf: leaf[None], x), key)
        z = jax.tree.map(lambda leaf: leaf[0], zs)
        expected = jax.eval_shape(lambda p: cell.initial_carry(p, batch), params)
        checks.same_structure("carry", carry, expected, f"for a batch of shape {batch}")
        if reset is not None:
            reset = flags("reset", reset, batch, "[*batch]")
            carry = select(reset, cell.initial_carry(params, batch), carry)
        return cell.step(params, carry, z)

    return Layer(cell.init, cell.initial_carry, apply, None if reverse else step)
