"""Streams of documents: every step once and in order, and the losses and gradients of the same data in memory."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.losses import half_squared_error
from jaxrnn.training import (
    fit,
    gradient_descent,
    load,
    save,
    stream_batches,
    stream_windows,
    train_state,
    train_step,
    truncated_loss,
    windows,
)

LENGTHS = (5, 2, 3, 0, 4, 1, 9, 2)
LAYER = jaxrnn.recurrent(jaxrnn.learned_carry(jaxrnn.vanilla(2, 2)), gradient="autodiff")
STREAMS = 3


def numbered(lengths=LENGTHS):
    """Return documents whose steps say where they are: 100 times the document's number, and the step's."""
    for number, length in enumerate(lengths):
        xs = 100 * number + np.arange(length)
        yield xs, xs + 1000


def drawn(seed=0):
    """Return documents of random vectors."""
    rng = np.random.default_rng(seed)
    return [tuple(rng.normal(size=(2, length, 2)).astype(np.float32)) for length in LENGTHS]


def whole(found):
    """Return (xs, targets, mask, resets), each ``[N, B, …]``, of windows that do not overlap."""
    return [
        np.concatenate(column) for column in zip(*((w.xs, w.targets, w.mask, w.resets) for w in found), strict=True)
    ]


def test_documents_are_dealt_as_streams_need_them():
    xs, _, mask, resets = whole(stream_windows(numbered((5, 2, 3, 4)), 2, 3))
    assert xs[:, 0].tolist() == [0, 1, 2, 3, 4, 300, 301, 302, 303]
    assert xs[:5, 1].tolist() == [100, 101, 200, 201, 202]
    assert mask[:, 1].tolist() == 5 * [True] + 4 * [False]
    assert np.flatnonzero(resets[:, 0]).tolist() == [0, 5]
    assert np.flatnonzero(resets[:, 1]).tolist() == [0, 2]


@pytest.mark.parametrize(("streams", "k1"), [(1, 1), (1, 4), (2, 3), (3, 5), (4, 40), (20, 2)])
def test_nothing_is_lost_or_repeated(streams, k1):
    xs, targets, mask, resets = whole(stream_windows(numbered(), streams, k1))
    np.testing.assert_array_equal(targets[mask], xs[mask] + 1000)
    np.testing.assert_array_equal(resets, mask & (xs % 100 == 0))
    read = []
    for stream in range(streams):
        counted = xs[mask[:, stream], stream]
        assert mask[: len(counted), stream].all()  # masked at the end alone
        read += [part.tolist() for part in np.split(counted, np.flatnonzero(counted % 100 == 0)) if len(part)]
    assert sorted(read) == [xs.tolist() for xs, _ in numbered() if len(xs)]


@pytest.mark.parametrize(("k1", "k2"), [(3, None), (2, 5), (3, 4), (1, 20)])
def test_windows_are_those_of_the_same_data_in_memory(k1, k2):
    xs, targets, mask, resets = whole(stream_windows(numbered(), STREAMS, k1))
    steps = int(mask.any(axis=1).sum())
    xs, targets, mask, resets = (x[:steps] for x in (xs, targets, mask, resets))
    in_memory, count = windows(xs, targets, k1, k2, mask=mask, resets=resets)
    found = list(stream_windows(numbered(), STREAMS, k1, k2))
    assert len(found) == count
    for index, window in enumerate(found):
        expected, new = in_memory(index), slice(-k1, None)
        counts = window.mask
        np.testing.assert_array_equal(counts, expected.mask if expected.mask is not None else True)
        np.testing.assert_array_equal(window.xs[counts], expected.xs[counts])
        np.testing.assert_array_equal(window.targets[counts[new]], expected.targets[counts[new]])
        np.testing.assert_array_equal(window.resets & counts, expected.resets & counts)
        np.testing.assert_array_equal(window.start, expected.start)
    chex.assert_trees_all_equal_shapes_and_dtypes(*found)


def side_by_side(params):
    """Return the sum of the losses of all documents, each alone, in one padded batch."""
    counts = np.arange(max(LENGTHS))[:, None] < np.array(LENGTHS)
    padded = np.zeros((2, *counts.shape, 2), np.float32)
    for number, document in enumerate(drawn()):
        padded[:, : LENGTHS[number], number] = document
    xs, targets = padded
    return half_squared_error(LAYER.apply(params, xs, mask=counts)[1], targets, counts)


def test_a_document_boundary_cuts_the_carry():
    """The gradient is the sum of those of each document alone, that of the learned initial carry too."""
    params = LAYER.init(jax.random.key(0))
    (window,) = stream_windows(drawn(), STREAMS, 30)
    carry = LAYER.initial_carry(params, (STREAMS,)) + 7  # must not matter
    loss_fn = jax.jit(jax.value_and_grad(truncated_loss(LAYER, half_squared_error, 30), has_aux=True))
    (loss, _), gradient = loss_fn(params, carry, window, jax.random.key(0))
    expected, expected_gradient = jax.jit(jax.value_and_grad(side_by_side))(params)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    chex.assert_trees_all_close(gradient, expected_gradient, rtol=1e-4, atol=1e-5)


def test_the_carry_is_kept_from_window_to_window():
    """With one set of parameters, the losses of short windows add up to that of all documents."""
    params = LAYER.init(jax.random.key(0))
    loss_fn = jax.jit(truncated_loss(LAYER, half_squared_error, 2))
    carry, losses = LAYER.initial_carry(params, (STREAMS,)), []
    for window in stream_windows(drawn(), STREAMS, 2):
        loss, (carry, _) = loss_fn(params, carry, window, jax.random.key(0))
        losses.append(float(loss))
    assert len(losses) > 4
    np.testing.assert_allclose(sum(losses), jax.jit(side_by_side)(params), rtol=1e-5)


def test_tokens_and_parts_of_documents():
    """A document in parts is the document; the last token of a part is the first input of the next."""
    tokens = [np.arange(9), np.arange(20, 22), np.arange(30, 31), np.arange(40, 47)]
    pairs = [(t[:-1], t[1:]) for t in tokens]
    in_parts = [iter([pair[:3], pair[3:3], pair[3:]]) for pair in tokens]
    pairs_in_parts = [iter([(x[:1], y[:1]), (x[1:], y[1:])]) for x, y in pairs]
    expected = list(stream_windows(pairs, 2, 3, 4))
    for documents in (tokens, in_parts, pairs_in_parts):
        chex.assert_trees_all_equal(list(stream_windows(documents, 2, 3, 4)), expected)


def test_documents_are_read_when_they_are_needed():
    """An endless source, of which no more is taken than the windows have."""
    taken = []

    def endless():
        for number in itertools.count():
            taken.append(number)
            yield np.arange(11)

    for window in itertools.islice(stream_windows(endless(), 2, 5), 8):
        assert window.mask.all()
    assert len(taken) == 8


def test_batches_depend_on_their_number_alone():
    """Forward, from the middle, and back; passes follow each other, each with documents of its own."""

    def documents(index):
        return [*numbered()][:: -1 if index % 2 else 1]

    expected = [window for index in range(3) for window in stream_windows(documents(index), STREAMS, 4, 6)]
    batches = stream_batches(documents, STREAMS, 4, 6)
    for n in (*range(len(expected)), len(expected) - 2, 0, 1, 4):
        chex.assert_trees_all_equal(batches(n), expected[n])


def test_a_run_goes_on_exactly(tmp_path):
    """`fit` in two halves, the second from a checkpoint and from documents opened anew, equals it in one."""
    optimizer = gradient_descent(0.1)
    step = train_step(truncated_loss(LAYER, half_squared_error, 3, 4), optimizer)
    params = LAYER.init(jax.random.key(0))

    def run(state, steps):
        return fit(state, step, stream_batches(drawn, STREAMS, 3, 4), steps=steps, progress=False).state

    def first():
        copied = jax.tree.map(jnp.copy, params)
        return train_state(copied, optimizer, jax.random.key(1), LAYER.initial_carry(params, (STREAMS,)))

    whole = run(first(), 7)
    save(tmp_path / "half", run(first(), 4))
    state, _ = load(tmp_path / "half", first())
    chex.assert_trees_all_equal(run(state, 7).params, whole.params)


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ([np.zeros((3, 2)), np.zeros((3, 4))], r"expected xs of float64 \[N, 2\], .* got float64 \(2, 4\)"),
        ([np.zeros(3, int), np.zeros(3)], r"expected xs of int64 \[N, \], .* got float64 \(2,\)"),
        ([(np.zeros(3), np.zeros(2))], r"expected \(xs .* got shapes \(3,\), \(2,\)"),
        ([(np.zeros(3),)], r"expected \(xs .* got shapes \(3,\)"),
        (["text"], r"expected .* tokens \[N\], got shapes \(\)"),
        ([3], r"expected .* tokens \[N\], got shapes \(\)"),
    ],
)
def test_wrong_documents(documents, message):
    with pytest.raises(ValueError, match=rf"\Adocuments: {message}"):
        list(stream_windows(documents, 1, 5))


def test_a_pass_of_no_steps():
    with pytest.raises(ValueError, match=r"\Adocuments: expected at least one step in a pass, got none in pass 0"):
        stream_batches(lambda index: [np.arange(1)], 2, 3)(0)
