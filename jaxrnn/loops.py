"""The two loops of BPTT, forward and back, over stacked outputs or in place.

A loop here is ``scan(step, carry, buffers, inputs)`` with ``step(carry, buffer_t, input_t) ->
(carry, outputs_t)``. `stacked_scan` is `jax.lax.scan`: every output has an array of its own.
`in_place_scan` writes an output over what the step has just read, where one of the same shape and
dtype is at hand: the factors that the backward step needs over zs, the cotangents of zs over those of
the outputs, or over the factors. A third of the memory is not allocated, zeroed and mapped in.
"""

from collections.abc import Callable
from functools import partial
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
    stored = _Stored()

    def body(carry: Any, at_t: tuple[Any, Any]) -> tuple[Any, list[Array]]:
        buffer_t, input_t = at_t
        after, outputs_t = step(carry, buffer_t, input_t)
        return after, stored.arrays(outputs_t, buffer_t, carry, after)

    final, arrays = jax.lax.scan(body, carry, (buffers, inputs), reverse=reverse, unroll=unroll)
    return final, stored.outputs(arrays, buffers, carry, reverse)


def ahead_scan(
    step: Step, carry: Any, buffers: Any, inputs: Any, *, reverse: bool = False, unroll: int = 1
) -> tuple[Any, Any]:
    """As `stacked_scan`, with the buffers of a step read by the step before it, whatever the step does with them."""
    stored = _Stored()
    length = jax.tree.leaves((buffers, inputs))[0].shape[0]

    def body(state: tuple[Any, Any], at_t: tuple[Array, Any]) -> tuple[Any, list[Array]]:
        carry, buffer_t = state
        t, input_t = at_t
        after, outputs_t = step(carry, buffer_t, input_t)
        return (after, _at(t - 1 if reverse else t + 1, buffers)), stored.arrays(outputs_t, buffer_t, carry, after)

    state = carry, _at(length - 1 if reverse else 0, buffers)
    (final, _), arrays = jax.lax.scan(body, state, (jnp.arange(length), inputs), reverse=reverse, unroll=unroll)
    return final, stored.outputs(arrays, buffers, carry, reverse)


def in_place_scan(
    step: Step, carry: Any, buffers: Any, inputs: Any, *, reverse: bool = False, unroll: int = 1
) -> tuple[Any, Any]:
    """As `stacked_scan`, with outputs written over leaves of ``buffers`` of their shape and dtype."""
    stored = _Stored()
    leaves, structure = jax.tree.flatten(buffers)

    def first_step(carry: Any, buffers: Any, inputs: Any) -> list[Array]:
        buffer_t, input_t = jax.tree.map(lambda leaf: leaf[0], (buffers, inputs))
        after, outputs_t = step(carry, buffer_t, input_t)
        return stored.arrays(outputs_t, buffer_t, carry, after)

    arrays = jax.eval_shape(first_step, carry, buffers, inputs)
    over = _written_over(arrays, {n: leaf for n, leaf in enumerate(leaves) if n not in stored.places})
    read = {n: leaf for n, leaf in enumerate(leaves) if n not in over}

    update = partial(jax.lax.dynamic_update_index_in_dim, axis=0, allow_negative_indices=False)

    def body(state: tuple[Any, Any, Any], at_t: tuple[Any, dict[int, Array], Any]) -> tuple[Any, list[Array]]:
        carry, written, next_t = state
        t, read_t, input_t = at_t
        buffer_t = structure.unflatten([{**read_t, **next_t}[n] for n in range(len(leaves))])
        after, outputs_t = step(carry, buffer_t, input_t)
        placed = list(zip(over, stored.arrays(outputs_t, buffer_t, carry, after), strict=True))
        written = {n: update(written[n], array, t) for n, array in placed if n is not None}
        # The next step's part, read from the buffer as it is now: a step that read the buffer as it was before, in
        # however many fusions, would have XLA copy the whole of it to keep it for them, at every step.
        next_t = _at(t - 1 if reverse else t + 1, written)
        return (after, written, next_t), [array for n, array in placed if n is None]

    length = jax.tree.leaves((buffers, inputs))[0].shape[0]
    written = {n: leaves[n] for n in over if n is not None}
    state = carry, written, _at(length - 1 if reverse else 0, written)
    every_step = jnp.arange(length), read, inputs
    (final, written, _), stacked = jax.lax.scan(body, state, every_step, reverse=reverse, unroll=unroll)
    rest = iter(stacked)
    arrays = [next(rest) if n is None else written[n] for n in over]
    return final, stored.outputs(arrays, buffers, carry, reverse)


def of_one_row(scan: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``scan`` over arrays ``[T, ...]`` that lack the axis of the rows, of one row, for steps that have it."""

    def scan_one_row(step: Step, carry: Any, buffers: Any, inputs: Any, **options: Any) -> tuple[Any, Any]:
        def step_without(carry: Any, buffer_t: Any, input_t: Any) -> tuple[Any, Any]:
            without = jax.tree.leaves((buffer_t, input_t))
            buffer_t, input_t = jax.tree.map(lambda x: x[None], (buffer_t, input_t))
            carry, outputs_t = step(carry, buffer_t, input_t)
            # What is there twice, or was there before, stays one array: so `_Stored` knows it.
            known = dict(zip(map(id, jax.tree.leaves((buffer_t, input_t))), without, strict=True))
            known = {id(leaf): leaf[0] for leaf in jax.tree.leaves(outputs_t)} | known
            return carry, jax.tree.map(lambda leaf: known[id(leaf)], outputs_t)

        return scan(step_without, carry, buffers, inputs, **options)

    return scan_one_row


def _at(t: Any, buffers: Any) -> Any:
    """Return step t of all buffers, that of the nearest end where there is no such step."""
    index = partial(jax.lax.dynamic_index_in_dim, index=t, keepdims=False, allow_negative_indices=False)
    return jax.tree.map(index, buffers)


def _written_over(arrays: list[Any], free: dict[int, Any]) -> list[int | None]:
    """Return for each array of a step the number of the free leaf ``[T, ...]`` it is written over, each taken once."""
    over = []
    for array in arrays:
        fits = (n for n, leaf in free.items() if (leaf.shape[1:], leaf.dtype) == (array.shape, array.dtype))
        over.append(next(fits, None))
        free = {n: leaf for n, leaf in free.items() if n != over[-1]}
    return over


class _Stored:
    """What of a step's outputs is stored: an array that is there twice once, one of the step's buffers not at all.

    Nor is a part of the carry as the step takes it, if what the step leaves of it is there: of all steps together,
    it is the same array one step later.
    """

    def arrays(self, outputs_t: Any, buffer_t: Any, before: Carry, after: Carry) -> list[Array]:
        """Return the leaves of one step's outputs that are new, each once."""
        given, leaves = jax.tree.leaves(buffer_t), jax.tree.leaves(outputs_t)
        place = {id(leaf): number for number, leaf in reversed(list(enumerate([*given, *leaves])))}
        taken, left = jax.tree.leaves(before), jax.tree.leaves(after)
        part = {id(leaf): number for number, leaf in enumerate(taken)}
        # Where an output is a part of the carry as it came: which part, and where that part as it leaves is stored.
        self.earlier = {
            place[id(leaf)]: (number, place[id(left[number])])
            for leaf in leaves
            if (number := part.get(id(leaf))) is not None and id(left[number]) in place.keys() - part.keys()
        }
        self.structure = jax.tree.structure(outputs_t)
        self.places = [place[id(leaf)] for leaf in leaves]
        self.new = sorted({number for number in self.places if number >= len(given)} - self.earlier.keys())
        return [leaves[number - len(given)] for number in self.new]

    def outputs(self, arrays: list[Array], buffers: Any, carry: Carry, reverse: bool) -> Any:
        """Return the outputs of all steps, from the arrays stored."""
        known = dict(enumerate(jax.tree.leaves(buffers))) | dict(zip(self.new, arrays, strict=True))
        first = jax.tree.leaves(carry)
        for number, (part, later) in self.earlier.items():
            known[number] = one_step_earlier(known[later], first[part], reverse)
        return self.structure.unflatten([known[place] for place in self.places])


def one_step_earlier(after: Array, first: Array, reverse: bool) -> Array:
    """Return the carry before every step from that after every step ``[T, ...]`` and that before the first."""
    return jnp.concatenate([after[1:], first[None]] if reverse else [first[None], after[:-1]])


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
    prepared = adjoint.prepare(params, carry)

    def step(carry: Carry, z: Any, around: Steps) -> tuple[Carry, Any]:
        valid, restart, _ = around
        before = select(restart, init, carry) if restart is not None else carry
        after, y, operand, saved = adjoint.forward(prepared, before, z)
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

    def step(cotangents: tuple[Carry, Carry | None], buffers_t: Any, around: Steps) -> tuple[Any, Any]:
        dcarry, dinit = cotangents
        dy, saved_t = buffers_t
        valid, restart, _ = around
        dbefore, dz, da = adjoint.backward(transposed, saved_t, zero_unless(valid, dcarry), zero_unless(valid, dy))
        if valid is not None:  # a step that was not taken held the carry, and so holds its cotangent
            dbefore = jax.tree.map(jnp.add, dbefore, zero_unless(~valid, dcarry))
        return hand_over(restart, dbefore, dinit), (dz, da)

    dinit = None if steps.restart is None else jax.tree.map(jnp.zeros_like, dfinal)
    cotangents = hand_over(steps.restart_last, dfinal, dinit)
    around = steps._replace(restart_last=None)
    (dcarry, dinit), (dzs, das) = scan(step, cotangents, (dys, saved), around, reverse=not reverse, unroll=unroll)
    return dzs, das, dcarry, dinit
