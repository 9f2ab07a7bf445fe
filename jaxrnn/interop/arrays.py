"""Arrays of other frameworks and of files as arrays of JAX, of the same dtype."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import checks
from jaxrnn.types import Array

DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def require(package: str, distribution: str | None = None) -> ModuleType:
    """Return an installed package, or raise an error that says how to install it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        name = distribution or package
        raise ImportError(f"this converter needs the package {name}: pip install {name}", name=package) from error


def to_jax(name: str, value: Any) -> Array:
    """Return a floating array, of NumPy, JAX or torch, as an array of JAX; ``name`` is for the errors.

    Raises:
        TypeError: no floating array, or one in float64 where JAX has it switched off.
    """
    if hasattr(value, "detach"):  # of torch, which has no NumPy array of bfloat16
        value = value.detach().cpu()
        half = str(value.dtype) == "torch.bfloat16"
        value = value.float().numpy().astype(jnp.bfloat16) if half else value.numpy()
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        raise TypeError(f"{name}: expected an array, got {type(value).__name__}")
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(f"{name}: expected a floating dtype, got {value.dtype}")
    array = off_host(on_host(value))
    if array.dtype != value.dtype:
        raise TypeError(f"{name}: expected a dtype that JAX has switched on, got {value.dtype}; set jax_enable_x64")
    return array


def on_host(tree: Any) -> Any:
    """Return a tree with NumPy's arrays, for which nothing is compiled, unless one of them is traced."""
    return jax.tree.map(np.asarray, tree) if checks.concrete(tree) else tree


def off_host(tree: Any) -> Any:
    """Return a tree with copies of NumPy's arrays as JAX's."""
    return jax.tree.map(lambda leaf: jax.device_put(leaf.copy()) if isinstance(leaf, np.ndarray) else leaf, tree)


def space(value: Any) -> Any:
    """Return the module whose functions make arrays like ``value``: numpy or jax.numpy."""
    return value.__array_namespace__()


def blocks_of(value: Any, count: int) -> list[Any]:
    """Split an array into so many equal parts along its last axis."""
    return space(value).split(value, count, axis=-1)


def joined(blocks: Sequence[Any]) -> Any:
    """Join arrays along their last axis."""
    return space(blocks[0]).concatenate(blocks, axis=-1)


def to_tensor(torch: ModuleType, value: Any) -> Any:
    """Return an array as a tensor of torch, with memory of its own."""
    if value.dtype == jnp.bfloat16:
        return torch.from_numpy(np.array(value, np.float32)).bfloat16()
    return torch.from_numpy(np.array(value))


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the floating arrays of a safetensors file, views of its bytes, and its metadata.

    Raises:
        ValueError: the file is none, damaged or cut short.
        FileNotFoundError: no such file.
        ImportError: the package safetensors is missing.
    """
    safetensors = require("safetensors")
    data = path.read_bytes()
    try:
        entries = safetensors.deserialize(data)
        header = safetensors.safe_open(path, "np").metadata()
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"{path}: expected a safetensors file, got one that is damaged or cut short: {error}"
        ) from error
    arrays = {
        name: np.frombuffer(entry["data"], jnp.dtype(DTYPES[entry["dtype"]])).reshape(entry["shape"])
        for name, entry in entries
        if entry["dtype"] in DTYPES
    }
    return arrays, header or {}
