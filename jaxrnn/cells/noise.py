"""What the cells with noise share: a rate for every leaf of the carry, and draws that travel in zs."""

from typing import Any, NamedTuple

import jax

from jaxrnn import checks
from jaxrnn.types import Array, Carry


class Noisy(NamedTuple):
    """What a cell with noise gives its steps: the inner cell's ``z``, and ``noise``, None without a key."""

    z: Any
    noise: Any


def without_noise(z: Any) -> Any:
    """Return the z of the innermost cell, around which there may be some with noise."""
    while isinstance(z, Noisy):
        z = z.z
    return z


def check_rates(name: str, rate: Any) -> None:
    """Raise unless ``rate`` is a probability below 1, or a tree of them."""
    if not jax.tree.leaves(rate):
        raise TypeError(f"{name}: expected a number, or one for each part of the carry, got {rate!r}")
    for one in jax.tree.leaves(rate):
        checks.rate(name, one)


def rates_like(name: str, rate: Any, carry: Carry) -> Any:
    """Return a tree like ``carry`` of rates, None for those that are 0.

    ``rate`` is one number, a tree like the carry or the upper part of one, or a tuple for a NamedTuple.
    """
    given = rate
    if type(rate) is tuple and hasattr(carry, "_fields") and len(rate) == len(carry):
        rate = type(carry)(*rate)
    try:
        rates = jax.tree.broadcast(rate, carry)
    except ValueError as error:
        expected = f"one number, or one for each part of the carry {checks.outline(carry)}"
        raise ValueError(f"{name}: expected {expected}, got {checks.outline(given)}") from error
    return jax.tree.map(lambda p: None if p == 0 else p, rates)


def bernoulli(key: Array, rates: Any, like: Any) -> Any:
    """Return arrays like those of ``like``, 1 with the probability in ``rates``, else 0; None where that is None."""
    leaves, structure = jax.tree.flatten(like)
    keys = jax.random.split(key, len(leaves))
    return structure.unflatten(
        None if p is None else jax.random.bernoulli(k, p, leaf.shape).astype(leaf.dtype)
        for k, p, leaf in zip(keys, structure.flatten_up_to(rates), leaves, strict=True)
    )


def dropout_masks(key: Array, rates: Any, like: Any) -> Any:
    """Return masks m / (1 - p), m ~ Bernoulli(1 - p), arrays like those of ``like``; None where the rate is None."""
    return jax.tree.map(lambda dropped, p: (1 - dropped) / (1 - p), bernoulli(key, rates, like), rates)


def masked(tree: Any, masks: Any) -> Any:
    """Return ``tree`` times ``masks``, leaf by leaf, as it is where a mask is None."""
    return jax.tree.map(lambda leaf, mask: leaf if mask is None else leaf * mask, tree, masks)
