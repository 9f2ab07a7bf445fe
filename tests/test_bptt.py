"""How the gradient engine is built, seen from outside: no weight in a loop, no residual unless asked for."""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.interpreters import partial_eval

import jaxrnn
from tests.registry import BY_NAME, CELLS, Entry, assert_trees_close, noisy_params, normal, normal_like

T, B, D, H = 4, 7, 5, 11  # no weight has as many elements as anything that a loop may carry

ADJOINT = [entry.name for entry in CELLS if entry.cell().adjoint is not None]
KINDS = ["vanilla-tanh", "lstm", "gru-after", "gru-before", "learned-user-lstm"]
# Products with the carry, in either loop: one for every other cell; none where U is a diagonal.
IN_LOOP = dict.fromkeys(("gru-before", "minimal-gated", "lem", "lstm-variant"), 2) | {"attending-lstm": 4, "indrnn": 0}
# After the loops: of W and of U, for the gates and for the candidate apart, or of W once; W_c, keys and values too.
AFTER_LOOP = dict.fromkeys(("gru-after", "gru-before"), 4) | {"attending-lstm": 5, "indrnn": 1}
AFTER_LOOP |= dict.fromkeys(("minimal-gated", "lem", "lstm-variant"), 3)
BEFORE_LOOP = dict.fromkeys(("gru-after", "gru-before"), 2)  # x W


def sized(entry: Entry, input_size: int, hidden_size: int, dtype: Any = jnp.float32) -> jaxrnn.Cell:
    return entry.factory(input_size, hidden_size, dtype=dtype, carry_dtype=None, **entry.options)


FLAGS = np.arange(T * B).reshape(T, B) % 3 == 0
AROUND = {
    "plain": {},
    "everything": {"lengths": np.arange(B) % (T + 1), "mask": ~FLAGS, "resets": FLAGS[::-1], "reverse": True},
}


class Case(NamedTuple):
    """What a gradient is taken of: ``loss(params, xs, carry)``."""

    loss: Callable[..., jax.Array]
    arguments: tuple


def example(entry: Entry, gradient: str, around: str = "plain", time: int = T, batch: int = B, hidden: int = H) -> Case:
    cell = sized(entry, D, hidden)
    params = noisy_params(cell, jax.random.key(0))
    xs = np.ones((time, batch, *entry.features[:-1], D), np.float32)
    carry = cell.initial_carry(params, (batch,))

    def loss(params, xs, carry):
        final, ys = jaxrnn.unroll(cell, params, xs, carry, gradient=gradient, **AROUND[around])
        return (ys**2).sum() + sum((leaf**2).sum() for leaf in jax.tree.leaves(final))

    return Case(loss, (params, xs, carry))


@functools.cache
def gradient_jaxpr(name: str, gradient: str, around: str) -> Any:
    """Return the jaxpr of the gradient, without what nothing uses."""
    case = example(BY_NAME[name], gradient, around)
    closed = jax.make_jaxpr(jax.grad(case.loss, argnums=(0, 1, 2)))(*case.arguments)
    return without_dead_code(closed.jaxpr)


def without_dead_code(jaxpr: Any) -> Any:
    """Return what the compiler keeps; JAX itself does not look into every call."""
    return partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))[0]


def weights(name: str) -> list[Any]:
    cell = sized(BY_NAME[name], D, H)
    return jax.tree.leaves(jax.eval_shape(cell.init, jax.random.key(0)))


def walk(jaxpr: Any, in_loop: bool = False) -> Iterator[tuple[Any, bool]]:
    """Yield every equation at any depth, and whether it is inside a loop."""
    for equation in jaxpr.eqns:
        yield equation, in_loop
        inside = in_loop or equation.primitive.name in ("scan", "while")
        for value in equation.params.values():
            for item in value if isinstance(value, (tuple, list)) else (value,):
                inner = getattr(item, "jaxpr", item)
                if hasattr(inner, "eqns"):
                    yield from walk(without_dead_code(inner), inside)


def loops(jaxpr: Any) -> list[Any]:
    return [equation for equation, _ in walk(jaxpr) if equation.primitive.name in ("scan", "while")]


def sizes_in_loop(loop: Any) -> set[int]:
    """Return how many elements each array has that the loop carries, or puts out at every step."""
    body = loop.params["body_jaxpr" if loop.primitive.name == "while" else "jaxpr"]
    return {variable.aval.size for variable in body.jaxpr.outvars}


def weights_in_loops(name: str, gradient: str, around: str) -> set[int]:
    """Return the sizes of parameters that some loop of the gradient accumulates or puts out."""
    sizes = {leaf.size for leaf in weights(name)}
    return sizes & set().union(*map(sizes_in_loop, loops(gradient_jaxpr(name, gradient, around))))


# Every cell with all that can happen around a step, and one of each kind with nothing.
CASES = [(name, "everything") for name in ADJOINT] + [(name, "plain") for name in KINDS]


@pytest.mark.parametrize(("name", "around"), CASES)
def test_no_loop_accumulates_a_weight(name, around):
    assert weights_in_loops(name, "auto", around) == set()


@pytest.mark.parametrize(("name", "around"), [*CASES[-len(KINDS) :], ("user-step", "everything")])
def test_the_inspection_sees_the_weights_of_autodiff(name, around):
    recurrent = next(leaf for leaf in weights(name) if leaf.shape[0] == H)
    assert recurrent.size in weights_in_loops(name, "autodiff", around)


def test_the_inspection_sees_a_weight_in_a_while_loop():
    weight = jnp.ones((H, H))
    jaxpr = jax.make_jaxpr(lambda w: jax.lax.while_loop(lambda w: w[0, 0] < 3.0, lambda w: 2 * w, w))(weight).jaxpr
    assert sizes_in_loop(loops(jaxpr)[0]) == {weight.size}


PRODUCTS = ("dot_general", "conv_general_dilated")


def contracted(equation: Any) -> int:
    """Return over how many elements a product or a convolution sums."""
    if equation.primitive.name == "conv_general_dilated":
        kernel, (out, *_) = equation.invars[1].aval, equation.params["dimension_numbers"].rhs_spec
        return kernel.size // kernel.shape[out]
    (axes, _), _ = equation.params["dimension_numbers"]
    return math.prod(equation.invars[0].aval.shape[axis] for axis in axes)


@pytest.mark.parametrize(("name", "around"), CASES)
def test_every_weight_gradient_is_one_contraction_after_the_loop(name, around):
    jaxpr = gradient_jaxpr(name, "auto", around)

    products = [(equation, inside) for equation, inside in walk(jaxpr) if equation.primitive.name in PRODUCTS]
    outside = [equation for equation, inside in products if not inside]
    # Forward and back, one product with the carry for each of the cell's: nothing is computed twice.
    assert len(loops(jaxpr)) == 2
    assert len(products) - len(outside) == 2 * IN_LOOP.get(name, 1)

    positions = math.prod(BY_NAME[name].features[:-1])  # of a convolution, each of which is a row
    over_rows = [equation for equation in outside if contracted(equation) == T * B * positions]
    matrices = [leaf for leaf in weights(name) if leaf.ndim > 1]
    assert len(over_rows) == AFTER_LOOP.get(name, 2)
    assert sum(e.outvars[0].aval.size for e in over_rows) == sum(leaf.size for leaf in matrices)
    # x W for all rows, and its transpose. (Of h U, only the shape is asked for.)
    terms, of_inputs = math.prod(matrices[0].shape[:-1]), T * B * positions * D
    assert sum(contracted(e) == terms for e in outside) == BEFORE_LOOP.get(name, 1)
    assert sum(e.outvars[0].aval.size == of_inputs for e in outside) == BEFORE_LOOP.get(name, 1)


def temporary_bytes(function: Any, *arguments: Any) -> int:
    analysis = jax.jit(function).lower(*arguments).compile().memory_analysis()
    assert analysis is not None
    return analysis.temp_size_in_bytes


@pytest.mark.parametrize("name", ["lstm", "gru-before", "learned-user-lstm"])
def test_vmap_does_not_make_weight_gradients_per_example(name):
    time, batch, hidden = 2, 64, 64
    cell = sized(BY_NAME[name], D, hidden)
    params = noisy_params(cell, jax.random.key(0))
    xs = np.ones((time, batch, D), np.float32)

    def loss(params, xs):
        return jnp.mean(jaxrnn.unroll(cell, params, xs)[1] ** 2)

    def mean_loss(params, xs):
        return jnp.mean(jax.vmap(loss, (None, 1))(params, xs))

    def summed_gradients(params, xs):
        return jax.tree.map(lambda g: g.sum(axis=0), jax.vmap(jax.grad(loss), (None, 1))(params, xs))

    batched = temporary_bytes(jax.grad(loss), params, xs)
    vmapped = temporary_bytes(jax.grad(mean_loss), params, xs)
    per_example = batch * max(leaf.nbytes for leaf in jax.tree.leaves(params))
    assert vmapped <= 1.5 * batched + 4096
    assert vmapped < per_example / 2
    assert temporary_bytes(summed_gradients, params, xs) >= per_example  # so the measure can tell


@pytest.mark.parametrize("name", ["lstm", "gru-before", "user-lstm"])
def test_forward_alone_keeps_no_residuals(name):
    auto, autodiff = (
        example(BY_NAME[name], gradient, time=64, batch=8, hidden=16) for gradient in ("auto", "autodiff")
    )
    forward = temporary_bytes(auto.loss, *auto.arguments)
    assert forward <= temporary_bytes(autodiff.loss, *autodiff.arguments) + 4096
    a_state_of_every_step = 64 * 8 * 16 * 4  # of which a gradient needs several: so the measure can tell
    assert temporary_bytes(jax.grad(auto.loss), *auto.arguments) > forward + 2 * a_state_of_every_step


# The hand-derived BPTT as a function of its own.

RESTARTS = np.array([[True, False], [False, True], [True, True], [False, False], [False, True]])
VALID = np.array([[True, True], [False, True], [True, True], [True, False], [True, True]])
OPTIONS = {
    "plain": {},
    "lengths": {"lengths": np.array([3, 0])},
    "resets": {"resets": RESTARTS},
    "everything": {"lengths": np.array([5, 4]), "mask": VALID, "resets": RESTARTS, "reverse": True},
}


def by_autodiff(cell, params, xs, carry, dys, dcarry, options) -> jaxrnn.Gradients:
    """Return what `bptt` must give, by `jax.vjp`; the initial carry is held as an argument of its own."""

    def run(params, xs, carry, init):
        fixed = cell._replace(initial_carry=lambda params, batch_shape=(): init)
        return jaxrnn.unroll(fixed, params, xs, carry, gradient="autodiff", **options)

    init = cell.initial_carry(params, xs.shape[1:-1])
    (final, ys), transpose = jax.vjp(run, params, xs, carry, init)
    zeros = jax.tree.map(jnp.zeros_like, (final, ys))
    dfinal, dys = zeros[0] if dcarry is None else dcarry, zeros[1] if dys is None else dys
    dparams, dxs, dstart, dinit = transpose((dfinal, dys))
    return jaxrnn.Gradients(dparams, dxs, dstart, dinit if carry is None or "resets" in options else None)


def hold_together(entry, key, options, given=(True, True, True), time=5, batch=(2,)):
    """Return the gradients by `bptt`, after comparing them with those by autodiff."""
    cell = entry.cell(jnp.float64)
    keys = jax.random.split(key, 4)
    params = noisy_params(cell, keys[0])
    xs = normal(keys[1], (time, *batch, 2))
    carry, ys = jax.eval_shape(lambda p: jaxrnn.unroll(cell, p, xs), params)
    values = [normal_like(k, tree) for k, tree in zip(keys[1:], (carry, ys, carry), strict=True)]
    carry, dys, dcarry = (value if there else None for value, there in zip(values, given, strict=True))
    hand = jax.jit(lambda p, xs, c, *d: jaxrnn.bptt(cell, p, xs, c, dys=d[0], dcarry=d[1], **options))
    exact = jax.jit(lambda p, xs, c, *d: by_autodiff(cell, p, xs, c, d[0], d[1], options))
    actual, expected = (way(params, xs, carry, dys, dcarry) for way in (hand, exact))
    assert_trees_close(actual, expected)
    return actual


@pytest.mark.parametrize("name", ["lstm", "gru-after", "gru-before", "learned-lstm"])
def test_bptt_equals_autodiff(name, key, float64):
    hold_together(BY_NAME[name], key, OPTIONS["everything"])


@pytest.mark.parametrize(
    ("name", "around", "given"),
    [
        ("gru-after", "plain", (False, True, True)),
        ("learned-lstm", "resets", (False, True, True)),
        ("vanilla-relu", "lengths", (True, False, True)),
        ("vanilla-callable", "everything", (True, True, False)),
    ],
)
def test_bptt_with_an_argument_left_out(name, around, given, key, float64):
    gradients = hold_together(BY_NAME[name], key, OPTIONS[around], given)
    assert (gradients.carry is None) == (not given[0])
    assert (gradients.initial_carry is None) == (given[0] and "resets" not in OPTIONS[around])


def test_bptt_without_cotangents_is_zero(key):
    cell = jaxrnn.lstm(2, 3)
    gradients = jax.jit(lambda params: jaxrnn.bptt(cell, params, jnp.ones((4, 2, 2))))(noisy_params(cell, key))
    assert not any(leaf.any() for leaf in jax.tree.leaves(gradients))
    assert gradients.carry is None


def test_bptt_passes_the_learned_carry_s_cotangent_on(key, float64):
    cell = BY_NAME["learned-gru-after"].cell(jnp.float64)
    params, xs = noisy_params(cell, key), normal(key, (5, 2, 2))

    def loss(params):
        return 0.5 * (jaxrnn.unroll(cell, params, xs, resets=RESTARTS, gradient="autodiff")[1] ** 2).sum()

    @jax.jit
    def by_hand(params):
        _, ys = jaxrnn.unroll(cell, params, xs, resets=RESTARTS)
        return jaxrnn.bptt(cell, params, xs, dys=ys, resets=RESTARTS)

    gradients, exact = by_hand(params), jax.jit(jax.grad(loss))(params)
    assert_trees_close(gradients.params.cell, exact.cell)
    assert_trees_close(gradients.initial_carry.sum(axis=0), exact.carry)
    assert not gradients.params.carry.any()


@pytest.mark.parametrize("batch", [(), (2, 3), (0,)], ids=str)
@pytest.mark.parametrize("time", [0, 1])
def test_bptt_for_any_number_of_axes_and_steps(time, batch, key, float64):
    options = {"lengths": np.full(batch, time), "resets": np.ones((time, *batch), bool), "reverse": True}
    hold_together(BY_NAME["vanilla-tanh"], key, options, (False, True, True), time, batch)


@pytest.mark.parametrize("name", ["vanilla-tanh", "lstm", "gru-after"])
def test_bptt_of_no_steps_without_a_mask(name, key, float64):
    """There is no carry before a step then, and none that was stored."""
    for options in ({}, {"reverse": True}):
        gradients = hold_together(BY_NAME[name], key, options, (True, True, True), time=0)
        assert not any(leaf.any() for leaf in jax.tree.leaves(gradients.params))


BY_HAND = [entry for entry in CELLS if (adjoint := entry.cell().adjoint) is not None and adjoint.gradients is not None]


@pytest.mark.parametrize("entry", BY_HAND, ids=str)
def test_bptt_gives_every_gradient_in_the_dtype_of_what_it_belongs_to(entry, key):
    """Where the carry is wider than the parameters, as it is in mixed precision."""
    cell = entry.cell(jnp.bfloat16, jnp.dtype("float32"))
    params = jax.eval_shape(cell.init, key)
    xs = jax.ShapeDtypeStruct((3, 2, *entry.features), jnp.bfloat16)
    carry, ys = jax.eval_shape(lambda params, xs: jaxrnn.unroll(cell, params, xs), params, xs)
    by_hand = jax.eval_shape(lambda *a: jaxrnn.bptt(cell, *a[:3], dys=a[3], dcarry=a[2]), params, xs, carry, ys)
    types = lambda tree: jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)
    assert types((by_hand.params, by_hand.xs, by_hand.carry)) == types((params, xs, carry))


@pytest.mark.parametrize("name", ["lstm", "gru-after"])
def test_bptt_in_mixed_precision_is_what_the_engine_gives(name, key):
    cell = BY_NAME[name].cell(jnp.bfloat16, jnp.dtype("float32"))
    params, xs = noisy_params(cell, key), normal(key, (4, 2, 2), jnp.bfloat16)

    @jax.jit
    def both(params, xs):
        (final, ys), transpose = jax.vjp(lambda params, xs: jaxrnn.unroll(cell, params, xs), params, xs)
        by_hand = jaxrnn.bptt(cell, params, xs, dys=ys, dcarry=final)
        return (by_hand.params, by_hand.xs), transpose((final, ys))

    actual, expected = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), both(params, xs))
    assert_trees_close(actual, expected, tolerance=0.02)
