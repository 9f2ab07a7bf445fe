"""What the models of `experiments.transformer_or_rnn` show of themselves: see `experiments.specimens`.

RNNs read a text from its beginning to its end, the Transformer window by window, as it was trained to. The
Transformer has no gates and no state; its units are its outputs, before the readout.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import jaxrnn
from experiments import runs
from experiments.char_specimen import context, log_likelihoods, places_asked, questions_of
from experiments.contest_models import Contestant
from experiments.data.text import Vocabulary
from experiments.memory_specimen import copy_specimen
from experiments.specimens import Heads, Reading, Specimen, in_a_row, look_up, one_way
from experiments.text_features import Features
from jaxrnn.analysis import attention_weights

SHOWN = 48  # characters between which attention is shown


def text_specimen(
    words: str,
    model: Contestant,
    params: Any,
    vocabulary: Vocabulary,
    text: str,
    window: int,
    features: Callable[[str], Features],
) -> Specimen:
    """Return what a model shows on ``text``, read in windows where it is the Transformer.

    Args:
        words: the model and its data.
        model, params: embedding → layers → dense.
        vocabulary: of the characters.
        text: to read.
        window: characters of a sequence in training.
        features: what can be named of the characters.

    Raises:
        runs.InputError: a text shorter than a window of the Transformer.
    """
    table, head = params[0].table, params[-1]
    width = window if model.attends else len(text)
    if len(text) < width:
        raise runs.InputError(
            f"--steps: expected at least {width} characters, a window of the Transformer, got {len(text)}"
        )
    text = text[: len(text) // width * width]
    tokens = vocabulary.encode(text)
    units, state = units_of(model, params, look_up(table, tokens.reshape(-1, width).T))
    places = places_asked(text, log_likelihoods(units[state] @ np.asarray(head.kernel) + np.asarray(head.bias), tokens))
    asked = questions_of(reader_of(model, params), params[1:], table, tokens, text, places)
    heads = None
    if model.attends:
        read = context(places[0])
        heads = Heads(text[read][-SHOWN:], looking(model, params, tokens[read])[:, :, -SHOWN:, -SHOWN:])
    return Specimen(words, Reading(text, units, features(text), state), asked, heads=heads)


def copying_specimen(words: str, model: Contestant, params: Any, tokens: np.ndarray) -> Specimen:
    """Return what a model shows on the copy problem, on sequences of ``tokens [T, B]``."""
    table = params[0].table
    units, state = units_of(model, params, look_up(table, tokens))
    heads = looking(model, params, tokens[:, 0]) if model.attends else None
    return copy_specimen(words, reader_of(model, params), params[1:], table, units, state, tokens, heads)


def looking(model: Contestant, params: Any, tokens: np.ndarray) -> np.ndarray:
    """Return how much each of the tokens sees of each, ``[layers, heads, T, T]``."""
    weights = jax.jit(functools.partial(attention_weights, model.inner[0]))
    return np.asarray(weights(params[1], look_up(params[0].table, tokens)))


def reader_of(model: Contestant, params: Any) -> jaxrnn.Layer:
    """Return the model without its embedding."""
    layers = model.inner if model.attends else [jaxrnn.recurrent(cell) for cell in model.inner]
    return jaxrnn.serial(*layers, jaxrnn.dense(*params[-1].kernel.shape))


def units_of(model: Contestant, params: Any, xs: jax.Array) -> tuple[dict[str, np.ndarray], str]:
    """Return gates and states on ``xs [T, B, D]``, or the Transformer's outputs, and the name of the last ones."""
    if not model.attends:
        return one_way(model.inner, params[1:-1], xs), f"layer {len(model.inner)} h"
    _, ys = jax.jit(model.inner[0].apply)(params[1], xs)
    return {"output y": in_a_row(ys)}, "output y"
