"""Timing in turn, checking, and the floor, on numbers known beforehand."""

import numpy as np
import pytest

from benchmarks import floor, measure, races
from benchmarks.errors import InputError, MismatchError
from benchmarks.problems import Shape
from benchmarks.programs import Program
from benchmarks.races import Budget


class Clock:
    """A clock that only calls move on: call number n of a contender takes ``durations[n]`` seconds."""

    def __init__(self, durations):
        self.now = 0.0
        self.called = []
        self.left = {name: iter(times) for name, times in durations.items()}
        self.calls = [lambda name=name: self.spend(name) for name in durations]

    def spend(self, name):
        self.called.append(name)
        self.now += next(self.left[name])

    def rest(self, seconds):
        self.now += seconds

    def interleave(self, **options):
        return measure.interleave(self.calls, clock=lambda: self.now, rest=self.rest, **options)


def test_medians_and_spreads_are_over_the_second_calls_of_the_rounds_without_warm_up_and_rest():
    timed = {"a": [1.0, 2.0, 3.0, 4.0, 100.0], "b": [8.0] * 5}
    clock = Clock({name: [50.0, *(time for turn in times for time in (70.0, turn))] for name, times in timed.items()})
    a, b = clock.interleave(rounds=5, seconds=1e6, warmup=1)
    assert (a.median, a.spread, a.rounds) == pytest.approx((3.0, 2.0, 5))
    assert (b.median, b.spread, b.rounds) == pytest.approx((8.0, 0.0, 5))


def test_every_round_calls_each_once_and_nobody_always_follows_the_same():
    names = ["a", "b", "c"]
    clock = Clock({name: [1.0] * 40 for name in names})
    clock.interleave(rounds=20, seconds=1e6, warmup=0)
    assert clock.called[::2] == clock.called[1::2]
    rounds = [tuple(clock.called[start : start + 6 : 2]) for start in range(0, 120, 6)]
    assert {frozenset(order) for order in rounds} == {frozenset(names)}
    assert len(set(rounds)) > 2


def test_rounds_end_with_the_time_but_never_before_the_least():
    clock = Clock({"a": [1.0] * 99, "b": [2.0] * 99})
    assert [timing.rounds for timing in clock.interleave(rounds=90, seconds=20.0, warmup=0)] == [4, 4]
    assert [timing.rounds for timing in clock.interleave(rounds=90, seconds=0.1, warmup=0)] == [1, 1]
    assert [timing.rounds for timing in clock.interleave(rounds=90, seconds=0.1, least=5, warmup=0)] == [5, 5]
    assert [timing.rounds for timing in clock.interleave(rounds=3, seconds=0.1, least=5, warmup=0)] == [3, 3]


@pytest.mark.parametrize(("work", "waits"), [([0.0], 1), ([4e-3, 0.9e-3, 1e-4, 4e-3], 3), ([5e-3] * 99, measure.RESTS)])
def test_a_call_waits_until_the_threads_of_the_last_sleep_but_not_for_ever(work, waits):
    spent, left = [0.0], iter(work)

    def rest(seconds):
        assert seconds == measure.REST
        spent.append(spent[-1] + next(left))

    measure.settle(rest, lambda: spent[-1])
    assert len(spent) - 1 == waits


def test_every_call_that_is_timed_starts_settled(monkeypatch):
    clock = Clock({"a": [1.0] * 9, "b": [1.0] * 9})
    monkeypatch.setattr(measure, "settle", lambda rest: clock.called.append("settled"))
    clock.interleave(rounds=3, seconds=1e6, warmup=1)
    assert clock.called[2::3] == ["settled"] * 6


def test_a_budget_of_nothing_is_refused():
    with pytest.raises(InputError, match=r"--rounds, --seconds, --least, --warmup: .* got 0, 10.0, 7 and 3"):
        Budget(rounds=0)


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ({"w": np.array([1.0, 2.1]), "b": np.zeros(1)}, r"peer: results\['w'\] is off by 5.0e-02"),
        ({"w": np.array([1.0, np.nan]), "b": np.zeros(1)}, r"results\['w'\] is off by nan"),
        ({"w": np.ones((2, 1)), "b": np.zeros(1)}, r"results\['w'\] has shape \(2, 1\), expected \(2,\)"),
        ({"w": np.array([1.0, 2.0])}, "results of another structure"),
    ],
)
def test_results_that_differ_are_refused(results, message):
    with pytest.raises(MismatchError, match=message):
        measure.check("peer", results, {"w": np.array([1.0, 2.0]), "b": np.zeros(1)}, 1e-3)


def test_an_error_is_relative_to_the_largest_value_and_missing_weights_are_passed_over():
    expected = {"w": np.array([0.001, -2.0]), "b": np.ones(1)}
    assert measure.check("peer", {"w": np.array([0.002, -2.0]), "b": None}, expected, 1e-3) == pytest.approx(5e-4)


def test_the_floor_counts_the_products_of_an_lstm_by_hand():
    # T = 5 steps of B = 2 rows: x W is [2] by [2, 12], 48 operations a row; h U is [3] by [3, 12], 72 a row.
    shape = Shape(T=5, B=2, D=2, H=3)
    assert floor.operations("lstm", shape, "forward") == 10 * (48 + 72)
    # Back: dz Uᵀ and dU are 72 each, dW is 48.
    assert floor.operations("lstm", shape, "forward+backward") == 10 * (48 + 72) + 10 * (72 + 72 + 48)
    assert floor.milliseconds("lstm", shape, "forward", rate=1.2e6) == pytest.approx(1.0)


def test_the_floor_of_a_race_is_that_of_the_product_timed_in_it(monkeypatch):
    """A product of 240 operations takes 3 s in the median, the race's own are 1,200: a floor of 15 s."""
    clock = Clock({"lstm": [0.0, 20.0, 0.0, 30.0, 0.0, 40.0], "product": [0.0, 1.0, 0.0, 3.0, 0.0, 9.0]})
    entrant = races.Entrant("jaxrnn-1", Program(clock.calls[0]))
    timings = clock.interleave(rounds=3, seconds=1e6, warmup=0)
    monkeypatch.setattr(measure, "interleave", lambda calls, **_: timings[: len(calls)])
    product = floor.Product(clock.calls[1], 240)
    (row,) = races.race(
        "peers", "lstm", Shape(T=5, B=2, D=2, H=3), "forward", [entrant], Budget(), errors=[0.0], product=product
    )
    assert row.milliseconds == pytest.approx(30e3)
    assert row.floor_milliseconds == pytest.approx(15e3)


def test_a_square_product_counts_its_operations():
    product = floor.square_product("float32", size=4)
    assert product.call().shape == (4, 4)
    assert product.operations == 4 * 4 * (4 + 4)
