"""The two loops of BPTT, forward and back, over stacked outputs or in place.

A loop here is ``scan(step, carry, buffers, inputs)`` with ``step(carry, buffer_t, input_t) ->
(carry, outputs_t)``. `stacked_scan` is `jax.lax.scan`: every output has an array of its own.
`in_place_scan` writes an output over what the step has just read, where one of the same shape and
dtype is at hand: the factors that the backward step needs over zs, the cotangents of zs over those
factors. A third of the memory is not allocated, zeroed and mapped in.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.steps import Steps, select, zero_unless
from jaxrnn.types import Adjoint, Array, Carry, Params

Step = Callable[[Any, Any, Any], tuple[Any, Any]]


def stacked_scan(
    step: Step, carry: Any, buffers: Any, inputs: Any, *, reverse: bool = False, unroll: int = 1
) -> tuple[Any, Any]:
    """Return (final carry, outputs) of ``step`` over the leading axis of ``buffers`` and ``inputs``."""
    return jax.lax.scan(
        lambda carry, at_t: step(carry, *at_t), carry, (buffers, inputs), reverse=reverse, unroll=unroll
    )


def in_place_scan(
    step: Step, carry: Any, buffers: Any, inputs: Any, *, reverse: bool = False, unroll: int = 1
) -> tuple[Any, Any]:
    """As `stacked_scan`, with outputs written over leaves of ``buffers`` of their shape and dtype."""
    leaves, structure = jax.tree.flatten(buffers)
    first = lambda tree: jax.tree.map(lambda leaf: leaf[0], tree)
    one_step = lambda carry, buffers, inputs: step(carry, first(buffers), first(inputs))[1]
    outputs, output_structure = jax.tree.flatten(jax.eval_shape(one_step, carry, buffers, inputs))
    over = _written_over(outputs, leaves)
    written = [leaves[place] for place in over if place is not None]
    read = {place: leaf for place, leaf in enumerate(leaves) if place not in over}
    slot = {place: number for number, place in enumerate(place for place in over if place is not None)}

    def body(state: tuple[Any, list[Array]], at_t: tuple[Any, dict[int, Array], Any]) -> tuple[Any, list[Array]]:
        carry, written = state
        t, read_t, inputs_t = at_t
        written_t = {place: jax.lax.dynamic_index_in_dim(written[slot[place]], t, keepdims=False) for place in slot}
        # A fusion that reads a buffer after another has written it would have XLA copy the whole of it, at every step.
        written_t = jax.lax.optimization_barrier(written_t)
        buffer_t = structure.unflatten([{**read_t, **written_t}[place] for place in range(len(leaves))])
        carry, outputs_t = step(carry, buffer_t, inputs_t)
        outputs_t = list(zip(over, jax.tree.leaves(outputs_t), strict=True))
        written = [
            jax.lax.dynamic_update_index_in_dim(written[slot[place]], output, t, 0)
            for place, output in outputs_t
            if place is not None
        ]
        return (carry, written), [output for place, output in outputs_t if place is None]

    times = jnp.arange(jax.tree.leaves((buffers, inputs))[0].shape[0])
    (carry, written), stacked = jax.lax.scan(
        body, (carry, written), (times, read, inputs), reverse=reverse, unroll=unroll
    )
    rest = iter(stacked)
    return carry, output_structure.unflatten([next(rest) if place is None else written[slot[place]] for place in over])


def _written_over(outputs: list[Any], leaves: list[Any]) -> list[int | None]:
    """Return for each output of a step the place of the leaf ``[T, ...]`` it is written over, each taken once."""
    free = dict(enumerate(leaves))
    over = []
    for output in outputs:
        fits = (place for place, leaf in free.items() if (leaf.shape[1:], leaf.dtype) == (output.shape, output.dtype))
        place = next(fits, None)
        if place is not None:
            del free[place]
        over.append(place)
    return over


def forward_loop(
    adjoint: Adjoint,
    params: Params,
    zs: Any,
    carry: Carry,
    init: Carry | None,
    steps: Steps,
    *,
    reverse: bool,
    unroll: int = 1,
    scan: Callable[..., Any] = stacked_scan,
) -> tuple[Carry, Any, Any, Any]:
    """Return (final carry, ys, operands, saved), the last three for every step."""

    def step(carry: Carry, z: Any, around: Steps) -> tuple[Carry, Any]:
        valid, restart, _ = around
        before = select(restart, init, carry) if restart is not None else carry
        after, y, operand, saved = adjoint.forward(params, before, z)
        return select(valid, after, before), (saved, operand, zero_unless(valid, y))

    around = steps._replace(restart_last=None)
    final, (saved, operands, ys) = scan(step, carry, zs, around, reverse=reverse, unroll=unroll)
    if steps.restart_last is not None:
        final = select(steps.restart_last, init, final)
    return final, ys, operands, saved


def reverse_loop(
    adjoint: Adjoint,
    transposed: Any,
    saved: Any,
    dfinal: Carry,
    dys: Any,
    steps: Steps,
    *,
    reverse: bool,
    unroll: int = 1,
    scan: Callable[..., Any] = stacked_scan,
) -> tuple[Any, Any, Carry, Carry | None]:
    """Return (∂zs, ∂as, ∂carry, ∂init), the adjoint of `forward_loop` run the other way round."""

    def hand_over(restart: Array | None, dcarry: Carry, dinit: Carry | None) -> tuple[Carry, Carry | None]:
        """Where the carry was replaced, its cotangent belongs to the initial carry."""
        if restart is None:
            return dcarry, dinit
        taken = zero_unless(restart, dcarry)
        return zero_unless(~restart, dcarry), jax.tree.map(jnp.add, dinit, taken)

    def step(cotangents: tuple[Carry, Carry | None], saved_t: Any, inputs: tuple[Any, Steps]) -> tuple[Any, Any]:
        dcarry, dinit = cotangents
        dy, (valid, restart, _) = inputs
        dbefore, dz, da = adjoint.backward(transposed, saved_t, zero_unless(valid, dcarry), zero_unless(valid, dy))
        if valid is not None:  # a step that was not taken held the carry, and so holds its cotangent
            dbefore = jax.tree.map(jnp.add, dbefore, zero_unless(~valid, dcarry))
        return hand_over(restart, dbefore, dinit), (dz, None if da is dz else da)

    dinit = None if steps.restart is None else jax.tree.map(jnp.zeros_like, dfinal)
    cotangents = hand_over(steps.restart_last, dfinal, dinit)
    inputs = dys, steps._replace(restart_last=None)
    (dcarry, dinit), (dzs, das) = scan(step, cotangents, saved, inputs, reverse=not reverse, unroll=unroll)
    return dzs, dzs if das is None else das, dcarry, dinit
