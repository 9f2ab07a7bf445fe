"""A cell of your own, from its product and its elementwise update, with a fast backward.

With a_t = recur(θ, c_{t-1}) and (c_t, y_t) = update(c_{t-1}, z_t, a_t), the cotangents follow the
chain rule, (∂c_{t-1}, ∂z_t, ∂a_t) = update'ᵀ (∂c_t, ∂y_t) and ∂c_{t-1} += recur'ᵀ ∂a_t, one step at
a time; the parameters' gradient Σ_t (∂a_t/∂θ)ᵀ ∂a_t is one contraction over all steps, after the loop.
"""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.types import Adjoint, Array, Carry, Cell, Params, Split, pass_through


def split_cell(
    init: Callable[[Array], Params],
    initial_carry: Callable[..., Carry],
    recur: Callable[[Params, Carry], Any],
    update: Callable[[Carry, Any, Any], tuple[Carry, Any]],
    *,
    inputs: Callable[..., Any] = pass_through,
    feature_axes: int = 1,
) -> Cell:
    """Return the cell whose step is ``update(carry, z, recur(params, carry))``.

    The split makes it as fast as the library's own: `unroll` differentiates `update` alone in its reverse
    loop, keeps of it what took much work, and takes all parameter gradients after the loop.

    For that it makes one axis of all batch axes, of those that `vmap` adds and, for `recur`, of time. So no example of
    the batch may depend on another: of a mean over the batch, or another statistic, values and gradients would be
    wrong without a word. Such a cell is to be run with ``gradient="autodiff"``, or written as a `Cell` without an
    adjoint.

    Args:
        init: ``(key) -> params``.
        initial_carry: ``(params, batch_shape=()) -> carry``.
        recur: ``(params, carry) -> a``, all that touches the parameters inside the loop, for any
            leading axes: usually ``carry @ params.recurrent``. A parameter that enters elementwise
            may be part of ``a`` too, broadcast to the batch.
        update: ``(carry, z, a) -> (carry, y)``, the rest of the step. It must not close over
            parameters: they would be constants to its gradient.
        inputs: ``(params, xs [T, *B, D], key=None) -> zs [T, *B, ...]``, the part before the loop, of
            each step from that step of xs; xs itself unless given. On a CPU, a product of all steps is
            fastest of a matrix, ``xs.reshape(-1, D) @ params.input``, and a bias costs least as part of ``a``.
        feature_axes: how many trailing axes of xs are features.

    Raises:
        TypeError: an argument that is no function; ``feature_axes`` that is no int.
        ValueError: negative ``feature_axes``.

    Source: the chain rule; Werbos, "Backpropagation Through Time" (1990).

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> cell = jaxrnn.split_cell(
        ...     init=lambda key: 0.5 * jnp.eye(3),
        ...     initial_carry=lambda params, batch_shape=(): jnp.zeros((*batch_shape, 3)),
        ...     recur=lambda params, h: h @ params,
        ...     update=lambda h, z, a: (jnp.tanh(z + a), jnp.tanh(z + a)),
        ... )
        >>> h, ys = jaxrnn.unroll(cell, cell.init(jax.random.key(0)), jnp.ones((4, 2, 3)))
        >>> h.shape, ys.shape
        ((2, 3), (4, 2, 3))
    """
    checks.functions(init=init, initial_carry=initial_carry, recur=recur, update=update, inputs=inputs)
    checks.size("feature_axes", feature_axes, least=0)

    split = Split(recur, update)

    def step(params: Params, carry: Carry, z: Any) -> tuple[Carry, Any]:
        return update(carry, z, recur(params, carry))

    return Cell(init, initial_carry, step, inputs, split_adjoint(split), feature_axes, split)


# Arithmetic, and what only moves numbers about, by JAX's names: it costs less than to read what was kept of it. But a
# part of an array is kept, or the whole of it would have to be.
CHEAP = {
    "abs", "add", "add_any", "and", "broadcast_in_dim", "clamp", "concatenate", "convert_element_type", "copy",
    "eq", "ge", "gt", "integer_pow", "le", "lt", "max", "min", "mul", "ne", "neg", "not", "one_minus_square",
    "or", "reshape", "rev", "select_n", "sign", "squeeze", "square", "sub", "transpose",
}  # fmt: skip


def itself(carry: Carry, z: Any) -> Carry:
    """Return ``carry``: what most products see of it."""
    del z
    return carry


class Kept(NamedTuple):
    """What the way back needs of a step.

    carry: as the step took it.
    z: what the step read; None where nothing on the way back reads it.
    beside: in its place, arrays side by side that have its shape together, so that the loop writes them over it.
    arrays: what was kept, by its number among all that the way back reads; None for what is in ``beside``.
    """

    carry: Carry
    z: Any
    beside: Array | None
    arrays: dict[int, Array | None]


def split_adjoint(split: Split, seen: Callable[[Carry, Any], Carry] = itself) -> Adjoint:
    """Return the adjoint of the step ``update(carry, z, recur(params, seen(carry, z)))``, by the chain rule.

    What `update` has computed with much work, such as a gate, is kept for the way back; the rest is computed again.
    """
    recur = split.recur
    costly = lambda primitive, *_, **__: str(primitive) not in CHEAP
    update = jax.checkpoint(split.update, policy=costly, prevent_cse=False)

    def doubled(params: Params, carry: Carry, z: Any) -> list[Any]:
        """Return all that the transpose of `update` reads, for every sequence twice."""
        carry, z = jax.tree.map(lambda x: jnp.concatenate([x, x]), (carry, z))
        return jax.tree.leaves(jax.vjp(update, carry, z, recur(params, seen(carry, z)))[1])

    def forward(params: Params, carry: Carry, z: Any) -> tuple[Carry, Any, Any, Kept]:
        operand = seen(carry, z)
        (after, y), transpose = jax.vjp(update, carry, z, recur(params, operand))
        leaves = jax.tree.leaves(transpose)
        arrays = {number: leaves[number] for number in _with_rows(leaves, doubled, params, carry, z)}
        # What has no rows is not kept, and may be computed again from z.
        computed_again = any(not checks.concrete(leaf) for number, leaf in enumerate(leaves) if number not in arrays)
        over_z = [] if seen is not itself or computed_again else _filling(z, arrays, carry)
        if not over_z:
            return after, y, operand, Kept(carry, z, None, arrays)
        beside = jnp.concatenate([arrays[number] for number in over_z], axis=-1)
        return after, y, operand, Kept(carry, None, beside, arrays | dict.fromkeys(over_z))

    def backward(params: Params, saved: Kept, dcarry: Carry, dy: Any) -> tuple[Carry, Any, Any]:
        before = saved.carry
        z = saved.z if saved.beside is None else saved.beside  # of the shape of z, which is all that is needed of it
        a, recur_transpose = jax.vjp(lambda carry: recur(params, seen(carry, z)), before)
        # The transpose again, for its structure; what a kept array takes the place of, the compiler does not compute.
        leaves, structure = jax.tree.flatten(jax.vjp(update, before, z, a)[1])
        kept = saved.arrays | _apart(saved, leaves)
        leaves = [kept.get(number, leaf) for number, leaf in enumerate(leaves)]
        dbefore, dz, da = jax.tree.unflatten(structure, leaves)((dcarry, dy))
        if _reads_the_sum(split.update, before, z, a):
            da = dz
        (through_product,) = recur_transpose(da)
        return jax.tree.map(jnp.add, dbefore, through_product), dz, da

    return Adjoint(forward, lambda params: params, backward, recur)


def _with_rows(leaves: list[Any], doubled: Callable[..., list[Any]], params: Params, carry: Carry, z: Any) -> list[int]:
    """Return the numbers of those ``leaves`` that have a row for every sequence: with all sequences twice, two.

    An axis as long as the batch may be another one, such as that of the units, and what is kept must be the same
    when `vmap` has the loop take more rows.
    """
    rows = jax.tree.leaves((carry, z))[0].shape[:1]
    as_long = [number for number, leaf in enumerate(leaves) if rows and jnp.shape(leaf)[:1] == rows]
    try:
        twice = jax.eval_shape(doubled, params, carry, z)
    except Exception:  # whatever a cell raises where the first axis is not the batch; no rows are folded into it then
        return as_long
    if len(twice) != len(leaves):
        return as_long
    return [number for number in as_long if twice[number].shape[:1] == (2 * rows[0],)]


def _filling(z: Any, arrays: dict[int, Array], carry: Carry) -> list[int]:
    """Return the numbers of arrays that have the shape and dtype of z side by side; none if there are none."""
    if not getattr(z, "shape", ()):
        return []
    there = {id(leaf) for leaf in jax.tree.leaves((carry, z))}  # and stored for no more memory
    numbers, room = [], z.shape[-1]
    for number, array in arrays.items():
        fits = (array.shape[:-1], array.dtype) == (z.shape[:-1], z.dtype) and array.shape[-1] <= room
        if fits and id(array) not in there:
            numbers.append(number)
            room -= array.shape[-1]
    return [] if room else numbers


def _apart(saved: Kept, like: list[Any]) -> dict[int, Array]:
    """Return the arrays that were kept side by side, by number; each has as many columns as its number of ``like``."""
    if saved.beside is None:
        return {}
    over_z = [number for number, array in saved.arrays.items() if array is None]
    ends = itertools.accumulate(like[number].shape[-1] for number in over_z)
    return dict(zip(over_z, jnp.split(saved.beside, list(ends)[:-1], axis=-1), strict=True))


def _reads_the_sum(update: Callable[..., Any], carry: Carry, z: Any, a: Any) -> bool:
    """Return whether `update` reads z + a alone, so that the cotangents of both are one array."""
    if not hasattr(z, "shape") or not hasattr(a, "shape"):
        return False
    jaxpr = jax.make_jaxpr(update)(carry, z, a).jaxpr
    both = {id(variable) for variable in jaxpr.invars[-2:]}
    read = lambda atoms: {id(atom) for atom in atoms} & both
    readers = [equation for equation in jaxpr.eqns if read(equation.invars)]
    is_sum = len(readers) == 1 and readers[0].primitive.name == "add" and read(readers[0].invars) == both
    return is_sum and not read(jaxpr.outvars)
