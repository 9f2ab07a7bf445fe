"""What ``python -m benchmarks`` does with its arguments."""

import dataclasses
import importlib
import os
import pathlib
import sys
from types import ModuleType
from typing import Annotated, Any, Generic, TypeVar

import tyro

from benchmarks.errors import InputError
from experiments.listing import descriptions, listing

C = TypeVar("C")
PROGRAM = "python -m benchmarks"


@dataclasses.dataclass(frozen=True)
class Command(Generic[C]):
    """What every question's command line has besides its own options."""

    config: tyro.conf.OmitArgPrefixes[C]
    json: Annotated[pathlib.Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write every measurement here, one JSON object per line, as soon as it is taken."""
    read: Annotated[pathlib.Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Measure nothing: show what --json wrote to this file."""
    plot: Annotated[pathlib.Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Draw the measurements into this PNG."""
    markdown: bool = False
    """Print the tables as GitHub's markdown."""
    devices: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """How many devices JAX makes of the CPU; one per core unless given."""
    keep_memory: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Have this process keep the memory that arrays free, for all contenders alike."""


def main(arguments: list[str]) -> int:
    """Run the command line ``arguments`` and return the exit status."""
    listed = descriptions(pathlib.Path(__file__).parent)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_listing(listed))
        return 0
    name, *rest = arguments
    if name not in listed:
        print(f"{PROGRAM}: no question {name!r}\n\n{_listing(listed)}", file=sys.stderr)
        return 2
    question = importlib.import_module(f"benchmarks.{name}")
    kind: Any = Command[question.Config]
    try:
        command = tyro.cli(kind, prog=f"{PROGRAM} {name}", description=question.__doc__, args=rest)
        return _answer(name, question, command)
    except (InputError, OSError) as error:
        print(f"{PROGRAM} {name}: {error}", file=sys.stderr)
        return 2


def _listing(listed: dict[str, str]) -> str:
    return listing("Questions", listed, {f"{PROGRAM} peers": "answer one", f"{PROGRAM} peers --help": "its options"})


def _answer(name: str, question: ModuleType, command: Any) -> int:
    from benchmarks import rows, tables

    check(name, question, command)
    failures = 0
    if command.read is not None:
        measured = rows.read(command.read, name)
    else:
        start_jax(command.devices, command.keep_memory)
        record = rows.Record(command.json, about={"memory": "kept"} if command.keep_memory else {})
        try:
            question.run(command.config, record)
        except KeyboardInterrupt:
            print("\nStopped; what was measured so far:", file=sys.stderr)
        finally:
            record.close()
        measured, failures = record.rows, record.failures
    for table in question.to_tables(measured) if measured else ():
        print(f"\n{tables.markdown(table)}") if command.markdown else tables.show(table)
    if command.plot is not None and measured:
        question.draw(measured).savefig(command.plot, dpi=150)
    return 1 if failures else 0


def check(name: str, question: ModuleType, command: Any) -> None:
    """Refuse what would only fail after everything is measured, or be passed over in silence."""
    if command.plot is not None:
        if not hasattr(question, "draw"):
            raise InputError(f"--plot: {name} has no plot")
        if command.plot.suffix != ".png" or not command.plot.resolve().parent.is_dir():
            raise InputError(
                f"--plot: expected a name that ends in .png, in a folder that is there, got {command.plot}"
            )
    for_measuring = {"--json": command.json, "--devices": command.devices, "--keep-memory": command.keep_memory or None}
    given = [option for option, value in for_measuring.items() if value is not None]
    if command.read is not None and given:
        raise InputError(f"{', '.join(given)}: expected no --read, with which nothing is measured")


def start_jax(devices: int | None, keep_memory: bool) -> None:
    """Make as many devices of the CPU; leave half of a GPU's memory to others in this process.

    keep_memory: what arrays free stays with the process.
    """
    import jax

    from experiments.devices import use_every_core
    from jaxrnn import training

    if devices is not None and devices < 1:
        raise InputError(f"--devices: expected at least 1, got {devices}")
    if keep_memory and not training.keep_memory():
        raise InputError("--keep-memory: expected the C library to be glibc, which it is not here")
    if devices is None:
        use_every_core()
    else:
        jax.config.update("jax_num_cpu_devices", devices)
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.5")  # read when the first array is made
