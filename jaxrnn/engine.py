"""The gradient engine: the two loops of BPTT where `jax.grad`, `vmap` and `shard_map` find their way through.

The loops run on values that JAX does not differentiate, and two links join them to the arguments,

    a = product(params, operands)      whose transpose JAX knows: the weights' one contraction
    link(zs, a, carry, init)           whose transpose is the reverse loop

so that no weight-shaped array lives in a loop, `vmap` sums weight gradients in the contraction
itself, and `shard_map` reduces them once.

Without a gradient the loop is stacked, and what nobody asks for is never made. With one, both loops
run in place, which is faster where there is one batch axis of more than one row, and slower by far
elsewhere. So several batch axes are flattened to one, an axis that `vmap` adds is folded into it, and
the loop of a batch of one is stacked, in one kernel or some steps to an iteration.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.bptt import Run, in_dtypes_of
from jaxrnn.loops import ahead_scan, forward_loop, in_place_scan, of_one_row, reverse_loop, stacked_scan
from jaxrnn.one_kernel import one_kernel
from jaxrnn.steps import Steps
from jaxrnn.types import Adjoint, Array, Carry, Params


class Known(NamedTuple):
    """What a forward loop has found before: all that is left of it is one product for all steps.

    befores: the carry before every step, ``[T, *B, ...]``.
    """

    final: Carry
    ys: Any
    befores: Carry


def unroll_by_adjoint(
    adjoint: Adjoint, params: Params, run: Run, reverse: bool, unroll: int, known: Known | None = None
) -> tuple[Carry, Any]:
    """Return (final carry, ys), differentiable in reverse mode, once, by `reverse_loop`.

    The forward loop is not run where its result is known; ``known`` is a constant to the gradient.
    """
    arrays = run.zs, run.carry, run.init, run.steps
    step = partial(first_step, adjoint)
    regular = _rows_lead(run.batch, arrays) and not closes_over_tracers(step, params, run.carry, run.zs)
    if regular:
        arrays = _map_rows(partial(_flatten, run.batch), FORWARD.arguments, arrays)
        known = known and Known(*_map_rows(partial(_flatten, run.batch), KNOWN, tuple(known)))
    zs, carry, init, steps = arrays
    forward, backward = (_fast_loops if regular else _plain_loops)(adjoint, reverse, unroll)
    if known is not None:
        forward = partial(_recovered, adjoint, known)

    @jax.custom_vjp
    def link(zs: Any, a: Any, carry: Carry, init: Carry | None, constants: Any) -> tuple[Carry, Any]:
        del zs, a, carry, init
        final, ys, *_ = constants
        return final, ys

    def link_forward(zs: Any, a: Any, carry: Carry, init: Carry | None, constants: Any) -> Any:
        final, ys, *rest = constants
        # One empty slice of each argument: it holds no memory, but a second derivative shows in it.
        witness = jax.tree.map(lambda x: x.reshape(-1)[:0], (zs, a, carry, init))
        return (final, ys), (witness, rest)

    def link_backward(residuals: Any, cotangents: Any) -> Any:
        witness, (params, saved, steps) = residuals
        saved, (dfinal, dys) = differentiate_once((saved, cotangents), witness)
        dzs, das, dcarry, dinit = backward(adjoint.transpose(params), saved, dfinal, dys, steps)
        return *in_dtypes_of(witness, (dzs, das, dcarry, dinit)), None

    link.defvjp(link_forward, link_backward)
    with reverse_mode_once():
        final, ys, operands, saved = jax.lax.stop_gradient(forward(params, *arrays))
        constants = final, ys, jax.lax.stop_gradient(params), saved, steps
        product = partial(_product_of_rows, adjoint) if regular and adjoint.alike else adjoint.product
        final, ys = link(zs, product(params, operands), carry, init, constants)
    return _map_rows(partial(_unflatten, run.batch), (ONE, EVERY), (final, ys)) if regular else (final, ys)


def _product_of_rows(adjoint: Adjoint, params: Params, operands: Any) -> Any:
    """Return a of all steps ``[T, rows, ...]``, by a product over one axis: its transpose is one of matrices.

    With two axes to contract, XLA for CPUs transposes one of the arrays in memory.
    """
    time, rows = jax.tree.leaves(operands)[0].shape[:2]
    a = adjoint.product(params, jax.tree.map(lambda x: x.reshape(time * rows, *x.shape[2:]), operands))
    return jax.tree.map(lambda x: x.reshape(time, rows, *x.shape[1:]), a)


STEPS_OF_ONE_ROW = 4  # in an iteration: a step of one row is as short as what the loop itself takes
EVERY, ONE = 1, 0  # the axis of the rows, which is what all batch axes become, in arrays of every step and of one
STEPS = Steps._make((EVERY, EVERY, ONE))
KNOWN = ONE, EVERY, EVERY  # final, ys, befores
READ_WITHOUT_GRADIENT = 2  # of the forward loop's results, final and ys


class Rows(NamedTuple):
    """Where the axis of the rows is in what a loop takes and returns."""

    arguments: tuple
    results: tuple


FORWARD = Rows(
    arguments=(EVERY, ONE, ONE, STEPS),  # zs, carry, init, steps
    results=(ONE, EVERY, EVERY, EVERY),  # final, ys, operands, saved
)
BACKWARD = Rows(
    arguments=(EVERY, ONE, EVERY, STEPS),  # saved, dfinal, dys, steps
    results=(EVERY, EVERY, ONE, ONE),  # dzs, das, dcarry, dinit
)


def _map_rows(f: Callable[..., Any], axes: Any, *trees: Any) -> Any:
    """Return ``f(axis, leaf, …)`` for all leaves; ``axes`` says where the rows are, for whole branches at once."""
    return jax.tree.map(lambda axis, *branches: jax.tree.map(partial(f, axis), *branches), axes, *trees)


def _flatten(batch: tuple[int, ...], axis: int, x: Array) -> Array:
    return x.reshape(*x.shape[:axis], math.prod(batch), *x.shape[axis + len(batch) :])


def _unflatten(batch: tuple[int, ...], axis: int, x: Array) -> Array:
    return x.reshape(*x.shape[:axis], *batch, *x.shape[axis + 1 :])


def _rows_lead(batch: tuple[int, ...], arrays: Any) -> bool:
    """Whether the batch axes are where they belong in all arrays, as they need not be in a user's own zs."""
    fits = _map_rows(lambda axis, x: x.shape[axis : axis + len(batch)] == batch, FORWARD.arguments, arrays)
    return all(jax.tree.leaves(fits))


def first_step(adjoint: Adjoint, params: Params, carry: Carry, zs: Any) -> Any:
    """Return what the first step of a sequence gives."""
    return adjoint.forward(adjoint.prepare(params, carry), carry, jax.tree.map(lambda leaf: leaf[0], zs))


def closes_over_tracers(step: Callable[..., Any], *arguments: Any) -> bool:
    """Whether a step reads arrays that are no arguments, and that JAX may be transforming."""
    return not checks.concrete(jax.make_jaxpr(step)(*arguments).consts)


def _recovered(adjoint: Adjoint, known: Known, params: Params, zs: Any, *_: Any) -> tuple[Carry, Any, Any, Any]:
    """Return what `forward_loop` does, from the carry before every step: all steps are independent then."""
    params, zs, known = jax.lax.stop_gradient((params, zs, known))
    every_step = jax.vmap(adjoint.forward, (None, 0, 0))
    _, _, operands, saved = nothing_closed_over(every_step(adjoint.prepare(params, known.befores), known.befores, zs))
    return known.final, known.ys, operands, saved


def _plain_loops(adjoint: Adjoint, reverse: bool, unroll: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the loops as functions of arrays, (params, zs, …) and (transposed, saved, …), for any step."""

    def forward(*arrays: Any) -> Any:
        arrays = jax.lax.stop_gradient(arrays)
        return nothing_closed_over(forward_loop(adjoint, *arrays, reverse=reverse, unroll=unroll))

    return forward, partial(reverse_loop, adjoint, reverse=reverse, unroll=unroll)


def _fast_loops(adjoint: Adjoint, reverse: bool, unroll: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the same loops for steps that are functions of their arguments alone, over one axis of rows."""
    forward_by = partial(forward_loop, adjoint, reverse=reverse)
    backward_by = partial(reverse_loop, adjoint, reverse=reverse)
    in_place = _folding(forward_by, in_place_scan, unroll, FORWARD)
    alone = ahead_scan if adjoint.ahead else stacked_scan
    forward = jax.custom_vjp(_folding(forward_by, alone, unroll, FORWARD, READ_WITHOUT_GRADIENT))
    forward.defvjp(
        lambda *arrays: (in_place(*jax.lax.stop_gradient(arrays)), None),
        lambda _, cotangents: (None,) * (1 + len(FORWARD.arguments)),  # `link` has them
    )
    return forward, _folding(backward_by, in_place_scan, unroll, BACKWARD)


def _folding(
    loop: Callable[..., Any], scan: Callable[..., Any], unroll: int, rows: Rows, read: int | None = None
) -> Callable[..., Any]:
    """Return ``loop(weights, *arrays)`` by ``scan``, of which `vmap` makes one loop over more rows.

    An array that is not mapped is repeated. Where the weights are mapped, an ensemble, rows have
    nothing to share, and the loop is mapped as it is; so it is over an axis of size 0.

    read: how many of the results, the first ones, anybody reads; all unless given.
    """

    def run(weights: Any, *arrays: Any) -> Any:
        count = jax.tree.leaves(_map_rows(lambda axis, x: x.shape[axis], rows.arguments, arrays))[0]
        if checks.symbolic(count) or count != 1:
            return loop(weights, *arrays, scan=scan, unroll=unroll)
        return _of_one_row(loop, unroll, rows, read)(weights, *arrays)

    folded = jax.custom_batching.custom_vmap(run)

    @folded.def_vmap
    def _(size: int, mapped: list[Any], weights: Any, *arrays: Any) -> Any:
        def fold(axis: int, x: Array, is_mapped: bool) -> Array:
            x = jnp.moveaxis(x if is_mapped else jnp.broadcast_to(x, (size, *x.shape)), 0, axis)
            return _flatten(x.shape[axis : axis + 2], axis, x)

        def unfold(axis: int, x: Array) -> Array:
            return jnp.moveaxis(_unflatten((size, x.shape[axis] // size), axis, x), axis, 0)

        if any(jax.tree.leaves(mapped[0])) or size == 0:
            in_axes = jax.tree.map(lambda is_mapped: 0 if is_mapped else None, tuple(mapped))
            results = jax.vmap(partial(loop, scan=stacked_scan, unroll=unroll), in_axes, axis_size=size)(
                weights, *arrays
            )
        else:
            results = folded(weights, *_map_rows(fold, rows.arguments, arrays, tuple(mapped[1:])))
            results = _map_rows(unfold, rows.results, results)
        return results, jax.tree.map(lambda _: True, results)

    return folded


def _of_one_row(loop: Callable[..., Any], unroll: int, rows: Rows, read: int | None) -> Callable[..., Any]:
    """Return ``loop`` as one kernel, and where that cannot be, some steps to an iteration.

    A kernel makes what it returns, read or not. So it returns what is read, and the rest of the results
    come from a loop of their own, which XLA drops. Arrays of every step go without the axis of the row,
    which XLA would copy them for, to lay it out as a kernel expects it.
    """
    some_steps = max(unroll, STEPS_OF_ONE_ROW)
    # In a kernel, XLA reads what stands beside a tanh one number after the other. With a gradient that costs less than
    # to read ahead.
    kernel_scan = stacked_scan if read is None else ahead_scan

    def results(scan: Callable[..., Any], unroll: int, part: slice) -> Callable[..., Any]:
        return lambda *arrays: loop(*arrays, scan=of_one_row(scan), unroll=unroll)[part]

    def run(weights: Any, *arrays: Any) -> Any:
        def without(axis: int, x: Array) -> Array:
            return x.squeeze(EVERY) if axis == EVERY else x

        def restored(axis: int, x: Array) -> Array:
            return jnp.expand_dims(x, EVERY) if axis == EVERY else x

        arrays = weights, *_map_rows(without, rows.arguments, arrays)
        kernel = results(kernel_scan, unroll, slice(read))
        made = one_kernel(kernel, results(stacked_scan, some_steps, slice(read)))(*arrays)
        if read is not None:
            made = *made, *results(stacked_scan, some_steps, slice(read, None))(*arrays)
        return _map_rows(restored, rows.results, made)

    return run


FIRST_REVERSE_ONLY = (
    "the hand-derived BPTT has first derivatives in reverse mode only; for second derivatives, jax.hessian, "
    'jax.jvp or jax.jacfwd, pass gradient="autodiff" to unroll or recurrent'
)


@contextlib.contextmanager
def reverse_mode_once() -> Iterator[None]:
    """Say what to do instead where JAX finds no derivative in forward mode."""
    try:
        yield
    except TypeError as error:
        if "forward-mode" in str(error):
            raise TypeError(FIRST_REVERSE_ONLY) from error
        raise


@jax.custom_jvp
def differentiate_once(values: Any, witness: Any) -> Any:
    """Return ``values``; raise where a derivative of the backward pass itself is asked for."""
    del witness
    return values


@differentiate_once.defjvp
def _(primals: Any, tangents: Any) -> Any:
    raise TypeError(FIRST_REVERSE_ONLY)


@jax.custom_jvp
def nothing_closed_over(values: Any) -> Any:
    """Return ``values``; raise where they depend on a differentiated array that is no argument."""
    return values


@nothing_closed_over.defjvp
def _(primals: Any, tangents: Any) -> Any:
    raise TypeError(
        "cell: its step closes over an array that is being differentiated, which the hand-derived BPTT would give "
        'a zero gradient; put the array into params, or pass gradient="autodiff"'
    )
