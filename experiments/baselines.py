"""What models of sequences are compared with: the commonest label, and words counted without their order."""

from collections.abc import Sequence

import numpy as np


def majority(train_labels: np.ndarray, test_labels: np.ndarray) -> float:
    """Return the accuracy of always answering the commonest label of the training data.

    Example:
        >>> majority(np.array([0, 1, 1]), np.array([1, 0, 0, 0]))
        0.25
    """
    return float(np.mean(test_labels == np.bincount(train_labels).argmax()))


def naive_bayes(
    train_texts: Sequence[str], train_labels: np.ndarray, test_texts: Sequence[str], test_labels: np.ndarray
) -> float:
    """Return the accuracy of multinomial naive Bayes over the words of a text, split at spaces, each counted once.

    With c(w, y) the number of training texts of label y that have the word w, and V words in all,

        ln P(y | text) = ln P(y) + Σ_w ln (c(w, y) + 1) / (Σ_v c(v, y) + V) + const

    over the different words of the text that the training texts have. That a word occurs says more of a
    review than how often it does: Pang, Lee and Vaithyanathan, "Thumbs up? Sentiment Classification using
    Machine Learning Techniques" (2002).

    Example:
        >>> naive_bayes(["good good film", "bad film"], np.array([1, 0]), ["a good one", "bad"], np.array([1, 0]))
        1.0
    """
    places = {word: place for place, word in enumerate(sorted({word for text in train_texts for word in text.split()}))}
    labels = int(max(train_labels)) + 1
    counts = np.ones((len(places), labels))
    for text, label in zip(train_texts, train_labels, strict=True):
        counts[[places[word] for word in set(text.split())], label] += 1
    log_words = np.log(counts / counts.sum(0))
    log_prior = np.log(np.bincount(train_labels, minlength=labels) / len(train_labels))
    known = ([places[word] for word in set(text.split()) if word in places] for text in test_texts)
    guesses = np.array([(log_prior + log_words[words].sum(0)).argmax() for words in known])
    return float(np.mean(guesses == test_labels))
