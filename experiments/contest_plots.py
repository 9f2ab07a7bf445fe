"""The pictures of `experiments.transformer_or_rnn`."""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from experiments.contest_costs import MEMORY_BATCH, Costs
from experiments.contest_models import NAMES
from experiments.contest_tasks import Task
from experiments.contest_training import Learnt
from experiments.plots import floor_lines

COLORS = {"vanilla": "#8e5ea2", "lstm": "#c8502d", "gru": "#3a9d6e", "transformer": "#1f6f8b"}
MARKERS = {"vanilla": "v", "lstm": "s", "gru": "D", "transformer": "o"}
PICTURES = {
    "text.png": "Loss on the text against updates, time and characters, for as many parameters and the same tuning",
    "copy.png": "Loss on the copy problem against updates and time",
    "generating.png": "Time of generating a character, and size of the state, against the characters read before",
    "memory.png": "Memory of a gradient against the steps of the sequences",
}


class Line(NamedTuple):
    """What a model's line shows along x and y."""

    kind: str
    x: Sequence[float]
    y: Sequence[float]


def draw_text(path: pathlib.Path, task: Task, learnt: Mapping[str, Learnt], costs: Costs, floors: Mapping) -> None:
    """Plot the losses on the text against updates, time and characters; of the floors those that are near."""
    figure, panels = _panels(3, sharey=True)
    losses = [loss for one in learnt.values() for _, loss in one.curve]
    room = 0.05 * (max(losses) - min(losses))
    near = {name: loss for name, loss in floors.items() if min(losses) - room < loss < max(losses) + room}
    xs: dict[str, Callable[[str, int], float]] = {
        "updates": lambda kind, step: step,
        "minutes": lambda kind, step: step * costs.updates["text"][kind] / 60_000,
        "millions of characters (log)": lambda kind, step: step * task.tokens / 1e6,
    }
    for panel, (label, x) in zip(panels, xs.items(), strict=True):
        _plot(panel, _curves(learnt, x), label)
    panels[0].set(ylim=(min(losses) - room, max(losses) + room), ylabel=f"validation loss in {task.unit}")
    floor_lines(panels, near)
    panels[2].set_xscale("log")
    panels[2].xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panels[2].xaxis.set_major_formatter("{x:g}")
    panels[2].xaxis.set_minor_formatter(NullFormatter())
    _save(figure, panels, path, f"{task.title}: windows of {len(task.valid.inputs[0])}, no state between them")


def draw_copy(path: pathlib.Path, task: Task, learnt: Mapping[str, Learnt], costs: Costs, guess: float) -> None:
    """Plot the losses on the copy problem against updates and time."""
    figure, panels = _panels(2, sharey=True)
    xs: dict[str, Callable[[str, int], float]] = {
        "updates": lambda kind, step: step,
        "minutes": lambda kind, step: step * costs.updates["copy"][kind] / 60_000,
    }
    for panel, (label, x) in zip(panels, xs.items(), strict=True):
        _plot(panel, _curves(learnt, x), label)
    panels[0].set(yscale="log", ylabel=f"validation loss in {task.unit} (log)")
    panels[0].set_ylim(top=3 * guess)
    floor_lines(panels, {"guessing": guess})
    _save(figure, panels, path, task.title[0].upper() + task.title[1:])


def draw_generating(path: pathlib.Path, costs: Costs) -> None:
    """Plot the time of a character and the bytes of the state against the characters read before."""
    figure, panels = _panels(2)
    ys = {"milliseconds per character (log)": "milliseconds", "state in KiB (log)": "state_bytes"}
    for panel, (label, field) in zip(panels, ys.items(), strict=True):
        unit = 1024 if field == "state_bytes" else 1
        lines = [
            Line(kind, [point.context for point in points], [getattr(point, field) / unit for point in points])
            for kind, points in costs.generating.items()
        ]
        _plot(panel, lines, "characters read before (log)")
        _sizes(panel, lines[0].x)
        panel.set(yscale="log", ylabel=label)
    _save(figure, panels, path, "Generating one sequence; the Transformer attends to every character read before")


def draw_memory(path: pathlib.Path, costs: Costs) -> None:
    """Plot the temporary memory of a gradient against the steps of the sequences."""
    figure, panels = _panels(1)
    lines = [
        Line(kind, [point.steps for point in points], [point.temporary_bytes / 2**20 for point in points])
        for kind, points in costs.memory.items()
    ]
    _plot(panels[0], lines, "steps T (log)")
    _sizes(panels[0], lines[0].x)
    panels[0].set(yscale="log", ylabel="temporary memory in MiB (log)")
    _save(figure, panels, path, f"The compiled gradient of {MEMORY_BATCH} sequences")


def _panels(count: int, *, sharey: bool = False) -> tuple[Figure, Any]:
    figure = Figure(figsize=(2 + 4.2 * count, 4.6), layout="constrained")
    return figure, figure.subplots(1, count, sharey=sharey, squeeze=False)[0]


def _curves(learnt: Mapping[str, Learnt], x: Callable[[str, int], float]) -> list[Line]:
    return [
        Line(kind, [x(kind, step) for step, _ in one.curve], [loss for _, loss in one.curve])
        for kind, one in learnt.items()
    ]


def _plot(panel: Any, lines: Sequence[Line], label: str) -> None:
    for kind, x, y in lines:
        panel.plot(x, y, color=COLORS[kind], marker=MARKERS[kind], markersize=4, linewidth=1.4, label=NAMES[kind])
    panel.set_xlabel(label)


def _sizes(panel: Any, sizes: Sequence[float]) -> None:
    panel.set_xscale("log", base=2)
    panel.set_xticks(sizes, [f"{size:,}" for size in sizes])
    panel.xaxis.set_minor_locator(NullLocator())


def _save(figure: Figure, panels: Any, path: pathlib.Path, title: str) -> None:
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(alpha=0.2)
    panels[0].legend(frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    figure.savefig(path, dpi=130)
