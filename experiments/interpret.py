"""What a trained network has learnt to look at: units, gates, states and the inputs that answers depend on.

A run of any experiment that offers a specimen (`experiments.specimens`) reads something that it was not trained on.

Units. For each feature that can be named of every step, such as "inside a string", the gate or state that follows
it best is found on the first half of the steps, and its correlation with the feature measured on the second. The
control is the same search for the feature shifted round in time (`jaxrnn.analysis.unit_scores`). A unit counts as
found where at most one search in a hundred does as well, and the correlation is `FOLLOWS` at least: over many steps a
far weaker one is certain, and yet none that a reader would see. The table and units.png have them all. The text is
then coloured by the units found, and by all gates of the best one.

States. Their way through the first steps, in the two directions in which the states vary most.

Inputs. How an answer changes with each input: by the gradient, multiplied with the input's distance from one that
says nothing, and by integrated gradients, whose sum must be the difference of the answers (completeness).

Attention. Where a model attends, the weights are drawn; of a Transformer, for each layer and head.
"""

import dataclasses
import functools
import importlib
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import rich.box
import rich.console
import rich.table

from experiments import runs
from experiments.coloured_text import Panel, draw_text, write_page
from experiments.interpret_plots import draw_attention, draw_heads, draw_scores, draw_states
from experiments.listing import descriptions
from experiments.runs import Row
from experiments.specimens import Question, Reading, Specimen
from experiments.training import BEST
from jaxrnn.analysis import input_gradients, integrated_gradients, principal_components, unit_scores

CERTAIN, FOLLOWS = 0.01, 0.3  # largest p, and least |correlation|, of a unit that counts as found
FEW, ENOUGH = 64, 1e-3  # points that are tried first, and the share of an answer's change that they may miss
EXCERPT, LINE, LONGEST = 700, 20, 1000  # characters to colour, what a line's end counts as, and most if there is none


@dataclasses.dataclass(frozen=True)
class Config:
    """What is looked into, and how closely."""

    of: str = "char_lm"
    """EXPERIMENT or EXPERIMENT/RUN, the latest run unless one is named; of char_lm, sentiment, translation,
    image_sequence, transformer_or_rnn or long_memory."""
    part: str | None = None
    """Which model of a run that has trained several: of transformer_or_rnn a task and a model, such as text-gru, the
    Transformer on the text unless given; of long_memory a cell, the one that did best unless given."""
    train: bool = False
    """Make a quick run of the experiment first where there is none."""
    steps: int = 40_000
    """Steps to read, about: characters, words and so on."""
    controls: int = 200
    """Searches for a unit that follows a shifted feature."""
    points: int = 1024
    """Gradients in each integral at most; a network that turns sharply from one answer to another needs many;
    where 64 do, no more are taken."""
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
    specimen = specimen_of(config, experiment, trained)
    say(f"Model: {specimen.words}, {trained}")
    rows, pictures, details = [], {}, {}
    if specimen.reading is not None:
        reading = specimen.reading
        say(f"Read:  {len(reading.symbols):,} steps; {sum(x.shape[1] for x in reading.units.values()):,} units")
        if reading.features:
            found = details["units"] = units_of(config, reading)
            console.print(table(found))
            pictures |= show_units(directory, specimen.words, reading, found)
            rows.append(units_row(specimen.words, found))
        pictures |= show_states(directory, specimen.words, reading)
    if specimen.questions:
        panels, gap = saliency(config, specimen.questions)
        if gap is not None:
            say(f"Integrated gradients miss the change of the answer by {gap:.1e} of it at most.")
            what = f"completeness of integrated gradients in {specimen.words}"
            rows.append(Row(what, 100 * gap, "% of the change missed"))
        details["largest_gap"] = gap
        pictures |= show_text(directory, "saliency", f"What answers depend on: {specimen.words}", panels)
    if specimen.attention:
        draw_attention(directory / "attention.png", specimen.attention, specimen.words)
        pictures["attention.png"] = f"What is attended to: {specimen.words}"
    if specimen.heads is not None:
        draw_heads(directory / "heads.png", specimen.heads, specimen.words)
        pictures["heads.png"] = f"What each head attends to: {specimen.words}"
    return {"rows": [row._asdict() for row in rows], "pictures": pictures, "of": str(trained)} | details


def find(config: Config) -> tuple[str, pathlib.Path]:
    """Return the experiment and the directory of the run that is looked into, made first where that is asked for."""
    experiment, _, name = config.of.partition("/")
    offer = offering()
    if experiment in descriptions(pathlib.Path(__file__).parent).keys() - set(offer):
        raise runs.InputError(
            f"--of {config.of}: {experiment} keeps no trained model to look into; expected one of {', '.join(offer)}"
        )
    runs.require(experiment in offer, "of", f"one of {', '.join(offer)}, or one of them and /RUN", config.of)
    if name:
        return experiment, runs.find(experiment, name)
    trained = [known for known in runs.names(experiment) if any((runs.RESULTS / experiment / known).rglob(BEST))]
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


def specimen_of(config: Config, experiment: str, trained: pathlib.Path) -> Specimen:
    """Return what a run shows, by the model that is asked for where it has several."""
    module = importlib.import_module(f"experiments.{experiment}")
    of_run = runs.read_config(trained, experiment, module.Config)
    if not hasattr(module, "parts"):
        runs.require(config.part is None, "part", f"none, since a run of {experiment} has one model", config.part)
        return module.specimen(of_run, trained, steps=config.steps)
    known = module.parts(of_run, trained)
    part = known[0] if config.part is None else config.part
    runs.require(part in known, "part", f"one of {', '.join(known)}", part)
    return module.specimen(of_run, trained, steps=config.steps, part=part)


def offering() -> list[str]:
    """Return the experiments that offer a specimen."""
    folder = pathlib.Path(__file__).parent
    return [path.stem for path in sorted(folder.glob("*.py")) if "\ndef specimen(" in path.read_text(encoding="utf-8")]


def units_of(config: Config, reading: Reading) -> list[dict[str, Any]]:
    """Return, for each feature, the unit that follows it, how well, and what the controls reach; the best first."""
    names = [(name, place) for name, values in reading.units.items() for place in range(values.shape[1])]
    states = np.concatenate([np.asarray(values, np.float32) for values in reading.units.values()], axis=1)
    features = np.stack([np.asarray(values, np.float32) for values in reading.features.values()], axis=1)
    search = jax.jit(functools.partial(unit_scores, controls=config.controls))
    scores = jax.device_get(search(states, features, jax.random.key(config.seed)))
    found = []
    for place, feature in enumerate(reading.features):
        name, unit = names[int(scores.units[place])]
        correlation, p = float(scores.scores[place]), float(scores.p_values[place])
        controls = np.asarray(scores.controls[:, place], float)
        found.append(
            {
                "feature": feature,
                "units": name,
                "unit": unit,
                "correlation": correlation,
                "control_median": float(np.median(controls)),
                "control_99": float(np.quantile(controls, 0.99)),
                "p": p,
                "found": p <= CERTAIN and abs(correlation) >= FOLLOWS,
            }
        )
    return sorted(found, key=lambda one: -abs(one["correlation"]))


def units_row(words: str, found: list[dict[str, Any]]) -> Row:
    """Return the row of the report: how many features have a unit that follows them, and how well."""
    sizes = [abs(one["correlation"]) for one in found if one["found"]]
    extent = f" (|r| {min(sizes):.2f} to {max(sizes):.2f})" if sizes else ""
    unit = f"of {len(found)} features, |r| ≥ {FOLLOWS:g}"
    floor = f"{CERTAIN * len(found):.2g} at most (by chance)"
    return Row(f"units that follow a feature{extent} in {words}", len(sizes), unit, floor=floor)


def show_units(directory: pathlib.Path, words: str, reading: Reading, found: list[dict[str, Any]]) -> dict[str, str]:
    """Draw the scores, the text coloured by the units found, and by all gates of the best one."""
    draw_scores(directory / "units.png", found, FOLLOWS, words)
    pictures = {"units.png": f"Units that follow a feature, beside the control: {words}"}
    chosen = [one for one in found if one["found"]]
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
    """Return the part of the second half in which a feature varies most: whole sequences or, of a text, whole lines."""
    symbols, values = reading.symbols, reading.features[feature]
    bounds = reading.starts if len(reading.starts) > 1 else [n + 1 for n, it in enumerate(symbols) if it == "\n"]
    bounds = np.array([bound for bound in bounds if bound > len(symbols) // 2] or [len(symbols) // 2])
    written = np.cumsum([0, *(len(symbol) + LINE * symbol.endswith("\n") for symbol in symbols)])

    def after(begin: int) -> int:
        """Return the last bound that is near enough; if none is, the next, or where the line becomes too long."""
        near = bounds[(bounds > begin) & (written[bounds] <= written[begin] + EXCERPT)]
        longest = np.searchsorted(written, written[begin] + LONGEST)
        return int(near[-1] if len(near) else min([*bounds[bounds > begin], longest, len(symbols)]))

    enough = [begin for begin in bounds if written[begin] + EXCERPT <= written[-1]] or [bounds[0]]
    begin = max(enough, key=lambda begin: float(np.std(values[begin : after(begin)])))
    return slice(int(begin), after(begin))


def show_states(directory: pathlib.Path, words: str, reading: Reading) -> dict[str, str]:
    """Draw the states in two principal components."""
    found = principal_components(jnp.asarray(reading.units[reading.state], jnp.float32))
    shares = np.asarray(found.shares).tolist()
    draw_states(directory / "states.png", np.asarray(found.coordinates), shares, reading, words)
    return {"states.png": f"States in two principal components: {words}"}


def saliency(config: Config, questions: Any) -> tuple[list[Panel], float | None]:
    """Return each question's text, coloured by its two saliencies, and the largest gap relative to the change.

    An answer that does not change has no gap relative to that; if none does, the largest is None.
    """
    panels, gaps = [], []
    for question in questions:
        gradient, attributions, change, gap = dependence(question, min(FEW, config.points))
        if abs(gap) > ENOUGH * abs(change) and config.points > FEW:
            gradient, attributions, change, gap = dependence(question, config.points)
        shown = f"{question.what}, which does not depend on what was read"
        if change:
            gaps.append(abs(gap / change))
            shown = f"{question.what}, {change:+.2f} by what was read"
        panels.append(Panel(f"{shown} · gradient × input", question.symbols, gradient))
        panels.append(
            Panel(f"{shown} · integrated gradients, sum {attributions.sum():+.2f}", question.symbols, attributions)
        )
    return panels, max(gaps, default=None)


def dependence(question: Question, points: int) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Return, for each step, gradient × input and integrated gradients; f(x) - f(x'); and the integral's gap."""
    _, _, inputs, baseline, score, params = question
    gradient, attributions, change, gap = _both_saliencies(score, points, params, inputs, baseline)
    return np.asarray(gradient), np.asarray(attributions), float(change), float(gap)


@functools.partial(jax.jit, static_argnums=(0, 1))  # once for all questions with the same score
def _both_saliencies(
    score_of: Callable[..., jax.Array], points: int, params: Any, inputs: jax.Array, baseline: jax.Array
) -> tuple[jax.Array, ...]:
    score, start = functools.partial(score_of, params), jnp.broadcast_to(baseline, inputs.shape)
    gradient = (input_gradients(score, inputs) * (inputs - start)).sum(axis=-1)
    integrated = integrated_gradients(score, inputs, start, points=points)
    return gradient, integrated.attributions.sum(axis=-1), score(inputs) - score(start), integrated.gaps


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
        style = "bold" if one["found"] else ""
        made.add_row(one["feature"], f"{one['units']}[{one['unit']}]", *numbers, style=style)
    return made
