"""The losses beside a character model's: its floors on the same text, and how the two are shown."""

import math
import pathlib
from typing import Any

import numpy as np
import rich.box
import rich.table

from experiments import runs
from experiments.data import text
from experiments.ngram import lzma_loss, witten_bell
from experiments.plots import learning_curves
from experiments.training import Trained

ORDERS = (1, 3, 5)


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


def table(floors: dict[str, float], trained: Trained, name: str) -> rich.table.Table:
    """Return the table of the floors and, last, of the best model of a run, called ``name``."""
    title = "Loss on the whole validation text"
    shown = rich.table.Table(title=title, title_justify="left", box=rich.box.SIMPLE_HEAD)
    shown.add_column("model", no_wrap=True)
    shown.add_column("nats/character", justify="right")
    shown.add_column("bits/character", justify="right")
    for floor, loss in floors.items():
        shown.add_row(floor, f"{loss:.3f}", f"{loss / math.log(2):.3f}")
    loss, step = trained.figures["loss"], trained.step
    shown.add_row(f"{name} (best, at step {step:,})", f"{loss:.3f}", f"{loss / math.log(2):.3f}", style="bold")
    return shown
