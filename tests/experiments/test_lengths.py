import itertools

import numpy as np
import pytest

from experiments.data.lengths import batching, pad
from experiments.runs import InputError


@pytest.fixture
def lengths(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 50, (1000, 2))


@pytest.mark.parametrize("limit", [{"batch": 32}, {"tokens": 900}])
@pytest.mark.parametrize("whole", [False, True])
def test_an_epoch_has_each_sequence_once(lengths: np.ndarray, limit: dict[str, int], whole: bool):
    plan = batching(lengths, **limit, whole=whole)
    for epoch in range(3):
        batches = [plan.batch(epoch * plan.per_epoch + place) for place in range(plan.per_epoch)]
        places = np.concatenate([batch.places for batch in batches])
        assert len(set(places.tolist())) == len(places)
        assert len(places) == 1000 if whole else 1000 - max(limit.values()) < len(places)
        for batch in batches:
            assert (lengths[batch.places] <= batch.padded).all()
            assert all(size % 8 == 0 for size in batch.padded)
            assert (len(batch.places), *batch.padded) in plan.shapes
            if "tokens" in limit:
                assert len(batch.places) * max(batch.padded) <= 900
            else:
                assert len(batch.places) == 32 or whole
    assert len(plan.shapes) <= 40


def test_epochs_differ_and_runs_do_not(lengths: np.ndarray):
    plan, again, other = (batching(lengths, batch=100, seed=seed) for seed in (0, 0, 1))
    steps = [plan.batch(step) for step in range(20)]
    for step in (13, 2, 19, 0):  # as after an interruption, in any order
        assert np.array_equal(again.batch(step).places, steps[step].places)
    assert all(
        not np.array_equal(np.sort(first.places), np.sort(second.places))
        for first, second in itertools.combinations([*steps, other.batch(0)], 2)
    )


def test_the_share_of_padding_is_what_is_padded(lengths: np.ndarray):
    plan = batching(lengths[:, 0], batch=10)
    batches = [plan.batch(step) for step in range(plan.per_epoch)]
    padded = sum(len(batch.places) * batch.padded[0] for batch in batches)
    real = sum(int(lengths[batch.places, 0].sum()) for batch in batches)
    assert plan.padding_share == pytest.approx(1 - real / padded)
    assert plan.padding_share < 0.2 < batching(lengths[:, 0], batch=10, multiple=50).padding_share
    assert batching([8] * 20, batch=10).padding_share == 0


def test_impossible_batches_are_named():
    with pytest.raises(InputError, match="3 sequences are fewer than one batch of 4"):
        batching([1, 2, 3], batch=4)
    with pytest.raises(InputError, match="24 tokens with padding, more than the 20"):
        batching([1, 17], tokens=20)
    with pytest.raises(ValueError, match="one of both"):
        batching([1, 2])
    assert batching([1, 2, 3], batch=4, whole=True).shapes == ((3, 8),)


def test_sequences_are_padded_in_time():
    tokens, lengths = pad([np.array([5, 6, 7]), np.array([], int), np.array([8])], 4)
    assert tokens.dtype == lengths.dtype == np.int32
    assert tokens.T.tolist() == [[5, 6, 7, 0], [0, 0, 0, 0], [8, 0, 0, 0]]
    assert lengths.tolist() == [3, 0, 1]
    with pytest.raises(ValueError, match="broadcast"):
        pad([np.arange(5)], 4)
