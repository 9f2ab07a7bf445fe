"""MNIST: handwritten digits of 28×28 pixels, in the four files of the original distribution.

The last 5,000 of the 60,000 training images are for validation. A local copy may hold the first 3,000
of the 10,000 test images alone, the easier part; any other must be taken unchecked. Where there are fewer
images than in the original, `Images.source` says so.

Source: LeCun, Cortes and Burges, "The MNIST database of handwritten digits" (1998).
"""

import math
import pathlib

import numpy as np

from experiments.data.digits import Images, Part
from experiments.data.fetching import Remote, fetch_all, name_of, read_bytes
from experiments.runs import InputError

ADDRESS = "https://ossci-datasets.s3.amazonaws.com/mnist/"
CHECKSUMS = {  # of the file; of what it holds, and of its first 3,000 images or labels
    "train-images-idx3-ubyte.gz": ("f68b3c2dcbeaaa9fbdd348bbdeb94873", "6bbc9ace898e44ae57da46a324031adb"),
    "train-labels-idx1-ubyte.gz": ("d53e105ee54ea40749a09fcbcd1e9432", "a25bea736e30d166cdddb491f175f624"),
    "t10k-images-idx3-ubyte.gz": (
        "9fb629c4189551a2d022fa330f9573f3", "2646ac647ad5339dbf082846283269ea", "156bb14eff8fdd0d1f308c19620a2718",
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "ec29112dd5afa0611ce80d1b7f02629c", "27ae3e4e09519cfbb04c329615203637", "896660d3aeb5907f0cad1295f3c4ba1f",
    ),
}  # fmt: skip
FILES = {
    name: Remote(ADDRESS + name, f"md5:{checksum}", tuple(f"md5:{content}" for content in contents))
    for name, (checksum, *contents) in CHECKSUMS.items()
}
TRAIN, VALID, TEST = 60_000, 5_000, 10_000


def read_mnist(data: pathlib.Path | None = None, *, unchecked: bool = False) -> Images:
    """Return MNIST from the folder ``data``, or else downloaded; ``unchecked``, ``data`` may hold other images.

    Raises:
        InputError: files that are missing, damaged, altered, no idx files or do not fit together, see `fetch_all`.
    """
    paths = fetch_all("mnist", FILES, data, unchecked=unchecked)
    train, test = (_read_part(paths, prefix) for prefix in ("train", "t10k"))
    if len(train.labels) <= VALID:
        raise InputError(f"--data {data}: {len(train.labels):,} training images; expected more than {VALID:,}")
    source = f"{ADDRESS if data is None else data}, the last {VALID:,} training images for validation"
    for part, words, count in ((train, "training", TRAIN), (test, "test", TEST)):
        if len(part.labels) != count:
            source += (
                f"; only {len(part.labels):,} of the {count:,} {words} images, not comparable with published figures"
            )
    cut = len(train.labels) - VALID
    name = name_of("MNIST", data, unchecked=unchecked)
    return Images(Part(*(x[:cut] for x in train)), Part(*(x[cut:] for x in train)), test, name, source)


def _read_part(paths: dict[str, pathlib.Path], prefix: str) -> Part:
    """Return the images and labels of one pair of files."""
    images_path, labels_path = (paths[f"{prefix}-{kind}-ubyte.gz"] for kind in ("images-idx3", "labels-idx1"))
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if len(images) != len(labels):
        raise InputError(
            f"--data {labels_path}: {len(labels):,} labels for {len(images):,} images in {images_path.name}"
        )
    if images.shape[1:] != (28, 28) or labels.max(initial=0) > 9:
        raise InputError(
            f"--data {images_path}: expected images of 28×28 and labels from 0 to 9, got "
            f"{images.shape[1]}×{images.shape[2]} and labels up to {labels.max(initial=0)}"
        )
    return Part(images, labels.astype(np.int32))


def read_idx(path: pathlib.Path, rank: int) -> np.ndarray:
    """Return the array of an idx file of bytes: two zeros, the type 8, the rank, a size for each axis, the values.

    Raises:
        InputError: another header, or not as many values as it says.
    """
    content = read_bytes(path)
    expected = bytes((0, 0, 8, rank))
    if content[:4] != expected or len(content) < 4 + 4 * rank:
        raise InputError(
            f"--data {path}: not an idx file of bytes with {rank} axes: expected it to begin with "
            f"{expected.hex(' ')}, got {content[:4].hex(' ') or 'nothing'}"
        )
    shape = tuple(np.frombuffer(content, ">u4", rank, offset=4).tolist())
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * rank)
    if len(values) != math.prod(shape):
        sizes = "×".join(map(str, shape))
        raise InputError(f"--data {path}: {len(values):,} bytes for {sizes} values: damaged; get it anew")
    return values.reshape(shape)
