"""A record of metrics per line, as JSON, that a resumed run continues."""

import json
import math
import os
from pathlib import Path
from typing import Any


def append(path: str | os.PathLike, record: dict[str, Any]) -> None:
    """Append a record to a metrics file, whose folder must exist.

    Example:
        >>> import os, tempfile
        >>> from jaxrnn.training.metrics import append, cut_back, read
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "metrics.jsonl")
        ...     append(path, {"step": 1, "loss": 2.0})
        ...     append(path, {"step": 2, "loss": 1.0})
        ...     kept = cut_back(path, 1)
        ...     append(path, {"step": 2, "loss": 1.5})
        ...     records = read(path)
        >>> [record["loss"] for record in records]
        [2.0, 1.5]
    """
    with open(path, "a", encoding="utf-8") as file:
        file.write(_line(record))


def read(path: str | os.PathLike) -> list[dict[str, Any]]:
    """Return the records of a metrics file, without lines that are not whole.

    Example: see `append`.
    """
    records = []
    for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            records.append(record)
    return records


def cut_back(path: str | os.PathLike, step: int) -> list[dict[str, Any]]:
    """Drop the records after ``step`` from a metrics file, and lines that are not whole; return the others.

    The records after it belong to a part of the run that is about to be run again. Without a file,
    an empty one is made.

    Example: see `append`.
    """
    path = Path(path)
    kept = [record for record in read(path) if record["step"] <= step] if path.exists() else []
    aside = path.with_name(path.name + ".writing")
    aside.write_text("".join(map(_line, kept)), encoding="utf-8")
    os.replace(aside, path)
    return kept


def sync(path: str | os.PathLike) -> None:
    """Force a metrics file to the disk."""
    with open(path, "a", encoding="utf-8") as file:
        os.fsync(file.fileno())


def plain(value: Any) -> Any:
    """Return a metric as JSON holds it: a number, or None where it is not finite; dicts and lists of these.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxrnn.training.metrics import plain
        >>> plain({"loss": jnp.float32(0.5), "perplexity": float("inf")})
        {'loss': 0.5, 'perplexity': None}
    """
    if isinstance(value, dict):
        return {str(name): plain(entry) for name, entry in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, allow_nan=False) + "\n"
