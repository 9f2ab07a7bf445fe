"""Words as tokens: a tokeniser, a vocabulary of the commonest words, and vectors of them that others trained.

A text is put in lower case, a typographic apostrophe is made a straight one, and the rest is cut into

- numbers, with points and commas between digits: ``1,000.5``;
- words: letters, digits and underscores, with hyphens and apostrophes between them: ``saftig-grünes``;
- what English and German contract: ``woman 's``, ``do n't``, ``gibt 's``; and brackets as treebanks write
  them, ``-lrb-``;
- every other character but blanks, the same one repeated being one: ``...``.

So a text that the Penn Treebank's rules have cut already stays as it is, but for
abbreviations and what it escapes.
"""

import pathlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from experiments import runs
from experiments.runs import InputError

CLITIC = r"'(?:s|re|ve|ll|d|m)\b"
TOKEN = re.compile(
    rf"-[lr][rcs]b-|\w+?(?=n't\b)|n't\b|{CLITIC}|\d+(?:[.,]\d+)+|\w+(?:(?!{CLITIC})['-]\w+)*|([^\w\s])\1*"
)
PAD, UNK, BOS, EOS = range(4)
SPECIALS = ("<pad>", "<unk>", "<bos>", "<eos>")


def tokenise(text: str) -> list[str]:
    """Return the words of a text, in lower case, and its punctuation; see the module for the rules.

    Example:
        >>> tokenise("Die Frau, 1,5 m groß, läuft über saftig-grünes Gras.")
        ['die', 'frau', ',', '1,5', 'm', 'groß', ',', 'läuft', 'über', 'saftig-grünes', 'gras', '.']
    """
    return [match[0] for match in TOKEN.finditer(text.lower().replace("’", "'"))]


def detokenise(words: Sequence[str]) -> str:
    """Return words as a text, without blanks before what closes and after what opens; case is lost.

    Example:
        >>> detokenise(["a", "man", "'s", "dog", "(", "left", ")", ",", "on", "a", "couch", "."])
        "a man's dog (left), on a couch."
    """
    text = re.sub(r'(["„“]) ([^"„“”]*) (["“”])', r"\1\2\3", " ".join(words))
    text = re.sub(rf" ([.,;:!?)\]}}%…]|n't\b|{CLITIC})", r"\1", text)
    return re.sub(r"([(\[{]) ", r"\1", text)


class Words(NamedTuple):
    """The words of a vocabulary, the specials ``<pad>``, ``<unk>``, ``<bos>``, ``<eos>`` first; places are tokens."""

    words: tuple[str, ...]

    @property
    def size(self) -> int:
        """The number of tokens, the specials included."""
        return len(self.words)

    def encode(self, texts: Iterable[str]) -> list[np.ndarray]:
        """Return the tokens of each text, int32 ``[T]``, without a beginning and an end; unknown words are 1."""
        places = {word: place for place, word in enumerate(self.words)}
        return [np.array([places.get(word, UNK) for word in tokenise(text)], np.int32) for text in texts]

    def decode(self, tokens: Sequence[int] | np.ndarray) -> list[str]:
        """Return the words of tokens up to the first ``<eos>``, without ``<pad>`` and ``<bos>``."""
        line = np.asarray(tokens).tolist()
        end = line.index(EOS) if EOS in line else len(line)
        return [self.words[token] for token in line[:end] if token not in (PAD, BOS)]


def words_of(texts: Iterable[str], most: int | None = None, at_least: int = 1) -> Words:
    """Return the vocabulary of training texts, the commonest words first and equally common ones in order.

    Args:
        texts: what to count words in.
        most: words in the vocabulary, at most; the specials do not count.
        at_least: how often a word must occur.

    Example:
        >>> words = words_of(["a b a", "c a b"], at_least=2)
        >>> words.words[4:], words.encode(["b c a"])[0].tolist(), words.decode([2, 5, 1, 3, 0])
        (('a', 'b'), [5, 1, 4], ['b', '<unk>'])
    """
    counts = Counter(word for text in texts for word in tokenise(text))
    common = sorted(
        (word for word, count in counts.items() if count >= at_least), key=lambda word: (-counts[word], word)
    )
    return Words((*SPECIALS, *common[:most]))


def save_words(path: pathlib.Path, words: Words) -> None:
    """Write a vocabulary as a JSON list."""
    runs.write_json(path, list(words.words))


def load_words(path: pathlib.Path) -> Words:
    """Return a vocabulary that `save_words` wrote.

    Raises:
        InputError: the file is missing, damaged or no list of different words that begins with the specials.
    """
    words = runs.read_json(path)
    fits = isinstance(words, list) and all(isinstance(word, str) for word in words)
    if not fits or tuple(words[:4]) != SPECIALS or len(set(words)) < len(words):
        raise InputError(f"{path}: expected a list of different words that begins with {', '.join(SPECIALS)}")
    return Words(tuple(words))


class Vectors(NamedTuple):
    """``vectors``, float32 ``[V, D]``, one for each word of a vocabulary, and how many of them the file ``found``."""

    vectors: np.ndarray
    found: int


def read_vectors(path: pathlib.Path, words: Words, seed: int = 0) -> Vectors:
    """Return vectors for a vocabulary from a file in GloVe's text format: ``word x_1 … x_D`` on each line.

    Words that the file has not are drawn from a normal distribution with the mean and the deviation of all
    that it has; ``<pad>`` is zero. A first line ``count D``, as of word2vec's text format, is passed over.

    Raises:
        InputError: the file cannot be read, has none of the words, or a line of another length or without
            numbers; the message says which.

    Source: Pennington, Socher and Manning, "GloVe: Global Vectors for Word Representation" (2014).
    """
    places = {word: place for place, word in enumerate(words.words)}
    found: dict[int, np.ndarray] = {}
    size = 0
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            for number, line in enumerate(file, 1):
                fields = line.rstrip().split(" ")
                if number == 1 and len(fields) == 2:
                    continue
                size = size or len(fields) - 1
                # A word may have blanks in it; the numbers are the last fields.
                word, values = " ".join(fields[:-size]), fields[-size:]
                if size < 1 or not word:
                    raise InputError(
                        f"{path}: line {number:,} has {len(fields)} fields; expected a word and {size} numbers"
                    )
                if word in places:
                    found[places[word]] = _numbers(path, number, values)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); give a text file of vectors") from error
    if not found:
        raise InputError(
            f"{path}: has none of the {words.size:,} words; give vectors of the text's language, in lower case"
        )
    known = np.stack([*found.values()])
    vectors = np.random.default_rng(seed).normal(known.mean(), known.std(), (words.size, size)).astype(np.float32)
    vectors[[*found]] = known
    vectors[PAD] = 0
    return Vectors(vectors, len(found))


def _numbers(path: pathlib.Path, number: int, values: Sequence[str]) -> np.ndarray:
    """Return the values of a line, float32, or raise with its number."""
    try:
        vector = np.array(values, np.float32)
    except ValueError as error:
        raise InputError(f"{path}: line {number:,}: expected {len(values)} numbers after the word ({error})") from error
    if not np.isfinite(vector).all():
        raise InputError(f"{path}: line {number:,}: expected finite numbers")
    return vector
