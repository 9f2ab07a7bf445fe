"""What a cell computes on its way: its gates and its state, at every step.

======  =====================================================
lstm    i, f, g, o, c, h as in `jaxrnn.lstm`
gru     r, u, n, h as in `jaxrnn.gru`, with either reset
others  the parts of the carry after the step, by their names
======  =====================================================
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.cells.activations import resolve_activation
from jaxrnn.types import Array, Carry, Cell, Params
from jaxrnn.unrolling import unroll


def activations(
    cell: Cell,
    params: Params,
    xs: Any,
    carry: Carry | None = None,
    *,
    lengths: Any = None,
    mask: Any = None,
    reverse: bool = False,
) -> dict[str, Array]:
    """Return the gates and states of every step by name, each ``[T, *B, H]``; zero at steps that are not valid.

    Args:
        cell: any `Cell`. There are gates of `jaxrnn.lstm` and of `jaxrnn.gru`; of other cells only the parts of
            the carry: its fields, or "h" where it is one array.
        params, xs, carry, lengths, mask, reverse: as in `jaxrnn.unroll`.

    Raises:
        ValueError, TypeError: as `jaxrnn.unroll`.

    Source: Karpathy, Johnson and Fei-Fei, "Visualizing and Understanding Recurrent Networks" (2016).

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> from jaxrnn.analysis import activations
        >>> cell = jaxrnn.lstm(3, 5)
        >>> at = activations(cell, cell.init(jax.random.key(0)), jnp.ones((7, 2, 3)))
        >>> list(at), bool(jnp.allclose(at["h"], at["o"] * jnp.tanh(at["c"]), atol=1e-6))
        (['i', 'f', 'g', 'o', 'c', 'h'], True)
    """
    checks.cell("cell", cell)
    names: list[str] = []

    def step(params: Params, before: Carry, z: Any) -> tuple[Carry, tuple[Array, ...]]:
        after, _ = cell.step(params, before, z)
        named = _gates(cell, params, before, z) | _parts(after)
        names[:] = named
        return after, tuple(named.values())

    # Without adjoint and split, it is a plain scan, which asks nothing of the outputs.
    recording = cell._replace(step=step, adjoint=None, split=None, spec=None)
    _, recorded = unroll(recording, params, xs, carry, lengths=lengths, mask=mask, reverse=reverse)
    return dict(zip(names, recorded, strict=True))


def _gates(cell: Cell, params: Params, before: Carry, z: Any) -> dict[str, Array]:
    """Return the gates of a step by name; none of a cell whose equations are not known here."""
    if cell.spec is None or cell.spec.factory not in ("lstm", "gru"):
        return {}
    assert cell.adjoint is not None
    product = partial(cell.adjoint.product, params)  # the cell's own, which knows where each bias is added
    if cell.spec.factory == "lstm":
        a = product(before.h)
        i, f, g, o = jnp.split(z.astype(a.dtype) + a, 4, axis=-1)
        return {"i": jax.nn.sigmoid(i), "f": jax.nn.sigmoid(f), "g": jnp.tanh(g), "o": jax.nn.sigmoid(o)}
    options = dict(cell.spec.options)
    sigma, phi = (resolve_activation(given).function for given in options["activations"])
    a = product(before if options["reset_after"] else (before, before))
    r, u = jnp.split(sigma(z.ru.astype(before.dtype) + a.ru), 2, axis=-1)
    q = r * a.n if options["reset_after"] else product((before, r * before)).n
    return {"r": r, "u": u, "n": phi(z.n.astype(before.dtype) + q)}


def _parts(carry: Carry) -> dict[str, Array]:
    """Return the parts of a carry by name, the output last."""
    if hasattr(carry, "_fields"):
        parts = carry._asdict()
        return {name: parts[name] for name in sorted(parts, key=lambda name: name == "h")}
    leaves = jax.tree.leaves(carry)
    return {"h": leaves[0]} if len(leaves) == 1 else {f"carry {index}": leaf for index, leaf in enumerate(leaves)}
