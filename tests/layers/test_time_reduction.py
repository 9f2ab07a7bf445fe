"""Frames of several steps, one sequence and one frame after the other, and what the layers after them see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from tests.registry import assert_trees_close

T, B, D, N = 7, 3, 2, 3
LENGTHS = np.array([7, 4, 0])


def draw(rng):
    """Return sequences with NaN where they have no valid step, and all that says which steps those are."""
    mask, resets = rng.random((T, B)) < 0.7, rng.random((T, B)) < 0.4
    mask[:2], resets[6] = [True, False, True], True
    valid = mask & (np.arange(T)[:, None] < LENGTHS)
    xs = np.where(valid[..., None], rng.standard_normal((T, B, D)), np.nan)
    return xs, valid, {"lengths": LENGTHS, "mask": mask, "resets": resets}


def frames_of(valid, resets):
    """Return for every sequence and frame the steps that count, and whether the frame begins a segment."""
    for b in range(B):
        for frame in range(-(-T // N)):
            steps = [t for t in range(frame * N, min(frame * N + N, T)) if valid[t, b]]
            begins = [t for t in steps if resets[t, b]]
            yield b, frame, [t for t in steps if not begins or t >= begins[-1]], bool(begins)


@pytest.mark.parametrize("mode", ["concat", "mean", "max"])
def test_values_and_gradients(mode, rng, float64):
    xs, valid, steps = draw(rng)
    layer = jaxrnn.time_reduction(N, mode)

    def loss(xs):
        _, ys = layer.apply((), xs, **steps)
        return (ys**2).sum(), ys

    gradient, ys = jax.jit(jax.grad(loss, has_aux=True))(xs)
    assert ys.shape == (3, B, N * D if mode == "concat" else D)
    for b, frame, counted, _ in frames_of(valid, steps["resets"]):
        rows = [xs[t, b] if t in counted else np.zeros(D) for t in range(frame * N, frame * N + N)]
        if mode == "concat":
            expected = np.concatenate(rows)
        else:
            chosen = np.array([xs[t, b] for t in counted] or np.zeros((1, D)))
            expected = chosen.mean(axis=0) if mode == "mean" else chosen.max(axis=0)
        np.testing.assert_allclose(ys[frame, b], expected, rtol=1e-12)
    counted = np.zeros((T, B), bool)
    for b, _, ts, _ in frames_of(valid, steps["resets"]):
        counted[ts, b] = True
    gradient = np.asarray(gradient)
    assert not gradient[~counted].any()
    assert (gradient[counted] != 0).any(axis=-1).all() or mode == "max"
    assert np.isfinite(gradient).all()


def test_what_belongs_to_frames(rng):
    _, valid, steps = draw(rng)
    layer = jaxrnn.time_reduction(N)
    lengths, mask, resets = layer.output_steps(**steps)
    assert lengths.tolist() == [3, 2, 0]
    for b, frame, counted, begins in frames_of(valid, steps["resets"]):
        assert mask[frame, b] == bool(counted)
        assert resets[frame, b] == begins
    assert layer.output_steps() == (None, None, None)
    _, mask_alone, nothing = layer.output_steps(mask=steps["mask"])
    assert nothing is None
    assert mask_alone.tolist() == [[steps["mask"][t : t + N, b].any() for b in range(B)] for t in (0, 3, 6)]
    _, _, resets_alone = layer.output_steps(resets=steps["resets"])
    assert resets_alone.tolist() == [[steps["resets"][t : t + N, b].any() for b in range(B)] for t in (0, 3, 6)]


@pytest.mark.parametrize("lengths", [[254, 255], np.array([254, 255], np.uint8)], ids=["list", "uint8"])
def test_lengths_of_any_integers(lengths):
    assert jaxrnn.time_reduction(2).output_steps(lengths)[0].tolist() == [127, 128]


@pytest.mark.parametrize(("time", "batch"), [(0, (2,)), (4, (0,)), (3, ()), (5, (2, 3))], ids=str)
@pytest.mark.parametrize("mode", ["concat", "mean", "max"])
def test_any_axes(mode, time, batch):
    layer = jaxrnn.time_reduction(2, mode)
    carry, ys = jax.eval_shape(layer.apply, (), jax.ShapeDtypeStruct((time, *batch, D), jnp.float32))
    assert carry == layer.initial_carry((), batch) == layer.init(jax.random.key(0)) == ()
    assert ys.shape == (-(-time // 2), *batch, 2 * D if mode == "concat" else D)
    assert layer.step is None


def pyramid(reverse=False):
    """Return T → ⌈T / 2⌉ → ⌈T / 4⌉, a nested stack within."""

    def listen(input_size):
        cell = jaxrnn.vanilla(input_size, 3, dtype=jnp.float64)
        return jaxrnn.recurrent(cell, reverse=reverse, gradient="autodiff")

    top = jaxrnn.serial(jaxrnn.time_reduction(2, "mean"), listen(3))
    return jaxrnn.serial(jaxrnn.time_reduction(2), listen(2 * D), top, jaxrnn.dropout(0.1))


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_layers_after_it_see_frames(reverse, key, float64):
    """A batch of padded sequences, and of segments, equals each of them alone."""
    layer = pyramid(reverse)
    params, xs = layer.init(key), jax.random.normal(key, (12, 2, D))
    lengths, resets = jnp.array([12, 5]), jnp.zeros((12, 2), bool).at[8, 0].set(True)

    @jax.jit
    def run(params, xs):
        alone = [layer.apply(params, part) for part in (xs[:8, 0], xs[8:, 0], xs[:5, 1])]
        return layer.apply(params, xs.at[5:, 1].set(jnp.nan), lengths=lengths, resets=resets), alone

    (carry, ys), ((first_carry, first), (second_carry, second), (short_carry, short)) = run(params, xs)
    last_carry = first_carry if reverse else second_carry
    assert_trees_close(ys[:, 0], jnp.concatenate([first, second]))
    assert_trees_close(ys[:2, 1], short)
    assert not ys[2:, 1].any()
    assert_trees_close(carry, jax.tree.map(lambda a, b: jnp.stack([a, b]), last_carry, short_carry))
    frame_lengths, mask, frame_resets = layer.output_steps(lengths, None, resets)
    assert (frame_lengths.tolist(), mask) == ([3, 2], None)
    assert frame_resets.tolist() == [[False, False], [False, False], [True, False]]


def test_a_segment_that_begins_within_a_frame_sees_none_of_the_last(key, float64):
    layer = pyramid()
    params, xs = layer.init(key), jax.random.normal(key, (12, D))
    resets = jnp.zeros(12, bool).at[7].set(True)
    jacobian = jax.jit(jax.jacrev(lambda xs: layer.apply(params, xs, resets=resets)[1]))(xs)
    # The frame of steps 4 to 7 belongs to the segment that begins with 7.
    seen = (jacobian != 0).any(axis=(1, 3))
    assert seen.tolist() == [[True] * 4 + [False] * 8, [False] * 7 + [True] + [False] * 4, [False] * 7 + [True] * 5]
