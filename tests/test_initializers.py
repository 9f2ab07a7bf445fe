"""Starting values: each gate drawn on its own, with the variance or the structure that it promises."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import initializers

INITIALIZERS = {
    "zeros": initializers.zeros,
    "constant": initializers.constant(2.0),
    "normal": initializers.normal(0.5),
    "fan_in": initializers.fan_in(),
    "uniform": initializers.uniform(),
    "orthogonal": initializers.orthogonal(),
    "identity": initializers.identity(),
    "per_gate": initializers.per_gate(initializers.orthogonal(), 2),
}
RANDOM = ("normal", "fan_in", "uniform", "orthogonal", "per_gate")
GATED = {
    "vanilla": (jaxrnn.vanilla, 1),
    "lstm": (jaxrnn.lstm, 4),
    "gru": (jaxrnn.gru, 3),
    "gru-before": (lambda *sizes, **options: jaxrnn.gru(*sizes, reset_after=False, **options), 3),
}


def blocks(array: Any, gates: int) -> list[np.ndarray]:
    return np.split(np.asarray(array), gates, axis=-1)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("name", INITIALIZERS)
def test_shape_and_dtype(name, dtype, key):
    drawn = INITIALIZERS[name](key, (6, 6), dtype)
    assert (drawn.shape, drawn.dtype) == ((6, 6), dtype)
    assert np.isfinite(np.asarray(drawn)).all()


@pytest.mark.parametrize("name", INITIALIZERS)
def test_float32_unless_said_otherwise(name, key):
    assert INITIALIZERS[name](key, (4, 4)).dtype == jnp.float32  # type: ignore[call-arg]


@pytest.mark.parametrize("name", INITIALIZERS)
def test_the_key_alone_decides(name, key):
    first, second = jax.random.split(key)
    initializer = INITIALIZERS[name]
    drawn, again, other = (np.asarray(initializer(k, (8, 8), jnp.float32)) for k in (first, first, second))
    assert (again == drawn).all()
    assert (other != drawn).any() == (name in RANDOM)


@pytest.mark.parametrize("name", GATED)
def test_every_gate_is_orthogonal_and_its_own(name, key):
    factory, gates = GATED[name]
    recurrent = blocks(factory(3, 16).init(key).recurrent, gates)
    for block in recurrent:
        np.testing.assert_allclose(block.T @ block, np.eye(16), atol=1e-5)
    for i, block in enumerate(recurrent):
        assert all(np.abs(block - other).max() > 0.1 for other in recurrent[:i])


def test_the_fused_matrix_itself_is_not_orthogonal(key):
    """What would come of drawing all gates at once: rows of unit length, gates that shrink."""
    fused = np.asarray(initializers.orthogonal()(key, (16, 64), jnp.float32))
    np.testing.assert_allclose(fused @ fused.T, np.eye(16), atol=1e-5)
    assert all(np.linalg.norm(gate, 2) < 0.99 for gate in np.split(fused, 4, axis=1))


@pytest.mark.parametrize("shape", [(3, 7), (7, 3), (5, 5)], ids=str)
def test_orthogonal_rows_or_columns_with_scale(shape, key):
    w = np.asarray(initializers.orthogonal(1.5)(key, shape, jnp.float32))
    gram = w @ w.T if shape[0] < shape[1] else w.T @ w
    np.testing.assert_allclose(gram, 1.5**2 * np.eye(min(shape)), atol=1e-5)


@pytest.mark.parametrize("name", GATED)
def test_input_weights_keep_the_size_of_the_input(name, key):
    factory, gates = GATED[name]
    for block in blocks(factory(400, 60).init(key).input, gates):
        assert abs(block.std() * 400**0.5 - 1.0) < 0.03
        assert abs(block.mean() * 400**0.5) < 0.03


@pytest.mark.parametrize("shape", [(100, 300), (5, 20, 300)], ids=str)
def test_fan_in_counts_every_axis_but_the_last(shape, key):
    assert abs(float(initializers.fan_in(2.0)(key, shape, jnp.float32).std()) * 100**0.5 - 2.0) < 0.05


@pytest.mark.parametrize("name", GATED)
def test_uniform_reaches_its_bound_and_stops_there(name, key):
    """For torch's start: ±1/√H for all, H being the hidden size and not the width of the fused array."""
    factory, gates = GATED[name]
    uniform = initializers.uniform()
    options = {"forget_bias": 0.0} if name == "lstm" else {}
    params = factory(40, 25, input_init=uniform, recurrent_init=uniform, bias_init=uniform, **options).init(key)
    for leaf in (params.input, params.recurrent):
        for block in blocks(leaf, gates):
            assert 0.19 < np.abs(block).max() <= 0.2
            assert abs(block.var() - 0.2**2 / 3) < 0.002
    assert 0.1 < np.abs(params.bias).max() <= 0.2


@pytest.mark.parametrize("forget_bias", [None, 0.0, 2.5])
def test_the_forget_bias_is_added_to_the_forget_gate_alone(forget_bias, key):
    options = {} if forget_bias is None else {"forget_bias": forget_bias}
    bias_init = initializers.normal(1.0)
    drawn = jaxrnn.lstm(3, 5, bias_init=bias_init, **options).init(key).bias
    without = jaxrnn.lstm(3, 5, bias_init=bias_init, forget_bias=0.0).init(key).bias
    i, f, g, o = blocks(np.asarray(drawn) - np.asarray(without), 4)
    expected = 1.0 if forget_bias is None else forget_bias
    np.testing.assert_allclose(f, expected, rtol=1e-6)
    assert not np.any([i, g, o])


def test_biases_start_at_zero_but_the_lstm_s_forget_gate(key):
    assert not np.any(jaxrnn.vanilla(3, 5).init(key).bias)
    gru = jaxrnn.gru(3, 5).init(key)
    assert not np.any(gru.bias)
    assert not np.any(gru.candidate_bias)
    assert jaxrnn.lstm(3, 5).init(key).bias.tolist() == [0.0] * 5 + [1.0] * 5 + [0.0] * 10


@pytest.mark.parametrize("name", GATED)
def test_each_parameter_draws_from_a_key_of_its_own(name, key):
    factory, _ = GATED[name]
    normal = initializers.normal(1.0)
    params = factory(6, 6, input_init=normal, recurrent_init=normal, bias_init=normal).init(key)
    drawn = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(params)])
    assert len(np.unique(drawn)) == drawn.size


def test_identity(key):
    recurrent = jaxrnn.vanilla(2, 4, activation="relu", recurrent_init=initializers.identity(0.5)).init(key).recurrent
    np.testing.assert_array_equal(recurrent, 0.5 * np.eye(4))
    fused = jaxrnn.lstm(2, 4, recurrent_init=initializers.identity()).init(key).recurrent
    np.testing.assert_array_equal(fused, np.concatenate([np.eye(4)] * 4, axis=1))


def test_per_gate_calls_the_initializer_with_each_gate_s_own_shape(key):
    shapes = []

    def record(key, shape, dtype):
        shapes.append(shape)
        return jnp.full(shape, len(shapes), dtype)

    fused = initializers.per_gate(record, 3)(key, (2, 6), jnp.float32)
    assert shapes == [(2, 2)] * 3
    assert fused.tolist() == [[1, 1, 2, 2, 3, 3]] * 2


@pytest.mark.parametrize("name", GATED)
def test_cells_draw_in_their_dtype(name, key):
    factory, _ = GATED[name]
    cell = factory(3, 5, dtype=jnp.bfloat16, carry_dtype=jnp.float32)
    params = jax.eval_shape(cell.init, key)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.bfloat16)}
    carry = jax.eval_shape(cell.initial_carry, params)
    assert {leaf.dtype for leaf in jax.tree.leaves(carry)} == {jnp.dtype(jnp.float32)}
