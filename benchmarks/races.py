"""A race: contenders made ready, found equal, and timed in turn."""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
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
    """Rounds of a race, at most; every round calls each contender once."""
    seconds: float = 10.0
    """Seconds of a race, at most, but for the round that is under way."""
    warmup: int = 3
    """Rounds before the clock starts."""

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.seconds <= 0 or self.warmup < 0:
            got = f"{self.rounds}, {self.seconds} and {self.warmup}"
            raise InputError(f"--rounds, --seconds, --warmup: expected at least 1, above 0 and at least 0, got {got}")


class Entrant(NamedTuple):
    """A program with its name; its reference, to which its ratio is, is the first entrant with its variant."""

    peer: str
    program: Program
    variant: str = ""
    settings: Mapping[str, Any] = NOTHING
    distribution: str = "jaxrnn"


def enter(names: Sequence[str], kind: str, shape: Shape, mode: str, dtype: str = "float32") -> list[Entrant]:
    """Return who of ``names`` has this cell, after jaxrnn, which enters once more for every variant of a peer.

    Where no jaxrnn is named, or the batch cannot be spread over the devices, jaxrnn on one device stands in.
    """
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
        problem = draw(kind, shape, dtype=dtype, options=options[variant])
        references = ready(ours, problem, mode) or ready(["jaxrnn-1"], problem, mode)
        entrants += (references[:1] if variant else references) + ready(others, problem, mode)
    return entrants


def ready(names: Sequence[str], problem: Problem, mode: str) -> list[Entrant]:
    """Return those of ``names`` that can do this problem, their programs compiled."""
    entrants = []
    for name in names:
        contender = CONTENDERS[name]
        with contextlib.suppress(NotApplicableError):
            program = contender.module.program(problem, mode, **contender.options)
            entrants.append(Entrant(name, program, problem.variant, distribution=contender.distribution))
    return entrants


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
