"""Layers one after another: y = f_n(… f_2(f_1(x)))."""

from typing import Any

import jax

from jaxrnn import checks
from jaxrnn.types import Array, Carry, Layer, Params, recorded


@recorded
def serial(*layers: Layer) -> Layer:
    """Return the layer that runs ``layers`` one after another, y = f_n(… f_2(f_1(x))).

    Parameters and carry are tuples with one entry per child, ``()`` where a child has none. Lengths,
    mask and resets go to every child, as the `Layer.output_steps` of those before have left them; each
    gets a key of its own. ``step`` is None if any child's is.

    Args:
        layers: one `Layer` or more; wrap a cell in `recurrent` first.

    Raises:
        ValueError: no layer given; params or carry with another number of entries.
        TypeError: an argument that is no `Layer`.

    Example:
        >>> import jax, jaxrnn
        >>> model = jaxrnn.serial(
        ...     jaxrnn.embedding(10, 8), jaxrnn.recurrent(jaxrnn.lstm(8, 16)), jaxrnn.dropout(0.1), jaxrnn.dense(16, 10)
        ... )
        >>> params = model.init(jax.random.key(0))
        >>> carry, logits = model.apply(params, jax.numpy.zeros((5, 2), int))
        >>> logits.shape, carry[1].h.shape
        ((5, 2, 10), (2, 16))
    """
    if not layers:
        raise ValueError("layers: expected at least one Layer, got none")
    for index, layer in enumerate(layers):
        checks.layer(f"layers[{index}]", layer)
    steps = [layer.step for layer in layers if layer.step is not None]

    def init(key: Array) -> Params:
        checks.key("key", key)
        return tuple(layer.init(k) for layer, k in zip(layers, jax.random.split(key, len(layers)), strict=True))

    def initial_carry(params: Params, batch_shape: tuple[int, ...] = ()) -> Carry:
        _check_entries("params", params, len(layers))
        return tuple(layer.initial_carry(p, batch_shape) for layer, p in zip(layers, params, strict=True))

    def apply(
        params: Params,
        xs: Any,
        carry: Carry | None = None,
        *,
        lengths: Any = None,
        mask: Any = None,
        resets: Any = None,
        key: Array | None = None,
    ) -> tuple[Carry, Any]:
        _check_entries("params", params, len(layers))
        carries = [None] * len(layers) if carry is None else _check_entries("carry", carry, len(layers))
        after = []
        for layer, p, c, k in zip(layers, params, carries, keys_of(key, len(layers)), strict=True):
            c, xs = layer.apply(p, xs, c, lengths=lengths, mask=mask, resets=resets, key=k)
            after.append(c)
            lengths, mask, resets = layer.output_steps(lengths, mask, resets)
        return tuple(after), xs

    def step(params: Params, carry: Carry, x: Any, *, reset: Any = None, key: Array | None = None) -> tuple[Carry, Any]:
        _check_entries("params", params, len(layers))
        _check_entries("carry", carry, len(layers))
        after = []
        for child_step, p, c, k in zip(steps, params, carry, keys_of(key, len(layers)), strict=True):
            c, x = child_step(p, c, x, reset=reset, key=k)
            after.append(c)
        return tuple(after), x

    def output_steps(lengths: Any = None, mask: Any = None, resets: Any = None) -> tuple[Any, Any, Any]:
        for layer in layers:
            lengths, mask, resets = layer.output_steps(lengths, mask, resets)
        return lengths, mask, resets

    return Layer(init, initial_carry, apply, step if len(steps) == len(layers) else None, output_steps)


def keys_of(key: Array | None, count: int) -> Any:
    if key is None:
        return [None] * count
    checks.key("key", key)
    return jax.random.split(key, count)


def _check_entries(name: str, entries: Any, count: int) -> Any:
    if not isinstance(entries, (tuple, list)):
        raise TypeError(f"{name}: expected a tuple with one entry per layer, got {type(entries).__name__}")
    if len(entries) != count:
        raise ValueError(f"{name}: expected {count} entries, one per layer, got {len(entries)}")
    return entries
