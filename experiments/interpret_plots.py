"""The pictures of `experiments.interpret` that are no text."""

import itertools
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.specimens import Attention, Heads, Reading

WAY = 40  # steps whose way is drawn
CLOUD = 4000  # states that are drawn


def draw_scores(path: pathlib.Path, found: list[dict[str, Any]], follows: float, words: str) -> None:
    """Draw how well the best unit follows each feature, beside what 99 % of the controls stay below."""
    figure = Figure(figsize=(9, 1.3 + 0.42 * len(found)), layout="constrained")
    axes = figure.add_subplot()
    for place, one in enumerate(found):
        score = abs(one["correlation"])
        axes.barh(place, score, color="tab:blue" if one["found"] else "0.75", height=0.62)
        axes.plot([one["control_99"]] * 2, [place - 0.4, place + 0.4], color="tab:orange", linewidth=2.5)
        axes.plot(
            [one["control_median"]] * 2, [place - 0.4, place + 0.4], color="tab:orange", linewidth=1, linestyle=":"
        )
        label = f"{one['units']}[{one['unit']}]  {one['correlation']:+.2f}"
        axes.text(max(score, one["control_99"]) + 0.01, place, label, va="center", fontsize=8.5)
    axes.axvline(follows, color="0.4", linewidth=0.8, linestyle="--", zorder=0)
    axes.set_yticks(range(len(found)), [one["feature"] for one in found])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.25)
    axes.set_xticks(np.arange(0, 1.01, 0.2))
    axes.set_xlabel(
        "|r| on steps that did not choose the unit; orange: median and 99 % of the controls\n"
        f"blue: found, which is beyond 99 % of them and {follows:g} or more"
    )
    figure.suptitle(f"Units that follow a feature: {words}", x=0.01, ha="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)


def draw_states(
    path: pathlib.Path, coordinates: np.ndarray, shares: Sequence[float], reading: Reading, words: str
) -> None:
    """Draw all states, coloured by the first feature, and the way through some steps, each with its symbol."""
    figure = Figure(figsize=(12, 5.6), layout="constrained")
    cloud, way = figure.subplots(1, 2)
    every = max(1, len(coordinates) // CLOUD)
    x, y = coordinates[::every].T
    if reading.features:
        name, values = max(reading.features.items(), key=lambda item: _explained(item[1], coordinates))
        dots = cloud.scatter(x, y, c=values[::every], s=5, cmap="viridis", linewidths=0)
        figure.colorbar(dots, ax=cloud, label=name, shrink=0.8)
    else:
        cloud.scatter(x, y, s=5, color="tab:blue", linewidths=0)
    begin = next((place + 1 for place, symbol in enumerate(reading.symbols) if symbol.endswith("\n")), 0)
    begin = begin if len(reading.starts) == 1 else reading.starts[1]
    steps = slice(begin, begin + WAY)
    within = [start - begin for start in reading.starts if 0 < start - begin < WAY]
    for part in itertools.starmap(slice, itertools.pairwise([0, *within, WAY])):
        way.plot(*coordinates[steps][part].T, color="0.75", linewidth=0.8)
    for (across, up), symbol in zip(coordinates[steps], reading.symbols[steps], strict=True):
        shown = symbol.replace("\n", "↵") if symbol.strip(" ") else "␣"
        way.annotate(shown.strip(" "), (across, up), ha="center", va="center", fontsize=8.5, clip_on=False)
    figure.suptitle(f"{words}: {reading.state} in two principal components", x=0.01, ha="left", fontsize=11)
    cloud.set_title(f"{len(x):,} states", loc="left", fontsize=11)
    way.set_title(f"the way through {len(reading.symbols[steps])} steps", loc="left", fontsize=11)
    for axes in (cloud, way):
        axes.set_xlabel(f"first component, {shares[0]:.0%} of the variance")
        axes.spines[["top", "right"]].set_visible(False)
    cloud.set_ylabel(f"second component, {shares[1]:.0%}")
    figure.savefig(path, dpi=130)


def draw_attention(path: pathlib.Path, maps: Sequence[Attention], words: str) -> None:
    """Draw each map as a matrix, its greatest weight black."""
    rows = [max(1.5, len(shown.rows)) for shown in maps]
    labels = [0.6 + 0.075 * max(map(len, shown.columns)) for shown in maps]
    widest = max(len(shown.columns) for shown in maps)
    size = max(7.0, 2.2 + 0.34 * widest), 0.24 * sum(rows) + sum(labels) + 0.4
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(maps), 1, squeeze=False, height_ratios=rows)[:, 0]
    for axes, shown in zip(grid, maps, strict=True):
        axes.imshow(shown.weights, cmap="Greys", vmin=0, aspect="auto")
        axes.set_xticks(
            range(len(shown.columns)), shown.columns, rotation=60, ha="right", rotation_mode="anchor", fontsize=9
        )
        axes.set_yticks(range(len(shown.rows)), shown.rows, fontsize=9)
        axes.tick_params(axis="y", length=0)
        axes.set_title(shown.title, loc="left", fontsize=10)
    figure.suptitle(f"What is attended to: {words}", x=0.01, ha="left", fontsize=11)
    figure.savefig(path, dpi=130)


def draw_heads(path: pathlib.Path, heads: Heads, words: str) -> None:
    """Draw the attention of every head, a row for each layer; each head's greatest weight is black."""
    layers, count, steps, _ = heads.weights.shape
    figure = Figure(figsize=(1 + 0.085 * steps * count, 1 + 0.095 * steps * layers), layout="constrained")
    labels = [symbol.replace("\n", "↵") for symbol in heads.symbols]
    for (layer, head), axes in np.ndenumerate(figure.subplots(layers, count, squeeze=False)):
        axes.imshow(heads.weights[layer, head], cmap="Greys", vmin=0)
        axes.set_xticks(range(steps), labels, fontsize=6, family="monospace")
        axes.set_yticks(range(steps), labels, fontsize=6, family="monospace", va="center")
        axes.tick_params(length=0, pad=1)
        axes.set_title(f"layer {layer + 1}, head {head + 1}", loc="left", fontsize=9)
    figure.suptitle(f"What each head attends to, a step in each line: {words}", x=0.01, ha="left", fontsize=11)
    figure.savefig(path, dpi=130)


def _explained(feature: np.ndarray, coordinates: np.ndarray) -> float:
    """Return the share of a feature's variance that a plane over the coordinates explains."""
    centred = feature - feature.mean()
    if not centred.any():
        return 0.0
    design = np.column_stack([coordinates - coordinates.mean(axis=0), np.ones(len(feature))])
    rest = centred - design @ np.linalg.lstsq(design, centred, rcond=None)[0]
    return float(1 - (rest**2).sum() / (centred**2).sum())
