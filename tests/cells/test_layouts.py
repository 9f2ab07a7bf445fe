"""The weight gradient Σ xᵀ dy of many rows reads xᵀ from an array of its own, and is the same as before."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import jaxrnn
from jaxrnn.cells.layouts import IN_CACHE, pays_to_turn
from jaxrnn.cells.products import affine, recurrent_product, weight_gradient
from tests.registry import assert_trees_close, noisy_params, normal

D = 32  # the fewest features that it pays for
MANY = 512  # the fewest rows
CELLS = {
    "lstm": jaxrnn.lstm(D, D),
    "gru-after": jaxrnn.gru(D, D),
    "gru-before": jaxrnn.gru(D, D, reset_after=False),
    "janet": jaxrnn.janet(D, D),
}


def mean_of_squares(cell: jaxrnn.Cell, **options: Any) -> Any:
    return lambda params, xs: (jaxrnn.unroll(cell, params, xs, **options)[1] ** 2).mean()


def turned_arrays(cell: jaxrnn.Cell, rows: int) -> int:
    """Return how many arrays ``[D, rows]``, row after row, the compiled value and gradient writes outside its loops."""
    params, xs = cell.init(jax.random.key(0)), jnp.ones((rows // 4, 4, D))
    text = str(jax.jit(jax.value_and_grad(mean_of_squares(cell))).lower(params, xs).compile().as_text())
    return len(re.findall(rf"= f32\[{D},{rows}\]\{{1,0\}} (?:fusion|copy|transpose)\(", text[text.index("ENTRY ") :]))


@pytest.mark.parametrize("name", CELLS)
def test_the_gradients_of_many_rows_read_columns(name):
    """Those of x and of h."""
    assert turned_arrays(CELLS[name], MANY) == 2
    assert turned_arrays(CELLS[name], MANY - 4) == 0


def test_in_a_loop_nothing_is_turned():
    """By autodiff, U has a gradient in every step; and W has one of all steps."""
    cell = CELLS["lstm"]
    params, xs = cell.init(jax.random.key(0)), jnp.ones((2, MANY - 1, D))
    grad = jax.grad(mean_of_squares(cell, gradient="autodiff"))
    assert str(jax.make_jaxpr(grad)(params, xs)).count("optimization_barrier") == 2


@pytest.mark.parametrize(
    ("shape", "width", "pays"),
    [
        ((MANY, D), 2 * D, True),
        ((MANY - 1, D), 2 * D, False),
        ((MANY, D - 1), 2 * D, False),
        ((MANY, D + 1), 2 * D, False),
        ((MANY, D), IN_CACHE // 4 // MANY, True),
        ((MANY, D), IN_CACHE // 4 // MANY + 1, False),
        ((2, MANY, D), 2 * D, False),
    ],
)
def test_where_it_pays(shape, width, pays):
    assert pays_to_turn(jnp.zeros(shape, jnp.float32), width) is pays


@pytest.mark.parametrize("product", [affine, recurrent_product], ids=lambda product: product.__name__)
@pytest.mark.parametrize("outer", [jax.jacfwd, jax.jacrev], ids=lambda outer: outer.__name__)
@pytest.mark.parametrize("inner", [jax.jacfwd, jax.jacrev], ids=lambda inner: inner.__name__)
def test_second_derivatives(product, outer, inner, key, float64):
    """In both arguments at once: the rows and the kernel are scaled by two numbers each."""
    x, kernel = normal(key, (MANY, D)) / 8, normal(key, (D, 2 * D))

    def loss(product):
        scaled = lambda a, b: (x * jnp.sin(a) + x**2 * b, kernel * jnp.cos(b) + kernel**2 * a)
        return lambda ab: jnp.tanh(product(*scaled(*ab))).sum()

    at = jnp.array([0.3, 0.7])
    assert_trees_close(jax.jit(outer(inner(loss(product))))(at), outer(inner(loss(jnp.matmul)))(at))


@pytest.mark.parametrize("product", [affine, recurrent_product], ids=lambda product: product.__name__)
@pytest.mark.parametrize("of", [0, 1, (0, 1)], ids=["x", "kernel", "both"])
def test_the_gradients_are_those_of_a_plain_product(product, of, key, float64):
    arguments = normal(key, (MANY, D)), normal(key, (D, 2 * D))
    loss = lambda product: lambda x, kernel: jnp.sin(product(x, kernel)).sum()
    plain = jax.grad(loss(jnp.matmul), of)(*arguments)
    assert_trees_close(jax.jit(jax.grad(loss(product), of))(*arguments), plain)
    _, tangent = jax.jvp(loss(product), arguments, arguments)
    assert_trees_close(tangent, jax.jvp(loss(jnp.matmul), arguments, arguments)[1])


@pytest.mark.parametrize("in_axes", [(0, None), (None, 0), (0, 0)], ids=str)
def test_under_vmap(in_axes, key, float64):
    arguments = [
        normal(key, shape if axis is None else (2, *shape))
        for axis, shape in zip(in_axes, ((MANY, D), (D, 2 * D)), strict=True)
    ]
    of_weights = lambda product: jax.grad(lambda x, kernel: jnp.sin(product(x, kernel)).sum(), 1)
    mapped = jax.vmap(of_weights(affine), in_axes)(*arguments)
    assert_trees_close(mapped, jax.vmap(of_weights(jnp.matmul), in_axes)(*arguments))


def test_the_sum_by_hand(key, float64):
    x, dy = normal(key, (MANY // 4, 4, D)), normal(key, (MANY // 4, 4, 2 * D))
    assert "optimization_barrier" in str(jax.make_jaxpr(weight_gradient)(x, dy))
    assert_trees_close(weight_gradient(x, dy), jnp.einsum("tbd,tbh->dh", x, dy))


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_devices_that_share_the_rows_have_the_gradient_of_one(cell, key):
    params, xs = noisy_params(cell, key), normal(key, (MANY // 4, 8, D), jnp.float32)
    loss = mean_of_squares(cell)
    shared = jax.jit(jaxrnn.training.data_parallel(loss, jax.devices(), batch_axis=1))
    assert "optimization_barrier" in shared.lower(params, xs).as_text()
    assert_trees_close(shared(params, xs), jax.jit(jax.value_and_grad(loss))(params, xs), 1e-5)


def test_the_gradient_of_many_rows_is_exact(key, float64):
    """By the engine, by hand, and by a plain scan, whose U has a gradient of every step."""
    cell = jaxrnn.lstm(D, D, dtype=jnp.float64)
    params, xs = noisy_params(cell, key), normal(key, (MANY // 4, 4, D))
    _, ys = jaxrnn.unroll(cell, params, xs)
    loss = lambda params, xs, gradient: 0.5 * (jaxrnn.unroll(cell, params, xs, gradient=gradient)[1] ** 2).sum()
    by_engine, by_autodiff = (jax.grad(loss, (0, 1))(params, xs, gradient) for gradient in ("manual", "autodiff"))
    by_hand = jaxrnn.bptt(cell, params, xs, dys=ys)
    assert_trees_close(by_engine, by_autodiff)
    assert_trees_close((by_hand.params, by_hand.xs), by_autodiff)
