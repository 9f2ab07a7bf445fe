"""Sentences in two languages: Multi30k of the user's or downloaded, or generated numerals without a download.

Multi30k is read from its raw files, one sentence a line, and tested on test_2016_flickr. Source: Elliott,
Frank, Sima'an and Specia, "Multi30K: Multilingual English-German Image Descriptions" (2016).

The generated pairs are whole numbers in words, where the right translation is known: "four thousand and
twenty one" is "vier tausend ein und zwanzig". English is written without hyphens, German with spaces at
the seams of what is one word, so that words are enough for a vocabulary. Units before tens, "and" where
German has none and "und" where English has none keep it from being translated word by word.
"""

import itertools
import pathlib
from typing import Literal, NamedTuple

import numpy as np

from experiments.data.fetching import Remote, fetch_all, name_of, read_text
from experiments.runs import InputError

Direction = Literal["en-de", "de-en"]

ADDRESS = "https://raw.githubusercontent.com/multi30k/dataset/a3d2e0d26b56f3846f66a952536ffed4e401d05a/data/task1/raw/"
CHECKSUMS = {  # of the file, and of what it holds
    "train.en.gz": (
        "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f",
        "460a15fbd157e34a7a9957ee388c1ca247fe47af3ef25fb50442af6c274e0fc6",
    ),
    "train.de.gz": (
        "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6",
        "2c2b73fd2b548fbcde3a875e0a78d6ee94d498bfdee6bd3eae3945779e9ddf72",
    ),
    "val.en.gz": (
        "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28",
        "1f2a23d992769b5b3d209b0a10dd0b77c08cceb1f20dfb97ed0aafa49d107227",
    ),
    "val.de.gz": (
        "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a",
        "660e09eb7e1da2f856ea13ee5ad3cf6d36b3d5b0b733c857e94c5747a3dfc660",
    ),
    "test_2016_flickr.en.gz": (
        "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9",
        "399a4382932c1aadd3ceb9bef1008d388a64c76d4ae4e9d4728c6f4301cac182",
    ),
    "test_2016_flickr.de.gz": (
        "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8",
        "4be6b5b3236b79c25475c6bb829800a7ce559e9ba7a1f6c2394fe4d40be46d16",
    ),
}
FILES = {name: Remote(ADDRESS + name, checksum, (content,)) for name, (checksum, content) in CHECKSUMS.items()}

ENGLISH = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
ENGLISH_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
GERMAN = (
    "null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn", "elf", "zwölf",
    "dreizehn", "vierzehn", "fünfzehn", "sechzehn", "siebzehn", "achtzehn", "neunzehn",
)  # fmt: skip
GERMAN_TENS = ("zwanzig", "dreißig", "vierzig", "fünfzig", "sechzig", "siebzig", "achtzig", "neunzig")


class Pairs(NamedTuple):
    """Sentences, ``sources[n]`` to be translated into ``targets[n]``."""

    sources: list[str]
    targets: list[str]


class Translation(NamedTuple):
    """Three parts of a data set, what it is in a few words, and where it comes from in many."""

    train: Pairs
    valid: Pairs
    test: Pairs
    name: str
    source: str


def read_multi30k(
    direction: Direction = "en-de", data: pathlib.Path | None = None, *, unchecked: bool = False
) -> Translation:
    """Return Multi30k from the folder ``data``, or else downloaded; ``unchecked``, ``data`` may hold other sentences.

    Raises:
        InputError: files that are missing, damaged, altered, or not aligned line by line, see `fetch_all`.
    """
    paths = fetch_all("multi30k", FILES, data, unchecked=unchecked)
    train, valid, test = (
        _read_pairs(*(paths[f"{part}.{language}.gz"] for language in direction.split("-")))
        for part in ("train", "val", "test_2016_flickr")
    )
    source = f"{ADDRESS if data is None else data}, tested on test_2016_flickr"
    name = name_of("Multi30k", data, unchecked=unchecked)
    return Translation(train, valid, test, f"{name} {direction}", source)


def _read_pairs(*paths: pathlib.Path) -> Pairs:
    """Return the lines of two files, without blanks at their ends."""
    sources, targets = ([line.strip() for line in read_text(path).rstrip("\n").split("\n")] for path in paths)
    if len(sources) != len(targets):
        counts = f"{len(sources):,} lines, but {paths[1].name} has {len(targets):,}"
        raise InputError(f"--data {paths[0]}: {counts}; expected one sentence a line, and its translation in the same")
    return Pairs(sources, targets)


def generate_numerals(
    direction: Direction = "en-de", seed: int = 0, counts: tuple[int, int, int] = (10_000, 500, 1000)
) -> Translation:
    """Return numbers below a million in words, no number twice; how many digits it has at most is drawn first.

    Example:
        >>> train = generate_numerals("de-en", counts=(2, 1, 1)).train
        >>> train.sources[1], train.targets[1]
        ('zwei tausend sechs hundert sieben und neunzig', 'two thousand six hundred and ninety seven')
    """
    random = np.random.default_rng(seed)
    drawn: dict[int, None] = {}
    while len(drawn) < sum(counts):
        drawn[int(random.integers(10 ** random.integers(1, 7)))] = None
    numbers = iter(drawn)
    source_words, target_words = (german if language == "de" else english for language in direction.split("-"))
    parts = (list(itertools.islice(numbers, count)) for count in counts)
    train, valid, test = (Pairs([*map(source_words, part)], [*map(target_words, part)]) for part in parts)
    source = f"numbers below 1,000,000 in words, generated with seed {seed}; no number is in two parts"
    return Translation(train, valid, test, f"generated numerals {direction}", source)


def english(number: int) -> str:
    """Return a number from 0 to 999,999 in English words.

    Example:
        >>> english(21), english(104_017)
        ('twenty one', 'one hundred and four thousand and seventeen')
    """
    if number < 20:
        return ENGLISH[number]
    if number < 100:
        tens, units = divmod(number, 10)
        return ENGLISH_TENS[tens - 2] + (f" {ENGLISH[units]}" if units else "")
    size, name = (1000, "thousand") if number >= 1000 else (100, "hundred")
    count, rest = divmod(number, size)
    link = " and " if rest < 100 else " "
    return f"{english(count)} {name}" + (link + english(rest) if rest else "")


def german(number: int) -> str:
    """Return a number from 0 to 999,999 in German words.

    Example:
        >>> german(21), german(101_017)
        ('ein und zwanzig', 'ein hundert ein tausend siebzehn')
    """
    if number < 20:
        return GERMAN[number]
    if number < 100:
        tens, units = divmod(number, 10)
        return (f"{_counting(units)} und " if units else "") + GERMAN_TENS[tens - 2]
    size, name = (1000, "tausend") if number >= 1000 else (100, "hundert")
    count, rest = divmod(number, size)
    return f"{_counting(count)} {name}" + (f" {german(rest)}" if rest else "")


def _counting(number: int) -> str:
    """Return a number in German as it stands before what it counts: with "ein" for "eins"."""
    words = german(number)
    return words[:-1] if words.endswith("eins") else words
