"""What a classifier of sentences answers, and how it is shown beside what counts words without their order."""

import pathlib
import re
from typing import Any, NamedTuple

import jax
import numpy as np
import rich.box
import rich.table

from experiments.baselines import majority, naive_bayes
from experiments.data.sentiment import Sentences, Sentiment
from experiments.data.words import Words, tokenise
from experiments.plots import learning_curves
from experiments.training import Trained
from jaxrnn.models import Classifier

LABELS = ("pan", "praise")
TURNS = re.compile(r"\b(?:not|no|never|hardly|nothing|neither|nor|far from|anything but|but|although|though)\b|n't\b")


class Answer(NamedTuple):
    """The ``words`` of a sentence, the ``probability`` of praise, and the attention to each word, or None."""

    words: list[str]
    probability: float
    weights: np.ndarray | None = None


def answer(model: Classifier, params: Any, words: Words, text: str) -> Answer:
    """Return what a model makes of a sentence."""
    (tokens,) = words.encode([text])
    logits = jax.jit(model.apply)(params, tokens)
    weights = None if model.weights is None else np.asarray(jax.jit(model.weights)(params, tokens))
    return Answer(tokenise(text), float(jax.nn.softmax(logits)[1]), weights)


def shown(given: Answer) -> str:
    """Return an answer in lines, the likelier label first, and then the words with their weights.

    Example:
        >>> print(shown(Answer(["so", "good"], 0.875, np.array([0.25, 0.75]))))
        praise, probability 0.875
          0.25  ██████             so
          0.75  █████████████████  good
    """
    label = int(given.probability > 0.5)
    lines = [f"{LABELS[label]}, probability {given.probability if label else 1 - given.probability:.3f}"]
    if given.weights is not None:
        bars = ["█" * round(float(17 * weight / given.weights.max())) for weight in given.weights]
        lines += [f"  {w:.2f}  {bar:17}  {word}" for w, bar, word in zip(given.weights, bars, given.words, strict=True)]
    return "\n".join(lines)


def turning(texts: list[str]) -> np.ndarray:
    """Return which sentences have a negation or a contrast, bool ``[N]``.

    Example:
        >>> turning(["not bad", "it is n't", "don't", "knot", "good , but long"]).tolist()
        [True, True, True, False, True]
    """
    return np.array([TURNS.search(text.lower()) is not None for text in texts], bool)


def baselines_of(data: Sentiment, which: np.ndarray) -> dict[str, float]:
    """Return what share of the test sentences ``which`` is right without a network."""
    texts = [text for text, counts in zip(data.test.texts, which, strict=True) if counts]
    test = Sentences(texts, data.test.labels[which])
    return {
        "majority": majority(data.train.labels, test.labels),
        "naive Bayes": naive_bayes(*data.train, *test),
    }


def draw_curves(path: pathlib.Path, trained: Trained, title: str) -> None:
    """Draw training and validation losses over the steps, with that of knowing nothing."""
    evaluated = [record for record in trained.records if "evaluation" in record]
    train = [record["step"] for record in trained.records], [record["loss"] for record in trained.records]
    valid = [record["step"] for record in evaluated], [record["evaluation"]["loss"] for record in evaluated]
    learning_curves(path, train, valid, {"majority": float(np.log(2))}, title=title, unit="nats per sentence")


def table(shares: dict[str, dict[str, float]], counts: dict[str, int]) -> rich.table.Table:
    """Return the table of the shares that are right, a row for each way to answer, the model's last.

    Args:
        shares: by the kind of sentences, then by the way to answer.
        counts: how many sentences of each kind there are.
    """
    made = rich.table.Table(
        title="Right among the test sentences", title_justify="left", box=rich.box.SIMPLE_HEAD, show_edge=False
    )
    made.add_column("")
    for kind, count in counts.items():
        made.add_column(f"{kind}\n({count:,})", justify="right")
    ways = list(next(iter(shares.values())))
    for way in ways:
        style = "bold" if way == ways[-1] else ""
        made.add_row(way, *(f"{shares[kind][way]:.1%}" for kind in counts), style=style)
    return made
