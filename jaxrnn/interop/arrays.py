"""Arrays of other frameworks and of files as arrays of JAX, of the same dtype."""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np

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
    array = jnp.array(value)
    if array.dtype != value.dtype:
        raise TypeError(f"{name}: expected a dtype that JAX has switched on, got {value.dtype}; set jax_enable_x64")
    return array


def to_tensor(torch: ModuleType, value: Array) -> Any:
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
