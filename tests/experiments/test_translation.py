import gzip
import pathlib

import pytest

from experiments.data import translation
from experiments.runs import InputError


@pytest.mark.parametrize(
    ("number", "english", "german"),
    [
        (0, "zero", "null"),
        (1, "one", "eins"),
        (16, "sixteen", "sechzehn"),
        (20, "twenty", "zwanzig"),
        (36, "thirty six", "sechs und dreißig"),
        (71, "seventy one", "ein und siebzig"),
        (100, "one hundred", "ein hundert"),
        (101, "one hundred and one", "ein hundert eins"),
        (1000, "one thousand", "ein tausend"),
        (4217, "four thousand two hundred and seventeen", "vier tausend zwei hundert siebzehn"),
        (21_001, "twenty one thousand and one", "ein und zwanzig tausend eins"),
        (101_500, "one hundred and one thousand five hundred", "ein hundert ein tausend fünf hundert"),
        (
            999_999,
            "nine hundred and ninety nine thousand nine hundred and ninety nine",
            "neun hundert neun und neunzig tausend neun hundert neun und neunzig",
        ),
    ],
)
def test_numbers_in_words(number: int, english: str, german: str):
    assert translation.english(number) == english
    assert translation.german(number) == german


def test_generated_parts_share_no_number():
    data = translation.generate_numerals(seed=4)
    assert [len(part.sources) for part in data[:3]] == [10_000, 500, 1000]
    everything = [pair for part in data[:3] for pair in zip(*part, strict=True)]
    assert len({source for source, _ in everything}) == len({target for _, target in everything}) == 11_500
    turned = translation.generate_numerals("de-en", seed=4)
    assert turned.test == translation.Pairs(data.test.targets, data.test.sources)
    assert {word for text in data.test.sources for word in text.split()} <= {
        word for text in data.train.sources for word in text.split()
    }
    assert "generated" in data.name


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    for name in translation.FILES:
        (tmp_path / name).write_bytes(gzip.compress(f"First {name}\nGrün \x85\r\n".encode()))
    return tmp_path


def test_multi30k_is_read_in_both_directions(folder: pathlib.Path):
    data = translation.read_multi30k("de-en", folder, unchecked=True)
    assert data.train == translation.Pairs(["First train.de.gz", "Grün"], ["First train.en.gz", "Grün"])
    assert data.valid.targets[0] == "First val.en.gz"
    assert data.test.sources[0] == "First test_2016_flickr.de.gz"
    turned = translation.read_multi30k("en-de", folder, unchecked=True)
    assert turned.test == translation.Pairs(data.test.targets, data.test.sources)
    assert turned.name == f"{folder.name} (unchecked) en-de"


def test_other_sentences_are_not_called_multi30k(folder: pathlib.Path):
    with pytest.raises(InputError, match=r"train.en.gz: truncated or altered: its 28 bytes"):
        translation.read_multi30k("en-de", folder)


def test_files_out_of_step_are_named(folder: pathlib.Path):
    (folder / "val.de.gz").write_bytes(gzip.compress(b"one\n"))
    with pytest.raises(InputError, match=r"val.en.gz: 2 lines, but val.de.gz has 1; expected one sentence a line"):
        translation.read_multi30k("en-de", folder, unchecked=True)
