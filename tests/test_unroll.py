"""The contract of masks, lengths, resets and directions, for every cell, in values and gradients."""

import chex
import jax
import numpy as np
import pytest

import jaxrnn
from tests import reference
from tests.examples import BATCH, LENGTHS, TIME, at, draw, forward, run
from tests.registry import BY_NAME, CELLS, assert_trees_close

pytestmark = pytest.mark.usefixtures("float64")
# One loop runs all cells either way, so a cell more is run one way, every other cell the other; those that an adjoint
# of every kind comes from, both.
BOTH_WAYS = ("vanilla-tanh", "gru-before", "learned-lstm", "user-lstm", "user-step")
CUT = 2  # where a test divides the steps: all that do share two compiled loops, over 2 steps and over the other 3
CASES = [
    (entry, reverse)
    for number, entry in enumerate(CELLS)
    for reverse in (False, True)
    if entry.name in BOTH_WAYS or reverse == (number % 2 == 1)
]


def drawn(request):
    entry, reverse = request.param
    return draw(entry, request.config.getoption("seed")), reverse


def fixture_of(cases):
    return pytest.fixture(
        drawn,
        scope="module",
        params=cases,
        ids=[f"{entry}-{'reverse' if back else 'forward'}" for entry, back in cases],
    )


case = fixture_of(CASES)
# Of each kind of adjoint, for what the loop does whatever the step.
kind = fixture_of([case for case in CASES if case[0].name in BOTH_WAYS])


@pytest.fixture
def example(case):
    return case[0]


@pytest.fixture
def reverse(case):
    return case[1]


def alone(example, reverse, part, b, carry, length, resets):
    """Return the results for the steps ``part`` of sequence b, without a batch axis."""
    steps = {"lengths": np.int32(length), "mask": example.mask[part, b], "resets": resets}
    return forward(example.entry, reverse)(example.params, at(example.xs, (part, b)), carry, **steps)


def test_every_form_equals_the_plain_loop(example, reverse):
    expected = reference.unroll(
        example.cell, example.params, example.xs, example.carry, **example.steps, reverse=reverse
    )
    for gradient in (example.fast, "autodiff"):
        results, _ = run(example, reverse, gradient)
        assert_trees_close(results, expected)


def test_hand_derived_gradient_equals_autodiff(example, reverse):
    (_, by_adjoint), (_, by_autodiff) = (run(example, reverse, way) for way in (example.fast, "autodiff"))
    assert_trees_close(by_adjoint, by_autodiff)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(by_adjoint[1:]))


def test_batch_equals_loop_over_examples(example, reverse):
    """Each sequence alone, without a batch axis, has the values and gradients that it has in the batch."""
    results, (_, dxs, dcarry) = run(example, reverse)

    @jax.jit
    def alone(xs, carry, cotangents, steps):
        def unroll(xs, carry):
            return jaxrnn.unroll(example.cell, example.params, xs, carry, **steps, reverse=reverse)

        values, transpose = jax.vjp(unroll, xs, carry)
        return values, transpose(cotangents)

    dfinal, dys = example.cotangents
    for b in (0, 3, 7, 8):
        steps = {"lengths": example.lengths[b], "mask": example.mask[:, b], "resets": example.resets[:, b]}
        cotangents = at(dfinal, b), at(dys, (slice(None), b))
        (final, ys), (dx, dc) = alone(example.xs[:, b], at(example.carry, b), cotangents, steps)
        assert_trees_close((final, ys), (at(results[0], b), at(results[1], (slice(None), b))))
        assert_trees_close((dx, dc), (dxs[:, b], at(dcarry, b)))


def test_two_batch_axes_equal_one(kind):
    example, reverse = kind
    (final, ys), gradients = run(example, reverse)

    def split(tree, axis):
        return jax.tree.map(lambda leaf: leaf.reshape(*leaf.shape[:axis], 3, 3, *leaf.shape[axis + 1 :]), tree)

    steps = {name: split(value, value.ndim - 1) for name, value in example.steps.items()}

    def both(params, xs, carry, cotangents):
        def unroll(*args):
            return jaxrnn.unroll(example.cell, *args, **steps, reverse=reverse)

        results, transpose = jax.vjp(unroll, params, xs, carry)
        return results, transpose(cotangents)

    dfinal, dys = example.cotangents
    arguments = example.params, split(example.xs, 1), split(example.carry, 0), (split(dfinal, 0), split(dys, 1))
    actual = jax.jit(both)(*arguments)
    dparams, dxs, dcarry = gradients
    assert_trees_close(actual, ((split(final, 0), split(ys, 1)), (dparams, split(dxs, 1), split(dcarry, 0))))


def test_two_halves_equal_the_whole(example, reverse):
    final, ys = run(example, reverse)[0]
    for b in range(BATCH):
        parts, carry = [slice(None, CUT), slice(CUT, None)], at(example.carry, b)
        outputs = {}
        for part in reversed(parts) if reverse else parts:
            left = np.clip(example.lengths[b] - (part.start or 0), 0, len(example.xs[part]))
            carry, outputs[part.start] = alone(example, reverse, part, b, carry, left, example.resets[part, b])
        assert_trees_close(carry, at(final, b))
        halves = [outputs[part.start] for part in parts]
        assert_trees_close(jax.tree.map(lambda *two: np.concatenate(two), *halves), at(ys, (slice(None), b)))


def test_masked_steps_might_as_well_not_be_there(kind):
    """Leaving out the steps that are not valid changes no value and no gradient; and their own are zero."""
    example, reverse = kind
    (final, ys), (_, dxs, dcarry) = run(example, reverse)
    dfinal, dys = example.cotangents
    b = 7  # with a mask, resets and padding
    kept = np.flatnonzero(example.valid[:, b])

    @jax.jit
    def shortened(xs, carry, cotangents):
        def unroll(xs, carry):
            resets = example.resets[kept, b]
            return jaxrnn.unroll(example.cell, example.params, xs, carry, resets=resets, reverse=reverse)

        results, transpose = jax.vjp(unroll, xs, carry)
        return results, transpose(cotangents)

    cotangents = at(dfinal, b), at(dys, (kept, b))
    results, gradients = shortened(at(example.xs, (kept, b)), at(example.carry, b), cotangents)
    assert_trees_close(results, (at(final, b), at(ys, (kept, b))))
    assert_trees_close(gradients, (dxs[kept, b], at(dcarry, b)))
    for leaf in jax.tree.leaves((ys, dxs)):
        np.testing.assert_array_equal(leaf[~example.valid], 0)


def test_lengths_equal_truncation(example, reverse):
    (final, ys), _ = run(example, reverse)
    for b, length in ((4, TIME - CUT), (5, CUT)):
        assert LENGTHS[b] == length
        part = slice(length)
        truncated = alone(example, reverse, part, b, at(example.carry, b), length, example.resets[part, b])
        assert_trees_close(truncated, (at(final, b), at(ys, (part, b))))


def test_lengths_out_of_range_are_clipped_under_jit(example, reverse):
    """Where values are not known there is no error, but the nearest length that there is."""
    too_long, too_short = np.where(LENGTHS == TIME, TIME + 2, LENGTHS), np.where(LENGTHS == 0, -3, LENGTHS)
    for lengths in (too_long, too_short):
        assert_trees_close(run(example, reverse, lengths=lengths), run(example, reverse), tolerance=0)


@pytest.mark.parametrize("name", BOTH_WAYS)
def test_reverse_flips_each_sequence_within_its_length(name, pytestconfig):
    example = draw(BY_NAME[name], pytestconfig.getoption("seed"))
    mask, resets = np.ones((TIME, BATCH), bool), np.zeros((TIME, BATCH), bool)
    times, sequences = np.arange(TIME)[:, None], np.arange(BATCH)
    flip = np.where(times < LENGTHS, LENGTHS - 1 - times, times), sequences
    final, ys = run(example, True, mask=mask, resets=resets)[0]
    flipped = run(example, False, mask=mask, resets=resets, xs=example.xs[flip])[0]
    assert_trees_close((final, at(ys, flip)), flipped)


@pytest.mark.parametrize("first", [False, True], ids=["", "reset-at-0"])
def test_resets_split_a_sequence_into_segments(example, reverse, first):
    b, resets = 2, example.resets.copy()
    resets[:, b] = np.isin(np.arange(TIME), [0, CUT] if first else [CUT])
    final, ys = run(example, reverse, resets=resets)[0]
    initial, start = example.cell.initial_carry(example.params), at(example.carry, b)
    segments = [slice(0, CUT), slice(CUT, TIME)]
    carry = start
    for segment in reversed(segments) if reverse else segments:
        fresh = resets[segment.start, b] if not reverse else segment.stop < TIME
        length = segment.stop - segment.start
        none = np.zeros(length, bool)
        carry, part = alone(example, reverse, segment, b, initial if fresh else start, length, none)
        assert_trees_close(at(ys, (segment, b)), part)
    assert_trees_close(at(final, b), initial if reverse and first else carry)


def test_resets_at_masked_steps_are_ignored(example, reverse):
    with_them = run(example, reverse, resets=example.resets | ~example.valid)
    without = run(example, reverse, resets=example.resets & example.valid)
    assert_trees_close(with_them, without, tolerance=0)


@pytest.mark.parametrize("padding", [np.nan, np.inf], ids=["nan", "inf"])
def test_nothing_in_padding_reaches_a_value_or_a_gradient(example, reverse, padding):
    valid = example.valid.reshape(TIME, BATCH, *[1] * example.cell.feature_axes)
    spoiled = np.where(valid, example.xs, padding)
    for gradient in (example.fast, "autodiff"):
        results = run(example, reverse, gradient, xs=spoiled)
        chex.assert_tree_all_finite(results)
        assert_trees_close(results, run(example, reverse, gradient), tolerance=0)
        _, (_, dxs, _) = results
        np.testing.assert_array_equal(dxs[~example.valid], 0)


def test_an_empty_sequence_returns_its_carry(kind):
    example, reverse = kind
    (final, ys), (_, dxs, dcarry) = run(example, reverse)
    assert_trees_close(at(final, -1), at(example.carry, -1), tolerance=0)
    assert_trees_close(at(dcarry, -1), at(example.cotangents[0], -1), tolerance=0)
    for leaf in jax.tree.leaves((ys, dxs)):
        np.testing.assert_array_equal(leaf[:, -1], 0)
    final, _ = forward(example.entry, reverse)(example.params, example.xs, lengths=np.zeros(BATCH, int))
    assert_trees_close(final, example.cell.initial_carry(example.params, (BATCH,)), tolerance=0)
