"""Backpropagation through time by hand: one loop forward, one loop back, and products after it.

With λ_t the whole cotangent of the carry after step t, the adjoint of any recurrence is

    (λ_{t-1}, ∂z_t, ∂a_t) = stepᵀ (λ_t, ∂y_t)          for t = T..1, one step at a time
    ∂θ = Σ_t (∂a_t/∂θ)ᵀ ∂a_t + Σ_t (∂z_t/∂θ)ᵀ ∂z_t      for all t at once, after the loop

`bptt` is that and nothing else: no autodiff, and every formula that of the cell's `Adjoint`. It is the
check. `unroll_by_adjoint` is the same two loops, arranged so that `jax.grad` finds its way through
them: the loops run on values that JAX does not differentiate, and two links join them to the
arguments,

    a = product(params, operands)      whose transpose JAX knows: the weights' one contraction
    link(zs, a, carry, init)           whose transpose is the reverse loop

so that no weight-shaped array lives in a loop, `vmap` sums weight gradients in the contraction
itself, and `shard_map` reduces them once. Werbos, "Backpropagation Through Time" (1990).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.sharding import vary_over, varying_axes
from jaxrnn.steps import Steps, resolve_steps, select, time_and_batch, zero_unless
from jaxrnn.types import Adjoint, Array, Carry, Cell, Params


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
        cell: one whose `Adjoint` has all its formulas: `vanilla`, `lstm`, `gru`.
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
    final, ys, operands, saved = forward_loop(adjoint, params, run.zs, run.carry, run.init, run.steps, reverse)
    dfinal = _cotangent("dcarry", dcarry, final)
    dys = _cotangent("dys", dys, ys)
    transposed = adjoint.transpose(params)
    dzs, das, dstart, dinit = reverse_loop(adjoint, transposed, saved, dfinal, dys, run.steps, reverse)
    dparams, dxs = adjoint.gradients(params, run.xs, operands, dzs, das)
    dxs = zero_unless(run.steps.valid, dxs)
    if carry is not None:
        return Gradients(dparams, dxs, dstart, dinit)
    return Gradients(dparams, dxs, None, dstart if dinit is None else jax.tree.map(jnp.add, dstart, dinit))


class Run(NamedTuple):
    """One unroll, checked and made ready for its loop; ``init`` is None where no reset needs it."""

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
    checks.cell("cell", cell)
    checks.flag("reverse", reverse)
    if key is not None:
        checks.key("key", key)
    time, batch = time_and_batch(xs, cell.feature_axes)
    steps = resolve_steps(time, batch, lengths, mask, resets, reverse)
    xs = zero_unless(steps.valid, xs)
    zs = cell.inputs(params, xs, key)
    expected = jax.eval_shape(lambda p: cell.initial_carry(p, batch), params)
    if carry is not None:
        checks.same_structure("carry", carry, expected, f"for a batch of shape {batch}")
    init = cell.initial_carry(params, batch) if carry is None or resets is not None else None
    carry = jax.tree.map(jnp.asarray, init if carry is None else carry)
    init = None if resets is None else init
    if time > 0:
        checks.step(cell, params, carry, zs)
    axes = varying_axes((params, zs, carry, init, steps))
    zs, carry, init, steps = vary_over(axes, (zs, carry, init, steps))
    return Run(xs, zs, carry, init, steps)


def forward_loop(
    adjoint: Adjoint,
    params: Params,
    zs: Any,
    carry: Carry,
    init: Carry | None,
    steps: Steps,
    reverse: bool,
    unroll: int = 1,
) -> tuple[Carry, Any, Any, Any]:
    """Return (final carry, ys, operands, saved), the last three for every step."""

    def body(carry: Carry, step: tuple[Any, Steps]) -> tuple[Carry, Any]:
        z, (valid, restart, _) = step
        before = select(restart, init, carry) if restart is not None else carry
        after, y, operand, saved = adjoint.forward(params, before, z)
        return select(valid, after, before), (zero_unless(valid, y), operand, saved)

    every_step = (zs, steps._replace(restart_last=None))
    final, (ys, operands, saved) = jax.lax.scan(body, carry, every_step, reverse=reverse, unroll=unroll)
    if steps.restart_last is not None:
        final = select(steps.restart_last, init, final)
    return final, ys, operands, saved


def reverse_loop(
    adjoint: Adjoint,
    transposed: Any,
    saved: Any,
    dfinal: Carry,
    dys: Any,
    steps: Steps,
    reverse: bool,
    unroll: int = 1,
) -> tuple[Any, Any, Carry, Carry | None]:
    """Return (∂zs, ∂as, ∂carry, ∂init), the adjoint of `forward_loop` run the other way round."""

    def hand_over(restart: Array | None, dcarry: Carry, dinit: Carry | None) -> tuple[Carry, Carry | None]:
        """Where the carry was replaced, its cotangent belongs to the initial carry."""
        if restart is None:
            return dcarry, dinit
        taken = zero_unless(restart, dcarry)
        return zero_unless(~restart, dcarry), jax.tree.map(jnp.add, dinit, taken)

    def body(cotangents: tuple[Carry, Carry | None], step: tuple[Any, Any, Steps]) -> tuple[Any, Any]:
        dcarry, dinit = cotangents
        saved_t, dy, (valid, restart, _) = step
        dbefore, dz, da = adjoint.backward(transposed, saved_t, zero_unless(valid, dcarry), zero_unless(valid, dy))
        if valid is not None:  # a step that was not taken held the carry, and so holds its cotangent
            dbefore = jax.tree.map(jnp.add, dbefore, zero_unless(~valid, dcarry))
        return hand_over(restart, dbefore, dinit), (dz, None if da is dz else da)

    dinit = None if steps.restart is None else jax.tree.map(jnp.zeros_like, dfinal)
    cotangents = hand_over(steps.restart_last, dfinal, dinit)
    every_step = (saved, dys, steps._replace(restart_last=None))
    (dcarry, dinit), (dzs, das) = jax.lax.scan(body, cotangents, every_step, reverse=not reverse, unroll=unroll)
    return dzs, dzs if das is None else das, dcarry, dinit


def unroll_by_adjoint(adjoint: Adjoint, params: Params, run: Run, reverse: bool, unroll: int) -> tuple[Carry, Any]:
    """Return (final carry, ys), differentiable in reverse mode, once, by `reverse_loop`."""
    frozen = jax.lax.stop_gradient((params, run.zs, run.carry, run.init))
    loops = forward_loop(adjoint, *frozen, run.steps, reverse, unroll)
    final, ys, operands, saved = nothing_closed_over(loops)
    a = adjoint.product(params, operands)

    @jax.custom_vjp
    def link(zs: Any, a: Any, carry: Carry, init: Carry | None, constants: Any) -> tuple[Carry, Any]:
        del zs, a, carry, init
        final, ys, *_ = constants
        return final, ys

    def link_forward(zs: Any, a: Any, carry: Carry, init: Carry | None, constants: Any) -> Any:
        final, ys, *rest = constants
        # One empty slice of each argument: it holds no memory, but a second derivative shows in it.
        witness = jax.tree.map(lambda x: x.reshape(-1)[:0], (zs, a, carry, init))
        return (final, ys), (witness, rest)

    def link_backward(residuals: Any, cotangents: Any) -> Any:
        witness, (params, saved, steps) = residuals
        saved, (dfinal, dys) = differentiate_once((saved, cotangents), witness)
        transposed = adjoint.transpose(params)
        dzs, das, dcarry, dinit = reverse_loop(adjoint, transposed, saved, dfinal, dys, steps, reverse, unroll)
        return *jax.tree.map(lambda d, w: d.astype(w.dtype), (dzs, das, dcarry, dinit), witness), None

    link.defvjp(link_forward, link_backward)
    try:
        return link(run.zs, a, run.carry, run.init, (final, ys, frozen[0], saved, run.steps))
    except TypeError as error:
        if "forward-mode" in str(error):  # JAX's own error for jax.jvp does not know what to do instead
            raise TypeError(FIRST_REVERSE_ONLY) from error
        raise


FIRST_REVERSE_ONLY = (
    "the hand-derived BPTT has first derivatives in reverse mode only; for second derivatives, jax.hessian, "
    'jax.jvp or jax.jacfwd, pass gradient="autodiff" to unroll or recurrent'
)


@jax.custom_jvp
def differentiate_once(values: Any, witness: Any) -> Any:
    """Return ``values``; raise where a derivative of the backward pass itself is asked for."""
    del witness
    return values


@differentiate_once.defjvp
def _(primals: Any, tangents: Any) -> Any:
    raise TypeError(FIRST_REVERSE_ONLY)


@jax.custom_jvp
def nothing_closed_over(values: Any) -> Any:
    """Return ``values``; raise where they depend on a differentiated array that is no argument."""
    return values


@nothing_closed_over.defjvp
def _(primals: Any, tangents: Any) -> Any:
    raise TypeError(
        "cell: its step closes over an array that is being differentiated, which the hand-derived BPTT would give "
        'a zero gradient; put the array into params, or pass gradient="autodiff"'
    )


def _cotangent(name: str, cotangent: Any, value: Any) -> Any:
    if cotangent is None:
        return jax.tree.map(jnp.zeros_like, value)
    checks.same_structure(name, cotangent, value, "of what it is the cotangent of")
    return cotangent
