"""A language model: the next token from those before it, with one matrix for tokens read and written.

    x_t = E[token_t],   h_t = layer(x_1 … x_t),   logits_t = h_t P Eᵀ + b

P makes of the H features of h the D features of a row of E, and is left out where they are as many.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn import initializers as init_with
from jaxrnn.layers.dense import DenseParams, dense
from jaxrnn.layers.dropout import dropout as dropout_layer
from jaxrnn.layers.embedding import EmbeddingParams, embedding
from jaxrnn.layers.serial import serial
from jaxrnn.layers.stacked import output_size
from jaxrnn.types import Array, Carry, Layer, Params, recorded


class LanguageModelParams(NamedTuple):
    """Parameters of `language_model`.

    embedding: E ``[V, D]``.
    layer: those of the layer.
    projection: P ``[H, D]``, or None.
    output: ``kernel [H, V]``, None where it is Eᵀ, and ``bias [V]``.
    """

    embedding: EmbeddingParams
    layer: Params
    projection: DenseParams | None
    output: DenseParams


@recorded
def language_model(
    vocabulary: int,
    size: int,
    layer: Layer,
    *,
    tied: bool = True,
    dropout: float = 0.0,
    table_init: init_with.Initializer | None = None,
    kernel_init: init_with.Initializer = init_with.fan_in(),
    dtype: Any = jnp.float32,
) -> Layer:
    """Return the `Layer` from tokens to logits of the next, logits_t = layer(E[tokens])_t P Eᵀ + b.

    It is `jaxrnn.serial` of `embedding`, `dropout`, ``layer``, `dropout` and `dense`, whose kernel is
    Eᵀ, and its carry is that of the serial: ``carry[2]`` is the layer's. With its ``step`` it generates
    (`jaxrnn.decoding`).

    Args:
        vocabulary: V; tokens ``xs [T, *B]`` are integers from 0 to V - 1.
        size: D, the features of a token's vector.
        layer: a `Layer` from ``[T, *B, D]`` to ``[T, *B, H]``, such as `jaxrnn.stacked`; it must not read
            ahead, or it sees the token that it is to predict.
        tied: whether the output kernel is Eᵀ, after a projection P where H is not D. If not, it is a
            matrix ``[H, V]`` of its own.
        dropout: the share of the token vectors and of the layer's outputs that is dropped, where a key
            is given.
        table_init: a `jaxrnn.initializers` for E; unless given N(0, 1/D) where tied, so that the logits
            begin as large as h, and N(0, 1) where not.
        kernel_init: the same for P and the kernel that is not tied.
        dtype: of the parameters that are not the layer's.

    Raises:
        ValueError: a size below 1, a rate outside [0, 1); a layer that takes another size.
        TypeError: an argument of the wrong type.

    Source: Press and Wolf, "Using the Output Embedding to Improve Language Models" (2017); Inan, Khosravi
    and Socher, "Tying Word Vectors and Word Classifiers" (2017).

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> model = jaxrnn.models.language_model(10, 4, jaxrnn.recurrent(jaxrnn.gru(4, 6)))
        >>> params = model.init(jax.random.key(0))
        >>> params.projection.kernel.shape, params.output.kernel
        ((6, 4), None)
        >>> _, logits = model.apply(params, jnp.zeros((7, 2), int))
        >>> _, tokens = jaxrnn.decoding.generate(model, params, jnp.zeros((1, 2), int), 5, temperature=0)
        >>> logits.shape, tokens.shape
        ((7, 2, 10), (5, 2))
    """
    checks.layer("layer", layer)
    checks.flag("tied", tied)
    checks.rate("dropout", dropout)
    if table_init is None:
        table_init = init_with.normal(checks.size("size", size) ** -0.5 if tied else 1.0)
    tokens = embedding(vocabulary, size, table_init=table_init, dtype=dtype)
    hidden = output_size(layer, size)
    drop = dropout_layer(dropout)
    projection = dense(hidden, size, bias=False, kernel_init=kernel_init, dtype=dtype)
    projected = tied and hidden != size
    output = dense(size if tied else hidden, vocabulary, kernel_init=kernel_init, dtype=dtype)
    model = serial(tokens, drop, layer, drop, *([projection] if projected else []), output)

    def init(key: Array) -> LanguageModelParams:
        checks.key("key", key)
        token_key, layer_key, projection_key, output_key = jax.random.split(key, 4)
        head = output.init(output_key)
        return LanguageModelParams(
            tokens.init(token_key),
            layer.init(layer_key),
            projection.init(projection_key) if projected else None,
            head._replace(kernel=None) if tied else head,
        )

    def of_the_serial(params: Any) -> Params:
        _check(params, f"language_model({vocabulary}, {size}, …)")
        head = params.output
        if tied:
            head = DenseParams(params.embedding.table.T, head.bias)
        return (params.embedding, (), params.layer, (), *([params.projection] if projected else []), head)

    def initial_carry(params: LanguageModelParams, batch_shape: tuple[int, ...] = ()) -> Carry:
        return model.initial_carry(of_the_serial(params), batch_shape)

    def apply(params: LanguageModelParams, xs: Any, carry: Carry | None = None, **options: Any) -> tuple[Carry, Array]:
        return model.apply(of_the_serial(params), xs, carry, **options)

    model_step = model.step
    if model_step is None:
        return Layer(init, initial_carry, apply, None, model.output_steps)

    def step(params: LanguageModelParams, carry: Carry, x: Any, **options: Any) -> tuple[Carry, Array]:
        return model_step(of_the_serial(params), carry, x, **options)

    return Layer(init, initial_carry, apply, step, model.output_steps)


def _check(params: Any, call: str) -> None:
    if not isinstance(params, LanguageModelParams):
        raise TypeError(f"params: expected the LanguageModelParams of {call}, got {type(params).__name__}")
    for name, kind in (("embedding", EmbeddingParams), ("output", DenseParams)):
        if not isinstance(getattr(params, name), kind):
            got = checks.outline(getattr(params, name))
            raise TypeError(f"params.{name}: expected the {kind.__name__} of {call}, got {got}")
