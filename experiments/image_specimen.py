"""What a classifier of images shows of itself: see `experiments.specimens`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from experiments.data.digits import Part
from experiments.data.image_order import Order
from experiments.specimens import Question, Reading, Specimen

QUESTIONS = 3


def specimen_of(
    words: str,
    encoder: jaxrnn.Layer,
    model: jaxrnn.models.Classifier,
    params: Any,
    order: Order,
    part: Part,
    steps: int,
) -> Specimen:
    """Return the states of the encoder over images, and what the answers for the first of them depend on.

    Args:
        words: the model and its data.
        encoder, model, params: its recurrent layers, all of it, and the parameters of all.
        order: in which the pixels are read.
        part: images and labels.
        steps: to read, about.
    """
    count = max(QUESTIONS, steps // order.steps)
    images, labels = part.images[:count], part.labels[:count]
    xs = order.sequences(images)
    _, hs = jax.jit(encoder.apply)(params.encoder, xs)
    ends = [" "] * (order.steps - 1) + ["\n"]
    symbols = [f"{step}{end}" for step, end in enumerate(ends, 1)]
    time = np.arange(1, order.steps + 1)
    black = order.sequences(np.zeros_like(images[:1]))
    so_far = np.cumsum((xs - black).mean(axis=-1), axis=0)
    features = {"steps read": np.tile(time, len(labels)), "ink so far": so_far.T.reshape(-1)}
    units = {"outputs h": np.asarray(hs).swapaxes(0, 1).reshape(-1, hs.shape[-1])}
    reading = Reading(symbols * len(labels), units, features, "outputs h")

    def question(place: int) -> Question:
        label = int(labels[place])

        def score(params: Any, inputs: jax.Array) -> jax.Array:
            logits = model.apply(params, inputs)
            return logits[label] - logits.mean()

        what = f"logit of {label} above the mean"
        return Question(what, symbols, jnp.asarray(xs[:, place]), jnp.asarray(black[:, 0]), score, params)

    return Specimen(words, reading, [question(place) for place in range(QUESTIONS)])
