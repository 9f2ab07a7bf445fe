"""Images as sequences: a recurrent network reads a digit row by row or pixel by pixel, and says which it is.

An image of H × W pixels, first shrunk by averaging if asked, is read from the top left: by rows, H steps of W pixels;
by pixels, H·W steps of one; or permuted, its pixels in an order drawn once for all images, so that what belongs
together lies far apart. Pixels are standardised by the mean and standard deviation of the training images.

The model is recurrent × layers → dense on the last output: it answers once, after the last step. The loss is the mean
of -ln P(digit | image). The recurrent weights of the IndRNN are clipped after every update, as in
`experiments.long_memory`: to 2^(1/T), T being the steps of an image. The parameters with the fewest errors on the
validation images are tested once, at the end, on all test images that there are. Floor and baselines look at the same
(shrunk) pixels and the same split.

Afterwards the model is asked three things: what it would have said had the sequence been cut at step t; how its
states move, in their first two principal components; and which pixels its answer depends on, by gradients and by
integrated gradients from the black image, see `experiments.image_saliency`.
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
from experiments.data.digits import Images, Part, read_digits
from experiments.data.image_order import Order, shrink
from experiments.data.mnist import read_mnist
from experiments.image_floors import floors_of
from experiments.image_plots import Trajectories, draw_curves, draw_saliency, draw_states, table
from experiments.image_saliency import saliency
from experiments.image_specimen import specimen_of
from experiments.memory_cells import CONTENDERS, optimizer_for
from experiments.runs import Row
from experiments.specimens import Specimen
from experiments.training import Evaluation, Training, best_params, independent, train
from jaxrnn.analysis import principal_components
from jaxrnn.losses import softmax_cross_entropy

CLASSES, CHUNK, SHOWN = 10, 500, 10
ORDERS = {"rows": "by rows", "pixels": "by pixels", "permuted": "by pixels in a drawn order"}
PUBLISHED = {
    ("MNIST", "rows"): "about 98 to 99 (all test images)",
    ("MNIST", "pixels"): "LSTM 87.2, GRU 96.2 (Bai et al. 2018: 28×28 pixels, all test images)",
    ("MNIST", "permuted"): "LSTM 85.7, GRU 87.3 (Bai et al. 2018: 28×28 pixels, all test images)",
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Data, model and training."""

    dataset: Literal["digits", "mnist"] = "digits"
    """scikit-learn's 8×8 digits, which need no download, or MNIST, 28×28."""
    data: pathlib.Path | None = None
    """Folder with the four files of MNIST; unless given, they are downloaded once."""
    unchecked: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Take the files of --data as they are, instead of making sure that they hold what the originals do."""
    order: Literal["rows", "pixels", "permuted"] = "rows"
    """What a step reads: a row of pixels, a pixel, or a pixel of the image permuted."""
    shrink: int = 1
    """Average squares of this many pixels a side before: 2 makes 28×28 into 14×14."""
    cell: str = "gru"
    """The recurrent cell, any of those of long_memory, such as gru, gru-chrono, lstm-bias-1, vanilla-identity, lem."""
    layers: int = 1
    """Recurrent layers."""
    hidden: int = 128
    """Units of each recurrent layer."""
    dropout: float = 0.0
    """Share of each recurrent layer's outputs set to zero in training."""
    batch: int = 64
    """Images read side by side."""
    points: int = 2048
    """Gradients at most for a map of integrated gradients; fewer where less than 1 % is missing before."""
    training: Training = Training(steps=800, learning_rate=4e-3, evaluate_every=100, checkpoint_every=200)
    """How it is trained."""

    def __post_init__(self) -> None:
        runs.make_absolute(self, "data")
        runs.require(
            self.data is None or self.dataset == "mnist", "dataset", "mnist where --data is given", self.dataset
        )
        runs.require(not self.unchecked or self.data is not None, "unchecked", "--data beside it", True)
        runs.require(self.cell in CONTENDERS, "cell", f"one of {', '.join(CONTENDERS)}", self.cell)
        runs.require_counts(self, "shrink", "layers", "hidden", "batch", "points")
        runs.require(0 <= self.dropout < 1, "dropout", "at least 0, less than 1", self.dropout)


QUICK = Config(hidden=64, training=Training(steps=240, learning_rate=8e-3, evaluate_every=60, checkpoint_every=120))


class Batch(NamedTuple):
    """Images as sequences ``xs [T, B, D]``, and their labels ``[B]``."""

    xs: Any
    labels: Any


def run(config: Config, directory: pathlib.Path) -> dict[str, Any]:
    """Train a model, or go on with one that ``directory`` holds, and return its figures and what stands beside them."""
    console = rich.console.Console(highlight=False)
    say = functools.partial(console.print, soft_wrap=True, markup=False)
    images = read(config)
    parts = (images.train, images.valid, images.test)
    content = b"".join(values.tobytes() for part in parts for values in part)
    runs.pin_data(directory, {"name": images.name, "source": images.source}, content)
    counts = [len(part.labels) for part in parts]
    runs.require(config.batch <= counts[0], "batch", f"at most {counts[0]:,} training images", config.batch)
    order = Order.of(images.train.images, config.order)
    say(f"Images: {images.name} ({images.source})")
    say(
        f"        {counts[0]:,} for training, {counts[1]:,} for validation, {counts[2]:,} for the test; "
        f"read {ORDERS[config.order]}: {order.steps} steps of {order.features}"
    )
    floors = floors_of(directory / "floors.json", images.train, images.test)
    say("Without a network, accuracy on the test images: " + ", ".join(f"{k} {v:.1%}" for k, v in floors.items()))

    model, name = model_of(config, order), f"{CONTENDERS[config.cell].words}, {config.layers} × {config.hidden}"
    per_epoch = counts[0] // config.batch
    say(
        f"Model: {name}; {config.training.steps:,} steps of {config.batch} images, "
        f"{config.training.steps / per_epoch:.1f} times the training images"
    )
    trained = train(
        directory,
        config.training,
        model.init,
        independent(lambda params, batch, key: softmax_cross_entropy(model.apply(params, batch.xs, key=key), batch[1])),
        batches(images.train, order, config),
        rows=config.batch,
        batch_axis=Batch(1, 0),
        evaluate=evaluation(model, order, images.valid),
        minimize="error",
        tokens_per_step=config.batch * order.steps,
        optimizer=optimizer_for(CONTENDERS[config.cell], config.training, order.steps),
    )
    accuracy = 1 - evaluation(model, order, images.test)(trained.params)["error"]
    over_time = accuracy_over_time(config, order, trained.params, images.test)
    size = f", {order.height}×{order.width}" if config.shrink > 1 else ""
    what = f"{name} on {images.name} {ORDERS[config.order]}{size}"
    draw_curves(directory / "curves.png", trained, over_time, floors, accuracy, what)
    draw_states(directory / "states.png", trajectories(config, order, trained.params, images.test), what)
    maps = saliency(model, order, trained.params, images.test, config.points)
    draw_saliency(directory / "saliency.png", maps, what)
    console.print(table(floors, accuracy, trained.step, name, counts[2]))
    row = Row(
        what,
        100 * accuracy,
        f"% of {counts[2]:,} test images",
        floor=f"{floors['majority']:.1%} (majority)",
        baseline=f"{floors['nearest neighbour']:.1%} (nearest neighbour)",
        published=PUBLISHED.get((images.name, config.order), ""),
        parameters=trained.parameters,
    )
    return {
        "rows": [row._asdict()],
        "pictures": {
            "curves.png": f"Training of the {what}; and its test accuracy were the sequences cut",
            "states.png": f"States of the {what} in two principal components",
            "saliency.png": f"Pixels that the answers of the {what} depend on",
        },
        "test_accuracy": accuracy,
        "standard_error": float(np.sqrt(accuracy * (1 - accuracy) / counts[2])),
        "valid_accuracy": 1 - trained.figures["error"],
        "best_step": trained.step,
        "without_a_network": floors,
        "accuracy_over_time": over_time,
        "integrated_gradients_gap": float(maps.gaps.max()),
        "parameters": trained.parameters,
    }


def specimen(config: Config, directory: pathlib.Path, steps: int) -> Specimen:
    """Return what the best model of a run shows on the first test images."""
    images = read(config)
    order = Order.of(images.train.images, config.order)
    model = model_of(config, order)
    params = best_params(directory, jax.eval_shape(model.init, jax.random.key(0)))
    contender = CONTENDERS[config.cell]
    cells = [
        contender.make(size, config.hidden, order.steps)
        for size in [order.features, *[config.hidden] * (config.layers - 1)]
    ]
    words = f"{contender.words}, {config.layers} × {config.hidden} on {images.name} {ORDERS[config.order]}"
    return specimen_of(words, cells, model, params, order, images.test, steps)


def read(config: Config) -> Images:
    """Return the images, shrunk."""
    images = read_digits() if config.dataset == "digits" else read_mnist(config.data, unchecked=config.unchecked)
    _, height, width = images.train.images.shape
    fits = height % config.shrink == 0 and width % config.shrink == 0
    runs.require(fits, "shrink", f"a divisor of {height} and {width}", config.shrink)
    train, valid, test = (part._replace(images=shrink(part.images, config.shrink)) for part in images[:3])
    return images._replace(train=train, valid=valid, test=test)


def encoder_of(config: Config, order: Order) -> jaxrnn.Layer:
    """Return (recurrent → dropout) × layers."""
    layers, features = [], order.features
    for _ in range(config.layers):
        cell = CONTENDERS[config.cell].make(features, config.hidden, order.steps)
        layers += [jaxrnn.recurrent(cell), jaxrnn.dropout(config.dropout)]
        features = config.hidden
    return jaxrnn.serial(*layers)


def model_of(config: Config, order: Order) -> jaxrnn.models.Classifier:
    """Return the classifier that reads the encoder's last output."""
    return jaxrnn.models.classifier(encoder_of(config, order), config.hidden, CLASSES)


def batches(part: Part, order: Order, config: Config) -> Callable[[int], Batch]:
    """Return the function from a step to its images; each epoch draws their order anew."""
    per_epoch = len(part.labels) // config.batch

    @functools.lru_cache(maxsize=1)
    def drawn(epoch: int) -> np.ndarray:
        return np.random.default_rng((config.training.seed, epoch)).permutation(len(part.labels))

    def batch(step: int) -> Batch:
        epoch, place = divmod(step, per_epoch)
        chosen = drawn(epoch)[place * config.batch : (place + 1) * config.batch]
        return Batch(order.sequences(part.images[chosen]), part.labels[chosen])

    return batch


def evaluation(model: jaxrnn.models.Classifier, order: Order, part: Part) -> Evaluation:
    """Return the function from parameters to the loss and the share of errors over all of ``part``."""
    chunks, counted = _chunks(order, part)

    @jax.jit
    def totals(params: Any, chunks: Batch, counted: jax.Array) -> tuple[jax.Array, jax.Array]:
        def of_chunk(inputs: tuple[Batch, jax.Array]) -> tuple[jax.Array, jax.Array]:
            (xs, labels), counted = inputs
            logits = model.apply(params, xs)
            loss = softmax_cross_entropy(logits, labels, counted) * counted.sum(dtype=logits.dtype)
            return loss, jnp.sum(counted & (logits.argmax(axis=-1) != labels))

        losses, errors = jax.lax.map(of_chunk, (chunks, counted))
        return losses.sum(), errors.sum()

    def evaluate(params: Any) -> dict[str, float]:
        loss, errors = totals(params, chunks, counted)
        return {"loss": float(loss) / len(part.labels), "error": float(errors) / len(part.labels)}

    return evaluate


def accuracy_over_time(config: Config, order: Order, params: Any, part: Part) -> list[float]:
    """Return the accuracy at every step t of the answers after t steps, were the sequences cut there."""
    encoder, head = encoder_of(config, order), jaxrnn.dense(config.hidden, CLASSES)
    chunks, counted = _chunks(order, part)

    @jax.jit
    def right(params: Any, chunks: Batch, counted: jax.Array) -> jax.Array:
        def of_chunk(inputs: tuple[Batch, jax.Array]) -> jax.Array:
            (xs, labels), counted = inputs
            logits = head.apply(params.head, encoder.apply(params.encoder, xs)[1])[1]
            return jnp.sum(counted[None] & (logits.argmax(axis=-1) == labels[None]), axis=1)

        return jax.lax.map(of_chunk, (chunks, counted)).sum(axis=0)

    return (np.asarray(right(params, chunks, counted)) / len(part.labels)).tolist()


def trajectories(config: Config, order: Order, params: Any, part: Part) -> Trajectories:
    """Return the outputs after each row, or as many pixels, in two principal components, for images of each class."""
    places = np.concatenate([np.flatnonzero(part.labels == label)[:SHOWN] for label in range(CLASSES)])
    xs, row = order.sequences(part.images[places]), order.width // order.features
    ys = jax.jit(encoder_of(config, order).apply)(params.encoder, xs)[1][row - 1 :: row]
    found = principal_components(ys)
    return Trajectories(np.asarray(found.coordinates), part.labels[places], np.asarray(found.shares).tolist())


def _chunks(order: Order, part: Part) -> tuple[Batch, np.ndarray]:
    """Return all of ``part`` in chunks of one size, leaves ``[chunks, ...]``, and which of their images count."""
    chunks = -(-len(part.labels) // CHUNK)
    size = -(-len(part.labels) // chunks)
    places = np.arange(chunks * size)
    counted, places = places < len(part.labels), np.minimum(places, len(part.labels) - 1)
    xs = order.sequences(part.images[places])
    xs = np.ascontiguousarray(xs.reshape(order.steps, chunks, size, -1).swapaxes(0, 1))
    return Batch(xs, part.labels[places].reshape(chunks, size)), counted.reshape(chunks, size)
