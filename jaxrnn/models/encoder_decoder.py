"""An encoder and a decoder that attends to it: one sequence into another (Bahdanau, Cho and Bengio 2015).

    m_1 … m_S, final = encoder(source)
    carry_0 = tanh(final W + b)                           the bridge, over all final states of the encoder
    carry_t, h_t, c_t = attending cell(carry_{t-1}, E[y_{t-1}], m)
    logits_t = [h_t, c_t] W + b                           of y_t

In training the decoder reads the true target one step late, whatever it would have said itself (teacher
forcing): with the target y_1 … y_T and a token that begins it,

    target_in = start, y_1, …, y_{T-1}        labels = y_1, …, y_T        y_T the end token

so that logits[t] belongs to labels[t]. In decoding it reads what it has chosen.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks, decoding
from jaxrnn.attention import Attention
from jaxrnn.cells import attending, with_memory
from jaxrnn.layers.dense import DenseParams, dense
from jaxrnn.layers.dropout import dropout as dropout_layer
from jaxrnn.layers.embedding import embedding
from jaxrnn.layers.recurrent import recurrent
from jaxrnn.layers.serial import keys_of, serial
from jaxrnn.layers.stacked import output_size
from jaxrnn.models.bridge import bridge as bridge_between
from jaxrnn.steps import clipped_lengths
from jaxrnn.types import Array, Carry, Cell, Layer, Params

READER = 2  # where the cell that attends stands in the decoder


class EncoderDecoderParams(NamedTuple):
    """Parameters of `encoder_decoder`: of the encoder, of the bridge (``()`` without one), of the decoder."""

    encoder: Params
    bridge: Params
    decoder: Params


class EncoderDecoder(NamedTuple):
    """A model from a source ``[S, *B, ...]`` to a target, tokens ``[T, *B]``.

    init: ``(key) -> params``.
    apply: ``(params, source, target_in, *, source_lengths=None, target_lengths=None, key=None)
        -> logits [T, *B, V]``, with teacher forcing.
    align: the same arguments ``-> weights [T, *B, S']``, how much of each of the encoder's S' outputs the
        decoder sees as it makes each token: of what was decoded too, given as ``target_in``.
    greedy: ``(params, source, start, *, length, end_token, source_lengths=None) -> tokens [length, *B]``, the most
        probable token each time, from ``start [*B]``; the end token from the first one on.
    beam_search: ``(params, source, start, *, beams, length, end_token, length_penalty=0.0,
        source_lengths=None) -> Hypotheses``, as `jaxrnn.decoding.beam_search`.
    encode: ``(params, source, *, source_lengths=None, key=None) -> (decoder_params, carry)``, all that the
        decoder needs of the source, for `jaxrnn.decoding.generate` and other loops.
    decoder: the `Layer` from tokens to logits.
    """

    init: Callable[..., EncoderDecoderParams]
    apply: Callable[..., Array]
    align: Callable[..., Array]
    greedy: Callable[..., Array]
    beam_search: Callable[..., decoding.Hypotheses]
    encode: Callable[..., tuple[Params, Carry]]
    decoder: Layer


def encoder_decoder(
    encoder: Layer,
    cell: Cell,
    attention: Attention,
    vocabulary: int,
    size: int,
    *,
    bridge: bool = True,
    readout: int | None = None,
    dropout: float = 0.0,
    dtype: Any = jnp.float32,
) -> EncoderDecoder:
    """Return the model logits_t = [h_t, c_t] W + b of a decoder h that attends, as c, to what an encoder read.

    Args:
        encoder: a `Layer`, from the source to ``[S', *B, M]``; of tokens with the embedding in it. It may
            read both ways, and be shorter than its source (`jaxrnn.time_reduction`).
        cell: the decoder's `Cell`, one that `jaxrnn.attending` takes, of D = ``size`` inputs.
        attention: of `jaxrnn.attention`, for queries of the cell's H features and a memory of M.
        vocabulary: V, of the target.
        size: D, the features of a target token's vector.
        bridge: whether the decoder starts from tanh(final W + b), with all floating states that the
            encoder ends in side by side; if not, from the cell's own initial carry.
        readout: features of tanh([h_t, c_t] W_r + b_r), which then stands in the logits where [h_t, c_t] does:
            with many words and a small readout it saves most of the work. None for none.
        dropout: the share of token vectors and of [h_t, c_t] that is dropped, where a key is given.
        dtype: of the parameters that are neither the encoder's, the cell's nor the attention's.

    A source of length 0 gives the bridge the encoder's initial carry, and the contexts are zero.

    Raises:
        ValueError: a size below 1, a rate outside [0, 1); sizes that do not fit each other; a bridge from an
            encoder without a state.
        TypeError: an argument of the wrong type.

    Source: Bahdanau, Cho and Bengio, "Neural Machine Translation by Jointly Learning to Align and Translate"
    (2015); Sutskever, Vinyals and Le, "Sequence to Sequence Learning with Neural Networks" (2014); the readout,
    Luong, Pham and Manning, "Effective Approaches to Attention-based Neural Machine Translation" (2015).

    Example:
        >>> import functools, jax, jax.numpy as jnp, jaxrnn
        >>> reader = jaxrnn.stacked(jaxrnn.gru, 4, 3, bidirectional=True)
        >>> encoder = jaxrnn.serial(jaxrnn.embedding(9, 4), reader)
        >>> attention = jaxrnn.attention.additive(5, 6, 4)  # queries of 5, a memory of 2 · 3
        >>> model = jaxrnn.models.encoder_decoder(encoder, jaxrnn.gru(4, 5), attention, 8, 4)
        >>> params = jax.eval_shape(model.init, jax.random.key(0))  # shapes alone, without a computation
        >>> source, target_in, start = jnp.ones((6, 2), int), jnp.ones((7, 2), int), jnp.ones(2, int)
        >>> search = functools.partial(model.beam_search, beams=3, length=10, end_token=0)
        >>> jax.eval_shape(model.apply, params, source, target_in).shape
        (7, 2, 8)
        >>> jax.eval_shape(model.align, params, source, target_in).shape
        (7, 2, 6)
        >>> jax.eval_shape(search, params, source, start).tokens.shape
        (10, 2, 3)
    """
    checks.layer("encoder", encoder)
    checks.cell("cell", cell)
    checks.size("vocabulary", vocabulary)
    checks.size("size", size)
    checks.flag("bridge", bridge)
    if readout is not None:
        checks.size("readout", readout)
    checks.rate("dropout", dropout)
    checks.floating(dtype=dtype)
    reader = attending(cell, attention, size)
    features = output_size(recurrent(cell), size) + attention.context_size
    drop = dropout_layer(dropout)
    first_layers = embedding(vocabulary, size, dtype=dtype), drop
    head = dense(features if readout is None else readout, vocabulary, dtype=dtype)
    last_layers = (head,) if readout is None else (dense(features, readout, activation=jnp.tanh, dtype=dtype), head)
    decoder = serial(*first_layers, recurrent(reader), drop, *last_layers)
    looking = serial(*first_layers, recurrent(attending(cell, attention, size, outputs=("weights",))))
    decoder_step = decoder.step
    assert decoder_step is not None

    crossing = bridge_between(encoder, cell, dtype) if bridge else None
    call = f"encoder_decoder(…, {vocabulary}, {size})"

    def init(key: Array) -> EncoderDecoderParams:
        checks.key("key", key)
        encoder_key, bridge_key, decoder_key = jax.random.split(key, 3)
        bridge_params = () if crossing is None else crossing.init(bridge_key)
        return EncoderDecoderParams(encoder.init(encoder_key), bridge_params, decoder.init(decoder_key))

    def encode(
        params: EncoderDecoderParams, source: Any, *, source_lengths: Any = None, key: Array | None = None
    ) -> tuple[Params, Carry]:
        _check(params, bridge, call)
        final, memory = encoder.apply(params.encoder, source, lengths=source_lengths, key=key)
        lengths, _, _ = encoder.output_steps(source_lengths)
        of_decoder, batch = list(params.decoder), memory.shape[1:-1]
        of_decoder[READER] = with_memory(of_decoder[READER], attention, memory, lengths=lengths)
        carry = reader.initial_carry(of_decoder[READER], batch)
        if crossing is not None:
            carry = crossing.cross(params.bridge, final, carry, batch)
        return tuple(of_decoder), ((), (), carry, (), *((),) * len(last_layers))

    def encode_for(
        name: str, tokens: Array, batch: tuple[int, ...], params: Any, source: Any, source_lengths: Any, key: Any = None
    ) -> tuple[Params, Carry]:
        """Return what `encode` does, or raise unless it is for the sequences of ``tokens``, the argument ``name``."""
        if source_lengths is not None and getattr(source, "shape", ()):
            clipped_lengths(source_lengths, source.shape[0], batch, "source_lengths", "source")
        decoder_params, carry = encode(params, source, source_lengths=source_lengths, key=key)
        sources = decoder_params[READER].memory.keys.shape[:-2]
        if sources != batch:
            raise ValueError(f"{name}: expected batch axes {sources}, those of source, got shape {tokens.shape}")
        return decoder_params, carry

    def force(
        params: Any, source: Any, target_in: Any, source_lengths: Any, target_lengths: Any, key: Any
    ) -> tuple[Params, Array, Carry]:
        """Return parameters, inputs and carry of the decoder that reads the true target."""
        target_in = _tokens("target_in", target_in, "[time, *batch]")
        if target_in.ndim == 0:
            raise ValueError("target_in: expected [time, *batch], got shape ()")
        time, *batch = target_in.shape
        if target_lengths is not None:
            clipped_lengths(target_lengths, time, tuple(batch), "target_lengths", "target_in")
        decoder_params, carry = encode_for("target_in", target_in, tuple(batch), params, source, source_lengths, key)
        return decoder_params, target_in, carry

    def apply(
        params: EncoderDecoderParams,
        source: Any,
        target_in: Any,
        *,
        source_lengths: Any = None,
        target_lengths: Any = None,
        key: Array | None = None,
    ) -> Array:
        encoder_key, decoder_key = keys_of(key, 2)
        of_decoder, xs, carry = force(params, source, target_in, source_lengths, target_lengths, encoder_key)
        return decoder.apply(of_decoder, xs, carry, lengths=target_lengths, key=decoder_key)[1]

    def align(
        params: EncoderDecoderParams,
        source: Any,
        target_in: Any,
        *,
        source_lengths: Any = None,
        target_lengths: Any = None,
        key: Array | None = None,
    ) -> Array:
        encoder_key, decoder_key = keys_of(key, 2)
        of_decoder, xs, carry = force(params, source, target_in, source_lengths, target_lengths, encoder_key)
        up_to = READER + 1
        return looking.apply(of_decoder[:up_to], xs, carry[:up_to], lengths=target_lengths, key=decoder_key)[1]

    def greedy(
        params: EncoderDecoderParams,
        source: Any,
        start: Any,
        *,
        length: int,
        end_token: int,
        source_lengths: Any = None,
    ) -> Array:
        _class("end_token", end_token, vocabulary)
        start = _tokens("start", start, "[*batch]")
        of_decoder, carry = encode_for("start", start, start.shape, params, source, source_lengths)
        _, tokens = decoding.generate(decoder, of_decoder, start[None], length, temperature=0, carry=carry)
        ended = jax.lax.cummax((tokens == end_token).astype(jnp.int32), axis=0)
        return jnp.where(ended > 0, end_token, tokens)

    def beam_search(
        params: EncoderDecoderParams,
        source: Any,
        start: Any,
        *,
        beams: int,
        length: int,
        end_token: int,
        length_penalty: Any = 0.0,
        source_lengths: Any = None,
    ) -> decoding.Hypotheses:
        start = _tokens("start", start, "[*batch]")
        of_decoder, carry = encode_for("start", start, start.shape, params, source, source_lengths)
        return decoding.beam_search(
            lambda carry, token: decoder_step(of_decoder, carry, token),
            carry,
            start,
            beams=beams,
            length=length,
            end_token=end_token,
            length_penalty=length_penalty,
        )

    return EncoderDecoder(init, apply, align, greedy, beam_search, encode, decoder)


def _check(params: Any, bridge: bool, call: str) -> None:
    if not isinstance(params, EncoderDecoderParams):
        raise TypeError(f"params: expected the EncoderDecoderParams of {call}, got {type(params).__name__}")
    if not isinstance(params.bridge, DenseParams if bridge else tuple):
        raise TypeError(f"params.bridge: expected that of {call}, got {checks.outline(params.bridge)}")
    if not isinstance(params.decoder, tuple) or len(params.decoder) <= READER:
        raise TypeError(f"params.decoder: expected those of {call}, got {checks.outline(params.decoder)}")


def _tokens(name: str, value: Any, layout: str) -> Array:
    value = checks.array(name, value)
    if not jnp.issubdtype(value.dtype, jnp.integer):
        raise TypeError(f"{name}: expected integer tokens {layout}, got dtype {value.dtype}")
    return value


def _class(name: str, value: Any, classes: int) -> None:
    if checks.size(name, value, least=0) >= classes:
        raise ValueError(f"{name}: expected a token from 0 to {classes - 1}, got {value}")
