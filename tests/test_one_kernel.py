"""One row's loop as one kernel: which loops are, that they compute what they did, and that no other is."""

import re

import chex
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import one_kernel as module
from jaxrnn.one_kernel import LARGEST_KERNEL, LARGEST_SUM, one_kernel
from jaxrnn.training import data_parallel
from tests.registry import BY_NAME, assert_trees_close, noisy_params, normal

T = 5
MARK = 'xla_cpu_small_call = "true"'


def marks(function, *arguments):
    """Return how many calls a program asks to be one kernel."""
    return jax.jit(function).lower(*arguments).as_text().count(MARK)


def loss_of(cell, **options):
    def loss(params, xs):
        final, ys = jaxrnn.unroll(cell, params, xs, **options)
        return sum((leaf**2).sum() for leaf in jax.tree.leaves((final, ys)))

    return loss


KERNELS = ["vanilla-tanh", "lstm", "lstm-variant", "gru-after", "gru-before", "normalized-vanilla", "lem", "indrnn"]


@pytest.mark.parametrize("name", [*KERNELS, "learned-lstm", "user-lstm"])
def test_one_row_equals_autodiff(name, key, float64):
    cell = BY_NAME[name].cell(jnp.float64)
    params, xs = noisy_params(cell, key), normal(key, (T, 2))
    given = {"mask": np.arange(T) != 2, "resets": np.arange(T) == 3}
    one, other = (jax.value_and_grad(loss_of(cell, gradient=way, **given), (0, 1)) for way in ("manual", "autodiff"))
    assert_trees_close(jax.jit(one)(params, xs), jax.jit(other)(params, xs))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", ["vanilla-tanh", "lstm", "gru-after", "gru-before", "user-lstm"])
def test_values_without_a_gradient(name, reverse, key, float64):
    """By a loop of their own, which reads ahead."""
    cell = BY_NAME[name].cell(jnp.float64)
    params, xs = noisy_params(cell, key), normal(key, (T, 1, 2))
    given = {"mask": np.arange(T)[:, None] != 2, "resets": np.arange(T)[:, None] == 3, "reverse": reverse}

    def run(params, xs):
        return [jaxrnn.unroll(cell, params, xs, gradient=way, **given) for way in ("manual", "autodiff")]

    assert marks(run, params, xs) == 1
    assert_trees_close(*jax.jit(run)(params, xs))


@pytest.mark.parametrize(
    ("name", "loops"),
    [("vanilla-tanh", 2), ("lstm", 2), ("gru-after", 2), ("gru-before", 2), ("user-lstm", 2), ("attending-lstm", 0)],
)
def test_both_loops_of_one_row_are_kernels(name, loops, key):
    """Unless there is a product in them that is not of a vector: `attending` has one for each example."""
    cell = BY_NAME[name].cell()
    params, xs = noisy_params(cell, key), jnp.ones((T, 1, *BY_NAME[name].features))
    assert marks(lambda params, xs: jaxrnn.unroll(cell, params, xs), params, xs) == min(loops, 1)
    assert marks(jax.grad(loss_of(cell)), params, xs) == loops
    assert marks(jax.grad(loss_of(cell)), params, jnp.ones((T, 2, *BY_NAME[name].features))) == 0


def test_the_kernel_is_all_there_is_of_the_loops():
    """Without a mark, the program's entry runs the loops; with it, it calls two functions."""
    cell = jaxrnn.lstm(3, 4)
    params = cell.init(jax.random.key(0))
    text = str(jax.jit(jax.grad(loss_of(cell))).lower(params, jnp.ones((T, 1, 3))).compile().as_text())
    entry = text[text.index("ENTRY ") :]
    assert entry.count(" call(") == 2
    assert " while(" not in entry


def test_nothing_is_copied_or_made_twice_around_a_kernel():
    """Gates and their cotangents are one array each, as the products write and read them."""
    time, cell = 300, jaxrnn.lstm(3, 64)
    params = cell.init(jax.random.key(0))
    program = str(jax.jit(jax.grad(loss_of(cell))).lower(params, jnp.ones((time, 1, 3))).compile().as_text())
    entry = program[program.index("ENTRY") :].splitlines()
    calls = [line for line in entry if 'xla_cpu_small_call="true"' in line and " call(" in line]
    assert [line.split(" call(")[0].count(f"f32[{time},256]") for line in calls] == [1, 1]
    assert not [line for line in entry if re.match(rf"\s*%\S*copy\S* = f32\[{time},", line)]


def test_only_for_cpus(key):
    """A program for another device, or for a version of JAX that no test has seen, asks for nothing."""
    cell = jaxrnn.gru(3, 4)
    params, xs = cell.init(key), jnp.ones((T, 1, 3))

    def exported(platform):
        return jax.export.export(jax.jit(jax.grad(loss_of(cell))), platforms=[platform])(params, xs).mlir_module()

    assert exported("cpu").count(MARK) == 2
    assert exported("cuda").count(MARK) == exported("tpu").count(MARK) == 0


def test_only_for_versions_that_were_tested(key, monkeypatch):
    cell = jaxrnn.gru(3, 4)
    params, xs = cell.init(key), jnp.ones((T, 1, 3))
    monkeypatch.setattr(module, "TESTED", ((0, 9),))
    assert marks(jax.grad(loss_of(cell)), params, xs) == 0


def over(step):
    """Return a function of ``(weights, xs)``, a loop of ``step(weights, carry, x) -> carry`` from zeros."""

    def loop(weights, xs):
        carry = jax.tree.map(lambda leaf: jnp.zeros_like(leaf[0]), xs)
        return jax.lax.scan(lambda carry, x: (step(weights, carry, x),) * 2, carry, xs)

    return loop


WIDTH = 512
HIGHEST = LARGEST_KERNEL // WIDTH
PRODUCT = over(lambda w, h, x: h + jnp.dot(x, w).sum())
SUM = over(lambda w, h, x: h * w + x.sum())
SORT = over(lambda w, h, x: jnp.sort(h + x @ w))
BARRIER = over(jax.checkpoint(lambda w, h, x: jnp.sin(h + x @ w)))
LOOPS = {
    "product": (PRODUCT, (HIGHEST, WIDTH), (T, HIGHEST), 1),
    "larger product": (PRODUCT, (HIGHEST + 1, WIDTH), (T, HIGHEST + 1), 0),
    "product of two rows": (PRODUCT, (4, 4), (T, 2, 4), 0),
    "one step": (PRODUCT, (4, 4), (1, 4), 0),
    "no rows": (over(lambda w, h, x: h + w * x), (1, 4), (T, 0, 4), 0),
    "sum": (SUM, (LARGEST_SUM,), (T, LARGEST_SUM), 1),
    "larger sum": (SUM, (LARGEST_SUM + 1,), (T, LARGEST_SUM + 1), 0),
    "sort": (SORT, (4, 4), (T, 4), 0),
    "optimization barrier": (BARRIER, (4, 4), (T, 4), 0),
}


@pytest.mark.parametrize("name", LOOPS)
def test_what_is_a_kernel(name, key):
    """A loop of several steps, of sums and of products with a vector, none of them large, and nothing else."""
    loop, *shapes, expected = LOOPS[name]
    weights, xs = (normal(key, shape, jnp.float32) for shape in shapes)
    assert marks(one_kernel(loop, loop), weights, xs) == expected
    made, by_itself = jax.jit(one_kernel(loop, loop))(weights, xs), loop(weights, xs)
    chex.assert_trees_all_close(made, by_itself, rtol=1e-4, atol=1e-4)


def test_arguments_that_nothing_reads(key):
    """XLA ends the process over one, in the loop or beside it."""
    loop = over(lambda weights, h, x: {"read": jnp.tanh(h["read"] + x["read"] @ weights["read"]), "unread": x["read"]})
    weights = {"read": normal(key, (3, 3), jnp.float32), "unread": jnp.ones(7)}
    xs = {"read": normal(key, (T, 3), jnp.float32), "unread": jnp.ones((T, 3))}
    first = lambda weights, xs: loop(weights, xs)[1]["read"]
    assert_trees_close(jax.jit(one_kernel(first, first))(weights, xs), first(weights, xs), 1e-5)


def results_and_arguments(weights, xs):
    return {"argument": xs, "result": jnp.tanh(xs @ weights)}


def test_results_that_are_arguments(key):
    """The mark is on what the call computes."""
    weights, x = normal(key, (3, 3), jnp.float32), normal(key, (3,), jnp.float32)
    f = one_kernel(results_and_arguments, results_and_arguments)
    assert marks(f, weights, x) == 1
    assert_trees_close(jax.jit(f)(weights, x), results_and_arguments(weights, x), 1e-6)


AROUND = {
    "in a loop": lambda loss: lambda params, xs: jax.lax.map(lambda x: jax.grad(loss)(params, x), xs),
    "in a branch": lambda loss: (
        lambda params, xs: jax.lax.cond(xs.sum() > 0, jax.grad(loss), lambda params, x: params, params, xs[0])
    ),
    "of every example": lambda loss: jax.vmap(jax.grad(loss), (None, 0)),
    "of an ensemble": lambda loss: (
        lambda params, xs: jax.vmap(jax.grad(loss), (0, None))(
            jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), params), xs[0]
        )
    ),
    "on two devices": lambda loss: data_parallel(lambda params, xs: loss(params, xs[0])),
}


@pytest.mark.parametrize("around", AROUND)
def test_under_transformations(around, key, float64):
    """Of two examples [2, T, 1, D], each of one row."""
    cell = BY_NAME["gru-before"].cell(jnp.float64)
    params, xs = noisy_params(cell, key), normal(key, (2, T, 1, 2))
    by_kernel, by_autodiff = (AROUND[around](loss_of(cell, gradient=way)) for way in ("manual", "autodiff"))
    assert_trees_close(jax.jit(by_kernel)(params, xs), jax.jit(by_autodiff)(params, xs))


def test_outside_jit(key):
    """There is nothing to mark, and nothing goes wrong."""
    weights, xs = normal(key, (4, 4), jnp.float32), normal(key, (T, 4), jnp.float32)
    assert_trees_close(one_kernel(PRODUCT, PRODUCT)(weights, xs), PRODUCT(weights, xs), 1e-5)
