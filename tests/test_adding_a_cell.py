"""The README's cell, exactly as it stands there, holds what every cell of the registry holds."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import test_checking, test_unroll, test_unroll_forms
from tests.cells import test_init, test_wrapped
from tests.examples import draw
from tests.layers import test_agreement
from tests.readme import README, blocks, section
from tests.registry import D, Entry, H, noisy_params

(BLOCK,) = blocks(section("Adding a cell"))
ADDED: dict[str, Any] = {}
exec(compile(BLOCK, str(README), "exec"), ADDED)
ENTRY = Entry("antisymmetric", ADDED["antisymmetric"])


CONTRACT = [
    test_unroll.test_every_form_equals_the_plain_loop,
    test_unroll.test_hand_derived_gradient_equals_autodiff,
    test_unroll.test_two_halves_equal_the_whole,
    test_unroll.test_resets_at_masked_steps_are_ignored,
    test_unroll.test_lengths_equal_truncation,
]
EVERY_CELL = [
    test_unroll_forms.test_no_steps_at_all,
    test_unroll_forms.test_forward_and_gradient_lower_for_every_platform,
    test_init.test_every_cell_starts_reproducibly_in_its_own_dtype,
]
IN_FLOAT64 = [test_checking.test_every_cell_passes, test_agreement.test_apply_equals_step_for_every_cell]


@pytest.fixture(scope="module")
def example(request):
    return draw(ENTRY, request.config.getoption("seed"))


@pytest.mark.parametrize("invariant", CONTRACT)
def test_lengths_masks_and_resets(invariant, example, float64):
    invariant(example, reverse=False)


@pytest.mark.parametrize("invariant", EVERY_CELL)
def test_every_form_of_a_call(invariant, key):
    invariant(ENTRY, key)


@pytest.mark.parametrize("invariant", IN_FLOAT64)
def test_gradients_and_streaming(invariant, key, float64):
    invariant(ENTRY, key, float64)


def test_dtypes_carries_and_the_split(key, float64):
    test_unroll_forms.test_dtypes_are_kept(ENTRY, "bfloat16", "float32", key, float64)
    test_init.test_initial_carry_has_the_batch_axes_asked_for(ENTRY, (2, 0, 3), key)
    test_wrapped.test_a_split_is_the_step(ENTRY, key)


def test_the_equation(key, float64):
    cell = ENTRY.cell(jnp.float64)
    params, x, h = noisy_params(cell, key), *(np.asarray(jax.random.normal(key, (size,))) for size in (D, H))
    w, u, b = map(np.asarray, params)
    expected = h + 0.1 * np.tanh(x @ w + b + h @ (u - u.T - 0.01 * np.eye(H)))
    after, y = cell.step(params, jnp.array(h), cell.inputs(params, x[None])[0])
    np.testing.assert_allclose(after, expected, rtol=1e-12)
    np.testing.assert_array_equal(y, after)


def test_it_is_short():
    assert len(BLOCK.splitlines()) < 40
