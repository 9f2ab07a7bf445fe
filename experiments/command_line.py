"""What ``python -m experiments`` does with its arguments."""

import dataclasses
import importlib
import pathlib
import subprocess
import sys
import time
from types import ModuleType
from typing import Annotated, Any, Generic, TypeVar

import tyro

from experiments import runs, tables
from experiments.listing import descriptions, listing

C = TypeVar("C")
PROGRAM = "python -m experiments"


@dataclasses.dataclass(frozen=True)
class Command(Generic[C]):
    """What every experiment's command line has besides its own options."""

    config: tyro.conf.OmitArgPrefixes[C]
    quick: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Other defaults, for a run of seconds that shows how it works and what it leaves."""
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
    if name == "--quick":
        return _all_quick(rest or list(listed))
    if name == "report":
        return _report(listed, rest)
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
        f"{PROGRAM} --quick": "a quick run of each",
        f"{PROGRAM} report": f"gather the runs under {runs.RESULTS} into experiments/README.md",
    }
    return listing("Experiments", listed, commands)


def _all_quick(names: list[str]) -> int:
    """Run the experiments ``names`` one after the other, each in a process of its own and in few seconds."""
    began = time.monotonic()
    for name in names:
        start = time.monotonic()
        print(f"--- {PROGRAM} {name} --quick", flush=True)
        if status := subprocess.run([sys.executable, "-m", "experiments", name, "--quick"]).returncode:
            return status
        print(f"--- {name}: {time.monotonic() - start:.0f} seconds", flush=True)
    print(f"--- all {len(names)}: {time.monotonic() - began:.0f} seconds", flush=True)
    return 0


def _report(listed: dict[str, str], arguments: list[str]) -> int:
    from experiments.report import FOLDER, report

    if arguments:
        print(f"{PROGRAM} report takes no options, got {' '.join(arguments)}", file=sys.stderr)
        return 2
    told = report(runs.RESULTS, FOLDER, listed)
    print(f"{FOLDER / 'README.md'} tells of {len(told)} commands.")
    return 0


def _execute(name: str, experiment: ModuleType, description: str, arguments: list[str]) -> int:
    samples = hasattr(experiment, "sample")
    kind: Any = (SamplingCommand if samples else Command)[experiment.Config]

    def parse(default: Any) -> Any:
        command = kind(config=default)
        return tyro.cli(kind, prog=f"{PROGRAM} {name}", description=description, args=arguments, default=command)

    default = experiment.QUICK if "--quick" in arguments else experiment.Config()
    command = parse(default)
    given = [option for option in ("run", "resume", "sample") if getattr(command, option, None) is not None]
    if len(given) > 1:
        raise runs.InputError(f"--{given[0]} and --{given[1]} exclude each other")
    asked = samples and hasattr(experiment, "asks") and experiment.asks(command.config.sampling)
    if asked and given not in ([], ["sample"]):
        raise runs.InputError(f"--{given[0]} trains; name the run that is to answer with --sample")
    if samples and (command.sample is not None or asked):
        directory = runs.find(name, command.sample or runs.LATEST)
        config = runs.read_config(directory, name, experiment.Config)
        wanted = parse(config).config
        _same_but(config, wanted, "sampling", "--sample takes the sampling options only")
        print(experiment.sample(config, directory, wanted.sampling))
        return 0
    if command.resume is not None:
        _same_but(default, command.config, None, "--resume takes all options from the run itself")
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
        try:
            result = experiment.run(config, directory)
        finally:  # a run that failed has taken its time as well
            seconds = runs.add_seconds(directory, time.monotonic() - start)
        runs.write_json(directory / "result.json", result | {"seconds": seconds})
    except runs.InputError:
        runs.discard_unused(directory)
        raise
    except KeyboardInterrupt as stop:
        if not isinstance(stop, runs.Stopped):  # which has said so
            print(f"\nStopped. To continue: {runs.resume_command(directory)}", file=sys.stderr)
        return 130
    except OSError as error:  # a full disk, say: checkpoints and results are replaced as a whole or not at all
        print(f"{PROGRAM} {name}: {error}", file=sys.stderr)
        print(f"What was saved before is whole. To continue: {runs.resume_command(directory)}", file=sys.stderr)
        return 1
    tables.show([runs.Row(**row) for row in result["rows"]])
    files = ", ".join(sorted(path.name for path in directory.iterdir()))
    print(f"\nDone in {seconds:.0f} seconds. Everything is in {directory}: {files}")
    return 0


def _same_but(default: Any, config: Any, exception: str | None, rule: str) -> None:
    """Raise if ``config`` differs from ``default`` in any option but those under ``exception``."""
    before, after = _options(default, exception), _options(config, exception)
    changed = [option for option, value in after.items() if before[option] != value]
    if changed:
        raise runs.InputError(f"{rule}; also given: {', '.join('--' + name.replace('_', '-') for name in changed)}")


def _options(config: Any, exception: str | None) -> dict[str, Any]:
    """Return the options of ``config`` by name, those of the dataclasses in it among them."""
    options = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name != exception:
            options |= _options(value, None) if dataclasses.is_dataclass(value) else {field.name: value}
    return options
