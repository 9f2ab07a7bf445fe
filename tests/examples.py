"""One padded batch per cell, and one compiled function per cell, direction and gradient, shared by tests.

Sequence b of the batch has a mask if b & 1, resets if b & 2 and padding if b & 4, so that one batch
holds all eight combinations; the ninth sequence is empty.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from tests.registry import Entry, noisy_params, normal, normal_like, on_device

TIME, BATCH = 5, 9
LENGTHS = np.array([5, 5, 5, 5, 3, 2, 4, 4, 0])


class Example(NamedTuple):
    """Arguments of an unroll in float64, and cotangents ``(dcarry, dys)`` of its results; all but params in NumPy."""

    entry: Entry
    cell: jaxrnn.Cell
    params: Any
    xs: Any
    carry: Any
    cotangents: Any
    lengths: np.ndarray
    mask: np.ndarray
    resets: np.ndarray

    @property
    def valid(self) -> np.ndarray:
        return self.mask & (np.arange(TIME)[:, None] < self.lengths)

    @property
    def steps(self) -> dict[str, np.ndarray]:
        return {"lengths": self.lengths, "mask": self.mask, "resets": self.resets}

    @property
    def fast(self) -> str:
        """The ``gradient=`` of the form that is not autodiff's."""
        return "manual" if self.cell.adjoint is not None else "auto"


@functools.cache
def draw(entry: Entry, seed: int) -> Example:
    """Draw the example of a cell."""
    with jax.enable_x64(True):
        cell = entry.cell(jnp.float64)
        params_key, xs_key, carry_key, cotangents_key = jax.random.split(jax.random.key(seed), 4)
        params = noisy_params(cell, params_key)
        xs = normal(xs_key, (TIME, BATCH, *entry.features))
        results = jax.eval_shape(lambda: jaxrnn.unroll(cell, params, xs))
        carry, cotangents = normal_like(carry_key, results[0]), normal_like(cotangents_key, results)
    rng, sequence = np.random.default_rng(seed), np.arange(BATCH)
    mask = rng.random((TIME, BATCH)) < 0.6
    mask[0], mask[1] = True, False
    resets = rng.random((TIME, BATCH)) < 0.5
    resets[2] = True
    xs, carry, cotangents = jax.device_get((xs, carry, cotangents))
    return Example(
        entry, cell, params, xs, carry, cotangents, LENGTHS, mask | (sequence & 1 == 0), resets & (sequence & 2 != 0)
    )


@functools.cache
def compiled(entry: Entry, gradient: str, reverse: bool) -> Any:
    """Return ``(params, xs, carry, steps, cotangents) -> ((carry, ys), (dparams, dxs, dcarry))``, jitted."""
    cell = entry.cell(jnp.float64)

    def run(params, xs, carry, steps, cotangents):
        def unroll(*args):
            return jaxrnn.unroll(cell, *args, **steps, reverse=reverse, gradient=gradient)

        results, transpose = jax.vjp(unroll, params, xs, carry)
        return results, transpose(cotangents)

    return jax.jit(run)


@functools.cache
def forward(entry: Entry, reverse: bool) -> Any:
    """Return ``(params, xs, carry, **steps) -> (carry, ys)``, jitted."""
    return jax.jit(functools.partial(jaxrnn.unroll, entry.cell(jnp.float64), reverse=reverse))


def run(example: Example, reverse: bool, gradient: str | None = None, **replaced: Any) -> Any:
    """Return in NumPy the results and gradients of `compiled` on ``example``, some of its arguments replaced."""
    example = example._replace(**replaced)
    function = compiled(example.entry, gradient or example.fast, reverse)
    return jax.device_get(function(example.params, example.xs, example.carry, example.steps, example.cotangents))


def one_by_one(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Call ``function`` operation by operation: no loop is compiled, so any shape costs little."""
    with jax.disable_jit():
        return function(*args, **kwargs)


def at(tree: Any, index: Any) -> Any:
    """Return ``leaf[index]`` for all leaves."""
    return jax.tree.map(lambda leaf: on_device(np.asarray(leaf)[index], leaf.dtype), tree)
