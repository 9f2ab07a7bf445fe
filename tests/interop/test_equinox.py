"""Equinox's cells, one on top of the other and in either direction, and ours."""

import itertools

import jax
import pytest

import jaxrnn
from jaxrnn.interop import from_equinox, from_state, to_equinox, to_state
from tests.interop.differential import D, H, assert_agree, assert_exact, drawn, noisy

eqx = pytest.importorskip("equinox")


def stack_of(rng, made, sizes, **options):
    make = lambda *pair: eqx.filter_eval_shape(made, *pair, **options, key=jax.random.key(0))
    return noisy(rng, [make(*pair) for pair in itertools.pairwise(sizes)])


def run(cells, xs, layer, params, carry, reverse):
    """Scan the cells, vmapped over the batch."""
    states = to_state("equinox", layer, params, carry)

    def sequence(states, xs):
        def step(states, x):
            after = []
            for cell, state in zip(cells, states, strict=True):
                after.append(cell(x, state))
                x = after[-1][0] if isinstance(cell, eqx.nn.LSTMCell) else after[-1]
            return after, x

        return jax.lax.scan(step, states, xs, reverse=reverse)

    states, ys = jax.vmap(sequence, in_axes=(0, 1), out_axes=(0, 1))(states, xs)
    return from_state("equinox", layer, params, states), ys


@pytest.mark.parametrize(
    ("kind", "options", "reverse"),
    [("LSTMCell", {}, True), ("GRUCell", {}, False), ("GRUCell", {"use_bias": False}, False)],
)
def test_agrees(kind, options, reverse, rng, float64):
    cells = stack_of(rng, getattr(eqx.nn, kind), (D, H, 2), **options)
    convert = lambda cells: from_equinox(cells, reverse=reverse)
    assert_agree(rng, lambda *arguments: run(*arguments, reverse), convert, cells)


@pytest.mark.parametrize("cell", [jaxrnn.lstm, jaxrnn.gru])
def test_round_trip(cell, rng):
    layer = jaxrnn.stacked(cell, D, (H, 2))
    params = drawn(rng, layer)
    theirs = to_equinox(layer, params)
    assert_exact(from_equinox(theirs)[1], params)
    assert isinstance(theirs[1], eqx.Module)
    assert (theirs[1].input_size, theirs[1].hidden_size) == (H, 2)
