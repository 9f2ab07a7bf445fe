"""The report: what all finished runs gave, in experiments/README.md.

``python -m experiments report`` reads every finished run under results/ that was not a quick one. Their figures
go to experiments/results.jsonl, one line for each command, where a newer run of a command takes the older one's
place and runs made elsewhere stay; their pictures go to experiments/figures/. From those lines it writes the part
of README.md between the two marks of each experiment: a table whose rows name their run, and below it the command of
each run. Runs that differ in their seed alone are one row, with mean and standard deviation. A run may give a table
besides its rows, in Markdown.
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
COLUMNS = ("", "figure", "outcome", "floor", "baseline", "published", "parameters", "time", "run")
MANY = 6  # rows of a run, beyond which it has a table of its own
IN_ALL = " in all"  # said of the time of a run where it is not that of each row


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
    runs.write_text(folder / "results.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
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
    runs.write_text(folder / "README.md", readme)
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
    """Return the tables of an experiment's runs, their commands and their pictures."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        groups.setdefault(_without_seed(line["command"]), []).append(line)
    of_runs = [_table_rows(group) for group in groups.values()]
    few = [row for rows in of_runs if len(rows) <= MANY for row in _with_time_once(rows)]
    made = [_table_of_run(rows) for rows in of_runs if len(rows) > MANY] + ([_table(few)] if few else [])
    made += [group[0]["table"] for group in groups.values() if group[0].get("table")]
    commands = "\n\n".join(f"# {line['run']}\n{line['command']}" for line in lines)
    pictures = [
        f"![{caption}]({place})" for group in groups.values() for place, caption in group[0]["pictures"].items()
    ]
    return "\n\n".join([*made, f"```sh\n{commands}\n```", *(["\n".join(pictures)] if pictures else [])])


def _table_rows(group: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Return the rows of runs that differ in their seed alone, by column."""
    whole = _duration(statistics.fmean(line["seconds"] for line in group))
    made = []
    for alike in zip(*(line["rows"] for line in group), strict=True):
        rows = [Row(**row) for row in alike]
        seconds = [row.seconds for row in rows if row.seconds is not None]
        cells = rows[0]._asdict() | {
            "": rows[0].what,
            "figure": _figure(rows),
            "parameters": "" if rows[0].parameters is None else f"{rows[0].parameters:,}",
            "time": _duration(statistics.fmean(seconds)) if seconds else whole,
            "run": ", ".join(f"`{line['run']}`" for line in group),
        }
        if not seconds and len(group[0]["rows"]) > 1:
            cells["time"] += IN_ALL
        made.append({column: cells[column] for column in COLUMNS})
    return made


def _figure(rows: list[Row]) -> str:
    values = [row.value for row in rows]
    if len(rows) == 1:
        return f"**{values[0]:.4g}** {rows[0].unit}"
    return f"**{statistics.fmean(values):.4g} ± {statistics.stdev(values):.2g}** {rows[0].unit} ({len(rows)} seeds)"


def _with_time_once(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return the rows of a run, with the time that is that of all of them in the first alone."""
    return rows[:1] + [row | {"time": ""} if row["time"].endswith(IN_ALL) else row for row in rows[1:]]


def _table_of_run(rows: list[dict[str, str]]) -> str:
    """Return the table of a single run, below what all its rows would say."""
    (run,) = {row["run"] for row in rows}
    context = {column: rows[0][column] for column in COLUMNS[COLUMNS.index("floor") :]}
    alike = {column: cell for column, cell in context.items() if cell and all(row[column] == cell for row in rows)}
    said = [f"{column} {cell}" for column, cell in alike.items() if column != "run"]
    subjects = {row[""].partition(": ")[0] for row in rows}
    if len(subjects) == 1 and all(": " in row[""] for row in rows):
        said.insert(0, *subjects)
        rows = [row | {"": row[""].partition(": ")[2]} for row in rows]
    caption = f"Run {run}: {'; '.join(said)}" if said else f"Run {run}"
    return f"{caption}\n\n{_table([{column: row[column] for column in row if column not in alike} for row in rows])}"


def _table(rows: list[dict[str, str]]) -> str:
    """Return a table without the columns that are empty."""
    columns = [column for column in rows[0] if any(row[column] for row in rows)]
    return tables.markdown(columns, [[row[column] for column in columns] for row in rows])


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
