"""Training as every experiment does it: AdamW, evaluations, the best parameters kept, all in the run's directory.

A run that is started again in the same directory goes on exactly where it stopped.
"""

import contextlib
import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import optax

from experiments import runs
from experiments.devices import one_copy, sharing
from jaxrnn.training import (
    CheckpointError,
    NonFiniteLossError,
    TrainState,
    fit,
    load,
    save,
    train_state,
    train_step,
)
from jaxrnn.training import metrics as metrics_file
from jaxrnn.training.step import TrainStep

Params = Any
Evaluation = Callable[[Params], dict[str, Any]]
Hook = Callable[[Params, dict[str, Any]], None]

CHECKPOINT, BEST, METRICS = "checkpoint.safetensors", "best.safetensors", "metrics.jsonl"
RESULT = "result.json"  # of a run, or of a training that is a part of it
# A resumed run repeats every step bit for bit, and so whatever went wrong.
GENTLER = "To resume would only repeat it: begin a new run with a lower --learning-rate or --clip."


@dataclasses.dataclass(frozen=True)
class Training:
    """How long, how fast, and on what."""

    steps: int = 1000
    """Updates in all."""
    learning_rate: float = 3e-3
    """Highest learning rate of AdamW; it falls to zero by half a cosine."""
    warmup: float = 0.05
    """Share of the steps over which the learning rate first rises from zero."""
    weight_decay: float = 0.01
    """Weight decay of AdamW, for matrices only; 0 makes it Adam."""
    clip: float = 1.0
    """Largest global norm of a gradient; greater ones are scaled down to it."""
    evaluate_every: int = 250
    """Steps between two evaluations."""
    checkpoint_every: int = 250
    """Steps between two checkpoints; an interruption writes one too."""
    patience: int | None = None
    """Evaluations without a better one after which training ends early; unless given, it never does."""
    devices: int | None = None
    """Cores, or GPUs, that share each batch; unless given, as many as leave eight sequences or more for each."""
    seed: int = 0
    """Seed of weights, of noise in training, and of the order of the data."""

    def __post_init__(self) -> None:
        runs.require_counts(self, "steps", "evaluate_every", "checkpoint_every")
        for name in ("patience", "devices"):
            value = getattr(self, name)
            runs.require(value is None or value >= 1, name, "at least 1", value)
        for name in ("weight_decay", "seed"):
            runs.require(getattr(self, name) >= 0, name, "0 or more", getattr(self, name))
        for name in ("learning_rate", "clip"):
            runs.require(getattr(self, name) > 0, name, "more than 0", getattr(self, name))
        runs.require(0 <= self.warmup < 1, "warmup", "at least 0, less than 1", self.warmup)


class Trained(NamedTuple):
    """What a training leaves.

    params: the best ones of all evaluations.
    figures: what that evaluation gave.
    step: the updates made until then.
    records: all records of the run, see `jaxrnn.training.fit`; the last has the seconds of the whole run.
    parameters: how many numbers the parameters are.
    """

    params: Params
    figures: dict[str, Any]
    step: int
    records: list[dict[str, Any]]
    parameters: int


class Diverged(runs.InputError):
    """A loss is not finite, at update ``step``."""

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step


def train(
    directory: pathlib.Path,
    options: Training,
    init: Callable[[jax.Array], Params],
    loss_fn: Callable[..., Any],
    batches: Callable[[int], Any],
    *,
    rows: int,
    evaluate: Evaluation,
    minimize: str = "loss",
    batch_axis: Any = 1,
    carry: Callable[[Params], Any] = lambda params: (),
    on_evaluate: Sequence[Hook] = (),
    tokens_per_step: int | None = None,
    enough: float | None = None,
    optimizer: optax.GradientTransformation | None = None,
    step: TrainStep | None = None,
) -> Trained:
    """Train a model in the directory of a run, or go on with the training that it holds.

    Args:
        directory: for checkpoint.safetensors, best.safetensors (the best parameters) and metrics.jsonl; that of the
            run, or a part of it where it has several trainings.
        options: steps, learning rate and so on.
        init: ``(key) -> params``.
        loss_fn: as `jaxrnn.training.train_step` takes it; see `independent`.
        batches: ``(n) -> batch``, of n alone.
        rows: sequences in a batch, which all devices share evenly.
        evaluate: ``(params) -> dict`` of figures, the one called ``minimize`` among them.
        minimize: the figure that is best when it is least.
        batch_axis: that of ``rows`` in a batch: an int, or a pytree prefix of the batch; sequences are time-major.
        carry: ``(params) -> carry``, the one of the first step, where steps hand on a carry.
        on_evaluate: called as ``hook(params, record)`` after each evaluation.
        tokens_per_step: to show the speed in tokens.
        enough: training ends once the figure called ``minimize`` is this or less.
        optimizer: in place of that of the options.
        step: of this loss and this optimizer, where one is compiled already.

    Raises:
        runs.Stopped: Ctrl-C; the checkpoint is written.
        runs.InputError: a damaged checkpoint, or best parameters that were deleted; the message says how to go on.
        Diverged: a loss that is not finite; what was best before is kept.
    """
    optimizer = optimizer or optimizer_of(options)
    params, run_key = first_params(options, init)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
    state = train_state(params, optimizer, run_key, carry(params))
    with _in_words(directory):
        if (directory / CHECKPOINT).exists():
            state, _ = load(directory / CHECKPOINT, state)
            print(f"Continuing at step {int(state.step)}", flush=True)
            if _had_a_best(directory, int(state.step), minimize) and not (directory / BEST).exists():
                raise runs.InputError(f"{directory / BEST}: was deleted. {_anew(directory)}")
        devices = sharing(rows, options.devices)
        print(f"Device: {len(devices)} × {devices[0].device_kind}; {parameters:,} parameters", flush=True)
        best = _Best(directory / BEST, params, minimize)

        def ended(step: int) -> bool:
            return best.reached(enough) or _ended_early(options, step, best.step)

        if not ended(int(state.step)):
            end = fit(
                state,
                step or train_step(loss_fn, optimizer, devices=devices, batch_axis=batch_axis),
                batches,
                steps=options.steps,
                evaluate=lambda state: evaluate(one_copy(state.params)),
                evaluate_every=options.evaluate_every,
                on_evaluate=[functools.partial(_call, hook) for hook in (best, *on_evaluate)],
                stop_when=lambda record: ended(record["step"]),
                checkpoint_path=directory / CHECKPOINT,
                checkpoint_every=options.checkpoint_every,
                metrics_path=directory / METRICS,
                tokens_per_step=tokens_per_step,
                resume_with=runs.resume_command(directory),
            )
            if end.reason in ("interrupt", "time"):
                raise runs.Stopped
    records = metrics_file.read(directory / METRICS)
    if not (directory / BEST).exists():
        raise Diverged(f"{minimize} was not finite in any evaluation. {GENTLER}", records[-1]["step"])
    return Trained(best_params(directory, params), best.figures, best.step, records, parameters)


def first_params(options: Training, init: Callable[[jax.Array], Params]) -> tuple[Params, jax.Array]:
    """Return the parameters that a training begins with, and the key of its noise."""
    init_key, run_key = jax.random.split(jax.random.key(options.seed))
    return jax.jit(init)(init_key), run_key


def independent(loss: Callable[[Params, Any, jax.Array], Any]) -> Callable[..., Any]:
    """Return ``(params, batch, key) -> loss`` as `jaxrnn.training.train_step` takes it, for batches without a carry.

    The loss is a mean, or a pair (sum, weight).
    """
    return lambda params, carry, batch, key: (loss(params, batch, key), (carry, {}))


def optimizer_of(options: Training, rate: float | None = None) -> optax.GradientTransformation:
    """Return AdamW with clipping; its learning rate follows the schedule of the options unless one is given."""
    matrices = lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params)
    adamw = optax.adamw(
        schedule_of(options) if rate is None else rate, weight_decay=options.weight_decay, mask=matrices
    )
    return optax.chain(optax.clip_by_global_norm(options.clip), adamw)


def schedule_of(options: Training) -> optax.Schedule:
    """Return the learning rate of each step: warm-up and half a cosine."""
    warmup = round(options.warmup * options.steps)
    return optax.warmup_cosine_decay_schedule(0.0, options.learning_rate, warmup, options.steps)


def best_params(directory: pathlib.Path, like: Params) -> Params:
    """Return the best parameters of a run; ``like`` has their shapes.

    Raises:
        runs.InputError: there are none yet, or the file is damaged.
    """
    if not (directory / BEST).exists():
        raise runs.InputError(f"{directory}: no model yet; continue it: {runs.resume_command(directory)}")
    with _in_words(directory):
        return load(directory / BEST, like)[0]


class _Best:
    """The hook that saves the parameters whenever they are better than all before: ``step`` and ``figures`` of them."""

    def __init__(self, path: pathlib.Path, like: Params, minimize: str) -> None:
        about = load(path, like)[1] if path.exists() else {"step": 0, "figures": {minimize: math.inf}}
        self._path, self._minimize = path, minimize
        self.step, self.figures = about["step"], about["figures"]

    def __call__(self, params: Params, record: dict[str, Any]) -> None:
        figures = record["evaluation"]
        if figures[self._minimize] is not None and figures[self._minimize] < self.figures[self._minimize]:
            self.step, self.figures = record["step"], figures
            save(self._path, params, {"step": self.step, "figures": figures})

    def reached(self, enough: float | None) -> bool:
        """Return whether the best figure is ``enough`` or less."""
        return enough is not None and self.figures[self._minimize] <= enough


def _call(hook: Hook, state: TrainState, record: dict[str, Any]) -> None:
    hook(one_copy(state.params), record)


def _ended_early(options: Training, step: int, best: int) -> bool:
    return options.patience is not None and step - best >= options.patience * options.evaluate_every


def _had_a_best(directory: pathlib.Path, step: int, minimize: str) -> bool:
    """Return whether an evaluation until ``step`` had a finite figure, so that its parameters were saved."""
    records = metrics_file.read(directory / METRICS) if (directory / METRICS).exists() else []
    return any(r["step"] <= step and r.get("evaluation", {}).get(minimize) is not None for r in records)


def _anew(directory: pathlib.Path) -> str:
    """Return how to begin a training again whose files cannot be used; without its result, it is not taken as done."""
    files = [str(directory / name) for name in (BEST, CHECKPOINT, RESULT) if (directory / name).exists()]
    return f"To train anew, delete {' and '.join(files)}, then: {runs.resume_command(directory)}"


@contextlib.contextmanager
def _in_words(directory: pathlib.Path) -> Iterator[None]:
    """Let what training and checkpoints complain of end as an error of the user's input, without a traceback."""
    try:
        yield
    except CheckpointError as error:
        raise runs.InputError(f"{error} {_anew(directory)}") from error
    except NonFiniteLossError as error:
        raise Diverged(f"{error} {GENTLER}", error.step) from error
