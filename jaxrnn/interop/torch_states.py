"""The packed states h_n and c_n of torch as a carry, and back.

torch has one array ``[layers directions, *B, H]`` of all layers and directions, layers first; a carry has an
entry for each.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrnn import checks
from jaxrnn.interop.arrays import off_host, on_host, require, to_jax, to_tensor
from jaxrnn.interop.descriptions import TwoWays, flat, recurrence, ways
from jaxrnn.layers.bidirectional import Directions
from jaxrnn.types import Carry, Layer


def from_torch_state(layer: Layer, state: Any) -> Carry:
    """Return torch's state as the carry of a layer, c^k_t of layer k from h_n[k], or h_n[2k] and h_n[2k + 1].

    Args:
        layer: as `to_torch` takes it.
        state: h_n ``[layers directions, *B, H]``, or ``(h_n, c_n)`` of an LSTM; of a cell h ``[*B, H]``, or (h, c).

    Raises:
        ValueError: another number of layers or directions, a layer that is no stack of recurrent ones.
        TypeError: no array, or no pair of them for an LSTM.

    Source: the documentation of torch.nn.LSTM.

    Example:
        >>> import jax.numpy as jnp, jaxrnn
        >>> from jaxrnn.interop import from_torch_state
        >>> layer = jaxrnn.stacked(jaxrnn.lstm, 3, 5, num_layers=2)
        >>> carry = from_torch_state(layer, (jnp.zeros((2, 7, 5)), jnp.ones((2, 7, 5))))
        >>> len(carry), carry[1].c.shape
        (2, (7, 5))
    """
    shape = _shape(layer)
    states = state if len(shape.parts) == 2 else (state,)
    if not isinstance(states, (tuple, list)) or len(states) != len(shape.parts):
        raise TypeError(f"state: expected the pair (h_n, c_n) of an LSTM, got {checks.outline(state)}")
    arrays = on_host([to_jax("state", each) for each in states])
    if shape.cell:
        arrays = [array[None] for array in arrays]
    for array in arrays:
        if array.ndim < 2 or array.shape[0] != len(shape.rows):
            raise ValueError(
                f"state: expected shape ({len(shape.rows)}, *batch, features) for the layer, got {array.shape}"
            )
    of_part = dict(zip(shape.parts, arrays, strict=True))
    leaves = [of_part[part][row] for row in shape.rows for part in sorted(shape.parts, reverse=True)]
    return jax.tree.unflatten(jax.tree.structure(shape.carry), off_host(leaves))


def to_torch_state(layer: Layer, carry: Carry) -> Any:
    """Return the carry of a layer as torch's state: the inverse of `from_torch_state`.

    Args:
        layer: as `to_torch` takes it.
        carry: of its `Layer.apply` or `Layer.initial_carry`.

    Raises:
        ValueError: a layer that torch has no module for.
        TypeError: a carry of another layer.
        ImportError: torch is missing.

    Source: the documentation of torch.nn.LSTM.

    Example: see `from_torch_state`.
    """
    shape = _shape(layer)
    torch = require("torch")
    if jax.tree.structure(carry) != jax.tree.structure(shape.carry):
        raise TypeError(
            f"carry: expected that of the layer, {checks.outline(shape.carry)}, got {checks.outline(carry)}"
        )
    leaves, count = jax.tree.leaves(carry), len(shape.parts)
    of_part = {part: leaves[index::count] for index, part in enumerate(sorted(shape.parts, reverse=True))}
    ordered = [[of_part[part][shape.rows.index(row)] for row in range(len(shape.rows))] for part in shape.parts]
    states = [to_tensor(torch, rows[0] if shape.cell else np.stack(rows)) for rows in ordered]
    return tuple(states) if count == 2 else states[0]


class Shape(NamedTuple):
    """How the states of a layer lie in torch.

    parts: "hc", the order of an LSTM's in torch, or "h". Leaves of a carry are h and then c.
    rows: where in h_n the state of each direction of each layer is, in the order of the carry.
    cell: whether it came from one of torch's cells, whose state has no axis of layers.
    carry: of the layer, without arrays.
    """

    parts: str
    rows: tuple[int, ...]
    cell: bool
    carry: Carry


def _shape(layer: Layer) -> Shape:
    checks.layer("layer", layer)
    params = jax.eval_shape(layer.init, jax.random.key(0))
    entries = [recurrence("torch", *each, ("projection_size",)) for each in flat(layer.spec, params)]
    convention, rows = ways(entries[0])[0].convention("torch"), []
    for entry in entries:
        start = len(rows)
        both = [convention.directions.index(way) for way in Directions._fields]
        rows += [start + place for place in (both if isinstance(entry, TwoWays) else [0])]
    lstm = ways(entries[0])[0].kind == "lstm"
    origin = () if layer.spec is None else layer.spec.origin
    carry = jax.eval_shape(layer.initial_carry, params)
    return Shape(convention.carry if lstm else "h", tuple(rows), dict(origin).get("cell", False), carry)
