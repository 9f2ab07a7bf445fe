"""Character language model: learns a text one character at a time, and writes more of it.

The model is embedding → (recurrent → dropout) × layers → dense. The training text is cut into streams
that are read side by side, window after window; the carry goes from each window to the next, the
gradient does not (truncated BPTT). The loss is the mean of -ln P(character | all before it), in nats per
character; divided by ln 2 it is in bits.

Validation runs over every character of the validation text once, in as many streams as a batch has,
each from the initial carry. Characters that the training text does not have share one token, for the
model and the n-grams alike; how many there are is printed. The floors beside the model are computed
from the same two texts, see `experiments.ngram`.
"""

import dataclasses
import functools
import math
import pathlib
import re
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import rich.console

import jaxrnn
from experiments import runs
from experiments.char_floors import draw_curves, floors_of, markdown, table
from experiments.char_specimen import specimen_of
from experiments.data import streams, text
from experiments.runs import Row
from experiments.specimens import Specimen
from experiments.text_features import code, prose
from experiments.training import Evaluation, Hook, Training, best_params, train
from jaxrnn.decoding import generate
from jaxrnn.losses import softmax_cross_entropy
from jaxrnn.training import Window, truncated_loss, windows

CELLS = {"vanilla": jaxrnn.vanilla, "lstm": jaxrnn.lstm, "gru": jaxrnn.gru}
PUBLISHED = {
    "tinyshakespeare.txt": "1.4697, small Transformer (nanoGPT); about 1.55, minGRU and minLSTM (Feng et al. 2024)"
}


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How text is written."""

    prompt: str | None = None
    """The text to continue; unless given, the beginning of a method in Python, or of a line with --data."""
    length: int = 400
    """Characters to write."""
    temperature: float = 0.7
    """Divides the logits; 0 takes the likeliest character each time."""
    top_k: int | None = None
    """Choose among the k likeliest characters only."""
    top_p: float | None = None
    """Choose among the likeliest characters that hold this share of the probability."""
    sample_seed: int = 0
    """Seed of the choices."""

    def __post_init__(self) -> None:
        runs.require(self.prompt != "", "prompt", "at least one character", self.prompt)
        runs.require(self.length >= 1, "length", "at least 1", self.length)
        runs.require(self.temperature >= 0, "temperature", "0 or more", self.temperature)
        runs.require(self.top_k is None or self.top_k >= 1, "top-k", "at least 1", self.top_k)
        runs.require(self.top_p is None or 0 < self.top_p <= 1, "top-p", "more than 0, at most 1", self.top_p)


@dataclasses.dataclass(frozen=True)
class Config:
    """Data, model and training."""

    data: pathlib.Path | None = None
    """A text file, UTF-8: its first 90 % for training, the rest for validation. Unless given, the source text
    of the running Python's standard library, split by files."""
    characters: int = 4_000_000
    """Characters of the standard library to train on, at most; a file of --data is always taken whole."""
    cell: Literal["vanilla", "lstm", "gru"] = "lstm"
    """The recurrent cell."""
    layers: int = 1
    """Recurrent layers."""
    hidden: int = 256
    """Units of each recurrent layer."""
    embedding: int = 64
    """Size of the vector that stands for a character."""
    dropout: float = 0.0
    """Share of each recurrent layer's outputs set to zero in training."""
    batch: int = 32
    """Streams read side by side."""
    window: int = 32
    """Steps between two updates."""
    overlap: int = 0
    """Steps before each window that its gradient reaches back over as well."""
    training: Training = Training(steps=4000, learning_rate=6e-3, evaluate_every=500, checkpoint_every=500)
    """How it is trained."""
    sampling: Sampling = Sampling()

    def __post_init__(self) -> None:
        runs.make_absolute(self, "data")
        runs.require_counts(self, "characters", "layers", "hidden", "embedding", "batch", "window")
        runs.require(self.overlap >= 0, "overlap", "0 or more", self.overlap)
        runs.require(0 <= self.dropout < 1, "dropout", "at least 0, less than 1", self.dropout)


QUICK = Config(characters=300_000, hidden=96, training=Training(steps=150, learning_rate=6e-3, evaluate_every=75))


def run(config: Config, directory: pathlib.Path) -> dict[str, Any]:
    """Train a model, or go on with one that ``directory`` holds, and return its figures and the floors."""
    console = rich.console.Console(highlight=False)
    corpus = read(config)
    vocabulary = text.vocabulary_of(corpus.train)
    train_tokens, valid_tokens = vocabulary.encode(corpus.train), vocabulary.encode(corpus.valid)
    per_epoch = streams.windows_per_epoch(len(train_tokens), config.batch, config.window)
    if per_epoch < 1:
        raise runs.InputError(
            f"{len(train_tokens):,} characters for training are fewer than the {config.batch * config.window + 1:,} of "
            "one batch: give a longer text, or a smaller --batch or --window"
        )
    unseen = int((valid_tokens == vocabulary.size - 1).sum())
    about = {"name": corpus.name, "source": corpus.source, "characters": vocabulary.characters}
    runs.pin_data(directory, about, "\0".join([corpus.train, corpus.valid]))
    say = functools.partial(console.print, soft_wrap=True, markup=False)
    say(f"Text: {corpus.name} ({corpus.source})")
    say(
        f"      {len(train_tokens):,} characters for training, {len(valid_tokens):,} for validation; "
        f"{vocabulary.size - 1} different ones, and {unseen} characters of the validation text are none of them"
    )
    floors = floors_of(directory / "floors.json", corpus, vocabulary, train_tokens, valid_tokens)
    say("Floors in nats per character: " + ", ".join(f"{name} {loss:.3f}" for name, loss in floors.items()))

    model = model_of(config, vocabulary.size)
    say(
        f"Model: {_name(config)}; {config.training.steps:,} steps of {config.batch} × {config.window} characters, "
        f"{config.training.steps / per_epoch:.1f} times the training text"
    )
    trained = train(
        directory,
        config.training,
        model.init,
        truncated_loss(model, softmax_cross_entropy, config.window, config.window + config.overlap),
        batches(train_tokens, config),
        rows=config.batch,
        batch_axis=Window(1, 1, 1, 1, 0),
        carry=lambda params: model.initial_carry(params, (config.batch,)),
        evaluate=evaluation(model, valid_tokens, vocabulary, config),
        on_evaluate=[write_samples(directory / "samples.txt", model, vocabulary, config)],
        tokens_per_step=config.batch * config.window,
    )
    records = trained.records
    draw_curves(directory / "curves.png", records, floors, f"{_name(config)} on {corpus.name}")
    console.print(table(floors, trained, _name(config)))
    floor = min((name for name in floors if name != "lzma"), key=floors.__getitem__)
    row = Row(
        f"{_name(config)} on {corpus.name}",
        trained.figures["loss"],
        "nats per character",
        floor=f"{floors[floor]:.3f} ({floor})",
        baseline=f"{floors['lzma']:.3f} (lzma)",
        published=PUBLISHED.get(corpus.name, ""),
        parameters=trained.parameters,
    )
    return {
        "rows": [row._asdict()],
        "pictures": {"curves.png": f"Training and validation loss of the {row.what}, with the floors"},
        "table": markdown(floors, row.value, _name(config), corpus.name),
        "nats_per_character": trained.figures["loss"],
        "bits_per_character": trained.figures["loss"] / math.log(2),
        "best_step": trained.step,
        "last_nats_per_character": records[-1]["evaluation"]["loss"],
        "train_nats_per_character": records[-1]["loss"],
        "floors_nats_per_character": floors,
        "parameters": trained.parameters,
        "train_characters": len(train_tokens),
        "valid_characters": len(valid_tokens),
        "unseen_valid_characters": unseen,
    }


def sample(config: Config, directory: pathlib.Path, sampling: Sampling) -> str:
    """Return text written by the best model of a run, prompt included."""
    vocabulary = text.Vocabulary(runs.read_json(directory / "data.json")["characters"])
    model = model_of(config, vocabulary.size)
    params = best_params(directory, jax.eval_shape(model.init, jax.random.key(0)))
    key = jax.random.key(sampling.sample_seed)
    return write(model, params, vocabulary, sampling, _default_prompt(config), key)


def specimen(config: Config, directory: pathlib.Path, steps: int) -> Specimen:
    """Return what the best model of a run shows on the beginning of its validation text."""
    corpus = read(config)
    vocabulary = text.Vocabulary(runs.read_json(directory / "data.json")["characters"])
    model = model_of(config, vocabulary.size)
    params = best_params(directory, jax.eval_shape(model.init, jax.random.key(0)))
    words = f"{_name(config)} on {corpus.name}"
    features = code if config.data is None else prose
    return specimen_of(words, cells_of(config), params, vocabulary, corpus.valid[:steps], features)


def read(config: Config) -> text.Corpus:
    """Return the training and validation text."""
    return text.read_standard_library(config.characters) if config.data is None else text.read_text(config.data)


def model_of(config: Config, vocabulary: int) -> jaxrnn.Layer:
    """Return embedding → (recurrent → dropout) × layers → dense."""
    layers = [jaxrnn.embedding(vocabulary, config.embedding)]
    for cell in cells_of(config):
        layers += [jaxrnn.recurrent(cell), jaxrnn.dropout(config.dropout)]
    return jaxrnn.serial(*layers, jaxrnn.dense(config.hidden, vocabulary))


def cells_of(config: Config) -> list[jaxrnn.Cell]:
    """Return the cells of the recurrent layers."""
    sizes = [config.embedding, *[config.hidden] * (config.layers - 1)]
    return [CELLS[config.cell](size, config.hidden) for size in sizes]


def batches(tokens: np.ndarray, config: Config) -> Callable[[int], Any]:
    """Return the function from a step to its window."""
    per_epoch = streams.windows_per_epoch(len(tokens), config.batch, config.window)
    cached: dict[int, Any] = {}

    def batch(step: int) -> Any:
        epoch, place = divmod(step, per_epoch)
        if epoch not in cached:
            cached.clear()
            laid = streams.training_streams(tokens, epoch, config.batch, config.window, config.training.seed)
            cached[epoch] = windows(laid[:-1], laid[1:], config.window, config.window + config.overlap)
        return cached[epoch].window(place)

    return batch


def evaluation(model: jaxrnn.Layer, tokens: np.ndarray, vocabulary: text.Vocabulary, config: Config) -> Evaluation:
    """Return the function from parameters to the loss over all of ``tokens``."""
    first = int(vocabulary.encode("\n")[0])
    data = streams.evaluation_windows(tokens, first, config.batch, config.window)

    @jax.jit
    def total(params: Any, data: streams.Windows) -> jax.Array:
        def window(carry: Any, part: streams.Windows) -> tuple[Any, jax.Array]:
            carry, logits = model.apply(params, part.inputs, carry)
            counted = jnp.sum(part.mask, dtype=jnp.float32)
            return carry, softmax_cross_entropy(logits, part.targets, part.mask) * counted

        _, losses = jax.lax.scan(window, model.initial_carry(params, data.inputs.shape[2:]), data)
        return jnp.sum(losses)

    def evaluate(params: Any) -> dict[str, jax.Array]:
        loss = total(params, data) / len(tokens)
        return {"loss": loss, "bits": loss / math.log(2)}

    return evaluate


def write_samples(path: pathlib.Path, model: jaxrnn.Layer, vocabulary: text.Vocabulary, config: Config) -> Hook:
    """Return the hook that shows a sample and adds it to a file; those of later steps are cut off first."""

    def hook(params: Any, record: dict[str, Any]) -> None:
        key = jax.random.fold_in(jax.random.key(config.sampling.sample_seed), record["step"])
        written = write(model, params, vocabulary, config.sampling, _default_prompt(config), key)
        earlier = re.split(r"^(?==== step \d+,)", path.read_text(encoding="utf-8") if path.exists() else "", flags=re.M)
        kept = [part for part in earlier if part and int(part.split()[2].rstrip(",")) < record["step"]]
        heading = f"=== step {record['step']}, {record['evaluation']['loss']:.3f} nats per character\n"
        runs.write_text(path, "".join([*kept, heading, written, "\n"]))
        print(written + "\n", flush=True)

    return hook


def write(
    model: jaxrnn.Layer,
    params: Any,
    vocabulary: text.Vocabulary,
    sampling: Sampling,
    default_prompt: str,
    key: jax.Array,
) -> str:
    """Return a prompt and the model's continuation of it."""
    prompt = default_prompt if sampling.prompt is None else sampling.prompt
    choices = {"temperature": sampling.temperature, "top_k": sampling.top_k, "top_p": sampling.top_p}
    tokens = jnp.asarray(vocabulary.encode(prompt))
    _, written = generate(model, params, tokens, sampling.length, key=key, **choices)
    return prompt + vocabulary.decode(np.asarray(written))


def _default_prompt(config: Config) -> str:
    return "def __init__(self" if config.data is None else "\n"


def _name(config: Config) -> str:
    kind = {"vanilla": "vanilla RNN", "lstm": "LSTM", "gru": "GRU"}[config.cell]
    return f"{kind} {config.layers} × {config.hidden}"
