"""What the hand-derived gradient does not have: an error that says what to do, never a wrong number."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

import jaxrnn
from tests.registry import assert_trees_close, normal
from tests.test_bptt_transforms import STEPS, B, T, draw

# Second derivatives and forward mode


def python_loop(cell: jaxrnn.Cell, params: Any, xs: jax.Array) -> jax.Array:
    carry = cell.initial_carry(params, xs.shape[1:-1])
    ys = []
    for z in cell.inputs(params, xs):
        carry, y = cell.step(params, carry, z)
        ys.append(y)
    return jnp.stack(ys)


def second_order(outputs: Any) -> Any:
    """Return second derivatives of Σ y³ in two ways and a directional one, as a function of (params, xs)."""

    def loss(params, xs):
        return (outputs(params, xs) ** 3).sum()

    def derivatives(params, xs):
        direction = jax.tree.map(jnp.ones_like, (params, xs))
        along = jax.jvp(loss, (params, xs), direction)[1]
        squared_norm = jax.grad(lambda p: sum((g**2).sum() for g in jax.tree.leaves(jax.grad(loss)(p, xs))))
        return along, jax.hessian(loss, argnums=1)(params, xs), squared_norm(params)

    return jax.jit(derivatives)


@pytest.mark.parametrize("name", ["lstm", "vanilla-callable"])
def test_autodiff_has_every_derivative(name, key, float64):
    cell, floating = draw(name, key)
    arguments = floating["params"], floating["xs"][:2]
    by_scan = second_order(lambda params, xs: jaxrnn.unroll(cell, params, xs, gradient="autodiff")[1])
    by_loop = second_order(lambda params, xs: python_loop(cell, params, xs))
    assert_trees_close(by_scan(*arguments), by_loop(*arguments))


def hand_derived(name: str, key: jax.Array, linear: bool = False) -> tuple[Any, dict[str, Any]]:
    """Return ``loss(floating)``, with constant cotangents of every output if linear, and its argument."""
    cell, floating = draw(name, key)

    def loss(floating):
        final, ys = jaxrnn.unroll(cell, **floating, resets=STEPS["resets"])
        values = [ys, *jax.tree.leaves(final)]
        return sum((value if linear else value**2).sum() for value in values)

    return loss, floating


def of_gradient(argument: str, with_respect_to: str) -> Any:
    """Return the derivative, by ``with_respect_to``, of the norm of the gradient by ``argument``."""

    def transform(loss):
        def norm(changed, floating):
            gradient = jax.grad(loss)({**floating, with_respect_to: changed})[argument]
            return sum((leaf**2).sum() for leaf in jax.tree.leaves(gradient))

        return lambda floating: jax.grad(norm)(floating[with_respect_to], floating)

    return transform


SECOND = {
    "hessian": jax.hessian,
    "jacrev of grad": lambda loss: jax.jacrev(jax.grad(loss)),
    "hessian-vector product": lambda loss: lambda f: jax.jvp(jax.grad(loss), (f,), (f,))[1],
    "hessian under scan": lambda loss: jax.hessian(
        lambda f: jax.lax.scan(lambda total, _: (total + loss(f), None), jnp.zeros(()), None, length=2)[0]
    ),
    "hessian of checkpoint": lambda loss: jax.hessian(jax.checkpoint(loss)),
    "hessian of vmap": lambda loss: jax.hessian(lambda f: jax.vmap(loss)(jax.tree.map(lambda x: x[None], f)).sum()),
} | {
    f"grad by {second} of grad by {first}": of_gradient(first, second)
    for first in ("params", "xs", "carry")
    for second in ("params", "xs", "carry")
}


@pytest.mark.parametrize(("linear", "jit"), [(False, False), (True, False), (False, True)], ids=["", "linear", "jit"])
@pytest.mark.parametrize("transform", SECOND)
def test_second_derivatives_by_hand_raise(transform, linear, jit, key, float64):
    """Residuals are constants to JAX, so what was not refused would be zero, or lack a term."""
    for name in ("user-vanilla", "learned-gru-after")[: 1 if linear or jit else 2]:
        loss, floating = hand_derived(name, key, linear)
        derivative = SECOND[transform](jax.jit(loss) if jit else loss)
        with pytest.raises(TypeError, match='pass gradient="autodiff"'):
            jax.make_jaxpr(derivative)(floating)


@pytest.mark.parametrize("transform", ["hessian", "jacrev of grad", "grad by params of grad by carry"])
def test_second_derivatives_by_hand_raise_with_values(transform, key, float64):
    loss, floating = hand_derived("lstm", key)
    with pytest.raises(TypeError, match='pass gradient="autodiff"'):
        SECOND[transform](loss)(floating)


FORWARD = {
    "jvp": lambda loss, f: jax.jvp(loss, (f,), (f,)),
    "jacfwd": lambda loss, f: jax.jacfwd(loss)(f),
    "linearize": lambda loss, f: jax.linearize(loss, f)[1](f),
}


@pytest.mark.parametrize("name", ["lstm", "user-gru"])
@pytest.mark.parametrize("transform", FORWARD)
def test_forward_mode_by_hand_raises(transform, name, key, float64):
    loss, floating = hand_derived(name, key)
    message = 'pass gradient="autodiff"' if transform != "linearize" else "forward-mode"
    with pytest.raises(TypeError, match=message):
        FORWARD[transform](loss, floating)
    with pytest.raises(TypeError, match=r'gradient="autodiff"|forward-mode autodiff'):
        FORWARD[transform](jax.jit(loss), floating)


# Steps that close over what is differentiated


def closing_over(where: str, scale: jax.Array) -> jaxrnn.Cell:
    """Return a cell of which one function reads ``scale`` from outside its parameters."""

    def scaled(here, value):
        return value * scale if here == where else value

    if where == "activation":
        return jaxrnn.vanilla(2, 2, activation=lambda a: jnp.tanh(scaled("activation", a)), dtype=jnp.float64)

    def update(h, z, a):
        h = jnp.tanh(scaled("update", z) + a)
        return h, h

    return jaxrnn.split_cell(
        init=lambda key: jax.random.normal(key, (2, 2)),
        initial_carry=lambda params, batch_shape=(): scaled("initial_carry", jnp.ones((*batch_shape, 2))),
        recur=lambda params, h: scaled("recur", h @ params),
        update=update,
        inputs=lambda params, xs, key=None: scaled("inputs", xs),
    )


def scale_loss(where: str, key: jax.Array, gradient: str) -> Any:
    params = closing_over(where, jnp.ones(())).init(key)
    xs = normal(key, (T, B, 2))
    return lambda scale: (jaxrnn.unroll(closing_over(where, scale), params, xs, gradient=gradient)[1] ** 2).sum()


TRANSFORMS = {
    "grad": jax.grad,
    "grad of jit": lambda loss: jax.grad(jax.jit(loss)),
    "vmap of grad": lambda loss: lambda scale: jax.vmap(jax.grad(loss))(scale[None]),
    "grad of scan": lambda loss: jax.grad(
        lambda scale: jax.lax.scan(lambda total, _: (total + loss(scale), None), jnp.zeros(()), None, length=2)[0]
    ),
    "grad of checkpoint": lambda loss: jax.grad(jax.checkpoint(loss)),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("where", ["update", "recur", "activation"])
def test_a_step_that_closes_over_a_differentiated_array_raises(where, transform, key, float64):
    derivative = TRANSFORMS[transform](scale_loss(where, key, "auto"))
    with pytest.raises(TypeError, match="step closes over an array that is being differentiated"):
        jax.make_jaxpr(derivative)(jnp.array(0.7))


@pytest.mark.parametrize("where", ["inputs", "initial_carry"])
def test_outside_the_loop_closing_over_is_allowed(where, key, float64):
    actual, exact = (jax.jit(jax.grad(scale_loss(where, key, gradient)))(0.7) for gradient in ("auto", "autodiff"))
    assert abs(exact) > 1e-3
    assert_trees_close(actual, exact)


@pytest.mark.parametrize("where", ["update", "activation"])
def test_a_constant_may_be_closed_over(where, key, float64):
    def loss(xs, gradient):
        cell = closing_over(where, jnp.array(0.7))
        return (jaxrnn.unroll(cell, cell.init(key), xs, gradient=gradient)[1] ** 2).sum()

    xs = normal(key, (T, B, 2))
    actual, exact = (jax.jit(jax.grad(loss), static_argnums=1)(xs, gradient) for gradient in ("auto", "autodiff"))
    assert_trees_close(actual, exact)
