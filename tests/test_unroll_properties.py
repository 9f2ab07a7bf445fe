"""`unroll` against the plain loop, in values and gradients, for whatever shapes and flags hypothesis finds."""

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import jaxrnn
from tests import reference
from tests.registry import BY_NAME, assert_trees_close, noisy_params, normal, normal_like

KINDS = ("vanilla-tanh", "learned-lstm", "gru-before", "learned-user-lstm")
SIZES, TIMES, BATCHES = ((1, 1), (2, 3)), (0, 1, 2, 5), ((), (2,), (1, 2))  # few: new shapes are compiled anew


@st.composite
def calls(draw):
    """Draw ``(name, (input_size, hidden_size), time, batch, with_carry, options)``."""
    time, batch = draw(st.sampled_from(TIMES)), draw(st.sampled_from(BATCHES))
    options = {"reverse": draw(st.booleans())}
    if draw(st.booleans()):
        options["lengths"] = draw(npst.arrays(np.int32, batch, elements=st.integers(0, time)))
    for name in ("mask", "resets"):
        if draw(st.booleans()):
            options[name] = draw(npst.arrays(bool, (time, *batch)))
    return draw(st.sampled_from(KINDS)), draw(st.sampled_from(SIZES)), time, batch, draw(st.booleans()), options


@pytest.mark.usefixtures("float64")
@hypothesis.settings(max_examples=3)
@hypothesis.given(call=calls(), seed=st.integers(0, 2**31 - 1))
def test_unroll_equals_the_plain_loop(call, seed):
    name, (input_size, hidden_size), time, batch, with_carry, options = call
    entry = BY_NAME[name]
    cell = entry.factory(input_size, hidden_size, dtype=jnp.float64, carry_dtype=None, **entry.options)
    params_key, xs_key, carry_key, cotangents_key = jax.random.split(jax.random.key(seed), 4)
    params, xs = noisy_params(cell, params_key), normal(xs_key, (time, *batch, input_size))
    carry = normal_like(carry_key, cell.initial_carry(params, batch)) if with_carry else None
    types = jax.eval_shape(functools.partial(jaxrnn.unroll, cell), params, xs)
    cotangents = normal_like(cotangents_key, types)

    def differentiate(unroll):
        results, transpose = jax.vjp(functools.partial(unroll, cell, **options), params, xs, carry)
        return results, transpose(cotangents)

    with jax.disable_jit(time > 0):  # JAX has no empty loops there
        expected = differentiate(reference.unroll)
        assert_trees_close(differentiate(functools.partial(jaxrnn.unroll, gradient="manual")), expected)
        assert_trees_close(jaxrnn.unroll(cell, params, xs, carry, gradient="autodiff", **options), expected[0])
