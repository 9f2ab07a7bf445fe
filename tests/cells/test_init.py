"""What the cells start from: shapes, scales gate by gate, forget bias, and initializers of one's own."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from tests.registry import CELLS, normal_like

D, H = 64, 16
GATES = {
    "vanilla": (jaxrnn.vanilla, {}, 1),
    "lstm": (jaxrnn.lstm, {}, 4),
    "gru-after": (jaxrnn.gru, {}, 3),
    "gru-before": (jaxrnn.gru, {"reset_after": False}, 3),
}


@pytest.mark.parametrize("name", GATES)
def test_recurrent_weights_are_orthogonal_gate_by_gate(name, key):
    factory, options, count = GATES[name]
    params = factory(D, H, **options).init(key)
    assert params.recurrent.shape == (H, count * H)
    blocks = np.split(np.asarray(params.recurrent), count, axis=1)
    for block in blocks:
        np.testing.assert_allclose(block @ block.T, np.eye(H), atol=1e-5)
    for one, other in itertools.pairwise(blocks):
        assert np.abs(one - other).max() > 0.1


@pytest.mark.parametrize("name", GATES)
def test_input_weights_are_scaled_by_fan_in_gate_by_gate(name, key):
    factory, options, count = GATES[name]
    params = factory(D, H, **options).init(key)
    assert params.input.shape == (D, count * H)
    for block in np.split(np.asarray(params.input), count, axis=1):
        assert 0.8 < block.std() * np.sqrt(D) < 1.2


@pytest.mark.parametrize(("options", "forget"), [({}, 1.0), ({"forget_bias": 0.0}, 0.0), ({"forget_bias": -2}, -2.0)])
def test_forget_bias_is_in_the_forget_gate_alone(options, forget, key):
    i, f, g, o = np.split(np.asarray(jaxrnn.lstm(D, H, **options).init(key).bias), 4)
    np.testing.assert_array_equal(f, forget)
    np.testing.assert_array_equal([i, g, o], 0)


def test_forget_bias_adds_to_what_was_drawn(key):
    drawn, shifted = (
        jaxrnn.lstm(D, H, forget_bias=bias, bias_init=jaxrnn.initializers.uniform()).init(key).bias for bias in (0, 3)
    )
    np.testing.assert_allclose(shifted - drawn, np.repeat([0.0, 3.0, 0.0, 0.0], H), atol=1e-6)


def test_gru_has_its_second_bias_only_where_it_has_a_place(key):
    assert jaxrnn.gru(D, H).init(key).candidate_bias.shape == (H,)
    assert jaxrnn.gru(D, H, reset_after=False).init(key).candidate_bias is None


@pytest.mark.parametrize("name", GATES)
def test_initializers_of_ones_own(name, key):
    """Each is called once for every gate, with a key of its own and that gate's shape."""
    factory, options, count = GATES[name]
    calls = []

    def recording(label, value):
        def init(key, shape, dtype):
            calls.append((label, shape, tuple(np.asarray(jax.random.key_data(key)))))
            return jnp.full(shape, value, dtype)

        return init

    inits = {f"{label}_init": recording(label, value) for label, value in (("input", 1), ("recurrent", 2), ("bias", 3))}
    forget = {"forget_bias": 0.0} if name == "lstm" else {}
    params = factory(D, H, **options, **forget, **inits).init(key)
    np.testing.assert_array_equal(params.input, 1)
    np.testing.assert_array_equal(params.recurrent, 2)
    for bias in jax.tree.leaves(params[2:]):
        np.testing.assert_array_equal(bias, 3)
    biases = count + (name == "gru-after")
    shapes = sorted((label, shape) for label, shape, _ in calls)
    assert shapes == [("bias", (H,))] * biases + [("input", (D, H))] * count + [("recurrent", (H, H))] * count
    assert len({key for _, _, key in calls}) == len(calls)


@pytest.mark.parametrize("entry", CELLS, ids=str)
def test_every_cell_starts_reproducibly_in_its_own_dtype(entry, key):
    for dtype in (jnp.float32, jnp.bfloat16):
        types = jax.eval_shape(entry.cell(dtype).init, key)
        assert {leaf.dtype for leaf in jax.tree.leaves(types)} == {jnp.dtype(dtype)}
    cell = entry.cell()
    keys = key, key, jax.random.fold_in(key, 1)
    first, again, other = (jax.tree.leaves(jax.device_get(cell.init(k))) for k in keys)
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert any((a != b).any() for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("entry", CELLS, ids=str)
@pytest.mark.parametrize("batch", [(), (4,), (2, 0, 3)], ids=str)
def test_initial_carry_has_the_batch_axes_asked_for(entry, batch, key):
    cell = entry.cell()
    params = normal_like(key, jax.eval_shape(cell.init, key))
    one = cell.initial_carry(params)
    for many, single in zip(jax.tree.leaves(cell.initial_carry(params, batch)), jax.tree.leaves(one), strict=True):
        assert many.shape == (*batch, *single.shape)
        assert many.dtype == single.dtype
        np.testing.assert_array_equal(many, np.broadcast_to(single, many.shape))
