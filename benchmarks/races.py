"""A race: contenders made ready, found equal, and timed in turn."""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks import floor, measure
from benchmarks.contenders import CONTENDERS, NOTHING
from benchmarks.errors import InputError, NotApplicableError
from benchmarks.problems import Problem, Shape, draw, in_words, tolerance
from benchmarks.programs import Program
from benchmarks.rows import Row, versions

OURS = ("jaxrnn", "jaxrnn-1")


@dataclasses.dataclass(frozen=True)
class Budget:
    """How long to measure."""

    rounds: int = 30
    """Rounds of a race, at most; in every round each contender is timed once."""
    seconds: float = 10.0
    """Seconds of a race, but for the round that is under way."""
    least: int = 7
    """Rounds of a race that there are however long they take, if --rounds are no fewer."""
    warmup: int = 3
    """Calls of each contender before the clock starts."""

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.seconds <= 0 or self.least < 1 or self.warmup < 0:
            raise InputError(
                "--rounds, --seconds, --least, --warmup: expected at least 1, above 0, at least 1 and at least 0, "
                f"got {self.rounds}, {self.seconds}, {self.least} and {self.warmup}"
            )


class Entrant(NamedTuple):
    """A program with its name; its reference, to which its ratio is, is the first entrant with its variant."""

    peer: str
    program: Program
    variant: str = ""
    settings: Mapping[str, Any] = NOTHING
    distribution: str = "jaxrnn"


def enter(names: Sequence[str], kind: str, shape: Shape, mode: str) -> list[Entrant]:
    """Return who of ``names`` has this cell, after jaxrnn, which enters once more for every variant of a peer."""
    ours = [name for name in OURS if name in names]
    peers: dict[str, list[str]] = {"": []}
    options = {"": NOTHING}
    for name in names:
        problem_options = CONTENDERS[name].options_of(kind)
        variant = in_words(problem_options)
        options[variant] = problem_options
        peers.setdefault(variant, []).extend([] if name in OURS else [name])
    entrants: list[Entrant] = []
    for variant, others in peers.items():
        problem = draw(kind, shape, options=options[variant])
        references = ours[:1] if variant else ours
        entrants += jaxrnn_first([*references, *others], program_of(problem, mode), variant)
    return entrants


def program_of(problem: Problem, mode: str) -> Callable[[str], Program]:
    """Return ``name -> program`` of a contender with this problem."""
    return lambda name: CONTENDERS[name].module.program(problem, mode, **CONTENDERS[name].options)


def jaxrnn_first(
    names: Sequence[str], program: Callable[[str], Program], variant: str = "", settings: Mapping[str, Any] = NOTHING
) -> list[Entrant]:
    """Return those of ``names`` that have such a ``program``, jaxrnn first.

    Where no jaxrnn is named, or the batch cannot be spread over devices, jaxrnn on one device stands in.
    """

    def ready(names: Sequence[str]) -> list[Entrant]:
        entrants = []
        for name in names:
            with contextlib.suppress(NotApplicableError):
                entrants.append(Entrant(name, program(name), variant, settings, CONTENDERS[name].distribution))
        return entrants

    ours = ready([name for name in OURS if name in names]) or ready(["jaxrnn-1"])
    return ours + ready([name for name in names if name not in OURS])


def race(
    question: str,
    kind: str,
    shape: Shape,
    mode: str,
    entrants: Sequence[Entrant],
    budget: Budget,
    *,
    dtype: str = "float32",
    errors: Sequence[float | None] | None = None,
    product: floor.Product | None = None,
) -> list[Row]:
    """Check all entrants against their references, time them in turn, and return their rows.

    Args:
        question, kind, shape, mode, dtype: for the rows.
        entrants: the first of each variant is the reference.
        budget: how long to measure.
        errors: of each entrant, where they are known, or cannot be; compared here unless given.
        product: what the floor is measured by, timed in turn with the entrants; None for no floor.

    Raises:
        MismatchError: an entrant computes something else than its reference.
    """
    references = {entrant.variant: index for index, entrant in reversed(list(enumerate(entrants)))}
    if errors is None:
        results = [entrant.program.read(entrant.program.call()) for entrant in entrants]
        errors = [
            measure.check(entrant.peer, result, results[references[entrant.variant]], tolerance(dtype, entrant.variant))
            for entrant, result in zip(entrants, results, strict=True)
        ]
    calls = [entrant.program.call for entrant in entrants]
    timings = measure.interleave(
        calls if product is None else [*calls, product.call],
        rounds=budget.rounds,
        seconds=budget.seconds,
        least=budget.least,
        warmup=budget.warmup,
    )
    lowest = None  # milliseconds that the products alone would take
    if product is not None:
        lowest = floor.milliseconds(kind, shape, mode, product.operations / timings.pop().median)
    return [
        Row(
            question=question,
            cell=kind,
            variant=entrant.variant,
            shape=tuple(shape),
            dtype=dtype,
            mode=mode,
            peer=entrant.peer,
            milliseconds=1e3 * timing.median,
            spread=1e3 * timing.spread,
            ratio=timing.median / timings[references[entrant.variant]].median,
            floor_milliseconds=lowest,
            temporary_bytes=entrant.program.temporary_bytes,
            compile_seconds=entrant.program.compile_seconds,
            error=error,
            rounds=timing.rounds,
            settings=dict(entrant.settings),
            versions=versions(entrant.distribution),
        )
        for entrant, timing, error in zip(entrants, timings, errors, strict=True)
    ]
