import hashlib
import pathlib

import numpy as np
import pytest

from experiments.data import streams, text
from experiments.runs import InputError


def test_a_file_is_split_at_nine_tenths(tmp_path: pathlib.Path):
    whole = "äbc\n" * 500
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xef\xbb\xbf" + whole.replace("\n", "\r\n").encode())
    corpus = text.read_text(path)
    assert (corpus.train, corpus.valid) == (whole[:1800], whole[1800:])
    assert str(path) in corpus.source


def test_a_known_text_has_its_name_wherever_it_lies(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    whole = "First Citizen:\n" * 100
    monkeypatch.setattr(text, "TINYSHAKESPEARE_SHA256", hashlib.sha256(whole.encode()).hexdigest())
    (tmp_path / "input.txt").write_text(whole)
    assert text.read_text(tmp_path / "input.txt").name == "tinyshakespeare.txt"
    path = tmp_path / "tinyshakespeare.txt"
    path.write_bytes(whole.replace("\n", "\r\n").encode())
    assert text.read_text(path).name == "tinyshakespeare.txt"
    path.write_text(whole[:-16])
    with pytest.raises(InputError, match=r"its 1,484 characters are not the text .*input.txt, or give it another name"):
        text.read_text(path)
    assert text.read_text(path.rename(tmp_path / "mine.txt")).name == "mine.txt"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"cannot be read \(No such file or directory\)"),
        (b"", "0 characters are too few"),
        (b"abc", "3 characters are too few; give a text of 1,000 or more"),
        (b"a" * 2000 + "é".encode("latin-1") + b"a" * 2000, r"not UTF-8 text \(byte 2,000 is 0xe9\).*iconv -f latin1"),
        (b"a" * 2000 + b"\0" + b"a" * 2000, "binary or damaged"),
    ],
)
def test_a_bad_file_is_named_with_what_to_do(tmp_path: pathlib.Path, content: bytes | None, message: str):
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        text.read_text(path)
    assert f"--data {path}" in str(caught.value)


def test_a_folder_is_no_text(tmp_path: pathlib.Path):
    with pytest.raises(InputError, match="cannot be read"):
        text.read_text(tmp_path)


@pytest.fixture
def library(tmp_path: pathlib.Path) -> pathlib.Path:
    for index in range(40):
        folder = tmp_path / ("package" if index % 2 else ".")
        folder.mkdir(exist_ok=True)
        (folder / f"module{index}.py").write_text(f"# module {index:02}\n" + "x = 1\n" * 100)
    for name in ("test/test_it.py", "package/tests/a.py", "site-packages/b.py", "_sysconfigdata_x.py", "config-3/c.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text("left out\n" * 500)
    (tmp_path / "latin.py").write_bytes("# é left out\n".encode("latin-1"))
    (tmp_path / "notes.txt").write_text("left out")
    return tmp_path


def modules(part: str) -> list[int]:
    return [int(line.split()[-1]) for line in part.splitlines() if line.startswith("# module")]


def test_the_library_is_split_by_files(library: pathlib.Path):
    corpus = text.read_standard_library(10**9, library, valid_share=0.1)
    train, valid = modules(corpus.train), modules(corpus.valid)
    assert sorted(train + valid) == list(range(40))
    assert len(valid) == 4
    assert "left out" not in corpus.train + corpus.valid
    assert "36 files for training and 4 for validation, of 40" in corpus.source
    assert text.read_standard_library(10**9, library, valid_share=0.1) == corpus


def test_the_library_is_cut_to_whole_files(library: pathlib.Path):
    size = len("# module 00\n" + "x = 1\n" * 100)
    corpus = text.read_standard_library(10 * size + 5, library, valid_share=0.1)
    assert (len(corpus.train), len(corpus.valid)) == (10 * size, 2 * size)
    assert not set(modules(corpus.train)) & set(modules(corpus.valid))


def test_a_library_without_source_is_an_error(tmp_path: pathlib.Path):
    with pytest.raises(InputError, match="--data FILE"):
        text.read_standard_library(1000, tmp_path)


def test_too_few_characters_for_a_file_are_an_error(library: pathlib.Path):
    with pytest.raises(InputError, match="--characters 100: too few"):
        text.read_standard_library(100, library)


def test_the_running_interpreter_has_a_library():
    corpus = text.read_standard_library(100_000)
    assert 80_000 < len(corpus.train) <= 100_000
    assert len(corpus.valid) >= 5_000
    assert "import " in corpus.train


def test_encoding_is_undone_by_decoding():
    vocabulary = text.vocabulary_of("hello, wörld\n日本 🙂")
    again = vocabulary.decode(vocabulary.encode("🙂 hörd 日\n"))
    assert again == "🙂 hörd 日\n"
    assert list(vocabulary.characters) == sorted(set("hello, wörld\n日本 🙂"))


def test_unseen_characters_share_the_last_token():
    vocabulary = text.vocabulary_of("bd")
    tokens = vocabulary.encode("abcde\U0010ffff")
    assert tokens.dtype == np.int32
    assert tokens.tolist() == [2, 0, 2, 1, 2, 2]
    assert vocabulary.size == 3
    assert vocabulary.decode(tokens) == "�b�d��"


@pytest.mark.parametrize(("count", "batch", "window"), [(13, 2, 3), (100, 3, 7), (101, 1, 5), (64, 4, 5)])
def test_each_stream_continues_in_the_next(count: int, batch: int, window: int):
    begins = set()
    for epoch in range(30):
        laid = streams.training_streams(np.arange(count), epoch, batch, window, seed=1)
        per_epoch = streams.windows_per_epoch(count, batch, window)
        assert laid.shape == (per_epoch * window + 1, batch)
        targets = laid[1:].T.ravel()
        assert np.array_equal(targets, np.arange(targets[0], targets[0] + targets.size))
        assert np.array_equal(laid[:-1].T.ravel(), targets - 1)
        assert laid.max() < count
        assert count - 1 - targets.size < batch * window
        begins.add(int(laid[0, 0]))
    spare = count - 1 - per_epoch * window * batch
    assert begins <= set(range(spare + 1))
    assert (len(begins) > 1) == (spare > 0)


@pytest.mark.parametrize(("count", "batch", "window"), [(12, 2, 3), (13, 2, 3), (5, 4, 3), (3, 4, 2), (100, 7, 4)])
def test_an_evaluation_sees_every_token_once(count: int, batch: int, window: int):
    tokens = np.arange(10, 10 + count)
    inputs, targets, mask = streams.evaluation_windows(tokens, 9, batch, window)
    assert inputs.shape == targets.shape == mask.shape == (inputs.shape[0], window, batch)
    assert sorted(targets[mask].tolist()) == tokens.tolist()
    assert np.array_equal(inputs[mask] + 1, targets[mask])
    # Streams are contiguous: along time, windows in order, each target follows the one before.
    for targets_of_stream, mask_of_stream in zip(
        targets.transpose(2, 0, 1).reshape(batch, -1), mask.transpose(2, 0, 1).reshape(batch, -1), strict=True
    ):
        assert (np.diff(targets_of_stream[mask_of_stream]) == 1).all()
        assert (np.diff(mask_of_stream.astype(int)) <= 0).all()
