"""Networks in the words that all frameworks share: from weights to a `Layer`, and from its `Spec` back to them.

A converter knows where its framework keeps weights and options. What it finds, cell by cell and direction
by direction, is made a network here, by the table of `jaxrnn.interop.conventions`; and what it is to
build, is read here from the spec of a layer.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import checks
from jaxrnn.cells.activations import ACTIVATIONS
from jaxrnn.cells.conv_lstm import conv_lstm
from jaxrnn.cells.gru import gru
from jaxrnn.cells.lstm import LSTMParams, lstm
from jaxrnn.cells.lstm_records import LSTMVariantParams
from jaxrnn.cells.lstm_variant import lstm_variant
from jaxrnn.cells.ugrnn import ugrnn
from jaxrnn.cells.vanilla import vanilla
from jaxrnn.interop.arrays import to_jax
from jaxrnn.interop.conventions import CONVENTIONS, Convention, Weights, to_ours, to_theirs
from jaxrnn.layers.bidirectional import Directions, bidirectional
from jaxrnn.layers.recurrent import recurrent
from jaxrnn.layers.serial import serial
from jaxrnn.types import Cell, Layer, Params, Spec

Network = tuple[Layer, Params]
FUNCTIONS = {name: activation.function for name, activation in ACTIVATIONS.items()}  # as JAX has them
LSTM_ACTIVATIONS = ("sigmoid", "tanh", "tanh")
USUAL = {"vanilla": ("tanh",), "gru": ("sigmoid", "tanh"), "lstm": LSTM_ACTIVATIONS, "conv_lstm": LSTM_ACTIVATIONS}
# Options of `lstm_variant` that no framework but ONNX knows.
BEYOND = ("peephole", "coupled", "projection_size", "normalization", "cell_clip", "projection_clip")


def convention_of(name: str, kind: str, reset_after: bool = True) -> Convention:
    """Return how a framework writes the weights of a kind of cell, or say that it has none."""
    if not reset_after and (f"{name} before", kind) in CONVENTIONS:
        name = f"{name} before"
    if (name, kind) not in CONVENTIONS:
        kinds = ", ".join(kind for known, kind in CONVENTIONS if known == name)
        raise ValueError(f"layer: expected cells that {name} has ({kinds}), got {kind}")
    return CONVENTIONS[name, kind]


# From a framework.


def one_direction(
    convention: Convention,
    kind: str,
    weights: Weights,
    activations: Sequence[Any],
    *,
    reverse: bool = False,
    **options: Any,
) -> Network:
    """Return the recurrent layer of a cell, and its parameters.

    activations: of "vanilla" and "ugrnn" one, of "gru" two, of "lstm" and "conv_lstm" three, as our cells take them.
    options: of `conv_lstm`, with ``spatial``, the sizes of the images.
    """
    params = to_ours(
        convention, kind, Weights(*(None if each is None else to_jax("weights", each) for each in weights))
    )
    cell = _cell(kind, params, tuple(activations), options)
    if kind == "lstm" and tuple(activations) != LSTM_ACTIVATIONS and isinstance(params, LSTMParams):
        params = LSTMVariantParams(*params)
    return recurrent(cell, reverse=reverse), params


def both_directions(convention: Convention, networks: Sequence[Network], merge: str) -> Network:
    """Return the bidirectional layer of two networks in the framework's order of directions."""
    by_name = dict(zip(convention.directions, networks, strict=True))
    forward, backward = by_name["forward"], by_name["backward"]
    return bidirectional(forward[0], backward[0], merge=merge), Directions(forward[1], backward[1])


def stack(networks: Sequence[Network]) -> Network:
    """Return networks one after another."""
    return serial(*(layer for layer, _ in networks)), tuple(params for _, params in networks)


def activation_named(function: Callable[..., Any], names: Mapping[str, Callable[..., Any]]) -> Any:
    """Return what our cells call a framework's ``function``: a name of theirs, or else the function itself."""
    for name, known in names.items():
        if function is known:
            return name
    with jax.ensure_compile_time_eval():
        first, second = (np.asarray(function(jnp.array([0.3, other]))) for other in (-0.5, 0.9))
    if first.shape != (2,) or first[0] != second[0]:
        raise ValueError(f"activation: expected an elementwise function, got {function!r}")
    return function


def _cell(kind: str, params: Any, activations: tuple[Any, ...], options: Mapping[str, Any]) -> Cell:
    sizes, dtype = (params.input.shape[-2], params.recurrent.shape[-2]), params.bias.dtype
    if kind == "vanilla":
        return vanilla(*sizes, activation=activations[0], dtype=dtype)
    if kind == "ugrnn":
        return ugrnn(*sizes, activation=activations[0], dtype=dtype)
    if kind == "gru":
        before = params.candidate_bias is None
        return gru(*sizes, reset_after=not before, activations=(activations[0], activations[1]), dtype=dtype)
    if kind == "conv_lstm":
        geometry = {name: value for name, value in options.items() if name != "spatial"}
        triple = {"activations": activations, "dtype": dtype, "kernel_size": params.input.shape[:-2]}
        return conv_lstm((*options["spatial"], sizes[0]), sizes[1], **triple, **geometry)
    if activations == LSTM_ACTIVATIONS:
        return lstm(*sizes, dtype=dtype)
    return lstm_variant(*sizes, activations=(activations[0], activations[1], activations[2]), dtype=dtype)


# To a framework.


class Described(NamedTuple):
    """One cell in one direction: its kind, weights here, activations as our cells take them, and what its spec says."""

    kind: str
    params: Any
    activations: tuple[Any, ...]
    reverse: bool
    options: Mapping[str, Any]

    def convention(self, name: str) -> Convention:
        """Return how the framework ``name`` writes down the weights."""
        return convention_of(name, self.kind, self.options.get("reset_after", True))

    def weights(self, name: str) -> Weights:
        """Return the weights of the framework ``name``."""
        params = LSTMParams(*self.params[:3]) if self.kind == "lstm" else self.params
        return to_theirs(self.convention(name), self.kind, params)

    def functions(self, names: Mapping[str, Callable[..., Any]]) -> tuple[Callable[..., Any], ...]:
        """Return the activations as functions of a framework, with ``names`` for what we call by name."""
        plain = (each[0] if isinstance(each, tuple) else each for each in self.activations)
        return tuple(names[each] if isinstance(each, str) else each for each in plain)

    def plain_convolution(self, name: str) -> None:
        """Raise unless both convolutions are those of most frameworks: all positions, one kernel size, no groups."""
        own, ones = self.options, (1,) * len(self.options["kernel_size"])
        plain = {"padding": "same", "strides": ones, "dilation": ones, "groups": 1}
        for option, expected in {**plain, "recurrent_kernel_size": own["kernel_size"]}.items():
            if own[option] != expected:
                raise ValueError(
                    f"layer: expected a conv_lstm with {option}={expected!r}, as {name} has it, got {own[option]!r}"
                )

    @property
    def sizes(self) -> tuple[int, int]:
        """D and H, or channels."""
        return self.params.input.shape[-2], self.params.recurrent.shape[-2]

    @property
    def dtype(self) -> str:
        """Of the parameters."""
        return str(self.params.bias.dtype)


class TwoWays(NamedTuple):
    """Both directions of a bidirectional layer, in the framework's order, and how they are merged."""

    directions: tuple[Described, Described]
    merge: str


def described(name: str, layer: Layer, params: Params) -> list[Described | TwoWays]:
    """Return what is to be built in the framework ``name``, one entry for each layer of a stack."""
    checks.layer("layer", layer)
    jax.eval_shape(lambda: layer.initial_carry(params))  # checks them
    if layer.spec is None:
        raise ValueError("layer: expected one that recurrent, bidirectional, serial or stacked made, got another")
    return [_described(name, one, own) for one, own in _flat(layer.spec, jax.tree.map(jnp.asarray, params))]


def only_directions(
    name: str, entries: Sequence[Described | TwoWays], usual: Mapping[str, tuple[str, ...]] = USUAL
) -> list[Described]:
    """Return the entries, for a framework that has cells alone, and of each kind with the ``usual`` activations."""
    for entry in entries:
        if isinstance(entry, TwoWays):
            raise ValueError(f"layer: expected layers of one direction, as {name} has cells alone, got a bidirectional")
        if entry.kind in usual and entry.activations != usual[entry.kind]:
            raise ValueError(f"layer: expected the activations {usual[entry.kind]} of {name}, got {entry.activations}")
    return [entry for entry in entries if isinstance(entry, Described)]


def _flat(spec: Spec | None, params: Params) -> list[tuple[Spec | None, Params]]:
    """Return the layers of a stack, from the first."""
    if spec is None or spec.factory not in ("serial", "stacked"):
        return [(spec, params)]
    options = dict(spec.options)
    if spec.factory == "serial":
        return [each for one, own in zip(options["layers"], params, strict=True) for each in _flat(one, own)]
    cell = Spec(options["cell"], spec.options)
    ways = [Spec("recurrent", (("cell", cell), ("reverse", reverse))) for reverse in (False, True)]
    both = Spec("bidirectional", (("forward", ways[0]), ("backward", ways[1]), ("merge", "concat")))
    return [(both if options["bidirectional"] else ways[0], own) for own in params]


def _described(name: str, spec: Spec | None, params: Params) -> Described | TwoWays:
    options = {} if spec is None else dict(spec.options)
    if spec is not None and spec.factory == "bidirectional":
        ways = {way: _one_way(options[way], getattr(params, way)) for way in Directions._fields}
        first, second = ways["forward"].convention(name).directions
        return TwoWays((ways[first], ways[second]), options["merge"])
    one = _one_way(spec, params)
    one.convention(name)
    return one


def _one_way(spec: Spec | None, params: Params) -> Described:
    if spec is None or spec.factory != "recurrent":
        got = "a layer of your own" if spec is None else spec.factory
        raise ValueError(f"layer: expected recurrent layers of cells that other frameworks have, got {got}")
    options = dict(spec.options)
    cell: Spec | None = options["cell"]
    kind = None if cell is None else "lstm" if cell.factory == "lstm_variant" else cell.factory
    if cell is None or kind not in ("vanilla", "lstm", "gru", "conv_lstm", "ugrnn"):
        raise ValueError(f"layer: expected a cell that other frameworks have, got {kind or 'a cell of your own'}")
    own = dict(cell.options)
    beyond = [name for name in BEYOND if own.get(name)]
    if beyond:
        raise ValueError(f"layer: expected an lstm_variant with other activations alone, got one with {beyond[0]}")
    activations = own.get("activations", LSTM_ACTIVATIONS) if "activation" not in own else (own["activation"],)
    return Described(kind, params, tuple(activations), options["reverse"], own)
