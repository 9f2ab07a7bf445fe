"""Networks in the words that all frameworks share: from weights to a `Layer`, and from its `Spec` back to them.

A converter knows where its framework keeps weights and options. What it finds, cell by cell and direction
by direction, is made a network here, by the table of `jaxrnn.interop.conventions`; and what it is to
build, is read here from the spec of a layer.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import checks
from jaxrnn.cells.activations import ACTIVATIONS, named
from jaxrnn.cells.conv_lstm import conv_lstm
from jaxrnn.cells.gru import gru
from jaxrnn.cells.lstm import lstm
from jaxrnn.cells.lstm_records import LSTMVariantParams
from jaxrnn.cells.lstm_variant import lstm_variant
from jaxrnn.cells.ugrnn import ugrnn
from jaxrnn.cells.vanilla import vanilla
from jaxrnn.interop.arrays import off_host, to_jax
from jaxrnn.interop.conventions import (
    CONVENTIONS,
    Convention,
    Weights,
    coupled_gates,
    separate_gates,
    to_ours,
    to_theirs,
)
from jaxrnn.layers.bidirectional import Directions, bidirectional
from jaxrnn.layers.recurrent import recurrent
from jaxrnn.layers.serial import serial
from jaxrnn.types import Cell, Layer, Params, Spec

Network = tuple[Layer, Params]
FUNCTIONS = {name: activation.function for name, activation in ACTIVATIONS.items()}  # as JAX has them
LSTM_ACTIVATIONS = ("sigmoid", "tanh", "tanh")
USUAL = {
    "vanilla": ("tanh",),
    "ugrnn": ("tanh",),
    "gru": ("sigmoid", "tanh"),
    "lstm": LSTM_ACTIVATIONS,
    "conv_lstm": LSTM_ACTIVATIONS,
}
KINDS = {"vanilla": "vanilla", "ugrnn": "ugrnn", "gru": "gru", "conv_lstm": "conv_lstm"}
KINDS |= dict.fromkeys(("lstm", "lstm_variant"), "lstm")
# Options of `lstm_variant` besides its activations, which few frameworks know.
BEYOND = ("peephole", "coupled", "projection_size", "normalization", "cell_clip", "projection_clip")
# What is another network in training alone, or not at all: it has the parameters of the cell or layer in it.
AROUND = {"checkpointed": "layer", "weight_dropout": "layer", "variational_dropout": "cell"}


def convention_of(name: str, kind: str, reset_after: bool = True) -> Convention:
    """Return how a framework writes the weights of a kind of cell, or say that it has none."""
    if not reset_after and (f"{name} before", kind) in CONVENTIONS:
        name = f"{name} before"
    if (name, kind) not in CONVENTIONS:
        raise ValueError(f"layer: expected cells that {name} has ({', '.join(_kinds(name))}), got {kind}")
    return CONVENTIONS[name, kind]


def _kinds(name: str) -> list[str]:
    """Return what a framework has."""
    return [kind for known, kind in CONVENTIONS if known == name]


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
    options: of `conv_lstm`, with ``spatial``, the sizes of the images; ``coupled`` of `lstm_variant`.
    """
    arrays = Weights(*(None if each is None else to_jax("weights", each) for each in weights))
    cell, params = one_cell(convention, kind, arrays, activations, **options)
    return recurrent(cell, reverse=reverse), params


def one_cell(
    convention: Convention, kind: str, weights: Weights, activations: Sequence[Any], **options: Any
) -> tuple[Cell, Params]:
    """Return the cell that has the weights, and its parameters; the arguments are those of `one_direction`."""
    params: Any = to_ours(convention, kind, weights)
    sizes, dtype = (params.input.shape[-2], params.bias.shape[0] // len(convention.gates)), params.bias.dtype
    functions: Any = tuple(activations)
    if kind == "vanilla":
        return vanilla(*sizes, activation=functions[0], dtype=dtype), params
    if kind == "ugrnn":
        return ugrnn(*sizes, activation=functions[0], dtype=dtype), params
    if kind == "gru":
        return gru(*sizes, reset_after=convention.reset_after, activations=functions, dtype=dtype), params
    if kind == "conv_lstm":
        images, kernel_size = (*options.pop("spatial"), sizes[0]), params.input.shape[:-2]
        return conv_lstm(images, sizes[1], kernel_size, activations=functions, dtype=dtype, **options), params
    coupled = options.get("coupled", False)
    if functions == LSTM_ACTIVATIONS and not coupled and not isinstance(params, LSTMVariantParams):
        return lstm(*sizes, dtype=dtype), params
    params = LSTMVariantParams(**params._asdict())
    cell = lstm_variant(
        *sizes,
        peephole=params.peephole is not None,
        coupled=coupled,
        projection_size=None if params.projection is None else params.projection.shape[-1],
        activations=functions,
        dtype=dtype,
    )
    return cell, coupled_gates(params) if coupled else params


def both_directions(convention: Convention, networks: Sequence[Network], merge: str) -> Network:
    """Return the bidirectional layer of two networks in the framework's order of directions."""
    by_name = dict(zip(convention.directions, networks, strict=True))
    forward, backward = by_name["forward"], by_name["backward"]
    return bidirectional(forward[0], backward[0], merge=merge), Directions(forward[1], backward[1])


def in_series(networks: Sequence[Network]) -> Network:
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
        params = separate_gates(self.params) if self.options.get("coupled") else self.params
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


Recurrence = Described | TwoWays


def ways(entry: Recurrence) -> tuple[Described, ...]:
    """Return the directions, one or two."""
    return entry.directions if isinstance(entry, TwoWays) else (entry,)


def described(name: str, layer: Layer, params: Params, beyond: Sequence[str] = ()) -> list[Recurrence]:
    """Return what is to be built in the framework ``name``, one entry for each layer of a stack.

    beyond: what it knows of the options of `lstm_variant` besides its activations.
    """
    params = parameters_of(layer, params)
    return [recurrence(name, spec, own, beyond) for spec, own in flat(layer.spec, params)]


def parameters_of(layer: Layer, params: Params) -> Params:
    """Return the parameters as arrays, or raise unless they are those of the layer, in whatever one dtype."""
    checks.layer("layer", layer)
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(params) if hasattr(leaf, "dtype")}
    if len(dtypes) > 1:
        raise TypeError(f"params: expected one dtype, got {', '.join(sorted(map(str, dtypes)))}")
    shapes = jax.eval_shape(layer.init, jax.random.key(0))
    of_dtype = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, *dtypes or {leaf.dtype}), shapes)
    checks.same_structure("params", params, of_dtype, "of the layer")
    return off_host(params)


def flat(spec: Spec | None, params: Params) -> Iterator[tuple[Spec | None, Params]]:
    """Yield the layers of a stack from the first, but for dropout, which is no weight, with their parameters."""
    spec = inside(spec)
    if spec is None or spec.factory not in ("serial", "stack"):
        yield spec, params
        return
    for one, own in zip(dict(spec.options)["layers"], params, strict=True):
        if one is None or one.factory != "dropout":
            yield from flat(one, own)


def inside(spec: Spec | None) -> Spec | None:
    """Return the spec of the cell or layer that is in others with the same parameters."""
    while spec is not None and spec.factory in AROUND:
        spec = dict(spec.options)[AROUND[spec.factory]]
    return spec


def recurrence(name: str, spec: Spec | None, params: Params, beyond: Sequence[str] = ()) -> Recurrence:
    """Return a recurrent layer or a bidirectional one of two; the arguments are those of `described`."""
    if spec is None or spec.factory != "bidirectional":
        one = _one_way(name, spec, params, beyond)
        one.convention(name)  # or there is none
        return one
    options = dict(spec.options)
    both = {way: _one_way(name, inside(options[way]), getattr(params, way), beyond) for way in Directions._fields}
    if both["forward"].reverse:
        raise ValueError("layer: expected a bidirectional of which one layer runs forward, got two in reverse")
    first, second = both["forward"].convention(name).directions
    return TwoWays((both[first], both[second]), options["merge"])


def only_directions(
    name: str, entries: Sequence[Recurrence], usual: Mapping[str, tuple[str, ...]] = USUAL
) -> list[Described]:
    """Return the entries, for a framework that has cells alone, and of each kind with the ``usual`` activations."""
    for entry in entries:
        if isinstance(entry, TwoWays):
            raise ValueError(f"layer: expected layers of one direction, as {name} has cells alone, got a bidirectional")
        if entry.kind in usual and entry.activations != usual[entry.kind]:
            raise ValueError(f"layer: expected the activations {usual[entry.kind]} of {name}, got {entry.activations}")
    return [entry for entry in entries if isinstance(entry, Described)]


def _one_way(name: str, spec: Spec | None, params: Params, beyond: Sequence[str]) -> Described:
    if spec is None or spec.factory != "recurrent":
        got = "a layer of your own" if spec is None else spec.factory
        raise ValueError(f"layer: expected recurrent and bidirectional layers, or stacks of them, got {got}")
    options = dict(spec.options)
    cell = inside(options["cell"])
    if cell is None or cell.factory not in KINDS:
        got = "a cell of your own" if cell is None else cell.factory
        raise ValueError(f"layer: expected cells that {name} has ({', '.join(_kinds(name))}), got {got}")
    own = dict(cell.options)
    unknown = [option for option in BEYOND if own.get(option) and option not in beyond]
    if unknown:
        raise ValueError(f"layer: expected an lstm_variant without {unknown[0]}, which {name} does not have, got one")
    kind = KINDS[cell.factory]
    if kind == "conv_lstm":
        own |= _for_each_axis(own)
    activations = own.get("activations", LSTM_ACTIVATIONS) if "activation" not in own else (own["activation"],)
    return Described(kind, params, tuple(map(named, activations)), options["reverse"], own)


def _for_each_axis(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `conv_lstm` takes as an int too, as one for each axis."""
    axes = len(options["input_shape"]) - 1
    given = {name: options[name] for name in ("kernel_size", "strides", "dilation", "recurrent_kernel_size")}
    given["recurrent_kernel_size"] = given["recurrent_kernel_size"] or given["kernel_size"]
    return {name: (size,) * axes if isinstance(size, int) else size for name, size in given.items()}
