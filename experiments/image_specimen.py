"""What a classifier of images shows of itself: see `experiments.specimens`."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from experiments.data.digits import Part
from experiments.data.image_order import Order
from experiments.specimens import Question, Reading, Specimen, one_way, starts_of
from experiments.text_features import Features

QUESTIONS = 3
SHADES, INK = np.array([" ", "·", "+", "#"]), 0.25  # of pixels from white to black; from which share on there is ink


def specimen_of(
    words: str,
    cells: Sequence[jaxrnn.Cell],
    model: jaxrnn.models.Classifier,
    params: Any,
    order: Order,
    part: Part,
    steps: int,
) -> Specimen:
    """Return gates and states over images, and what the answers for the first of them depend on.

    Args:
        words: the model and its data.
        cells: of its recurrent layers.
        model, params: all of it.
        order: in which the pixels are read.
        part: images and labels.
        steps: to read, about.
    """
    count = max(QUESTIONS, steps // order.steps)
    images, labels = part.images[:count], part.labels[:count]
    xs = order.sequences(images)
    layers = [own for own in params.encoder if jax.tree.leaves(own)]  # dropout has no parameters
    units = one_way(cells, layers, jnp.asarray(xs))
    ink = (images / images.max()).reshape(len(images), -1)[:, order.places].reshape(len(images), order.steps, -1)
    symbols, starts = symbols_of(ink, order.width), starts_of([order.steps] * len(images))
    reading = Reading(symbols, units, features_of(ink, order), [*units][-1], starts)
    black = order.sequences(np.zeros_like(images[:1]))

    def question(place: int) -> Question:
        label = int(labels[place])

        def score(params: Any, inputs: jax.Array) -> jax.Array:
            logits = model.apply(params, inputs)
            return logits[label] - logits.mean()

        read = symbols[place * order.steps : (place + 1) * order.steps]
        what = f"logit of {label} above the mean"
        return Question(what, read, jnp.asarray(xs[:, place]), jnp.asarray(black[:, 0]), score, params)

    return Specimen(words, reading, [question(place) for place in range(QUESTIONS)])


def symbols_of(ink: np.ndarray, width: int) -> list[str]:
    """Return the images ``ink [N, steps, features]`` as text: a character for each pixel, a line for each row.

    Pixels in a drawn order stand in the order of reading, in which there is no image to be seen.

    Example:
        >>> symbols_of(np.array([[[0.0], [0.3], [0.6], [1.0]]]), 2)
        [' ', '·\\n', '+', '#\\n']
        >>> symbols_of(np.array([[[0.0, 0.3], [0.6, 1.0]]]), 2)
        [' ·\\n', '+#\\n']
    """
    _, steps, features = ink.shape
    shades = SHADES[np.minimum(len(SHADES) * ink, len(SHADES) - 1).astype(int)]
    ends = ["\n" if (step + 1) * features % width == 0 else "" for step in range(steps)]
    return ["".join(pixels) + end for image in shades for pixels, end in zip(image, ends, strict=True)]


def features_of(ink: np.ndarray, order: Order) -> Features:
    """Return what can be named of each step, one image after the other."""
    of_step, time = ink.mean(axis=-1), np.arange(order.steps)
    inked = np.maximum.accumulate(np.where(of_step >= INK, time, -1), axis=1)
    row, column = np.divmod(order.places[:: order.features], order.width)
    features = {
        f"ink of the {'pixel' if order.features == 1 else 'row'}": of_step,
        "ink so far": np.cumsum(of_step, axis=1),
        "row of the image": np.tile(row, (len(ink), 1)),
    }
    if order.features == 1:
        features["column of the image"] = np.tile(column, (len(ink), 1))
        features["pixels since there was ink"] = time - inked
    return {name: values.reshape(-1).astype(np.float32) for name, values in features.items()}
