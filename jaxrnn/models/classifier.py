"""A sequence classifier: logits = dropout(pool(encoder(xs))) W + b."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.attention import additive
from jaxrnn.layers.bidirectional import Directions
from jaxrnn.layers.dense import DenseParams, dense
from jaxrnn.layers.dropout import dropout as dropout_layer
from jaxrnn.layers.serial import keys_of
from jaxrnn.models import pooling as pool
from jaxrnn.steps import valid_steps
from jaxrnn.types import Array, Layer, Params, Spec, recorded

POOLINGS: dict[str, Callable[[Array, Array], Array]] = {
    "last": pool.last,
    "ends": pool.ends,
    "mean": pool.mean,
    "max": pool.maximum,
}


class ClassifierParams(NamedTuple):
    """Parameters of `classifier`: of the encoder, of the pooling by attention (else ``()``), of the head."""

    encoder: Params
    pooling: Params
    head: DenseParams


class Classifier(NamedTuple):
    """One answer to a whole sequence.

    init: ``(key) -> params``.
    apply: ``(params, xs, *, lengths=None, mask=None, key=None) -> logits [*B, classes]``.
    weights: ``(params, xs, *, lengths=None, mask=None, key=None) -> weights [T', *B]``, how much each of the
        encoder's T' outputs counts; None unless it pools by attention.
    spec: the call that made the model.
    """

    init: Callable[..., ClassifierParams]
    apply: Callable[..., Array]
    weights: Callable[..., Array] | None = None
    spec: Spec | None = None


@recorded
def classifier(
    encoder: Layer,
    features: int,
    classes: int,
    *,
    pooling: str = "last",
    attention_size: int | None = None,
    dropout: float = 0.0,
    dtype: Any = jnp.float32,
) -> Classifier:
    """Return the model logits = pool(encoder(xs)) W + b, one row for each sequence.

    Pooling sees the valid outputs h_t of the encoder:

    - "last": h at the last step, which has seen the whole sequence where the encoder runs forward.
    - "ends": the first half of the features at the last step, the other half at the first step. It is
      what "last" means for `jaxrnn.bidirectional` and ``stacked(bidirectional=True)``, whose outputs are
      [→h_t, ←h_t]: at the last step →h has seen the whole sequence, but ←h only that one step.
    - "mean", "max": over all steps.
    - "attention": Σ_t w_t h_t, w = softmax(u · tanh(h_t W_k + b)).

    A sequence without a valid step is pooled to zero, and its logits are b.

    A label for every step needs no model of its own: ``serial(encoder, dense(features, classes))``,
    and `Layer.output_steps` of it for the mask of the loss.

    Args:
        encoder: a `Layer` from ``xs`` to ``[T', *B, features]``.
        features: F, those of the encoder's outputs.
        classes: how many.
        pooling: one of the above.
        attention_size: the units of the hidden layer that scores, for "attention" only; F unless given.
        dropout: the share of the pooled features that are dropped, where a key is given.
        dtype: of the parameters that are not the encoder's.

    Raises:
        ValueError: a size below 1, an unknown pooling; "last" of a bidirectional encoder; "ends" of an odd
            number of features.
        TypeError: an argument of the wrong type.

    Source: max pooling, Collobert et al., "Natural Language Processing (Almost) from Scratch" (2011); attention,
    Yang et al., "Hierarchical Attention Networks for Document Classification" (2016).

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> model = jaxrnn.models.classifier(jaxrnn.recurrent(jaxrnn.gru(3, 4)), 4, 5, pooling="attention")
        >>> params, xs = model.init(jax.random.key(0)), jnp.ones((7, 2, 3))
        >>> weights = jax.jit(model.weights)(params, xs, lengths=jnp.array([7, 0]))
        >>> weights.shape, weights.sum(axis=0).round(3).tolist()
        ((7, 2), [1.0, 0.0])
        >>> jax.eval_shape(model.apply, params, xs).shape
        (2, 5)
    """
    checks.layer("encoder", encoder)
    checks.size("features", features)
    checks.size("classes", classes)
    checks.choice("pooling", pooling, (*POOLINGS, "attention"))
    if pooling == "last" and _reads_both_ways(encoder):
        raise ValueError(
            'pooling: expected "ends", "mean", "max" or "attention" for a bidirectional encoder, got "last", '
            "at which the backward layer has seen one step"
        )
    if pooling == "ends" and features % 2:
        raise ValueError(f'pooling: expected an even number of features for "ends", got {features}')
    if attention_size is not None:
        checks.size("attention_size", attention_size)
        if pooling != "attention":
            raise ValueError(f"attention_size: expected None for pooling {pooling!r}, got {attention_size}")
    checks.rate("dropout", dropout)
    checks.floating(dtype=dtype)
    drop, head = dropout_layer(dropout), dense(features, classes, dtype=dtype)
    # A query that is always 1 makes of its kernel W_q the bias b.
    attention = additive(1, features, attention_size or features, dtype=dtype)
    call = f"classifier(…, {features}, {classes})"

    def init(key: Array) -> ClassifierParams:
        checks.key("key", key)
        encoder_key, pooling_key, head_key = jax.random.split(key, 3)
        pooling_params = attention.init(pooling_key) if pooling == "attention" else ()
        return ClassifierParams(encoder.init(encoder_key), pooling_params, head.init(head_key))

    def encode(params: ClassifierParams, xs: Any, lengths: Any, mask: Any, key: Array | None) -> tuple[Array, Array]:
        """Return the encoder's outputs and which of them are valid."""
        _check(params, call)
        _, ys = encoder.apply(params.encoder, xs, lengths=lengths, mask=mask, key=key)
        checks.features("encoder: its output", ys, features, params.head.kernel.dtype, call)
        time, *batch = ys.shape[:-1]
        lengths, mask, _ = encoder.output_steps(lengths, mask)
        valid = valid_steps(time, tuple(batch), lengths, mask)
        return ys, jnp.ones((time, *batch), bool) if valid is None else valid

    def attend(params: ClassifierParams, ys: Array, valid: Array) -> tuple[Array, Array]:
        memory = attention.prepare(params.pooling, ys, mask=valid)
        return attention.attend(params.pooling, memory, jnp.ones((*ys.shape[1:-1], 1), ys.dtype))

    def apply(
        params: ClassifierParams, xs: Any, *, lengths: Any = None, mask: Any = None, key: Array | None = None
    ) -> Array:
        encoder_key, drop_key = keys_of(key, 2)
        ys, valid = encode(params, xs, lengths, mask, encoder_key)
        pooled = attend(params, ys, valid)[0] if pooling == "attention" else POOLINGS[pooling](ys, valid)
        _, dropped = drop.apply((), pooled[None], key=drop_key)
        return head.apply(params.head, dropped)[1][0]

    def weights(
        params: ClassifierParams, xs: Any, *, lengths: Any = None, mask: Any = None, key: Array | None = None
    ) -> Array:
        encoder_key, _ = keys_of(key, 2)
        return jnp.moveaxis(attend(params, *encode(params, xs, lengths, mask, encoder_key))[1], -1, 0)

    return Classifier(init, apply, weights if pooling == "attention" else None)


def _reads_both_ways(encoder: Layer) -> bool:
    """Whether the encoder, or the last layer in it that has a state, is a `jaxrnn.bidirectional`."""
    carry = jax.eval_shape(lambda: encoder.initial_carry(encoder.init(jax.random.key(0))))
    while type(carry) is tuple and jax.tree.leaves(carry):
        carry = [child for child in carry if jax.tree.leaves(child)][-1]
    return isinstance(carry, Directions)


def _check(params: Any, call: str) -> None:
    if not isinstance(params, ClassifierParams):
        raise TypeError(f"params: expected the ClassifierParams of {call}, got {type(params).__name__}")
    if not isinstance(params.head, DenseParams):
        raise TypeError(f"params.head: expected the DenseParams of {call}, got {type(params.head).__name__}")
