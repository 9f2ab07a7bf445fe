"""A long sequence without a gradient: what its loop reads, zs, is made a few steps at a time.

With a gradient, zs of all steps become the memory in which factors of the backward pass are kept. Without one
they are read once, and can be the largest array there is, 4H numbers a step for the LSTM. So they are made

    c, ys = loop(c, inputs(θ, xs))        for xs of a few steps after another

and never leave the cache. Of a short sequence, one product for all steps takes as long or less.
"""

import math
from collections.abc import Callable
from typing import Any

import jax

from jaxrnn import checks
from jaxrnn.bptt import Run, with_inputs
from jaxrnn.checkpointing import unroll_in_segments
from jaxrnn.engine import closes_over_tracers, first_step, reverse_mode_once
from jaxrnn.types import Adjoint, Carry, Cell, Params

LARGE = 2**24  # bytes of zs; to map larger ones in, at every call, takes longer than to make them in parts
ROWS = 64  # of a part's product, at least: fewer take as long. Not many more: XLA spreads larger arrays over threads
STEPS = 4  # of a part, at least


def part_length(batch: tuple[int, ...]) -> int:
    """Return the steps of a part."""
    return max(STEPS, ROWS // math.prod(batch))


def pays_in_parts(cell: Cell, adjoint: Adjoint, params: Params, run: Run) -> bool:
    """Whether zs, of which ``run`` has the shapes, are so large, and the cell reads nothing but its arguments."""

    def step(params: Params, carry: Carry, xs: Any) -> Any:
        return first_step(adjoint, params, carry, cell.inputs(params, xs))

    zs = jax.tree.leaves(run.zs)
    if any(checks.symbolic(axis) for leaf in zs for axis in leaf.shape):
        return False
    large = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in zs) > LARGE
    return (
        large and zs[0].shape[0] > part_length(run.batch) and not closes_over_tracers(step, params, run.carry, run.xs)
    )


def unroll_in_parts(
    cell: Cell,
    params: Params,
    run: Run,
    reverse: bool,
    unroll: int,
    unroll_run: Callable[[Params, Run], tuple[Carry, Any]],
) -> tuple[Carry, Any]:
    """Return (final carry, ys) by ``unroll_run`` of a few steps after another, on CPUs; for a gradient, of all."""

    def whole(params: Params, *arrays: Any) -> tuple[Carry, Any]:
        return unroll_run(params, with_inputs(cell, params, Run(run.batch, *arrays), None))

    def in_segments(params: Params, *arrays: Any) -> tuple[Carry, Any]:
        # Nothing is kept for a gradient here, so nothing is run again.
        length = part_length(run.batch)
        return unroll_in_segments(cell, params, Run(run.batch, *arrays), None, length, reverse, unroll, unroll_run)

    @jax.custom_vjp
    def in_parts(*arrays: Any) -> tuple[Carry, Any]:
        return jax.lax.platform_dependent(
            *arrays, cpu=in_segments, default=whole
        )  # a GPU wants large products, and few

    in_parts.defvjp(lambda *arrays: jax.vjp(whole, *arrays), lambda transpose, cotangents: transpose(cotangents))
    with reverse_mode_once():
        return in_parts(params, run.xs, None, run.carry, run.init, run.steps)
