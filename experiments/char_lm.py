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

import contextlib
import dataclasses
import functools
import hashlib
import math
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import rich.console

import jaxrnn
from experiments import runs
from experiments.char_floors import draw_curves, floors_of, table
from experiments.data import streams, text
from experiments.devices import one_copy, sharing
from jaxrnn.decoding import generate
from jaxrnn.losses import softmax_cross_entropy
from jaxrnn.training import (
    CheckpointError,
    NonFiniteLossError,
    TrainState,
    Window,
    fit,
    load,
    save,
    train_state,
    train_step,
    truncated_loss,
    windows,
)
from jaxrnn.training import metrics as metrics_file

CELLS = {"vanilla": jaxrnn.vanilla, "lstm": jaxrnn.lstm, "gru": jaxrnn.gru}


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
    steps: int = 4000
    """Updates in all."""
    learning_rate: float = 6e-3
    """Highest learning rate of AdamW; it falls to zero by half a cosine."""
    warmup: float = 0.05
    """Share of the steps over which the learning rate first rises from zero."""
    weight_decay: float = 0.01
    """Weight decay of AdamW, for matrices only; 0 makes it Adam."""
    devices: int | None = None
    """Cores, or GPUs, that share each batch; unless given, as many as leave eight streams or more for each."""
    clip: float = 1.0
    """Largest global norm of a gradient; greater ones are scaled down to it."""
    evaluate_every: int = 500
    """Steps between two evaluations, each with a sample."""
    checkpoint_every: int = 500
    """Steps between two checkpoints; an interruption writes one too."""
    seed: int = 0
    """Seed of weights, dropout and the streams' beginnings."""
    sampling: Sampling = Sampling()

    def __post_init__(self) -> None:
        if self.data is not None:  # a run is resumed from any folder
            object.__setattr__(self, "data", self.data.expanduser().absolute())
        whole = ("characters", "layers", "hidden", "embedding", "batch", "window", "steps")
        for name in (*whole, "evaluate_every", "checkpoint_every"):
            runs.require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        for name in ("overlap", "weight_decay", "seed"):
            runs.require(getattr(self, name) >= 0, name, "0 or more", getattr(self, name))
        runs.require(self.devices is None or self.devices >= 1, "devices", "at least 1", self.devices)
        for name in ("learning_rate", "clip"):
            runs.require(getattr(self, name) > 0, name, "more than 0", getattr(self, name))
        for name in ("dropout", "warmup"):
            runs.require(0 <= getattr(self, name) < 1, name, "at least 0, less than 1", getattr(self, name))


@contextlib.contextmanager
def in_words() -> Iterator[None]:
    """Let what training and checkpoints complain of end as an error of the user's input, without a traceback."""
    try:
        yield
    except (CheckpointError, NonFiniteLossError) as error:
        raise runs.InputError(str(error)) from error


@in_words()
def run(config: Config, directory: pathlib.Path) -> dict[str, Any]:
    """Train a model, or go on with one that ``directory`` holds, and return its figures and the floors."""
    console = rich.console.Console(highlight=False)
    corpus = read(config)
    vocabulary = text.vocabulary_of(corpus.train)
    train, valid = vocabulary.encode(corpus.train), vocabulary.encode(corpus.valid)
    per_epoch = streams.windows_per_epoch(len(train), config.batch, config.window)
    if per_epoch < 1:
        raise runs.InputError(
            f"{len(train):,} characters for training are fewer than the {config.batch * config.window + 1:,} of one "
            "batch: give a longer text, or a smaller --batch or --window"
        )
    unseen = int((valid == vocabulary.size - 1).sum())
    _write_data(directory / "data.json", corpus, vocabulary, unseen)
    say = functools.partial(console.print, soft_wrap=True, markup=False)
    say(f"Text: {corpus.name} ({corpus.source})")
    say(
        f"      {len(train):,} characters for training, {len(valid):,} for validation; {vocabulary.size - 1} different "
        f"ones, and {unseen} characters of the validation text are none of them"
    )
    floors = floors_of(directory / "floors.json", corpus, vocabulary, train, valid)
    say("Floors in nats per character: " + ", ".join(f"{name} {loss:.3f}" for name, loss in floors.items()))

    model = model_of(config, vocabulary.size)
    optimizer = optimizer_of(config)
    init_key, run_key = jax.random.split(jax.random.key(config.seed))
    params = jax.jit(model.init)(init_key)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
    state = train_state(params, optimizer, run_key, model.initial_carry(params, (config.batch,)))
    if (directory / "checkpoint.safetensors").exists():
        state, _ = load(directory / "checkpoint.safetensors", state)
        say(f"Continuing at step {int(state.step)}")
    say(
        f"Model: {_name(config)}, {parameters:,} parameters; {config.steps:,} steps of {config.batch} × "
        f"{config.window} characters, {config.steps / per_epoch:.1f} times the training text"
    )
    devices = sharing(config.batch, config.devices)
    say(f"Device: {len(devices)} × {devices[0].device_kind}")
    loss_fn = truncated_loss(model, softmax_cross_entropy, config.window, config.window + config.overlap)
    end = fit(
        state,
        train_step(loss_fn, optimizer, devices=devices, batch_axis=Window(1, 1, 1, 1, 0)),
        batches(train, config),
        steps=config.steps,
        evaluate=evaluation(model, valid, vocabulary, config),
        evaluate_every=config.evaluate_every,
        on_evaluate=(
            keep_best(directory / "best.safetensors", params),
            write_samples(directory / "samples.txt", int(state.step), model, vocabulary, config),
        ),
        checkpoint_path=directory / "checkpoint.safetensors",
        checkpoint_every=config.checkpoint_every,
        metrics_path=directory / "metrics.jsonl",
        tokens_per_step=config.batch * config.window,
        resume_with=f"python -m experiments char_lm --resume {directory.name}",
    )
    if end.reason != "steps":
        raise runs.Stopped
    _, best = load(directory / "best.safetensors", params)
    records = metrics_file.read(directory / "metrics.jsonl")
    draw_curves(directory / "curves.png", records, floors, f"{_name(config)} on {corpus.name}")
    console.print(table(floors, best, _name(config)))
    return {
        "nats_per_character": best["loss"],
        "bits_per_character": best["loss"] / math.log(2),
        "best_step": best["step"],
        "last_nats_per_character": records[-1]["evaluation"]["loss"],
        "train_nats_per_character": records[-1]["loss"],
        "floors_nats_per_character": floors,
        "parameters": parameters,
        "train_characters": len(train),
        "valid_characters": len(valid),
        "unseen_valid_characters": unseen,
        "seconds": records[-1]["seconds"],
    }


@in_words()
def sample(config: Config, directory: pathlib.Path, sampling: Sampling) -> str:
    """Return text written by the best model of a run, prompt included."""
    vocabulary = text.Vocabulary(runs.read_json(directory / "data.json")["characters"])
    model = model_of(config, vocabulary.size)
    if not (directory / "best.safetensors").exists():
        raise runs.InputError(f"{directory}: no model yet; continue the run with --resume {directory.name}")
    params, _ = load(directory / "best.safetensors", jax.eval_shape(model.init, jax.random.key(0)))
    key = jax.random.key(sampling.sample_seed)
    return write(model, params, vocabulary, sampling, _default_prompt(config), key)


def read(config: Config) -> text.Corpus:
    """Return the training and validation text."""
    return text.read_standard_library(config.characters) if config.data is None else text.read_text(config.data)


def model_of(config: Config, vocabulary: int) -> jaxrnn.Layer:
    """Return embedding → (recurrent → dropout) × layers → dense."""
    layers, size = [jaxrnn.embedding(vocabulary, config.embedding)], config.embedding
    for _ in range(config.layers):
        layers += [jaxrnn.recurrent(CELLS[config.cell](size, config.hidden)), jaxrnn.dropout(config.dropout)]
        size = config.hidden
    return jaxrnn.serial(*layers, jaxrnn.dense(size, vocabulary))


def optimizer_of(config: Config) -> optax.GradientTransformation:
    """Return AdamW with clipping, warm-up and half a cosine."""
    warmup = round(config.warmup * config.steps)
    rate = optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, warmup, config.steps)
    matrices = lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params)
    adamw = optax.adamw(rate, weight_decay=config.weight_decay, mask=matrices)
    return optax.chain(optax.clip_by_global_norm(config.clip), adamw)


def batches(tokens: np.ndarray, config: Config) -> Callable[[int], Any]:
    """Return the function from a step to its window."""
    per_epoch = streams.windows_per_epoch(len(tokens), config.batch, config.window)
    cached: dict[int, Any] = {}

    def batch(step: int) -> Any:
        epoch, place = divmod(step, per_epoch)
        if epoch not in cached:
            cached.clear()
            laid = streams.training_streams(tokens, epoch, config.batch, config.window, config.seed)
            cached[epoch] = windows(laid[:-1], laid[1:], config.window, config.window + config.overlap)
        return cached[epoch].window(place)

    return batch


def evaluation(
    model: jaxrnn.Layer, tokens: np.ndarray, vocabulary: text.Vocabulary, config: Config
) -> Callable[[TrainState], dict[str, jax.Array]]:
    """Return the function from a state to the loss over all of ``tokens``."""
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

    def evaluate(state: TrainState) -> dict[str, jax.Array]:
        loss = total(one_copy(state.params), data) / len(tokens)
        return {"loss": loss, "bits": loss / math.log(2)}

    return evaluate


def keep_best(path: pathlib.Path, like: Any) -> Callable[[TrainState, dict[str, Any]], None]:
    """Return the hook that saves the parameters whenever they are better in validation than all before."""
    best = load(path, like)[1]["loss"] if path.exists() else math.inf

    def hook(state: TrainState, record: dict[str, Any]) -> None:
        nonlocal best
        loss = record["evaluation"]["loss"]
        if loss is not None and loss < best:
            best = loss
            save(path, state.params, {"step": record["step"], "loss": loss})

    return hook


def write_samples(
    path: pathlib.Path, step: int, model: jaxrnn.Layer, vocabulary: text.Vocabulary, config: Config
) -> Callable[[TrainState, dict[str, Any]], None]:
    """Return the hook that shows a sample and adds it to a file; those of steps after ``step`` are cut off first."""
    earlier = re.split(r"^(?==== step \d+,)", path.read_text(encoding="utf-8") if path.exists() else "", flags=re.M)
    kept = [part for part in earlier if part and int(part.split()[2].rstrip(",")) <= step]
    path.write_text("".join(kept), encoding="utf-8")

    def hook(state: TrainState, record: dict[str, Any]) -> None:
        key = jax.random.fold_in(jax.random.key(config.sampling.sample_seed), record["step"])
        written = write(model, one_copy(state.params), vocabulary, config.sampling, _default_prompt(config), key)
        with path.open("a", encoding="utf-8") as file:
            file.write(f"=== step {record['step']}, {record['evaluation']['loss']:.3f} nats per character\n{written}\n")
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


def _write_data(path: pathlib.Path, corpus: text.Corpus, vocabulary: text.Vocabulary, unseen: int) -> None:
    """Write down the text of a run, or make sure that a run goes on with the text it began with."""
    digest = hashlib.sha256("\0".join([corpus.train, corpus.valid]).encode(errors="surrogatepass")).hexdigest()
    if path.exists():
        known = runs.read_json(path)
        if known["sha256"] != digest:
            raise runs.InputError(f"the text is not the one that this run began with, which was {known['source']}")
        return
    about = {
        "name": corpus.name,
        "source": corpus.source,
        "train_characters": len(corpus.train),
        "valid_characters": len(corpus.valid),
        "unseen_valid_characters": unseen,
        "sha256": digest,
        "characters": vocabulary.characters,
    }
    runs.write_json(path, about)


def _name(config: Config) -> str:
    kind = {"vanilla": "vanilla RNN", "lstm": "LSTM", "gru": "GRU"}[config.cell]
    return f"{kind} {config.layers} × {config.hidden}"
