"""A cell as a layer: it is `unroll` with its choices made beforehand."""

import jax
import jax.numpy as jnp
import pytest

import jaxrnn
from tests.layers.stepping import step_of
from tests.registry import BY_NAME, assert_trees_close, noisy_params, normal

RESETS = jnp.array([[True, False], [False, True], [False, False]])
OPTIONS = {"lengths": jnp.array([3, 2]), "mask": ~RESETS, "resets": RESETS}


@pytest.mark.parametrize("choices", [{}, {"reverse": True, "gradient": "autodiff"}, {"gradient": "manual"}], ids=str)
def test_apply_is_unroll(choices, key, float64):
    cell = BY_NAME["learned-lstm"].cell(jnp.float64)
    layer = jaxrnn.recurrent(cell, **choices)
    params, xs = noisy_params(cell, key), normal(key, (3, 2, 2))
    applied = jax.jit(layer.apply)(params, xs, **OPTIONS)
    unrolled = jax.jit(lambda p, xs: jaxrnn.unroll(cell, p, xs, **OPTIONS, **choices))(params, xs)
    assert_trees_close(applied, unrolled, 0.0)


def test_parameters_and_carry_are_the_cell_s(key):
    cell = BY_NAME["learned-lstm"].cell()
    layer = jaxrnn.recurrent(cell)
    assert_trees_close(layer.init(key), cell.init(key), 0.0)
    assert_trees_close(layer.initial_carry(cell.init(key), (2,)), cell.initial_carry(cell.init(key), (2,)), 0.0)


def test_the_choice_of_gradient_reaches_unroll(key):
    cell = BY_NAME["gru-after"].cell()
    params, xs = noisy_params(cell, key), jnp.ones((3, 2, 2))

    def tangent(gradient):
        layer = jaxrnn.recurrent(cell, gradient=gradient)
        return jax.jvp(lambda xs: layer.apply(params, xs)[1], (xs,), (xs,))[1]

    assert tangent("autodiff").shape == (3, 2, 3)
    for gradient in ("auto", "manual"):
        with pytest.raises(TypeError, match='gradient="autodiff" to unroll or recurrent'):
            tangent(gradient)


def test_reverse_has_no_step():
    assert jaxrnn.recurrent(jaxrnn.gru(2, 3), reverse=True).step is None
    assert jaxrnn.recurrent(jaxrnn.gru(2, 3)).step is not None


def noisy_cell() -> jaxrnn.Cell:
    """A cell that drops inputs where it is given a key."""

    def inputs(params, xs, key=None):
        return xs if key is None else jax.random.bernoulli(key, 0.5, xs.shape) * xs

    return jaxrnn.split_cell(
        init=lambda key: jnp.zeros((2, 2)),
        initial_carry=lambda params, batch_shape=(): jnp.zeros((*batch_shape, 2)),
        recur=lambda params, h: h @ params,
        update=lambda h, z, a: (z + a, z + a),
        inputs=inputs,
    )


def test_the_key_reaches_the_cell(key):
    with jax.numpy_dtype_promotion("standard"):
        layer = jaxrnn.recurrent(noisy_cell())
        params, xs = layer.init(key), jnp.ones((30, 2))
        carry = layer.initial_carry(params)
        assert (layer.apply(params, xs)[1] == 1).all()
        assert set(layer.apply(params, xs, key=key)[1].ravel().tolist()) == {0.0, 1.0}
        assert (step_of(layer)(params, carry, xs[0])[1] == 1).all()
        drops = jax.vmap(lambda k: step_of(layer)(params, carry, xs[0], key=k)[1])(jax.random.split(key, 30))
        assert set(drops.ravel().tolist()) == {0.0, 1.0}
