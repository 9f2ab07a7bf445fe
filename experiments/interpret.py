"""What a trained network has learnt to look at: units, gates, states and the inputs that answers depend on.

A run of any experiment that offers a specimen (`experiments.specimens`) reads something that it was not trained on.

Units. For each feature that can be named of every step, such as "inside a string", the gate or state that follows
it best is found on the first half of the steps, and its correlation with the feature measured on the second. The
control is the same search for the feature shifted round in time (`jaxrnn.analysis.unit_scores`); a unit counts as
found where at most one search in a hundred does as well. The text is then coloured by the units found, and by
all gates of the best one.

States. Their way through the first steps, in the two directions in which the states vary most.

Inputs. How an answer changes with each input: by the gradient, multiplied with the input's distance from one that
says nothing, and by integrated gradients, whose sum must be the difference of the answers (completeness).

Attention. Where a model attends, the weights are drawn.
"""

import dataclasses
import functools
import importlib
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import rich.box
import rich.console
import rich.table

from experiments import runs
from experiments.coloured_text import Panel, draw_text, write_page
from experiments.interpret_plots import draw_attention, draw_scores, draw_states
from experiments.runs import Row
from experiments.specimens import Question, Reading, Specimen
from experiments.training import BEST
from jaxrnn.analysis import input_gradients, integrated_gradients, principal_components, unit_scores

CERTAIN = 0.01
SHOWN, EXCERPT = 5, 500  # units whose text is coloured, and characters of each


@dataclasses.dataclass(frozen=True)
class Config:
    """What is looked into, and how closely."""

    of: str = "char_lm"
    """EXPERIMENT or EXPERIMENT/RUN, the latest run unless one is named; of char_lm, sentiment, translation or
    image_sequence."""
    train: bool = False
    """Make a quick run of the experiment first where there is none."""
    steps: int = 40_000
    """Steps to read, about: characters, words and so on."""
    controls: int = 200
    """Searches for a unit that follows a shifted feature."""
    points: int = 1024
    """Gradients in each integral; a network that turns sharply from one answer to another needs many."""
    seed: int = 0
    """Seed of the shifts."""

    def __post_init__(self) -> None:
        for name, least in (("steps", 100), ("controls", round(1 / CERTAIN) - 1), ("points", 1), ("seed", 0)):
            runs.require(getattr(self, name) >= least, name, f"at least {least}", getattr(self, name))


QUICK = Config(train=True, steps=6000, controls=99, points=64)


def run(config: Config, directory: pathlib.Path) -> dict[str, Any]:
    """Look into a run, and return the figures."""
    console = rich.console.Console(highlight=False)
    say = functools.partial(console.print, soft_wrap=True, markup=False)
    experiment, trained = find(config)
    module = importlib.import_module(f"experiments.{experiment}")
    specimen: Specimen = module.specimen(
        runs.read_config(trained, experiment, module.Config), trained, steps=config.steps
    )
    say(f"Model: {specimen.words}, {trained}")
    rows, pictures, details = [], {}, {}
    if specimen.reading is not None:
        reading = specimen.reading
        say(f"Read:  {len(reading.symbols):,} steps; {sum(x.shape[1] for x in reading.units.values()):,} units")
        if reading.features:
            found = details["units"] = units_of(config, reading)
            console.print(table(found))
            pictures |= show_units(directory, specimen.words, reading, found)
            certain = sum(one["p"] <= CERTAIN for one in found)
            floor = f"{CERTAIN * len(found):.2g} (by chance)"
            rows.append(Row(f"units found in {specimen.words}", certain, f"of {len(found)} features", floor=floor))
        pictures |= show_states(directory, specimen.words, reading)
    if specimen.questions:
        panels, gap = saliency(config, specimen.questions)
        say(f"Integrated gradients miss the change of the answer by {gap:.1e} of it at most ({config.points} points).")
        rows.append(
            Row(f"completeness of integrated gradients in {specimen.words}", 100 * gap, "% of the change missed")
        )
        details["largest_gap"] = gap
        pictures |= show_text(directory, "saliency", f"What answers depend on: {specimen.words}", panels)
    if specimen.attention:
        draw_attention(directory / "attention.png", specimen.attention, specimen.words)
        pictures["attention.png"] = f"What is attended to: {specimen.words}"
    return {"rows": [row._asdict() for row in rows], "pictures": pictures, "of": str(trained)} | details


def find(config: Config) -> tuple[str, pathlib.Path]:
    """Return the experiment and the directory of the run that is looked into, made first where that is asked for."""
    experiment, _, name = config.of.partition("/")
    offer = offering()
    runs.require(experiment in offer, "of", f"one of {', '.join(offer)}, or one of them and /RUN", config.of)
    if name:
        return experiment, runs.find(experiment, name)
    trained = [known for known in runs.names(experiment) if (runs.RESULTS / experiment / known / BEST).exists()]
    if trained:
        return experiment, runs.RESULTS / experiment / trained[-1]
    if not config.train:
        raise runs.InputError(f"--of {config.of}: no run has a model yet; make one, or add --train for a quick one")
    print(f"No run of {experiment} yet: a quick one first", flush=True)
    module = importlib.import_module(f"experiments.{experiment}")
    directory = runs.create(experiment)
    runs.write_config(directory, experiment, module.QUICK, ["--quick", f"--run={directory.name}"])
    runs.write_json(directory / "result.json", {"seconds": 0.0} | module.run(module.QUICK, directory))
    return experiment, directory


def offering() -> list[str]:
    """Return the experiments that offer a specimen."""
    folder = pathlib.Path(__file__).parent
    return [path.stem for path in sorted(folder.glob("*.py")) if "\ndef specimen(" in path.read_text(encoding="utf-8")]


def units_of(config: Config, reading: Reading) -> list[dict[str, Any]]:
    """Return, for each feature, the unit that follows it, how well, and what the controls reach; the best first."""
    names = [(name, place) for name, values in reading.units.items() for place in range(values.shape[1])]
    states = jnp.concatenate([jnp.asarray(values, jnp.float32) for values in reading.units.values()], axis=1)
    features = jnp.stack([jnp.asarray(values, jnp.float32) for values in reading.features.values()], axis=1)
    scores = unit_scores(states, features, jax.random.key(config.seed), controls=config.controls)
    found = []
    for place, feature in enumerate(reading.features):
        name, unit = names[int(scores.units[place])]
        controls = np.asarray(scores.controls[:, place], float)
        found.append(
            {
                "feature": feature,
                "units": name,
                "unit": unit,
                "correlation": float(scores.scores[place]),
                "control_median": float(np.median(controls)),
                "control_99": float(np.quantile(controls, 0.99)),
                "p": float(scores.p_values[place]),
            }
        )
    return sorted(found, key=lambda one: -abs(one["correlation"]))


def show_units(directory: pathlib.Path, words: str, reading: Reading, found: list[dict[str, Any]]) -> dict[str, str]:
    """Draw the scores, the text coloured by the units found, and by all gates of the best one."""
    draw_scores(directory / "units.png", found, CERTAIN, words)
    pictures = {"units.png": f"Units that follow a feature, beside the control: {words}"}
    chosen = [one for one in found if one["p"] <= CERTAIN][:SHOWN]
    if not chosen:
        return pictures
    panels = []
    for one in chosen:
        part = excerpt(reading, one["feature"])
        title = f"{one['feature']}: {one['units']}[{one['unit']}], correlation {one['correlation']:+.2f}"
        panels.append(Panel(title, reading.symbols[part], reading.units[one["units"]][part, one["unit"]]))
    pictures |= show_text(directory, "neurons", f"Units that follow a feature: {words}", panels)
    best = chosen[0]
    layer, part = best["units"].rpartition(" ")[0], excerpt(reading, best["feature"])
    gates = {name: values for name, values in reading.units.items() if name.rpartition(" ")[0] == layer}
    panels = [
        Panel(f"{name}[{best['unit']}]", reading.symbols[part], values[part, best["unit"]])
        for name, values in gates.items()
    ]
    return pictures | show_text(
        directory, "gates", f"All of the unit that follows “{best['feature']}”: {words}", panels
    )


def excerpt(reading: Reading, feature: str) -> slice:
    """Return the part of the second half in which a feature varies most, from the beginning of a line."""
    total = len(reading.symbols)
    written = np.cumsum([len(symbol) for symbol in reading.symbols])
    ends = np.minimum(np.searchsorted(written, written + EXCERPT), total)
    after_line = [place + 1 for place in range(total // 2, total - 1) if reading.symbols[place].endswith("\n")]
    starts = [place for place in after_line if ends[place] < total] or [total // 2]
    values = reading.features[feature]
    begin = max(starts, key=lambda place: float(np.std(values[place : ends[place]])))
    return slice(begin, int(ends[begin]))


def show_states(directory: pathlib.Path, words: str, reading: Reading) -> dict[str, str]:
    """Draw the states in two principal components."""
    found = principal_components(jnp.asarray(reading.units[reading.state], jnp.float32))
    shares = np.asarray(found.shares).tolist()
    draw_states(directory / "states.png", np.asarray(found.coordinates), shares, reading, words)
    return {"states.png": f"States in two principal components: {words}"}


def saliency(config: Config, questions: Any) -> tuple[list[Panel], float]:
    """Return each question's text, coloured by its two saliencies, and the largest gap relative to the change."""
    panels, largest = [], 0.0
    for question in questions:
        gradient, attributions, change, gap = dependence(question, config.points)
        largest = max(largest, abs(gap / change))
        shown = f"{question.what}, {change:+.2f} by what was read"
        panels.append(Panel(f"{shown} · gradient × input", question.symbols, gradient))
        panels.append(
            Panel(f"{shown} · integrated gradients, sum {attributions.sum():+.2f}", question.symbols, attributions)
        )
    return panels, largest


def dependence(question: Question, points: int) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Return, for each step, gradient × input and integrated gradients; f(x) - f(x'); and the integral's gap."""

    @jax.jit
    def both(params: Any, inputs: jax.Array, baseline: jax.Array) -> tuple[jax.Array, ...]:
        score = functools.partial(question.score, params)
        start = jnp.broadcast_to(baseline, inputs.shape)
        gradient = (input_gradients(score, inputs) * (inputs - start)).sum(axis=-1)
        integrated = integrated_gradients(score, inputs, start, points=points)
        return gradient, integrated.attributions.sum(axis=-1), score(inputs) - score(start), integrated.gaps

    gradient, attributions, change, gap = both(question.params, question.inputs, question.baseline)
    return np.asarray(gradient), np.asarray(attributions), float(change), float(gap)


def show_text(directory: pathlib.Path, name: str, title: str, panels: list[Panel]) -> dict[str, str]:
    """Write coloured text as a page and as a picture, and return the picture's caption."""
    write_page(directory / f"{name}.html", title, panels)
    draw_text(directory / f"{name}.png", title, panels)
    return {f"{name}.png": title}


def table(found: list[dict[str, Any]]) -> rich.table.Table:
    """Return the table of features and the units that follow them."""
    made = rich.table.Table(
        title="Units that follow a feature: correlation on steps that did not choose them",
        title_justify="left",
        box=rich.box.SIMPLE_HEAD,
    )
    for column in ("feature", "unit", "correlation", "99 % of controls below", "p"):
        made.add_column(column, justify="left" if column in ("feature", "unit") else "right")
    for one in found:
        numbers = (f"{one[key]:{form}}" for key, form in (("correlation", "+.2f"), ("control_99", ".2f"), ("p", ".3f")))
        style = "bold" if one["p"] <= CERTAIN else ""
        made.add_row(one["feature"], f"{one['units']}[{one['unit']}]", *numbers, style=style)
    return made
