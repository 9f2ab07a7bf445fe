"""What `unroll` keeps whatever the way it is called: jit, options given or not, dtypes, empty input, platforms."""

import functools
import itertools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from tests import reference
from tests.examples import at, one_by_one
from tests.registry import BY_NAME, CELLS, assert_trees_close, noisy_params, normal, normal_like

EVERY_CELL = pytest.mark.parametrize("entry", CELLS, ids=str)
KINDS = ("vanilla-tanh", "learned-lstm", "gru-before", "conv-gru-1d", "user-lstm", "user-step")
ONE_OF_EACH_KIND = pytest.mark.parametrize("entry", [BY_NAME[name] for name in KINDS], ids=str)
LENGTHS = np.array([2, 3])
MASK = np.array([[True, True], [True, False], [True, True]])
RESETS = np.array([[False, True], [True, True], [True, False]])
PADDED = {"lengths": LENGTHS, "mask": MASK, "resets": RESETS}


def gradients(cell, params, xs, carry=None, **options):
    """Return the results of an unroll, and the gradients of Σ y² + Σ (final carry)²."""

    def loss(params, xs, carry):
        results = jaxrnn.unroll(cell, params, xs, carry, **options)
        squares = [jnp.square(leaf).sum().astype(jnp.float32) for leaf in jax.tree.leaves(results)]
        return functools.reduce(jnp.add, squares), results

    grads, results = jax.grad(loss, argnums=(0, 1, 2), has_aux=True)(params, xs, carry)
    return results, grads


def fast(cell):
    return "manual" if cell.adjoint is not None else "auto"


@EVERY_CELL
def test_jit_equals_no_jit_and_compiles_once(entry, key):
    """In values; tests.test_unroll holds gradients with jit against those without."""
    cell = entry.cell()
    params_key, xs_key, other_key = jax.random.split(key, 3)
    params, other_params = noisy_params(cell, params_key), noisy_params(cell, other_key)
    xs, other_xs = (normal(k, (3, 2, *entry.features)) for k in (xs_key, other_key))
    chex.clear_trace_counter()
    jitted = jax.jit(chex.assert_max_traces(lambda params, xs: gradients(cell, params, xs), n=1))
    first = jitted(params, xs)
    without = one_by_one(jaxrnn.unroll, cell, other_params, other_xs)
    assert_trees_close(jitted(other_params, other_xs)[0], without, tolerance=1e-5)
    assert_trees_close(jitted(params, xs), first, tolerance=0)


every_way: Any = chex.variants


class TestVariants(chex.TestCase):
    """The same values under every way in which chex calls a function."""

    @every_way(with_jit=True, without_jit=True, with_device=True, without_device=True)
    def test_unroll(self):
        cell = jaxrnn.lstm(2, 3)
        params, xs = cell.init(jax.random.key(0)), jnp.linspace(-1.0, 1.0, 12).reshape(3, 2, 2)
        results = self.variant(functools.partial(jaxrnn.unroll, cell))(params, xs)
        assert_trees_close(jax.tree.map(jnp.array, results), reference.unroll(cell, params, xs), tolerance=1e-6)


@pytest.mark.parametrize(
    ("name", "reverse"),
    [("learned-lstm", False), ("gru-before", True)],
)
def test_any_options_given_or_not(name, reverse, key, float64):
    """Hand-derived gradients equal autodiff's, and both the plain loop's values, for all sets of options.

    With a carry where their number is odd.
    """
    entry = BY_NAME[name]
    cell = entry.cell(jnp.float64)
    params_key, xs_key, carry_key, cotangents_key = jax.random.split(key, 4)
    params, xs = noisy_params(cell, params_key), normal(xs_key, (3, 2, *entry.features))
    start = normal_like(carry_key, cell.initial_carry(params, (2,)))
    cotangents = normal_like(cotangents_key, jax.eval_shape(lambda: jaxrnn.unroll(cell, params, xs)))

    def differentiate(arguments, options, gradient):
        unroll = functools.partial(jaxrnn.unroll, cell, reverse=reverse, gradient=gradient, **options)
        results, transpose = jax.vjp(unroll, *arguments)
        return results, transpose(cotangents)

    for given in itertools.product([False, True], repeat=3):
        options = {name: PADDED[name] for name, use in zip(PADDED, given, strict=True) if use}
        arguments = (params, xs, start) if len(options) % 2 else (params, xs)
        by_adjoint, by_autodiff = (one_by_one(differentiate, arguments, options, way) for way in ("manual", "autodiff"))
        assert_trees_close(by_adjoint, by_autodiff)
        expected = one_by_one(reference.unroll, cell, *arguments, **options, reverse=reverse)
        assert_trees_close(by_adjoint[0], expected)


@pytest.mark.parametrize("name", ["learned-lstm", "learned-user-lstm"])
@pytest.mark.parametrize(("gradient", "reverse"), [("manual", False), ("manual", True), ("autodiff", True)])
def test_learned_carry_gets_its_gradient_through_start_and_resets(name, gradient, reverse, key, float64):
    cell = BY_NAME[name].cell(jnp.float64)
    params_key, xs_key = jax.random.split(key)
    params, xs = noisy_params(cell, params_key), normal(xs_key, (3, 2, 2))
    given = normal_like(key, cell.initial_carry(params, (2,)))

    def learned(unroll, carry, **options):
        def loss(theta):
            final, ys = unroll(cell, params._replace(carry=theta), xs, carry, reverse=reverse, **options)
            return sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves((final, ys)))

        return one_by_one(jax.grad(loss), params.carry)

    unroll = functools.partial(jaxrnn.unroll, gradient=gradient)
    for carry, options in ((None, {}), (given, {"resets": RESETS}), (None, PADDED)):
        expected = learned(reference.unroll, carry, **options)
        assert all(np.abs(leaf).min() > 1e-6 for leaf in jax.tree.leaves(expected))
        assert_trees_close(learned(unroll, carry, **options), expected)
    unused = learned(unroll, given)
    assert_trees_close(unused, jax.tree.map(np.zeros_like, unused), tolerance=0)


@EVERY_CELL
@pytest.mark.parametrize(
    ("dtype", "carry_dtype"),
    [("float32", None), ("bfloat16", None), ("float16", None), ("float64", None), ("bfloat16", "float32")],
)
def test_dtypes_are_kept(entry, dtype, carry_dtype, key, float64):
    """With float64 switched on too, so that nothing drifts there in silence."""
    cell = entry.cell(jnp.dtype(dtype), carry_dtype and jnp.dtype(carry_dtype))
    params = jax.eval_shape(cell.init, key)
    xs = jax.ShapeDtypeStruct((3, 2, *entry.features), dtype)
    carry = jax.eval_shape(lambda p: cell.initial_carry(p, (2,)), params)
    assert {leaf.dtype for leaf in jax.tree.leaves(carry)} == {jnp.dtype(carry_dtype or dtype)}
    # By autodiff, a dtype can go astray in the step alone, which is the adjoint's forward without what that keeps: one
    # with and one without a carry of its own will do.
    alike = dtype in ("float16", "float64") or (dtype, carry_dtype) == ("bfloat16", None)
    for gradient in {fast(cell), fast(cell) if alike else "autodiff"}:
        run = functools.partial(gradients, cell, **PADDED, gradient=gradient)
        (final, ys), grads = jax.eval_shape(run, params, xs, carry)
        assert_same_types(final, carry)
        assert {leaf.dtype for leaf in jax.tree.leaves(ys)} == {jnp.dtype(dtype)}
        assert_same_types(grads, (params, xs, carry))


def assert_same_types(actual, expected):
    """Fail unless shapes and dtypes agree; how a dtype came about (weakly or not) counts too."""
    assert jax.tree.map(lambda x: (x.shape, x.dtype), actual) == jax.tree.map(lambda x: (x.shape, x.dtype), expected)


@pytest.mark.parametrize("name", ["lstm", "gru-after", "gru-before"])
@pytest.mark.parametrize("carry_dtype", [None, "float32"])
def test_low_precision_stays_close(name, carry_dtype, key):
    """bfloat16 has 8 bits: values and gradients agree with float32 to a few of their last."""
    low, full = BY_NAME[name].cell(jnp.bfloat16, carry_dtype and jnp.dtype(carry_dtype)), BY_NAME[name].cell()
    params, xs = noisy_params(low, key), normal(key, (3, 2, 2), jnp.bfloat16)
    wide_params, wide_xs = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), (params, xs))
    actual = jax.jit(functools.partial(gradients, low, **PADDED))(params, xs, low.initial_carry(params, (2,)))
    wide_carry = full.initial_carry(wide_params, (2,))
    expected = jax.jit(functools.partial(gradients, full, **PADDED))(wide_params, wide_xs, wide_carry)
    assert_trees_close(jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), actual), expected, tolerance=0.05)


@ONE_OF_EACH_KIND
def test_no_steps_at_all(entry, key):
    """T = 0: the carry comes back, and so does its cotangent."""
    cell = entry.cell()
    params = noisy_params(cell, key)
    xs, carry = normal(key, (0, 2, *entry.features)), normal_like(key, cell.initial_carry(params, (2,)))
    empty = np.zeros((0, 2), bool)
    for options in ({}, {"mask": empty, "resets": empty, "lengths": np.array([0, 0]), "reverse": True}):
        run = jax.jit(functools.partial(gradients, cell, gradient=fast(cell), **options))
        (final, ys), (dparams, dxs, dcarry) = run(params, xs, carry)
        assert_trees_close(final, carry, tolerance=0)
        assert all(leaf.shape[:2] == (0, 2) for leaf in jax.tree.leaves(ys))
        assert dxs.shape == xs.shape
        assert_trees_close(dparams, jax.tree.map(np.zeros_like, params), tolerance=0)
        assert_trees_close(dcarry, jax.tree.map(lambda leaf: 2 * np.asarray(leaf), carry), tolerance=1e-6)
    final, _ = jaxrnn.unroll(cell, params, xs)
    assert_trees_close(final, cell.initial_carry(params, (2,)), tolerance=0)


@ONE_OF_EACH_KIND
def test_no_sequences_at_all(entry, key):
    """A batch of none: nothing comes out, and no gradient."""
    cell = entry.cell()
    params, xs = noisy_params(cell, key), normal(key, (3, 0, *entry.features))
    nothing = at(PADDED["mask"], (slice(None), slice(0)))
    steps = {"lengths": np.zeros(0, int), "mask": nothing, "resets": nothing}
    run = jax.jit(functools.partial(gradients, cell, gradient=fast(cell), **steps))
    (final, ys), (dparams, dxs, _) = run(params, xs)
    assert_trees_close(final, cell.initial_carry(params, (0,)))
    assert all(leaf.shape[:2] == (3, 0) for leaf in jax.tree.leaves(ys))
    assert dxs.shape == xs.shape
    assert_trees_close(dparams, jax.tree.map(np.zeros_like, params), tolerance=0)


@EVERY_CELL
def test_forward_and_gradient_lower_for_every_platform(entry, key):
    cell = entry.cell()
    params, xs = jax.eval_shape(cell.init, key), jax.ShapeDtypeStruct((3, 2, *entry.features), jnp.float32)
    carry = jax.eval_shape(lambda p: cell.initial_carry(p, (2,)), params)
    run = jax.jit(functools.partial(gradients, cell, **PADDED, gradient=fast(cell)))
    exported = jax.export.export(run, platforms=("cpu", "cuda", "tpu"))(params, xs, carry)
    assert exported.platforms == ("cpu", "cuda", "tpu")
    assert len(exported.out_avals) == len(jax.tree.leaves(jax.eval_shape(run, params, xs, carry)))


@ONE_OF_EACH_KIND
def test_steps_per_iteration_change_nothing(entry, key, float64):
    """`unroll=3` over 4 steps, one left over, in both loops."""
    cell = entry.cell(jnp.float64)
    params, xs = noisy_params(cell, key), normal(key, (4, 2, *entry.features))
    one, three = (
        jax.jit(functools.partial(gradients, cell, lengths=np.array([3, 4]), reverse=True, unroll=factor))(params, xs)
        for factor in (1, 3)
    )
    assert_trees_close(three, one)
