"""The losses beside a character model's: its floors on the same text, and how the two are shown."""

import math
import pathlib
from typing import Any

import numpy as np
import rich.box
import rich.table

from experiments import runs, tables
from experiments.data import text
from experiments.ngram import lzma_loss, witten_bell
from experiments.plots import learning_curves
from experiments.training import Trained

ORDERS = (1, 3, 5)
HEADS = ("model", "nats/character", "bits/character")


def floors_of(
    path: pathlib.Path, corpus: text.Corpus, vocabulary: text.Vocabulary, train: np.ndarray, valid: np.ndarray
) -> dict[str, float]:
    """Return the losses of the models without a network, from a file once they are known."""
    if not path.exists():
        by_order = witten_bell(train, valid, vocabulary.size, max(ORDERS))
        floors = {"unigram" if order == 1 else f"{order}-gram": by_order[order - 1] for order in ORDERS}
        runs.write_json(path, floors | {"lzma": lzma_loss(corpus.train, corpus.valid)})
    return runs.read_json(path)


def draw_curves(path: pathlib.Path, records: list[dict[str, Any]], floors: dict[str, float], title: str) -> None:
    """Draw training and validation losses over the steps, with the floors."""
    evaluated = [record for record in records if "evaluation" in record]
    train = [record["step"] for record in records], [record["loss"] for record in records]
    valid = [record["step"] for record in evaluated], [record["evaluation"]["loss"] for record in evaluated]
    learning_curves(path, train, valid, floors, title=title, unit="nats per character")


def lines(floors: dict[str, float], loss: float, name: str) -> list[tuple[str, str, str]]:
    """Return the name, the nats and the bits per character of each floor and, last, of a model.

    Example:
        >>> lines({"unigram": 3.2}, 1.5, "GRU")
        [('unigram', '3.200', '4.617'), ('GRU', '1.500', '2.164')]
    """
    losses = {**floors, name: loss}
    return [(name, f"{loss:.3f}", f"{loss / math.log(2):.3f}") for name, loss in losses.items()]


def table(floors: dict[str, float], trained: Trained, name: str) -> rich.table.Table:
    """Return the table of the floors and, last, of the best model of a run, called ``name``."""
    title = "Loss on the whole validation text"
    shown = rich.table.Table(title=title, title_justify="left", box=rich.box.SIMPLE_HEAD)
    shown.add_column(HEADS[0], no_wrap=True)
    for head in HEADS[1:]:
        shown.add_column(head, justify="right")
    *of_floors, best = lines(floors, trained.figures["loss"], f"{name} (best, at step {trained.step:,})")
    for line in of_floors:
        shown.add_row(*line)
    shown.add_row(*best, style="bold")
    return shown


def markdown(floors: dict[str, float], loss: float, name: str, text: str) -> str:
    """Return the same table in Markdown, for a reader who has to be told which ``text`` it is about."""
    *of_floors, best = lines(floors, loss, name)
    return tables.markdown([f"on {text}", *HEADS[1:]], [*of_floors, [f"**{cell}**" for cell in best]])
