"""Text for character models: a file of the user's, or the source text of Python's standard library.

A corpus is split into training and validation text once and for all, without chance: a single file at
90 % of its length, the standard library by whole files, so that no file is on both sides.
"""

import hashlib
import pathlib
import sysconfig
from typing import NamedTuple

import numpy as np

from experiments.data import fetching
from experiments.runs import InputError

# Tests, demonstrations and generated tables: many characters, little to learn from.
SKIPPED = {
    "dist-packages", "encodings", "idlelib", "idle_test", "pydoc_data", "site-packages", "test", "tests", "turtledemo",
}  # fmt: skip
UNSEEN = "\N{REPLACEMENT CHARACTER}"
TINYSHAKESPEARE = "tinyshakespeare.txt"
TINYSHAKESPEARE_URL = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/"
    "tinyshakespeare/input.txt"
)
TINYSHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
SHORTEST = 1000


class Corpus(NamedTuple):
    """Training and validation text, what they are in a few words, and where they come from in many."""

    train: str
    valid: str
    name: str
    source: str


class Vocabulary(NamedTuple):
    """The characters of a training text in order; their places are the tokens.

    One more token, the last, stands for every character that the training text does not have.
    """

    characters: str

    @property
    def size(self) -> int:
        """The number of tokens, the one for unseen characters included."""
        return len(self.characters) + 1

    def encode(self, text: str) -> np.ndarray:
        """Return the tokens of ``text``, int32 ``[T]``."""
        known, points = code_points(self.characters), code_points(text)
        places = np.minimum(np.searchsorted(known, points), len(known) - 1)
        return np.where(known[places] == points, places, len(known)).astype(np.int32)

    def decode(self, tokens: np.ndarray) -> str:
        """Return the text of ``tokens``; unseen characters become U+FFFD."""
        characters = self.characters + UNSEEN
        return "".join(characters[token] for token in np.asarray(tokens).tolist())


def vocabulary_of(text: str) -> Vocabulary:
    """Return the vocabulary of a training text.

    Example:
        >>> vocabulary = vocabulary_of("abba")
        >>> vocabulary.size, vocabulary.encode("cab").tolist(), vocabulary.decode([0, 1, 1])
        (3, [2, 0, 1], 'abb')
    """
    return Vocabulary("".join(map(chr, np.unique(code_points(text)))))


def code_points(text: str) -> np.ndarray:
    """Return the code points of ``text``, uint32 ``[T]``."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def read_text(path: pathlib.Path, train_share: float = 0.9) -> Corpus:
    """Return the text of a file, its first part for training and the rest for validation.

    It has the name of its file, but the text of tinyshakespeare has that name wherever it lies, and no other has.

    Raises:
        InputError: a file that cannot be read, is not UTF-8 text, is too short, or is called tinyshakespeare.txt
            and holds something else.
    """
    text = fetching.read_text(path)
    known = hashlib.sha256(text.encode()).hexdigest() == TINYSHAKESPEARE_SHA256
    if path.name == TINYSHAKESPEARE and not known:
        raise InputError(
            f"--data {path}: its {len(text):,} characters are not the text it is named after: truncated or altered; "
            f"get it anew from {TINYSHAKESPEARE_URL}, or give it another name"
        )
    if len(text) < SHORTEST:
        raise InputError(f"--data {path}: {len(text):,} characters are too few; give a text of {SHORTEST:,} or more")
    cut = int(train_share * len(text))
    source = f"{path}, its first {train_share:.0%} for training and the rest for validation"
    return Corpus(text[:cut], text[cut:], TINYSHAKESPEARE if known else path.name, source)


def read_standard_library(limit: int, root: pathlib.Path | None = None, valid_share: float = 0.05) -> Corpus:
    """Return the source text of the running interpreter's standard library.

    The training text has ``limit`` characters at most, in whole files, the validation text ``valid_share``
    as many or a little more. Which files is decided by a hash of their names; both texts are in the order
    of the names.

    Raises:
        InputError: no source files to be found, as in an interpreter packed into an archive.
    """
    root = pathlib.Path(sysconfig.get_path("stdlib")) if root is None else root
    texts = _source_files(root)
    total = sum(map(len, texts.values()))
    if total < SHORTEST:
        raise InputError(f"no Python source text under {root}: give a text file of your own with --data FILE")
    train, valid, taken, held = [], [], 0, 0
    for name in sorted(texts, key=lambda name: hashlib.sha256(name.encode()).digest()):
        if held < valid_share * min(limit, total):
            valid.append(name)
            held += len(texts[name])
        elif taken + len(texts[name]) <= limit:
            train.append(name)
            taken += len(texts[name])
    train_text, valid_text = ("".join(texts[name] for name in sorted(names)) for names in (train, valid))
    if len(train_text) < SHORTEST:
        raise InputError(f"--characters {limit:,}: too few for whole files to train on; give 100,000 or more")
    source = (
        f"{root}, {len(train)} files for training and {len(valid)} for validation, of {len(texts)} without tests, "
        "tables and demonstrations"
    )
    return Corpus(train_text, valid_text, "Python's standard library", source)


def _source_files(root: pathlib.Path) -> dict[str, str]:
    """Return the text of every source file under ``root`` that is UTF-8, by its name relative to it."""
    texts = {}
    for path in root.rglob("*.py"):
        name = path.relative_to(root)
        # Underscored names at the top are tables that the build of the interpreter left there.
        if SKIPPED & set(name.parts) or name.parts[0].startswith(("_sysconfigdata", "config-")):
            continue
        try:
            texts[name.as_posix()] = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
    return texts
