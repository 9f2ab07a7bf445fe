"""Networks of more than a plain layer, by jaxrnn, by naive scans and by torch."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from benchmarks import problems
from benchmarks.contenders import naive_scan
from benchmarks.errors import NotApplicableError
from benchmarks.problems import Problem, Shape
from benchmarks.programs import Network, Program, on_one_device, over_devices

DROPOUT = 0.5
RESETS = 0.05


class Case(NamedTuple):
    """A network and what it needs besides xs.

    name: "stack", "bidirectional", "lengths", "resets" or "dropout".
    problem: its first layer, and xs.
    params: of its layers, or of its two directions.
    lengths: int ``[B]``; resets: bool ``[T, B]``; key: of the dropout. None where the case has none.
    """

    name: str
    problem: Problem
    params: tuple[Any, ...]
    lengths: jax.Array | None
    resets: jax.Array | None
    key: jax.Array | None


def draw(name: str, kind: str, shape: Shape) -> Case:
    """Draw a case, the same at every call."""
    problem = problems.draw(kind, shape)
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, shape.T, (shape.B,), endpoint=True)
    second = {
        "stack": (problems.draw(kind, shape._replace(D=shape.H)).params,),
        "dropout": (problems.draw(kind, shape._replace(D=shape.H)).params,),
        "bidirectional": (jax.tree.map(lambda leaf: 0.9 * leaf, problem.params),),
    }
    return Case(
        name,
        problem,
        (problem.params, *second.get(name, ())),
        jnp.asarray(lengths) if name == "lengths" else None,
        jnp.asarray(rng.random(shape[:2]) < RESETS) if name == "resets" else None,
        jax.random.key(0) if name == "dropout" else None,
    )


def by_jaxrnn(case: Case, mode: str, *, devices: int | None = None) -> Program:
    """Return the program of jaxrnn's layers on that many devices, for None on as many as can share the batch."""
    kind, (_, _, D, H) = case.problem.kind, case.problem.shape
    first, second = (getattr(jaxrnn, kind)(features, H) for features in (D, H))
    backward = jaxrnn.recurrent(first, reverse=True)
    layer = jaxrnn.recurrent(first)
    params = case.params
    if case.name == "stack":
        layer = jaxrnn.serial(layer, jaxrnn.recurrent(second))
    elif case.name == "dropout":
        layer, params = (
            jaxrnn.serial(layer, jaxrnn.dropout(DROPOUT), jaxrnn.recurrent(second)),
            (params[0], (), params[1]),
        )

    def apply(params: Any, xs: jax.Array, lengths: Any, resets: Any, keys: Any) -> jax.Array:
        if case.name == "bidirectional":
            _, forth = layer.apply(params[0], xs)
            _, back = backward.apply(params[1], xs)
            return jnp.concatenate([forth, back], axis=-1)
        own = params if len(params) > 1 else params[0]
        key = None if keys is None else keys[0]
        return layer.apply(own, xs, lengths=lengths, resets=resets, key=key)[1]

    # One key for each row, so that each device has keys of its own, of which it takes the first.
    keys = None if case.key is None else jax.random.split(case.key, case.problem.shape.B)
    extras = (case.lengths, case.resets, keys)
    return over_devices(Network(params, apply), case.problem.xs, mode, devices, *extras, axes=(0, 1, 0))


def by_naive_scan(case: Case, mode: str) -> Program:
    """Return the program of naive scans, with a mask of valid steps or resets inside the step."""
    kind = case.problem.kind

    def apply(params: Any, xs: jax.Array, lengths: Any, resets: Any, key: Any) -> jax.Array:
        if case.name == "bidirectional":
            both = [
                naive_scan.scan(kind, p, xs, reverse=reverse) for p, reverse in zip(params, (False, True), strict=True)
            ]
            return jnp.concatenate(both, axis=-1)
        if lengths is not None:
            return masked(kind, params[0], xs, jnp.arange(len(xs))[:, None] < lengths)
        if resets is not None:
            return restarted(kind, params[0], xs, resets)
        for index, layer in enumerate(params):
            if index > 0 and key is not None:
                xs = jnp.where(jax.random.bernoulli(key, 1 - DROPOUT, xs.shape), xs / (1 - DROPOUT), 0.0)
            xs = naive_scan.scan(kind, layer, xs)
        return xs

    return on_one_device(Network(case.params, apply), case.problem.xs, mode, case.lengths, case.resets, case.key)


def choose(flags: jax.Array, one: Any, other: Any) -> Any:
    """Return ``one`` for the sequences whose flag is set, else ``other``."""
    return jax.tree.map(lambda a, b: jnp.where(flags[:, None], a, b), one, other)


def masked(kind: str, params: Any, xs: jax.Array, valid: jax.Array) -> jax.Array:
    """Return ys of a naive scan that holds its carry, and gives zeros, at steps that are not valid."""

    def step(carry: Any, inputs: Any) -> tuple[Any, jax.Array]:
        x, valid = inputs
        after, y = naive_scan.STEPS[kind](params, carry, x)
        return choose(valid, after, carry), choose(valid, y, jnp.zeros_like(y))

    return jax.lax.scan(step, naive_scan.initial_carry(kind, params, xs.shape[1]), (xs, valid))[1]


def restarted(kind: str, params: Any, xs: jax.Array, resets: jax.Array) -> jax.Array:
    """Return ys of a naive scan whose carry is zero again before every reset."""
    start = naive_scan.initial_carry(kind, params, xs.shape[1])

    def step(carry: Any, inputs: Any) -> tuple[Any, jax.Array]:
        x, reset = inputs
        return naive_scan.STEPS[kind](params, choose(reset, start, carry), x)

    return jax.lax.scan(step, start, (xs, resets))[1]


def by_torch(case: Case, mode: str) -> Program:
    """Return the program of torch's module; lengths by packing and unpacking."""
    import torch

    from benchmarks.contenders import torch_nn

    if case.name == "resets":
        raise NotApplicableError("torch has no resets")
    kind, (T, _, D, H) = case.problem.kind, case.problem.shape
    twice = case.name == "bidirectional"
    module = torch_nn.MODULES[kind](
        D,
        H,
        num_layers=1 if twice else len(case.params),
        bidirectional=twice,
        dropout=DROPOUT * (case.name == "dropout"),
    )
    suffixes = ("_l0", "_l0_reverse" if twice else "_l1")[: len(case.params)]
    for params, suffix in zip(case.params, suffixes, strict=True):
        torch_nn.load(module, params, suffix)
    module.to(torch_nn.device())
    xs = torch_nn.tensor(case.problem.xs)
    lengths = None if case.lengths is None else torch.from_numpy(np.array(case.lengths, np.int64))

    def run() -> Any:
        if lengths is None:
            return module(xs)[0]
        packed = torch.nn.utils.rnn.pack_padded_sequence(xs, lengths, enforce_sorted=False)
        return torch.nn.utils.rnn.pad_packed_sequence(module(packed)[0], total_length=T)[0]

    return torch_nn.timed(
        module, run, mode, lambda: tuple(torch_nn.gradients(kind, module, suffix) for suffix in suffixes)
    )


PROGRAMS = {
    "jaxrnn": by_jaxrnn,
    "jaxrnn-1": functools.partial(by_jaxrnn, devices=1),
    "naive": by_naive_scan,
    "torch": by_torch,
}
