"""Recurrent cells and layers of Flax: of linen, modules and dicts of parameters, and of nnx, modules.

    SimpleCell                                our vanilla; ``residual``, φ(x W + b + h U + h), is one with U + 1
    LSTMCell, OptimizedLSTMCell               lstm, or lstm_variant with other activations
    GRUCell                                   gru; that of nnx has no bias inside the reset gate's product
    MGUCell (linen)                           gru with one gate's weights in both gates: Flax resets after the
                                              product, `jaxrnn.minimal_gated` before it, as the paper does
    MGUCell without its reset gate (linen)    ugrnn, the same network under another name
    ConvLSTMCell (linen)                      conv_lstm

Flax is batch-major unless it is told ``time_major=True``, has (c, h) for the state of an LSTM, and returns the
outputs of ``reverse=True`` last step first unless it is told ``keep_order=True``; its outputs beyond
``seq_lengths`` are not zero.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxrnn import checks
from jaxrnn.interop.arrays import require, space
from jaxrnn.interop.conventions import Weights
from jaxrnn.interop.descriptions import (
    FUNCTIONS,
    USUAL,
    Described,
    Network,
    Recurrence,
    TwoWays,
    activation_named,
    both_directions,
    convention_of,
    described,
    in_series,
    one_direction,
)
from jaxrnn.interop.flax_weights import linen_params, linen_weights, nnx_weights, set_nnx
from jaxrnn.layers.bidirectional import MERGES
from jaxrnn.types import Layer, Params

KINDS = {
    "SimpleCell": "vanilla",
    "LSTMCell": "lstm",
    "OptimizedLSTMCell": "lstm",
    "GRUCell": "gru",
    "MGUCell": "gru",
    "ConvLSTMCell": "conv_lstm",
}
CELLS = {"vanilla": "SimpleCell", "lstm": "OptimizedLSTMCell", "gru": "GRUCell", "ugrnn": "MGUCell"}


def from_flax(module: Any, variables: Any = None, *, spatial: tuple[int, ...] | None = None) -> Network:
    """Return ``(layer, params)``: our layer with the weights of a Flax module, y_t and state the same.

    Args:
        module: of linen or of nnx: a cell, an RNN of one, a Bidirectional of two, or a Sequential of such modules,
            which becomes a `jaxrnn.serial`.
        variables: of a linen module: what its ``init`` returns, or the parameters in it; None with nnx.
        spatial: the sizes of the images of a ConvLSTMCell.

    Raises:
        ValueError: a module with no counterpart here, or without the parameters that it should have.
        TypeError: no module of Flax; variables with nnx, or none with linen.
        ImportError: Flax is not installed.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn.interop
        >>> from flax import linen
        >>> theirs, xs = linen.RNN(linen.GRUCell(5), time_major=True), jnp.ones((7, 2, 3))
        >>> variables = theirs.init(jax.random.key(0), xs)
        >>> layer, params = jaxrnn.interop.from_flax(theirs, variables)
        >>> bool(jnp.allclose(layer.apply(params, xs)[1], theirs.apply(variables, xs), atol=1e-6))
        True
    """
    linen, nnx = require("flax.linen", "flax"), require("flax.nnx", "flax")
    if isinstance(module, nnx.Module):
        if variables is not None:
            raise TypeError(f"variables: expected None with a module of nnx, got {checks.outline(variables)}")
        return _from_nnx(nnx, module)
    if not isinstance(module, linen.Module):
        raise TypeError(f"module: expected one of flax.linen or flax.nnx, got {type(module).__name__}")
    if not hasattr(variables, "get"):
        raise TypeError(f"variables: expected those of the module of linen, got {checks.outline(variables)}")
    return _from_linen(linen, module, linen.meta.unbox(variables.get("params", variables)), spatial)


def to_flax(layer: Layer, params: Params) -> tuple[Any, dict[str, Any]]:
    """Return ``(module, variables)`` of linen with our weights: the inverse of `from_flax`.

    Args:
        layer: a `jaxrnn.recurrent` or `jaxrnn.bidirectional` of `jaxrnn.vanilla`, `jaxrnn.lstm`,
            `jaxrnn.lstm_variant` with other activations, `jaxrnn.gru` that resets after the product, `jaxrnn.ugrnn` or
            `jaxrnn.conv_lstm`; or a stack of such layers, which becomes a Sequential.
        params: its parameters.

    Raises:
        ValueError: a layer that linen has no counterpart of; parameters of another layer.
        TypeError: no `Layer`, or parameters of another layer.
        ImportError: Flax is not installed.

    Example:
        >>> import jax, jaxrnn.interop
        >>> layer = jaxrnn.recurrent(jaxrnn.lstm(3, 5))
        >>> module, variables = jaxrnn.interop.to_flax(layer, layer.init(jax.random.key(0)))
        >>> module.apply(variables, jax.numpy.ones((2, 7, 3))).shape
        (2, 7, 5)
    """
    entries = described("linen", layer, params)
    linen = require("flax.linen", "flax")
    made = [_to_linen(linen, entry) for entry in entries]
    if len(made) == 1:
        return made[0][0], {"params": made[0][1]}
    own = {f"layers_{index}": each for index, (_, each) in enumerate(made)}
    return linen.Sequential([module for module, _ in made]), {"params": own}


def to_nnx(layer: Layer, params: Params) -> Any:
    """Return a module of nnx with our weights: the inverse of `from_flax`.

    Args:
        layer: as for `to_flax`, but for `jaxrnn.ugrnn` and `jaxrnn.conv_lstm`, which nnx does not have.
        params: its parameters; those of a `jaxrnn.gru` without a bias inside the reset gate's product.

    Raises:
        ValueError: a layer that nnx has no counterpart of, or a weight; parameters of another layer.
        TypeError: no `Layer`, or parameters of another layer.
        ImportError: Flax is not installed.

    Example:
        >>> import jax, jaxrnn.interop
        >>> layer = jaxrnn.recurrent(jaxrnn.lstm(3, 5))
        >>> module = jaxrnn.interop.to_nnx(layer, layer.init(jax.random.key(0)))
        >>> module(jax.numpy.ones((2, 7, 3))).shape
        (2, 7, 5)
    """
    entries = described("nnx", layer, params)
    nnx = require("flax.nnx", "flax")
    made = [_to_nnx(nnx, entry) for entry in entries]
    return made[0] if len(made) == 1 else nnx.Sequential(*made)


def _from_linen(linen: Any, module: Any, params: Any, spatial: Any, reverse: bool = False) -> Network:
    def inner(name: str) -> Any:
        if name not in params:
            raise ValueError(f"variables: expected {name!r} for a {type(module).__name__}, got {', '.join(params)}")
        return params[name]

    if isinstance(module, linen.Sequential):
        each = enumerate(module.layers)
        return in_series([_from_linen(linen, one, inner(f"layers_{index}"), spatial) for index, one in each])
    if isinstance(module, linen.Bidirectional):
        rnns = {"forward_rnn": module.forward_rnn, "backward_rnn": module.backward_rnn}
        ways = [
            _from_linen(linen, rnn.cell, inner(name)["cell"], spatial, name == "backward_rnn")
            for name, rnn in rnns.items()
        ]
        kind = _kind(module.forward_rnn.cell)
        return both_directions(convention_of("linen", kind), ways, _merge_named(module.merge_fn))
    if isinstance(module, linen.RNN):
        return _from_linen(linen, module.cell, inner("cell"), spatial, module.reverse)
    kind, options = _kind(module), {}
    if kind == "conv_lstm":
        axes = len(module.kernel_size)
        options["spatial"] = checks.sizes("spatial", spatial, range(axes, axes + 1), f"{axes} sizes of images")
        strides = tuple(module.strides or (1,) * axes)
        if strides != (1,) * axes or module.padding != "SAME":
            raise ValueError(
                f"module: expected a ConvLSTMCell with the positions of its images, got {strides}, {module.padding}"
            )
    elif type(module).__name__ == "MGUCell" and not module.reset_gate:
        kind = "ugrnn"
    convention = convention_of("linen", kind)
    weights = linen_weights(convention, type(module).__name__, params)
    return one_direction(
        convention, kind, _residual(module, weights), _activations(module, kind), reverse=reverse, **options
    )


def _from_nnx(nnx: Any, module: Any, reverse: bool = False) -> Network:
    if isinstance(module, nnx.Sequential):
        return in_series([_from_nnx(nnx, each) for each in module.layers])
    if isinstance(module, nnx.Bidirectional):
        ways = [_from_nnx(nnx, module.forward_rnn.cell), _from_nnx(nnx, module.backward_rnn.cell, True)]
        kind = _kind(module.forward_rnn.cell)
        return both_directions(convention_of("nnx", kind), ways, _merge_named(module.merge_fn))
    if isinstance(module, nnx.RNN):
        return _from_nnx(nnx, module.cell, module.reverse)
    kind = _kind(module)
    convention = convention_of("nnx", kind)
    weights = _residual(module, nnx_weights(convention, module))
    return one_direction(convention, kind, weights, _activations(module, kind), reverse=reverse)


def _kind(cell: Any) -> str:
    name = type(cell).__name__
    if name not in KINDS or not type(cell).__module__.startswith("flax."):
        raise ValueError(f"module: expected a cell of Flax ({', '.join(KINDS)}) or a layer of one, got {name}")
    return KINDS[name]


def _residual(cell: Any, weights: Weights) -> Weights:
    """Return the weights of a SimpleCell that adds h to the pre-activation as those of one that does not."""
    if not getattr(cell, "residual", False):
        return weights
    recurrent = weights.recurrent
    return weights._replace(recurrent=recurrent + space(recurrent).eye(len(recurrent), dtype=recurrent.dtype))


def _activations(cell: Any, kind: str) -> tuple[Any, ...]:
    if kind == "conv_lstm":
        return USUAL[kind]
    inner = activation_named(cell.activation_fn, FUNCTIONS)
    if kind == "vanilla":
        return (inner,)
    gate = activation_named(cell.gate_fn, FUNCTIONS)
    if kind == "ugrnn":
        if gate != "sigmoid":
            raise ValueError(f"module: expected an MGUCell without a reset gate whose gate is a sigmoid, got {gate}")
        return (inner,)
    return (gate, inner, inner) if kind == "lstm" else (gate, inner)


def _merge_named(function: Callable[..., Any]) -> str:
    """Return what we call a ``merge_fn``, found by what it makes of two arrays."""
    hs, gs = np.array([2.0, 3.0], np.float32), np.array([5.0, 7.0], np.float32)
    with jax.ensure_compile_time_eval():
        merged = jax.tree.leaves(function(hs, gs))
        for name, known in MERGES.items():
            expected = jax.tree.leaves(known(hs, gs))
            if len(merged) == len(expected) and all(map(np.array_equal, merged, expected)):
                return name
    raise ValueError(f"module: expected a merge_fn that is one of {', '.join(MERGES)}, got {function!r}")


def _to_linen(linen: Any, entry: Recurrence) -> tuple[Any, dict[str, Any]]:
    if isinstance(entry, TwoWays):
        (forward, own), (backward, others) = (_to_linen(linen, way) for way in entry.directions)
        module = linen.Bidirectional(forward, backward, **_merge(entry))
        return module, {"forward_rnn": own, "backward_rnn": others}
    weights = entry.weights("linen")
    name = CELLS.get(entry.kind, "ConvLSTMCell")
    options = _functions(entry)
    if entry.kind == "conv_lstm":
        entry.plain_convolution("Flax")
        options = {"kernel_size": entry.options["kernel_size"]}
        if entry.activations != USUAL["conv_lstm"]:
            raise ValueError(f"layer: expected {USUAL['conv_lstm']} in a conv_lstm, as Flax, got {entry.activations}")
    if entry.kind == "ugrnn":
        options["reset_gate"] = False
    cell = getattr(linen, name)(entry.sizes[1], param_dtype=entry.params.bias.dtype, **options)
    params = linen_params(entry.convention("linen"), name, weights)
    return linen.RNN(cell, reverse=entry.reverse, keep_order=entry.reverse), {"cell": params}


def _to_nnx(nnx: Any, entry: Recurrence) -> Any:
    if isinstance(entry, TwoWays):
        return nnx.Bidirectional(*(_to_nnx(nnx, way) for way in entry.directions), **_merge(entry))
    weights, dtype = entry.weights("nnx"), entry.params.bias.dtype
    made = getattr(nnx, CELLS[entry.kind])
    zeros = nnx.initializers.zeros  # nothing is compiled for it; the default cannot be drawn in bfloat16
    options = {
        "dtype": dtype,
        "param_dtype": dtype,
        "kernel_init": zeros,
        "recurrent_kernel_init": zeros,
        **_functions(entry),
    }
    cell = made(*entry.sizes, **options, rngs=nnx.Rngs(0))
    set_nnx(cell, weights)
    return nnx.RNN(cell, reverse=entry.reverse, keep_order=entry.reverse)


def _functions(entry: Described) -> dict[str, Any]:
    """Return the activations as arguments of a cell of Flax."""
    functions = entry.functions(FUNCTIONS)
    if len(functions) == 1:
        return {"activation_fn": functions[0]}
    if len(set(entry.activations[1:])) != 1:
        raise ValueError("layer: expected one activation of candidate and output, as Flax has it, got two")
    return {"gate_fn": functions[0], "activation_fn": functions[1]}


def _merge(entry: TwoWays) -> dict[str, Any]:
    """Return the argument of a Bidirectional that merges; none for its default."""
    return {} if entry.merge == "concat" else {"merge_fn": MERGES[entry.merge]}
