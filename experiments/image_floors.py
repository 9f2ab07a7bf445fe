"""What images of digits are classified by without a network: the floor and two baselines, on the same split."""

import pathlib

import numpy as np

from experiments import runs
from experiments.data.digits import Part


def floors_of(path: pathlib.Path, train: Part, test: Part) -> dict[str, float]:
    """Return the test accuracies of the methods without a network, from a file once they are known."""
    if not path.exists():
        methods = {"majority": majority, "nearest centroid": nearest_centroid, "nearest neighbour": nearest_neighbour}
        accuracies = {
            name: float((method(train, test.images) == test.labels).mean()) for name, method in methods.items()
        }
        runs.write_json(path, accuracies)
    return runs.read_json(path)


def majority(train: Part, images: np.ndarray) -> np.ndarray:
    """Return the most frequent label, for each image.

    Example:
        >>> majority(Part(np.zeros((3, 1, 1)), np.array([1, 2, 2])), np.zeros((2, 1, 1))).tolist()
        [2, 2]
    """
    return np.full(len(images), np.bincount(train.labels).argmax())


def nearest_centroid(train: Part, images: np.ndarray) -> np.ndarray:
    """Return, for each image, the label whose mean image is the nearest, by Euclidean distance.

    Example:
        >>> train = Part(np.array([[[0.0]], [[4.0]], [[9.0]]]), np.array([0, 0, 1]))
        >>> nearest_centroid(train, np.array([[[5.0]], [[6.0]]])).tolist()
        [0, 1]
    """
    labels = np.unique(train.labels)
    centroids = np.stack([train.images[train.labels == label].mean(axis=0) for label in labels])
    return labels[_nearest(_flat(centroids), _flat(images))]


def nearest_neighbour(train: Part, images: np.ndarray) -> np.ndarray:
    """Return, for each image, the label of the nearest training image, by Euclidean distance.

    Example:
        >>> train = Part(np.array([[[0.0]], [[4.0]], [[9.0]]]), np.array([0, 0, 1]))
        >>> nearest_neighbour(train, np.array([[[6.0]], [[7.0]]])).tolist()
        [0, 1]
    """
    return train.labels[_nearest(_flat(train.images), _flat(images))]


def _flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float32)


def _nearest(known: np.ndarray, points: np.ndarray, chunk: int = 500) -> np.ndarray:
    """Return the place in ``known [N, K]`` of the nearest to each of ``points [M, K]``: least |k|² - 2 k·p."""
    squares = (known * known).sum(axis=1)
    chunks = (points[begin : begin + chunk] for begin in range(0, len(points), chunk))
    return np.concatenate([(squares[None, :] - 2 * part @ known.T).argmin(axis=1) for part in chunks])
