"""Equinox's cells, one on top of the other and in either direction, and ours."""

import functools
import itertools

import jax
import pytest

import jaxrnn
from jaxrnn.interop import from_equinox, from_state, to_equinox, to_state
from tests.interop.differential import D, H, assert_agree, assert_exact, drawn, noisy

eqx = pytest.importorskip("equinox")


def stack_of(rng, kinds, sizes, **options):
    make = lambda kind, *pair: eqx.filter_eval_shape(kind, *pair, **options, key=jax.random.key(0))
    return noisy(rng, [make(kind, *pair) for kind, pair in zip(kinds, itertools.pairwise(sizes), strict=True)])


def run(cells, xs, layer, params, carry, reverse):
    """Scan the cells, vmapped over the batch."""
    states = to_state("equinox", layer, params, carry)
    states = states if len(cells) > 1 else [states]

    def sequence(states, xs):
        def step(states, x):
            after = []
            for cell, state in zip(cells, states, strict=True):
                after.append(cell(x, state))
                x = after[-1][0] if isinstance(cell, eqx.nn.LSTMCell) else after[-1]
            return after, x

        return jax.lax.scan(step, states, xs, reverse=reverse)

    after, ys = jax.vmap(sequence, in_axes=(0, 1), out_axes=(0, 1))(states, xs)
    return from_state("equinox", layer, params, after), ys


@pytest.mark.parametrize(
    ("kinds", "options", "reverse"),
    [((eqx.nn.LSTMCell, eqx.nn.GRUCell), {}, True), ((eqx.nn.GRUCell,), {"use_bias": False}, False)],
    ids=["stack", "without biases"],
)
def test_agrees(kinds, options, reverse, rng, float64):
    cells = stack_of(rng, kinds, (D, H, 2)[: len(kinds) + 1], **options)
    convert = lambda cells: from_equinox(cells, reverse=reverse)
    assert_agree(rng, functools.partial(run, reverse=reverse), convert, cells)


@pytest.mark.parametrize("cell", [jaxrnn.lstm, jaxrnn.gru])
def test_round_trip(cell, rng):
    layer = jaxrnn.stacked(cell, D, (H, 2))
    params = drawn(rng, layer)
    theirs = to_equinox(layer, params)
    assert_exact(from_equinox(theirs)[1], params)
    assert isinstance(theirs[1], eqx.Module)
    assert (theirs[1].input_size, theirs[1].hidden_size) == (H, 2)
