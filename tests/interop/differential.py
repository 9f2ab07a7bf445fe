"""Two networks with the same weights, one of another framework: outputs, states and all gradients agree.

Both are functions of the other framework's weights: ours converts them first. So the gradients that are
compared are those of every weight in its own layout, and the conversion is differentiated too.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from tests.registry import assert_trees_close, on_device

T, B, D, H = 4, 2, 3, 4


def noisy(rng: np.random.Generator, tree: Any) -> Any:
    """Return other floating arrays of the same shapes: every gate has weights of its own, and biases too."""
    return jax.tree.map(lambda leaf: on_device(rng.normal(size=leaf.shape) / 2, leaf.dtype), tree)


def drawn(rng: np.random.Generator, layer: jaxrnn.Layer) -> Any:
    """Return parameters of a layer."""
    return noisy(rng, jax.eval_shape(layer.init, jax.random.key(0)))


@contextlib.contextmanager
def lenient() -> Iterator[None]:
    """Run another framework's code, in which ranks and dtypes are promoted."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def assert_agree(
    rng: np.random.Generator,
    theirs: Callable[..., Any],
    convert: Callable[[Any], Any],
    weights: Any,
    features: tuple[int, ...] = (D,),
    tolerance: float = 1e-10,
    **steps: Any,
) -> None:
    """Hold both networks together in float64.

    theirs: ``(weights, xs, layer, params, carry) -> (carry, ys)``, time first and with our carry.
    convert: ``(weights) -> (layer, params)``.
    steps: lengths or a mask, for ours; ``theirs`` has its own.
    """
    xs = jnp.array(rng.normal(size=(T, B, *features)))

    def carry_of(weights):
        layer, params = convert(weights)
        return layer.initial_carry(params, (B,))

    carry = noisy(rng, jax.eval_shape(carry_of, weights))

    def ours_of(weights, xs, carry):
        layer, params = convert(weights)
        return layer.apply(params, xs, carry, **steps)

    def theirs_of(weights, xs, carry):
        return theirs(weights, xs, *convert(weights), carry)

    def both(run, cotangents):
        def all_of_it(arguments):
            results, transpose = jax.vjp(run, *arguments)
            return results, transpose(cotangents)

        return jax.jit(all_of_it)((weights, xs, carry))

    results = jax.eval_shape(ours_of, weights, xs, carry)
    cotangents = noisy(rng, results)
    with lenient():
        expected = both(theirs_of, cotangents)
    assert_trees_close(both(ours_of, cotangents), expected, tolerance)


def assert_exact(actual: Any, expected: Any) -> None:
    """Fail unless two trees of parameters are the same to the last bit."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
