"""The training loop: progress, evaluation, metrics, and a run that can be stopped at any moment."""

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrnn import checks
from jaxrnn.training import checkpoints, metrics
from jaxrnn.training.interrupts import stop_signals
from jaxrnn.training.progress import Progress, reporter
from jaxrnn.training.step import MEASURED, TrainState, TrainStep

IN_FLIGHT = 2  # steps handed to the device ahead of the one that is known to be done
ADDED = {"step", "seconds"}  # to the metadata of a checkpoint
RESERVED = {"step", "seconds", "steps_per_second", "tokens_per_second", "evaluation"}


class NonFiniteLossError(FloatingPointError):
    """A loss or gradient norm that is infinite or NaN; ``step`` is the update it belongs to."""

    def __init__(self, step: int, name: str, value: float, checkpoint: str) -> None:
        super().__init__(
            f"{name} is {value} at step {step}, so training cannot go on. {checkpoint} "
            "A lower learning rate or clipping by global norm often helps."
        )
        self.step = step


class Fit(NamedTuple):
    """How a run ended.

    state: the state after the last step.
    reason: "steps" (all done), "early" (``stop_when``), "interrupt" (Ctrl-C or SIGTERM) or "time" (the limit given).
        It is "interrupt" too where the signal came when nothing was left to do: whoever sent it wants all to
        stop, and what follows the training as well.
    """

    state: TrainState
    reason: str


def fit(
    state: TrainState,
    step: TrainStep,
    batches: Callable[[int], Any],
    *,
    steps: int,
    evaluate: Callable[[TrainState], dict[str, Any]] | None = None,
    evaluate_every: int | None = None,
    on_evaluate: Sequence[Callable[[TrainState, dict[str, Any]], None]] = (),
    stop_when: Callable[[dict[str, Any]], bool] | None = None,
    checkpoint_path: str | os.PathLike | None = None,
    checkpoint_every: int | None = None,
    metadata: dict[str, Any] | None = None,
    metrics_path: str | os.PathLike | None = None,
    log: Callable[[dict[str, Any]], None] | None = None,
    log_every: int = 10,
    tokens_per_step: int | None = None,
    time_limit: float | None = None,
    progress: bool = True,
    resume_with: str | None = None,
) -> Fit:
    """Train until ``state.step`` is ``steps``, from wherever the state is.

    A run goes on exactly where it stopped: step n takes ``batches(n)`` and noise from
    ``fold_in(state.key, n)``, so ``fit`` on a state that `load` returned ends with the same parameters,
    bit for bit, as a run that was never stopped. Ctrl-C and SIGTERM let the running step end, write the
    checkpoint and return; a second one stops at once, and the last checkpoint stays whole. (Python
    hears signals in its main thread only.)

    Args:
        state: of `train_state` or `load`. Its memory is reused, so the one given is gone after the call.
        step: ``(state, batch) -> (state, metrics)``, of `train_step`.
        batches: ``batches(n)`` is the batch of step n = 0, 1, 2, …, and depends on n alone.
        steps: the step to end at, counted from the very first.
        evaluate: ``(state) -> dict`` of figures, called every ``evaluate_every`` steps and at the end.
        on_evaluate: called as ``hook(state, record)`` after each evaluation, to print samples, say. The state's
            memory is reused by the next step: copy what a hook keeps.
        stop_when: ``(record) -> bool``, asked after each evaluation and its hooks; true ends the run early.
        checkpoint_path: the file that `save` writes every ``checkpoint_every`` steps and when the run ends.
        metadata: a dict that JSON can hold, saved with every checkpoint, beside ``step`` and ``seconds``.
        metrics_path: a file of JSON lines, one record per step that was recorded. Records after
            ``state.step`` are cut off at the start, so no step appears twice.
        log: called with every record.
        log_every: steps between two records. Losses are fetched from the device only then. A record
            holds ``step`` (updates made), ``seconds``, ``steps_per_second``, the mean of each metric
            since the record before, and at an evaluation its figures as ``evaluation``.
        tokens_per_step: what to multiply the speed by, for ``tokens_per_second``.
        time_limit: seconds after which to end as if interrupted.
        progress: whether to show a bar on a terminal, plain lines elsewhere.
        resume_with: what to tell a person who interrupts, the command that resumes.

    Raises:
        NonFiniteLossError: a loss or gradient norm that is not finite, found at the next record. No
            checkpoint is written after it.
        ValueError, TypeError: an argument that does not fit.
        ImportError: checkpoints without the package safetensors.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxrnn.training import fit, gradient_descent, train_state, train_step
        >>> def loss_fn(params, carry, batch, key):
        ...     return (params - batch) ** 2, (carry, {})
        >>> optimizer, records = gradient_descent(0.25), []
        >>> state = train_state(jnp.array(8.0), optimizer, jax.random.key(0))
        >>> step = train_step(loss_fn, optimizer)
        >>> end = fit(state, step, lambda n: 0.0, steps=3, log=records.append, progress=False)
        >>> float(end.state.params), end.reason, records[0]["step"], records[0]["loss"]
        (1.0, 'steps', 3, 28.0)
    """
    _check(state, steps, evaluate, evaluate_every, stop_when, checkpoint_path, checkpoint_every, log_every, time_limit)
    _check_functions(step, batches, evaluate, on_evaluate, stop_when, log)
    _check_files(checkpoint_path, metrics_path, metadata)
    done = int(state.step)
    seconds_before = _open_files(checkpoint_path, metrics_path, done)
    shown, clock = reporter(progress), _Clock(seconds_before, time_limit)
    pending: list[dict[str, Any]] = []  # metrics of the steps since the last record, still on the device
    reason = "steps"

    with stop_signals() as stop, _showing(shown, done, steps):
        while done < steps and reason == "steps":
            state, measured = step(state, batches(done))
            done += 1
            pending.append(measured)
            if clock.compiling or len(pending) > IN_FLIGHT:  # run ahead of the device, but not far
                jax.block_until_ready(pending[0 if clock.compiling else -1 - IN_FLIGHT])
            clock.tick()
            shown.advance(done)

            last = done == steps
            if not last and (stop.is_set() or clock.over()):
                reason = "interrupt" if stop.is_set() else "time"
            evaluates = last or _due(evaluate_every, done)
            saves = last or reason != "steps" or _due(checkpoint_every, done)
            if not (evaluates or saves or _due(log_every, done)):
                continue

            means = _means(pending, done, checkpoint_path)
            pending.clear()
            record: dict[str, Any] = {"step": done, **clock.read(tokens_per_step), **means}
            if evaluate is not None and evaluates:
                figures = evaluate(state)
                fetched = jax.device_get(figures)  # in the order of the names; a person wants that of the dict
                record["evaluation"] = {name: fetched[name] for name in figures}
            record = metrics.plain(record)
            if metrics_path is not None:
                metrics.append(metrics_path, record)
            if log is not None:
                log(record)
            shown.record(record, clock.seconds(), clock.left(steps - done))
            for hook in on_evaluate if "evaluation" in record else ():
                hook(state, record)
            if stop_when is not None and "evaluation" in record and not last and stop_when(record):
                reason = "early"
            if checkpoint_path is not None and (saves or reason == "early"):
                if metrics_path is not None:
                    metrics.sync(metrics_path)  # a checkpoint must not be ahead of the metrics
                about = {"step": done, "seconds": record["seconds"]}
                checkpoints.save(checkpoint_path, state, {**(metadata or {}), **about})
            clock.restart()
    if reason == "early":
        shown.say(f"Stopped early, at step {done} of {steps}.")
    if stop.is_set():  # asked once more: the signal may have come in the last step, or after it
        reason = "interrupt"
    if reason in ("interrupt", "time"):
        shown.say(_farewell(reason, done, steps, checkpoint_path, resume_with))
    return Fit(state, reason)


class _Clock:
    """Seconds of the run, and steps per second without the compilation and without what is not a step."""

    def __init__(self, before: float, limit: float | None) -> None:
        self._start = time.perf_counter()
        self._before, self._limit = before, limit
        self._first: float | None = None  # when the first step, the one that compiles, was done
        self._steps = 0  # steps since then
        self.restart()

    def restart(self) -> None:
        """Begin to measure the speed anew."""
        self._since, self._since_steps = time.perf_counter(), 0

    def tick(self) -> None:
        """Count a step."""
        if self._first is None:
            self._first = time.perf_counter()
            self.restart()
        else:
            self._steps += 1
            self._since_steps += 1

    @property
    def compiling(self) -> bool:
        """Whether no step was done yet."""
        return self._first is None

    def seconds(self) -> float:
        """Return the seconds of the run, those of the runs it resumes included."""
        return self._before + time.perf_counter() - self._start

    def over(self) -> bool:
        """Return whether the time limit has passed."""
        return self._limit is not None and time.perf_counter() - self._start > self._limit

    def read(self, tokens_per_step: int | None) -> dict[str, Any]:
        """Return the entries of a record that are about time; a speed is None where no step was timed."""
        elapsed = time.perf_counter() - self._since
        speed = self._since_steps / elapsed if self._since_steps and elapsed > 0 else None
        read: dict[str, Any] = {"seconds": round(self.seconds(), 3), "steps_per_second": speed}
        if tokens_per_step is not None:
            read["tokens_per_second"] = None if speed is None else speed * tokens_per_step
        return read

    def left(self, steps: int) -> float | None:
        """Return the seconds until ``steps`` more are done, evaluations and checkpoints included, or the limit."""
        now, left = time.perf_counter(), []
        if self._first is not None and self._steps:
            left.append(steps * (now - self._first) / self._steps)
        if self._limit is not None:
            left.append(self._limit - (now - self._start))
        return max(0.0, min(left)) if left else None


def _due(every: int | None, done: int) -> bool:
    return every is not None and done % every == 0


def _means(pending: list[dict[str, Any]], done: int, checkpoint_path: Any) -> dict[str, Any]:
    """Fetch the metrics of the last steps, and return their means after checking that training can go on."""
    fetched = jax.device_get(pending)
    for index, measured in enumerate(fetched):
        for name in MEASURED:
            if name in measured and not math.isfinite(measured[name]):
                kept = checkpoint_path is not None and Path(checkpoint_path).exists()
                where = f"The last checkpoint is kept: {checkpoint_path}." if kept else "There is no checkpoint yet."
                raise NonFiniteLossError(done - len(fetched) + 1 + index, name, float(measured[name]), where)
    if clash := RESERVED & fetched[0].keys():
        raise ValueError(f"step: expected metrics with other names than those of a record, got {sorted(clash)}")
    return {name: np.mean([measured[name] for measured in fetched], dtype=np.float64) for name in fetched[0]}


def _check(
    state: Any,
    steps: Any,
    evaluate: Any,
    evaluate_every: Any,
    stop_when: Any,
    checkpoint_path: Any,
    checkpoint_every: Any,
    log_every: Any,
    time_limit: Any,
) -> None:
    if not isinstance(state, TrainState):
        raise TypeError(f"state: expected a TrainState, got {type(state).__name__}")
    checks.size("steps", steps)
    checks.size("log_every", log_every)
    for name, every, needed, needs in (
        ("evaluate_every", evaluate_every, evaluate, "evaluate"),
        ("checkpoint_every", checkpoint_every, checkpoint_path, "checkpoint_path"),
    ):
        if every is not None:
            checks.size(name, every)
            if needed is None:
                raise ValueError(f"{needs}: expected one, since {name} is {every}, got None")
    if stop_when is not None and evaluate is None:
        raise ValueError("evaluate: expected one, since stop_when is asked after evaluations, got None")
    if time_limit is not None and checks.number("time_limit", time_limit) <= 0:
        raise ValueError(f"time_limit: expected more than 0 seconds, got {time_limit}")


def _check_functions(step: Any, batches: Any, evaluate: Any, on_evaluate: Any, stop_when: Any, log: Any) -> None:
    checks.functions(step=step, batches=batches)
    optional = {"evaluate": evaluate, "stop_when": stop_when, "log": log}
    checks.functions(**{name: value for name, value in optional.items() if value is not None})
    if not isinstance(on_evaluate, Sequence) or not all(map(callable, on_evaluate)):
        raise TypeError(f"on_evaluate: expected a sequence of functions, got {on_evaluate!r}")
    if on_evaluate and evaluate is None:
        raise ValueError("evaluate: expected one, since on_evaluate is called after evaluations, got None")


def _check_files(checkpoint_path: Any, metrics_path: Any, metadata: Any) -> None:
    for name, path in (("checkpoint_path", checkpoint_path), ("metrics_path", metrics_path)):
        if path is not None and checks.path(name, path).is_dir():
            raise ValueError(f"{name}: expected a file, got the folder {path}")
    if metadata is None:
        return
    if not isinstance(metadata, dict):
        raise TypeError(f"metadata: expected a dict that JSON can hold, got {type(metadata).__name__}")
    try:
        json.dumps(metadata)
    except (TypeError, ValueError) as error:
        raise TypeError(f"metadata: expected a dict that JSON can hold: {error}") from error
    if clash := sorted(ADDED & metadata.keys()):
        raise ValueError(f"metadata: expected other names than {clash}, which fit adds itself")


def _open_files(checkpoint_path: Any, metrics_path: Any, done: int) -> float:
    """Make the folders and cut back the metrics; return the seconds of the run so far."""
    for path in (checkpoint_path, metrics_path):
        if path is not None:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
    if checkpoint_path is not None:
        checkpoints.require()  # an hour into the run would be too late
    kept = [] if metrics_path is None else metrics.cut_back(metrics_path, done)
    return kept[-1].get("seconds", 0.0) if kept else 0.0


@contextmanager
def _showing(shown: Progress, done: int, steps: int) -> Iterator[None]:
    shown.start(done, steps)
    try:
        yield
    finally:
        shown.stop()


def _farewell(reason: str, done: int, steps: int, checkpoint_path: Any, resume_with: str | None) -> str:
    why = "Interrupted" if reason == "interrupt" else "Time limit reached"
    text = f"{why} at step {done} of {steps}."
    if checkpoint_path is None:
        return f"{text} No checkpoint: fit was given no checkpoint_path."
    how = resume_with or "load it with jaxrnn.training.load and pass the state to fit again"
    return f"{text} Checkpoint: {checkpoint_path}. To resume: {how}"
