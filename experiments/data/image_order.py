"""Images as sequences: by rows, by pixels, or by pixels in an order drawn once for all images."""

from typing import Any, NamedTuple

import numpy as np

PERMUTATION_SEED = 0


class Order(NamedTuple):
    """How images become sequences, and sequences images.

    height, width: of an image. features: pixels that a step reads. places: of the pixels, in the order of reading.
    mean, deviation: of the training pixels.
    """

    height: int
    width: int
    features: int
    places: np.ndarray
    mean: float
    deviation: float

    @classmethod
    def of(cls, images: np.ndarray, order: str) -> "Order":
        """Return the order "rows", "pixels" or "permuted" for images like these for training, ``[N, H, W]``."""
        _, height, width = images.shape
        places = np.arange(height * width)
        if order == "permuted":
            places = np.random.default_rng(PERMUTATION_SEED).permutation(places)
        features = width if order == "rows" else 1
        return cls(height, width, features, places, float(images.mean()), float(images.std()))

    @property
    def steps(self) -> int:
        """The length of a sequence."""
        return len(self.places) // self.features

    def sequences(self, images: np.ndarray) -> np.ndarray:
        """Return ``images [N, H, W]`` as ``xs [T, N, D]``, float32, standardised."""
        pixels = (images.reshape(len(images), -1)[:, self.places].astype(np.float32) - self.mean) / self.deviation
        return np.ascontiguousarray(pixels.reshape(len(images), self.steps, self.features).swapaxes(0, 1))

    def pictures(self, xs: Any) -> np.ndarray:
        """Return what belongs to ``xs [T, N, D]`` where the pixels are, ``[N, H, W]``."""
        read = np.asarray(xs).swapaxes(0, 1).reshape(-1, len(self.places))
        pixels = np.empty_like(read)
        pixels[:, self.places] = read
        return pixels.reshape(-1, self.height, self.width)


def shrink(images: np.ndarray, by: int) -> np.ndarray:
    """Return the means of squares of ``by × by`` pixels of ``images [N, H, W]``.

    Example:
        >>> shrink(np.array([[[0, 2, 4, 4], [0, 2, 4, 8]]]), 2).tolist()
        [[[1.0, 5.0]]]
    """
    if by == 1:
        return images
    count, height, width = images.shape
    return images.reshape(count, height // by, by, width // by, by).mean(axis=(2, 4), dtype=np.float32)
