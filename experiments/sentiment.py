"""Sentiment of sentences: words are read, from both ends or one, pooled to a vector, and called praise or pan.

The model is embedding → dropout → recurrent layers → pooling over the words → dropout → dense, the loss
-ln P(label | sentence). A few thousand sentences are learnt by heart within a few epochs; against that, a
share of the words is replaced by the unknown word in training, anew each time, besides the dropout.

The vocabulary is of the training sentences. Those of one padded length share a batch. After every few hundred
updates all validation sentences are classified; the parameters with the fewest errors there are the ones that
the test sentences meet, once. Beside them stand the commonest label (majority) and naive Bayes, which counts
words without their order, on the same sentences; and all of them once more on the sentences with a negation or
a contrast alone, where order matters most.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import rich.console
import tyro

import jaxrnn
from experiments import runs
from experiments.data.lengths import batching, pad
from experiments.data.sentiment import Sentiment, generate_reviews, read_sst2
from experiments.data.words import UNK, Words, load_words, read_vectors, save_words, tokenise, words_of
from experiments.runs import Row
from experiments.sentiment_answers import Answer, answer, baselines_of, draw_curves, shown, table, turning
from experiments.sentiment_specimen import specimen_of
from experiments.specimens import Specimen
from experiments.training import Training, best_params, independent, train
from jaxrnn.losses import softmax_cross_entropy
from jaxrnn.models import Classifier, classifier

CELLS = {"vanilla": jaxrnn.vanilla, "lstm": jaxrnn.lstm, "gru": jaxrnn.gru}
PUBLISHED = {
    "SST-2": "84.9 LSTM, 87.5 bidirectional LSTM, with pretrained vectors and labelled phrases (Tai et al. 2015)"
}
MULTIPLE = 16  # of padded lengths: few shapes to compile
TURNING = "with a negation or contrast"


@dataclasses.dataclass(frozen=True)
class Asking:
    """A sentence of your own."""

    text: str | None = None
    """Classify this sentence by a run, the latest unless --sample names another, and train nothing."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Data, model and training."""

    dataset: Literal["reviews", "sst2"] = "reviews"
    """Generated reviews, or the Stanford Sentiment Treebank's sentences with two labels."""
    data: pathlib.Path | None = None
    """A folder with the files of --dataset sst2; unless given, they are downloaded."""
    unchecked: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Take the files of --data as they are, instead of making sure that they hold what the originals do."""
    vectors: pathlib.Path | None = None
    """Pretrained word vectors to begin with, a file in GloVe's text format; --embedding is then their size."""
    cell: Literal["vanilla", "lstm", "gru"] = "gru"
    """The recurrent cell."""
    layers: int = 1
    """Recurrent layers."""
    bidirectional: bool = True
    """Whether each layer reads from both ends; otherwise it does from the first word to the last."""
    hidden: int = 64
    """Units of each recurrent layer in each direction."""
    embedding: int = 64
    """Size of the vector that stands for a word."""
    pooling: Literal["attention", "max", "mean", "ends"] = "attention"
    """What becomes of the outputs for all words: a weighted mean, the greatest of each unit, the mean, or the ends: the
    outputs that have read the whole sentence."""
    at_least: int = 1
    """How often a word must occur in the training sentences to be known."""
    word_dropout: float = 0.1
    """Share of the words replaced by the unknown word in training."""
    dropout: float = 0.5
    """Share of the embedding's and of the pooled vector's elements set to zero in training."""
    batch: int = 32
    """Sentences in a batch."""
    training: Training = Training(steps=1200, learning_rate=2e-3, evaluate_every=100, checkpoint_every=300)
    """How it is trained."""
    sampling: Asking = Asking()

    def __post_init__(self) -> None:
        runs.make_absolute(self, "data", "vectors")
        runs.require(self.data is None or self.dataset == "sst2", "data", "--dataset sst2 beside it", self.dataset)
        runs.require(not self.unchecked or self.data is not None, "unchecked", "--data beside it", True)
        runs.require_counts(self, "layers", "hidden", "embedding", "at_least", "batch")
        for name in ("word_dropout", "dropout"):
            runs.require(0 <= getattr(self, name) < 1, name, "at least 0, less than 1", getattr(self, name))


QUICK = Config(hidden=32, embedding=32, training=Training(steps=500, learning_rate=5e-3, evaluate_every=100))


class Labelled(NamedTuple):
    """A batch: ``tokens [T, B]``, the ``lengths [B]`` of the sentences, and their ``labels [B]``."""

    tokens: Any
    lengths: Any
    labels: Any


def run(config: Config, directory: pathlib.Path) -> dict[str, Any]:
    """Train a model, or go on with one that ``directory`` holds, and return its figures."""
    console = rich.console.Console(highlight=False)
    say = functools.partial(console.print, soft_wrap=True, markup=False)
    data = read(config)
    words = words_of(data.train.texts, at_least=config.at_least)
    vectors = None if config.vectors is None else read_vectors(config.vectors, words, config.training.seed)
    size = config.embedding if vectors is None else vectors.vectors.shape[1]
    content = "\n".join(f"{label} {text}" for part in data[:3] for text, label in zip(*part, strict=True))
    about = {"name": data.name, "source": data.source, "embedding": size}
    runs.pin_data(directory, about, content if vectors is None else content.encode() + vectors.vectors.tobytes())
    save_words(directory / "words.json", words)

    say(f"Sentences: {data.name} ({data.source})")
    sizes = [len(part.texts) for part in data[:3]]
    say(f"           {sizes[0]:,} for training, {sizes[1]:,} for validation, {sizes[2]:,} for the test")
    say(f"Words:     {words.size:,} different ones, the special ones included")
    if vectors is not None:
        say(f"           {vectors.found:,} of them have a vector of size {size} in {config.vectors}")
    parts = {"all": np.ones(sizes[2], bool), TURNING: turning(data.test.texts)}
    baselines = {part: baselines_of(data, which) for part, which in parts.items()}
    for part, which in parts.items():
        found = ", ".join(f"{name} {share:.1%}" for name, share in baselines[part].items())
        say(f"Right of the {which.sum():,} test sentences, {part}: {found}")

    encoded = words.encode(data.train.texts)
    plan = batching([len(one) for one in encoded], batch=config.batch, multiple=MULTIPLE, seed=config.training.seed)
    model = model_of(config, words.size, size, None if vectors is None else vectors.vectors)
    name = _name(config)
    epochs = config.training.steps / plan.per_epoch
    say(
        f"Model:     {name}; {config.training.steps:,} steps of {config.batch} sentences, {epochs:.1f} epochs; "
        f"{plan.padding_share:.0%} of the tokens are padding"
    )

    def batch(step: int) -> Labelled:
        places, (padded,) = plan.batch(step)
        return Labelled(*pad([encoded[place] for place in places], padded), data.train.labels[places])

    logits_of = classify(model)
    validation = words.encode(data.valid.texts)
    trained = train(
        directory,
        config.training,
        model.init,
        independent(functools.partial(loss, model, config.word_dropout)),
        batch,
        rows=config.batch,
        batch_axis=Labelled(1, 0, 0),
        evaluate=lambda params: figures(logits_of(params, validation), data.valid.labels),
        minimize="error",
        tokens_per_step=config.batch * int(np.mean([len(one) for one in encoded])),
    )
    logits = logits_of(trained.params, words.encode(data.test.texts))
    right = {part: figures(logits[which], data.test.labels[which])["accuracy"] for part, which in parts.items()}
    draw_curves(directory / "curves.png", trained, f"{data.name}\n{name}")
    shares = {part: baselines[part] | {name: right[part]} for part in parts}
    console.print(table(shares, {part: int(which.sum()) for part, which in parts.items()}))
    for text, probabilities in zip(data.test.texts[:4], np.asarray(jax.nn.softmax(logits[:4])), strict=True):
        say(f"{text}\n  {shown(Answer(tokenise(text), float(probabilities[1])))}")

    def row(part: str, what: str, published: str = "") -> Row:
        floor, baseline = (f"{100 * baselines[part][other]:.1f} ({other})" for other in ("majority", "naive Bayes"))
        return Row(what, 100 * right[part], "% right", floor, baseline, published, trained.parameters)

    rows = [
        row("all", f"{name} on {data.name}", PUBLISHED.get(data.name, "")),
        row(TURNING, f"the same, on its test sentences {TURNING}"),
    ]
    return {
        "rows": [row._asdict() for row in rows],
        "pictures": {"curves.png": f"Training and validation loss of the {name} on {data.name}"},
        "right": shares,
        "validation": trained.figures,
        "best_step": trained.step,
        "parameters": trained.parameters,
        "padding_share": plan.padding_share,
    }


def sample(config: Config, directory: pathlib.Path, sampling: Asking) -> str:
    """Return what a run's best model makes of a sentence."""
    runs.require(bool(tokenise(sampling.text or "")), "text", "a sentence", sampling.text)
    model, params, words = restore(config, directory)
    return shown(answer(model, params, words, str(sampling.text)))


def asks(sampling: Asking) -> bool:
    """Whether the command line has a sentence."""
    return sampling.text is not None


def specimen(config: Config, directory: pathlib.Path, steps: int) -> Specimen:
    """Return what a run's best model shows on test sentences."""
    _, params, words = restore(config, directory)
    size = runs.read_json(directory / "data.json")["embedding"]
    data, reader = read(config), pooled(config, *readers_of(config, size))
    name = f"{_name(config)} on {data.name}"
    return specimen_of(
        name,
        functools.partial(CELLS[config.cell], hidden_size=config.hidden),
        reader,
        params,
        words,
        data.test.texts,
        steps,
    )


def read(config: Config) -> Sentiment:
    """Return the sentences."""
    return generate_reviews() if config.dataset == "reviews" else read_sst2(config.data, unchecked=config.unchecked)


def restore(config: Config, directory: pathlib.Path) -> tuple[Classifier, Any, Words]:
    """Return the model of a run, its best parameters and its vocabulary."""
    words = load_words(directory / "words.json")
    model = model_of(config, words.size, runs.read_json(directory / "data.json")["embedding"])
    return model, best_params(directory, jax.eval_shape(model.init, jax.random.key(0))), words


def model_of(config: Config, vocabulary: int, size: int, vectors: np.ndarray | None = None) -> Classifier:
    """Return embedding → dropout → recurrent layers → pooling → dropout → dense."""
    # Small words: a rare word's vector is hardly ever updated, and should not outshout those that are.
    table = (
        jaxrnn.initializers.normal(0.3) if vectors is None else lambda key, shape, dtype: jnp.asarray(vectors, dtype)
    )
    return pooled(config, jaxrnn.embedding(vocabulary, size, table_init=table), *readers_of(config, size))


def readers_of(config: Config, size: int) -> list[jaxrnn.Layer]:
    """Return the layers that read vectors of words."""
    sizes = [config.hidden] * config.layers
    options: dict[str, Any] = {"bidirectional": config.bidirectional, "dropout": config.dropout}
    return [jaxrnn.dropout(config.dropout), jaxrnn.stacked(CELLS[config.cell], size, sizes, **options)]


def pooled(config: Config, *layers: jaxrnn.Layer) -> Classifier:
    """Return layers → pooling → dropout → dense."""
    features, pooling = 2 * config.hidden, config.pooling
    if not config.bidirectional:
        features, pooling = config.hidden, "last" if pooling == "ends" else pooling
    return classifier(jaxrnn.serial(*layers), features, 2, pooling=pooling, dropout=config.dropout)


def loss(model: Classifier, word_dropout: float, params: Any, batch: Labelled, key: jax.Array) -> jax.Array:
    """Return the mean of -ln P(label | sentence) with noise."""
    word_key, model_key = jax.random.split(key)
    forgotten = jax.random.bernoulli(word_key, word_dropout, batch.tokens.shape)
    tokens = jnp.where(forgotten, UNK, batch.tokens)
    return softmax_cross_entropy(model.apply(params, tokens, lengths=batch.lengths, key=model_key), batch.labels)


def classify(model: Classifier, batch: int = 256) -> Callable[[Any, list[np.ndarray]], np.ndarray]:
    """Return the function from parameters and encoded sentences to their logits ``[N, 2]``, in the same order."""
    apply = jax.jit(lambda params, tokens, lengths: model.apply(params, tokens, lengths=lengths))

    def logits_of(params: Any, sentences: list[np.ndarray]) -> np.ndarray:
        # Empty sentences fill the last batch, so that it has the shape of the others.
        filled = [*sentences, *[np.zeros(0, np.int32)] * (-len(sentences) % batch)]
        plan = batching([len(one) for one in filled], batch=batch, multiple=MULTIPLE)
        logits = np.empty((len(filled), 2), np.float32)
        for places, (padded,) in map(plan.batch, range(plan.per_epoch)):
            logits[places] = apply(params, *pad([filled[place] for place in places], padded))
        return logits[: len(sentences)]

    return logits_of


def figures(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return the mean loss, and the shares that are right and wrong."""
    accuracy = float(np.mean(logits.argmax(-1) == labels)) if len(labels) else 0.0
    loss = jax.jit(softmax_cross_entropy)(logits, labels)
    return {"loss": float(loss), "accuracy": accuracy, "error": 1 - accuracy}


def _name(config: Config) -> str:
    kind = {"vanilla": "vanilla RNN", "lstm": "LSTM", "gru": "GRU"}[config.cell]
    kind = f"bidirectional {kind}" if config.bidirectional else kind
    begun = "" if config.vectors is None else ", pretrained vectors"
    return f"{kind} {config.layers} × {config.hidden}, {config.pooling} pooling{begun}"
