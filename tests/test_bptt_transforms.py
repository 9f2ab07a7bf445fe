"""The gradient engine under JAX's transformations: what one gradient is alone, it is under vmap and shard_map too."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

import jaxrnn
from tests.registry import BY_NAME, assert_trees_close, noisy_params, normal, normal_like

T, B, D = 4, 2, 2

STEPS = {
    "lengths": np.array([4, 2]),
    "mask": np.array([[True, True], [False, True], [True, True], [True, True]]),
    "resets": np.array([[False, True], [True, False], [True, True], [False, False]]),
}


def draw(name: str, key: jax.Array, batch: int = B) -> tuple[jaxrnn.Cell, dict[str, Any]]:
    """Return a cell in float64 and all that `unroll` takes of arrays."""
    cell, features = BY_NAME[name].cell(jnp.float64), BY_NAME[name].features
    params_key, xs_key, carry_key = jax.random.split(key, 3)
    params = noisy_params(cell, params_key)
    carry = jax.eval_shape(lambda p: cell.initial_carry(p, (batch,)), params)
    xs = normal(xs_key, (T, batch, *features))
    return cell, {"params": params, "xs": xs, "carry": normal_like(carry_key, carry)}


def loss_of(cell: jaxrnn.Cell, gradient: str = "auto", **options: Any) -> Any:
    """Return ``loss(floating, steps)``; both are dicts of arguments of `unroll`."""

    def loss(floating: dict[str, Any], steps: dict[str, Any]) -> jax.Array:
        final, ys = jaxrnn.unroll(cell, **floating, **steps, gradient=gradient, **options)
        return (ys * ys).mean(axis=(0, 2)).sum() + sum(jnp.sin(leaf).sum() for leaf in jax.tree.leaves(final))

    return loss


def stack(trees: list[Any]) -> Any:
    """Return the trees along a new first axis, in NumPy, for which nothing is compiled."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def rolled(steps: dict[str, Any], by: int) -> dict[str, Any]:
    """Return other lengths, mask and resets of the same shapes."""
    return {name: np.roll(value, by, axis=0) for name, value in steps.items()}


# vmap


EVERYTHING = ("params", "xs", "carry", "lengths", "mask", "resets")


@pytest.mark.parametrize(
    ("name", "mapped"),
    [("gru-after", (argument,)) for argument in EVERYTHING]
    + [(name, EVERYTHING) for name in ("learned-lstm", "gru-before", "user-lstm")]
    + [("conv-gru-1d", ("xs", "mask"))],
)
def test_vmap_of_grad_equals_a_loop(name, mapped, key, float64):
    draws = [draw(name, k) for k in jax.random.split(key, 3)]
    cell, floating = draws[0][0], [arguments for _, arguments in draws]
    steps = [rolled(STEPS, by) for by in range(3)]
    for examples in (floating, steps):
        for example in examples:  # what is not mapped is the first example's, for all
            example.update({name: value for name, value in examples[0].items() if name not in mapped})

    def arguments(examples):
        stacked = stack(examples)
        axes = {name: 0 if name in mapped else None for name in stacked}
        return {name: stacked[name] if name in mapped else examples[0][name] for name in stacked}, axes

    (batched, batched_axes), (around, around_axes) = arguments(floating), arguments(steps)
    mapped_grad = jax.jit(jax.vmap(jax.grad(loss_of(cell)), in_axes=(batched_axes, around_axes)))
    one_grad = jax.jit(jax.grad(loss_of(cell, "autodiff")))
    expected = [one_grad(*example) for example in zip(floating, steps, strict=True)]
    assert_trees_close(mapped_grad(batched, around), stack(expected))


@pytest.mark.parametrize("name", ["vanilla-tanh", "lstm", "gru-after"])
def test_vmap_over_no_examples(name, key):
    """Nothing comes out, and no gradient, of what is mapped or shared."""
    cell, features = BY_NAME[name].cell(), BY_NAME[name].features
    params, xs = noisy_params(cell, key), jnp.zeros((0, T, *features))
    gradient = jax.vmap(jax.value_and_grad(lambda xs, params: jaxrnn.unroll(cell, params, xs)[1].sum()), (0, None))
    values, dxs = gradient(xs, params)
    assert (values.shape, dxs.shape) == ((0,), xs.shape)
    shared = jax.grad(lambda params: jax.vmap(lambda xs: jaxrnn.unroll(cell, params, xs)[1])(xs).sum())(params)
    assert_trees_close(shared, jax.tree.map(jnp.zeros_like, params), tolerance=0)


@pytest.mark.parametrize("name", ["lstm", "learned-gru-after"])
def test_ensembles_of_batches_by_nested_vmap(name, key, float64):
    cell, floating = draw(name, key)
    members = stack([noisy_params(cell, k) for k in jax.random.split(key, 2)])
    xs = np.asarray(floating["xs"])
    sequences = stack([xs, -xs, 2 * xs])

    def total(gradient):
        loss = loss_of(cell, gradient, **STEPS)
        return lambda params, xs: loss({"params": params, "xs": xs}, {})

    over_xs = jax.vmap(jax.grad(total("auto"), argnums=(0, 1)), in_axes=(None, 0))
    nested = jax.jit(jax.vmap(over_xs, in_axes=(0, None)))(members, sequences)
    one = jax.jit(jax.grad(total("autodiff"), argnums=(0, 1)))
    alone = [jax.tree.map(lambda leaf, index=index: leaf[index], members) for index in range(2)]
    expected = stack([stack([one(params, xs) for xs in sequences]) for params in alone])
    assert_trees_close(nested, expected)

    # The gradient of the mean over both axes is the mean of the gradients.
    def mean(params, sequences):
        losses = jax.vmap(jax.vmap(total("auto"), in_axes=(None, 0)), in_axes=(0, None))(params, sequences)
        return losses.sum(axis=0).mean()

    assert_trees_close(jax.jit(jax.grad(mean))(members, sequences), jax.tree.map(lambda g: g.mean(1), expected[0]))


# shard_map


def mesh_of_two() -> jax.sharding.Mesh:
    return jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))


OVER_BATCH = {"params": PartitionSpec(), "xs": PartitionSpec(None, "data"), "carry": PartitionSpec("data")}
STEPS_OVER_BATCH = {
    "lengths": PartitionSpec("data"),
    "mask": PartitionSpec(None, "data"),
    "resets": PartitionSpec(None, "data"),
}


def sharded_gradient(way: str, loss: Any, specs: dict[str, Any], steps_specs: dict[str, Any]) -> Any:
    """Return the gradient of the loss summed over devices, taken inside `shard_map` or outside."""

    def local(floating, steps):
        return jax.lax.psum(loss(floating, steps), "data")

    def explicit(floating, steps):
        """Gradients of parameters that are each device's own, summed by hand."""
        own = jax.lax.pcast(floating["params"], ("data",), to="varying")
        gradient = jax.grad(loss)({**floating, "params": own}, steps)
        return {**gradient, "params": jax.lax.psum(gradient["params"], "data")}

    functions = {"outside": local, "inside": jax.grad(loss), "inside, summed by hand": explicit}
    out_specs = PartitionSpec() if way == "outside" else specs
    mapped = jax.shard_map(functions[way], mesh=mesh_of_two(), in_specs=(specs, steps_specs), out_specs=out_specs)
    return jax.jit(jax.grad(mapped) if way == "outside" else mapped)


@pytest.mark.parametrize("way", ["outside", "inside", "inside, summed by hand"])
@pytest.mark.parametrize("name", ["learned-lstm", "gru-before", "user-gru"])
def test_shard_map_equals_one_device(name, way, key, float64):
    cell, floating = draw(name, key, batch=4)
    steps = jax.tree.map(lambda value: np.concatenate([value, value[..., ::-1]], axis=-1), STEPS)
    gradient = sharded_gradient(way, loss_of(cell, reverse=True), OVER_BATCH, STEPS_OVER_BATCH)
    expected = jax.jit(jax.grad(loss_of(cell, "autodiff", reverse=True)))(floating, steps)
    assert_trees_close(gradient(floating, steps), expected)


@pytest.mark.parametrize("way", ["outside", "inside"])
def test_shard_map_from_the_initial_carry(way, key, float64):
    """Zeros made on the spot vary over no device; the learned carry is the same on all."""
    for name in ("gru-after", "learned-lstm"):
        cell, floating = draw(name, key, batch=4)
        del floating["carry"]
        specs = {name: OVER_BATCH[name] for name in floating}
        gradient = sharded_gradient(way, loss_of(cell), specs, {})
        assert_trees_close(gradient(floating, {}), jax.jit(jax.grad(loss_of(cell, "autodiff")))(floating, {}))


# Everything else that reverse mode meets


def test_inside_other_control_flow(key, float64):
    """Two halves by a scan, each rematerialised, behind a condition: as one autodiff unroll."""
    cell, floating = draw("lstm", key)

    def halves(gradient):
        @jax.checkpoint
        def half(params, carry, xs):
            return jaxrnn.unroll(cell, params, xs, carry, gradient=gradient)

        def loss(params, xs, carry):
            split = xs.reshape(2, T // 2, B, D)
            carry, ys = jax.lax.scan(lambda carry, part: half(params, carry, part), carry, split)
            value = jax.lax.cond(ys.sum() < 1e9, lambda: (ys**2).sum() + carry.c.sum(), lambda: jnp.zeros(()))
            return value, ys

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))

    def whole(params, xs, carry):
        carry, ys = jaxrnn.unroll(cell, params, xs, carry, gradient="autodiff")
        return (ys**2).sum() + carry.c.sum(), ys.reshape(2, T // 2, B, -1)

    expected = jax.jit(jax.value_and_grad(whole, argnums=(0, 1, 2), has_aux=True))(*floating.values())
    assert_trees_close(halves("auto")(*floating.values()), expected)


@pytest.mark.parametrize("name", ["gru-after", "user-lstm"])
def test_vjp_without_jit_and_for_one_output_only(name, key, float64):
    cell, floating = draw(name, key)
    (final, ys), transpose = jax.vjp(lambda f: jaxrnn.unroll(cell, **f, resets=STEPS["resets"]), floating)
    cotangents = (jax.tree.map(jnp.zeros_like, final), jnp.ones_like(ys))
    exact = jax.grad(lambda f: jaxrnn.unroll(cell, **f, resets=STEPS["resets"], gradient="autodiff")[1].sum())
    assert_trees_close(transpose(cotangents)[0], exact(floating))


def test_integers_in_the_carry_fall_back_to_autodiff(key, float64):
    """A carry that counts its steps has no cotangent for the count."""

    def update(carry, z, a):
        h, count = carry
        h = jnp.tanh(z + a / (1 + count).astype(a.dtype)[..., None])
        return (h, count + 1), h

    cell = jaxrnn.split_cell(
        init=lambda key: jax.random.normal(key, (2, 2)),
        initial_carry=lambda params, batch_shape=(): (jnp.zeros((*batch_shape, 2)), jnp.zeros(batch_shape, int)),
        recur=lambda params, carry: carry[0] @ params,
        update=update,
    )
    params, xs = cell.init(key), normal(key, (T, B, D))

    def loss(params, gradient="auto"):
        (h, count), ys = jaxrnn.unroll(cell, params, xs, gradient=gradient)
        return (ys**2).sum() + (h * count.astype(h.dtype)[..., None]).sum()

    by_hand = jnp.zeros((B, 2))
    for t, x in enumerate(xs):
        by_hand = jnp.tanh(x + by_hand @ params / (1 + t))
    assert_trees_close(jaxrnn.unroll(cell, params, xs)[0], (by_hand, jnp.full(B, T)))
    assert_trees_close(jax.grad(loss)(params), jax.grad(loss)(params, "autodiff"))
    with pytest.raises(ValueError, match='"manual" needs floating inputs'):
        loss(params, "manual")
