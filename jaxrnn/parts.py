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
from jaxrnn.checkpointing import in_segments
from jaxrnn.engine import closes_over_tracers, reverse_mode_once
from jaxrnn.steps import select
from jaxrnn.types import Adjoint, Carry, Cell, Params

LARGE = 2**24  # bytes of zs; to map larger ones in, at every call, takes longer than to make them in parts
ROWS = 64  # of a part's product, at least: fewer take as long. Not many more: XLA spreads larger arrays over threads
STEPS = 4  # of a part, at least


def part_length(batch: tuple[int, ...]) -> int:
    """Return the steps of a part."""
    return max(STEPS, ROWS // math.prod(batch))


def pays_in_parts(cell: Cell, adjoint: Adjoint, params: Params, run: Run) -> bool:
    """Whether zs, of which ``run`` has the shapes, are so large, on a CPU, and the cell reads its arguments alone."""

    def step(params: Params, xs: Any, carry: Carry) -> Any:
        z = jax.tree.map(lambda leaf: leaf[0], cell.inputs(params, xs))
        return adjoint.forward(adjoint.prepare(params, carry), carry, z)

    zs = jax.tree.leaves(run.zs)
    if jax.default_backend() != "cpu":  # a GPU wants large products, and few
        return False
    if any(checks.symbolic(axis) for leaf in zs for axis in leaf.shape):
        return False
    large = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in zs) > LARGE
    return (
        large and zs[0].shape[0] > part_length(run.batch) and not closes_over_tracers(step, params, run.xs, run.carry)
    )


def unroll_in_parts(
    cell: Cell, params: Params, run: Run, reverse: bool, unroll_run: Callable[[Params, Run], tuple[Carry, Any]]
) -> tuple[Carry, Any]:
    """Return (final carry, ys) by ``unroll_run`` of a few steps after another; for a gradient, of all of them."""

    def whole(params: Params, xs: Any, carry: Carry, init: Carry | None, steps: Any) -> tuple[Carry, Any]:
        return unroll_run(params, with_inputs(cell, params, Run(run.batch, xs, None, carry, init, steps), None))

    @jax.custom_vjp
    def in_parts(params: Params, xs: Any, carry: Carry, init: Carry | None, steps: Any) -> tuple[Carry, Any]:
        def part(carry: Carry, every_step: Any) -> tuple[Carry, Any]:
            xs, steps = every_step
            return whole(params, xs, carry, init, steps)

        every_step = xs, steps._replace(restart_last=None)
        final, ys = in_segments(part, carry, every_step, part_length(run.batch), reverse)
        return (final if steps.restart_last is None else select(steps.restart_last, init, final)), ys

    in_parts.defvjp(lambda *arrays: jax.vjp(whole, *arrays), lambda transpose, cotangents: transpose(cotangents))
    with reverse_mode_once():
        return in_parts(params, run.xs, run.carry, run.init, run.steps)
