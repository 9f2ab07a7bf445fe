"""All intermediate carries: those of a loop, zero where steps do not count, for outputs of any form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from tests.examples import at, one_by_one
from tests.registry import BY_NAME, D, assert_trees_close, noisy_params, normal_like

pytestmark = pytest.mark.usefixtures("float64")
T, B = 3, 2


@pytest.mark.parametrize("name", ["lstm", "user-lstm", "user-step"])
def test_carries_are_those_of_a_loop(name, key):
    plain = BY_NAME[name].cell(jnp.float64)
    cell = jaxrnn.all_carries(plain)
    params, xs = noisy_params(plain, key), jax.random.normal(key, (T, B, D))
    carry = normal_like(key, plain.initial_carry(params, (B,)))
    final, (ys, carries) = one_by_one(jaxrnn.unroll, cell, params, xs, carry)
    for t in range(T):
        carry, y = one_by_one(jaxrnn.unroll, plain, params, xs[t : t + 1], carry)
        assert_trees_close((at(ys, t), at(carries, t)), (y[0], carry))
    assert_trees_close(carry, final)


def test_steps_that_do_not_count_have_no_carry(key):
    """They are zero, as outputs are, though the carry itself is held."""
    cell = jaxrnn.all_carries(jaxrnn.lstm(D, 3, dtype=jnp.float64))
    params, xs = noisy_params(cell, key), jax.random.normal(key, (T, B, D))
    mask = np.array([[True, True], [False, True], [True, False]])
    final, (ys, carries) = one_by_one(jaxrnn.unroll, cell, params, xs, mask=mask)
    for leaf in (ys, *carries):
        np.testing.assert_array_equal((leaf != 0).all(axis=-1), mask)
    assert_trees_close(at(final, 1), at(carries, (1, 1)), tolerance=0)


@pytest.mark.parametrize(("name", "by_hand"), [("gru-after", True), ("user-lstm", False)])
def test_the_adjoint_is_kept_with_its_formulas(name, by_hand):
    adjoint = jaxrnn.all_carries(BY_NAME[name].cell(jnp.float64)).adjoint
    assert adjoint is not None
    assert (adjoint.gradients is not None) == by_hand
