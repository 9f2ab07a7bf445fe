"""The recurrent cores of Haiku: VanillaRNN, LSTM, GRU, Conv1DLSTM to Conv3DLSTM, as dicts of parameters.

A core without parameters of its own, such as ResetCore, is none here: `resets` are an argument of every
layer. States are those of a cell here: h, or h and c.
"""

from collections.abc import Mapping
from typing import Any

from jaxrnn import checks
from jaxrnn.interop.arrays import off_host, on_host, space
from jaxrnn.interop.conventions import Weights
from jaxrnn.interop.descriptions import (
    USUAL,
    Described,
    Network,
    convention_of,
    described,
    in_series,
    one_direction,
    only_directions,
)
from jaxrnn.types import Layer, Params

# By the name of its class: our kind, and the name that Haiku gives the first of them.
CORES = {
    "VanillaRNN": ("vanilla", "vanilla_rnn"),
    "LSTM": ("lstm", "lstm"),
    "GRU": ("gru", "gru"),
    "Conv1DLSTM": ("conv_lstm", "conv1_dlstm"),
    "Conv2DLSTM": ("conv_lstm", "conv2_dlstm"),
    "Conv3DLSTM": ("conv_lstm", "conv3_dlstm"),
}
ACTIVATIONS = {**USUAL, "vanilla": ("relu",)}
# Where the kernels and biases are, in the dict of a core.
PRODUCTS = {"vanilla": ("/linear", "/linear_1"), "conv_lstm": ("/input_to_hidden", "/hidden_to_hidden")}


def from_haiku(
    params: Mapping[str, Mapping[str, Any]],
    core: Any,
    *,
    spatial: tuple[int, ...] | None = None,
    reverse: bool = False,
) -> Network:
    """Return ``(layer, params)``: our layer with the weights of a Haiku core, y_t and state the same.

    Args:
        params: Haiku's, ``{module: {name: array}}``; modules of other layers may be among them.
        core: the core's class, such as ``haiku.LSTM``, or its name; or a dict ``{module: class}`` where the
            module is not named as Haiku names the first core, such as ``{"agent/~/lstm": haiku.LSTM}``. More
            than one are one on top of the other, as in DeepRNN.
        spatial: the sizes of the images of a convolutional core, its ``input_shape`` without the channels.
        reverse: as in `jaxrnn.recurrent`; for `jaxrnn.bidirectional`, convert both cores.

    Raises:
        ValueError: an unknown core, or one whose parameters are not there; a convolutional core without ``spatial``.
        TypeError: an argument of the wrong type.

    Example:
        >>> import haiku, jax, jax.numpy as jnp, jaxrnn.interop
        >>> def run(xs):
        ...     core = haiku.LSTM(5)
        ...     return haiku.dynamic_unroll(core, xs, core.initial_state(2))
        >>> network, xs = haiku.without_apply_rng(haiku.transform(run)), jnp.ones((7, 2, 3))
        >>> theirs = network.init(jax.random.key(0), xs)
        >>> layer, params = jaxrnn.interop.from_haiku(theirs, haiku.LSTM)
        >>> bool(jnp.allclose(layer.apply(params, xs)[1], network.apply(theirs, xs)[0], atol=1e-6))
        True
    """
    checks.flag("reverse", reverse)
    if not isinstance(params, Mapping):
        raise TypeError(f"params: expected Haiku's, a dict by module, got {type(params).__name__}")
    cores = core if isinstance(core, Mapping) else {CORES[_name(core)][1]: core}
    networks = [_from_core(params, module, _name(each), spatial, reverse) for module, each in cores.items()]
    return networks[0] if len(networks) == 1 else in_series(networks)


def to_haiku(layer: Layer, params: Params) -> dict[str, dict[str, Any]]:
    """Return the parameters of a Haiku core from ours: the inverse of `from_haiku`.

    They are those of a core as Haiku makes and names it by default, and in a stack counts it: "lstm",
    "lstm_1". A VanillaRNN has two biases, of which the second is zero.

    Args:
        layer: a `jaxrnn.recurrent` of a `jaxrnn.vanilla` with ReLU, a `jaxrnn.lstm`, a `jaxrnn.gru` that resets
            before the product, or a `jaxrnn.conv_lstm`, in the direction in which you will unroll the core; or a
            stack of such layers.
        params: its parameters.

    Raises:
        ValueError: a layer that Haiku has no counterpart of; parameters of another layer.
        TypeError: no `Layer`, or parameters of another layer.

    Example:
        >>> import jax, jaxrnn.interop
        >>> layer = jaxrnn.stacked(jaxrnn.lstm, 3, 5, num_layers=2)
        >>> theirs = jaxrnn.interop.to_haiku(layer, layer.init(jax.random.key(0)))
        >>> {module: one["w"].shape for module, one in theirs.items()}
        {'lstm/linear': (8, 20), 'lstm_1/linear': (10, 20)}
    """
    entries = only_directions("haiku", described("haiku", layer, params), ACTIVATIONS)
    theirs: dict[str, dict[str, Any]] = {}
    counts: dict[str, int] = {}
    for entry in entries:
        first = _first_module(entry)
        counts[first] = counts.get(first, -1) + 1
        module = f"{first}_{counts[first]}" if counts[first] else first
        theirs |= _to_core(entry, module)
    return theirs


def _name(core: Any) -> str:
    name = core if isinstance(core, str) else getattr(core, "__name__", type(core).__name__)
    if name not in CORES:
        raise ValueError(f"core: expected one of {', '.join(CORES)} of Haiku, got {name}")
    return name


def _from_core(params: Any, module: str, name: str, spatial: Any, reverse: bool) -> Network:
    kind = CORES[name][0]
    options = {}
    if kind == "gru":
        own = _of(params, module)
        weights = Weights(own["w_i"], own["w_h"], own["b"])
    elif kind == "lstm":
        own = _of(params, module + "/linear")
        input_size = own["w"].shape[0] - own["w"].shape[1] // 4
        weights = Weights(own["w"][:input_size], own["w"][input_size:], own["b"])
    else:
        first, second = (_of(params, module + product) for product in PRODUCTS[kind])
        weights = Weights(first["w"], second["w"], first["b"], second.get("b"))
    if kind == "conv_lstm":
        axes = int(name[4])
        options["spatial"] = checks.sizes("spatial", spatial, range(axes, axes + 1), f"{axes} sizes of images")
    return one_direction(convention_of("haiku", kind), kind, weights, ACTIVATIONS[kind], reverse=reverse, **options)


def _of(params: Any, module: str) -> Any:
    if module not in params:
        raise ValueError(f"params: expected those of the module {module!r}, got {', '.join(params)}")
    return params[module]


def _first_module(entry: Described) -> str:
    if entry.kind != "conv_lstm":
        return next(module for kind, module in CORES.values() if kind == entry.kind)
    return CORES[f"Conv{len(entry.options['kernel_size'])}DLSTM"][1]


def _to_core(entry: Described, module: str) -> dict[str, dict[str, Any]]:
    """Return the parameters of one core, by module."""
    if entry.kind == "conv_lstm":
        entry.plain_convolution("Haiku")
    weights = entry.weights("haiku")
    if entry.kind == "gru":
        return {module: {"w_i": weights.input, "w_h": weights.recurrent, "b": weights.bias}}
    if entry.kind == "lstm":
        both = on_host([weights.input, weights.recurrent])
        return {module + "/linear": {"w": off_host(space(both[0]).concatenate(both)), "b": weights.bias}}
    first, second = (module + product for product in PRODUCTS[entry.kind])
    biases = weights.bias, weights.recurrent_bias
    return {first: {"w": weights.input, "b": biases[0]}, second: {"w": weights.recurrent, "b": biases[1]}}
