"""A cell that attends: Bahdanau's decoder in NumPy, its memory's gradient, and what its loops carry."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from tests.layers.stepping import stepwise
from tests.registry import assert_trees_close, normal, normal_like
from tests.test_bptt import loops, sizes_in_loop

pytestmark = pytest.mark.usefixtures("float64")
S, T, B, D, H, M, A = 5, 4, 2, 2, 3, 2, 4
LENGTHS = np.array([3, 0])
RESETS = np.array([[False, False], [True, False], [False, True], [False, False]])
F64 = {"dtype": jnp.float64}
PAIRS: dict[str, tuple[Any, Any]] = {
    "vanilla, additive": (lambda: jaxrnn.vanilla(D, H, **F64), lambda: jaxrnn.attention.additive(H, M, A, **F64)),
    "lstm, scaled_dot": (lambda: jaxrnn.lstm(D, H, **F64), lambda: jaxrnn.attention.scaled_dot(H, M, A, **F64)),
    "gru, general": (lambda: jaxrnn.gru(D, H, **F64), lambda: jaxrnn.attention.general(H, M, **F64)),
}
EVERY_PAIR = pytest.mark.parametrize("pair", PAIRS)


def drawn(pair, key, **options):
    """Return an attending cell, its attention, parameters, memory and inputs."""
    inner, attention = (make() for make in PAIRS[pair])
    cell = jaxrnn.attending(inner, attention, D, **options)
    keys = jax.random.split(key, 3)
    params = normal_like(keys[0], jax.eval_shape(cell.init, key))
    return cell, attention, params, normal(keys[1], (S, B, M)), normal(keys[2], (T, B, D))


def test_it_is_the_decoder_of_bahdanau(key):
    """With a tanh in place of the paper's gated unit; the first of two sequences, whose memory has 3 positions."""
    cell, attention, params, memory, xs = drawn("vanilla, additive", key, outputs=("weights", "context", "y"))

    @jax.jit
    def run(params, memory, xs):
        ready = jaxrnn.with_memory(params, attention, memory, lengths=LENGTHS)
        # The second sequence has nothing to attend to, and is the cell alone.
        return jaxrnn.unroll(cell, ready, xs), jaxrnn.unroll(jaxrnn.vanilla(D, H, **F64), params.cell, xs[:, 1])[1]

    (h, ys), alone = jax.device_get(run(params, memory, xs))
    (W, U, b), (W_a, U_a, _, v), C, _ = jax.tree.map(np.asarray, params, is_leaf=lambda leaf: leaf is None)
    s, annotations = np.zeros(H), np.asarray(memory)[:3, 0]
    for x, y in zip(np.asarray(xs)[:, 0], ys[:, 0], strict=True):
        e = np.array([v @ np.tanh(W_a.T @ s + U_a.T @ a) for a in annotations])
        alpha = np.exp(e) / np.exp(e).sum()
        c = alpha @ annotations
        s = np.tanh(W.T @ x + U.T @ s + C.T @ c + b)
        np.testing.assert_allclose(y, np.concatenate([alpha, np.zeros(2), c, s]), rtol=0, atol=1e-13)
    np.testing.assert_allclose(h[0], s, rtol=0, atol=1e-13)
    np.testing.assert_allclose(ys[:, 1, -H:], alone, rtol=0, atol=1e-13)
    assert not ys[:, 1, :-H].any()


@pytest.mark.parametrize("pair", ["vanilla, additive", "lstm, scaled_dot"])
def test_the_gradient_reaches_the_memory_and_what_prepares_it(pair, key):
    """By the adjoint as by autodiff, through all three outputs, with resets and a sequence without a memory."""
    cell, attention, params, memory, xs = drawn(pair, key, outputs=("context", "weights", "y"))

    @functools.partial(jax.jit, static_argnums=0)
    def run(gradient, params, memory, xs):
        def loss(params, memory, xs):
            ready = jaxrnn.with_memory(params, attention, memory, lengths=LENGTHS)
            final, ys = jaxrnn.unroll(cell, ready, xs, resets=RESETS, gradient=gradient)
            return (jnp.sin(ys) ** 2).sum() + sum((leaf**3).sum() for leaf in jax.tree.leaves(final))

        return jax.grad(loss, (0, 1, 2))(params, memory, xs)

    padded = np.where(np.arange(S)[:, None, None] < LENGTHS[:, None], memory, np.nan)
    by_adjoint, by_autodiff = (run(way, params, padded, xs) for way in ("manual", "autodiff"))
    assert_trees_close(by_adjoint, by_autodiff)
    by_adjoint = jax.device_get(by_adjoint)
    assert all(np.abs(leaf).max() > 1e-6 for leaf in jax.tree.leaves(by_adjoint))
    assert not by_adjoint[1][3:, 0].any()
    assert not by_adjoint[1][:, 1].any()


def test_resets_leave_the_memory_alone(key):
    """Segments are independent, and all attend to the same memory; `step` agrees."""
    cell, attention, params, memory, drawn_xs = drawn("gru, general", key)
    xs: Any = np.asarray(drawn_xs)
    params = jax.jit(lambda params, memory: jaxrnn.with_memory(params, attention, memory))(params, memory)
    layer = jaxrnn.recurrent(cell)
    resets = np.repeat(np.arange(T)[:, None] == 2, B, axis=1)
    apply = jax.jit(layer.apply)
    carry, ys = apply(params, xs, resets=resets)
    (_, first), (last, second) = apply(params, xs[:2]), apply(params, xs[2:])
    assert_trees_close((carry, ys), (last, np.concatenate([first, second])))
    assert_trees_close(stepwise(layer, params, xs, layer.initial_carry(params, (B,)), resets), (carry, ys))


def gradients_of(cell, attention):
    def loss(params, memory, xs):
        _, ys = jaxrnn.unroll(cell, jaxrnn.with_memory(params, attention, memory), xs)
        return (ys**2).sum()

    return jax.value_and_grad(loss, (0, 1, 2))


@pytest.mark.parametrize(
    ("pair", "shared"), [("vanilla, additive", True), ("lstm, scaled_dot", False)], ids=["one memory", "a memory each"]
)
def test_beams_and_vmap(pair, shared, key):
    """Sequences ``[K, B]`` on a memory of ``[B]`` or each on its own, by batch axes and by vmap, as one by one."""
    cell, attention, params, *arrays = drawn(pair, key)
    memory, xs = map(np.asarray, arrays)
    grad = gradients_of(cell, attention)
    one = jax.jit(grad)
    beams = np.stack([xs, -xs, 2 * xs], axis=1)
    memories = np.stack([memory] * 3 if shared else [memory, 2 * memory, -memory])
    alone = [one(params, memories[k], beams[:, k]) for k in range(3)]
    expected = jax.tree.map(lambda *leaves: np.stack(leaves), *alone)
    axes = (None, None if shared else 0, 1)
    given = memory if shared else memories
    assert_trees_close(jax.jit(jax.vmap(grad, axes))(params, given, beams), expected)

    together = memory if shared else np.moveaxis(memories, 0, 1)
    value, (dparams, dmemory, dxs) = one(params, together, beams)
    values, (every_dparams, every_dmemory, every_dxs) = expected
    assert_trees_close((value, dparams), jax.tree.map(lambda leaf: leaf.sum(axis=0), (values, every_dparams)))
    assert_trees_close(dmemory, every_dmemory.sum(axis=0) if shared else np.moveaxis(every_dmemory, 0, 1))
    assert_trees_close(dxs, np.moveaxis(every_dxs, 0, 1))


@EVERY_PAIR
def test_no_loop_carries_or_stores_what_has_positions_and_features(pair, key):
    """The gradients of keys and values are sums over all steps, which a loop would add to at every step."""
    cell, attention, params, *_ = drawn(pair, key)
    xs, memory = np.ones((5, B, D)), np.ones((11, B, M))  # of which no array of all steps has as many elements

    def in_loops(gradient):
        def loss(params, memory, xs):
            ready = jaxrnn.with_memory(params, attention, memory)
            return (jaxrnn.unroll(cell, ready, xs, gradient=gradient)[1] ** 2).sum()

        jaxpr = jax.make_jaxpr(jax.grad(loss, (0, 1, 2)))(params, memory, xs).jaxpr
        return set().union(*map(sizes_in_loop, loops(jaxpr)))

    sizes = {leaf.size for leaf in jax.eval_shape(attention.prepare, params.attention, memory)[:2]}
    assert in_loops("auto") & sizes == set()
    assert in_loops("autodiff") >= sizes  # so the inspection can tell


def test_a_cell_without_an_adjoint_attends_by_autodiff(key):
    cell, attention, params, memory, xs = drawn("vanilla, additive", key)
    inner = jaxrnn.vanilla(D, H, **F64)._replace(adjoint=None)
    plain = jaxrnn.attending(inner, attention, D)
    assert plain.adjoint is None

    @jax.jit
    def both(params, memory, xs):
        ready = jaxrnn.with_memory(params, attention, memory)
        return [jaxrnn.unroll(each, ready, xs) for each in (plain, cell)]

    assert_trees_close(*both(params, memory, xs))


@pytest.mark.parametrize("noise", [True, False], ids=["noise", "mean"])
def test_zoneout_inside_is_zoneout_around(noise, key):
    """From one key, both draw the same noise; only the cell inside shows what is left of its output."""
    inner, attention = (make() for make in PAIRS["lstm, scaled_dot"])
    inside = jaxrnn.attending(jaxrnn.zoneout(inner, 0.4), attention, D)
    around = jaxrnn.zoneout(jaxrnn.attending(inner, attention, D), 0.4)
    _, _, params, memory, xs = drawn("lstm, scaled_dot", key)

    @jax.jit
    def run(params, memory, xs, key=None):
        ready = jaxrnn.with_memory(params, attention, memory, lengths=LENGTHS)
        return [jaxrnn.unroll(cell, ready, xs, key=key) for cell in (inside, around)]

    (final, ys), (expected, outside) = jax.device_get(run(params, memory, xs, *[key] * noise))
    assert_trees_close((final, ys[..., H:]), (expected, outside[..., H:]), tolerance=1e-14)
    np.testing.assert_array_equal(ys[-1, :, :H], final.h)


def test_noise_of_two_cells_inside(key):
    """By the adjoint as by autodiff."""
    inner = jaxrnn.variational_dropout(jaxrnn.zoneout(jaxrnn.gru(D, H, **F64), 0.4), 0.3, input_rate=0.2)
    attention = PAIRS["gru, general"][1]()
    cell = jaxrnn.attending(inner, attention, D)
    _, _, params, memory, xs = drawn("gru, general", key)

    def gradient(way):
        def loss(params, memory, xs):
            ready = jaxrnn.with_memory(params, attention, memory)
            return jnp.sin(jaxrnn.unroll(cell, ready, xs, gradient=way, key=key)[1]).sum()

        return jax.value_and_grad(loss, (0, 1, 2))(params, memory, xs)

    assert_trees_close(*jax.jit(lambda: [gradient(way) for way in ("manual", "autodiff")])())
