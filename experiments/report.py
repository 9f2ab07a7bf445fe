"""The report: what all finished runs gave, in experiments/README.md.

``python -m experiments report`` reads every finished run under results/ that was not a quick one. Their figures
go to experiments/results.jsonl, one line for each command, where a newer run of a command takes the older one's
place and runs made elsewhere stay; their pictures go to experiments/figures/. From those lines it writes the part
of README.md between the two marks of each experiment. Runs that differ in their seed alone are one row, with mean
and standard deviation. A run may have a table of its own besides its rows, in Markdown.
"""

import json
import pathlib
import shlex
import statistics
from collections.abc import Iterable
from typing import Any

import PIL.Image

from experiments import runs, tables
from experiments.runs import Row

FOLDER = pathlib.Path(__file__).parent
SEEDLESS = ("--seed", "--run")
COLOURS = 128  # of a picture: a plot needs no more, and a third of the bytes
COLUMNS = ("", "figure", "floor", "baseline", "published", "parameters", "time")


def report(results: pathlib.Path, folder: pathlib.Path, descriptions: dict[str, str]) -> list[str]:
    """Gather the runs under ``results`` into ``folder``, which holds README.md; return the commands it tells of.

    Args:
        results: with EXPERIMENT/RUN/ below it.
        folder: of README.md, results.jsonl and figures/.
        descriptions: what each experiment is, in a line.
    """
    told = {line["command"]: line for line in _read_lines(folder / "results.jsonl")}
    for line in sorted(_finished(results), key=lambda line: line["started"]):
        told[line["command"]] = line | {"pictures": _copy_pictures(line, results, folder / "figures")}
    lines = [told[command] for command in sorted(told)]
    _write(folder / "results.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    readme = (folder / "README.md").read_text(encoding="utf-8")
    for name, description in descriptions.items():
        begin, end = f"<!-- results of {name} -->", f"<!-- end of results of {name} -->"
        own = [line for line in lines if line["experiment"] == name]
        if own and begin not in readme:
            readme += f"\n## {name}\n\n{description}\n\n{begin}\n{end}\n"
        if own:
            before, _, rest = readme.partition(begin)
            _, _, after = rest.partition(end)
            readme = "".join([before, begin, "\n\n", _section(own), "\n\n", end, after])
    _write(folder / "README.md", readme)
    _drop_unused(folder / "figures", [picture for line in lines for picture in line["pictures"]], readme)
    return list(told)


def _finished(results: pathlib.Path) -> Iterable[dict[str, Any]]:
    """Yield what is told of each run under ``results`` that has ended and has rows."""
    for path in results.glob("*/*/result.json"):
        result, config = runs.read_json(path), runs.read_json(path.with_name("config.json"))
        if result.get("rows") and "--quick" not in shlex.split(config["command"]):
            yield {
                "experiment": config["experiment"],
                "run": path.parent.name,
                "command": config["command"],
                "started": config["started"],
                "seconds": result["seconds"],
                "cores": config["cores"],
                "python": config["python"],
                "packages": config["packages"],
                "rows": result["rows"],
                "pictures": result.get("pictures", {}),
                "table": result.get("table", ""),
            }


def _copy_pictures(line: dict[str, Any], results: pathlib.Path, figures: pathlib.Path) -> dict[str, str]:
    """Copy a run's pictures, in fewer bytes, and return their captions by where they lie now, relative to README.md."""
    copied = {}
    for name, caption in line["pictures"].items():
        place = pathlib.Path(line["experiment"], f"{line['run']}_{name}")
        (figures / place).parent.mkdir(parents=True, exist_ok=True)
        with PIL.Image.open(results / line["experiment"] / line["run"] / name) as picture:
            picture.convert("RGB").quantize(COLOURS).save(figures / place, optimize=True)
        copied[(figures.name / place).as_posix()] = caption
    return copied


def _drop_unused(figures: pathlib.Path, known: list[str], readme: str) -> None:
    """Remove the pictures of runs that the report has left out, such as those of a second seed."""
    for picture in known:
        if f"({picture})" not in readme:
            (figures.parent / picture).unlink(missing_ok=True)


def _section(lines: list[dict[str, Any]]) -> str:
    """Return the table of an experiment's runs, their commands and their pictures."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        groups.setdefault(_without_seed(line["command"]), []).append(line)
    table = []
    for group in groups.values():
        for rows in zip(*(line["rows"] for line in group), strict=True):
            seconds = [row.get("seconds") or line["seconds"] for row, line in zip(rows, group, strict=True)]
            table.append(_table_row([Row(**row) for row in rows], seconds))
    commands = ["```sh", *(line["command"] for line in lines), "```"]
    pictures = [
        f"![{caption}]({place})" for group in groups.values() for place, caption in group[0]["pictures"].items()
    ]
    more = [part for group in groups.values() if group[0].get("table") for part in (group[0]["table"], "")]
    return "\n".join([tables.markdown(COLUMNS, table), "", *more, *commands, *([""] if pictures else []), *pictures])


def _table_row(rows: list[Row], seconds: list[float]) -> tuple[str, ...]:
    first, values = rows[0], [row.value for row in rows]
    figure = f"**{statistics.fmean(values):.4g}** {first.unit}"
    if len(rows) > 1:
        spread = f"{statistics.fmean(values):.4g} ± {statistics.stdev(values):.2g}"
        figure = f"**{spread}** {first.unit} ({len(rows)} seeds)"
    parameters = "" if first.parameters is None else f"{first.parameters:,}"
    time = _duration(statistics.fmean(seconds))
    return (first.what, figure, first.floor, first.baseline, first.published, parameters, time)


def _without_seed(command: str) -> str:
    """Return the command without its seed and the name of its run.

    Example:
        >>> _without_seed("python -m experiments char_lm --seed 3 --hidden 8 --run=a")
        'python -m experiments char_lm --hidden 8'
    """
    kept, words = [], iter(shlex.split(command))
    for word in words:
        option, given, _ = word.partition("=")
        if option not in SEEDLESS:
            kept.append(word)
        elif not given:
            next(words, None)
    return shlex.join(kept)


def _duration(seconds: float) -> str:
    """Return a time in words.

    Example:
        >>> _duration(7.4), _duration(725.0)
        ('7 s', '12 min 5 s')
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _read_lines(path: pathlib.Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _write(path: pathlib.Path, text: str) -> None:
    aside = path.with_name(path.name + ".partial")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)
