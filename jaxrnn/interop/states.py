"""The states of recurrent layers of JAX's frameworks as carries, and back.

All of them have the arrays of a carry in one order, layer by layer and direction by direction, an LSTM's as
(h, c) or (c, h); they differ in what these are in:

    keras      a flat list of a layer: [h, c], of a Bidirectional [h, c, h, c]
    flax, nnx  (c, h), of a Bidirectional a pair of states
    haiku      LSTMState(h, c)
    equinox    (h, c)
"""

from collections.abc import Iterator
from typing import Any

import jax

from jaxrnn import checks
from jaxrnn.cells.lstm import LSTMCarry
from jaxrnn.interop.arrays import require, to_jax
from jaxrnn.interop.descriptions import Recurrence, TwoWays, described
from jaxrnn.layers.bidirectional import Directions
from jaxrnn.types import Carry, Layer, Params

TABLES = {"keras": "keras", "flax": "linen", "nnx": "nnx", "haiku": "haiku", "equinox": "equinox"}


def from_state(framework: str, layer: Layer, params: Params, state: Any) -> Carry:
    """Return the state of a framework as the carry of our layer, to start from.

    Args:
        framework: "keras", "flax" for linen, "nnx", "haiku" or "equinox".
        layer, params: as ``from_keras``, ``from_flax``, … return them.
        state: the state of their layer, or of a stack a list with that of each; its arrays are ``[*B, H]``.

    Raises:
        ValueError: an unknown framework, another number of arrays than the layer's state has.
        TypeError: no arrays.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn.interop
        >>> layer = jaxrnn.recurrent(jaxrnn.lstm(3, 5))
        >>> params = layer.init(jax.random.key(0))
        >>> c, h = jnp.ones((2, 5)), jnp.zeros((2, 5))
        >>> carry = jaxrnn.interop.from_state("flax", layer, params, (c, h))
        >>> bool((carry.c == c).all())
        True
    """
    table = TABLES[checks.choice("framework", framework, tuple(TABLES))]
    entries = described(table, layer, params)
    leaves = [to_jax("state", leaf) for leaf in jax.tree.leaves(state)]
    expected = sum(_count(entry) for entry in entries)
    if len(leaves) != expected:
        raise ValueError(f"state: expected {expected} arrays for the layer, got {len(leaves)}")
    following = iter(leaves)
    ours = jax.tree.leaves([_carry(table, entry, following) for entry in entries])
    return jax.tree.unflatten(jax.tree.structure(jax.eval_shape(lambda: layer.initial_carry(params))), ours)


def to_state(framework: str, layer: Layer, params: Params, carry: Carry) -> Any:
    """Return the carry of our layer as the state of a framework: the inverse of `from_state`.

    Args:
        framework: "keras", "flax" for linen, "nnx", "haiku" or "equinox".
        layer, params: as ``to_keras``, ``to_flax``, … take them.
        carry: of `Layer.apply` or `Layer.initial_carry`.

    Raises:
        ValueError: an unknown framework, a layer that it does not have.
        TypeError: a carry of another layer.
        ImportError: Haiku is not installed.

    Example:
        >>> import jax, jaxrnn.interop
        >>> layer = jaxrnn.recurrent(jaxrnn.lstm(3, 5))
        >>> params = layer.init(jax.random.key(0))
        >>> h, c = jaxrnn.interop.to_state("keras", layer, params, layer.initial_carry(params, (2,)))
        >>> h.shape
        (2, 5)
    """
    table = TABLES[checks.choice("framework", framework, tuple(TABLES))]
    entries = described(table, layer, params)
    expected = jax.tree.structure(jax.eval_shape(lambda: layer.initial_carry(params)))
    if jax.tree.structure(carry) != expected:
        raise TypeError(f"carry: expected that of the layer, got {checks.outline(carry)}")
    following = iter(jax.tree.leaves(carry))
    states = [_state(table, entry, following) for entry in entries]
    return states[0] if len(states) == 1 else states


def _count(entry: Recurrence) -> int:
    """Return how many arrays a state has."""
    if isinstance(entry, TwoWays):
        return sum(_count(way) for way in entry.directions)
    return 2 if "lstm" in entry.kind else 1


def _carry(table: str, entry: Recurrence, leaves: Iterator[Any]) -> Carry:
    if isinstance(entry, TwoWays):
        names = entry.directions[0].convention(table).directions
        return Directions(
            **{name: _carry(table, way, leaves) for name, way in zip(names, entry.directions, strict=True)}
        )
    if "lstm" not in entry.kind:
        return next(leaves)
    return LSTMCarry(**{name: next(leaves) for name in entry.convention(table).carry})


def _state(table: str, entry: Recurrence, leaves: Iterator[Any]) -> Any:
    if isinstance(entry, TwoWays):
        names = entry.directions[0].convention(table).directions
        ways = dict(zip(names, entry.directions, strict=True))
        ours = {name: _state(table, ways[name], leaves) for name in Directions._fields}
        first, second = (ours[name] for name in names)
        return [*first, *second] if table == "keras" else (first, second)
    if "lstm" not in entry.kind:
        return [next(leaves)] if table == "keras" else next(leaves)
    h, c = next(leaves), next(leaves)
    arrays = [{"h": h, "c": c}[name] for name in entry.convention(table).carry]
    if table == "haiku":
        return require("haiku", "dm-haiku").LSTMState(*arrays)
    return arrays if table == "keras" else tuple(arrays)
