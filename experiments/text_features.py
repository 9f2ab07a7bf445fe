"""What can be named of every place in a text, known when it is read up to there: what units are compared with.

`code` reads Python's rules of strings, comments and brackets character by character, as an editor's colouring
does; `prose` knows lines, words, paragraphs and quotation marks; `clauses` reads the words of a sentence for
negations and contrasts.
"""

import re
from collections.abc import Callable, Sequence

import numpy as np

Features = dict[str, np.ndarray]
LINE = re.compile(r"[^\n]*\n|[^\n]+")  # str.splitlines would cut at form feeds too


def code(text: str) -> Features:
    """Return, float32 ``[T]`` each, what holds of Python source after each of its characters.

    Example:
        >>> at = code("f('#)') # x")
        >>> "".join(str(int(value)) for value in at["inside a string"])
        '00111000000'
        >>> "".join(str(int(value)) for value in at["inside brackets"])
        '01111100000'
        >>> "".join(str(int(value)) for value in at["inside a comment"])
        '00000000111'
    """
    strings, docstrings, comments, brackets = (np.zeros(len(text), np.float32) for _ in range(4))
    quote, depth, comment, place = "", 0, False, 0
    while place < len(text):
        character, length = text[place], 1
        if quote:
            if character == "\\":
                length = 2
            elif text.startswith(quote, place):
                length, quote = len(quote), ""
            elif character == "\n" and len(quote) == 1:  # never closed: a new line starts afresh
                quote = ""
        elif comment:
            comment = character != "\n"
        elif character in "'\"":
            quote = character * 3 if text.startswith(character * 3, place) else character
            length = len(quote)
        elif character == "#":
            comment = True
        else:
            depth = max(0, depth + (character in "([{") - (character in ")]}"))
        here = slice(place, place + length)
        strings[here], docstrings[here] = len(quote) == 1, len(quote) == 3
        comments[here], brackets[here] = comment, depth > 0
        place += length
    return {
        "position in the line": _since(text, "\n"),
        "indentation": _indentation(text),
        "inside a string": strings,
        "inside a docstring": docstrings,
        "inside a comment": comments,
        "inside brackets": brackets,
        "length of the word so far": _word_length(text),
        "in a line with def": _line_has(text, re.compile(r"def ")),
        "in a line with import": _line_has(text, re.compile(r"import ")),
    }


def prose(text: str) -> Features:
    """Return, float32 ``[T]`` each, what holds of any text after each of its characters.

    Example:
        >>> prose("ab c")["length of the word so far"].tolist()
        [1.0, 2.0, 0.0, 1.0]
    """
    quotes = np.cumsum([character == '"' for character in text]) % 2
    depth, brackets = 0, np.zeros(len(text), np.float32)
    for place, character in enumerate(text):
        depth = max(0, depth + (character in "([{") - (character in ")]}"))
        brackets[place] = depth > 0
    return {
        "position in the line": _since(text, "\n"),
        "length of the word so far": _word_length(text),
        "words since the last comma or stop": _words_since_stop(text),
        "first line of a paragraph": _first_lines(text),
        "line begins with a capital": _line_has(text, re.compile(r"^[A-Z]")),
        "inside quotation marks": quotes.astype(np.float32),
        "inside brackets": brackets,
    }


def clauses(words: Sequence[str]) -> Features:
    """Return, float32 ``[T]`` each, what holds of a sentence after each of its words.

    Example:
        >>> clauses(["not", "bad", ",", "but", "long"])["after a negation in the clause"].tolist()
        [1.0, 1.0, 0.0, 0.0, 0.0]
    """
    negated, contrasted, conceded = (np.zeros(len(words), np.float32) for _ in range(3))
    negation = contrast = concession = False
    for place, word in enumerate(words):
        ends = word in {",", ".", ";", ":", "but", "and", "although"}
        negation = not ends and (negation or word in {"not", "n't", "no", "never", "hardly", "far", "anything"})
        contrast = contrast or word == "but"
        concession = word == "although" or (concession and word not in {",", "."})
        negated[place], contrasted[place], conceded[place] = negation, contrast, concession
    return {
        "position in the sentence": np.arange(len(words), dtype=np.float32),
        "after a negation in the clause": negated,
        "after but": contrasted,
        "in the clause with although": conceded,
    }


def _since(text: str, mark: str) -> np.ndarray:
    """Return how many characters there are since the last ``mark``; 0 at it."""
    return _counts(text, lambda character, count: 0 if character == mark else count + 1)


def _word_length(text: str) -> np.ndarray:
    return _counts(text, lambda character, count: count + 1 if character.isalnum() or character == "_" else 0)


def _words_since_stop(text: str) -> np.ndarray:
    return _counts(text, lambda character, count: 0 if character in ",.;:?!" else count + character.isspace())


def _counts(text: str, after: Callable[[str, int], int]) -> np.ndarray:
    """Return a count after each character, 0 before the first."""
    count, counts = 0, np.zeros(len(text), np.float32)
    for place, character in enumerate(text):
        counts[place] = count = after(character, count)
    return counts


def _indentation(text: str) -> np.ndarray:
    """Return the blanks at the beginning of the line, as far as it is read."""
    return np.concatenate(
        [
            np.minimum(np.arange(1, len(line) + 1), len(line) - len(line.lstrip(" "))) * (line != "\n")
            for line in LINE.findall(text)
        ]
        or [np.zeros(0)]
    ).astype(np.float32)


def _line_has(text: str, pattern: re.Pattern[str]) -> np.ndarray:
    """Return whether the line, as far as it is read, has the pattern."""
    has = np.zeros(len(text), np.float32)
    begin = 0
    for line in LINE.findall(text):
        if found := pattern.search(line):
            has[begin + found.end() - 1 : begin + len(line)] = 1
        begin += len(line)
    return has


def _first_lines(text: str) -> np.ndarray:
    """Return whether the line before is empty."""
    first, begin, empty = np.zeros(len(text), np.float32), 0, True
    for line in LINE.findall(text):
        first[begin : begin + len(line)] = empty
        begin, empty = begin + len(line), not line.strip()
    return first
