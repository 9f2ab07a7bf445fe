"""A layer and its weights in one file: safetensors, with the call that made the layer in its header.

The arrays are a checkpoint of `jaxrnn.training`, named by their paths. The header is JSON: what a `Spec` is made of.
A file from a stranger can do no harm but fail to load: nothing is unpickled or imported, only factories of
`FACTORIES` are called, and no size is believed that no array of the file has room for.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from jaxrnn import checks, layers
from jaxrnn.cells import all_carries, gru, lstm, lstm_variant, vanilla
from jaxrnn.training import checkpoints
from jaxrnn.training.checkpoints import CheckpointError
from jaxrnn.types import Layer, Spec

VERSION = 1
CELLS: dict[str, Callable[..., Any]] = {"vanilla": vanilla, "lstm": lstm, "lstm_variant": lstm_variant, "gru": gru}
FACTORIES: dict[str, Callable[..., Any]] = {
    **CELLS,
    "all_carries": all_carries,
    **{
        name: getattr(layers, name)
        for name in (
            "bidirectional",
            "dense",
            "dropout",
            "embedding",
            "layer_norm",
            "recurrent",
            "residual",
            "rms_norm",
            "serial",
            "stacked",
        )
    },
}
SIZES = ("input_size", "output_size", "hidden_size", "projection_size", "size", "vocabulary")


def save_layer(path: str | os.PathLike, layer: Layer, params: Any) -> None:
    """Write a layer and its parameters to a file, from which `load_layer` makes (layer, params) again.

    The file is whole or not there at all, as with `jaxrnn.training.save`. How the weights of the layer are drawn
    anew is not kept.

    Args:
        path: the file; its folder must exist. An old file is replaced.
        layer: of factories of this library alone: recurrent layers, stacks and directions of `jaxrnn.vanilla`,
            `jaxrnn.lstm`, `jaxrnn.lstm_variant` and `jaxrnn.gru`, and what `jaxrnn.serial` makes of them with
            `jaxrnn.embedding`, `jaxrnn.dense`, `jaxrnn.dropout`, `jaxrnn.residual` and the norms.
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
    checks.layer("layer", layer)
    encoded = _encoded(layer.spec, "layer")
    _check_params(layer, params)
    checkpoints.save(path, params, {"layer": encoded, "layer_version": VERSION})


def load_layer(path: str | os.PathLike) -> tuple[Layer, Any]:
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
    try:
        stored, keys, metadata = checkpoints.read(Path(path))
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
        checks.layer("layer", layer)
        like = jax.eval_shape(layer.init, jax.random.key(0))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{path}: expected the description of a layer, got one that is none: {error}") from error
    dtypes = {name: array.dtype for name, array in stored.items()}  # they may have been cast after they were drawn
    if len(set(dtypes.values())) == 1:
        dtype = next(iter(dtypes.values()))
        like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), like)
    return layer, checkpoints.restore(path, stored, keys, like)


def _check_params(layer: Layer, params: Any) -> None:
    """Raise unless the parameters have the structure and the shapes of the layer's, in whatever dtype."""
    like = jax.eval_shape(layer.init, jax.random.key(0))
    if jax.tree.structure(params) == jax.tree.structure(like):
        like = jax.tree.map(lambda want, leaf: jax.ShapeDtypeStruct(want.shape, leaf.dtype), like, params)
    checks.same_structure("params", params, like, "of the layer")


def _encoded(value: Any, where: str) -> Any:
    """Return an option as JSON: a spec as an object, a tuple as a list."""
    if isinstance(value, Spec):
        if value.factory not in FACTORIES:
            raise ValueError(f"{where}: expected one made by {', '.join(FACTORIES)}, got {value.factory}")
        parts = {"options": dict(value.options), "origin": dict(value.origin)}
        each = {part: {name: _encoded(v, f"{where}: {name}") for name, v in of.items()} for part, of in parts.items()}
        return {"factory": value.factory, **each}
    if isinstance(value, (tuple, list)):
        return [_encoded(each, where) for each in value]
    if callable(value):
        raise ValueError(f"{where}: expected a name, which a file can hold, got a function")
    if value is None and where.endswith(("layer", "layers", "cell", "forward", "backward")):
        raise ValueError(f"{where}: expected one made by {', '.join(FACTORIES)}, got one of your own")
    return value


def _build(encoded: Any, room: int, arrays: int) -> Any:
    """Return the cell or layer of a description: no size above ``room``, no stack higher than ``arrays``."""
    if not isinstance(encoded, dict) or set(encoded) != {"factory", "options", "origin"}:
        raise ValueError(f"expected a factory, its options and their origin, got {checks.outline(encoded)}")
    factory, options = encoded["factory"], encoded["options"]
    if not isinstance(factory, str) or factory not in FACTORIES:
        raise ValueError(f"factory: expected one of {', '.join(FACTORIES)}, got {factory!r}")
    if not isinstance(options, dict) or not isinstance(encoded["origin"], dict):
        raise ValueError("options: expected an object")
    origin = tuple((name, _value(value)) for name, value in encoded["origin"].items())
    arguments = {}
    for name, value in options.items():
        for size in value if isinstance(value, list) else [value]:
            if name in SIZES and isinstance(size, int) and size > room:
                raise ValueError(f"{name}: expected at most {room}, as the arrays have, got {size}")
        if name == "hidden_size" and isinstance(value, list) and len(value) > arrays:
            raise ValueError(f"hidden_size: expected at most {arrays} layers, as there are arrays, got {len(value)}")
        arguments[name] = _argument(value, room, arrays)
    if factory == "stacked":
        name = arguments.get("cell")
        if not isinstance(name, str) or name not in CELLS:
            raise ValueError(f"cell: expected one of {', '.join(CELLS)}, got {name!r}")
        arguments["cell"] = CELLS[name]
    inner = arguments.pop("layers", ()) if factory == "serial" else ()
    made = FACTORIES[factory](*inner, **arguments)
    return made if not origin else made._replace(spec=made.spec._replace(origin=origin))


def _argument(value: Any, room: int, arrays: int) -> Any:
    if isinstance(value, dict):
        return _build(value, room, arrays)
    if isinstance(value, list):
        return tuple(_argument(each, room, arrays) for each in value)
    return value


def _value(value: Any) -> Any:
    return tuple(map(_value, value)) if isinstance(value, list) else value
