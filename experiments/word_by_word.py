"""Translation word by word: each word by its likeliest translation, in the order of the source.

What a word f of the source is translated into is learnt from pairs of sentences alone, by expectation
maximisation of IBM's model 1. There every word e of the target comes from one word of the source, each as
likely as any other:

    P(e | source) = 1/S Σ_s t(e | f_s)
    c(e, f) = Σ over pairs and the words e, f in them of t(e | f) / Σ_s t(e | f_s)        t(e | f) ∝ c(e, f)

Source: Brown, Della Pietra, Della Pietra and Mercer, "The Mathematics of Statistical Machine Translation:
Parameter Estimation" (1993).
"""

from collections.abc import Sequence

import numpy as np

from experiments.data.translation import Pairs
from experiments.data.words import detokenise, tokenise, words_of


def word_by_word(train: Pairs, sources: Sequence[str], iterations: int = 5) -> list[str]:
    """Return ``sources`` with every word that ``train`` has translated, the others as they are.

    Example:
        >>> train = Pairs(["the house", "the book", "a book"], ["das haus", "das buch", "ein buch"])
        >>> word_by_word(train, ["a new house"])
        ['ein new haus']
    """
    source_words, target_words = words_of(train.sources), words_of(train.targets)
    best = _likeliest(source_words.encode(train.sources), target_words.encode(train.targets), iterations)
    lexicon = {source_words.words[f]: target_words.words[e] for f, e in best.items()}
    return [detokenise([lexicon.get(word, word) for word in tokenise(source)]) for source in sources]


def _likeliest(sources: list[np.ndarray], targets: list[np.ndarray], iterations: int) -> dict[int, int]:
    """Return argmax over e of t(e | f), for each f."""
    size = 1 + max(int(target.max(initial=0)) for target in targets)
    # One entry for each pair of words that stand in one pair of sentences: which two, and which e it is of all.
    met = np.concatenate(
        [(f[:, None].astype(np.int64) * size + e).ravel() for f, e in zip(sources, targets, strict=True)]
    )
    ends = np.cumsum([0, *map(len, targets)])
    places = np.concatenate(
        [np.tile(np.arange(start, start + len(e)), len(f)) for start, f, e in zip(ends, sources, targets, strict=False)]
    )
    pairs, entries = np.unique(met, return_inverse=True)
    of_source = pairs // size
    t = np.ones(len(pairs))
    for _ in range(iterations):
        weights = t[entries]
        counts = np.bincount(entries, weights / np.bincount(places, weights)[places])
        t = counts / np.bincount(of_source, counts)[of_source]
    order = np.argsort(t, kind="stable")
    return dict(zip((of_source[order]).tolist(), (pairs[order] % size).tolist(), strict=True))
