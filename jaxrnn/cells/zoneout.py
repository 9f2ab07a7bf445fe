"""Zoneout: units of the carry that keep their former value at random. Krueger et al. (2017).

    c̃_t, ỹ_t = step(θ, c_{t-1}, z_t)
    c_t = m_t ⊙ c_{t-1} + (1 - m_t) ⊙ c̃_t        m_t ~ Bernoulli(p), without noise m_t = p

What of y_t is a leaf of the carry is taken of c_t: h of the LSTM, the GRU and the vanilla cell.

Backward, with λ_t the whole cotangent of c_t, ∂y_t added to it where y_t is taken of c_t:

    (λ_{t-1}, ∂z_t, ∂a_t) = stepᵀ((1 - m_t) ⊙ λ_t, ∂ỹ_t)
    λ_{t-1} += m_t ⊙ λ_t
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.cells.noise import Noisy, bernoulli, check_rates, rates_like
from jaxrnn.steps import time_and_batch
from jaxrnn.types import Adjoint, Array, Carry, Cell, Params, Split, recorded


@jax.tree_util.register_static
class Places(tuple):
    """For each leaf of y the number of the carry's leaf that it is, None where it is none: a part of the program."""


class Saved(NamedTuple):
    """What the backward step needs: what the inner cell's does, the noise m_t, and where y comes from."""

    cell: Any
    noise: Any
    places: Places


@recorded
def zoneout(cell: Cell, rate: Any) -> Cell:
    """Return ``cell`` with c_t = m_t ⊙ c_{t-1} + (1 - m_t) ⊙ c̃_t, where c̃_t is its own new carry.

    With a ``key``, m_t ~ Bernoulli(p) for every step, sequence and unit; without one it is its mean, p.
    A reset comes before: what is kept then is the initial carry. Where the output is an array of the
    cell's new carry, as y_t = h_t is, in whatever dtype, it is that of c_t; an output that is computed
    in another way stays the cell's own. Adjoint, formulas included, and split are kept.

    Every call draws anew: give `Layer.step` a new key at each step. With the key of a sequence of one
    step, `Layer.apply` and `Layer.step` agree.

    Args:
        cell: any `Cell`.
        rate: p, 0 ≤ p < 1, the probability that a unit keeps its value; one number, or one for each
            part of the carry, such as ``(p_h, p_c)`` for the LSTM.

    Raises:
        TypeError: ``cell`` is no `Cell`; a rate that is no number.
        ValueError: a rate outside [0, 1); rates that do not fit the carry, when the cell is run.

    Source: Krueger et al., "Zoneout: Regularizing RNNs by Randomly Preserving Hidden Activations" (2017).

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> cell = jaxrnn.zoneout(jaxrnn.lstm(3, 5), (0.05, 0.5))
        >>> params, xs = cell.init(jax.random.key(0)), jnp.ones((7, 2, 3))
        >>> (h, c), ys = jaxrnn.unroll(cell, params, xs, key=jax.random.key(1))
        >>> bool((ys[-1] == h).all())
        True
    """
    checks.cell("cell", cell)
    check_rates("rate", rate)

    def inputs(params: Params, xs: Any, key: Array | None = None) -> Noisy:
        if key is None:
            return Noisy(cell.inputs(params, xs), None)
        noise_key, cell_key = jax.random.split(key)
        zs = cell.inputs(params, xs, cell_key)
        time, batch = time_and_batch(xs, cell.feature_axes)
        carries = jax.eval_shape(lambda p: cell.initial_carry(p, (time, *batch)), params)
        return Noisy(zs, bernoulli(noise_key, rates_like("rate", rate, carries), carries))

    def kept(noise: Any, carry: Carry) -> Any:
        return rates_like("rate", rate, carry) if noise is None else noise

    def zoned(noise: Any, before: Carry, after: Carry, y: Any, places: Places) -> tuple[Carry, Any]:
        def mix(new: Array, old: Array, m: Any) -> Array:
            return new if m is None else m * old + (1 - m) * new

        carry = jax.tree.map(mix, after, before, kept(noise, before))
        return carry, _taken(places, y, carry)

    def step(params: Params, carry: Carry, z: Noisy) -> tuple[Carry, Any]:
        return zoned(z.noise, carry, *cell.step(params, carry, z.z), _places(cell.step, params, carry, z.z))

    def with_split(inner: Split) -> Split:
        def update(carry: Carry, z: Noisy, a: Any) -> tuple[Carry, Any]:
            return zoned(z.noise, carry, *inner.update(carry, z.z, a), _places(inner.update, carry, z.z, a))

        return Split(inner.recur, update)

    def with_adjoint(inner: Adjoint) -> Adjoint:
        def forward(params: Params, before: Carry, z: Noisy) -> tuple[Carry, Any, Any, Saved]:
            after, y, operand, saved = inner.forward(params, before, z.z)
            places = _places(lambda *arguments: inner.forward(*arguments)[:2], params, before, z.z)
            return *zoned(z.noise, before, after, y, places), operand, Saved(saved, z.noise, places)

        def backward(transposed: Any, saved: Saved, dcarry: Carry, dy: Any) -> tuple[Carry, Noisy, Any]:
            dcarry, dy = _given_back(saved.places, dcarry, dy)
            m = kept(saved.noise, dcarry)
            dnew = jax.tree.map(lambda d, m: d if m is None else (1 - m) * d, dcarry, m)
            dbefore, dz, da = inner.backward(transposed, saved.cell, dnew, dy)
            dbefore = jax.tree.map(lambda db, d, m: db if m is None else db + m * d, dbefore, dcarry, m)
            return dbefore, Noisy(dz, jax.tree.map(jnp.zeros_like, saved.noise)), da

        def gradients(params: Params, xs: Any, operands: Any, dzs: Noisy, das: Any) -> tuple[Params, Any]:
            assert inner.gradients is not None
            return inner.gradients(params, xs, operands, dzs.z, das)

        has_formulas = inner.gradients is not None
        return inner._replace(forward=forward, backward=backward, gradients=gradients if has_formulas else None)

    return cell._replace(
        step=step,
        inputs=inputs,
        adjoint=None if cell.adjoint is None else with_adjoint(cell.adjoint),
        split=None if cell.split is None else with_split(cell.split),
    )


# What runs a function of JAX's as it is, by the names of JAX; their parameter that is the function.
CALLS = {
    "jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "core_call": "call_jaxpr", "remat2": "jaxpr",
    "checkpoint": "jaxpr", "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr", "custom_vmap_call": "call",
}  # fmt: skip


def _places(step: Callable[..., tuple[Carry, Any]], *arguments: Any) -> Places:
    """Return where each leaf of the step's y is in its carry, up to a change of dtype."""
    jaxpr, (carry, _) = jax.make_jaxpr(step, return_shape=True)(*arguments)
    casts: dict[object, object] = {}
    made = _made(jaxpr.jaxpr, [object() for _ in jaxpr.jaxpr.invars], casts)
    count = len(jax.tree.leaves(carry))
    leaves, outputs = made[:count], made[count:]

    def place(array: object) -> int | None:
        while array not in leaves and array in casts:
            array = casts[array]
        return leaves.index(array) if array in leaves else None

    return Places(map(place, outputs))


def _made(jaxpr: Any, arguments: list[object], casts: dict[object, object]) -> list[object]:
    """Return an object for each output of a jaxpr, one and the same for outputs that are one array.

    Variables would not do: what `jax.jit` or `jax.checkpoint` returns twice are two variables outside it, and
    a function that is called twice has the same ones inside at both.

    arguments: the objects of what the jaxpr takes.
    casts: where to write down what each array that differs from another in dtype alone was made of.
    """
    objects = dict(zip(map(id, jaxpr.invars), arguments, strict=True))
    object_of = lambda atom: objects.setdefault(id(atom), object())
    for equation in jaxpr.eqns:
        name, operands = equation.primitive.name, [object_of(atom) for atom in equation.invars]
        if name in CALLS:
            inner = equation.params[CALLS[name]]
            results = _made(getattr(inner, "jaxpr", inner), operands, casts)
            objects.update(zip(map(id, equation.outvars), results, strict=True))
        elif name == "convert_element_type":
            casts[object_of(equation.outvars[0])] = operands[0]
    return [object_of(atom) for atom in jaxpr.outvars]


def _taken(places: Places, y: Any, carry: Carry) -> Any:
    """Return y, its leaves that are of the carry taken of ``carry``."""
    leaves, (outputs, structure) = jax.tree.leaves(carry), jax.tree.flatten(y)
    return structure.unflatten(
        output if place is None else leaves[place].astype(output.dtype)
        for place, output in zip(places, outputs, strict=True)
    )


def _given_back(places: Places, dcarry: Carry, dy: Any) -> tuple[Carry, Any]:
    """Return the adjoint of `_taken`: the cotangents of the carry and of the cell's own y."""
    (dleaves, carry_structure), (doutputs, y_structure) = jax.tree.flatten(dcarry), jax.tree.flatten(dy)
    for number, place in enumerate(places):
        if place is not None:
            dleaves[place] = dleaves[place] + doutputs[number].astype(dleaves[place].dtype)
            doutputs[number] = jnp.zeros_like(doutputs[number])
    return carry_structure.unflatten(dleaves), y_structure.unflatten(doutputs)
