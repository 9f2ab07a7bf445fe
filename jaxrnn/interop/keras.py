"""Recurrent layers of Keras 3: SimpleRNN, LSTM, GRU, ConvLSTM1D to 3D, Bidirectional, and stacks of them.

Keras is batch-major: its ``[batch, time, …]`` is our ``[time, batch, …]``, its mask ``[batch, time]`` is our
``mask [time, batch]``. At steps that are masked our outputs are zero; Keras repeats the output before,
unless it is told ``zero_output_for_mask``. A layer with ``go_backwards`` returns its outputs last step first;
ours belong to their inputs, as those of `Bidirectional` do.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxrnn.interop.arrays import require
from jaxrnn.interop.conventions import Convention, Weights
from jaxrnn.interop.descriptions import (
    Described,
    Network,
    Recurrence,
    activation_named,
    both_directions,
    convention_of,
    described,
    in_series,
    one_direction,
)
from jaxrnn.types import Layer, Params

KINDS = {"SimpleRNNCell": "vanilla", "LSTMCell": "lstm", "GRUCell": "gru", "ConvLSTMCell": "conv_lstm"}
MERGES = {"concat": "concat", "sum": "sum", "ave": "mean", "mul": "product", None: "both"}


def from_keras(layer: Any) -> Network:
    """Return ``(layer, params)``: our layer with the weights of a Keras layer, y_t and state the same.

    Args:
        layer: a SimpleRNN, LSTM, GRU, ConvLSTM1D, ConvLSTM2D or ConvLSTM3D, an RNN of their cells, a
            Bidirectional of these, or a Sequential of such layers, which becomes a `jaxrnn.serial`; built.
            Dropout is no weight: `jaxrnn.variational_dropout` and `jaxrnn.dropout` have it. Images are
            ``[time, batch, *spatial, channels]`` here, whatever the ``data_format``.

    Raises:
        ValueError: a layer that is not built, or not recurrent; an activation that is not elementwise.
        ImportError: Keras is not installed, or the backend that it is set to.

    Example:
        >>> import os
        >>> os.environ["KERAS_BACKEND"] = "jax"
        >>> import jax.numpy as jnp, keras, jaxrnn.interop
        >>> theirs = keras.layers.LSTM(4, return_sequences=True)
        >>> theirs.build((None, None, 3))
        >>> layer, params = jaxrnn.interop.from_keras(theirs)
        >>> xs = jnp.ones((2, 7, 3))  # batch first
        >>> _, ys = layer.apply(params, xs.swapaxes(0, 1))
        >>> bool(jnp.allclose(ys.swapaxes(0, 1), theirs(xs), atol=1e-6))
        True
    """
    keras = require("keras")
    if isinstance(layer, keras.Sequential):
        return in_series([from_keras(each) for each in layer.layers])
    if not isinstance(layer, (keras.layers.RNN, keras.layers.Bidirectional)):
        raise ValueError(f"layer: expected a recurrent layer of Keras, got {type(layer).__name__}")
    if not layer.built:
        raise ValueError("layer: expected a layer that is built and so has weights, got one that is not")
    if isinstance(layer, keras.layers.RNN):
        return _from_rnn(keras, layer)
    ways = layer.forward_layer, layer.backward_layer
    if ways[0].go_backwards:
        raise ValueError("layer: expected a Bidirectional whose forward layer runs forward, got go_backwards=True")
    return both_directions(_convention(ways[0].cell), [_from_rnn(keras, way) for way in ways], MERGES[layer.merge_mode])


def to_keras(layer: Layer, params: Params, **options: Any) -> Any:
    """Return a Keras layer with our weights, built: the inverse of `from_keras`.

    Args:
        layer: a `jaxrnn.recurrent` or `jaxrnn.bidirectional` of `jaxrnn.vanilla`, `jaxrnn.lstm`,
            `jaxrnn.lstm_variant` with other activations, `jaxrnn.gru` or `jaxrnn.conv_lstm`; or a stack of
            such layers, which becomes a Sequential.
        params: its parameters.
        options: for the Keras layers, such as ``return_state=True``; unless given, ``return_sequences`` is True, and
            the initializers of the kernels, of no use to what has weights, are zeros.

    Raises:
        ValueError: a layer that Keras has no counterpart of; parameters of another layer.
        TypeError: no `Layer`, or parameters of another layer.
        ImportError: Keras is not installed, or the backend that it is set to.

    Example:
        >>> import os
        >>> os.environ["KERAS_BACKEND"] = "jax"
        >>> import jax, jaxrnn.interop
        >>> layer = jaxrnn.recurrent(jaxrnn.gru(3, 5))
        >>> theirs = jaxrnn.interop.to_keras(layer, layer.init(jax.random.key(0)))
        >>> theirs.units, theirs.reset_after, theirs(jax.numpy.ones((2, 7, 3))).shape
        (5, True, (2, 7, 5))
    """
    entries = described("keras", layer, params)
    keras = require("keras")
    # Nothing is drawn that is replaced; the orthogonal matrices of the default have no bfloat16.
    options = {"return_sequences": True, "kernel_initializer": "zeros", "recurrent_initializer": "zeros", **options}
    made = [_to_layer(keras, entry, options) for entry in entries]
    return made[0] if len(made) == 1 else keras.Sequential(made)


def _from_rnn(keras: Any, layer: Any) -> Network:
    if isinstance(layer.cell, keras.layers.StackedRNNCells):
        return in_series([_from_cell(keras, cell, layer.go_backwards) for cell in layer.cell.cells])
    return _from_cell(keras, layer.cell, layer.go_backwards)


def _from_cell(keras: Any, cell: Any, reverse: bool) -> Network:
    kind = _kind(cell)
    names = _names(keras)
    recurrent_bias, options = None, {}
    bias = None if cell.bias is None else _read(keras, cell.bias)
    activations = [activation_named(cell.activation, names)]
    if kind != "vanilla":
        activations.insert(0, activation_named(cell.recurrent_activation, names))
    if kind in ("lstm", "conv_lstm"):
        activations.append(activations[1])
    if kind == "gru" and cell.reset_after and bias is not None:
        bias, recurrent_bias = bias
    if kind == "conv_lstm":
        geometry = {"padding": cell.padding, "strides": cell.strides, "dilation": cell.dilation_rate}
        options = {"spatial": tuple(cell.spatial_dims), **geometry}
    weights = Weights(_read(keras, cell.kernel), _read(keras, cell.recurrent_kernel), bias, recurrent_bias)
    return one_direction(_convention(cell), kind, weights, activations, reverse=reverse, **options)


def _kind(cell: Any) -> str:
    name = type(cell).__name__
    if name not in KINDS or not type(cell).__module__.startswith("keras."):
        raise ValueError(f"layer: expected a cell of {', '.join(KINDS)}, got {name}")
    return KINDS[name]


def _convention(cell: Any) -> Convention:
    return convention_of("keras", _kind(cell), getattr(cell, "reset_after", True))


def _names(keras: Any) -> dict[str, Callable[..., Any]]:
    known = keras.activations
    return {"tanh": known.tanh, "sigmoid": known.sigmoid, "relu": known.relu, "identity": known.linear}


def _read(keras: Any, variable: Any) -> Any:
    """Return an array of JAX, traced or not, or of NumPy where the backend is another."""
    return variable.value if isinstance(variable.value, jax.Array) else keras.ops.convert_to_numpy(variable.value)


def _to_layer(keras: Any, entry: Recurrence, options: dict[str, Any]) -> Any:
    if isinstance(entry, Described):
        return _to_rnn(keras, entry, options)
    forward, backward = (_to_rnn(keras, way, options) for way in entry.directions)
    modes = {ours: theirs for theirs, ours in MERGES.items()}
    options = {"merge_mode": modes[entry.merge], "backward_layer": backward, "dtype": entry.directions[0].dtype}
    both = keras.layers.Bidirectional(forward, **options)
    both.build(_input_shape(entry.directions[0]))
    both.set_weights([_read(keras, variable) for way in (forward, backward) for variable in way.weights])
    return both


def _to_rnn(keras: Any, entry: Described, options: dict[str, Any]) -> Any:
    own = entry.options
    activations = entry.functions(_names(keras))
    names = ("activation",) if entry.kind == "vanilla" else ("recurrent_activation", "activation")
    if len(activations) == 3 and entry.activations[1] != entry.activations[2]:
        raise ValueError("layer: expected one activation of candidate and output, as Keras has it, got two")
    given = {**dict(zip(names, activations, strict=False)), "go_backwards": entry.reverse, "dtype": entry.dtype}
    if entry.kind == "gru":
        given["reset_after"] = own["reset_after"]
    weights = entry.weights("keras")
    if entry.kind == "conv_lstm":
        made = _conv_lstm(keras, entry, {**given, **options})
    else:
        kinds = {"vanilla": keras.layers.SimpleRNN, "lstm": keras.layers.LSTM, "gru": keras.layers.GRU}
        made = kinds[entry.kind](entry.sizes[1], **given, **options)
    made.build(_input_shape(entry))
    both = weights.recurrent_bias is not None
    bias = np.stack([weights.bias, weights.recurrent_bias]) if both else np.asarray(weights.bias)
    made.set_weights([np.asarray(weights.input), np.asarray(weights.recurrent), bias])
    return made


def _conv_lstm(keras: Any, entry: Described, given: dict[str, Any]) -> Any:
    own = entry.options
    if own["groups"] != 1 or own["recurrent_kernel_size"] != own["kernel_size"]:
        raise ValueError("layer: expected a conv_lstm with one group and one kernel size, as Keras has it, got another")
    axes = len(own["kernel_size"])
    made = getattr(keras.layers, f"ConvLSTM{axes}D")
    geometry = {"padding": own["padding"], "strides": own["strides"], "dilation_rate": own["dilation"]}
    return made(entry.sizes[1], own["kernel_size"], data_format="channels_last", **geometry, **given)


def _input_shape(entry: Described) -> tuple[Any, ...]:
    spatial = entry.options["input_shape"][:-1] if entry.kind == "conv_lstm" else ()
    return (None, None, *spatial, entry.sizes[0])
