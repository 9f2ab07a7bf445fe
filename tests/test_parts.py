"""Long sequences without a gradient: inputs made a few steps at a time, and nothing else is different."""

import re
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import parts
from tests.registry import BY_NAME, assert_trees_close, noisy_params, normal
from tests.test_engine import SPEC, equations, on_devices, scans

T, B = 11, 2  # parts of 4, 4 and 3 steps
OPTIONS = {
    "lengths": np.array([11, 6]),
    "mask": np.arange(T * B).reshape(T, B) % 4 != 1,
    "resets": np.arange(T * B).reshape(T, B) % 3 == 0,
}


@pytest.fixture
def everything_is_large(monkeypatch):
    monkeypatch.setattr(parts, "LARGE", 0)
    monkeypatch.setattr(parts, "SHARED", 0)
    monkeypatch.setattr(parts, "ROWS", 1)


def depths(function: Any, *arguments: Any) -> list[int]:
    """Return how many scans there are within each: a sequence in parts has a loop in a loop."""
    traced = jax.make_jaxpr(lambda *arguments: function(*arguments))(*arguments)  # a new one, or JAX knows it
    return [len(list(scans(equation.params["jaxpr"].jaxpr))) for equation in scans(traced.jaxpr)]


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize(
    "name", ["vanilla-tanh", "lstm", "gru-before", "conv-gru-1d", "learned-gru-after", "user-lstm"]
)
def test_parts_are_the_whole(name, reverse, key, float64, everything_is_large):
    """Values and gradients, with and without lengths, masks and resets."""
    entry = BY_NAME[name]
    cell = entry.cell(jnp.float64)
    params, xs = noisy_params(cell, key), normal(key, (T, B, *entry.features))

    def both(gradient):
        def run(params, xs, **options):
            carry, ys = jaxrnn.unroll(cell, params, xs, gradient=gradient, reverse=reverse, **options)
            return (ys**2).sum() + sum((leaf**2).sum() for leaf in jax.tree.leaves(carry)), (carry, ys)

        plain, masked = run(params, xs)[1], run(params, xs, **OPTIONS)[1]
        return plain, masked, jax.value_and_grad(run, (0, 1), has_aux=True)(params, xs, **OPTIONS)

    assert_trees_close(jax.jit(both, static_argnums=0)("auto"), jax.jit(both, static_argnums=0)("autodiff"))
    assert max(depths(lambda params, xs: jaxrnn.unroll(cell, params, xs), params, xs)) > 0


@pytest.mark.parametrize("batch", [(), (1,), (2, 3)], ids=str)
def test_any_batch_axes_and_vmap(batch, key, float64, everything_is_large):
    cell = jaxrnn.gru(2, 3, dtype=jnp.float64)
    params, xs = noisy_params(cell, key), normal(key, (T, 2, *batch, 2))

    def run(gradient):
        unroll = lambda params, xs: jaxrnn.unroll(cell, params, xs, gradient=gradient)
        return jax.vmap(unroll, (None, 1), 1)(params, xs)

    assert_trees_close(jax.jit(run, static_argnums=0)("auto"), jax.jit(run, static_argnums=0)("autodiff"))


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("name", ["lstm", "gru-before", "conv-gru-1d", "user-lstm"])
def test_inside_shard_map(name, reverse, key, float64, everything_is_large):
    """Forward alone, and with the gradient, whose sum over devices `jax.vjp` must not miss."""
    entry = BY_NAME[name]
    cell = entry.cell(jnp.float64)
    params, xs = noisy_params(cell, key), normal(key, (T, 2 * B, *entry.features))
    unroll = lambda params, xs: jaxrnn.unroll(cell, params, xs, reverse=reverse)[1]
    loss = lambda params, xs: (unroll(params, xs) ** 2).sum()
    sharded = on_devices(unroll)
    assert max(depths(sharded, params, xs)) > 0
    assert_trees_close(jax.jit(sharded)(params, xs), jax.jit(unroll)(params, xs))
    sharded_gradient = on_devices(jax.grad(loss), SPEC())
    assert_trees_close(jax.jit(sharded_gradient)(params, xs), jax.jit(jax.grad(loss))(params, xs))


def test_outputs_that_are_the_same_on_all_devices_stay_so(key, everything_is_large):
    """As without parts, where `shard_map` takes them for the same."""
    cell = jaxrnn.split_cell(
        init=lambda key: 0.5 * jnp.eye(2),
        initial_carry=lambda params, batch_shape=(): jnp.zeros((*batch_shape, 2)),
        recur=lambda params, h: h @ params,
        update=lambda h, z, a: (jnp.tanh(z + a), {"h": h, "one": jnp.ones((B, 2))}),
        inputs=lambda params, xs, key=None: xs,
    )
    forward = lambda params, xs: jaxrnn.unroll(cell, params, xs)[1]
    sharded = on_devices(forward, {"h": SPEC(None, "rows"), "one": SPEC()})
    params, xs = cell.init(key), normal(key, (T, 2 * B, 2), jnp.float32)
    ys = jax.jit(sharded)(params, xs)
    assert max(depths(sharded, params, xs)) > 0
    np.testing.assert_array_equal(ys["one"], np.ones((T, B, 2)))


def test_vmap_inside_shard_map(key, float64, everything_is_large):
    cell = jaxrnn.lstm(2, 3, dtype=jnp.float64)
    params, xs = noisy_params(cell, key), normal(key, (T, B, 5, 2))
    unroll = jax.vmap(lambda params, xs: jaxrnn.unroll(cell, params, xs)[1], (None, 2), 2)
    assert max(depths(on_devices(unroll), params, xs)) > 0
    assert_trees_close(jax.jit(on_devices(unroll))(params, xs), jax.jit(unroll)(params, xs))


@pytest.mark.parametrize(("steps", "inputs"), [(100, 128), (300, 1), (125, 8)])
def test_on_two_devices_no_thread_waits_for_another(steps, inputs):
    """A compiled forward pass shares nothing among threads."""
    cell = jaxrnn.lstm(inputs, 128)
    params = jax.eval_shape(cell.init, jax.random.key(0))
    xs = jax.ShapeDtypeStruct((steps, 32, inputs), jnp.float32)
    forward = on_devices(lambda params, xs: jaxrnn.unroll(cell, params, xs)[1])
    text = str(jax.jit(forward).lower(params, xs).compile().as_text())
    _, entry = text.split("ENTRY")  # what a kernel holds is one thread's, whatever it is marked as
    assert 'outer_dimension_partitions":["' not in entry
    assert f"f32[{steps * 16},512]" not in text


@pytest.mark.parametrize(("inputs", "outer_and_inner"), [(128, {(25, 4)}), (256, {(10, 10)})])
def test_parts_are_longer_where_their_products_are_shared(inputs, outer_and_inner, key):
    """W of 65,536 numbers is multiplied with 64 rows by one thread; a larger one by several, with 160 rows."""
    cell = jaxrnn.lstm(inputs, inputs)
    params, xs = jax.eval_shape(cell.init, key), jax.ShapeDtypeStruct((100, 32, inputs), jnp.float32)
    forward = on_devices(lambda params, xs: jaxrnn.unroll(cell, params, xs)[1])
    traced = jax.make_jaxpr(forward)(params, xs).jaxpr
    lengths = {
        (loop.params["length"], inner.params["length"])
        for loop in scans(traced)
        for inner in scans(loop.params["jaxpr"].jaxpr)
    }
    assert lengths == outer_and_inner


def test_a_kernel_too_large_for_a_cache_is_multiplied_once(key):
    """In parts, it would be read from memory at each."""
    cell = jaxrnn.lstm(2048, 128)
    params, xs = jax.eval_shape(cell.init, key), jax.ShapeDtypeStruct((100, 32, 2048), jnp.float32)
    forward = on_devices(lambda params, xs: jaxrnn.unroll(cell, params, xs)[1])
    assert max(depths(forward, params, xs)) == 0
    narrow, xs = jaxrnn.lstm(2, 128), jax.ShapeDtypeStruct((100, 32, 2), jnp.float32)
    forward = on_devices(lambda params, xs: jaxrnn.unroll(narrow, params, xs)[1])
    assert max(depths(forward, jax.eval_shape(narrow.init, key), xs)) > 0


def test_kernels_are_prepared_once(key, everything_is_large):
    """Before the loop over the parts: the LSTM's U with columns of zeros."""
    cell = jaxrnn.lstm(2, 256)
    params, xs = jax.eval_shape(cell.init, key), jax.ShapeDtypeStruct((T, 2, 2), jnp.float32)
    traced = jax.make_jaxpr(lambda params, xs: jaxrnn.unroll(cell, params, xs))(params, xs).jaxpr
    spacings = lambda jaxpr: [here.primitive.name for here in equations(jaxpr)].count("pad")
    outer = [loop.params["jaxpr"].jaxpr for loop in scans(traced) if list(scans(loop.params["jaxpr"].jaxpr))]
    assert outer
    assert spacings(traced) > 0
    assert not any(map(spacings, outer))


def test_of_an_empty_batch_there_are_no_parts(key, everything_is_large):
    cell = jaxrnn.lstm(2, 3)
    forward = on_devices(lambda params, xs: jaxrnn.unroll(cell, params, xs)[1])
    arguments = cell.init(key), jnp.ones((T, 0, 2))
    assert forward(*arguments).shape == (T, 0, 3)
    assert max(depths(forward, *arguments)) == 0


def test_the_largest_array_is_never_made():
    """Of 20 MB of zs, four times the outputs, a compiled forward pass holds next to nothing."""
    cell = jaxrnn.lstm(1, 128)
    params = jax.eval_shape(cell.init, jax.random.key(0))
    xs = jax.ShapeDtypeStruct((640, 16, 1), jnp.float32)
    forward = lambda params, xs: jaxrnn.unroll(cell, params, xs)[1]
    compiled: Any = jax.jit(forward).lower(params, xs).compile()
    assert re.search(r"\w+\[640,16,128\]", compiled.as_text())
    assert not re.search(r"\w+\[640,16,512\]", compiled.as_text())
    assert compiled.memory_analysis().temp_size_in_bytes < 2**20


def test_only_for_cpus(key, everything_is_large):
    """A program for another device makes zs of all steps at once."""
    cell = jaxrnn.lstm(3, 4)
    params, xs = cell.init(key), jnp.ones((T, B, 3))

    def exported(platform):
        forward = jax.jit(lambda params, xs: jaxrnn.unroll(cell, params, xs)[1])
        return jax.export.export(forward, platforms=[platform])(params, xs).mlir_module()

    products_of_all_steps = rf"dot_general .*-> tensor<{T * B}x16xf32>"
    assert not re.search(products_of_all_steps, exported("cpu"))
    assert re.search(products_of_all_steps, exported("cuda"))
    assert re.search(products_of_all_steps, exported("tpu"))


def test_short_sequences_and_noise_are_of_one_piece(key, monkeypatch):
    cell = jaxrnn.zoneout(jaxrnn.lstm(2, 3), 0.5)
    params, xs = cell.init(key), jnp.ones((T, B, 2))
    unroll = lambda params, xs, key: jaxrnn.unroll(cell, params, xs, key=key)
    monkeypatch.setattr(parts, "ROWS", 1)
    assert max(depths(unroll, params, xs, None)) == 0
    monkeypatch.setattr(parts, "LARGE", 0)
    assert max(depths(unroll, params, xs, None)) > 0
    assert max(depths(unroll, params, xs[:4], None)) == 0
    assert max(depths(unroll, params, xs, key)) == 0  # one draw may be for a whole sequence


@pytest.mark.parametrize("where", ["inputs", "update"])
def test_what_a_cell_closes_over_has_its_gradient_or_an_error(where, key, everything_is_large):
    """As where a sequence is of one piece: the inputs may close over what is differentiated, the step may not."""

    def loss(scale, gradient):
        factor = lambda here: scale if here == where else 1.0

        def update(h, z, a):
            h = jnp.tanh(factor("update") * z + a)
            return h, h

        cell = jaxrnn.split_cell(
            init=lambda key: 0.5 * jnp.eye(2),
            initial_carry=lambda params, batch=(): jnp.zeros((*batch, 2)),
            recur=lambda params, h: h @ params,
            update=update,
            inputs=lambda params, xs, key=None: factor("inputs") * xs,
        )
        return jaxrnn.unroll(cell, cell.init(key), jnp.ones((T, B, 2)), gradient=gradient)[1].sum()

    if where == "inputs":
        assert_trees_close(jax.grad(loss)(0.3, "auto"), jax.grad(loss)(0.3, "autodiff"), 1e-5)
    else:
        with pytest.raises(TypeError, match=r'closes over .* gradient="autodiff"'):
            jax.grad(loss)(0.3, "auto")


def test_tokens_as_inputs(key, float64, everything_is_large):
    """Integers have no gradient, and those of the parameters need none of them."""

    def update(h, z, a):
        h = jnp.tanh(z + a)
        return h, h

    cell = jaxrnn.split_cell(
        init=lambda key: {"table": normal(key, (5, 2)), "recurrent": 0.5 * jnp.eye(2)},
        initial_carry=lambda params, batch_shape=(): jnp.zeros((*batch_shape, 2)),
        recur=lambda params, h: h @ params["recurrent"],
        update=update,
        inputs=lambda params, xs, key=None: params["table"][xs],
        feature_axes=0,
    )
    params, tokens = cell.init(key), np.arange(T * B).reshape(T, B) % 5

    def both(gradient):
        loss = lambda params: (jaxrnn.unroll(cell, params, jnp.asarray(tokens), gradient=gradient)[1] ** 2).sum()
        return jax.value_and_grad(loss)(params)

    assert_trees_close(jax.jit(both, static_argnums=0)("auto"), jax.jit(both, static_argnums=0)("autodiff"))


def test_forward_mode_and_second_derivatives_raise(key, everything_is_large):
    cell = jaxrnn.vanilla(2, 3)
    params, xs = cell.init(key), jnp.ones((T, B, 2))
    loss = lambda params: (jaxrnn.unroll(cell, params, xs)[1] ** 2).sum()
    with pytest.raises(TypeError, match='pass gradient="autodiff"'):
        jax.jvp(loss, (params,), (params,))
    with pytest.raises(TypeError, match='pass gradient="autodiff"'):
        jax.make_jaxpr(jax.hessian(loss))(params)
