"""Runs of experiments on disk: results/NAME/RUN, its configuration and its result.

A run's directory is all that is known of it. ``config.json`` is enough to run it again or to continue
it; whatever else lies there, the experiment wrote.
"""

import dataclasses
import datetime
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import shlex
import shutil
import types
import typing
from typing import Any, NamedTuple, TypeVar

C = TypeVar("C")
RESULTS = pathlib.Path("results")  # below the directory that the command is given in
PACKAGES = ("jax", "jaxlib", "numpy", "optax")
LATEST = "latest"


class Row(NamedTuple):
    """A figure of a run and what to set beside it; ``run`` returns them as ``rows``, for the report.

    what: the model and the data, in a few words. Where all of many rows begin alike, with a colon after it, the report
        says that once.
    value, unit: the figure, and what it counts.
    floor: what no learning gives. baseline: what a simple method gives. published: what others report, with the
        source. Each with its name in words, empty where there is none.
    parameters: how many numbers the model learns. seconds: those of the whole run, unless given.
    outcome: what became of it, in words.
    """

    what: str
    value: float
    unit: str
    floor: str = ""
    baseline: str = ""
    published: str = ""
    parameters: int | None = None
    seconds: float | None = None
    outcome: str = ""


class InputError(ValueError):
    """What the user gave cannot be used; the message says why and what to do."""


class Stopped(KeyboardInterrupt):
    """A run was interrupted, wrote its checkpoint and said how to continue it."""


def require(holds: bool, option: str, expected: str, got: Any) -> None:
    """Raise an `InputError` about an option unless ``holds``."""
    if not holds:
        raise InputError(f"--{option.replace('_', '-')}: expected {expected}, got {got!r}")


def require_counts(config: Any, *names: str) -> None:
    """Raise an `InputError` unless all options of these names are at least 1."""
    for name in names:
        require(getattr(config, name) >= 1, name, "at least 1", getattr(config, name))


def make_absolute(config: Any, *names: str) -> None:
    """Make the paths among a new configuration's options absolute: a run is resumed from any folder."""
    for name in names:
        path = getattr(config, name)
        if path is not None:
            object.__setattr__(config, name, path.expanduser().absolute())


def create(experiment: str, run: str | None = None) -> pathlib.Path:
    """Make and return the directory of a new run, named after the time unless a name is given.

    Raises:
        InputError: a name that is no plain file name, or is taken.
    """
    parent = RESULTS / experiment
    if run is not None:
        if run in ("", ".", "..", LATEST) or pathlib.PurePath(run).name != run:
            raise InputError(f"--run {run!r}: expected a plain name, not a path and not {LATEST!r}")
        try:
            (parent / run).mkdir(parents=True)
        except FileExistsError as error:
            raise InputError(
                f"--run {run}: {parent / run} exists already; "
                f"choose another name, or continue it: {resume_command(parent / run)}"
            ) from error
        return parent / run
    stamp = datetime.datetime.now().strftime("%Y-%m-%d-%H%M%S")
    attempt = 1
    while True:
        directory = parent / (stamp if attempt == 1 else f"{stamp}-{attempt}")
        try:
            directory.mkdir(parents=True)
        except FileExistsError:
            attempt += 1
        else:
            return directory


def discard_unused(directory: pathlib.Path) -> None:
    """Remove the directory of a run that ended before it made anything."""
    if {path.name for path in directory.iterdir()} <= {"config.json", "seconds.json"}:
        shutil.rmtree(directory)


def find(experiment: str, run: str) -> pathlib.Path:
    """Return the directory of an existing run: its name, its path, or ``latest``.

    Raises:
        InputError: there is no such run; the message names those there are.
    """
    known = names(experiment)
    if run == LATEST and known:
        return RESULTS / experiment / known[-1]
    for directory in (RESULTS / experiment / run, pathlib.Path(run)):
        if run and (directory / "config.json").is_file():
            return directory
    found = "runs there: " + ", ".join(known) if known else f"no runs in {RESULTS / experiment} yet"
    raise InputError(f"run {run!r}: not found; {found}")


def resume_command(directory: pathlib.Path) -> str:
    """Return the command that goes on with the run that a folder is, or is a part of.

    A run that lies where runs do goes by its name, any other by its path, so that the command finds the same one.
    """
    run, experiment = directory, directory.parent.name  # as `create` lays them out
    for folder in (directory, *directory.parents[:2]):  # a run of several trainings has them in folders of its own
        config = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
        if "experiment" in config:
            run, experiment = folder, config["experiment"]
            break
    run = run.absolute()
    found = run.name if run.parent == (RESULTS / experiment).absolute() else str(run)
    return shlex.join(["python", "-m", "experiments", experiment, "--resume", found])


def names(experiment: str) -> list[str]:
    """Return the names of an experiment's runs, the latest last."""
    configs = list((RESULTS / experiment).glob("*/config.json"))
    return [path.parent.name for path in sorted(configs, key=lambda path: (path.stat().st_mtime_ns, path.parent.name))]


def write_config(directory: pathlib.Path, experiment: str, config: Any, arguments: list[str]) -> None:
    """Write config.json: the options, the command that gave them, and what it ran on."""
    write_json(
        directory / "config.json",
        {
            "experiment": experiment,
            "config": dataclasses.asdict(config),
            "command": shlex.join(["python", "-m", "experiments", experiment, *arguments]),
            "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "cores": os.cpu_count(),
            "packages": {package: importlib.metadata.version(package) for package in PACKAGES},
        },
    )


def read_config(directory: pathlib.Path, experiment: str, kind: type[C]) -> C:
    """Return the options of a run.

    Raises:
        InputError: no readable config.json, or one of another experiment or with other options.
    """
    path = directory / "config.json"
    values = read_json(path)
    if not isinstance(values, dict) or values.get("experiment") != experiment:
        raise InputError(f"{path}: not the configuration of a run of {experiment}")
    try:
        return from_values(kind, values["config"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: does not fit this version's options ({error})") from error


def from_values(kind: Any, value: Any) -> Any:
    """Return ``value``, read from JSON, as the ``kind`` that it was before: dataclasses, paths and tuples."""
    origin = typing.get_origin(kind)
    if origin is typing.Annotated:
        return from_values(typing.get_args(kind)[0], value)
    if origin in (typing.Union, types.UnionType):
        options = [option for option in typing.get_args(kind) if option is not type(None)]
        return value if value is None or len(options) > 1 else from_values(options[0], value)
    if origin is tuple and isinstance(value, list):
        kinds = typing.get_args(kind)
        kinds = [kinds[0]] * len(value) if kinds[1:] == (...,) else kinds
        return tuple(from_values(item_kind, item) for item_kind, item in zip(kinds, value, strict=True))
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        hints = typing.get_type_hints(kind, include_extras=True)
        unknown = sorted(set(value) - {field.name for field in dataclasses.fields(kind)})
        if unknown:
            raise ValueError(f"unknown options: {', '.join(unknown)}")
        return kind(**{name: from_values(hints[name], item) for name, item in value.items()})  # pyright: ignore
    return pathlib.Path(value) if kind is pathlib.Path else value


def add_seconds(directory: pathlib.Path, seconds: float) -> float:
    """Return how long a run has taken, ``seconds`` and those of the processes that it was begun in together."""
    path = directory / "seconds.json"
    total = seconds + (read_json(path) if path.exists() else 0.0)
    write_json(path, total)
    return total


def pin_data(directory: pathlib.Path, about: dict[str, Any], content: str | bytes) -> None:
    """Write down the data of a run in data.json, or make sure that a run goes on with the data it began with.

    Args:
        directory: of the run.
        about: what to write, ``source`` among it: where the data come from, in words.
        content: the data, or what tells them from others.

    Raises:
        InputError: the run began with other data.
    """
    data = content.encode(errors="surrogatepass") if isinstance(content, str) else content
    about = about | {"sha256": hashlib.sha256(data).hexdigest()}
    path = directory / "data.json"
    if not path.exists():
        write_json(path, about)
    elif (known := read_json(path))["sha256"] != about["sha256"]:
        raise InputError(f"the data are not the ones that this run began with, which were {known['source']}")


def write_json(path: pathlib.Path, values: Any) -> None:
    """Write ``values`` to a file that is either whole or as it was before."""
    write_text(path, json.dumps(values, indent=2, default=str, ensure_ascii=False) + "\n")


def write_text(path: pathlib.Path, text: str) -> None:
    """Write a text to a file that is either whole or as it was before."""
    aside = path.with_name(path.name + ".partial")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)


def read_json(path: pathlib.Path) -> Any:
    """Return the values of a JSON file.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{path}: is damaged ({error})") from error
