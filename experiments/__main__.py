"""Run an experiment: ``python -m experiments`` lists them, ``python -m experiments NAME --help`` explains one."""

import dataclasses
import importlib
import pathlib
import sys
import time
from types import ModuleType
from typing import Annotated, Any, Generic, TypeVar

import tyro

from experiments import runs
from experiments.listing import descriptions, listing

C = TypeVar("C")
PROGRAM = "python -m experiments"


@dataclasses.dataclass(frozen=True)
class Command(Generic[C]):
    """What every experiment's command line has besides its own options."""

    config: tyro.conf.OmitArgPrefixes[C]
    run: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Name of the new run, results/EXPERIMENT/NAME; the time unless given."""
    resume: Annotated[str | None, tyro.conf.arg(metavar="RUN")] = None
    """Continue this run, with its own options, from where it stopped; "latest" is the latest."""


@dataclasses.dataclass(frozen=True)
class SamplingCommand(Command[C]):
    """The command line of an experiment whose runs can be sampled."""

    sample: Annotated[str | None, tyro.conf.arg(metavar="RUN")] = None
    """Train nothing: sample from this run, with the sampling options; "latest" is the latest."""


def main(arguments: list[str]) -> int:
    """Run the command line ``arguments`` and return the exit status."""
    listed = descriptions(pathlib.Path(__file__).parent)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_listing(listed))
        return 0
    name, *rest = arguments
    if name not in listed:
        print(f"{PROGRAM}: no experiment {name!r}\n\n{_listing(listed)}", file=sys.stderr)
        return 2
    # Importing JAX takes a second, which a list does not need. An experiment may start it when it is imported.
    importlib.import_module("experiments.devices").use_every_core()
    experiment = importlib.import_module(f"experiments.{name}")
    try:
        return _execute(name, experiment, listed[name], rest)
    except runs.InputError as error:
        print(f"{PROGRAM} {name}: {error}", file=sys.stderr)
        return 2


def _listing(listed: dict[str, str]) -> str:
    example = "char_lm" if "char_lm" in listed else next(iter(listed))
    commands = {
        f"{PROGRAM} {example}": f"run one; everything it makes goes to {runs.RESULTS / example}/RUN",
        f"{PROGRAM} {example} --help": "its options",
    }
    return listing("Experiments", listed, commands)


def _execute(name: str, experiment: ModuleType, description: str, arguments: list[str]) -> int:
    samples = hasattr(experiment, "sample")
    kind: Any = (SamplingCommand if samples else Command)[experiment.Config]

    def parse(default: Any) -> Any:
        command = kind(config=default)
        return tyro.cli(kind, prog=f"{PROGRAM} {name}", description=description, args=arguments, default=command)

    command = parse(experiment.Config())
    given = [option for option in ("run", "resume", "sample") if getattr(command, option, None) is not None]
    if len(given) > 1:
        raise runs.InputError(f"--{given[0]} and --{given[1]} exclude each other")
    if samples and command.sample is not None:
        directory = runs.find(name, command.sample)
        config = runs.read_config(directory, name, experiment.Config)
        wanted = parse(config).config
        _same_but(config, wanted, "sampling", "--sample takes the sampling options only")
        print(experiment.sample(config, directory, wanted.sampling))
        return 0
    if command.resume is not None:
        _same_but(experiment.Config(), command.config, None, "--resume takes all options from the run itself")
        directory = runs.find(name, command.resume)
        config = runs.read_config(directory, name, experiment.Config)
    else:
        config = command.config
        directory = runs.create(name, command.run)
        runs.write_config(directory, name, config, arguments)
    return _run(name, experiment, config, directory)


def _run(name: str, experiment: ModuleType, config: Any, directory: pathlib.Path) -> int:
    start = time.monotonic()
    try:
        result = experiment.run(config, directory)
    except runs.InputError:
        runs.discard_unused(directory)
        raise
    except runs.Stopped:
        return 130
    except KeyboardInterrupt:
        print(f"\nStopped. To continue: {PROGRAM} {name} --resume {directory.name}", file=sys.stderr)
        return 130
    runs.write_json(directory / "result.json", result)
    files = ", ".join(sorted(path.name for path in directory.iterdir()))
    print(f"\nDone in {time.monotonic() - start:.0f} seconds. Everything is in {directory}: {files}")
    return 0


def _same_but(default: Any, config: Any, exception: str | None, rule: str) -> None:
    """Raise if ``config`` differs from ``default`` in any option but those under ``exception``."""
    fields = [field.name for field in dataclasses.fields(default) if field.name != exception]
    changed = [field for field in fields if getattr(default, field) != getattr(config, field)]
    if changed:
        raise runs.InputError(f"{rule}; also given: {', '.join('--' + name.replace('_', '-') for name in changed)}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
