"""Less memory for BPTT: keep little of a sequence, and compute the rest again where the gradient needs it.

A sequence of T steps is cut into segments of S. Gradient checkpointing keeps the carry at the start of
each; going back, a segment is run once more, with all that BPTT needs, before its own reverse loop:

    memory   T/S carries + the residuals of S steps        least at S = √T

The gradient by "carries" keeps the carry before every step instead. No step has to wait for the one
before it then, so all of a segment's gates come from one product over its S·B rows:

    a_t, s_t = step(θ, c_{t-1}, z_t)    for all t of a segment at once

which costs less time than the loop, and less memory than the gates of all steps.

Both make the inputs of a segment's loop, zs, from xs along with it: zs of all steps are as large as what
is to be saved.

Sources: Chen, Xu, Zhang and Guestrin, "Training Deep Nets with Sublinear Memory Cost" (2016); for
recurrent networks, Gruslys et al., "Memory-Efficient Backpropagation Through Time" (2016).
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.bptt import Run, with_inputs
from jaxrnn.engine import Known, unroll_by_adjoint
from jaxrnn.loops import ahead_scan, one_step_earlier, stacked_scan
from jaxrnn.steps import Steps, select, zero_unless
from jaxrnn.types import Adjoint, Array, Carry, Cell, Params

Segment = Callable[[Carry, Any], tuple[Carry, Any]]
SQRT, CARRIES = "sqrt", "carries"


def check_checkpoint(checkpoint: Any, cell: Cell, gradient: str) -> None:
    """Raise unless ``checkpoint`` is None, "sqrt", "carries" or a segment length, and fits the gradient."""
    if isinstance(checkpoint, str) and checkpoint not in (SQRT, CARRIES):
        raise ValueError(f'checkpoint: expected None, "sqrt", "carries" or a number of steps, got {checkpoint!r}')
    if checkpoint is not None and not isinstance(checkpoint, str):
        checks.size("checkpoint", checkpoint)
    if checkpoint == CARRIES and (cell.adjoint is None or gradient == "autodiff"):
        raise ValueError(
            'checkpoint: "carries" needs a gradient by the cell\'s adjoint; use "sqrt" or a number of steps'
        )


def segment_length(checkpoint: str | int, time: int) -> int:
    """Return S for a sequence of T steps: the number given, or ⌈√T⌉."""
    return math.isqrt(max(time - 1, 0)) + 1 if isinstance(checkpoint, str) else checkpoint


def in_segments(
    segment: Segment,
    carry: Carry,
    sequences: Any,
    length: int,
    reverse: bool = False,
    scan: Callable[..., Any] = jax.lax.scan,
) -> tuple[Carry, Any]:
    """Return (final carry, ys) of ``segment(carry, part) -> (carry, ys)`` over parts of ``length`` steps.

    The last part may be shorter. In reverse it is the first to be run. ``scan`` is the loop over the others.
    """
    time = jax.tree.leaves(sequences)[0].shape[0]
    count, whole = time // length, time // length * length
    parts = jax.tree.map(lambda x: x[:whole].reshape(count, length, *x.shape[1:]), sequences)
    rest = jax.tree.map(lambda x: x[whole:], sequences)
    ys_rest = None
    if reverse and whole < time:
        carry, ys_rest = segment(carry, rest)
    carry, ys = scan(segment, carry, parts, reverse=reverse)
    if not reverse and whole < time:
        carry, ys_rest = segment(carry, rest)
    ys = jax.tree.map(lambda y: y.reshape(whole, *y.shape[2:]), ys)
    if ys_rest is None:
        return carry, ys
    return carry, jax.tree.map(lambda *ys: jnp.concatenate(ys), ys, ys_rest)


def unroll_in_segments(
    cell: Cell,
    params: Params,
    run: Run,
    key: Array | None,
    checkpoint: str | int,
    reverse: bool,
    unroll: int,
    unroll_run: Callable[[Params, Run], tuple[Carry, Any]],
    scan: Callable[..., Any] = jax.lax.scan,
) -> tuple[Carry, Any]:
    """Return (final carry, ys) of ``run``, whose zs are not made yet, by ``unroll_run`` a segment at a time."""
    length = segment_length(checkpoint, jax.tree.leaves(run.xs)[0].shape[0])
    every_step = run.xs, run.steps._replace(restart_last=None)
    if key is not None and _draws_noise(cell, params, run.xs, key):
        # Noise is one draw for all steps, and for some cells one draw for a whole sequence.
        run = with_inputs(cell, params, run, key)
        every_step = (run.xs, every_step[1], run.zs)

    def part_of(params: Params, carry: Carry, part: Any) -> Run:
        xs, steps, *zs = part
        segment = run._replace(xs=xs, zs=None, carry=carry, steps=steps)
        return segment._replace(zs=zs[0]) if zs else with_inputs(cell, params, segment, None)

    if checkpoint == CARRIES:
        assert cell.adjoint is not None
        final, ys = _by_carries(cell, cell.adjoint, params, run, part_of, every_step, length, reverse, unroll)
    else:
        segment = jax.checkpoint(
            lambda carry, part: unroll_run(params, part_of(params, carry, part)), prevent_cse=False
        )
        final, ys = in_segments(segment, run.carry, every_step, length, reverse, scan)
    if run.steps.restart_last is not None:
        final = select(run.steps.restart_last, run.init, final)
    return final, ys


def _by_carries(
    cell: Cell,
    adjoint: Adjoint,
    params: Params,
    run: Run,
    part_of: Callable[[Params, Carry, Any], Run],
    every_step: Any,
    length: int,
    reverse: bool,
    unroll: int,
) -> tuple[Carry, Any]:
    """Return (final carry, ys), from a loop that keeps the carries, and a gradient that is made from them."""
    scan = ahead_scan if adjoint.ahead else stacked_scan
    constants = jax.lax.stop_gradient((params, run.carry, every_step))

    def loop(carry: Carry, part: Any) -> tuple[Carry, Any]:
        segment = part_of(constants[0], carry, part)

        def step(carry: Carry, z: Any, around: Steps) -> tuple[Carry, Any]:
            valid, restart, _ = around
            before = carry if restart is None else select(restart, run.init, carry)
            after, y = cell.step(constants[0], before, z)
            after = select(valid, after, before)
            return after, (after, zero_unless(valid, y))

        return scan(step, carry, segment.zs, segment.steps, reverse=reverse, unroll=unroll)

    _, known = jax.lax.stop_gradient(in_segments(loop, *constants[1:], length, reverse))

    def segment(carry: Carry, part: Any) -> tuple[Carry, Any]:
        part, (afters, ys) = part
        segment = part_of(params, carry, part)
        befores = jax.tree.map(partial(one_step_earlier, reverse=reverse), afters, jax.lax.stop_gradient(carry))
        if segment.steps.restart is not None:
            befores = jax.vmap(select, (0, None, 0))(segment.steps.restart, run.init, befores)
        known = Known(jax.tree.map(lambda leaf: leaf[0 if reverse else -1], afters), ys, befores)
        return unroll_by_adjoint(adjoint, params, segment, reverse, unroll, known)

    again = jax.checkpoint(segment, prevent_cse=False)
    return in_segments(again, run.carry, (every_step, known), length, reverse)


def _draws_noise(cell: Cell, params: Params, xs: Any, key: Array) -> bool:
    """Whether ``key`` is used at all."""
    jaxpr = jax.make_jaxpr(cell.inputs)(params, xs, key).jaxpr
    return any(jaxpr.invars[-1] in equation.invars for equation in jaxpr.eqns)
