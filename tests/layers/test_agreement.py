"""What holds for every layer: `apply` and `step` are one function, and steps that do not count do not exist."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from tests.layers.stepping import step_of, stepwise
from tests.registry import BY_NAME, CELLS, assert_trees_close, generator, noisy_params, normal, normal_like

T, B, V = 4, 2, 7
RESETS = np.array([[False, True], [True, False], [False, True], [True, True]])


def dense(*sizes: int, **options: Any) -> jaxrnn.Layer:
    return jaxrnn.dense(*sizes, dtype=jnp.float64, **options)


def of(name: str, **options: Any) -> jaxrnn.Layer:
    return jaxrnn.recurrent(BY_NAME[name].cell(jnp.float64), **options)


def plain(**options: Any) -> jaxrnn.Layer:
    """What is soonest compiled, for layers that are about something else."""
    return of("vanilla-tanh", gradient="autodiff", **options)


def deep() -> jaxrnn.Layer:
    return jaxrnn.serial(dense(2, 2), of("lstm"), jaxrnn.dropout(0.5), jaxrnn.serial(dense(3, 2), of("gru-after")))


def both_ways() -> jaxrnn.Layer:
    return jaxrnn.bidirectional(plain(), jaxrnn.serial(dense(2, 2), plain(reverse=True)))


def normalised() -> jaxrnn.Layer:
    norms = jaxrnn.layer_norm(2, dtype=jnp.float64), jaxrnn.rms_norm(3, dtype=jnp.float64)
    return jaxrnn.residual(jaxrnn.serial(norms[0], plain(), norms[1], dense(3, 2)), scale=0.5)


def transformer(**options: Any) -> jaxrnn.Layer:
    """Two layers on a context shorter than a sequence, so that what has left it is tested too."""
    options = {"feedforward": 3, "context": 3, "dtype": jnp.float64, **options}
    return jaxrnn.serial(dense(2, 4), jaxrnn.transformer(4, 2, 2, **options))


LAYERS = {
    "bidirectional": both_ways,
    "checkpointed": lambda: jaxrnn.checkpointed(jaxrnn.serial(plain(), dense(3, 2)), 3),
    "dense connections": lambda: jaxrnn.dense_connections(plain(), dense(5, 1)),
    "dense": lambda: dense(2, 3),
    "dense with activation": lambda: dense(2, 3, activation=jnp.exp),
    "dropout": lambda: jaxrnn.dropout(0.5),
    "embedding": lambda: jaxrnn.embedding(V, 3, dtype=jnp.float64),
    "highway": lambda: jaxrnn.highway(jaxrnn.serial(plain(), dense(3, 2)), 2, dtype=jnp.float64),
    "recurrent": lambda: of("lstm"),
    "recurrent by autodiff": lambda: of("gru-before", gradient="autodiff", unroll_factor=2),
    "residual": normalised,
    "transformer": transformer,
    "serial": deep,
    "serial from tokens": lambda: jaxrnn.serial(jaxrnn.embedding(V, 2, dtype=jnp.float64), of("gru-after")),
    "stacked": lambda: jaxrnn.stacked(jaxrnn.vanilla, 2, (3, 2), dropout=0.5, gradient="autodiff", dtype=jnp.float64),
}
WITH_STEP = [name for name in LAYERS if name != "bidirectional"]
TOKENS = ("embedding", "serial from tokens")


def inputs(name: str, key: jax.Array, *shape: int) -> np.ndarray:
    """Draw tokens or features in NumPy, of which a step or a part costs no compilation."""
    return generator(key).integers(0, V, shape) if name in TOKENS else np.asarray(normal(key, (*shape, 2)))


def drawn(layer: jaxrnn.Layer, key: jax.Array, batch: tuple[int, ...]) -> tuple[Any, Any]:
    """Return parameters and a random carry; integers in it count to two."""
    params_key, carry_key = jax.random.split(key)
    params = noisy_params(layer, params_key)
    carry = layer.initial_carry(params, batch)
    return params, jax.tree.map(lambda leaf: normal_like(carry_key, leaf) if is_floating(leaf) else leaf + 2, carry)


def is_floating(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)


@pytest.mark.parametrize("resets", [None, RESETS], ids=["", "resets"])
@pytest.mark.parametrize("name", WITH_STEP)
def test_apply_equals_step(name, resets, key, float64):
    layer = LAYERS[name]()
    params, carry = drawn(layer, key, (B,))
    xs = inputs(name, key, T, B)
    applied = jax.jit(layer.apply)(params, xs, carry, resets=resets)
    assert_trees_close(stepwise(layer, params, xs, carry, resets), applied)


@pytest.mark.parametrize("entry", CELLS, ids=str)
def test_apply_equals_step_for_every_cell(entry, key, float64):
    layer = jaxrnn.recurrent(entry.cell(jnp.float64))
    params, carry = drawn(layer, key, (B,))
    xs = normal(key, (T, B, *entry.features))
    applied = jax.jit(layer.apply)(params, xs, carry, resets=RESETS)
    assert_trees_close(stepwise(layer, params, xs, carry, RESETS), applied)


@pytest.mark.parametrize("batch", [(), (2, 3)], ids=str)
@pytest.mark.parametrize("name", ["embedding", "dense", "transformer", "serial"])
def test_apply_equals_step_for_any_batch_axes(name, batch, key, float64):
    layer = LAYERS[name]()
    params, carry = drawn(layer, key, batch)
    xs = inputs(name, key, 3, *batch)
    resets = generator(key).random((3, *batch)) < 0.5
    applied = jax.jit(layer.apply)(params, xs, carry, resets=resets)
    assert_trees_close(stepwise(layer, params, xs, carry, resets), applied)


@pytest.mark.parametrize("batch", [(), (2, 3)], ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_shapes_for_any_batch_axes(name, batch, key, float64):
    layer, xs = LAYERS[name](), inputs(name, key, T, *batch)
    flags, lengths = np.ones((T, *batch), bool), np.full(batch, 2)
    params = jax.eval_shape(layer.init, key)
    carry = jax.eval_shape(lambda params: layer.initial_carry(params, batch), params)
    after, ys = jax.eval_shape(lambda *a: layer.apply(*a, lengths=lengths, mask=flags, resets=flags), params, xs, carry)
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, carry)
    assert ys.shape[:-1] == (T, *batch)


@pytest.mark.parametrize("name", ["dropout", "recurrent", "transformer", "serial", "serial from tokens"])
def test_two_halves_make_the_whole(name, key, float64):
    """By `apply` with the carry passed on, and by `step` in the second half."""
    layer = LAYERS[name]()
    params = noisy_params(layer, key)
    xs = inputs(name, key, T, B)
    apply = jax.jit(layer.apply)
    carry, first = apply(params, xs[:2])
    whole = apply(params, xs)
    for last, second in (apply(params, xs[2:], carry), stepwise(layer, params, xs[2:], carry)):
        assert_trees_close((last, np.concatenate([first, second])), whole)


@pytest.mark.parametrize("name", LAYERS)
def test_no_carry_is_the_initial_carry(name, key, float64):
    layer = LAYERS[name]()
    params, xs = noisy_params(layer, key), inputs(name, key, T, B)
    apply = jax.jit(layer.apply)
    assert_trees_close(apply(params, xs), apply(params, xs, layer.initial_carry(params, (B,))))


VALID = {
    "lengths": ({"lengths": np.array([3, 0])}, np.arange(T)[:, None] < np.array([[3, 0]])),
    "mask": ({"mask": RESETS}, RESETS),
    "both": ({"lengths": np.array([4, 2]), "mask": RESETS}, RESETS & (np.arange(T)[:, None] < np.array([[4, 2]]))),
}


@pytest.mark.parametrize(
    ("name", "which"), [*((name, "both") for name in LAYERS), ("recurrent", "lengths"), ("serial", "mask")]
)
def test_steps_that_do_not_count_give_zero_and_pass_nothing_on(name, which, key, float64):
    layer = LAYERS[name]()
    arguments, valid = VALID[which]
    params, xs = noisy_params(layer, key), inputs(name, key, T, B)
    where = valid.reshape(valid.shape + (1,) * (xs.ndim - 2))
    garbage = np.full_like(xs, -1 if name in TOKENS else np.nan)

    def loss(floating, xs):
        params, xs = (floating, xs) if name in TOKENS else floating
        carry, ys = layer.apply(params, xs, **arguments)
        state = filter(is_floating, jax.tree.leaves(carry))
        return (ys**2).sum() + sum((leaf**2).sum() for leaf in state), (carry, ys)

    run = jax.jit(jax.value_and_grad(loss, has_aux=True))

    def gradients(xs):
        return jax.device_get(run(params if name in TOKENS else (params, xs), xs))

    clean, dirty = gradients(xs), gradients(np.where(where, xs, garbage))
    assert_trees_close(dirty, clean, 0.0)
    (_, (_, ys)), gradient = dirty
    assert not ys[~valid].any()
    assert (ys != 0).any(axis=-1)[valid].all() or name == "dropout"
    if name not in TOKENS:
        assert not np.where(where, 0.0, gradient[1]).any()
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("name", LAYERS)
def test_no_steps_and_no_sequences(name, key, float64):
    layer = LAYERS[name]()
    params = noisy_params(layer, key)
    features = jax.eval_shape(layer.apply, params, inputs(name, key, T, B))[1].shape[-1]
    apply = layer.apply if name in TOKENS else jax.jit(layer.apply)  # known tokens are checked, of which there are none
    for time, batch in ((0, B), (T, 0)):
        carry, ys = apply(params, inputs(name, key, time, batch))
        assert ys.shape == (time, batch, features)
        assert_trees_close(carry, layer.initial_carry(params, (batch,)))


def of_every_kind(dtype) -> jaxrnn.Layer:
    cell = jaxrnn.lstm(2, 3, dtype=dtype, carry_dtype=jnp.float32)
    return jaxrnn.serial(
        jaxrnn.embedding(V, 2, dtype=dtype),
        jaxrnn.recurrent(cell),
        jaxrnn.dropout(0.3),
        jaxrnn.residual(jaxrnn.serial(jaxrnn.layer_norm(3, dtype=dtype), jaxrnn.dense(3, 3, dtype=dtype)), scale=0.7),
        jaxrnn.highway(jaxrnn.rms_norm(3, dtype=dtype), 3, dtype=dtype),
        jaxrnn.dense_connections(jaxrnn.dense(3, 4, dtype=dtype)),
        jaxrnn.stacked(jaxrnn.lstm, 7, 3, num_layers=2, dropout=0.3, dtype=dtype, carry_dtype=jnp.float32),
    )


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32], ids=["bfloat16", "float32"])
def test_dtypes_are_kept(dtype, key):
    layer, tokens = of_every_kind(dtype), jnp.zeros((T, B), int)
    cell = jaxrnn.lstm(3, 3, dtype=dtype, carry_dtype=jnp.float32)
    readers = [
        jaxrnn.serial(
            layer,
            jaxrnn.time_reduction(3, mode),
            jaxrnn.bidirectional(jaxrnn.recurrent(cell), jaxrnn.recurrent(cell, reverse=True), merge=merge),
        )
        for mode, merge in (("mean", "mean"), ("max", "product"))
    ]

    def run(key):
        params = layer.init(key)
        carry, ys = layer.apply(params, tokens, key=key)
        carry, y = step_of(layer)(params, carry, tokens[0], key=key)
        read = [reader.apply(reader.init(key), tokens, mask=jnp.ones((T, B), bool), key=key) for reader in readers]
        return (params, ys, y, [ys for _, ys in read]), (carry, [carry for carry, _ in read])

    outputs, carry = jax.eval_shape(run, key)
    assert {leaf.dtype for leaf in jax.tree.leaves(outputs)} == {jnp.dtype(dtype)}
    assert {leaf.dtype for leaf in jax.tree.leaves(carry)} == {jnp.dtype(jnp.float32)}
