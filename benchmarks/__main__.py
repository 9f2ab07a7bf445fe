"""Ask a question: ``python -m benchmarks`` lists them, ``python -m benchmarks QUESTION --help`` explains one."""

import ast
import dataclasses
import importlib
import os
import pathlib
import sys
from types import ModuleType
from typing import Annotated, Any, Generic, TypeVar

import tyro

from benchmarks.errors import InputError, MismatchError

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


def main(arguments: list[str]) -> int:
    """Run the command line ``arguments`` and return the exit status."""
    listed = descriptions()
    if not arguments or arguments[0] in ("-h", "--help"):
        print(listing(listed))
        return 0
    name, *rest = arguments
    if name not in listed:
        print(f"{PROGRAM}: no question {name!r}\n\n{listing(listed)}", file=sys.stderr)
        return 2
    question = importlib.import_module(f"benchmarks.{name}")
    kind: Any = Command[question.Config]
    try:
        command = tyro.cli(kind, prog=f"{PROGRAM} {name}", description=question.__doc__, args=rest)
        return _answer(name, question, command)
    except (InputError, MismatchError, OSError) as error:
        print(f"{PROGRAM} {name}: {error}", file=sys.stderr)
        return 2


def descriptions() -> dict[str, str]:
    """Return the questions and the first line of each one's docstring, without importing any of them."""
    found = {}
    for path in sorted(pathlib.Path(__file__).parent.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        defined = {node.name for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
        if {"Config", "run"} <= defined:
            found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def listing(listed: dict[str, str]) -> str:
    """Return what ``python -m benchmarks`` prints."""
    width = max(map(len, listed))
    lines = [f"  {name:<{width}}  {line}" for name, line in listed.items()]
    return "\n".join(
        [
            "Questions:",
            "",
            *lines,
            "",
            f"  {PROGRAM} peers           answer one",
            f"  {PROGRAM} peers --help    its options",
        ]
    )


def _answer(name: str, question: ModuleType, command: Any) -> int:
    from benchmarks import rows, tables

    if command.plot is not None and not hasattr(question, "draw"):
        raise InputError(f"--plot: {name} has no plot")
    if command.read is not None:
        measured = rows.read(command.read)
    else:
        start_jax(command.devices)
        record = rows.Record(command.json)
        try:
            question.run(command.config, record)
        except KeyboardInterrupt:
            print("\nStopped; what was measured so far:", file=sys.stderr)
        finally:
            record.close()
        measured = record.rows
    for table in question.to_tables(measured) if measured else ():
        print(f"\n{tables.markdown(table)}") if command.markdown else tables.show(table)
    if command.plot is not None and measured:
        question.draw(measured).savefig(command.plot, dpi=150)
    return 0


def start_jax(devices: int | None) -> None:
    """Make as many devices of the CPU; leave half of a GPU's memory to others in this process."""
    import jax

    if devices is not None and devices < 1:
        raise InputError(f"--devices: expected at least 1, got {devices}")
    jax.config.update("jax_num_cpu_devices", os.cpu_count() if devices is None else devices)
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.5")  # read when the first array is made


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
