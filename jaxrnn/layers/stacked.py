"""Recurrent layers on top of each other in one call, as torch's RNN, LSTM and GRU make them."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.layers.bidirectional import bidirectional as both_ways
from jaxrnn.layers.dropout import dropout as dropped
from jaxrnn.layers.recurrent import recurrent
from jaxrnn.layers.serial import keys_of, serial
from jaxrnn.types import Array, Carry, Cell, Layer, Params, recorded


def stacked(
    cell: Callable[..., Cell],
    input_size: int | tuple[int, ...],
    hidden_size: int | Sequence[int],
    *,
    num_layers: int | None = None,
    bidirectional: bool = False,
    dropout: float = 0.0,
    gradient: str = "auto",
    checkpoint: Any = None,
    unroll_factor: int = 1,
    **options: Any,
) -> Layer:
    """Return recurrent layers on top of each other: h^k_t from h^k_{t-1} and h^{k-1}_t, with h^0_t = x_t.

    Parameters and carry are tuples with one entry per layer, its cell's own, or `jaxrnn.Directions` of
    two. It is `jaxrnn.serial` of `jaxrnn.recurrent` or `jaxrnn.bidirectional`; where more than the
    sizes differs from layer to layer, write that.

    Args:
        cell: what makes a cell: `jaxrnn.lstm`, `jaxrnn.gru` or any other function ``(D, H, **options)``.
        input_size: D of ``xs [T, *B, D]``, or what else ``cell`` takes first.
        hidden_size: H of every layer, or a sequence with the size of each.
        num_layers: how many; 1 unless given, or as many as there are sizes.
        bidirectional: whether each layer reads from both ends, `jaxrnn.bidirectional`, with outputs of
            2 H features. There is no ``step`` then.
        dropout: the share of each layer's outputs that are dropped, but the last one's; only where
            `Layer.apply` or `Layer.step` is given a key.
        gradient, checkpoint, unroll_factor: as in `jaxrnn.recurrent`.
        options: for ``cell``, the same in all layers.

    Raises:
        ValueError: a size or number below 1, sizes of another number than ``num_layers``, no sizes, a
            rate outside [0, 1), an unknown choice.
        TypeError: an argument of the wrong type.

    Source: Graves, Mohamed and Hinton, "Speech Recognition with Deep Recurrent Neural Networks" (2013);
    the dropout between layers, Zaremba, Sutskever and Vinyals (2014).

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> layer = jaxrnn.stacked(jaxrnn.lstm, 3, 5, num_layers=2, bidirectional=True, dropout=0.1)
        >>> params, xs = layer.init(jax.random.key(0)), jnp.ones((7, 2, 3))
        >>> carry, ys = layer.apply(params, xs, lengths=jnp.array([7, 4]))
        >>> ys.shape, carry[1].backward.h.shape
        ((7, 2, 10), (2, 5))
    """
    if not callable(cell):
        raise TypeError(f"cell: expected a function that makes a Cell, such as jaxrnn.lstm, got {type(cell).__name__}")
    checks.flag("bidirectional", bidirectional)
    checks.rate("dropout", dropout)
    choices = {"gradient": gradient, "checkpoint": checkpoint, "unroll_factor": unroll_factor}

    layers, features = [], input_size
    for size in _sizes(hidden_size, num_layers):
        if layers:
            features = output_size(layers[-1], features)
        made = cell(features, size, **options)
        forward = recurrent(made, **choices)
        layers.append(both_ways(forward, recurrent(made, reverse=True, **choices)) if bidirectional else forward)
    return stack(*layers, dropout=dropout)


@recorded
def stack(*layers: Layer, dropout: float = 0.0) -> Layer:
    """Return layers on top of each other with dropout between them, what `stacked` makes of its layers."""
    return serial(*(_then(layer, dropped(dropout)) for layer in layers[:-1]), *layers[-1:])


def _sizes(hidden_size: Any, num_layers: int | None) -> tuple[int, ...]:
    """Return the hidden size of every layer."""
    if num_layers is not None:
        checks.size("num_layers", num_layers)
    if not isinstance(hidden_size, (tuple, list)):
        return (checks.size("hidden_size", hidden_size),) * (1 if num_layers is None else num_layers)
    if not hidden_size:
        raise ValueError("hidden_size: expected one size or more, got none")
    if num_layers not in (None, len(hidden_size)):
        raise ValueError(f"num_layers: expected {len(hidden_size)}, as there are sizes, got {num_layers}")
    return tuple(checks.size(f"hidden_size[{index}]", size) for index, size in enumerate(hidden_size))


def output_size(layer: Layer, input_size: Any) -> Any:
    """Return the size of the layer's outputs, an int or a shape as ``input_size`` is; only the cell knows it."""
    shape = input_size if isinstance(input_size, tuple) else (input_size,)

    def run() -> Any:
        params = layer.init(jax.random.key(0))
        dtype = jnp.result_type(*jax.tree.leaves(params)) if jax.tree.leaves(params) else jnp.float32
        return layer.apply(params, jnp.zeros((1, *shape), dtype))[1]

    features = jax.eval_shape(run).shape[1:]
    return features if isinstance(input_size, tuple) else features[0]


def _then(layer: Layer, after: Layer) -> Layer:
    """Return ``layer`` and then ``after``, which has no parameters and no state, with those of ``layer`` alone."""

    def apply(
        params: Params, xs: Any, carry: Carry | None = None, *, key: Array | None = None, **steps: Any
    ) -> tuple[Carry, Any]:
        first, second = keys_of(key, 2)
        carry, ys = layer.apply(params, xs, carry, **steps, key=first)
        return carry, after.apply((), ys, key=second)[1]

    layer_step, after_step = layer.step, after.step
    if layer_step is None or after_step is None:
        return layer._replace(apply=apply, step=None)

    def step(params: Params, carry: Carry, x: Any, *, reset: Any = None, key: Array | None = None) -> tuple[Carry, Any]:
        first, second = keys_of(key, 2)
        carry, y = layer_step(params, carry, x, reset=reset, key=first)
        return carry, after_step((), (), y, key=second)[1]

    return layer._replace(apply=apply, step=step)
