"""The train step against updates written out by hand, and what it does with memory, keys and mistakes."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxrnn
from jaxrnn.losses import mean_squared_error
from jaxrnn.training import TrainState, gradient_descent, train_state, train_step
from tests.models.drawing import params_of

LAYER = jaxrnn.recurrent(jaxrnn.gru(3, 2))
PARAMS = params_of(LAYER, jax.random.key(0))
XS, YS = (np.random.default_rng(0).standard_normal((4, 2, size), dtype=np.float32) for size in (3, 2))


@pytest.fixture(autouse=True)
def _optax_promotes():
    with jax.numpy_dtype_promotion("standard"):  # optax.adam mixes dtypes
        yield


def loss_fn(params, carry, batch, key):
    carry, predictions = LAYER.apply(params, batch[0], carry)
    noise = jax.random.normal(key)
    return mean_squared_error(predictions, batch[1]) + 0 * noise, (carry, {"noise": noise})


def new_state(optimizer, key=None):
    return train_state(PARAMS, optimizer, jax.random.key(3) if key is None else key, LAYER.initial_carry(PARAMS, (2,)))


def test_gradient_descent_is_the_formula():
    optimizer = gradient_descent(0.5)

    @jax.jit
    def by_hand(params, carry):
        gradient, (carry, _) = jax.grad(loss_fn, has_aux=True)(params, carry, (XS, YS), jax.random.key(0))
        stepped = jax.tree.map(lambda p, g: p - 0.5 * g, params, gradient)
        return stepped, gradient, carry, mean_squared_error(LAYER.apply(params, XS)[1], YS)

    expected, gradient, carry, loss = by_hand(PARAMS, LAYER.initial_carry(PARAMS, (2,)))
    norm = np.sqrt(sum(float(np.sum(np.square(g))) for g in jax.tree.leaves(gradient)))
    state, metrics = train_step(loss_fn, optimizer)(new_state(optimizer), (XS, YS))
    chex.assert_trees_all_close(state.params, expected, atol=1e-6)
    chex.assert_trees_all_close(state.carry, carry, atol=1e-6)
    np.testing.assert_allclose(metrics["gradient_norm"], norm, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)
    assert state.step == 1
    assert state.step.dtype == jnp.int32


def test_strict_promotion_with_gradient_descent():
    with jax.numpy_dtype_promotion("strict"):
        optimizer = gradient_descent(optax.linear_schedule(0.5, 0.1, 10))
        state, _ = train_step(loss_fn, optimizer)(new_state(optimizer), (XS, YS))
    assert state.step == 1


def test_any_optax_optimizer_with_clipping():
    optimizer = optax.chain(optax.clip_by_global_norm(1e-3), optax.adam(1e-2))
    step, state = train_step(loss_fn, optimizer), new_state(optimizer)
    opt_state, params, carry = optimizer.init(PARAMS), PARAMS, LAYER.initial_carry(PARAMS, (2,))

    @jax.jit
    def by_hand(params, opt_state, carry, n):
        key = jax.random.fold_in(jax.random.key(3), n)
        gradient, (carry, _) = jax.grad(loss_fn, has_aux=True)(params, carry, (XS, YS), key)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, carry

    for n in range(3):
        params, opt_state, carry = by_hand(params, opt_state, carry, n)
        state, metrics = step(state, (XS, YS))
        assert metrics["gradient_norm"] > 1e-2  # the norm before clipping
    chex.assert_trees_all_close(state.params, params, atol=1e-6)
    clipped = optax.chain(optax.clip_by_global_norm(1e-3), gradient_descent(1.0))
    state, _ = train_step(loss_fn, clipped)(new_state(clipped), (XS, YS))
    moved = np.sqrt(sum(np.sum(np.square(p - q)) for p, q in zip(*jax.device_get((state.params, PARAMS)), strict=True)))
    np.testing.assert_allclose(moved, 1e-3, rtol=1e-2)


@pytest.mark.parametrize("make", [jax.random.key, jax.random.PRNGKey])
def test_each_step_has_its_own_key(make):
    optimizer = gradient_descent(0.1)
    step, state = train_step(loss_fn, optimizer), new_state(optimizer, make(3))
    noise = jax.jit(lambda n: jax.random.normal(jax.random.fold_in(make(3), n)))
    for n in range(3):
        state, metrics = step(state, (XS, YS))
        np.testing.assert_allclose(metrics["noise"], noise(n), rtol=1e-6)
    np.testing.assert_array_equal(jax.random.key_data(state.key), jax.random.key_data(make(3)))


def test_memory_is_reused_and_the_callers_arrays_are_not():
    optimizer = optax.adam(1e-2)
    shared = jnp.zeros((2, 2))
    state = train_state({"a": PARAMS, "b": PARAMS}, optimizer, jax.random.key(0), (shared, shared))

    def loss_fn(params, carry, batch, key):
        del batch, key
        return jnp.array(optax.tree.sum(params)), (carry, {})

    after, _ = train_step(loss_fn, optimizer)(state, None)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((state.params, state.opt_state, state.carry)))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((PARAMS, shared, after)))


def test_compiles_once():
    optimizer = optax.adam(1e-2)
    traces = []

    def counted(*arguments):
        traces.append(arguments)
        return loss_fn(*arguments)

    step, state = train_step(counted, optimizer), new_state(optimizer)
    for _ in range(3):
        state, _ = step(state, (XS, YS))
    assert len(traces) == 1


def test_no_gradient_passes_through_the_carry():
    def total(start):
        optimizer = gradient_descent(0.1)
        state = train_state(PARAMS, optimizer, jax.random.key(0))._replace(carry=start)
        return train_step(loss_fn, optimizer)(state, (XS, YS))[1]["loss"]

    start = LAYER.initial_carry(PARAMS, (2,)) + 0.5
    assert not np.asarray(jax.grad(total)(start)).any()


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        (lambda p, c: p, TypeError, r"loss_fn: expected to return \(loss, \(carry, metrics\)\), got "),
        (lambda p, c: (p, c), TypeError, r"loss_fn: expected .* with a dict of metrics"),
        (lambda p, c: (p, (c, [])), TypeError, "loss_fn: expected .* with a dict of metrics"),
        (lambda p, c: (p.reshape(1), (c, {})), ValueError, r"loss_fn: expected a scalar loss, .* got shape \(1,\)"),
        (lambda p, c: (1, (c, {})), TypeError, "loss_fn: expected a floating loss, got dtype int32"),
        (lambda p, c: (p, ((), {})), TypeError, "loss_fn: carry: expected"),
        (lambda p, c: (p, (c[:1], {})), ValueError, r"loss_fn: carry: expected shape \(2,\) .* got \(1,\)"),
        (lambda p, c: (p, (c.astype(jnp.int32), {})), TypeError, "loss_fn: carry: expected dtype float32"),
        (lambda p, c: (p, (c, {"loss": p})), ValueError, "loss_fn: metrics.'loss'. is a name that train_step uses"),
        (
            lambda p, c: (p, (c, {"all": c})),
            ValueError,
            r"loss_fn: expected scalar metrics, got shape \(2,\) for 'all'",
        ),
    ],
)
def test_wrong_loss_functions(result, error, message):
    optimizer = gradient_descent(0.1)
    state = train_state(jnp.array(1.0), optimizer, jax.random.key(0), jnp.zeros(2))
    with pytest.raises(error, match=message):
        train_step(lambda params, carry, batch, key: result(params, carry), optimizer)(state, None)


def test_wrong_arguments():
    optimizer = gradient_descent(0.1)
    with pytest.raises(TypeError, match="loss_fn: expected a function"):
        train_step(None, optimizer)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="optimizer: expected an optax GradientTransformation, got str"):
        train_step(loss_fn, "adam")  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="optimizer: expected an optax GradientTransformation, got NoneType"):
        train_state(PARAMS, None, jax.random.key(0))  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match=r"key: expected a jax.random.key, got int"):
        train_state(PARAMS, optimizer, 0)  # pyright: ignore[reportArgumentType]


def test_state_is_a_pytree_of_arrays():
    state = new_state(optax.adam(1e-2))
    assert isinstance(jax.tree.map(lambda x: x, state), TrainState)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))
