"""Floors for character models: n-grams with Witten-Bell smoothing, and a general-purpose compressor.

With c(h, w) the number of times that w follows the context h in the training text, c(h) its sum over
w, and T(h) the number of different w that follow h, interpolated Witten-Bell smoothing is

    P_n(w | h) = (c(h, w) + T(h) P_{n-1}(w | h')) / (c(h) + T(h))

where h has n - 1 characters, h' is h without its first, and P_0 is uniform over the vocabulary. A
context that the training text does not have leaves P_{n-1} as it is.

Source: Witten and Bell, "The Zero-Frequency Problem" (1991); Chen and Goodman, "An Empirical Study of
Smoothing Techniques for Language Modeling" (1998).
"""

import lzma
import math

import numpy as np


def witten_bell(train: np.ndarray, valid: np.ndarray, vocabulary: int, order: int) -> list[float]:
    """Return the cross-entropy on ``valid`` of the n-gram models of order 1 to ``order``, in nats per token.

    Every token of ``valid`` counts. The first ones, whose context is not complete, are predicted from
    the context there is.

    Args:
        train, valid: tokens, integers ``[T]`` from 0 to ``vocabulary`` - 1.
        vocabulary: how many tokens there are.
        order: n, the tokens of a context and the one that follows.

    Example:
        >>> [round(loss, 3) for loss in witten_bell(np.array([0, 1] * 50), np.array([0, 1, 0, 1]), 2, 2)]
        [0.693, 0.181]
    """
    train, valid = np.asarray(train, np.int64), np.asarray(valid, np.int64)
    probabilities = np.full(len(valid), 1 / vocabulary)
    losses = []
    # Keys of the contexts that end before each token; all contexts of length 0 are one.
    contexts, valid_contexts, keys = np.zeros_like(train), np.zeros_like(valid), 1
    for length in range(order):
        if keys * vocabulary > np.iinfo(np.int64).max:
            contexts, valid_contexts, keys = _renumber(contexts, valid_contexts)
        grams = contexts * vocabulary + train[length:]
        valid_grams = valid_contexts * vocabulary + valid[length:]
        keys *= vocabulary

        kinds, counts = np.unique(grams, return_counts=True)
        context_kinds, starts, followers = np.unique(kinds // vocabulary, return_index=True, return_counts=True)
        context_counts = np.add.reduceat(counts, starts)

        count = _look_up(kinds, counts, valid_grams)
        context_count = _look_up(context_kinds, context_counts, valid_contexts)
        different = _look_up(context_kinds, followers, valid_contexts)
        seen = context_count > 0
        shorter = probabilities[length:]
        mixed = (count + different * shorter) / np.where(seen, context_count + different, 1)
        probabilities[length:] = np.where(seen, mixed, shorter)
        losses.append(float(-np.mean(np.log(probabilities))))
        contexts, valid_contexts = grams[:-1], valid_grams[:-1]
    return losses


def lzma_loss(train: str, valid: str) -> float:
    """Return what ``valid`` adds to the compressed size of ``train``, in nats per character.

    The compressor is LZMA with a dictionary that holds both texts: size(train + valid) - size(train).
    """
    head, tail = train.encode(errors="surrogatepass"), valid.encode(errors="surrogatepass")
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": max(4096, len(head) + len(tail))}]

    def size(text: bytes) -> int:
        return len(lzma.compress(text, format=lzma.FORMAT_RAW, filters=filters))

    return (size(head + tail) - size(head)) * 8 * math.log(2) / len(valid)


def _look_up(kinds: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the value of each ``wanted`` key, 0 for keys that are not among the sorted ``kinds``."""
    places = np.minimum(np.searchsorted(kinds, wanted), len(kinds) - 1)
    return np.where(kinds[places] == wanted, values[places], 0)


def _renumber(contexts: np.ndarray, valid_contexts: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Return both with small keys, one number for all contexts that the training text does not have."""
    kinds, numbers = np.unique(contexts, return_inverse=True)
    return numbers, _look_up(kinds, np.arange(len(kinds)) - len(kinds), valid_contexts) + len(kinds), len(kinds) + 1
