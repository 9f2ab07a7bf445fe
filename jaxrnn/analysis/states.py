"""Where the state goes: the carries of all steps."""

from typing import Any

import jax

from jaxrnn.bptt import prepare
from jaxrnn.types import Array, Carry, Cell, Params


def carries(cell: Cell, params: Params, xs: Any, carry: Carry | None = None, *, key: Array | None = None) -> Carry:
    """Return the carry after every step, where `jaxrnn.unroll` returns the last one.

    Args:
        cell, params, xs, carry, key: as in `jaxrnn.unroll`.

    Returns:
        A pytree like the carry, each leaf ``[T, *B, ...]``.

    Raises:
        ValueError, TypeError: as `jaxrnn.unroll`.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> from jaxrnn.analysis import carries
        >>> cell = jaxrnn.lstm(3, 5)
        >>> carries(cell, cell.init(jax.random.key(0)), jnp.ones((7, 2, 3))).c.shape
        (7, 2, 5)
    """
    return before_and_after(cell, params, xs, carry, key=key)[2]


def before_and_after(
    cell: Cell, params: Params, xs: Any, carry: Carry | None = None, *, key: Array | None = None
) -> tuple[Any, Carry, Carry]:
    """Return ``(zs, befores, afters)``: the prepared inputs, and the carries before and after every step."""
    run = prepare(cell, params, xs, carry, lengths=None, mask=None, resets=None, reverse=False, key=key)

    def body(carry: Carry, z: Any) -> tuple[Carry, tuple[Carry, Carry]]:
        after, _ = cell.step(params, carry, z)
        return after, (carry, after)

    _, (befores, afters) = jax.lax.scan(body, run.carry, run.zs)
    return run.zs, befores, afters
