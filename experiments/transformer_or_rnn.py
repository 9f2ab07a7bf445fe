"""Transformer or RNN: vanilla, LSTM, GRU and the causal Transformer with the same data, parameters and tuning.

Tasks. (1) The next character of a text, in windows cut from anywhere in it. No state goes from one window to the
next, in training or validation, so that all models have the same context; the loss is the mean of -ln P(character),
in nats, over all characters of the validation text. (2) The copy problem (Hochreiter and Schmidhuber 1997): ten
symbols of eight, to be repeated after T steps of blanks; the loss is the mean over all T + 20 steps, and
10 ln 8 / (T + 20) is what guessing at the symbols costs. Every update draws new sequences.

Models. See `experiments.contest_models`: all have as many parameters within 2 %. Training is the same for all:
batches, updates, AdamW, warm-up and cosine.

Tuning. Each model is trained on each task with each learning rate of one grid, for a share of the updates, with its
own warm-up and cosine; the rates with the least validation losses, as many for all, train the model in full.
Nothing else is tuned, for any model. What is reported is the best evaluation of the best of these trainings, on
the sequences that also chose the rate.

Costs. See `experiments.contest_costs`: time of an update, time and state of generating, memory of a gradient.
Wall-clock time in the plots is the number of updates times the median time of one, measured in turn with the other
models after all trainings, without compilation and evaluations.

With a state. The trained character models are evaluated once more, with the state kept from window to window:
an RNN then hears of all characters before, the Transformer sees as many as a window has.
"""

import dataclasses
import pathlib
from typing import Any

import jax
import numpy as np

from experiments import contest_costs, contest_plots, runs
from experiments.char_floors import floors_of
from experiments.char_lm import PUBLISHED
from experiments.contest_models import Kind, Sizes, contestant
from experiments.contest_specimen import copying_specimen, text_specimen
from experiments.contest_table import markdown, show, table
from experiments.contest_tasks import copying, evaluation, next_character
from experiments.contest_training import enter, learn
from experiments.data import memory, streams
from experiments.data.text import Corpus, Vocabulary, read_standard_library, read_text, vocabulary_of
from experiments.memory_specimen import sequences
from experiments.runs import Row
from experiments.specimens import Specimen
from experiments.text_features import code, prose
from experiments.training import Training, best_params


@dataclasses.dataclass(frozen=True)
class Config:
    """Data, models, tuning and training."""

    data: pathlib.Path | None = None
    """A text file, UTF-8: its first 90 % for training, the rest for validation. Unless given, the source text
    of the running Python's standard library, split by files."""
    characters: int = 2_000_000
    """Characters of the standard library to train on, at most; a file of --data is always taken whole."""
    models: tuple[Kind, ...] = ("vanilla", "lstm", "gru", "transformer")
    """The models to compare."""
    sizes: Sizes = Sizes()
    batch: int = 32
    """Sequences in a batch."""
    window: int = 128
    """Characters in a sequence of the text."""
    copy_length: int = 20
    """T of the copy problem."""
    copy_steps: int = 2000
    """Updates on the copy problem; --steps are those on the text."""
    rates: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0, 10.0)
    """Learning rates to try, as multiples of --learning-rate."""
    tuning: float = 0.2
    """Share of the updates for which each learning rate is tried."""
    finalists: int = 2
    """The best learning rates, so many, train the model in full; the best of these trainings counts."""
    contexts: tuple[int, ...] = (64, 256, 1024, 4096)
    """Characters that have been read when generating is timed."""
    lengths: tuple[int, ...] = (64, 256, 1024, 4096)
    """Steps of the sequences for which the memory of a gradient is measured."""
    rounds: int = 20
    """Times that each time is measured, to take the median."""
    training: Training = Training(steps=1000, learning_rate=1e-2, evaluate_every=50, checkpoint_every=100)
    """How the models are trained."""

    def __post_init__(self) -> None:
        runs.make_absolute(self, "data")
        runs.require_counts(self, "characters", "batch", "window", "copy_length", "copy_steps", "rounds", "finalists")
        for name in ("contexts", "lengths", "rates", "models"):
            values = getattr(self, name)
            runs.require(len(values) > 0, name, "at least one", values)
            runs.require(len(set(values)) == len(values), name, "each only once", values)
            runs.require(name == "models" or min(values) > 0, name, "more than 0", values)
        runs.require(0 < self.tuning <= 1, "tuning", "more than 0, at most 1", self.tuning)


QUICK = Config(
    characters=200_000,
    models=("lstm", "transformer"),
    sizes=Sizes(parameters=30_000, embedding=32, transformer_layers=1),
    batch=16,
    window=32,
    copy_length=5,
    copy_steps=60,
    rates=(1.0, 2.5),
    finalists=1,
    contexts=(32, 128),
    lengths=(32, 128),
    rounds=5,
    training=Training(steps=60, learning_rate=4e-3, evaluate_every=20, devices=1),
)


def run(config: Config, directory: pathlib.Path) -> dict[str, Any]:
    """Train all models on both tasks, measure what they cost, and return the figures; what is done is kept."""
    corpus = read(config)
    vocabulary = vocabulary_of(corpus.train)
    about = {"name": corpus.name, "source": corpus.source, "characters": vocabulary.characters}
    runs.pin_data(directory, about, "\0".join([corpus.train, corpus.valid]))
    tokens, held_out = vocabulary.encode(corpus.train), vocabulary.encode(corpus.valid)
    print(f"Text: {corpus.name} ({corpus.source})")
    print(f"      {len(tokens):,} characters for training, {len(held_out):,} for validation, {vocabulary.size} tokens")
    floors = floors_of(directory / "floors.json", corpus, vocabulary, tokens, held_out)
    guess = memory.copy(config.copy_length).floor
    print("Floors in nats per character: " + ", ".join(f"{name} {loss:.3f}" for name, loss in floors.items()))
    print(f"Floor of the copy problem: {guess:.3f} nats per step", flush=True)

    valid = streams.evaluation_windows(held_out, int(vocabulary.encode("\n")[0]), 2 * config.batch, config.window)
    copy_training = dataclasses.replace(config.training, steps=config.copy_steps)
    tasks = [
        next_character(corpus.name, vocabulary.size, tokens, valid, config.batch, config.window, config.training),
        copying(config.copy_length, config.batch, copy_training),
    ]
    entries = {
        task.name: {kind: enter(contestant(kind, task.vocabulary, config.sizes), task) for kind in config.models}
        for task in tasks
    }
    rates = [multiple * config.training.learning_rate for multiple in config.rates]
    short = {task.name: max(1, round(config.tuning * task.training.steps)) for task in tasks}
    learnt = {
        task: {
            kind: learn(entry, rates, short[task], config.finalists, directory / f"{task}-{kind}")
            for kind, entry in of_task.items()
        }
        for task, of_task in entries.items()
    }

    print("\nCosts: updates, generating, the memory of a gradient", flush=True)
    trained = {kind: (entry.model, learnt["text"][kind].params) for kind, entry in entries["text"].items()}
    carried = {
        kind: float(evaluation(model.within(config.window), valid, carried=True)(params)["loss"])
        for kind, (model, params) in trained.items()
    }
    costs = contest_costs.measured(
        directory / "costs.json",
        {task: {kind: entry.update() for kind, entry in of_task.items()} for task, of_task in entries.items()},
        trained,
        held_out,
        config.contexts,
        config.lengths,
        config.rounds,
    )
    text, copy = tasks
    contest_plots.draw_text(directory / "text.png", text, learnt["text"], costs, floors)
    contest_plots.draw_copy(directory / "copy.png", copy, learnt["copy"], costs, guess)
    contest_plots.draw_generating(directory / "generating.png", costs)
    contest_plots.draw_memory(directory / "memory.png", costs)
    shown = table(entries, short, learnt, carried, costs)
    show(shown)
    best = min((name for name in floors if name != "lzma"), key=floors.__getitem__)
    beside: dict[str, dict[str, Any]] = {
        "text": {
            "floor": f"{floors[best]:.3f} ({best})",
            "baseline": f"{floors['lzma']:.3f} (lzma)",
            "published": PUBLISHED.get(corpus.name, ""),
        },
        "copy": {"floor": f"{guess:.3f} (guessing)"},
    }
    rows = [
        Row(
            f"{entry.model.name} {entry.model.sizes} on {entry.task.title}",
            learnt[task][kind].loss,
            entry.task.unit,
            parameters=entry.model.parameters,
            seconds=learnt[task][kind].curve[-1][0] * costs.updates[task][kind] / 1000,
            **beside[task],
        )
        for task, of_task in entries.items()
        for kind, entry in of_task.items()
    ]
    return {
        "rows": [row._asdict() for row in rows],
        "pictures": contest_plots.PICTURES,
        "table": markdown(shown),
        "learnt": {
            task: {kind: one._replace(params=None)._asdict() for kind, one in of_task.items()}
            for task, of_task in learnt.items()
        },
        "nats_per_character_with_a_state": carried,
        "costs": costs._asdict(),
    }


def parts(config: Config, directory: pathlib.Path) -> list[str]:
    """Return the names of a finished run's models, TASK-MODEL, the Transformer on the text first."""
    if not (directory / "result.json").exists():
        raise runs.InputError(f"{directory}: not finished; continue it: {runs.resume_command(directory)}")
    names = [f"{task}-{kind}" for task in ("text", "copy") for kind in config.models]
    return sorted(names, key=lambda name: name != "text-transformer")


def specimen(config: Config, directory: pathlib.Path, steps: int, part: str) -> Specimen:
    """Return what a model of a run, with the learning rate that was best, shows on what it was not trained on."""
    task, kind = part.split("-")
    corpus, vocabulary = read(config), Vocabulary(runs.read_json(directory / "data.json")["characters"])
    model = contestant(kind, vocabulary.size if task == "text" else memory.SYMBOLS + 2, config.sizes)
    rate = runs.read_json(directory / "result.json")["learnt"][task][kind]["rate"]
    params = best_params(directory / part / f"rate-{rate:g}", jax.eval_shape(model.layer.init, jax.random.key(0)))
    words = f"{model.name} {model.sizes} on {corpus.name if task == 'text' else memory.copy(config.copy_length).name}"
    if task == "text":
        features = code if config.data is None else prose
        return text_specimen(words, model, params, vocabulary, corpus.valid[:steps], config.window, features)
    count = sequences(steps, config.copy_length + 2 * memory.COPIED)
    tokens, _ = memory.draw_copy(jax.random.key(config.training.seed + 1), config.copy_length, count)
    return copying_specimen(words, model, params, np.asarray(tokens))


def read(config: Config) -> Corpus:
    """Return the text."""
    return read_standard_library(config.characters) if config.data is None else read_text(config.data)
