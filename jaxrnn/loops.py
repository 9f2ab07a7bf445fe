"""The two loops of BPTT, forward and back, over stacked outputs or in place.

A loop here is ``scan(step, carry, buffers, inputs)`` with ``step(carry, buffer_t, input_t) ->
(carry, outputs_t)``. `stacked_scan` is `jax.lax.scan`: every output has an array of its own.
`in_place_scan` writes an output over what the step has just read, where one of the same shape and
dtype is at hand: what the backward step needs, such as the gates, over zs, the cotangents of zs over those
of the outputs, or over what was kept. So much memory is not allocated, zeroed and mapped in.
"""

from collections.abc import Callable, Set
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

    def body(carry: Any, at_t: tuple[Any, Any]) -> tuple[Any, dict[int, Array]]:
        buffer_t, input_t = at_t
        after, outputs_t = step(carry, buffer_t, input_t)
        return after, stored.arrays(outputs_t, buffer_t, carry, after)

    final, arrays = jax.lax.scan(body, carry, (buffers, inputs), reverse=reverse, unroll=unroll)
    return final, stored.outputs(arrays, buffers, carry, final, reverse)


def ahead_scan(
    step: Step, carry: Any, buffers: Any, inputs: Any, *, reverse: bool = False, unroll: int = 1
) -> tuple[Any, Any]:
    """As `stacked_scan`, with the buffers of a step read by the step before it, whatever the step does with them."""
    stored = _Stored()
    length = jax.tree.leaves((buffers, inputs))[0].shape[0]

    def body(state: tuple[Any, Any], at_t: tuple[Array, Any]) -> tuple[Any, dict[int, Array]]:
        carry, buffer_t = state
        t, input_t = at_t
        after, outputs_t = step(carry, buffer_t, input_t)
        return (after, _at(t - 1 if reverse else t + 1, buffers)), stored.arrays(outputs_t, buffer_t, carry, after)

    state = carry, _at(length - 1 if reverse else 0, buffers)
    (final, _), arrays = jax.lax.scan(body, state, (jnp.arange(length), inputs), reverse=reverse, unroll=unroll)
    return final, stored.outputs(arrays, buffers, carry, final, reverse)


def in_place_scan(
    step: Step, carry: Any, buffers: Any, inputs: Any, *, reverse: bool = False, unroll: int = 1
) -> tuple[Any, Any]:
    """As `stacked_scan`, with outputs written over leaves of ``buffers`` of their shape and dtype."""
    stored = _Stored()
    leaves, structure = jax.tree.flatten(buffers)

    def first_step(carry: Any, buffers: Any, inputs: Any) -> dict[int, Array]:
        buffer_t, input_t = jax.tree.map(lambda leaf: leaf[0], (buffers, inputs))
        after, outputs_t = step(carry, buffer_t, input_t)
        return stored.arrays(outputs_t, buffer_t, carry, after)

    arrays = jax.eval_shape(first_step, carry, buffers, inputs)
    over = _written_over(arrays, {n: leaf for n, leaf in enumerate(leaves) if n not in stored.places})
    # The carry as a step takes it is needed on the way back. So where it has memory of its own, it is stored, and not
    # as the step leaves it: there is no array of outputs then if nobody reads them, as with a loss on the last alone.
    stored.as_taken(arrays.keys() - over.keys())
    read = {n: leaf for n, leaf in enumerate(leaves) if n not in over.values()}

    update = partial(jax.lax.dynamic_update_index_in_dim, axis=0, allow_negative_indices=False)

    def body(state: tuple[Any, Any, Any], at_t: tuple[Any, dict[int, Array], Any]) -> tuple[Any, dict[int, Array]]:
        carry, written, next_t = state
        t, read_t, input_t = at_t
        buffer_t = structure.unflatten([{**read_t, **next_t}[n] for n in range(len(leaves))])
        after, outputs_t = step(carry, buffer_t, input_t)
        arrays = stored.arrays(outputs_t, buffer_t, carry, after)
        written = {n: update(written[n], arrays.pop(place), t) for place, n in over.items()}
        # The next step's part, read from the buffer as it is now: a step that read the buffer as it was before, in
        # however many fusions, would have XLA copy the whole of it to keep it for them, at every step.
        next_t = _at(t - 1 if reverse else t + 1, written)
        return (after, written, next_t), arrays

    length = jax.tree.leaves((buffers, inputs))[0].shape[0]
    written = {n: leaves[n] for n in over.values()}
    state = carry, written, _at(length - 1 if reverse else 0, written)
    every_step = jnp.arange(length), read, inputs
    (final, written, _), stacked = jax.lax.scan(body, state, every_step, reverse=reverse, unroll=unroll)
    arrays = stacked | {place: written[n] for place, n in over.items()}
    return final, stored.outputs(arrays, buffers, carry, final, reverse)


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


def _written_over(arrays: dict[int, Any], free: dict[int, Any]) -> dict[int, int]:
    """Return for arrays of a step the number of the free leaf ``[T, ...]`` they are written over, each taken once."""
    over: dict[int, int] = {}
    for place, array in arrays.items():
        for n, leaf in free.items():
            if n not in over.values() and (leaf.shape[1:], leaf.dtype) == (array.shape, array.dtype):
                over[place] = n
                break
    return over


class _Stored:
    """What of a step's outputs is stored: an array that is there twice once, one of the step's buffers not at all.

    Of a part of the carry that is there as the step takes it and as it leaves it, one is stored: of all steps
    together, the other is the same array one step earlier or later. Places number the step's buffers, then its outputs.
    """

    befores: frozenset[int] = frozenset()  # the places of parts of the carry that are stored as the step takes them

    def as_taken(self, afters: Set[int]) -> None:
        """Store parts of the carry as the step takes them, where they were to be stored as it leaves them."""
        once = [after for _, after in self.pairs.values()]
        self.befores = frozenset(
            before for before, (_, after) in self.pairs.items() if after in afters and once.count(after) == 1
        )

    def arrays(self, outputs_t: Any, buffer_t: Any, before: Carry, after: Carry) -> dict[int, Array]:
        """Return what is stored of one step's outputs, by places."""
        given, leaves = jax.tree.leaves(buffer_t), jax.tree.leaves(outputs_t)
        place = {id(leaf): number for number, leaf in reversed(list(enumerate([*given, *leaves])))}
        taken, left = jax.tree.leaves(before), jax.tree.leaves(after)
        part = {id(leaf): number for number, leaf in enumerate(taken)}
        # Where an output is a part of the carry as it came: which part, and the place of that part as it leaves.
        self.pairs = {
            place[id(leaf)]: (number, place[id(left[number])])
            for leaf in leaves
            if (number := part.get(id(leaf))) is not None and id(left[number]) in place.keys() - part.keys()
        }
        self.structure = jax.tree.structure(outputs_t)
        self.places = [place[id(leaf)] for leaf in leaves]
        derived = {after if before in self.befores else before for before, (_, after) in self.pairs.items()}
        new = sorted({number for number in self.places if number >= len(given)} - derived)
        return {number: leaves[number - len(given)] for number in new}

    def outputs(self, arrays: dict[int, Array], buffers: Any, first: Carry, last: Carry, reverse: bool) -> Any:
        """Return the outputs of all steps, from the arrays stored and the carry before and after all of them."""
        known = dict(enumerate(jax.tree.leaves(buffers))) | arrays
        for before, (part, after) in self.pairs.items():
            if before in self.befores:
                known[after] = one_step_later(known[before], jax.tree.leaves(last)[part], reverse)
            else:
                known[before] = one_step_earlier(known[after], jax.tree.leaves(first)[part], reverse)
        return self.structure.unflatten([known[place] for place in self.places])


def one_step_later(before: Array, last: Array, reverse: bool) -> Array:
    """Return the carry after every step from that before every step ``[T, ...]`` and that after the last."""
    return one_step_earlier(before, last, not reverse)  # seen from the other end


def one_step_earlier(after: Array, first: Array, reverse: bool) -> Array:
    """Return the carry before every step from that after every step ``[T, ...]`` and that before the first."""
    if after.shape[0] == 0:  # no step, and so nothing before one
        return after
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
