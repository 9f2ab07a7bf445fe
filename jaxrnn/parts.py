"""A long sequence without a gradient: what its loop reads, zs, is made a few steps at a time.

With a gradient, zs of all steps become the memory of what is kept for the backward pass. Without one they
are read once, and can be the largest array there is, 4H numbers a step for the LSTM. So they are made

    c, ys = loop(c, inputs(θ, xs))        for xs of a few steps after another

and never leave the cache. Of a short sequence, one product for all steps takes as long or less, but not where
several devices of a CPU run the loop at once, inside `jax.shard_map`. There XLA shares large products, and the
making of large arrays, among the threads of all devices; whoever ends last goes on with a device's loop, and
one thread may find itself with two loops while another has none, or makes half of another device's product
before its own device begins. A part is too small to be shared, or what is shared of it too small to matter, and
the memory of ys is made by one thread.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.bptt import Run, with_inputs
from jaxrnn.checkpointing import unroll_in_segments
from jaxrnn.engine import closes_over_tracers, first_step, reverse_mode_once, unroll_by_adjoint
from jaxrnn.one_kernel import one_kernel
from jaxrnn.sharding import ONE_THREAD, on_several_devices, vary_over, varying_axes
from jaxrnn.types import Adjoint, Array, Carry, Cell, Params

LARGE = 2**24  # bytes of zs; to map larger ones in, at every call, takes longer than to make them in parts
SHARED = 2**19  # bytes; an array of more is made by several threads
ROWS = 64  # of a part's product, at least: fewer take as long. Not many more: XLA spreads larger arrays over threads
SHARED_ROWS = 160  # of a part's product that is shared anyway
CACHED = 2**18  # numbers of a kernel, at most, that are read from a core's own cache again at every part
STEPS = 4  # of a part, at least


def kernel_size(run: Run) -> int:
    """Return the numbers of W, with the features of xs and of zs."""
    of_step = math.prod(run.batch) * jax.tree.leaves(run.xs)[0].shape[0]
    features = [sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(of)) // of_step for of in (run.xs, run.zs)]
    return math.prod(features)


def part_length(run: Run) -> int:
    """Return the steps of a part, a divisor of all if one is near: a shorter last part costs a copy of all ys."""
    shared = on_several_devices(run.carry) and kernel_size(run) > ONE_THREAD
    least = max(STEPS, (SHARED_ROWS if shared else ROWS) // math.prod(run.batch))
    steps = jax.tree.leaves(run.xs)[0].shape[0]
    return next((length for length in range(least, 2 * least) if steps % length == 0), least)


def pays_in_parts(cell: Cell, adjoint: Adjoint, params: Params, run: Run) -> bool:
    """Whether zs, of which ``run`` has the shapes, take long to make at once, and a part reads its arguments alone."""

    def step(params: Params, carry: Carry, xs: Any) -> Any:
        return first_step(adjoint, params, carry, cell.inputs(params, xs))

    zs = jax.tree.leaves(run.zs)
    if any(checks.symbolic(axis) for leaf in zs for axis in leaf.shape):
        return False
    steps = jax.tree.leaves(run.xs)[0].shape[0]
    if steps * math.prod(run.batch) == 0:
        return False
    size = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in zs)
    in_threads = on_several_devices(run.carry) and kernel_size(run) <= CACHED
    pays = size > (SHARED if in_threads else LARGE) and steps > part_length(run)
    return pays and not closes_over_tracers(step, params, run.carry, run.xs)


class Prepared(NamedTuple):
    """Parameters, and what `Adjoint.prepare` made of them: formed once, not for each part."""

    params: Params
    prepared: Any


def with_prepared(cell: Cell, adjoint: Adjoint) -> tuple[Cell, Adjoint]:
    """Return both for parameters that are `Prepared`, and for no way back."""
    return cell._replace(inputs=lambda given, xs, key=None: cell.inputs(given.params, xs, key)), adjoint._replace(
        prepare=lambda given, carry: given.prepared,
        product=lambda given, operand: adjoint.product(given.params, operand),
    )


def unroll_in_parts(
    cell: Cell, adjoint: Adjoint, params: Params, run: Run, reverse: bool, unroll: int
) -> tuple[Carry, Any]:
    """Return (final carry, ys) by the adjoint, of a few steps after another on CPUs; for a gradient, of all at once."""
    length = part_length(run)

    def whole(params: Params, *arrays: Any) -> tuple[Carry, Any]:
        of_all = with_inputs(cell, params, Run(run.batch, *arrays), None)
        return unroll_by_adjoint(adjoint, params, of_all, reverse, unroll)

    def in_segments(params: Params, *arrays: Any) -> tuple[Carry, Any]:
        # Nothing is kept for a gradient here, so nothing is run again.
        of_all = Run(run.batch, *arrays)
        given = Prepared(params, adjoint.prepare(params, of_all.carry))
        cell_of_given, adjoint_of_given = with_prepared(cell, adjoint)
        unroll_part = lambda given, part: unroll_by_adjoint(adjoint_of_given, given, part, reverse, unroll)
        return unroll_in_segments(
            cell_of_given, given, of_all, None, length, reverse, unroll, unroll_part, scan_by_one_thread
        )

    @jax.custom_vjp
    def in_parts(*arrays: Any) -> tuple[Carry, Any]:
        # A GPU wants large products, and few.
        return jax.lax.platform_dependent(*arrays, cpu=in_segments, default=whole)

    in_parts.defvjp(lambda *arrays: jax.vjp(whole, *arrays), lambda transpose, cotangents: transpose(cotangents))
    with reverse_mode_once():
        return in_parts(params, run.xs, None, run.carry, run.init, run.steps)


def scan_by_one_thread(body: Callable[..., Any], carry: Any, xs: Any, *, reverse: bool) -> tuple[Any, Any]:
    """As `jax.lax.scan`, for no gradient; inside `shard_map` the memory of ys is made by one thread."""
    if not on_several_devices((carry, xs)):
        return jax.lax.scan(body, carry, xs, reverse=reverse)
    length = jax.tree.leaves(xs)[0].shape[0]
    step_of_ys = jax.eval_shape(lambda carry, xs: body(carry, jax.tree.map(lambda x: x[0], xs))[1], carry, xs)
    update = partial(jax.lax.dynamic_update_index_in_dim, axis=0, allow_negative_indices=False)

    def write(state: tuple[Any, Any], at_t: tuple[Array, Any]) -> tuple[Any, None]:
        carry, ys = state
        t, x = at_t
        carry, ys_t = body(carry, x)
        return (carry, jax.tree.map(lambda y, y_t: update(y, y_t, t), ys, ys_t)), None

    ys = jax.tree.map(lambda y: _zeros(varying_axes(y), (length, *y.shape), y.dtype), step_of_ys)
    (carry, ys), _ = jax.lax.scan(write, (carry, ys), (jnp.arange(length), xs), reverse=reverse)
    return carry, ys


def _zeros(axes: frozenset, shape: tuple[int, ...], dtype: Any) -> Array:
    """Return zeros that vary over ``axes``, as one kernel where XLA would share them among threads."""
    zeros = lambda shape: vary_over(axes, jnp.zeros(shape, dtype))
    if math.prod(shape) * jnp.dtype(dtype).itemsize <= SHARED:
        return zeros(shape)

    def kernel(first: Array) -> Array:
        # That this writes zeros at 0 is not known inside. If it were, XLA would make the array at once, by all threads.
        at = (first.reshape(-1)[0] != 0).astype(int)
        return jax.lax.dynamic_update_index_in_dim(zeros(shape), first, at, 0)

    return one_kernel(kernel, kernel)(zeros(shape[1:]))
