"""Recurrent networks of torch here, and ours there: RNN, LSTM, GRU and their cells.

torch adds two biases where there is one here; `to_torch` puts all of it into the first, and zeros into the
second. A GRU keeps that of its candidate's recurrent product, in both. Its other conventions are in
`jaxrnn.interop.conventions`. `from_torch` of a state dict or of a file needs no torch.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.cells.gru import gru
from jaxrnn.cells.lstm import lstm
from jaxrnn.cells.lstm_variant import lstm_variant
from jaxrnn.cells.vanilla import vanilla
from jaxrnn.interop.arrays import read_safetensors, require, to_jax, to_tensor
from jaxrnn.interop.conventions import CONVENTIONS, to_ours, to_theirs
from jaxrnn.interop.networks import Network, cells_of, describe
from jaxrnn.interop.torch_names import Form, names_at, read_form, weights_at
from jaxrnn.layers.bidirectional import Directions
from jaxrnn.layers.recurrent import recurrent
from jaxrnn.layers.stacked import stacked
from jaxrnn.types import Array, Layer

MODULES = {"vanilla": "RNN", "lstm": "LSTM", "gru": "GRU"}
FACTORIES = {"vanilla": vanilla, "lstm": lstm, "gru": gru}
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
    layer = _layer(form, arrays["weight_ih" if form.cell else "weight_ih_l0"].dtype, **given)
    return layer, _params(form, arrays)


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


def _layer(form: Form, dtype: Any, activation: Any, batch_first: Any, dropout: Any) -> Layer:
    """Return the layer of a form, with what is None as torch has it."""
    options: dict[str, Any] = {"dtype": dtype}
    factory: Any = FACTORIES[form.kind]
    if form.kind == "vanilla":
        options["activation"] = checks.choice("activation", activation or "tanh", ACTIVATIONS)
    elif activation is not None:
        raise ValueError(f"activation: expected None for a {MODULES[form.kind]}, got {activation!r}")
    if form.projection_size is not None:
        factory, options["projection_size"] = lstm_variant, form.projection_size
    if form.cell:
        layer = recurrent(factory(form.input_size, form.hidden_size, **options))
    else:
        options["num_layers"], options["bidirectional"] = form.num_layers, form.bidirectional
        rate = 0.0 if dropout is None else dropout
        layer = stacked(factory, form.input_size, form.hidden_size, dropout=rate, **options)
    first = checks.flag("batch_first", False if batch_first is None else batch_first)
    origin = (("framework", "torch"), ("batch_first", first), ("bias", form.bias), ("cell", form.cell))
    assert layer.spec is not None
    return layer._replace(spec=layer.spec._replace(origin=origin))


def _params(form: Form, arrays: Mapping[str, Array]) -> Any:
    convention = CONVENTIONS["torch", form.kind]

    def of_layer(places: list[str]) -> Any:
        cells = [to_ours(convention, form.kind, weights_at(arrays, place)) for place in places]
        return Directions(**dict(zip(convention.directions, cells, strict=True))) if form.bidirectional else cells[0]

    layers = tuple(map(of_layer, form.places()))
    return layers[0] if form.cell else layers


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
    network = describe(layer)
    layers = cells_of(network, layer, params)
    form, activation = _form(network, layers)
    torch = require("torch")
    convention = CONVENTIONS["torch", form.kind]
    state = {}
    for cells, places in zip(layers, form.places(), strict=True):
        by_direction = dict(zip(Directions._fields, cells, strict=False))
        for place, direction in zip(places, convention.directions, strict=False):
            weights = to_theirs(convention, form.kind, by_direction[direction])
            if not form.bias:
                weights = weights._replace(bias=None, recurrent_bias=None)
            state |= names_at(weights, place)
    options: dict[str, Any] = {"bias": form.bias}
    if form.kind == "vanilla":
        options["nonlinearity"] = activation
    if not form.cell:
        options |= {"num_layers": form.num_layers, "bidirectional": form.bidirectional}
        options["batch_first"] = network.origin.get("batch_first", False)
    if form.projection_size:
        options["proj_size"] = form.projection_size
    tensors = {name: to_tensor(torch, value) for name, value in state.items()}
    options["dtype"] = next(iter(tensors.values())).dtype
    make = getattr(torch.nn, MODULES[form.kind] + "Cell" * form.cell)
    module = make(form.input_size, form.hidden_size, **options)
    if not form.cell:
        module.dropout = network.dropout  # given to one layer alone it would be a warning
    module.load_state_dict(tensors)
    return module


def _form(network: Network, layers: list[tuple[Any, ...]]) -> tuple[Form, str]:
    """Return the form of the module, and the activation of an RNN, if torch has the like."""
    options, hidden_size = network.options, network.hidden_sizes[0]
    usual = {"reset_after": True, "activations": ("sigmoid", "tanh") + ("tanh",) * (network.kind == "lstm")}
    usual |= dict.fromkeys(("peephole", "coupled"), False)
    usual |= dict.fromkeys(("normalization", "cell_clip", "projection_clip"))
    wrong = {name: options[name] for name in usual if name in options and options[name] != usual[name]}
    if network.bidirectional and network.merge != "concat":
        wrong["merge"] = network.merge
    if len(set(network.hidden_sizes)) > 1:
        wrong["hidden_size"] = network.hidden_sizes
    activation = options.get("activation", "tanh")
    if activation not in ACTIVATIONS:
        wrong["activation"] = activation
    projection_size = options.get("projection_size")
    if projection_size is not None and projection_size >= hidden_size:
        wrong["projection_size"] = projection_size
    if wrong:
        found = ", ".join(f"{name}={value!r}" for name, value in wrong.items())
        raise ValueError(f"layer: expected options that torch.nn.{MODULES[network.kind]} has, got {found}")
    cells = [cell for layer in layers for cell in layer]
    biases = [bias for cell in cells for bias in (cell.bias, getattr(cell, "candidate_bias", None)) if bias is not None]
    form = Form(
        network.kind,
        network.input_size,
        hidden_size,
        network.num_layers,
        network.bidirectional,
        network.origin.get("bias", True) or any(bool(jnp.any(bias != 0)) for bias in biases),
        projection_size,
        network.origin.get("cell", False),
    )
    return form, activation
