"""What a person sees while a run trains: a bar on a terminal, plain lines in a log."""

import importlib.util
import sys
import time
from typing import Any, Protocol

PLAIN_INTERVAL = 10.0  # seconds between two plain lines


class Progress(Protocol):
    """What `fit` tells while it runs."""

    def start(self, step: int, steps: int) -> None:
        """Begin at ``step`` of ``steps``."""

    def advance(self, step: int) -> None:
        """Say that ``step`` updates were made; called after every one, so it must cost nothing."""

    def record(self, record: dict[str, Any], seconds: float, seconds_left: float | None) -> None:
        """Show a record of metrics."""

    def say(self, text: str) -> None:
        """Show a line that stays."""

    def stop(self) -> None:
        """End, and leave the terminal as it was."""


def reporter(show: bool) -> Progress:
    """Return the bar if standard output is a terminal and rich is installed, else plain lines; or silence."""
    if not show:
        return Silent()
    if sys.stdout.isatty() and importlib.util.find_spec("rich") is not None:
        return Bar()
    return Plain()


class Silent:
    """Shows nothing but what must be said."""

    def start(self, step: int, steps: int) -> None:
        del step, steps

    def advance(self, step: int) -> None:
        del step

    def record(self, record: dict[str, Any], seconds: float, seconds_left: float | None) -> None:
        del record, seconds, seconds_left

    def say(self, text: str) -> None:
        print(text, flush=True)

    def stop(self) -> None:
        pass


class Plain(Silent):
    """One line of text at most every few seconds, and for every evaluation."""

    def __init__(self, interval: float = PLAIN_INTERVAL) -> None:
        self._interval = interval
        self._steps = 0
        self._printed = -float("inf")

    def start(self, step: int, steps: int) -> None:
        del step
        self._steps = steps

    def record(self, record: dict[str, Any], seconds: float, seconds_left: float | None) -> None:
        now = time.monotonic()
        last = record["step"] >= self._steps
        if now - self._printed < self._interval and "evaluation" not in record and not last:
            return
        self._printed = now
        left = "" if seconds_left is None else f", {clock(seconds_left)} left"
        self.say(f"step {record['step']}/{self._steps}  {figures(record)}  {clock(seconds)} elapsed{left}")


class Bar:
    """A progress bar of rich, with lines printed above it."""

    def __init__(self, console: Any = None) -> None:
        from rich import progress

        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[figures]}"),
            progress.TextColumn("{task.fields[times]}"),
            console=console,
        )
        self._task: Any = None

    def start(self, step: int, steps: int) -> None:
        self._task = self._bar.add_task("train", total=steps, completed=step, figures="compiling", times="")
        self._bar.start()

    def advance(self, step: int) -> None:
        self._bar.update(self._task, completed=step)

    def record(self, record: dict[str, Any], seconds: float, seconds_left: float | None) -> None:
        left = "" if seconds_left is None else f", {clock(seconds_left)} left"
        shown = {name: value for name, value in record.items() if name != "evaluation"}
        self._bar.update(self._task, completed=record["step"], figures=figures(shown), times=f"{clock(seconds)}{left}")
        if "evaluation" in record:
            self.say(f"step {record['step']}  {figures({'evaluation': record['evaluation']})}")

    def say(self, text: str) -> None:
        self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        self._bar.stop()


def figures(record: dict[str, Any]) -> str:
    """Return the figures of a record that a person follows, on one line.

    Example:
        >>> from jaxrnn.training.progress import figures
        >>> figures({"step": 8, "loss": 1.23456, "steps_per_second": 20.0, "evaluation": {"loss": 1.5}})
        'loss 1.235  20 steps/s  evaluation loss 1.5'
    """
    parts = [f"loss {number(record['loss'])}"] if "loss" in record else []
    for name, unit in (("steps_per_second", "steps/s"), ("tokens_per_second", "tokens/s")):
        if record.get(name) is not None:
            parts.append(f"{number(record[name])} {unit}")
    parts += [f"evaluation {name} {number(value)}" for name, value in record.get("evaluation", {}).items()]
    return "  ".join(parts)


def number(value: Any) -> str:
    """Return four digits of a number, without an exponent where it is not needed.

    Example:
        >>> from jaxrnn.training.progress import number
        >>> number(12345.6), number(0.123456), number(None)
        ('12346', '0.1235', 'not finite')
    """
    if value is None:
        return "not finite"
    if not isinstance(value, (int, float)):
        return str(value)
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"


def clock(seconds: float) -> str:
    """Return a duration as minutes and seconds, with hours where there are any.

    Example:
        >>> from jaxrnn.training.progress import clock
        >>> clock(75), clock(3600 * 30 + 61)
        ('1:15', '30:01:01')
    """
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
