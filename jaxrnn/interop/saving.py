"""A layer and its weights in one file: safetensors, with the call that made the layer in its header.

The arrays are a checkpoint of `jaxrnn.training`, named by their paths. The header is JSON: what a `Spec` is made of.
A file from a stranger can do no harm but fail to load: nothing is unpickled or imported, only `FACTORIES` of this
library are called, and no size is believed that no array of the file has room for.
"""

import os
from typing import Any

import jax

from jaxrnn import checks
from jaxrnn.cells.activations import named
from jaxrnn.models import Classifier, EncoderDecoder, Forecaster
from jaxrnn.training import checkpoints
from jaxrnn.training.checkpoints import CheckpointError
from jaxrnn.types import FACTORIES, Layer, Spec

VERSION = 1
MODELS = (Classifier, EncoderDecoder, Forecaster)
RECORDS = ("layer", "layers", "cell", "forward", "backward", "encoder", "attention")  # arguments that take one
SIZES = (
    "attention_size",
    "classes",
    "features",
    "feedforward",
    "heads",
    "hidden_channels",
    "hidden_size",
    "input_size",
    "memory_size",
    "output_size",
    "projection_size",
    "query_size",
    "rank",
    "size",
    "targets",
    "vocabulary",
)


def save_layer(path: str | os.PathLike, layer: Any, params: Any) -> None:
    """Write a layer or a model and its parameters to a file, from which `load_layer` makes (layer, params) again.

    The file is whole or not there at all, as with `jaxrnn.training.save`. How the weights of the layer are drawn
    anew is not kept.

    Args:
        path: the file; its folder must exist. An old file is replaced.
        layer: a `Layer`, or a model of `jaxrnn.models`, that functions of this library alone have made: with names
            for its activations, not functions of your own. A function that has a name is saved as that.
        params: its parameters.

    Raises:
        ValueError: a layer that a file cannot hold: with a cell, a layer or an activation of your own.
        TypeError: an argument of the wrong type, parameters of another layer.
        ImportError: the package safetensors is missing.

    Example:
        >>> import os, tempfile, jax, jaxrnn
        >>> from jaxrnn.interop import load_layer, save_layer
        >>> layer = jaxrnn.serial(jaxrnn.stacked(jaxrnn.gru, 3, 4, num_layers=2), jaxrnn.dense(4, 2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "model.safetensors")
        ...     save_layer(path, layer, layer.init(jax.random.key(0)))
        ...     again, params = load_layer(path)
        >>> again.spec == layer.spec, params[1].kernel.shape
        (True, (4, 2))
    """
    checks.path("path", path)
    _check_layer(layer)
    encoded = _encoded(layer.spec, "layer")
    _check_params(layer, params)
    checkpoints.save(path, params, {"layer": encoded, "layer_version": VERSION})


def load_layer(path: str | os.PathLike) -> tuple[Any, Any]:
    """Return ``(layer, params)`` from a file of `save_layer`.

    Args:
        path: the file, from anybody.

    Raises:
        CheckpointError: the file is damaged, cut short, of another version or another kind, or what it says of
            the layer and its arrays do not fit. It is a ValueError.
        FileNotFoundError: no such file.
        ImportError: the package safetensors is missing.

    Example: see `save_layer`.
    """
    where = checks.path("path", path)
    try:
        stored, keys, metadata = checkpoints.read(where)
        version, encoded = metadata.get("layer_version"), metadata.get("layer")
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path}: the header is damaged: {error!r}") from error
    if encoded is None:
        raise CheckpointError(f"{path}: expected a file of save_layer, got a checkpoint without a layer")
    if version != VERSION:
        raise CheckpointError(f"{path}: expected a layer of version {VERSION}, got {version!r}")
    room = max((array.size for array in stored.values()), default=0)
    try:
        layer = _build(encoded, room, len(stored))
        _check_layer(layer)
        like = jax.eval_shape(layer.init, jax.random.key(0))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{path}: expected the description of a layer, got one that is none: {error}") from error
    dtypes = {name: array.dtype for name, array in stored.items()}  # they may have been cast after they were drawn
    if len(set(dtypes.values())) == 1:
        dtype = next(iter(dtypes.values()))
        like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), like)
    return layer, checkpoints.restore(path, stored, keys, like)


def _check_layer(layer: Any) -> None:
    if not isinstance(layer, MODELS):
        checks.layer("layer", layer)


def _check_params(layer: Layer, params: Any) -> None:
    """Raise unless the parameters have the structure and the shapes of the layer's, in whatever dtype."""
    like = jax.eval_shape(layer.init, jax.random.key(0))
    if jax.tree.structure(params) == jax.tree.structure(like):
        like = jax.tree.map(lambda want, leaf: jax.ShapeDtypeStruct(want.shape, leaf.dtype), like, params)
    checks.same_structure("params", params, like, "of the layer")


def _encoded(value: Any, where: str) -> Any:
    """Return an option as JSON: a spec as an object, a tuple as a list, a function by its name."""
    if isinstance(value, Spec):
        if value.factory not in FACTORIES:
            raise ValueError(f"{where}: expected one that jaxrnn made, got {value.factory}")
        parts = {"options": dict(value.options), "origin": dict(value.origin)}
        each = {part: {name: _encoded(v, f"{where}: {name}") for name, v in of.items()} for part, of in parts.items()}
        return {"factory": value.factory, **each}
    if isinstance(value, (tuple, list)):
        return [_encoded(each, where) for each in value]
    if callable(named(value)):
        name = getattr(value, "__qualname__", repr(value))
        raise ValueError(f"{where}: expected a name, which a file can hold, got the function {name}")
    if value is None and where.rpartition(" ")[2] in RECORDS:
        raise ValueError(f"{where}: expected one that jaxrnn made, which a file can hold, got one of your own")
    return named(value)


def _build(encoded: Any, room: int, arrays: int) -> Any:
    """Return what a description is of: no size above ``room``, no more layers than ``arrays``."""
    if not isinstance(encoded, dict) or set(encoded) != {"factory", "options", "origin"}:
        raise ValueError(f"expected a factory, its options and their origin, got {checks.outline(encoded)}")
    factory, options = encoded["factory"], encoded["options"]
    if not isinstance(factory, str) or factory not in FACTORIES:
        raise ValueError(f"factory: expected one of {', '.join(FACTORIES)}, got {factory!r}")
    if not isinstance(options, dict) or not isinstance(encoded["origin"], dict):
        raise ValueError("options: expected an object")
    limits = {**dict.fromkeys(SIZES, room), "num_layers": arrays}
    for name, size in options.items():
        if isinstance(size, int) and size > limits.get(name, size):
            raise ValueError(f"{name}: expected at most {limits[name]}, as the arrays have, got {size}")
    origin = tuple((name, _value(value)) for name, value in encoded["origin"].items())
    arguments = {name: _argument(value, room, arrays) for name, value in options.items()}
    children = arguments.pop("layers", ())
    made = FACTORIES[factory](*children, **arguments)
    return made if not origin else made._replace(spec=made.spec._replace(origin=origin))


def _argument(value: Any, room: int, arrays: int) -> Any:
    if isinstance(value, dict):
        return _build(value, room, arrays)
    if isinstance(value, list):
        return tuple(_argument(each, room, arrays) for each in value)
    return value


def _value(value: Any) -> Any:
    return tuple(map(_value, value)) if isinstance(value, list) else value
