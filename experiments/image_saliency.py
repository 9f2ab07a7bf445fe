"""Which pixels the answers of a classifier of images depend on: by gradients, and by integrated gradients.

The score is the logit of the image's label less the mean of all logits, which a constant added to all leaves alone.
Where an answer turns abruptly on the way from the black image to the image, a rule with evenly spread points misses
the turn. So the way is cut up: the gap to completeness of each stretch is known, and the stretch with the greatest is
halved, for each image by itself, until the gaps of all stretches together are a hundredth of the change.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.data.digits import Part
from experiments.data.image_order import Order
from jaxrnn.analysis import input_gradients, integrated_gradients
from jaxrnn.models import Classifier

RULE, TOLERANCE = 8, 0.01  # points of a stretch; share of the change


class Saliency(NamedTuple):
    """One image of each class, the network's answers, and what these depend on; maps are ``[N, H, W]``.

    gaps: how much of the change the integrals may miss, as a share of it, ``[N]``.
    """

    images: np.ndarray
    labels: np.ndarray
    answers: np.ndarray
    gradients: np.ndarray
    attributions: np.ndarray
    gaps: np.ndarray


def saliency(model: Classifier, order: Order, params: Any, part: Part, points: int) -> Saliency:
    """Return what the answer for the first image of each class depends on.

    Args:
        model, params: the classifier.
        order: in which it reads the pixels.
        part: images and labels.
        points: gradients for each integral at most.
    """
    places = np.array([np.flatnonzero(part.labels == label)[0] for label in np.unique(part.labels)])
    labels = part.labels[places]
    images = part.images[places]
    xs, black = (jnp.asarray(order.sequences(values)) for values in (images, np.zeros_like(images)))

    def score(params: Any, xs: jax.Array) -> jax.Array:
        logits = model.apply(params, xs)
        return jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0] - logits.mean(axis=1)

    answers = jax.jit(model.apply)(params, xs).argmax(axis=-1)
    gradients = jax.jit(lambda params, xs: input_gradients(lambda xs: score(params, xs), xs))(params, xs)
    attributions, gaps = by_halving(score, params, xs, black, points)
    shown = (images, labels, np.asarray(answers))
    return Saliency(*shown, order.pictures(gradients), order.pictures(attributions), gaps)


def by_halving(
    score: Callable[[Any, jax.Array], jax.Array], params: Any, xs: jax.Array, black: jax.Array, points: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return integrated gradients ``[T, B, D]``, and the share of the change that they may miss ``[B]``.

    Args:
        score: ``(params, xs) -> scores [B]``, each of its own sequence alone.
        params: of the model.
        xs: ``[T, B, D]``.
        black: the baseline, of the same shape.
        points: gradients for each integral at most.
    """

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(None, 0, 0))
    def over(params: Any, begins: jax.Array, ends: jax.Array) -> tuple[jax.Array, ...]:
        begin, end = (black + share[None, :, None] * (xs - black) for share in (begins, ends))
        parts, gaps = integrated_gradients(functools.partial(score, params), end, begin, points=RULE)
        return begins, ends, parts.swapaxes(0, 1), gaps

    scores = jax.jit(score)
    changes = np.maximum(np.abs(scores(params, xs) - scores(params, black)), np.finfo(np.float32).tiny)
    each = np.arange(len(changes))
    cuts = np.broadcast_to(np.array([[0.0], [0.5], [1.0]], np.float32), (3, len(each)))
    stretches = [np.array(values) for values in over(params, cuts[:-1], cuts[1:])]
    while True:
        begins, ends, parts, gaps = stretches
        missed = np.abs(gaps).sum(axis=0) / changes
        if missed.max() <= TOLERANCE or 2 * RULE * len(gaps) > points:
            return parts.sum(axis=0).swapaxes(0, 1), missed
        worst = np.abs(gaps).argmax(axis=0), each
        middles = (begins[worst] + ends[worst]) / 2
        halves = over(params, np.stack([begins[worst], middles]), np.stack([middles, ends[worst]]))
        for place, (known, (first, second)) in enumerate(zip(stretches, map(np.asarray, halves), strict=True)):
            known[worst] = first
            stretches[place] = np.concatenate([known, second[None]])
