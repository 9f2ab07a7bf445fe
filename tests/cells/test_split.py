"""`split_cell` keeps the same of every step for any number of rows, however long other axes are."""

import jax
import jax.numpy as jnp
import pytest

import jaxrnn
from tests.registry import assert_trees_close, normal

T, H = 3, 4


def leaky():
    """Each unit has a time constant, which the update closes over: H numbers that belong to no sequence."""
    tau = jnp.linspace(0.1, 0.9, H)

    def update(h, z, a):
        rate = tau.reshape((1,) * (h.ndim - 1) + (H,))
        h = (1 - rate) * h + rate * jnp.tanh(z + a)
        return h, h

    return split(update, H)


def leaky_by_promotion():
    """The same, with a constant ``[H]`` that keeps its one axis."""
    tau = jnp.linspace(0.1, 0.9, H)

    def update(h, z, a):
        with jax.numpy_rank_promotion("allow"):
            h = (1 - tau) * h + tau * jnp.tanh(z + a)
        return h, h

    return split(update, H)


def gates_first():
    """Four gates along the first axis, of which four rows are no other size."""

    def update(h, z, a):
        sums = jnp.moveaxis((z + a).reshape(*h.shape[:-1], 4, H), -2, 0)
        i, f, g, o = jax.nn.sigmoid(sums)
        h = f * h + i * jnp.tanh(g) * o
        return h, h

    return split(update, 4 * H)


def split(update, width):
    return jaxrnn.split_cell(
        init=lambda key: normal(key, (H, width)),
        initial_carry=lambda params, batch_shape=(): jnp.zeros((*batch_shape, H)),
        recur=lambda params, h: h @ params,
        update=update,
    )


@pytest.mark.parametrize("make", [leaky, leaky_by_promotion, gates_first])
@pytest.mark.parametrize("batch", [(), (2,), (4,)], ids=str)
def test_what_is_kept_does_not_depend_on_the_number_of_rows(make, batch, key, float64):
    """By `vmap` there are two and four times the rows, as many as units, or as gates."""
    cell = make()
    params = cell.init(key)
    width = params.shape[1]

    def derivatives(gradient):
        def final(params, xs):
            return jaxrnn.unroll(cell, params, xs, gradient=gradient)[0]

        def loss(params, xs):
            return (final(params, xs) ** 2).sum()

        def all_of_them(params, xs):
            some = [jax.vmap(jax.grad(loss, argnums=(0, 1)), (None, 0))(params, xs[:count]) for count in (2, 4)]
            return some, jax.jacrev(final, argnums=1)(params, xs[0])

        return jax.jit(all_of_them)(params, normal(key, (4, T, *batch, width)))

    assert_trees_close(derivatives("manual"), derivatives("autodiff"))


def test_autodiff_knows_one_batch_axis_from_another(key, float64):
    """A statistic over the batch, which no adjoint may take, since all batch axes are one to it."""

    def update(h, z, a):
        h = jnp.tanh(z + a - (z + a).mean(axis=-2, keepdims=True))
        return h, h

    cell, xs = split(update, H), normal(key, (T, 2, 3, H))
    params = cell.init(key)

    def derivatives(xs):
        loss = lambda params, xs: (jaxrnn.unroll(cell, params, xs, gradient="autodiff")[1] ** 2).sum()
        return jax.grad(loss, argnums=(0, 1))(params, xs)

    together, one, other = (jax.jit(derivatives)(part) for part in (xs, xs[:, 0], xs[:, 1]))
    assert_trees_close(together[0], one[0] + other[0])
    assert_trees_close(together[1], jnp.stack([one[1], other[1]], axis=1))
