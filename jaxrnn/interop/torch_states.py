"""The packed states h_n and c_n of torch as a carry, and back.

torch has one array ``[layers directions, *B, H]`` of all layers and directions, layers first; a carry has an
entry for each.
"""

from typing import Any

import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.cells.lstm import LSTMCarry
from jaxrnn.interop.arrays import require, to_jax, to_tensor
from jaxrnn.interop.conventions import CONVENTIONS
from jaxrnn.interop.networks import describe
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
    stack = describe(layer)
    order = CONVENTIONS["torch", stack.kind].carry
    states = state if stack.kind == "lstm" else (state,)
    if not isinstance(states, (tuple, list)) or len(states) != (2 if stack.kind == "lstm" else 1):
        raise TypeError(f"state: expected the pair (h_n, c_n) of an LSTM, got {checks.outline(state)}")
    arrays = [to_jax("state", each) for each in states]
    if stack.alone and not stack.bidirectional and stack.origin.get("cell"):
        return _carry(stack.kind, order, arrays)
    rows = stack.num_layers * (1 + stack.bidirectional)
    for array in arrays:
        if array.ndim < 2 or array.shape[0] != rows:
            raise ValueError(f"state: expected shape ({rows}, *batch, features) for the layer, got {array.shape}")
    each = [_carry(stack.kind, order, [array[row] for array in arrays]) for row in range(rows)]
    if stack.bidirectional:
        names = CONVENTIONS["torch", stack.kind].directions
        pairs = zip(each[::2], each[1::2], strict=True)
        each = [Directions(**dict(zip(names, pair, strict=True))) for pair in pairs]
    return each[0] if stack.alone else tuple(each)


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
    stack = describe(layer)
    torch = require("torch")
    convention = CONVENTIONS["torch", stack.kind]
    layers = (carry,) if stack.alone else carry
    if not isinstance(layers, (tuple, list)) or len(layers) != stack.num_layers:
        raise TypeError(
            f"carry: expected that of the layer, with {stack.num_layers} entries, got {checks.outline(carry)}"
        )
    cells = []
    for each in layers:
        if stack.bidirectional and not isinstance(each, Directions):
            raise TypeError(f"carry: expected the Directions of each layer, got {checks.outline(each)}")
        cells += [getattr(each, name) for name in convention.directions] if stack.bidirectional else [each]
    if stack.kind == "lstm" and not all(isinstance(cell, LSTMCarry) for cell in cells):
        raise TypeError(f"carry: expected the LSTMCarry of each layer, got {checks.outline(carry)}")
    parts = [[getattr(cell, name) for name in convention.carry] if stack.kind == "lstm" else [cell] for cell in cells]
    if stack.origin.get("cell"):
        states = [to_tensor(torch, part) for part in parts[0]]
    else:
        states = [to_tensor(torch, jnp.stack(rows)) for rows in zip(*parts, strict=True)]
    return tuple(states) if stack.kind == "lstm" else states[0]


def _carry(kind: str, order: str, arrays: list[Any]) -> Carry:
    return LSTMCarry(**dict(zip(order, arrays, strict=True))) if kind == "lstm" else arrays[0]
