"""A cell of your own, from its product and its elementwise update, with a fast backward.

With a_t = recur(θ, c_{t-1}) and (c_t, y_t) = update(c_{t-1}, z_t, a_t), the cotangents follow the
chain rule, (∂c_{t-1}, ∂z_t, ∂a_t) = update'ᵀ (∂c_t, ∂y_t) and ∂c_{t-1} += recur'ᵀ ∂a_t, one step at
a time; the parameters' gradient Σ_t (∂a_t/∂θ)ᵀ ∂a_t is one contraction over all steps, after the loop.
"""

from collections.abc import Callable
from typing import Any

import jax

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

    Args:
        init: ``(key) -> params``.
        initial_carry: ``(params, batch_shape=()) -> carry``.
        recur: ``(params, carry) -> a``, all that touches the parameters inside the loop, for any
            leading axes: usually ``carry @ params.recurrent``. A parameter that enters elementwise
            may be part of ``a`` too, broadcast to the batch.
        update: ``(carry, z, a) -> (carry, y)``, the rest of the step. It must not close over
            parameters: they would be constants to its gradient.
        inputs: ``(params, xs [T, *B, D], key=None) -> zs [T, *B, ...]``, the part before the loop; xs
            itself unless given. On a CPU, a product of all steps is fastest of a matrix,
            ``xs.reshape(-1, D) @ params.input``, and a bias costs least as part of ``a``.
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


# Arithmetic, and what only moves numbers about, by JAX's names: it costs less than to read what was kept of it.
CHEAP = {
    "abs", "add", "add_any", "and", "broadcast_in_dim", "clamp", "concatenate", "convert_element_type", "copy",
    "eq", "ge", "gt", "integer_pow", "le", "lt", "max", "min", "mul", "ne", "neg", "not", "or", "reshape", "rev",
    "select_n", "sign", "slice", "split", "squeeze", "square", "sub", "transpose",
}  # fmt: skip


def itself(carry: Carry, z: Any) -> Carry:
    """Return ``carry``: what most products see of it."""
    del z
    return carry


def split_adjoint(split: Split, seen: Callable[[Carry, Any], Carry] = itself) -> Adjoint:
    """Return the adjoint of the step ``update(carry, z, recur(params, seen(carry, z)))``, by the chain rule.

    What `update` has computed with much work, such as a gate, is kept for the way back; the rest is computed again.
    """
    recur = split.recur
    costly = lambda primitive, *_, **__: str(primitive) not in CHEAP
    update = jax.checkpoint(split.update, policy=costly, prevent_cse=False)

    def forward(params: Params, carry: Carry, z: Any) -> tuple[Carry, Any, Any, Any]:
        operand = seen(carry, z)
        (after, y), transpose = jax.vjp(update, carry, z, recur(params, operand))
        kept = [leaf for leaf in jax.tree.leaves(transpose) if _has_rows(leaf, carry)]
        return after, y, operand, (carry, z, kept)

    def backward(params: Params, saved: Any, dcarry: Carry, dy: Any) -> tuple[Carry, Any, Any]:
        before, z, kept = saved
        a, recur_transpose = jax.vjp(lambda carry: recur(params, seen(carry, z)), before)
        # The transpose again, for its structure; what a kept array takes the place of, the compiler does not compute.
        leaves, structure = jax.tree.flatten(jax.vjp(update, before, z, a)[1])
        rest = iter(kept)
        leaves = [next(rest) if _has_rows(leaf, before) else leaf for leaf in leaves]
        dbefore, dz, da = jax.tree.unflatten(structure, leaves)((dcarry, dy))
        (through_product,) = recur_transpose(da)
        return jax.tree.map(jax.numpy.add, dbefore, through_product), dz, da

    return Adjoint(forward, lambda params: params, backward, recur)


def _has_rows(leaf: Any, carry: Carry) -> bool:
    """Return whether an array has a row for every sequence of the batch, as those of ``carry`` have."""
    shapes = [jax.numpy.shape(each) for each in (leaf, *jax.tree.leaves(carry)[:1])]
    return len(shapes) == 2 and all(shapes) and shapes[0][0] == shapes[1][0]
