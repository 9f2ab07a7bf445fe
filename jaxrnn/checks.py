"""Errors in words: what was expected, what came, and which argument.

Shapes and dtypes are known while JAX traces, so these checks cost nothing at run time. Values are
known only outside jit; `concrete` tells.
"""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax import export

from jaxrnn.types import Array, Carry, Cell, Layer, Params

LONGEST = 120  # letters of an outline; a batch given as nested lists would fill the screen


def concrete(x: Any) -> bool:
    """Whether the values of ``x``, an array or a tree of arrays such as a list, are known and can be checked."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(x))


def symbolic(axis: Any) -> bool:
    """Whether the size of an axis is a symbol, as in a program that `jax.export` makes for all sizes."""
    return export.is_symbolic_dim(axis)


def size(name: str, value: Any, least: int = 1) -> int:
    """Return ``value`` if it is an int of at least ``least``, else raise."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: expected an int, got {value!r}")
    if value < least:
        raise ValueError(f"{name}: expected at least {least}, got {value}")
    return int(value)


def sizes(name: str, value: Any, counts: range, layout: str) -> tuple[int, ...]:
    """Return ``value`` if it is a tuple of ints of at least 1, as many as ``counts`` has, else raise."""
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"{name}: expected {layout}, got {value!r}")
    if len(value) not in counts:
        raise ValueError(f"{name}: expected {layout}, got {value!r}")
    return tuple(size(name, item) for item in value)


def number(name: str, value: Any) -> float:
    """Return ``value`` if it is a finite real number, else raise."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name}: expected a number, got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{name}: expected a finite number, got {value}")
    return float(value)


def positive(name: str, value: Any) -> float:
    """Return ``value`` if it is a finite number above 0, else raise."""
    if number(name, value) <= 0:
        raise ValueError(f"{name}: expected a number above 0, got {value}")
    return float(value)


def bound(name: str, value: Any) -> None:
    """Raise unless ``value`` is a positive number, or None for no bound."""
    if value is not None and number(name, value) <= 0:
        raise ValueError(f"{name}: expected a positive number or None, got {value}")


def rate(name: str, value: Any) -> None:
    """Raise unless ``value`` is a probability below 1."""
    number(name, value)
    if not 0 <= value < 1:
        raise ValueError(f"{name}: expected 0 <= {name} < 1, got {value}")


def flag(name: str, value: Any) -> bool:
    """Return ``value`` if it is a bool, else raise."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return bool(value)


def choice(name: str, value: Any, options: tuple[str, ...]) -> str:
    """Return ``value`` if it is one of ``options``, else raise."""
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, options))}, got {value!r}")
    return value


def cell(name: str, value: Any) -> None:
    """Raise unless ``value`` is a `Cell`."""
    if not isinstance(value, Cell):
        raise TypeError(f"{name}: expected a jaxrnn Cell (close over it, do not trace it), got {type(value).__name__}")


def layer(name: str, value: Any) -> None:
    """Raise unless ``value`` is a `Layer`."""
    if not isinstance(value, Layer):
        raise TypeError(f"{name}: expected a Layer (recurrent(cell) makes one of a cell), got {type(value).__name__}")


def functions(**values: Any) -> None:
    """Raise unless every value is callable; ``name=value``."""
    for name, value in values.items():
        if not callable(value):
            raise TypeError(f"{name}: expected a function, got {value!r}")


def floating(**dtypes: Any) -> None:
    """Raise unless every value names a floating dtype; ``name=value``."""
    for name, value in dtypes.items():
        try:
            fits = value is not None and jnp.issubdtype(jnp.dtype(value), jnp.floating)
        except TypeError:
            fits = False
        if not fits:
            raise TypeError(f"{name}: expected a floating dtype, got {value!r}")


def floating_array(name: str, value: Any) -> jax.Array:
    """Return ``value`` as an array, or raise unless it is floating."""
    value = array(name, value)
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(f"{name}: expected a floating array, got {value.dtype}")
    return value


def key(name: str, value: Any) -> None:
    """Raise unless ``value`` is one key, of `jax.random.key` or `jax.random.PRNGKey`."""
    dtype = getattr(value, "dtype", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if not typed and dtype != jnp.uint32:
        raise TypeError(f"{name}: expected a jax.random.key, got {outline(value) if dtype is None else dtype}")
    if len(value.shape) != (0 if typed else 1):
        raise ValueError(f"{name}: expected one jax.random.key, got an array of keys of shape {value.shape}")


def batch(batch_shape: Any) -> None:
    """Raise unless ``batch_shape`` is a tuple of sizes."""
    if not isinstance(batch_shape, (tuple, list)):
        raise TypeError(f"batch_shape: expected a tuple of ints, got {batch_shape!r}")
    for axis in batch_shape:
        if symbolic(axis):
            continue
        if isinstance(axis, bool) or not isinstance(axis, (int, np.integer)):
            raise TypeError(f"batch_shape: expected a tuple of ints, got {batch_shape!r}")
        if axis < 0:
            raise ValueError(f"batch_shape: expected sizes of at least 0, got {batch_shape!r}")


def array(name: str, value: Any) -> Array:
    """Return ``value`` as a JAX array, or raise naming the argument."""
    try:  # jnp.asarray compiles a program for every shape of NumPy's arrays
        return jax.device_put(value.copy()) if isinstance(value, np.ndarray) else jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: expected an array, got {type(value).__name__}") from error


def path(name: str, value: Any) -> Path:
    """Return ``value`` as a path, or raise naming the argument."""
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{name}: expected a path, got {outline(value)}")
    return Path(value)


def constant(name: str, value: Any) -> np.ndarray:
    """Return ``value``, which a factory keeps and so must know, as a NumPy array, or raise naming the argument."""
    try:
        return np.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: expected an array of known values, got {type(value).__name__}") from error


def parameters(
    params: Any, kind: type, shapes: Mapping[str, tuple[int, ...] | None], call: str, where: str = "params"
) -> None:
    """Raise unless ``params`` is a ``kind`` with the given shapes and one floating dtype throughout.

    where: the argument that they are, to name in the error.
    """
    if not isinstance(params, kind):
        raise TypeError(f"{where}: expected the {kind.__name__} of {call}, got {type(params).__name__}")
    dtypes = set()
    for name, expected in shapes.items():
        value = getattr(params, name)
        if expected is None:
            if value is not None:
                raise ValueError(f"{where}.{name}: expected None for {call}, got {outline(value)}")
            continue
        if not hasattr(value, "shape") or not hasattr(value, "dtype"):
            raise TypeError(f"{where}.{name}: expected an array of shape {expected} for {call}, got {outline(value)}")
        if value.shape != expected:
            raise ValueError(f"{where}.{name}: expected shape {expected} for {call}, got {value.shape}")
        dtypes.add(value.dtype)
    if len(dtypes) > 1 or not all(jnp.issubdtype(dtype, jnp.floating) for dtype in dtypes):
        found = ", ".join(sorted(str(dtype) for dtype in dtypes))
        raise TypeError(f"{where}: expected one floating dtype, got {found}")


def features(name: str, xs: Any, expected: int, dtype: Any, call: str) -> None:
    """Raise unless ``xs [..., D]`` has D = ``expected`` features of the parameters' dtype."""
    if not hasattr(xs, "shape") or not hasattr(xs, "dtype"):
        raise TypeError(f"{name}: expected an array [..., {expected}], got {type(xs).__name__}")
    if len(xs.shape) == 0 or xs.shape[-1] != expected:
        raise ValueError(f"{name}: expected {expected} features on the last axis for {call}, got shape {xs.shape}")
    if xs.dtype != dtype:
        raise TypeError(f"{name}: expected dtype {dtype}, that of params, got {xs.dtype}")


def images(name: str, xs: Any, expected: tuple[int, ...], dtype: Any, call: str) -> None:
    """Raise unless ``xs [..., *spatial, channels]`` ends in the axes ``expected``, of the parameters' dtype."""
    if not hasattr(xs, "shape") or not hasattr(xs, "dtype"):
        raise TypeError(f"{name}: expected an array [..., *{expected}], got {type(xs).__name__}")
    if xs.shape[-len(expected) :] != expected:
        raise ValueError(f"{name}: expected {expected} on the last axes for {call}, got shape {xs.shape}")
    if xs.dtype != dtype:
        raise TypeError(f"{name}: expected dtype {dtype}, that of params, got {xs.dtype}")


def step(cell: Cell, params: Params, carry: Carry, zs: Any) -> None:
    """Raise unless the cell's step gives back a carry like the one it takes; zs have one step at least."""

    def first(params: Params, carry: Carry, zs: Any) -> Any:
        return cell.step(params, carry, jax.tree.map(lambda leaf: leaf[0], zs))

    result = jax.eval_shape(first, params, carry, zs)
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(f"cell.step: expected to return (carry, y), got {outline(result)}")
    same_structure("cell.step: carry", result[0], carry, "as it came in")


def same_structure(name: str, value: Any, expected: Any, why: str) -> None:
    """Raise unless ``value`` has the tree structure, shapes and dtypes of ``expected``."""
    if jax.tree.structure(value) != jax.tree.structure(expected):
        raise TypeError(f"{name}: expected {outline(expected)} {why}, got {outline(value)}")
    for (path, leaf), (_, want) in zip(
        jax.tree_util.tree_leaves_with_path(value), jax.tree_util.tree_leaves_with_path(expected), strict=True
    ):
        where = name + jax.tree_util.keystr(path)
        if not hasattr(leaf, "shape") and not isinstance(leaf, (bool, int, float, complex)):
            raise TypeError(f"{where}: expected an array of shape {want.shape} {why}, got {outline(leaf)}")
        if jnp.shape(leaf) != want.shape:
            raise ValueError(f"{where}: expected shape {want.shape} {why}, got {jnp.shape(leaf)}")
        if jnp.result_type(leaf) != want.dtype:
            raise TypeError(f"{where}: expected dtype {want.dtype} {why}, got {jnp.result_type(leaf)}")


def same_but_features(name: str, value: Any, expected: Any, why: str) -> None:
    """Raise unless ``value`` is an array of the dtype of ``expected`` and of its shape but for the last axis."""
    if not hasattr(value, "shape") or not hasattr(expected, "shape"):
        raise TypeError(f"{name}: expected an array {why}, got {outline(value)}")
    if value.shape[:-1] != expected.shape[:-1] or value.ndim != expected.ndim:
        axes = ", ".join(map(str, expected.shape[:-1]))
        raise ValueError(f"{name}: expected shape ({axes}, features) {why}, got {value.shape}")
    if value.dtype != expected.dtype:
        raise TypeError(f"{name}: expected dtype {expected.dtype} {why}, got {value.dtype}")


def outline(tree: Any) -> str:
    """Return what a pytree is made of, in words such as ``LSTMCarry(h=array, c=array)``."""
    fields = getattr(tree, "_fields", None)
    if isinstance(tree, tuple) and fields is not None:
        inside = ", ".join(f"{field}={outline(child)}" for field, child in zip(fields, tree, strict=True))
        words = f"{type(tree).__name__}({inside})"
    elif isinstance(tree, dict):
        words = f"{{{', '.join(f'{name!r}: {outline(child)}' for name, child in tree.items())}}}"
    elif isinstance(tree, (tuple, list)):
        inside = ", ".join(map(outline, tree))
        words = f"[{inside}]" if isinstance(tree, list) else f"({inside},)" if len(tree) == 1 else f"({inside})"
    else:
        words = "array" if hasattr(tree, "shape") else "None" if tree is None else type(tree).__name__
    return words if len(words) <= LONGEST else words[: LONGEST - 1] + "…"
