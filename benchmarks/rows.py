"""One measurement, and the file of JSON lines that measurements are kept in."""

import contextlib
import dataclasses
import functools
import importlib.metadata
import json
import math
import os
import pathlib
import platform
from collections.abc import Iterator
from typing import Any, TextIO

import jax

from benchmarks.errors import InputError


@dataclasses.dataclass(frozen=True)
class Row:
    """One contender in one race.

    question, cell, variant, shape, dtype, mode: what was raced; shape is T, B, D, H.
    peer: who ran.
    milliseconds, spread, rounds: median and interquartile range of one call, over that many rounds.
    ratio: the peer's median over jaxrnn's: above 1, jaxrnn is faster; NaN, in the file null, where there is none.
    floor_milliseconds: the products alone, at the rate of a large one timed in the same race.
    temporary_bytes: of the compiled program, per device; None outside JAX.
    compile_seconds: lowering and compiling; None where nothing is compiled.
    error: the largest difference from jaxrnn's results, relative to the largest value; None if not compared.
    settings: what else the question varies.
    versions: jax and jaxlib, Python, platform, CPUs, devices, the peer's library, "kept" of memory that was kept.
    """

    question: str
    cell: str
    variant: str
    shape: tuple[int, ...]
    dtype: str
    mode: str
    peer: str
    milliseconds: float
    spread: float
    ratio: float
    floor_milliseconds: float | None
    temporary_bytes: int | None
    compile_seconds: float | None
    error: float | None
    rounds: int
    settings: dict[str, Any]
    versions: dict[str, Any]

    @property
    def what_else(self) -> str:
        """The variant and the settings in words, in brackets; "" for none."""
        words = [self.variant] * bool(self.variant) + [f"{name} {value}" for name, value in self.settings.items()]
        return f" ({', '.join(words)})" if words else ""


@functools.cache
def versions(distribution: str) -> dict[str, Any]:
    """Return what a time depends on besides the program."""
    return {
        "jax": jax.__version__,
        "jaxlib": importlib.metadata.version("jaxlib"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "processor": processor(),
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        distribution: importlib.metadata.version(distribution),
    }


def processor() -> str:
    """Return the name of the CPU, as its system has it."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


class Record:
    """The rows of a run, each written as a line of JSON the moment it is known, and a line to say it.

    about: what all rows say of the run among their versions.
    failures: how many races, or contenders of one, ended in an error.
    """

    def __init__(self, path: pathlib.Path | None = None, about: dict[str, Any] | None = None):
        self.rows: list[Row] = []
        self.failures = 0
        self._about = about or {}
        self._file: TextIO | None = None if path is None else path.open("w", encoding="utf-8")

    def add(self, rows: list[Row]) -> None:
        """Keep and write the rows of one race; say how it went.

        Raises:
            InputError: the file cannot be written.
        """
        rows = [dataclasses.replace(row, versions=row.versions | self._about) for row in rows]
        for row in rows:
            self.rows.append(row)
            if self._file is not None:
                values = dataclasses.asdict(row) | {"ratio": None if math.isnan(row.ratio) else row.ratio}
                try:
                    print(json.dumps(values), file=self._file, flush=True)
                except OSError as error:  # a full disk: what is measured from here on would be lost
                    raise InputError(f"--json: {error}") from error
        first = rows[0]
        shape = "×".join(map(str, first.shape))
        times = ", ".join(f"{row.peer}{row.what_else} {row.milliseconds:.4g} ms" for row in rows)
        self.say(f"{first.cell} {shape} {first.dtype} {first.mode}: {times}")

    def say(self, line: str) -> None:
        """Print a line at once."""
        print(line, flush=True)

    @contextlib.contextmanager
    def reported(self, name: str) -> Iterator[None]:
        """Go on after an error, with one line that names it, unless it is of what the user gave."""
        try:
            yield
        except InputError:
            raise
        except Exception as error:
            self.failures += 1
            first_line = str(error).strip().partition("\n")[0]
            self.say(f"{name}: failed, {type(error).__name__}: {first_line}")

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def read(path: pathlib.Path, question: str) -> list[Row]:
    """Return the rows of a file that `Record` wrote for a question.

    Raises:
        InputError: a line that is no row, or answers another question, which the message names; no rows.
    """
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = Row(**json.loads(line))
            row = dataclasses.replace(row, ratio=math.nan) if row.ratio is None else row
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}, line {number}: no row of measurements ({error})") from error
        if row.question != question:
            raise InputError(f"{path}, line {number}: expected an answer to {question}, got one to {row.question}")
        rows.append(dataclasses.replace(row, shape=tuple(row.shape)))
    if not rows:
        raise InputError(f"{path}: expected rows of measurements, got an empty file")
    return rows
