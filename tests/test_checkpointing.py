"""`checkpoint=`: the same values and gradients from less memory, for any cell, direction and mask."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from tests.registry import BY_NAME, assert_trees_close, noisy_params, normal, normal_like

T, B = 5, 2  # segments of ⌈√5⌉ = 3, and 2 more steps
STEPS = {
    "lengths": np.array([5, 4]),
    "mask": np.arange(T * B).reshape(T, B) % 4 != 1,
    "resets": np.arange(T * B).reshape(T, B) % 3 == 0,
}
BY_SEGMENTS = ["sqrt", "carries"]


def ways(cell: jaxrnn.Cell) -> list[str]:
    return BY_SEGMENTS if cell.adjoint is not None else ["sqrt"]


def run(cell: jaxrnn.Cell, checkpoint: Any, arguments: Any, cotangents: Any, **options: Any) -> Any:
    """Return the results and gradients of an unroll."""

    def both(arguments, cotangents):
        results, transpose = jax.vjp(
            lambda params, xs, carry: jaxrnn.unroll(cell, params, xs, carry, checkpoint=checkpoint, **options),
            *arguments,
        )
        return results, transpose(cotangents)

    return jax.jit(both)(arguments, cotangents)


def example(cell: jaxrnn.Cell, key: Any, batch: tuple[int, ...] = (B,), features: tuple[int, ...] = (2,)) -> Any:
    """Return (params, xs, carry) and cotangents of the results."""
    params_key, xs_key, carry_key, cotangents_key = jax.random.split(key, 4)
    params = noisy_params(cell, params_key)
    xs = normal(xs_key, (T, *batch, *features))
    results = jax.eval_shape(lambda: jaxrnn.unroll(cell, params, xs))
    return (params, xs, normal_like(carry_key, results[0])), normal_like(cotangents_key, results)


@pytest.mark.parametrize("name", ["vanilla-tanh", "lstm", "gru-before", "user-step", "learned-user-lstm"])
def test_every_kind_of_cell_has_the_same_values_and_gradients(name, key, float64):
    """With lengths, masks and resets; some cells in reverse."""
    entry = BY_NAME[name]
    cell = entry.cell(jnp.float64)
    options = {**STEPS, "reverse": len(name) % 2 == 1}
    arguments = example(cell, key, features=entry.features)
    expected = run(cell, None, *arguments, **options)
    for checkpoint in ways(cell):
        assert_trees_close(run(cell, checkpoint, *arguments, **options), expected)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("given", [(), ("mask",), ("resets",)], ids="-".join)
def test_any_segment_and_options(given, reverse, key, float64):
    """Segments of one step, with and without a shorter last one, and longer than the sequence."""
    cell = BY_NAME["learned-lstm"].cell(jnp.float64)
    arguments = example(cell, key)
    options: dict[str, Any] = {argument: STEPS[argument] for argument in given} | {"reverse": reverse}
    expected = run(cell, None, *arguments, **options)
    for checkpoint in (4, "carries") if given else (1, 4, 7, "carries"):
        assert_trees_close(run(cell, checkpoint, *arguments, **options), expected)


@pytest.mark.parametrize("checkpoint", BY_SEGMENTS)
@pytest.mark.parametrize("batch", [(), (2, 3)], ids=str)
def test_any_batch_axes(batch, checkpoint, key, float64):
    cell = jaxrnn.lstm(2, 3, dtype=jnp.float64)
    arguments = example(cell, key, batch)
    assert_trees_close(run(cell, checkpoint, *arguments), run(cell, None, *arguments))


@pytest.mark.parametrize("checkpoint", BY_SEGMENTS)
def test_vmap_and_an_ensemble(checkpoint, key, float64):
    cell = jaxrnn.gru(2, 3, dtype=jnp.float64)
    (params, xs, _), _ = example(cell, key)
    ensemble = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), params)

    def gradient(checkpoint):
        loss = lambda params, xs: (jaxrnn.unroll(cell, params, xs, checkpoint=checkpoint)[1] ** 2).sum()
        over_examples = jax.vmap(jax.grad(loss), (None, 1))
        return jax.jit(jax.vmap(over_examples, (0, None)))(ensemble, xs)

    assert_trees_close(gradient(checkpoint), gradient(None))


@pytest.mark.parametrize("checkpoint", BY_SEGMENTS)
def test_inside_shard_map(checkpoint, key, float64):
    cell = jaxrnn.lstm(2, 3, dtype=jnp.float64)
    (params, xs, _), _ = example(cell, key)
    mesh = jax.make_mesh((2,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec

    def loss(params, xs, checkpoint):
        return (jaxrnn.unroll(cell, params, xs, checkpoint=checkpoint)[1] ** 2).sum()

    def shard(params, xs):
        return jax.grad(loss)(params, xs, checkpoint)

    # Parameters are the same everywhere, so JAX sums their gradients over the devices.
    sharded = jax.shard_map(shard, mesh=mesh, in_specs=(spec(), spec(None, "rows")), out_specs=spec())
    assert_trees_close(jax.jit(sharded)(params, xs), jax.grad(loss)(params, xs, None))


def test_autodiff_in_segments_has_every_derivative(key, float64):
    cell = jaxrnn.vanilla(2, 3, dtype=jnp.float64)
    (params, xs, _), _ = example(cell, key)

    def second(checkpoint):
        def loss(bias):
            varied = params._replace(bias=bias)
            return (jaxrnn.unroll(cell, varied, xs, gradient="autodiff", checkpoint=checkpoint)[1] ** 2).sum()

        return jax.jit(jax.hessian(loss))(params.bias)

    assert_trees_close(second("sqrt"), second(None))


@pytest.mark.parametrize("checkpoint", [*BY_SEGMENTS, 3])
def test_no_steps_at_all(checkpoint):
    cell = jaxrnn.lstm(2, 3)
    params, carry = noisy_params(cell, jax.random.key(0)), jaxrnn.LSTMCarry(jnp.ones((B, 3)), jnp.ones((B, 3)))
    final, ys = jaxrnn.unroll(cell, params, jnp.zeros((0, B, 2)), carry, checkpoint=checkpoint)
    assert_trees_close(final, carry, tolerance=0)
    assert ys.shape == (0, B, 3)


def arrays_in(jaxpr: Any) -> Any:
    """Yield the shape of every value of a jaxpr, at any depth."""
    for equation in jaxpr.eqns:
        yield from (variable.aval.shape for variable in equation.outvars)
        for parameter in jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "eqns")):
            inner = getattr(parameter, "jaxpr", parameter)
            if hasattr(inner, "eqns"):
                yield from arrays_in(inner)


@pytest.mark.parametrize(
    ("name", "everything", "carries", "sqrt"),
    [("vanilla-tanh", 3.1, 1.2, 0.12), ("lstm", 6.1, 2.5, 0.25), ("gru-after", 7.1, 1.4, 0.25)],
)
def test_memory_for_a_loss_on_the_last_state(name, everything, carries, sqrt):
    """In arrays [T, B, H], by XLA's own account; with checkpoints, zs of all steps are nowhere."""
    time, batch, hidden = 1600, 4, 16
    cell = BY_NAME[name].factory(2, hidden, dtype=jnp.float32, carry_dtype=None, **BY_NAME[name].options)
    params, xs = noisy_params(cell, jax.random.key(0)), jnp.ones((time, batch, 2))

    def temporary_arrays(checkpoint):
        def loss(params, xs):
            final, _ = jaxrnn.unroll(cell, params, xs, checkpoint=checkpoint)
            return sum((leaf**2).sum() for leaf in jax.tree.leaves(final))

        analysis = jax.jit(jax.grad(loss)).lower(params, xs).compile().memory_analysis()
        assert analysis is not None
        return analysis.temp_size_in_bytes / (4 * time * batch * hidden)

    assert temporary_arrays(None) <= everything
    assert temporary_arrays("carries") <= carries
    assert temporary_arrays("sqrt") <= sqrt


def test_inputs_are_made_a_segment_at_a_time():
    cell = jaxrnn.lstm(2, 16)
    params, xs = noisy_params(cell, jax.random.key(0)), jnp.ones((100, 4, 2))

    def shapes(checkpoint):
        loss = lambda params: jaxrnn.unroll(cell, params, xs, checkpoint=checkpoint)[0].h.sum()
        return set(arrays_in(jax.make_jaxpr(jax.grad(loss))(params).jaxpr))

    assert (100, 4, 64) in shapes(None)
    for checkpoint in BY_SEGMENTS:
        assert (10, 4, 64) in shapes(checkpoint)
        assert not {(100, 4, 64), (10, 10, 4, 64)} & shapes(checkpoint)


def test_noise_is_the_same_in_segments(key):
    """One draw for all steps, kept, so that no segment repeats another's."""
    inner = jaxrnn.vanilla(2, 3)

    def inputs(params, xs, key):
        return inner.inputs(params, xs + jax.random.normal(key, xs.shape))

    noisy = inner._replace(inputs=inputs)
    params, xs = noisy_params(inner, key), jnp.zeros((T, B, 2))
    whole, *segments = (
        jax.jit(lambda params, way=way: jaxrnn.unroll(noisy, params, xs, key=key, checkpoint=way))(params)
        for way in (None, 2, "carries")
    )
    for in_segments in segments:
        assert_trees_close(in_segments, whole, tolerance=1e-6)


def test_carries_need_an_adjoint():
    bare = BY_NAME["user-step"].cell()
    params = bare.init(jax.random.key(0))
    with pytest.raises(ValueError, match=r"^checkpoint: .*adjoint"):
        jaxrnn.unroll(bare, params, jnp.ones((T, B, 2)), checkpoint="carries")
    with pytest.raises(ValueError, match=r"^checkpoint: .*adjoint"):
        jaxrnn.recurrent(jaxrnn.lstm(2, 3), gradient="autodiff", checkpoint="carries")


def test_carries_need_a_floating_carry(key, float64):
    """A carry that counts its steps has no adjoint; the count is no reason not to go by segments."""

    def update(carry, z, a):
        h, count = carry
        h = jnp.tanh(z + a / (1 + count).astype(a.dtype)[..., None])
        return (h, count + 1), h

    cell = jaxrnn.split_cell(
        init=lambda key: normal(key, (2, 2)),
        initial_carry=lambda params, batch_shape=(): (jnp.zeros((*batch_shape, 2)), jnp.zeros(batch_shape, int)),
        recur=lambda params, carry: carry[0] @ params,
        update=update,
    )
    params, xs = cell.init(key), normal(key, (T, B, 2))

    def loss(params, checkpoint):
        return (jaxrnn.unroll(cell, params, xs, checkpoint=checkpoint)[1] ** 2).sum()

    assert_trees_close(jax.grad(loss)(params, "sqrt"), jax.grad(loss)(params, None))
    with pytest.raises(ValueError, match=r'^checkpoint: "carries" needs .* a floating carry; use "sqrt"'):
        jax.grad(loss)(params, "carries")
