"""Backpropagation through time by hand: one loop forward, one loop back, and products after it.

With λ_t the whole cotangent of the carry after step t, the adjoint of any recurrence is

    (λ_{t-1}, ∂z_t, ∂a_t) = stepᵀ (λ_t, ∂y_t)          for t = T..1, one step at a time
    ∂θ = Σ_t (∂a_t/∂θ)ᵀ ∂a_t + Σ_t (∂z_t/∂θ)ᵀ ∂z_t      for all t at once, after the loop

`bptt` is that and nothing else: no autodiff, and every formula that of the cell's `Adjoint`. It is the
check of `jaxrnn.engine`, which does the same where `jax.grad` finds its way through it, and fast.
Werbos, "Backpropagation Through Time" (1990).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.loops import forward_loop, reverse_loop
from jaxrnn.sharding import vary_over, varying_axes
from jaxrnn.steps import Steps, resolve_steps, time_and_batch, zero_unless
from jaxrnn.types import Array, Carry, Cell, Params


class Gradients(NamedTuple):
    """What `bptt` gives: the cotangents of ``params``, ``xs``, ``carry`` and ``initial_carry``.

    initial_carry: that of the cell's own initial carry, ``[*B, ...]``: what resets restore, and the
        start where no carry was given. None where it was not used.
    carry: that of the carry given; None where none was.
    """

    params: Params
    xs: Any
    carry: Carry | None
    initial_carry: Carry | None


def bptt(
    cell: Cell,
    params: Params,
    xs: Any,
    carry: Carry | None = None,
    *,
    dys: Any = None,
    dcarry: Carry | None = None,
    lengths: Any = None,
    mask: Any = None,
    resets: Any = None,
    reverse: bool = False,
    key: Array | None = None,
) -> Gradients:
    """Return the gradients of ⟨dys, ys⟩ + ⟨dcarry, final carry⟩ by hand-derived BPTT, without autodiff.

    λ_{t-1}, ∂z_t, ∂a_t = stepᵀ(λ_t, ∂y_t), then one contraction over all steps for each weight.

    Args:
        cell: one whose `Adjoint` has all its formulas: `vanilla`, `lstm`, `lstm_variant`, `gru`.
        params, xs, carry, lengths, mask, resets, reverse, key: as in `unroll`.
        dys: ∂L/∂y_t at every step, ``[T, *B, H]``; zeros but at the last step for a loss there; None
            for no loss on the outputs.
        dcarry: ∂L/∂(final carry); None for zero.

    Raises:
        ValueError, TypeError: as `unroll`; also for a cell without hand-derived formulas.

    Source: Werbos, "Backpropagation Through Time" (1990).

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> cell = jaxrnn.lstm(3, 5)
        >>> params, xs = cell.init(jax.random.key(0)), jnp.ones((7, 2, 3))
        >>> _, ys = jaxrnn.unroll(cell, params, xs)
        >>> by_hand = jaxrnn.bptt(cell, params, xs, dys=ys)
        >>> by_jax = jax.grad(lambda p: 0.5 * (jaxrnn.unroll(cell, p, xs, gradient="autodiff")[1] ** 2).sum())(params)
        >>> bool(jnp.allclose(by_hand.params.recurrent, by_jax.recurrent, atol=1e-5))
        True
    """
    run = prepare(cell, params, xs, carry, lengths=lengths, mask=mask, resets=resets, reverse=reverse, key=key)
    adjoint = cell.adjoint
    if adjoint is None or adjoint.gradients is None:
        raise ValueError("cell: expected one with hand-derived formulas (Adjoint.gradients), got one without")
    final, ys, operands, saved = forward_loop(adjoint, params, run.zs, run.carry, run.init, run.steps, reverse=reverse)
    dfinal = _cotangent("dcarry", dcarry, final)
    dys = _cotangent("dys", dys, ys)
    transposed = adjoint.transpose(params)
    dzs, das, dstart, dinit = reverse_loop(adjoint, transposed, saved, dfinal, dys, run.steps, reverse=reverse)
    # The loop computes in the dtype of the carry; a cotangent has that of what it belongs to.
    dzs, das = in_dtypes_of((run.zs, jax.eval_shape(adjoint.product, params, operands)), (dzs, das))
    gradients = adjoint.gradients(params, run.xs, operands, dzs, das)
    dparams, dxs = in_dtypes_of((params, run.xs), gradients)
    dxs = zero_unless(run.steps.valid, dxs)
    if carry is not None:
        return Gradients(dparams, dxs, dstart, dinit)
    return Gradients(dparams, dxs, None, dstart if dinit is None else jax.tree.map(jnp.add, dstart, dinit))


class Run(NamedTuple):
    """One unroll, checked and made ready for its loop.

    zs: what `Cell.inputs` made of xs; before, shapes and dtypes of that.
    init: the cell's own initial carry; None where no reset needs it.
    """

    batch: tuple[int, ...]
    xs: Any
    zs: Any
    carry: Carry
    init: Carry | None
    steps: Steps


def prepare(
    cell: Cell,
    params: Params,
    xs: Any,
    carry: Carry | None,
    *,
    lengths: Any,
    mask: Any,
    resets: Any,
    reverse: bool,
    key: Array | None,
) -> Run:
    """Check the arguments of an unroll; zero what is not valid, run `Cell.inputs` over all steps."""
    run = check(cell, params, xs, carry, lengths=lengths, mask=mask, resets=resets, reverse=reverse, key=key)
    return with_inputs(cell, params, run, key)


def check(
    cell: Cell,
    params: Params,
    xs: Any,
    carry: Carry | None,
    *,
    lengths: Any,
    mask: Any,
    resets: Any,
    reverse: bool,
    key: Array | None,
) -> Run:
    """Return the run of these arguments, checked, but for its zs."""
    checks.cell("cell", cell)
    checks.flag("reverse", reverse)
    if key is not None:
        checks.key("key", key)
    time, batch = time_and_batch(xs, cell.feature_axes)
    steps = resolve_steps(time, batch, lengths, mask, resets, reverse)
    # Closed over, not passed: an error names the arguments as they came.
    zs = jax.eval_shape(lambda: cell.inputs(params, xs, key))
    expected = jax.eval_shape(lambda: cell.initial_carry(params, batch))
    if carry is not None:
        checks.same_structure("carry", carry, expected, f"for a batch of shape {batch}")
    init = cell.initial_carry(params, batch) if carry is None or resets is not None else None
    carry = jax.tree.map(jnp.asarray, init if carry is None else carry)
    init = None if resets is None else init
    if time > 0:
        checks.step(cell, params, carry, zs)
    axes = varying_axes((params, xs, carry, init, steps))
    return Run(batch, xs, zs, *vary_over(axes, (carry, init, steps)))


def with_inputs(cell: Cell, params: Params, run: Run, key: Array | None) -> Run:
    """Return ``run`` with its zs, and with zeros for the inputs that are not valid."""
    xs = zero_unless(run.steps.valid, run.xs)
    zs = cell.inputs(params, xs, key)
    axes = varying_axes((zs, run.carry, run.init, run.steps))
    zs, carry, init, steps = vary_over(axes, (zs, run.carry, run.init, run.steps))
    return Run(run.batch, xs, zs, carry, init, steps)


def in_dtypes_of(values: Any, cotangents: Any) -> Any:
    """Return cotangents in the dtypes of what they belong to."""
    return jax.tree.map(lambda value, cotangent: cotangent.astype(value.dtype), values, cotangents)


def _cotangent(name: str, cotangent: Any, value: Any) -> Any:
    if cotangent is None:
        return jax.tree.map(jnp.zeros_like, value)
    checks.same_structure(name, cotangent, value, "of what it is the cotangent of")
    return cotangent
