"""Errors in words: what was expected, what came, and which argument.

Shapes and dtypes are known while JAX traces, so these checks cost nothing at run time. Values are
known only outside jit; `concrete` tells.
"""

import math
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from jaxrnn.types import Array


def concrete(x: Any) -> bool:
    """Whether the values of ``x`` are known, so that they can be checked."""
    return not isinstance(x, jax.core.Tracer)


def size(name: str, value: Any) -> int:
    """Return ``value`` if it is a positive int, else raise."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: expected an int, got {value!r}")
    if value < 1:
        raise ValueError(f"{name}: expected at least 1, got {value}")
    return int(value)


def number(name: str, value: Any) -> float:
    """Return ``value`` if it is a finite real number, else raise."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name}: expected a number, got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{name}: expected a finite number, got {value}")
    return float(value)


def flag(name: str, value: Any) -> bool:
    """Return ``value`` if it is a bool, else raise."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return bool(value)


def choice(name: str, value: Any, options: tuple[str, ...]) -> str:
    """Return ``value`` if it is one of ``options``, else raise."""
    if value not in options:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, options))}, got {value!r}")
    return value


def array(name: str, value: Any) -> Array:
    """Return ``value`` as a JAX array, or raise naming the argument."""
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: expected an array, got {type(value).__name__}") from error


def parameters(params: Any, kind: type, shapes: dict[str, tuple[int, ...] | None], call: str) -> None:
    """Raise unless ``params`` is a ``kind`` with the given shapes and one floating dtype throughout."""
    if not isinstance(params, kind):
        raise TypeError(f"params: expected the {kind.__name__} of {call}, got {type(params).__name__}")
    dtypes = set()
    for name, expected in shapes.items():
        value = getattr(params, name)
        if expected is None:
            if value is not None:
                raise ValueError(f"params.{name}: expected None for {call}, got an array of shape {jnp.shape(value)}")
            continue
        if jnp.shape(value) != expected:
            raise ValueError(f"params.{name}: expected shape {expected} for {call}, got {jnp.shape(value)}")
        dtypes.add(jnp.result_type(value))
    if len(dtypes) > 1 or not all(jnp.issubdtype(dtype, jnp.floating) for dtype in dtypes):
        found = ", ".join(sorted(str(dtype) for dtype in dtypes))
        raise TypeError(f"params: expected one floating dtype, got {found}")


def features(name: str, xs: Any, expected: int, dtype: Any, call: str) -> None:
    """Raise unless ``xs [..., D]`` has D = ``expected`` features of the parameters' dtype."""
    if not hasattr(xs, "shape") or not hasattr(xs, "dtype"):
        raise TypeError(f"{name}: expected an array [..., {expected}], got {type(xs).__name__}")
    if len(xs.shape) == 0 or xs.shape[-1] != expected:
        raise ValueError(f"{name}: expected {expected} features on the last axis for {call}, got shape {xs.shape}")
    if xs.dtype != dtype:
        raise TypeError(f"{name}: expected dtype {dtype}, that of params, got {xs.dtype}")


def same_structure(name: str, value: Any, expected: Any, why: str) -> None:
    """Raise unless ``value`` has the tree structure, shapes and dtypes of ``expected``."""
    given, wanted = jax.tree.structure(value), jax.tree.structure(expected)
    if given != wanted:
        raise TypeError(f"{name}: expected the structure {wanted} {why}, got {given}")
    for (path, leaf), (_, want) in zip(
        jax.tree_util.tree_leaves_with_path(value), jax.tree_util.tree_leaves_with_path(expected), strict=True
    ):
        where = name + jax.tree_util.keystr(path)
        if jnp.shape(leaf) != want.shape:
            raise ValueError(f"{where}: expected shape {want.shape} {why}, got {jnp.shape(leaf)}")
        if jnp.result_type(leaf) != want.dtype:
            raise TypeError(f"{where}: expected dtype {want.dtype} {why}, got {jnp.result_type(leaf)}")
