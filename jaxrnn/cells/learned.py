"""An initial carry that is learned with the weights: c_0 = θ_0, the same for every sequence."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.types import Adjoint, Array, Carry, Cell, Params, Split, recorded


class LearnedCarryParams(NamedTuple):
    """Parameters of `learned_carry`: those of the cell, and ``carry``, one initial carry without batch axes."""

    cell: Params
    carry: Carry


@recorded
def learned_carry(cell: Cell) -> Cell:
    """Return ``cell`` with an initial carry that is a parameter, c_0 = θ_0, shared by all sequences.

    It starts as the cell's own initial carry. `unroll` begins with it, and returns to it at every
    reset; its gradient sums over sequences and over resets.

    Raises:
        TypeError: ``cell`` is no `Cell`.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.learned_carry(jaxrnn.gru(3, 5))
        >>> params = cell.init(jax.random.key(0))
        >>> params.carry.shape, cell.initial_carry(params, (2,)).shape
        ((5,), (2, 5))
    """
    checks.cell("cell", cell)

    def check(params: LearnedCarryParams) -> None:
        if not isinstance(params, LearnedCarryParams):
            raise TypeError(f"params: expected the LearnedCarryParams of learned_carry, got {type(params).__name__}")
        expected = jax.eval_shape(cell.initial_carry, params.cell)
        checks.same_structure("params.carry", params.carry, expected, "as the initial carry of the cell")

    def init(key: Array) -> LearnedCarryParams:
        params = cell.init(key)
        return LearnedCarryParams(cell=params, carry=cell.initial_carry(params))

    def initial_carry(params: LearnedCarryParams, batch_shape: tuple[int, ...] = ()) -> Carry:
        check(params)
        checks.batch(batch_shape)

        def repeat(leaf: Array) -> Array:
            return jnp.broadcast_to(leaf.reshape((1,) * len(batch_shape) + leaf.shape), (*batch_shape, *leaf.shape))

        return jax.tree.map(repeat, params.carry)

    def inputs(params: LearnedCarryParams, xs: Any, key: Array | None = None) -> Any:
        check(params)
        return cell.inputs(params.cell, xs, key)

    def step(params: LearnedCarryParams, carry: Carry, z: Any) -> tuple[Carry, Any]:
        return cell.step(params.cell, carry, z)

    adjoint = None if cell.adjoint is None else _adjoint(cell.adjoint)
    split = None if cell.split is None else _split(cell.split)
    return Cell(init, initial_carry, step, inputs, adjoint, cell.feature_axes, split)


def _split(inner: Split) -> Split:
    """Return ``inner`` on the parameters of `learned_carry`."""
    return inner._replace(recur=lambda params, carry: inner.recur(params.cell, carry))


def _adjoint(inner: Adjoint) -> Adjoint:
    """Return ``inner`` on the parameters of `learned_carry`; θ_0 enters the step through the carry alone."""

    cell_gradients = inner.gradients

    def gradients(params: LearnedCarryParams, *args: Any) -> tuple[LearnedCarryParams, Any]:
        assert cell_gradients is not None
        dcell, dxs = cell_gradients(params.cell, *args)
        return LearnedCarryParams(dcell, jax.tree.map(jnp.zeros_like, params.carry)), dxs

    return inner._replace(
        prepare=lambda params, carry: inner.prepare(params.cell, carry),
        transpose=lambda params: inner.transpose(params.cell),
        product=lambda params, operand: inner.product(params.cell, operand),
        gradients=None if cell_gradients is None else gradients,
    )
