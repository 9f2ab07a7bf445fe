"""Forecasts of the N steps after a history, from the state it leaves behind.

    direct:          ŷ_1 … ŷ_N = h_T W + b                 all at once, W [F, N K]
    autoregressive:  ŷ_1 = h_T W + b,   ŷ_{n+1} = h_{T+n} W + b,   h_{T+n} = layer(h_{T+n-1}, ŷ_n)

The second reads its own forecasts as if they were observed. In training it may read the truth instead,
y_n for ŷ_n: teacher forcing, Williams and Zipser (1989).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.layers.dense import DenseParams, dense
from jaxrnn.layers.serial import keys_of
from jaxrnn.models.pooling import last
from jaxrnn.steps import valid_steps
from jaxrnn.types import Array, Carry, Layer, Params, Spec, recorded

METHODS = ("direct", "autoregressive")


class ForecasterParams(NamedTuple):
    """Parameters of `forecaster`: of the layer, and of the head W, b."""

    layer: Params
    head: DenseParams


class Forecaster(NamedTuple):
    """The steps after a history.

    init: ``(key) -> params``.
    apply: ``(params, xs, *, lengths=None, mask=None, key=None) -> forecasts [N, *B, K]``, of the steps after
        each sequence's own last valid one.
    forced: ``(params, xs, targets, *, lengths=None, mask=None, key=None) -> forecasts [N, *B, K]``, each from
        the true ``targets [N, *B, K]`` before it; None unless autoregressive.
    spec: the call that made the model.
    """

    init: Callable[..., ForecasterParams]
    apply: Callable[..., Array]
    forced: Callable[..., Array] | None = None
    spec: Spec | None = None


@recorded
def forecaster(
    layer: Layer,
    features: int,
    horizon: int,
    targets: int = 1,
    *,
    method: str = "direct",
    dtype: Any = jnp.float32,
) -> Forecaster:
    """Return the model of the next N steps: ŷ_1 … ŷ_N = h_T W + b, or ŷ_{n+1} = h_{T+n} W + b.

    A sequence without a valid step is forecast from h = 0 and the layer's initial carry.

    Args:
        layer: a `Layer` from ``xs [T, *B, D]`` to ``[T, *B, features]`` that runs forward.
        features: F, those of the layer's outputs.
        horizon: N, the steps to forecast.
        targets: K, the features of a forecast.
        method: "direct", all from the last state at once; "autoregressive", one after another by
            `Layer.step`, for a layer of D = K inputs.
        dtype: of the head's parameters.

    Raises:
        ValueError: a size below 1, an unknown method, a layer without a step where it needs one.
        TypeError: an argument of the wrong type.

    Source: the two strategies compared, Ben Taieb et al., "A Review and Comparison of Strategies for
    Multi-Step Ahead Time Series Forecasting" (2012).

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> layer = jaxrnn.recurrent(jaxrnn.gru(2, 5))
        >>> model = jaxrnn.models.forecaster(layer, 5, 3, 2, method="autoregressive")
        >>> params, history, future = model.init(jax.random.key(0)), jnp.ones((7, 4, 2)), jnp.ones((3, 4, 2))
        >>> jax.jit(model.apply)(params, history).shape
        (3, 4, 2)
        >>> jax.eval_shape(model.forced, params, history, future).shape  # with the truth, for training
        (3, 4, 2)
    """
    checks.layer("layer", layer)
    checks.size("features", features)
    checks.size("horizon", horizon)
    checks.size("targets", targets)
    direct = checks.choice("method", method, METHODS) == "direct"
    layer_step = layer.step
    if layer_step is None and not direct:
        raise ValueError('layer: expected one with a step for "autoregressive"; this one needs the future of its input')
    checks.floating(dtype=dtype)
    head = dense(features, horizon * targets if direct else targets, dtype=dtype)
    call = f"forecaster(…, {features}, {horizon}, {targets})"

    def init(key: Array) -> ForecasterParams:
        checks.key("key", key)
        layer_key, head_key = jax.random.split(key)
        return ForecasterParams(layer.init(layer_key), head.init(head_key))

    def outlook(params: ForecasterParams, xs: Any, lengths: Any, mask: Any, key: Array | None) -> tuple[Carry, Array]:
        """Return the carry after the history, and h_T W + b."""
        if not isinstance(params, ForecasterParams):
            raise TypeError(f"params: expected the ForecasterParams of {call}, got {type(params).__name__}")
        carry, hs = layer.apply(params.layer, xs, lengths=lengths, mask=mask, key=key)
        checks.features("layer: its output", hs, features, hs.dtype, call)
        time, *batch = hs.shape[:-1]
        lengths, mask, _ = layer.output_steps(lengths, mask)
        valid = valid_steps(time, tuple(batch), lengths, mask)
        h = last(hs, jnp.ones((time, *batch), bool) if valid is None else valid)
        return carry, head.apply(params.head, h[None])[1][0]

    def apply_direct(
        params: ForecasterParams, xs: Any, *, lengths: Any = None, mask: Any = None, key: Array | None = None
    ) -> Array:
        _, ys = outlook(params, xs, lengths, mask, key)
        return jnp.moveaxis(ys.reshape(*ys.shape[:-1], horizon, targets), -2, 0)

    if direct or layer_step is None:
        return Forecaster(init, apply_direct)

    def apply(
        params: ForecasterParams, xs: Any, *, lengths: Any = None, mask: Any = None, key: Array | None = None
    ) -> Array:
        history_key, future_key = keys_of(key, 2)
        carry, y = outlook(params, xs, lengths, mask, history_key)
        if xs.shape[-1] != targets:
            raise ValueError(f"targets: expected {xs.shape[-1]}, those of xs that are fed back, got {targets}")

        def step(state: tuple[Carry, Array], key: Array | None) -> tuple[tuple[Carry, Array], Array]:
            carry, y = state
            carry, h = layer_step(params.layer, carry, y, key=key)
            y = head.apply(params.head, h[None])[1][0]
            return (carry, y), y

        keys = None if future_key is None else jax.random.split(future_key, horizon - 1)
        _, ys = jax.lax.scan(step, (carry, y), keys, length=horizon - 1)
        return jnp.concatenate([y[None], ys])

    def forced(
        params: ForecasterParams,
        xs: Any,
        targets: Any,
        *,
        lengths: Any = None,
        mask: Any = None,
        key: Array | None = None,
    ) -> Array:
        history_key, future_key = keys_of(key, 2)
        carry, y = outlook(params, xs, lengths, mask, history_key)
        expected = jax.ShapeDtypeStruct((horizon, *y.shape), y.dtype)
        checks.same_structure("targets", checks.array("targets", targets), expected, f"for {call}")
        _, hs = layer.apply(params.layer, jnp.asarray(targets)[:-1], carry, key=future_key)
        return jnp.concatenate([y[None], head.apply(params.head, hs)[1]])

    return Forecaster(init, apply, forced)
