"""The cells of Equinox, GRUCell and LSTMCell: it has no layers, so a cell stands for a `jaxrnn.recurrent`.

Its state is that of a cell here: h, or h and c.
"""

from typing import Any

import jax

from jaxrnn import checks
from jaxrnn.interop.arrays import require
from jaxrnn.interop.conventions import Weights
from jaxrnn.interop.descriptions import (
    USUAL,
    Network,
    convention_of,
    described,
    in_series,
    one_direction,
    only_directions,
)
from jaxrnn.types import Layer, Params


def from_equinox(cell: Any, *, reverse: bool = False) -> Network:
    """Return ``(layer, params)``: our layer with the weights of an Equinox cell, y_t and state the same.

    Args:
        cell: an `equinox.nn.GRUCell` or `equinox.nn.LSTMCell`, or a list of them, one on top of the other.
        reverse: as in `jaxrnn.recurrent`; for `jaxrnn.bidirectional`, convert both cells.

    Raises:
        ValueError: another module.
        TypeError: ``reverse`` is no bool.
        ImportError: Equinox is not installed.

    Example:
        >>> import equinox, jax, jax.numpy as jnp, jaxrnn.interop
        >>> theirs = equinox.nn.GRUCell(3, 5, key=jax.random.key(0))
        >>> layer, params = jaxrnn.interop.from_equinox(theirs)
        >>> x = jnp.ones(3)
        >>> h, ys = layer.apply(params, x[None])
        >>> bool(jnp.allclose(h, theirs(x, jnp.zeros(5)), atol=1e-6))
        True
    """
    nn = require("equinox").nn
    checks.flag("reverse", reverse)
    if isinstance(cell, (list, tuple)):
        return in_series([from_equinox(each, reverse=reverse) for each in cell])
    if not isinstance(cell, (nn.GRUCell, nn.LSTMCell)):
        raise ValueError(f"cell: expected a GRUCell or an LSTMCell of Equinox, got {type(cell).__name__}")
    kind = "lstm" if isinstance(cell, nn.LSTMCell) else "gru"
    weights = Weights(cell.weight_ih, cell.weight_hh, cell.bias, getattr(cell, "bias_n", None))
    return one_direction(convention_of("equinox", kind), kind, weights, USUAL[kind], reverse=reverse)


def to_equinox(layer: Layer, params: Params) -> Any:
    """Return an Equinox cell with our weights: the inverse of `from_equinox`.

    Args:
        layer: a `jaxrnn.recurrent` of a `jaxrnn.lstm` or a `jaxrnn.gru`, in the direction in which you will scan the
            cell; a stack of such layers becomes a list of cells.
        params: its parameters.

    Raises:
        ValueError: a layer that Equinox has no counterpart of; parameters of another layer.
        TypeError: no `Layer`, or parameters of another layer.
        ImportError: Equinox is not installed.

    Example:
        >>> import jax, jaxrnn.interop
        >>> layer = jaxrnn.recurrent(jaxrnn.lstm(3, 5))
        >>> params = layer.init(jax.random.key(0))
        >>> theirs = jaxrnn.interop.to_equinox(layer, params)
        >>> bool((theirs.weight_ih == params.input.T).all())
        True
    """
    entries = only_directions("equinox", described("equinox", layer, params))
    equinox = require("equinox")
    cells = []
    for entry in entries:
        weights = entry.weights("equinox")
        made = {"lstm": equinox.nn.LSTMCell, "gru": equinox.nn.GRUCell}[entry.kind]
        names = ["weight_ih", "weight_hh", "bias", *(["bias_n"] if entry.kind == "gru" else [])]
        # No weights are drawn that are replaced below.
        empty = equinox.filter_eval_shape(made, *entry.sizes, dtype=entry.params.bias.dtype, key=jax.random.key(0))
        own = lambda cell, names=names: [getattr(cell, name) for name in names]
        cells.append(equinox.tree_at(own, empty, list(weights[: len(names)])))
    return cells[0] if len(cells) == 1 else cells
