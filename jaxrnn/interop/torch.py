"""Recurrent networks of torch here, and ours there: RNN, LSTM, GRU and their cells.

torch adds two biases where there is one here; `to_torch` puts all of it into the first, and zeros into the
second. A GRU keeps that of its candidate's recurrent product, in both. Its other conventions are in
`jaxrnn.interop.conventions`. `from_torch` of a state dict or of a file needs no torch.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxrnn import checks
from jaxrnn.interop.arrays import read_safetensors, require, to_jax, to_tensor
from jaxrnn.interop.descriptions import (
    USUAL,
    Network,
    Recurrence,
    TwoWays,
    both_directions,
    convention_of,
    described,
    one_direction,
    ways,
)
from jaxrnn.interop.torch_names import Form, names_at, read_form, weights_at
from jaxrnn.layers.stacked import stack
from jaxrnn.types import Array, Layer

MODULES = {"vanilla": "RNN", "lstm": "LSTM", "gru": "GRU"}
ACTIVATIONS = ("tanh", "relu")


def from_torch(
    source: Any,
    *,
    prefix: str = "",
    activation: str | None = None,
    batch_first: bool | None = None,
    dropout: float | None = None,
) -> tuple[Layer, Any]:
    """Return ``(layer, params)`` that compute what a recurrent module of torch does, h_t = f(x_t, h_{t-1}).

    A module gives a `jaxrnn.stacked`, with one entry per layer in parameters and carry, a cell such as
    ``LSTMCell`` a `jaxrnn.recurrent`. Time is axis 0 here, of a module with ``batch_first`` too; that it had
    it, and whether it had biases, is kept in the layer's spec for `to_torch`. Dropout acts where the layer is
    given a key, else nowhere.

    Args:
        source: a ``torch.nn.RNN``, ``LSTM``, ``GRU``, ``RNNCell``, ``LSTMCell`` or ``GRUCell``; or its state
            dict, of arrays of any framework; or the path of a safetensors file with one. Kind, sizes, depth,
            directions, biases and projection are read from names and shapes.
        prefix: what the names in a state dict or file begin with, such as "encoder.lstm."; others are left out.
        activation: of an RNN in a state dict or file, "tanh" unless given, or "relu". A module says it itself,
            as it does the following two.
        batch_first: whether the module had it; False unless given.
        dropout: the share of each layer's outputs that are dropped, but the last one's; 0 unless given.

    Raises:
        ValueError: weights missing, unexpected or of a shape that does not fit, by name; an option given
            besides a module; a file that is damaged.
        TypeError: another source, weights of several dtypes.
        ImportError: the package safetensors is missing, for a file.

    Source: the equations of torch.nn.RNN, torch.nn.LSTM and torch.nn.GRU.

    Example:
        >>> import jax.numpy as jnp, numpy as np
        >>> from jaxrnn.interop import from_torch
        >>> shapes = {"weight_ih_l0": (12, 3), "weight_hh_l0": (12, 4), "bias_ih_l0": (12,), "bias_hh_l0": (12,)}
        >>> gru, params = from_torch({name: np.ones(shape, np.float32) for name, shape in shapes.items()})
        >>> carry, ys = gru.apply(params, jnp.ones((7, 2, 3)))
        >>> ys.shape, carry[0].shape
        ((7, 2, 4), (2, 4))
    """
    given = {"activation": activation, "batch_first": batch_first, "dropout": dropout}
    if not isinstance(prefix, str):
        raise TypeError(f"prefix: expected a str, got {prefix!r}")
    if hasattr(source, "state_dict"):
        for name, value in {"prefix": prefix or None, **given}.items():
            if value is not None:
                raise ValueError(f"{name}: expected None with a module, which says it itself, got {value!r}")
        arrays, given = source.state_dict(), _options(source)
    elif isinstance(source, (str, os.PathLike)):
        arrays, _ = read_safetensors(Path(source))
    elif isinstance(source, Mapping):
        arrays = source
    else:
        raise TypeError(f"source: expected a module of torch, a state dict or a path, got {type(source).__name__}")
    arrays = {name[len(prefix) :]: value for name, value in arrays.items() if name.startswith(prefix)}
    arrays = {name: to_jax(f"source: {prefix}{name}", value) for name, value in arrays.items()}
    form = read_form("source", arrays)
    if len({array.dtype for array in arrays.values()}) > 1:
        found = ", ".join(sorted({str(array.dtype) for array in arrays.values()}))
        raise TypeError(f"source: expected weights of one dtype, got {found}")
    layer, params = _network(form, arrays, given["activation"], given["dropout"])
    first = False if given["batch_first"] is None else checks.flag("batch_first", given["batch_first"])
    origin = (("framework", "torch"), ("batch_first", first), ("bias", form.bias), ("cell", form.cell))
    assert layer.spec is not None
    return layer._replace(spec=layer.spec._replace(origin=origin)), params


def _options(module: Any) -> dict[str, Any]:
    """Return the options of a module that its weights do not show."""
    nn = require("torch").nn
    if not isinstance(module, (nn.RNN, nn.LSTM, nn.GRU, nn.RNNCell, nn.LSTMCell, nn.GRUCell)):
        raise TypeError(
            "source: expected a torch.nn.RNN, LSTM, GRU or one of their cells, got "
            f"{type(module).__name__}; give the part of it that is one, or its state dict with prefix="
        )
    names = {"activation": "nonlinearity", "batch_first": "batch_first", "dropout": "dropout"}
    return {ours: getattr(module, theirs, None) for ours, theirs in names.items()}


def _network(form: Form, arrays: Mapping[str, Array], activation: str | None, dropout: float | None) -> Network:
    """Return the layer of a form and its parameters, with what is None as torch has it."""
    activations = USUAL[form.kind]
    if form.kind == "vanilla":
        activations = (checks.choice("activation", activation or "tanh", ACTIVATIONS),)
    elif activation is not None:
        raise ValueError(f"activation: expected None for a {MODULES[form.kind]}, got {activation!r}")
    rate = 0.0 if dropout is None else dropout
    checks.rate("dropout", rate)
    convention = convention_of("torch", form.kind)
    directions = convention.directions if form.bidirectional else ("forward",)
    networks = []
    for places in form.places():
        each = [
            one_direction(convention, form.kind, weights_at(arrays, place), activations, reverse=way == "backward")
            for place, way in zip(places, directions, strict=True)
        ]
        networks.append(both_directions(convention, each, "concat") if form.bidirectional else each[0])
    if form.cell:
        return networks[0]
    return stack(*(layer for layer, _ in networks), dropout=rate), tuple(params for _, params in networks)


def to_torch(layer: Layer, params: Any) -> Any:
    """Return the module of torch that computes what a layer does: the inverse of `from_torch`.

    The kind, the options and the dtype are those of the layer and its parameters; ``batch_first``, a module
    without biases and a cell come back where `from_torch` found them, biases all the same if they are no
    longer zero. The second of the two biases that torch adds is zero, but for a GRU's candidate.

    Args:
        layer: of `from_torch`, or any `jaxrnn.stacked`, `jaxrnn.recurrent` or `jaxrnn.bidirectional` of
            `jaxrnn.vanilla`, `jaxrnn.lstm` or `jaxrnn.gru`, or of `jaxrnn.lstm_variant` with a projection.
        params: its parameters.

    Raises:
        ValueError: a layer that torch has no module for, naming the option.
        TypeError: an argument of the wrong type.
        ImportError: torch is missing.

    Source: the equations of torch.nn.RNN, torch.nn.LSTM and torch.nn.GRU.

    Example: see `from_torch`; ``to_torch(gru, params)`` is the ``torch.nn.GRU(3, 4)``.
    """
    entries = described("torch", layer, params, ("projection_size",))
    assert layer.spec is not None
    origin = dict(layer.spec.origin)
    form, activation = _form(entries, origin)
    torch = require("torch")
    state = {}
    for entry, places in zip(entries, form.places(), strict=True):
        for cell, place in zip(ways(entry), places, strict=True):
            weights = cell.weights("torch")
            if not form.bias:
                weights = weights._replace(bias=None, recurrent_bias=None)
            state |= names_at(weights, place)
    options: dict[str, Any] = {"bias": form.bias}
    if form.kind == "vanilla":
        options["nonlinearity"] = activation
    if not form.cell:
        options |= {"num_layers": form.num_layers, "bidirectional": form.bidirectional}
        options["batch_first"] = origin.get("batch_first", False)
    if form.projection_size:
        options["proj_size"] = form.projection_size
    tensors = {name: to_tensor(torch, value) for name, value in state.items()}
    options["dtype"] = next(iter(tensors.values())).dtype
    make = getattr(torch.nn, MODULES[form.kind] + "Cell" * form.cell)
    module = make(form.input_size, form.hidden_size, **options)
    if not form.cell:
        module.dropout = dict(layer.spec.options).get("dropout", 0.0)  # given to one layer alone it would be a warning
    module.load_state_dict(tensors)
    return module


def _form(entries: Sequence[Recurrence], origin: Mapping[str, Any]) -> tuple[Form, str]:
    """Return the form of the module, and the activation of an RNN, if torch has the like."""
    cells = [cell for entry in entries for cell in ways(entry)]
    first, bidirectional = cells[0], isinstance(entries[0], TwoWays)
    hidden_size, projection_size = first.options["hidden_size"], first.options.get("projection_size")
    if any(len(ways(entry)) != 1 + bidirectional for entry in entries) or len({cell.kind for cell in cells}) > 1:
        raise ValueError("layer: expected layers of one kind, all of them in one direction or in both, got others")
    if not bidirectional and any(cell.reverse for cell in cells):
        raise ValueError("layer: expected one that runs forward, or in both directions, got one in reverse")
    found = {
        "hidden_size": {cell.options["hidden_size"] for cell in cells},
        "projection_size": {cell.options.get("projection_size") for cell in cells},
        "activations": {cell.activations for cell in cells},
        "reset_after": {cell.options.get("reset_after", True) for cell in cells},
        "merge": {entry.merge for entry in entries if isinstance(entry, TwoWays)},
    }
    has = {
        "projection_size": [None, *range(1, hidden_size)],
        "activations": [(name,) for name in ACTIVATIONS] if first.kind == "vanilla" else [USUAL[first.kind]],
        "reset_after": [True],
        "merge": ["concat"],
    }
    wrong = {name: each for name, each in found.items() if len(each) > 1 or not each <= set(has.get(name, each))}
    if wrong:
        got = ", ".join(f"{name}={' and '.join(sorted(map(repr, each)))}" for name, each in wrong.items())
        raise ValueError(f"layer: expected options that torch.nn.{MODULES[first.kind]} has, got {got}")
    biases = [bias for cell in cells for bias in (cell.params.bias, getattr(cell.params, "candidate_bias", None))]
    form = Form(
        first.kind,
        first.options["input_size"],
        hidden_size,
        len(entries),
        bidirectional,
        origin.get("bias", True) or any(np.any(np.asarray(bias)) for bias in biases if bias is not None),
        projection_size,
        origin.get("cell", False),
    )
    return form, first.activations[0]
