"""One training step: the gradient of a loss, the optimiser's update, the carry for the next step.

Optimisers come from optax, and so does everything around them::

    optax.adam(1e-3)
    optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))            # clipping
    optax.adamw(optax.cosine_decay_schedule(1e-3, 10_000), weight_decay=0.1)  # a schedule
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax

from jaxrnn import checks
from jaxrnn.training.data_parallel import DEVICES, mesh_over, parallel_gradient, specs
from jaxrnn.types import Array, Carry, Params

Loss = TypeVar("Loss")  # a scalar, or a pair (sum, weight) of scalars
LossFunction = Callable[[Params, Carry, Any, Array], tuple[Loss, tuple[Carry, dict[str, Array]]]]
TrainStep = Callable[["TrainState", Any], tuple["TrainState", dict[str, Array]]]

MEASURED = ("loss", "gradient_norm")


class TrainState(NamedTuple):
    """All that a training run is, so that a copy of it resumes the run exactly.

    step: int32 scalar, how many updates were made.
    params: the parameters.
    opt_state: the state of the optax optimiser.
    carry: what one step leaves to the next (truncated BPTT); ``()`` where sequences are independent.
    key: the key of the run. Step n draws its noise from ``fold_in(key, n)``, so the key never changes.
    """

    step: Array
    params: Params
    opt_state: Any
    carry: Carry
    key: Array


class Inputs(NamedTuple):
    """What a train step divides among devices."""

    carry: Any
    batch: Any
    key: Any


def gradient_descent(learning_rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
    """Return plain gradient descent, θ ← θ - η∇θ.

    Args:
        learning_rate: η, or an optax schedule of it.

    Source: Cauchy, "Méthode générale pour la résolution des systèmes d'équations simultanées" (1847).

    Example:
        >>> import jax.numpy as jnp, optax
        >>> from jaxrnn.training import gradient_descent
        >>> optimizer, params = gradient_descent(0.1), jnp.array([1.0])
        >>> updates, _ = optimizer.update(jnp.array([5.0]), optimizer.init(params))
        >>> float(optax.apply_updates(params, updates)[0])
        0.5
    """
    return optax.sgd(learning_rate)


def train_state(params: Params, optimizer: optax.GradientTransformation, key: Array, carry: Carry = ()) -> TrainState:
    """Return the state before the first step.

    Everything is copied: a train step reuses the memory of the state it is given, and the arrays
    passed here stay the caller's.

    Args:
        params: the parameters, as `jaxrnn.Layer.init` returns them.
        optimizer: an optax optimiser.
        key: of `jax.random.key` or `jax.random.PRNGKey`; for the run, not the one that made the parameters.
        carry: the carry of the first step, ``layer.initial_carry(params, batch_shape)``.

    Raises:
        TypeError: an optimiser that is none, a key that is none.

    Example:
        >>> import jax, jaxrnn
        >>> from jaxrnn.training import gradient_descent, train_state
        >>> layer = jaxrnn.recurrent(jaxrnn.gru(3, 5))
        >>> state = train_state(layer.init(jax.random.key(0)), gradient_descent(0.1), jax.random.key(1))
        >>> int(state.step)
        0
    """
    _check_optimizer(optimizer)
    _check_key(key)
    state = TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), carry, key)
    return jax.tree.map(lambda x: jnp.array(x, copy=True), state)


def train_step(
    loss_fn: LossFunction[Any],
    optimizer: optax.GradientTransformation,
    *,
    devices: Sequence[Any] | None = None,
    batch_axis: Any = 0,
) -> TrainStep:
    """Return the compiled step ``(state, batch) -> (state, metrics)``: θ ← θ + update(∇_θ L).

    The memory of ``state`` is reused for the state that is returned (donated), so the one given is
    gone after the call. No gradient passes from one step to the next: the carry is detached.

    Args:
        loss_fn: ``(params, carry, batch, key) -> (loss, (carry, metrics))``. The loss is a floating
            scalar, or a pair (sum, weight) whose ratio it is; the carry is the one of the next step, of
            the same shapes and dtypes as the one given; metrics is a dict of scalars.
        optimizer: an optax optimiser, the one of `train_state`.
        devices: among which to divide batch and carry, as `data_parallel` does; each device then draws
            its own noise, and metrics are means over devices. A mean over steps that a mask counts must
            then be a pair: see `jaxrnn.losses.sum_and_weight`. None for the default device.
        batch_axis: of ``batch``, for `data_parallel`; that of the carry is 0.

    The metrics returned are those of ``loss_fn`` with ``loss`` and ``gradient_norm``, the global norm
    ‖∇_θ L‖ before any clipping. All belong to the parameters before the update.

    Raises:
        TypeError: an argument of the wrong type; at the first call, results of ``loss_fn`` that are
            not as above.
        ValueError: at the first call, a loss or metric that is no scalar, a carry of other shapes.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxrnn.training import gradient_descent, train_state, train_step
        >>> def loss_fn(params, carry, batch, key):
        ...     return (params - batch) ** 2, (carry, {})
        >>> optimizer = gradient_descent(0.25)
        >>> state = train_state(jnp.array(2.0), optimizer, jax.random.key(0))
        >>> state, metrics = train_step(loss_fn, optimizer)(state, jnp.array(0.0))
        >>> float(state.params), float(metrics["loss"]), float(metrics["gradient_norm"])
        (1.0, 4.0, 4.0)
    """
    if not callable(loss_fn):
        raise TypeError(f"loss_fn: expected a function (params, carry, batch, key), got {loss_fn!r}")
    _check_optimizer(optimizer)

    mesh = None if devices is None else mesh_over(devices)
    sharded = mesh is not None and mesh.size > 1

    def differentiable(params: Params, inputs: Inputs) -> tuple[Any, tuple[Carry, Any]]:
        carry, batch, key = inputs
        if sharded:
            key = jax.random.fold_in(key, jax.lax.axis_index(DEVICES))
        result = loss_fn(params, carry, batch, key)
        _check_result(result, carry)
        return result

    divided = Inputs(0, batch_axis, None)
    gradient = parallel_gradient(differentiable, mesh, divided, aux_axis=(0, None), name="")

    def step(state: TrainState, batch: Any) -> tuple[TrainState, dict[str, Array]]:
        key = jax.random.fold_in(state.key, state.step)
        carry = jax.lax.stop_gradient(state.carry)
        (loss, (carry, metrics)), grads = gradient(state.params, Inputs(carry, batch, key))
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        measured = dict(zip(MEASURED, (loss, optax.tree.norm(grads)), strict=True))
        return TrainState(state.step + 1, params, opt_state, carry, state.key), measured | metrics

    if mesh is None or not sharded:
        return jax.jit(step, donate_argnums=0)
    whole, rows = (jax.NamedSharding(mesh, spec) for spec in (specs(None), specs(0)))
    placed = TrainState._make((whole, whole, whole, rows, whole))
    return jax.jit(step, donate_argnums=0, in_shardings=(placed, None), out_shardings=(placed, whole))


def _check_optimizer(optimizer: Any) -> None:
    if not callable(getattr(optimizer, "init", None)) or not callable(getattr(optimizer, "update", None)):
        raise TypeError(f"optimizer: expected an optax GradientTransformation, got {type(optimizer).__name__}")


def _check_key(key: Any) -> None:
    typed = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    if not typed and not (hasattr(key, "dtype") and key.dtype == jnp.uint32):
        raise TypeError(f"key: expected a jax.random.key, got {type(key).__name__}")


def _check_result(result: Any, carry: Carry) -> None:
    expected = "loss_fn: expected to return (loss, (carry, metrics))"
    if not (isinstance(result, tuple) and len(result) == 2):
        raise TypeError(f"{expected}, got {type(result).__name__}")
    _, rest = result
    if not (isinstance(rest, tuple) and len(rest) == 2 and isinstance(rest[1], dict)):
        raise TypeError(f"{expected} with a dict of metrics, got {type(rest).__name__} after the loss")
    checks.same_structure("loss_fn: carry", rest[0], carry, "as the carry it was given")
    for name, value in rest[1].items():
        if name in MEASURED:
            raise ValueError(f"loss_fn: metrics[{name!r}] is a name that train_step uses; choose another")
        if jnp.shape(value) != ():
            raise ValueError(f"loss_fn: expected scalar metrics, got shape {jnp.shape(value)} for {name!r}")
