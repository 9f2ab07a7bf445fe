"""DropConnect on recurrent weights, as in the AWD-LSTM: U ⊙ m / (1 - p), once for all rows and steps."""

from collections.abc import Callable
from typing import Any

import jax

from jaxrnn import checks
from jaxrnn.cells.noise import dropout_masks, masked
from jaxrnn.types import Array, Carry, Layer, Params, recorded


def recurrent_kernels(path: str) -> bool:
    """Return whether ``path`` ends in ``recurrent``, the name of all recurrent kernels here."""
    return path.rpartition("/")[2] == "recurrent"


@recorded
def weight_dropout(layer: Layer, rate: float, *, where: Callable[[str], bool] = recurrent_kernels) -> Layer:
    """Return ``layer`` with weights W ⊙ m / (1 - p), m ~ Bernoulli(1 - p), drawn once for every call.

    All steps and all sequences of a call of `Layer.apply` share the weights that are left. They come
    from its ``key``, of which the layer itself gets another; without a key all weights are there.
    `Layer.step` leaves the weights of `Layer.apply` where it is given the same key at every step.
    Gradients are those of the whole weights, zero where they were dropped.

    Args:
        layer: any `Layer`, such as `recurrent` of a cell.
        rate: p, 0 ≤ p < 1, the share of the weights that are dropped.
        where: which weights, by their path in the parameters, such as "recurrent", or "1/cell/recurrent"
            in a stack; those whose last name is ``recurrent`` unless given.

    Raises:
        TypeError: ``layer`` is no `Layer`; an argument of the wrong type.
        ValueError: a rate outside [0, 1); no weight selected, when the layer is run with a key.

    Source: Merity, Keskar and Socher, "Regularizing and Optimizing LSTM Language Models" (2018); Wan et
    al., "Regularization of Neural Networks using DropConnect" (2013).

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> layer = jaxrnn.weight_dropout(jaxrnn.recurrent(jaxrnn.lstm(3, 5)), 0.5)
        >>> params = layer.init(jax.random.key(0))
        >>> carry, ys = layer.apply(params, jnp.ones((7, 2, 3)), key=jax.random.key(1))
        >>> ys.shape
        (7, 2, 5)
    """
    if not isinstance(layer, Layer):
        raise TypeError(f"layer: expected a Layer (recurrent(cell) makes one of a cell), got {type(layer).__name__}")
    checks.rate("rate", rate)
    checks.functions(where=where)

    def drop(params: Params, key: Array | None) -> tuple[Params, Array | None]:
        """Return the weights that are left, and the key of the layer."""
        if key is None:
            return params, None
        checks.key("key", key)
        weights_key, layer_key = jax.random.split(key)
        paths = jax.tree_util.tree_map_with_path(lambda path, _: _name(path), params)
        rates = jax.tree.map(lambda path: rate if where(path) else None, paths)
        if not jax.tree.leaves(rates):
            names = ", ".join(jax.tree.leaves(paths))
            raise ValueError(f"where: expected to select at least one of the parameters {names}, got none of them")
        return masked(params, dropout_masks(weights_key, rates, params)), layer_key

    def apply(
        params: Params,
        xs: Any,
        carry: Carry | None = None,
        *,
        lengths: Any = None,
        mask: Any = None,
        resets: Any = None,
        key: Array | None = None,
    ) -> tuple[Carry, Any]:
        params, key = drop(params, key)
        return layer.apply(params, xs, carry, lengths=lengths, mask=mask, resets=resets, key=key)

    def with_step(inner: Callable[..., tuple[Carry, Any]]) -> Callable[..., tuple[Carry, Any]]:
        def step(
            params: Params, carry: Carry, x: Any, *, reset: Any = None, key: Array | None = None
        ) -> tuple[Carry, Any]:
            params, key = drop(params, key)
            return inner(params, carry, x, reset=reset, key=key)

        return step

    return layer._replace(apply=apply, step=None if layer.step is None else with_step(layer.step))


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
