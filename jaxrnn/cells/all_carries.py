"""All intermediate carries: y_t becomes (y_t, c_t).

Backward, ∂c_t joins what comes from the step after:

    (λ_{t-1}, ∂z_t, ∂a_t) = stepᵀ(λ_t + ∂c_t, ∂y_t)
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.types import Adjoint, Carry, Cell, Params, Split, recorded


@recorded
def all_carries(cell: Cell) -> Cell:
    """Return ``cell`` with the output (y_t, c_t) at every step: its own, and the carry after the step.

    So ys are a pair ``(ys [T, *B, H], carries)``, the carries being a tree like the carry, ``[T, *B, ...]``,
    in the carry's dtype. At steps that are not valid both are zero, as all outputs are, whereas the
    carry itself is held. Adjoint, formulas included, and split are kept.

    Args:
        cell: any `Cell`.

    Raises:
        TypeError: ``cell`` is no `Cell`.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> cell = jaxrnn.all_carries(jaxrnn.lstm(3, 5))
        >>> params = cell.init(jax.random.key(0))
        >>> final, (ys, carries) = jaxrnn.unroll(cell, params, jnp.ones((7, 2, 3)))
        >>> carries.c.shape, bool((carries.c[-1] == final.c).all()), bool((carries.h == ys).all())
        ((7, 2, 5), True, True)
    """
    checks.cell("cell", cell)

    def step(params: Params, carry: Carry, z: Any) -> tuple[Carry, Any]:
        after, y = cell.step(params, carry, z)
        return after, (y, after)

    def with_split(inner: Split) -> Split:
        def update(carry: Carry, z: Any, a: Any) -> tuple[Carry, Any]:
            after, y = inner.update(carry, z, a)
            return after, (y, after)

        return Split(inner.recur, update)

    def with_adjoint(inner: Adjoint) -> Adjoint:
        def forward(params: Params, before: Carry, z: Any) -> tuple[Carry, Any, Any, Any]:
            after, y, operand, saved = inner.forward(params, before, z)
            return after, (y, after), operand, saved

        def backward(transposed: Any, saved: Any, dcarry: Carry, dy: Any) -> tuple[Carry, Any, Any]:
            dy, dafter = dy
            return inner.backward(transposed, saved, jax.tree.map(jnp.add, dcarry, dafter), dy)

        return inner._replace(forward=forward, backward=backward)

    return cell._replace(
        step=step,
        adjoint=None if cell.adjoint is None else with_adjoint(cell.adjoint),
        split=None if cell.split is None else with_split(cell.split),
    )
