"""Models with the same number of parameters: vanilla RNN, LSTM, GRU and the causal Transformer.

    embedding → recurrent × layers → dense        embedding → transformer → dense

An RNN's hidden size is the one whose number of parameters is nearest to the budget. The Transformer has the most
features with which four times as many units in its MLPs stay within the budget, and then as many units as bring it
nearest. Its positions are rotary, so that it has the same parameters for every context.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax

import jaxrnn
from experiments import runs

Kind = Literal["vanilla", "lstm", "gru", "transformer"]
NAMES = {"vanilla": "vanilla RNN", "lstm": "LSTM", "gru": "GRU", "transformer": "Transformer"}
CELLS = {"vanilla": jaxrnn.vanilla, "lstm": jaxrnn.lstm, "gru": jaxrnn.gru}
TOLERANCE = 0.02


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How large the models are."""

    parameters: int = 100_000
    """Parameters of each model, within 2 %."""
    embedding: int = 64
    """Size of the vector that stands for a token before an RNN; before the Transformer, its features."""
    recurrent_layers: int = 1
    """Recurrent layers of an RNN."""
    transformer_layers: int = 2
    """Layers of the Transformer."""
    heads: int = 4
    """Heads of its attention."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            runs.require(value >= 1, field.name, "at least 1", value)


class Contestant(NamedTuple):
    """A model of the size asked for.

    name: in words. sizes: in words. parameters: how many.
    layer: from tokens to logits, in training; the Transformer sees all steps of a window and has no state.
    within: the same model as a layer whose state holds that many steps at most; an RNN's holds what it holds.
    inner: what of the layer is between the embedding and the readout: the cells of an RNN, or the Transformer.
    attends: whether it is the Transformer.
    """

    name: str
    sizes: str
    parameters: int
    layer: jaxrnn.Layer
    within: Callable[[int], jaxrnn.Layer]
    inner: tuple[Any, ...]
    attends: bool


def contestant(kind: str, vocabulary: int, sizes: Sizes) -> Contestant:
    """Return the model of a kind for ``vocabulary`` tokens.

    Raises:
        runs.InputError: no size comes near enough to the parameters asked for.

    Example:
        >>> contestant("gru", 50, Sizes(parameters=30_000)).sizes
        '1 × 62'
        >>> contestant("transformer", 50, Sizes(parameters=30_000)).sizes
        '2 × 32, 4 heads, 138 units'
    """
    find = _transformer if kind == "transformer" else functools.partial(_recurrent, kind)
    found = find(vocabulary, sizes)
    if abs(found.parameters - sizes.parameters) > TOLERANCE * sizes.parameters:
        raise runs.InputError(
            f"--parameters {sizes.parameters:,}: the {found.name} for {vocabulary} tokens that comes nearest "
            f"({found.sizes}) has {found.parameters:,}, which is more than {TOLERANCE:.0%} off; give another number"
        )
    return found


def count(layer: jaxrnn.Layer) -> int:
    """Return how many numbers a layer's parameters are."""
    return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(layer.init, jax.random.key(0))))


def _recurrent(kind: str, vocabulary: int, sizes: Sizes) -> Contestant:
    def cells(hidden: int) -> tuple[jaxrnn.Cell, ...]:
        inputs = [sizes.embedding] + [hidden] * (sizes.recurrent_layers - 1)
        return tuple(CELLS[kind](size, hidden) for size in inputs)

    def build(hidden: int) -> jaxrnn.Layer:
        layers = map(jaxrnn.recurrent, cells(hidden))
        return jaxrnn.serial(jaxrnn.embedding(vocabulary, sizes.embedding), *layers, jaxrnn.dense(hidden, vocabulary))

    hidden = max(1, round(_size(lambda hidden: count(build(hidden)), sizes.parameters)))
    layer = build(hidden)
    return Contestant(
        NAMES[kind],
        f"{sizes.recurrent_layers} × {hidden}",
        count(layer),
        layer,
        within=lambda context: layer,
        inner=cells(hidden),
        attends=False,
    )


def _transformer(vocabulary: int, sizes: Sizes) -> Contestant:
    def attending(features: int, units: int, context: int | None = None) -> jaxrnn.Layer:
        return jaxrnn.transformer(features, sizes.heads, sizes.transformer_layers, feedforward=units, context=context)

    def build(features: int, units: int, context: int | None = None) -> jaxrnn.Layer:
        layer = attending(features, units, context)
        return jaxrnn.serial(jaxrnn.embedding(vocabulary, features), layer, jaxrnn.dense(features, vocabulary))

    pairs = 2 * sizes.heads  # rotary positions turn pairs of a head's features
    features = pairs * max(1, int(_size(lambda n: count(build(pairs * n, 4 * pairs * n)), sizes.parameters)))
    units = max(1, round(_size(lambda units: count(build(features, units)), sizes.parameters)))
    layer = build(features, units)
    return Contestant(
        NAMES["transformer"],
        f"{sizes.transformer_layers} × {features}, {sizes.heads} heads, {units} units",
        count(layer),
        layer,
        within=functools.cache(lambda context: build(features, units, context)),
        inner=(attending(features, units),),
        attends=True,
    )


def _size(parameters: Callable[[int], int], budget: int) -> float:
    """Return the n at which ``parameters(n) = a n² + b n + c`` is ``budget``; 0 where even c is more."""
    one, two, three = parameters(1), parameters(2), parameters(3)
    a = (three - 2 * two + one) / 2
    b = two - one - 3 * a
    left = max(0.0, budget - (one - a - b))
    return 2 * left / (b + math.sqrt(b * b + 4 * a * left))
