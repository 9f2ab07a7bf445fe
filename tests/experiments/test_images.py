import gzip
import pathlib
import struct

import numpy as np
import pytest

from experiments.data import digits, mnist
from experiments.runs import InputError


def test_digits_are_split_by_label_without_overlap():
    images = digits.read_digits(seed=1)
    parts = (images.train, images.valid, images.test)
    for part in parts:
        assert part.images.dtype == np.uint8
        assert part.labels.dtype == np.int32
        assert part.images.shape == (len(part.labels), 8, 8)
    assert sum(len(part.labels) for part in parts) == 1797
    assert max(part.images.max() for part in parts) == 255
    for label in range(10):
        counts = [(part.labels == label).sum() for part in parts]
        assert np.abs(np.array(counts) - np.array([0.7, 0.1, 0.2]) * sum(counts)).max() < 1
    assert np.array_equal(images.test.images, digits.read_digits(seed=1).test.images)
    assert not np.array_equal(images.test.images, digits.read_digits(seed=2).test.images)


def test_every_place_is_in_one_part(rng: np.random.Generator):
    labels = rng.integers(0, 4, 101)
    parts = digits.stratified(labels, (0.5, 0.3, 0.2), seed=0)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(101))


def write_idx(path: pathlib.Path, values: np.ndarray):
    header = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(gzip.compress(header + values.astype(np.uint8).tobytes(), 1))


@pytest.fixture
def folder(tmp_path: pathlib.Path, rng: np.random.Generator) -> pathlib.Path:
    for prefix, count in (("train", 5007), ("t10k", 30)):
        labels = np.arange(count) % 10
        images = np.zeros((count, 28, 28))
        images[:, 3, 4] = labels
        images[:, 27, 27] = 255
        write_idx(tmp_path / f"{prefix}-images-idx3-ubyte.gz", images)
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte.gz", labels)
    return tmp_path


def test_mnist_is_read_from_a_folder(folder: pathlib.Path):
    images = mnist.read_mnist(folder, unchecked=True)
    assert [part.images.shape for part in images[:3]] == [(7, 28, 28), (5000, 28, 28), (30, 28, 28)]
    assert images.train.labels.tolist() == list(range(7))
    assert images.valid.labels[0] == 7
    for part in images[:3]:
        assert np.array_equal(part.images[:, 3, 4], part.labels)
        assert (part.images[:, 27, 27] == 255).all()
    assert "only 30 of the 10,000 test images" in images.source
    assert "only 5,007 of the 60,000 training images" in images.source
    assert images.name == f"{folder.name} (unchecked)"


def test_other_images_are_no_mnist_unless_asked_for(folder: pathlib.Path):
    with pytest.raises(InputError, match=r"train-images-idx3-ubyte.gz: truncated or altered: its 3,925,504 bytes"):
        mnist.read_mnist(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "begin with 00 00 08 01, got nothing"),
        (b"\0\0\x0d\x01" + b"\0" * 4, "begin with 00 00 08 01, got 00 00 0d 01"),
        (b"\0\0\x08\x01\0", "not an idx file"),
        (b"\0\0\x08\x01\0\0\0\x03ab", "2 bytes for 3 values: damaged"),
        (b"\0\0\x08\x01\0\0\0\x03abc", "3 labels for 30 images in t10k-images"),
        (b"\0\0\x08\x01\0\0\0\x1e" + b"\x0a" * 30, "labels from 0 to 9, got 28×28 and labels up to 10"),
    ],
)
def test_a_damaged_file_is_named(folder: pathlib.Path, content: bytes, message: str):
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(content))
    with pytest.raises(InputError, match=message) as caught:
        mnist.read_mnist(folder, unchecked=True)
    assert "t10k-" in str(caught.value)


def test_too_few_images_are_an_error(folder: pathlib.Path):
    write_idx(folder / "train-images-idx3-ubyte.gz", np.zeros((5000, 28, 28)))
    write_idx(folder / "train-labels-idx1-ubyte.gz", np.zeros(5000))
    with pytest.raises(InputError, match="5,000 training images; expected more than 5,000"):
        mnist.read_mnist(folder, unchecked=True)


def test_a_folder_without_the_files_names_their_addresses(tmp_path: pathlib.Path):
    with pytest.raises(InputError, match="expected a folder with train-images") as caught:
        mnist.read_mnist(tmp_path)
    assert str(caught.value).count(mnist.ADDRESS) == 4
