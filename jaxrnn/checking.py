"""Is a gradient right? Autodiff, the hand-derived BPTT and central differences, side by side in float64."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxrnn import checks
from jaxrnn.bptt import bptt
from jaxrnn.steps import time_and_batch
from jaxrnn.types import Array, Carry, Cell, Params
from jaxrnn.unrolling import unroll

EXACT = 1e-10
DIFFERENCES = 1e-6
STEP = 1e-5


class Row(NamedTuple):
    """One line of `GradientCheck`: a loss, a leaf, its gradient's norm and relative errors against autodiff.

    adjoint: of `unroll` with ``gradient="manual"``; by_hand: of `bptt`. None where the cell has none.
    An error that is NaN comes of a gradient that is, and counts as wrong.
    """

    loss: str
    leaf: str
    norm: float
    adjoint: float | None
    by_hand: float | None
    differences: float


class GradientCheck(NamedTuple):
    """What `check_gradients` found; ``str()`` of it is the table."""

    rows: tuple[Row, ...]

    @property
    def worst_exact(self) -> float:
        """The largest relative error of the hand-derived gradients; 0 where there are none."""
        return _worst([e for row in self.rows for e in (row.adjoint, row.by_hand) if e is not None])

    @property
    def worst_difference(self) -> float:
        """The largest relative error of the central differences."""
        return _worst([row.differences for row in self.rows])

    def __str__(self) -> str:
        width = max(len("gradient of"), *(len(row.leaf) for row in self.rows))
        lines = [f"{'loss':<11} {'gradient of':<{width}} {'norm':>9} {'adjoint':>9} {'by hand':>9} {'differences':>11}"]
        for row in self.rows:
            errors = ["-" if e is None else f"{e:.1e}" for e in (row.adjoint, row.by_hand, row.differences)]
            lines.append(
                f"{row.loss:<11} {row.leaf:<{width}} {row.norm:>9.2e} {errors[0]:>9} {errors[1]:>9} {errors[2]:>11}"
            )
        return "\n".join(lines)


def check_gradients(
    cell: Cell,
    xs: Any,
    params: Params | None = None,
    carry: Carry | None = None,
    *,
    lengths: Any = None,
    mask: Any = None,
    resets: Any = None,
    reverse: bool = False,
    key: Array | None = None,
    verbose: bool = True,
) -> GradientCheck:
    """Compare the gradients of ``cell`` by autodiff, by hand and by (L(θ+ε) - L(θ-ε)) / 2ε, in float64.

    Two losses, L = Σ_t ⟨w_t, y_t⟩ + ⟨v, final carry⟩ with random w and v, and the same with w_t = 0
    before the last step, are differentiated with respect to the parameters, the inputs and the initial
    carry. Errors are relative to the norm of autodiff's gradient of the leaf.

    Args:
        cell: any `Cell`, your own too.
        xs: an example sequence, ``[T, *B, D]``; short ones do. Cast to float64.
        params: drawn unless given, with noise added so that no bias hides at zero. Cast to float64.
        carry: the state to start from; drawn at random unless given.
        lengths, mask, resets, reverse: as in `unroll`.
        key: for what is drawn; `jax.random.key(0)` unless given.
        verbose: whether to print the table.

    Returns:
        The table as a `GradientCheck`.

    Raises:
        AssertionError: a hand-derived gradient off by more than 1e-10, or central differences by more
            than 1e-6. Differences fail rightly where φ has a kink, as relu does, close to a
            pre-activation: try another key.

    Source: central differences as in any text on numerical analysis; for BPTT, Werbos (1990).

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> check = jaxrnn.check_gradients(jaxrnn.gru(2, 3), jnp.ones((4, 2, 2)), verbose=False)
        >>> check.worst_exact < 1e-10, check.worst_difference < 1e-6
        (True, True)
    """
    if not isinstance(cell, Cell):
        raise TypeError(f"cell: expected a jaxrnn Cell, got {type(cell).__name__}")
    checks.flag("verbose", verbose)
    with jax.enable_x64(True):
        params_key, drawing_key = jax.random.split(jax.random.key(0) if key is None else key)
        # By NumPy, which need not compile for every shape.
        rng = np.random.default_rng(np.asarray(jax.random.key_data(drawing_key)))
        if params is None:
            params = _noisy(rng, cell.init(params_key))
        params, xs = _double(params), _double(xs)
        options = {"lengths": lengths, "mask": mask, "resets": resets, "reverse": reverse}
        start, ys = jax.eval_shape(lambda: unroll(cell, params, xs, gradient="autodiff", **options))
        carry = _normal_like(rng, start) if carry is None else _double(carry)
        ways = _ways(cell, options)
        rows = []
        for name, weights in _losses(rng, start, ys, reverse):
            rows += _compare(name, ways((params, xs, carry), weights))
    check = GradientCheck(tuple(rows))
    if verbose:
        print(check)
    if not (check.worst_exact <= EXACT and check.worst_difference <= DIFFERENCES):
        raise AssertionError(f"the gradients disagree (limits {EXACT} and {DIFFERENCES}):\n{check}")
    return check


def _losses(rng: np.random.Generator, final: Carry, ys: Any, reverse: bool) -> list[tuple[str, Any]]:
    """Return the weights (w, v) of ⟨w, ys⟩ + ⟨v, final carry⟩, for a loss at every step and at the last only."""
    every, on_final = _normal_like(rng, ys), _normal_like(rng, final)
    at_last = jax.tree.map(np.zeros_like, every)
    for only, all_steps in zip(jax.tree.leaves(at_last), jax.tree.leaves(every), strict=True):
        last = slice(0, 1) if reverse else slice(-1, None)  # one step, or none of none
        only[last] = all_steps[last]
    return [("every step", (every, on_final)), ("last step", (at_last, on_final))]


class Ways(NamedTuple):
    """The gradient of ⟨w, ys⟩ + ⟨v, final carry⟩ in each way; None where a cell has none by its adjoint or by hand."""

    autodiff: Any
    adjoint: Any
    by_hand: Any
    differences: Any


def _ways(cell: Cell, options: dict[str, Any]) -> Callable[[Any, Any], Ways]:
    """Return ``((params, xs, carry), (w, v)) -> gradients``."""

    def loss(arguments: Any, weights: Any, gradient: str) -> Array:
        params, xs, carry = arguments
        final, ys = unroll(cell, params, xs, carry, gradient=gradient, **options)
        products = jax.tree.map(lambda value, weight: (value * weight).sum(), (ys, final), weights)
        return sum(jax.tree.leaves(products), jnp.zeros(()))

    def differences(arguments: Any, weights: Any) -> Any:
        flat, rebuild = ravel_pytree(arguments)
        steps = STEP * jnp.maximum(1.0, jnp.abs(flat))

        def moved(index_and_step: tuple[Array, Array]) -> Array:
            """Return L(θ + ε), where ε is a step along one axis."""
            index, step = index_and_step
            return loss(rebuild(flat.at[index].add(step)), weights, "autodiff")

        # One after the other: side by side, they would have XLA multiply, or convolve, with as many kernels.
        along = jnp.arange(flat.size)
        high, low = jax.lax.map(moved, (jnp.tile(along, 2), jnp.concatenate([steps, -steps]))).reshape(2, -1)
        return rebuild((high - low) / (2 * steps))

    def by_hand(arguments: Any, weights: Any) -> Any:
        params, xs, carry = arguments
        dys, dfinal = weights
        hand = bptt(cell, params, xs, carry, dys=dys, dcarry=dfinal, **options)
        dparams = hand.params
        if hand.initial_carry is not None:  # resets restore a carry that may itself have parameters
            _, batch = time_and_batch(xs, cell.feature_axes)
            _, through = jax.vjp(lambda p: cell.initial_carry(p, batch), params)
            dparams = jax.tree.map(jnp.add, dparams, through(hand.initial_carry)[0])
        return dparams, hand.xs, hand.carry

    adjoint = cell.adjoint

    @jax.jit  # one program for three ways, which share most of the forward pass, takes less to compile
    def exact(arguments: Any, weights: Any) -> tuple[Any, Any, Any]:
        return (
            jax.grad(loss)(arguments, weights, "autodiff"),
            None if adjoint is None else jax.grad(loss)(arguments, weights, "manual"),
            None if adjoint is None or adjoint.gradients is None else by_hand(arguments, weights),
        )

    numerically = jax.jit(differences)
    return lambda arguments, weights: Ways(*exact(arguments, weights), differences=numerically(arguments, weights))


def _compare(name: str, ways: Ways) -> list[Row]:
    exact = jax.tree_util.tree_leaves_with_path(ways.autodiff)

    def errors(gradients: Any) -> list[float]:
        return [_error(leaf, true) for leaf, (_, true) in zip(jax.tree.leaves(gradients), exact, strict=True)]

    missing = [None] * len(exact)
    columns = zip(
        exact,
        missing if ways.adjoint is None else errors(ways.adjoint),
        missing if ways.by_hand is None else errors(ways.by_hand),
        errors(ways.differences),
        strict=True,
    )
    return [
        Row(name, _leaf_name(path), _norm(leaf), adjoint, by_hand, differences)
        for (path, leaf), adjoint, by_hand, differences in columns
    ]


def _worst(errors: list[float]) -> float:
    """Return the largest error, NaN if any is, 0 if there are none."""
    return float(np.max(errors, initial=0.0))


def _error(value: Array, reference: Array) -> float:
    scale = _norm(reference)
    return _norm(np.asarray(value) - np.asarray(reference)) / (scale if scale > 0 else 1.0)


def _norm(x: Any) -> float:
    return float(np.linalg.norm(np.ravel(x)))


def _leaf_name(path: Any) -> str:
    return ("params", "xs", "carry")[path[0].idx] + jax.tree_util.keystr(path[1:])


def _double(tree: Any) -> Any:
    def cast(leaf: Any) -> Any:
        return np.asarray(leaf, np.float64) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating) else leaf

    return jax.tree.map(cast, tree)


def _normal_like(rng: np.random.Generator, tree: Any) -> Any:
    return jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape), tree)


def _noisy(rng: np.random.Generator, tree: Any) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64) + 0.1 * rng.standard_normal(leaf.shape), tree)
