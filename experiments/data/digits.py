"""Small images of digits, 8×8, as scikit-learn ships them: the data of the image experiments without a download."""

from typing import NamedTuple

import numpy as np
import sklearn.datasets


class Part(NamedTuple):
    """``images``, uint8 ``[N, H, W]`` from 0 to 255, and their ``labels``, int32 ``[N]``."""

    images: np.ndarray
    labels: np.ndarray


class Images(NamedTuple):
    """Three parts of a data set, what it is in a few words, and where it comes from in many."""

    train: Part
    valid: Part
    test: Part
    name: str
    source: str


def read_digits(seed: int = 0, valid_share: float = 0.1, test_share: float = 0.2) -> Images:
    """Return scikit-learn's 1,797 digits, 0 to 9, of 8×8 pixels, each label split in the same shares.

    There, pixels are from 0 to 16; here 16 is made 255. Writers are not told in these data, so the same hand
    may be on both sides of the split.

    Example:
        >>> images = read_digits()
        >>> images.train.images.shape, images.valid.images.shape, images.test.images.shape
        ((1258, 8, 8), (180, 8, 8), (359, 8, 8))
    """
    pixels, labels = sklearn.datasets.load_digits(return_X_y=True)
    images, labels = np.round(pixels.reshape(-1, 8, 8) * 255 / 16).astype(np.uint8), labels.astype(np.int32)
    places = stratified(labels, (1 - valid_share - test_share, valid_share, test_share), seed)
    train, valid, test = (Part(images[part], labels[part]) for part in places)
    source = (
        "shipped with scikit-learn (the test part of UCI's optical recognition of handwritten digits), "
        f"split by label with seed {seed}"
    )
    return Images(train, valid, test, "8×8 digits", source)


def stratified(labels: np.ndarray, shares: tuple[float, ...], seed: int) -> list[np.ndarray]:
    """Return the places of each part, in ascending order; of every label, each part gets its share, rounded.

    Example:
        >>> [part.tolist() for part in stratified(np.array([0, 1, 0, 1, 0, 1]), (2 / 3, 1 / 3), seed=0)]
        [[0, 3, 4, 5], [1, 2]]
    """
    random = np.random.default_rng(seed)
    dealt = np.empty(len(labels), int)
    for label in np.unique(labels):
        places = random.permutation(np.flatnonzero(labels == label))
        cuts = np.round(np.cumsum(shares[:-1]) * len(places)).astype(int)
        for part, chosen in enumerate(np.split(places, cuts)):
            dealt[chosen] = part
    return [np.flatnonzero(dealt == part) for part in range(len(shares))]
