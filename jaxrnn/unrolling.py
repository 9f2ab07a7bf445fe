"""Run a cell over a sequence: one scan, with masks, resets, either direction, and a choice of gradient."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.bptt import Run, check, with_inputs
from jaxrnn.checkpointing import CARRIES, check_checkpoint, unroll_in_segments
from jaxrnn.engine import unroll_by_adjoint
from jaxrnn.parts import pays_in_parts, unroll_in_parts
from jaxrnn.steps import Steps, select, zero_unless
from jaxrnn.types import Array, Carry, Cell, Params

GRADIENTS = ("auto", "manual", "autodiff")


def unroll(
    cell: Cell,
    params: Params,
    xs: Any,
    carry: Carry | None = None,
    *,
    lengths: Any = None,
    mask: Any = None,
    resets: Any = None,
    reverse: bool = False,
    checkpoint: str | int | None = None,
    gradient: str = "auto",
    unroll: int = 1,
    key: Array | None = None,
) -> tuple[Carry, Any]:
    """Run ``cell`` over a sequence: carry_t, y_t = step(params, carry_{t-1}, z_t), zs = inputs(params, xs).

    Call it inside your own `jax.jit`; on its own it compiles its loop at every call.

    Args:
        cell: the `Cell`; close over it, do not pass it through jit.
        params: its parameters, ``cell.init(key)``.
        xs: ``[T, *B, D]``, time first, any number of batch axes; T may be 0. In the parameters' dtype.
        carry: the state to start from, as ``cell.initial_carry(params, batch_shape)`` gives it; that
            one unless given.
        lengths: int ``[*B]``, the valid steps of each sequence, 0 to T. Values are checked where they
            are known and clipped under jit.
        mask: bool ``[T, *B]``, which steps are valid; combines with ``lengths``.
        resets: bool ``[T, *B]``, which steps begin a new segment.
        reverse: run from the last valid step to the first.
        checkpoint: what is kept for the gradient. None, what it needs of every step; a number of steps S
            or "sqrt", S = ⌈√T⌉, the carry at every S-th step, and a segment of S steps is run again
            before its reverse loop; "carries", the carry before every step, from which a segment's
            gates are computed at once. Noise by ``key`` is drawn once and kept.
        gradient: "auto", the fastest that is exact: by the cell's adjoint where it has one; "manual",
            by the adjoint or not at all; "autodiff", plain `lax.scan`, for forward mode, second
            derivatives and everything else that JAX can do, and for a cell of your own in which one example of
            the batch depends on another, as it must not by an adjoint (see `split_cell`).
        unroll: steps per iteration of the loop, at least, as in `jax.lax.scan`.
        key: for cells that draw noise; without it they are deterministic.

    Returns:
        ``(carry, ys)``: the state after the last valid step of each sequence, and ``ys [T, *B, H]``,
        ys[t] belonging to xs[t], zero at steps that are not valid. A sequence of length 0 returns the
        carry it was given.

    Raises:
        ValueError: a shape, size, value or choice that does not fit.
        TypeError: a dtype or structure that does not fit; a derivative that the hand-derived path does
            not have.

    Source: Elman, "Finding Structure in Time" (1990); the contract of masks and resets is in
    `jaxrnn.steps`.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> cell = jaxrnn.gru(3, 5)
        >>> params = cell.init(jax.random.key(0))
        >>> h, ys = jaxrnn.unroll(cell, params, jnp.ones((7, 2, 3)), lengths=jnp.array([7, 4]))
        >>> bool((ys[4:, 1] == 0).all()), bool(jnp.allclose(h[1], ys[3, 1]))
        (True, True)
    """
    checks.choice("gradient", gradient, GRADIENTS)
    checks.size("unroll", unroll)
    checks.cell("cell", cell)
    if gradient == "manual" and cell.adjoint is None:
        raise ValueError('gradient: "manual" needs a cell with an adjoint; write it as a split_cell, or use "auto"')
    check_checkpoint(checkpoint, cell, gradient)
    run = check(cell, params, xs, carry, lengths=lengths, mask=mask, resets=resets, reverse=reverse, key=key)

    if checks.symbolic(jax.tree.leaves(run.xs)[0].shape[0]):
        unroll, checkpoint = 1, None  # of so many steps that nobody knows, in a program that is exported

    adjoint = cell.adjoint if gradient != "autodiff" and _all_inexact((run.zs, run.carry)) else None
    if checkpoint == CARRIES and adjoint is None:
        raise ValueError(
            'checkpoint: "carries" needs floating inputs and a floating carry; use "sqrt" or a number of steps'
        )
    if gradient == "manual" and adjoint is None:
        raise ValueError('gradient: "manual" needs floating inputs and a floating carry; use "auto" or "autodiff"')

    def unroll_run(params: Params, run: Run) -> tuple[Carry, Any]:
        if adjoint is None:
            return unroll_by_scan(cell, params, run, reverse, unroll)
        return unroll_by_adjoint(adjoint, params, run, reverse, unroll)

    if jax.tree.leaves(run.xs)[0].shape[0] == 0:
        return unroll_by_scan(cell, params, with_inputs(cell, params, run, key), reverse, unroll)
    if checkpoint is not None:
        return unroll_in_segments(cell, params, run, key, checkpoint, reverse, unroll, unroll_run)
    if adjoint is not None and key is None and pays_in_parts(cell, adjoint, params, run):
        return unroll_in_parts(cell, adjoint, params, run, reverse, unroll)
    return unroll_run(params, with_inputs(cell, params, run, key))


def unroll_by_scan(cell: Cell, params: Params, run: Run, reverse: bool, unroll: int) -> tuple[Carry, Any]:
    """Return (final carry, ys) by a plain scan: the definition that every faster form is held against."""

    def body(carry: Carry, step: tuple[Any, Steps]) -> tuple[Carry, Any]:
        z, (valid, restart, _) = step
        before = carry if restart is None else select(restart, run.init, carry)
        after, y = cell.step(params, before, z)
        return select(valid, after, before), zero_unless(valid, y)

    every_step = (run.zs, run.steps._replace(restart_last=None))
    final, ys = jax.lax.scan(body, run.carry, every_step, reverse=reverse, unroll=unroll)
    if run.steps.restart_last is not None:
        final = select(run.steps.restart_last, run.init, final)
    return final, ys


def _all_inexact(tree: Any) -> bool:
    return all(jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in jax.tree.leaves(tree))
