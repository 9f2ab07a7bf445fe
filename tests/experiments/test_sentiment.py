import pathlib
import re

import numpy as np
import pytest

from experiments.baselines import majority, naive_bayes
from experiments.data import sentiment
from experiments.runs import InputError


def meaning(text: str) -> int:
    """The label of a generated review, read by the rules that the module's docstring states."""
    text = text.removesuffix(" .")
    if " , but " in text:
        text = text.split(" , but ")[1]
    elif text.startswith("although "):
        text = text.split(" , ")[1]
    text = re.split(" , although | and ", text)[0]
    negated = any(f"is {negation}" in text for negation in sentiment.NEGATIONS)
    return int(text.split()[-1] in sentiment.GOOD) ^ negated


def test_generated_reviews_mean_their_labels():
    reviews = sentiment.generate_reviews(seed=3)
    for part, count in zip(reviews[:3], (4000, 500, 1000), strict=True):
        assert len(part.texts) == len(part.labels) == count
        assert part.labels.mean() == 0.5
        assert [meaning(text) for text in part.texts] == part.labels.tolist()
    assert len({text for part in reviews[:3] for text in part.texts}) == 5500
    assert "generated" in reviews.name
    assert "generated" in reviews.source


def test_words_without_order_say_little_of_generated_reviews():
    reviews = sentiment.generate_reviews()
    assert majority(reviews.train.labels, reviews.test.labels) == 0.5
    assert naive_bayes(*reviews.train, *reviews.test) < 0.6


def test_sst2_is_read_from_a_folder(tmp_path: pathlib.Path):
    for name in sentiment.FILES:
        (tmp_path / name).write_text(f"1 a film of {name}\n0 1 naïve\x85 film\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"stsa.binary.train: truncated or altered"):
        sentiment.read_sst2(tmp_path)
    data = sentiment.read_sst2(tmp_path, unchecked=True)
    assert data.name == f"{tmp_path.name} (unchecked)"
    assert [part.texts[0] for part in data[:3]] == [
        f"a film of stsa.binary.{name}" for name in ("train", "dev", "test")
    ]
    assert data.test.texts[1] == "1 naïve\x85 film"
    assert data.test.labels.tolist() == [1, 0]
    assert data.test.labels.dtype == np.int32


@pytest.mark.parametrize("line", ["", "2 film", "1film", "1 ", "+1 film", "one film"])
def test_another_line_is_named(tmp_path: pathlib.Path, line: str):
    path = tmp_path / "lines"
    path.write_text(f"1 a film\n{line}\n0 a film\n")
    with pytest.raises(InputError, match=f"lines: line 2 is '{re.escape(line)}'; expected 0 or 1, a space"):
        sentiment.read_labelled(path)


def test_naive_bayes_counts_the_texts_that_have_a_word():
    train, labels = ["a a b", "b c", "c"], np.array([0, 0, 1])
    # Of "a", "b" and "c", label 0 has 2, 3 and 2 of 7, label 1 has 1, 1 and 2 of 4, one more of each than there are.
    assert 2 / 3 * 2 / 7 > 1 / 3 * 2 / 4  # "c": once only, or 1 would be likelier
    assert 2 / 3 * 2 / 7 * 2 / 7 < 1 / 3 * 2 / 4 * 2 / 4
    assert naive_bayes(train, labels, ["a b", "c", "c c d", "d"], np.zeros(4, int)) == 1.0
    assert naive_bayes(train[1:], labels[1:], ["b", "c"], np.array([0, 1])) == 1.0
