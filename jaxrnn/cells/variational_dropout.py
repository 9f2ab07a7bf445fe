"""Variational dropout: one mask for all steps of a sequence. Gal and Ghahramani (2016).

    a_t = recur(θ, m ⊙ c_{t-1} / (1 - p))            m ~ Bernoulli(1 - p), once per sequence
    c_t, y_t = update(c_{t-1}, z_t, a_t)
    zs = inputs(θ, n ⊙ xs / (1 - q))                 n ~ Bernoulli(1 - q), once per sequence

Backward, the chain rule of `jaxrnn.cells.split`: ∂c_{t-1} = update'ᵀ(∂c_t, ∂y_t) + m ⊙ recur'ᵀ(∂a_t) / (1 - p).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.cells.noise import Noisy, check_rates, dropout_masks, masked, rates_like
from jaxrnn.cells.split import split_adjoint
from jaxrnn.steps import time_and_batch
from jaxrnn.types import Array, Carry, Cell, Params, Split, recorded


@recorded
def variational_dropout(cell: Cell, rate: Any, *, input_rate: float = 0.0) -> Cell:
    """Return ``cell`` whose product sees m ⊙ c_{t-1} / (1 - p), with one mask m for all steps of a sequence.

    Masks come from the ``key``; without one the cell is as it was. What is elementwise in the carry is
    not masked (u ⊙ h of the GRU, f ⊙ c of the LSTM), and all gates share one mask. Segments between
    resets share that of their sequence. `Layer.step` has the mask of `Layer.apply` where it is given
    the same key, at every step of a sequence.

    Args:
        cell: a `Cell` with a split: `vanilla`, `lstm`, `gru` that resets after, `split_cell`.
        rate: p, 0 ≤ p < 1, the share of the carry's units that are dropped; one number, or one for each
            part of the carry. Parts that the product does not see have no mask.
        input_rate: q, 0 ≤ q < 1, the share of the features of xs that are dropped.

    Raises:
        TypeError: ``cell`` is no `Cell`; a rate that is no number; inputs that are not floating where
            they are to be masked.
        ValueError: ``cell`` has no split; a rate outside [0, 1); rates that do not fit the carry, when
            the cell is run.

    Source: Gal and Ghahramani, "A Theoretically Grounded Application of Dropout in Recurrent Neural
    Networks" (2016).

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> cell = jaxrnn.variational_dropout(jaxrnn.gru(3, 5), 0.25, input_rate=0.25)
        >>> params, xs = cell.init(jax.random.key(0)), jnp.ones((7, 2, 3))
        >>> h, ys = jaxrnn.unroll(cell, params, xs, key=jax.random.key(1))
        >>> h.shape, ys.shape
        ((2, 5), (7, 2, 5))
    """
    checks.cell("cell", cell)
    if cell.split is None:
        raise ValueError("cell: expected one whose step is split at its product (Cell.split), got one without")
    check_rates("rate", rate)
    checks.rate("input_rate", input_rate)
    recur, inner_update = cell.split

    def inputs(params: Params, xs: Any, key: Array | None = None) -> Noisy:
        if key is None:
            return Noisy(cell.inputs(params, xs), None)
        carry_key, input_key, cell_key = jax.random.split(key, 3)
        time, batch = time_and_batch(xs, cell.feature_axes)
        if input_rate > 0:
            xs = _drop_features(input_key, xs, input_rate)
        zs = cell.inputs(params, xs, cell_key)
        carry = jax.eval_shape(lambda p: cell.initial_carry(p, batch), params)
        rates = _where_read(recur, params, carry, rates_like("rate", rate, carry))
        masks = dropout_masks(carry_key, rates, carry)
        every_step = jax.tree.map(lambda mask: jnp.broadcast_to(mask, (time, *mask.shape)), masks)
        return Noisy(zs, every_step)

    def seen(carry: Carry, z: Noisy) -> Carry:
        return carry if z.noise is None else masked(carry, z.noise)

    def update(carry: Carry, z: Noisy, a: Any) -> tuple[Carry, Any]:
        return inner_update(carry, z.z, a)

    def step(params: Params, carry: Carry, z: Noisy) -> tuple[Carry, Any]:
        return update(carry, z, recur(params, seen(carry, z)))

    adjoint = split_adjoint(Split(recur, update), seen)
    return cell._replace(step=step, inputs=inputs, adjoint=adjoint, split=None)


def _drop_features(key: Array, xs: Any, rate: float) -> Any:
    """Return ``xs [T, *B, D]`` with one mask for all steps."""
    for leaf in jax.tree.leaves(xs):
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            raise TypeError(f"xs: expected a floating dtype where input_rate is not 0, got {leaf.dtype}")
    step = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), xs)
    masks = dropout_masks(key, jax.tree.map(lambda _: rate, xs), step)
    return masked(xs, jax.tree.map(lambda mask: mask[None], masks))


def _where_read(recur: Callable[..., Any], params: Params, carry: Carry, rates: Any) -> Any:
    """Return ``rates`` with None for the leaves of the carry that ``recur`` does not read."""
    jaxpr = jax.make_jaxpr(recur)(params, carry).jaxpr
    leaves, structure = jax.tree.flatten(carry)
    read = {id(variable) for equation in jaxpr.eqns for variable in equation.invars} | set(map(id, jaxpr.outvars))
    variables = jaxpr.invars[len(jaxpr.invars) - len(leaves) :]
    return structure.unflatten(
        rate if id(variable) in read else None
        for rate, variable in zip(structure.flatten_up_to(rates), variables, strict=True)
    )
