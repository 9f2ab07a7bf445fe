"""The encoder-decoder: its equations, what padding must not change, decoding, and a source that is copied."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.models import EncoderDecoder, encoder_decoder
from tests.models.drawing import params_of
from tests.registry import assert_trees_close

S, T, B, V, D, H, M, END, BOS = 4, 3, 3, 5, 3, 4, 6, 0, 1
SOURCE_LENGTHS, TARGET_LENGTHS = np.array([4, 2, 0], np.int32), np.array([3, 2, 3], np.int32)
TARGET = np.array([[1, 1, 1], [3, 2, 2], [4, 0, 3]], np.int32)
START = np.full(B, BOS, np.int32)
ATTENTION = jaxrnn.attention.additive(H, M, 2, dtype=jnp.float64)


def plain(cell: jaxrnn.Cell) -> jaxrnn.Cell:
    """Return the cell as it is soonest compiled."""
    return cell._replace(adjoint=None)


def directions() -> tuple[jaxrnn.Layer, jaxrnn.Layer]:
    cell = plain(jaxrnn.vanilla(2, M // 2, dtype=jnp.float64))
    return jaxrnn.recurrent(cell), jaxrnn.recurrent(cell, reverse=True)


def cell_of(dtype: Any = jnp.float64) -> jaxrnn.Cell:
    return plain(jaxrnn.lstm(D, H, dtype=dtype))


@functools.cache
def model_of(**options: Any) -> EncoderDecoder:
    encoder = jaxrnn.bidirectional(*directions())
    return encoder_decoder(encoder, cell_of(), ATTENTION, V, D, dtype=jnp.float64, **options)


def drawn(model: EncoderDecoder, key: jax.Array) -> tuple[Any, jax.Array, jax.Array]:
    """Return parameters, sources, and the same with NaN for padding."""
    params = params_of(model, key)
    source = np.random.default_rng(np.asarray(jax.random.key_data(key))).normal(size=(S, B, 2))
    padded = np.where((np.arange(S)[:, None] < SOURCE_LENGTHS)[..., None], source, np.nan)
    return params, jnp.array(source), jnp.array(padded)


def by_the_equations(params: Any, source: Any, target_in: Any) -> tuple[Any, Any]:
    """Return logits and weights of sequences without padding, put together by hand."""
    final, memory = jaxrnn.bidirectional(*directions()).apply(params.encoder, source)
    tokens, _, reader, _, *between, head = params.decoder
    states = jnp.concatenate([final.forward, final.backward], axis=-1)
    h, c = jnp.split(jnp.tanh(states @ params.bridge.kernel + params.bridge.bias[None]), 2, axis=-1)
    carry, xs = jaxrnn.LSTMCarry(h, c), tokens.table[target_in]
    cell = jaxrnn.attending(cell_of(), ATTENTION, D, outputs=("y", "context", "weights"))
    reader = jaxrnn.with_memory(reader, ATTENTION, memory)
    _, ys = jaxrnn.unroll(cell, reader, xs, carry)
    ys, weights = jnp.split(ys, [H + M], axis=-1)
    for readout in between:
        ys = jnp.tanh(ys @ readout.kernel + readout.bias[None, None])
    return ys @ head.kernel + head.bias[None, None], weights


@pytest.mark.parametrize("options", [{}, {"readout": 7}])
def test_values_are_those_of_the_equations(key, float64, options):
    model = model_of(**options)
    params, source, _ = drawn(model, key)

    @jax.jit
    def both(*args):
        return (model.apply(*args), model.align(*args)), by_the_equations(*args)

    ours, theirs = both(params, source, jnp.array(TARGET))
    assert_trees_close(ours, theirs)
    np.testing.assert_allclose(np.asarray(ours[1]).sum(axis=-1), 1, atol=1e-12)


def test_padding_changes_neither_values_nor_gradients(key, float64):
    model = model_of()
    params, source, padded = drawn(model, key)
    lengths = {"source_lengths": SOURCE_LENGTHS, "target_lengths": TARGET_LENGTHS}
    garbage = np.where(np.arange(T)[:, None] < TARGET_LENGTHS, TARGET, 99).astype(np.int32)

    @jax.jit
    def together(params, source, target):
        def loss(params, source):
            logits = model.apply(params, source, target, **lengths)
            return (logits**2).sum(), logits

        return jax.grad(loss, (0, 1), has_aux=True)(params, source)

    @jax.jit
    def alone(params, source):
        def loss(params, b, s, t):
            logits = model.apply(params, source[:s, b], TARGET[:t, b])
            return (logits**2).sum(), logits

        parts = [(b, s, t) for b, (s, t) in enumerate(zip(SOURCE_LENGTHS, TARGET_LENGTHS, strict=True))]
        gradients, logits = zip(*(jax.grad(loss, has_aux=True)(params, *part) for part in parts), strict=True)
        return jax.tree.map(lambda *leaves: sum(leaves), *gradients), logits

    (gradient, dsource), logits = jax.device_get(together(params, padded, garbage))
    expected, expected_logits = alone(params, source)
    assert_trees_close(gradient, expected, 1e-9)
    assert not logits[2:, 1].any()
    for b, row in enumerate(jax.device_get(expected_logits)):
        assert_trees_close(logits[: len(row), b], row)
    assert np.isfinite(dsource).all()
    assert not dsource[2:, 1].any()
    assert not dsource[:, 2].any()


def test_decoding_agrees_with_teacher_forcing(key, float64):
    """What greedy decoding writes is the argmax of what it then reads, and one beam finds the same."""
    model, length = model_of(readout=7), 5
    params, _, padded = drawn(model, key)
    options = {"length": length, "end_token": END, "source_lengths": SOURCE_LENGTHS}

    @jax.jit
    def run(params):
        tokens = model.greedy(params, padded, START, **options)
        one = model.beam_search(params, padded, START, beams=1, **options)
        three = model.beam_search(params, padded, START, beams=3, length_penalty=0.6, **options)
        read = [jnp.concatenate([START[None], written[:-1]]) for written in (tokens, three.tokens[..., 0])]
        logits = [model.apply(params, padded, x, source_lengths=SOURCE_LENGTHS) for x in read]
        return tokens, one, three, logits, model.align(params, padded, read[0], source_lengths=SOURCE_LENGTHS)

    tokens, one, three, (greedily, by_beam), weights = jax.tree.map(np.asarray, run(params))
    before_the_end = np.cumsum(tokens == END, axis=0) - (tokens == END) == 0
    np.testing.assert_array_equal(np.where(before_the_end, greedily.argmax(axis=-1), END), tokens)
    np.testing.assert_array_equal(one.tokens[..., 0], tokens)

    best, lengths = three.tokens[..., 0], three.lengths[:, 0]
    log_probabilities = np.take_along_axis(np.asarray(jax.nn.log_softmax(by_beam)), best[..., None], axis=-1)[..., 0]
    total = (log_probabilities * (np.arange(length)[:, None] < lengths)).sum(axis=0)
    np.testing.assert_allclose(three.scores[:, 0], total / ((5 + lengths) / 6) ** 0.6, atol=1e-12)
    assert weights.shape == (length, B, S)
    assert not weights[:, 1, 2:].any()


def pyramid() -> jaxrnn.Layer:
    return jaxrnn.serial(jaxrnn.embedding(7, 4), jaxrnn.time_reduction(2), jaxrnn.recurrent(jaxrnn.gru(8, M)))


def transformer() -> jaxrnn.Layer:
    return jaxrnn.serial(jaxrnn.embedding(7, M), jaxrnn.transformer(M, 1, causal=False))


@pytest.mark.parametrize(
    ("encoder", "bridge", "batch", "positions"), [(pyramid, True, (), 3), (transformer, False, (2, 3), 5)]
)
def test_other_encoders_and_batch_axes(encoder, bridge, batch, positions):
    """An encoder shorter than its source, and one without a state to start the decoder from."""
    attention = jaxrnn.attention.scaled_dot(H, M, 2)
    model = encoder_decoder(encoder(), cell_of(jnp.float32), attention, V, D, bridge=bridge, dropout=0.1)
    source, target, start = (jnp.ones((*time, *batch), int) for time in ((5,), (T,), ()))
    key, lengths = jax.random.key(0), {"source_lengths": jnp.full(batch, 3)}

    def run():
        params, decoding = model.init(key), {"length": 6, "end_token": END, **lengths}
        logits = model.apply(params, source, target, **lengths, target_lengths=jnp.full(batch, 2), key=key)
        weights = model.align(params, source, target, **lengths, key=key)
        found = model.beam_search(params, source, start, beams=2, **decoding)
        return logits, weights, found.tokens, model.greedy(params, source, start, **decoding)

    shapes = [x.shape for x in jax.eval_shape(run)]
    assert shapes == [(T, *batch, V), (T, *batch, positions), (6, *batch, 2), (6, *batch)]


def test_carries_of_another_dtype():
    """Encoder and decoder that keep their states in float32, with weights in bfloat16."""
    half, options = {"dtype": jnp.bfloat16}, {"dtype": jnp.bfloat16, "carry_dtype": jnp.float32}
    encoder = jaxrnn.serial(jaxrnn.embedding(7, 4, **half), jaxrnn.recurrent(jaxrnn.lstm(4, M, **options)))
    attention = jaxrnn.attention.additive(H, M, 2, **half)
    model = encoder_decoder(encoder, jaxrnn.gru(D, H, **options), attention, V, D, **half)

    def run():
        source, target = jnp.ones((S, B), int), jnp.array(TARGET)
        params = model.init(jax.random.key(0))
        return model.apply(params, source, target), model.encode(params, source)[1][2]

    logits, carry = jax.eval_shape(run)
    assert (logits.dtype, carry.dtype) == (jnp.bfloat16, jnp.float32)


def test_it_learns_to_copy(key, rng):
    """Without attention and bridge the decoder would know nothing of the source."""
    words, steps, rows = 6, 5, 32
    encoder = jaxrnn.serial(jaxrnn.embedding(words, 12), jaxrnn.recurrent(plain(jaxrnn.gru(12, 16))))
    attention = jaxrnn.attention.general(16, 16)
    model = encoder_decoder(encoder, plain(jaxrnn.gru(12, 16)), attention, words, 12)
    source = rng.integers(2, words, (steps, rows), np.int32)
    target_in = np.concatenate([np.full((1, rows), BOS, np.int32), source[:-1]])

    @jax.jit
    def step(state):
        params, momentum = state

        def loss(params):
            return jaxrnn.losses.softmax_cross_entropy(model.apply(params, source, target_in), source)

        value, gradient = jax.value_and_grad(loss)(params)
        momentum = jax.tree.map(lambda m, g: 0.9 * m + g, momentum, gradient)
        return (jax.tree.map(lambda p, m: p - 0.1 * m, params, momentum), momentum), value

    params, values = jax.jit(model.init)(key), []
    state = params, jax.tree.map(np.zeros_like, params)
    for _ in range(150):
        state, value = step(state)
        values.append(float(value))
    assert values[-1] < 0.3 * values[0]
