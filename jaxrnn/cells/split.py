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

    The split makes it as fast as the library's own: `unroll` saves the products, differentiates
    `update` alone in its reverse loop, and takes all parameter gradients after it.

    Args:
        init: ``(key) -> params``.
        initial_carry: ``(params, batch_shape=()) -> carry``.
        recur: ``(params, carry) -> a``, all that touches the parameters inside the loop, for any
            leading axes: usually ``carry @ params.recurrent``. A parameter that enters elementwise
            may be part of ``a`` too, broadcast to the batch.
        update: ``(carry, z, a) -> (carry, y)``, the rest of the step. It must not close over
            parameters: they would be constants to its gradient.
        inputs: ``(params, xs [T, *B, D], key=None) -> zs [T, *B, ...]``, the part before the loop; xs
            itself unless given.
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


def itself(carry: Carry, z: Any) -> Carry:
    """Return ``carry``: what most products see of it."""
    del z
    return carry


def split_adjoint(split: Split, seen: Callable[[Carry, Any], Carry] = itself) -> Adjoint:
    """Return the adjoint of the step ``update(carry, z, recur(params, seen(carry, z)))``, by the chain rule."""
    recur, update = split

    def forward(params: Params, carry: Carry, z: Any) -> tuple[Carry, Any, Any, Any]:
        operand = seen(carry, z)
        a = recur(params, operand)
        after, y = update(carry, z, a)
        return after, y, operand, (z, a, carry)

    def backward(params: Params, saved: Any, dcarry: Carry, dy: Any) -> tuple[Carry, Any, Any]:
        z, a, before = saved
        _, update_transpose = jax.vjp(update, before, z, a)
        dbefore, dz, da = update_transpose((dcarry, dy))
        _, recur_transpose = jax.vjp(lambda carry: recur(params, seen(carry, z)), before)
        (through_product,) = recur_transpose(da)
        return jax.tree.map(jax.numpy.add, dbefore, through_product), dz, da

    return Adjoint(forward, lambda params: params, backward, recur)
