"""Checkpoints: a pytree in one safetensors file that an interruption at any moment leaves whole.

The new file is written beside the old one, forced to the disk, then renamed over it. Nothing is
pickled. Every array carries its SHA-256, so damage anywhere is found when the file is read. Other
programs can read the arrays too: the format is safetensors, the names are paths in the tree.
"""

import hashlib
import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import checks

FORMAT = "jaxrnn checkpoint"
VERSION = "1"


class CheckpointError(ValueError):
    """A file that is no whole checkpoint, or not one of the tree that was asked for."""


def save(path: str | os.PathLike, tree: Any, metadata: dict[str, Any] | None = None) -> None:
    """Write a pytree to a file, whole or not at all.

    Stopped at any moment, by an exception, a kill or a power cut, it leaves the old file or the new one.

    Args:
        path: the file; its folder must exist. An old file is replaced.
        tree: a pytree of arrays, keys of `jax.random.key` and Python numbers.
        metadata: a dict that JSON can hold.

    Raises:
        TypeError: a leaf that is no array, metadata that JSON cannot hold.
        ImportError: the package safetensors is missing.
        OSError: the file cannot be written.

    Example:
        >>> import os, tempfile, jax.numpy as jnp
        >>> from jaxrnn.training import load, save
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "weights.safetensors")
        ...     save(path, {"w": jnp.ones(3)}, {"step": 7})
        ...     tree, metadata = load(path, {"w": jnp.zeros(3)})
        >>> tree["w"].tolist(), metadata
        ([1.0, 1.0, 1.0], {'step': 7})
    """
    where = checks.path("path", path)
    safetensors = require()
    arrays, keys = {}, {}
    for name, leaf in _named_leaves(tree):
        if _is_key(leaf):
            keys[name] = str(jax.random.key_impl(leaf))
            leaf = jax.random.key_data(leaf)
        arrays[name] = _to_numpy(name, leaf)
    if metadata is not None and not isinstance(metadata, dict):
        raise TypeError(f"metadata: expected a dict that JSON can hold, got {type(metadata).__name__}")
    try:
        metadata_text = json.dumps(metadata or {})
    except (TypeError, ValueError) as error:
        raise TypeError(f"metadata: expected a dict that JSON can hold: {error}") from error
    contents = json.dumps(
        {
            "metadata": metadata_text,
            "keys": keys,
            "dtypes": {name: array.dtype.name for name, array in arrays.items()},
            "sha256": {name: _digest(array) for name, array in arrays.items()},
        }
    )
    header = {"format": FORMAT, "version": VERSION, "contents": contents, "sha256": _sha256(contents.encode())}
    try:
        data = safetensors.numpy.save(arrays, metadata=header)
    except safetensors.SafetensorError as error:
        raise TypeError(f"tree: expected dtypes that safetensors can hold: {error}") from error
    _replace(where, data)


def load(path: str | os.PathLike, like: Any) -> tuple[Any, dict[str, Any]]:
    """Read a pytree that `save` wrote, as ``(tree, metadata)``.

    Args:
        path: the file.
        like: a pytree of the structure, shapes and dtypes to expect, of arrays or
            `jax.ShapeDtypeStruct`. Where it has NumPy arrays or Python numbers, these come back.

    Raises:
        CheckpointError: the file is damaged or no checkpoint, or it holds another tree: the message
            names the file, the leaf and what to do.
        FileNotFoundError: no such file.
        ImportError: the package safetensors is missing.

    Example: see `save`.
    """
    stored, keys, metadata = read(checks.path("path", path))
    return restore(path, stored, keys, like), metadata


def restore(path: Any, stored: dict[str, np.ndarray], keys: dict[str, str], like: Any) -> Any:
    """Return the arrays and keys that `read` found in the file as a tree like ``like``, or raise."""
    leaves = _named_leaves(like)
    names = [name for name, _ in leaves]
    for problem, found in (
        ("lacks", [name for name in names if name not in stored]),
        ("also holds", [name for name in stored if name not in names]),
    ):
        if found:
            more = f" and {len(found) - 3} more" if len(found) > 3 else ""
            raise CheckpointError(
                f"{path}: expected the leaves of the tree given; the file {problem} {', '.join(found[:3])}{more}. "
                "Build the tree with the options the checkpoint was made with."
            )
    restored = [_restore(path, name, stored[name], keys.get(name), leaf) for name, leaf in leaves]
    return jax.tree.unflatten(jax.tree.structure(like), restored)


def require() -> ModuleType:
    """Return the package safetensors, or raise an error that says how to install it."""
    try:
        import safetensors
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(
            "checkpoints need the package safetensors: pip install 'jaxrnn[training]'", name="safetensors"
        ) from error
    return safetensors


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str], dict[str, Any]]:
    """Return arrays, key implementations and metadata of a file, after checking every byte that matters."""
    safetensors = require()
    data = path.read_bytes()
    advice = "Use an earlier checkpoint, or start again without it."
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        form, version = header["format"], header["version"]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        reason = "is empty" if not data else "is no jaxrnn checkpoint, or its first bytes are damaged"
        raise CheckpointError(f"{path}: the file {reason}. {advice}") from error
    if form != FORMAT:
        raise CheckpointError(f"{path}: expected a {FORMAT}, got {form!r}. {advice}")
    if version != VERSION:
        raise CheckpointError(
            f"{path}: expected a checkpoint of version {VERSION}, got {version!r}. "
            "Read it with the jaxrnn that wrote it."
        )
    try:
        if _sha256(header["contents"].encode()) != header["sha256"]:
            raise CheckpointError(f"{path}: the file is damaged, in its header. {advice}")
        contents = json.loads(header["contents"])
        arrays = {
            name: np.frombuffer(entry["data"], jnp.dtype(contents["dtypes"][name])).reshape(entry["shape"])
            for name, entry in safetensors.deserialize(data)
        }
    except CheckpointError:
        raise
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: the file is damaged or cut short: {error}. {advice}") from error
    for name, digest in contents["sha256"].items():
        if name not in arrays or _digest(arrays[name]) != digest:
            raise CheckpointError(f"{path}: the file is damaged, in the bytes of {name}. {advice}")
    return arrays, contents["keys"], json.loads(contents["metadata"])


def _restore(path: Any, name: str, array: np.ndarray, implementation: str | None, like: Any) -> Any:
    """Return a stored array in the form of ``like``, or raise if it is another."""
    is_key = implementation is not None
    value = jax.random.wrap_key_data(jnp.asarray(array), impl=implementation) if is_key else array
    shape, dtype = np.shape(like), like.dtype if hasattr(like, "dtype") else np.asarray(like).dtype
    for what, expected, got in (("shape", shape, value.shape), ("dtype", dtype, value.dtype)):
        if expected != got:
            raise CheckpointError(
                f"{path}: {name}: expected {what} {expected}, that of the tree given, got {got} from the file. "
                "Build the tree with the options the checkpoint was made with."
            )
    if is_key:
        return value
    if isinstance(like, (bool, int, float)):
        return type(like)(array.item())
    if isinstance(like, (np.ndarray, np.generic)):
        return array.copy() if isinstance(like, np.ndarray) else array[()]
    value = jax.device_put(array.copy())  # a copy: `array` is a view of the file's bytes
    if value.dtype != dtype:
        raise CheckpointError(f"{path}: {name}: expected dtype {dtype}, which needs jax_enable_x64, got {value.dtype}.")
    return value


def _named_leaves(tree: Any) -> list[tuple[str, Any]]:
    leaves = [(jax.tree_util.keystr(p) or ".", leaf) for p, leaf in jax.tree_util.tree_leaves_with_path(tree)]
    if len({name for name, _ in leaves}) != len(leaves):
        raise ValueError(f"tree: expected a different path for every leaf, got {sorted(name for name, _ in leaves)}")
    return leaves


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _to_numpy(name: str, leaf: Any) -> np.ndarray:
    if not isinstance(leaf, (jax.Array, np.ndarray, np.generic, bool, int, float)):
        raise TypeError(f"tree: expected arrays, got {type(leaf).__name__} at {name}")
    array = np.asarray(leaf, order="C")
    if not (jnp.issubdtype(array.dtype, jnp.number) or array.dtype == bool):
        raise TypeError(f"tree: expected numbers or bools, got dtype {array.dtype} at {name}")
    return array.astype(jnp.dtype(array.dtype.name), copy=False)  # in the byte order of this machine


def _digest(array: np.ndarray) -> str:
    return _sha256(f"{array.dtype.name} {array.shape} ".encode() + array.tobytes())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _replace(path: Path, data: bytes) -> None:
    """Put ``data`` into the file at ``path`` so that no moment sees a part of it."""
    # One fixed name: what a kill leaves behind is overwritten by the next save, not piled up.
    aside = path.with_name(path.name + ".writing")
    try:
        with open(aside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    if hasattr(os, "O_DIRECTORY"):  # where a folder can be opened, the rename itself is forced to the disk
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
