import json
import pathlib

import numpy as np
import pytest

from experiments.data import words
from experiments.runs import InputError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("Zwei Männer, 1,5 m groß!", "zwei männer , 1,5 m groß !"),
        ("A well-known saftig-grünes T-Shirt.", "a well-known saftig-grünes t-shirt ."),
        ("Don't, can't; they're the woman's: gibt’s?", "do n't , ca n't ; they 're the woman 's : gibt 's ?"),
        ("o'clock 'quoted' ladies' room", "o'clock ' quoted ' ladies ' room"),
        ("„So“ (wait)... -- #1 & 2%", "„ so “ ( wait ) ... -- # 1 & 2 %"),
        ("it 's n't -lrb- ca n't -rrb- `` fun '' .", "it 's n't -lrb- ca n't -rrb- `` fun '' ."),
        ("1,000.50 10:30 2020.", "1,000.50 10 : 30 2020 ."),
        ("a\tb\n c", "a b c"),
    ],
)
def test_texts_are_cut_into_words(text: str, expected: str):
    assert words.tokenise(text) == expected.split()
    assert words.tokenise(" ".join(words.tokenise(text))) == expected.split()  # a second time changes nothing


@pytest.mark.parametrize(
    "text",
    [
        "zwei männer, 1,5 m groß!",
        "the woman's dog don't \"say so\", they said (twice); see [1].",
        "„ein schild“, 100% aus holz: ja?",
        "“this” too.",
    ],
)
def test_detokenising_undoes_tokenising(text: str):
    assert words.detokenise(words.tokenise(text)) == text


def test_the_commonest_words_are_kept():
    texts = ["d c b a", "c b a", "b a A", "e"]
    assert words.words_of(texts).words == (*words.SPECIALS, "a", "b", "c", "d", "e")
    assert words.words_of(texts, at_least=2).words[4:] == ("a", "b", "c")
    vocabulary = words.words_of(texts, most=2)
    assert vocabulary.size == 6
    (tokens,) = vocabulary.encode(["B x <eos> a"])
    assert tokens.dtype == np.int32
    assert tokens.tolist() == [5, 1, 1, 1, 1, 4]  # a text cannot end itself
    assert vocabulary.decode([2, 5, 1, 4, 3, 4, 0]) == ["b", "<unk>", "a"]
    assert vocabulary.decode(np.array([4, 0, 0])) == ["a"]


def test_a_vocabulary_is_saved_and_read_again(tmp_path: pathlib.Path):
    vocabulary = words.words_of(["größe 'n' „x“"])
    words.save_words(tmp_path / "words.json", vocabulary)
    assert words.load_words(tmp_path / "words.json") == vocabulary


@pytest.mark.parametrize("content", ["{}", "[1, 2, 3, 4]", '["a", "b"]', json.dumps([*words.SPECIALS, "a", "a"]), "["])
def test_a_damaged_vocabulary_is_named(tmp_path: pathlib.Path, content: str):
    path = tmp_path / "words.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"words\.json: (expected a list of different words|is damaged)"):
        words.load_words(path)


@pytest.fixture
def vocabulary() -> words.Words:
    return words.words_of(["naïve dog cat sat"])


def test_vectors_are_read_for_a_vocabulary(tmp_path: pathlib.Path, vocabulary: words.Words):
    path = tmp_path / "vectors.txt"
    lines = "the 1 1 1\nnaïve 1 -2.5 3e-1\n. . . 9 9 9\ndog 4 5 6\n"
    path.write_text(lines, encoding="utf-8")
    vectors, found = words.read_vectors(path, vocabulary)
    assert vectors.dtype == np.float32
    assert vectors.shape == (vocabulary.size, 3)
    assert found == 2
    assert vectors[vocabulary.words.index("naïve")].tolist() == pytest.approx([1, -2.5, 0.3])
    assert vectors[vocabulary.words.index("dog")].tolist() == [4, 5, 6]
    assert not vectors[words.PAD].any()
    assert vectors[vocabulary.words.index("cat")].all()
    path.write_text("4 3\n" + lines, encoding="utf-8")
    assert np.array_equal(words.read_vectors(path, vocabulary).vectors, vectors)
    assert not np.array_equal(words.read_vectors(path, vocabulary, seed=1).vectors, vectors)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (b"", "has none of the 8 words"),
        (b"house 1 2 3\n", "has none of the 8 words"),
        (b"dog 1 2 3\ncat 1 2", "line 2 has 3 fields; expected a word and 3 numbers"),
        (b"dog 1 2 3\ncat 1 x 3", "line 2: expected 3 numbers after the word .*'x'"),
        (b"dog 1 2 3\ncat 1 nan 3", "line 2: expected finite numbers"),
        (b"dog\n", "line 1 has 1 fields"),
        (b"dog 1 2 3\n\n", "line 2 has 1 fields"),
        (b"dog 1 2\xff", "cannot be read .*utf-8"),
    ],
)
def test_damaged_vectors_are_named(
    tmp_path: pathlib.Path, vocabulary: words.Words, content: bytes | None, message: str
):
    path = tmp_path / "vectors.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        words.read_vectors(path, vocabulary)
    assert str(path) in str(caught.value)
