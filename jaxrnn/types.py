"""The two records that everything in jaxrnn is made of.

A recurrent network is a pure step ``(params, carry, x) -> (carry, y)``. A `Cell` is that step and
what belongs to it; a `Layer` is a whole sequence run through it. Both are NamedTuples of pure
functions: sizes and options live in the closure of the factory that made them, arrays live in the
parameters.

Letters in shapes, here and in every docstring:

====  =============================================
T     time, always axis 0
B     batch: any number of axes, none included
D     input features
H     hidden features
K     output features
V     vocabulary
====  =============================================

So ``xs [T, *B, D]`` is a sequence and ``x [*B, D]`` one step of it.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
Params = Any  # a pytree of arrays
Carry = Any  # a pytree of arrays, each [*B, ...]


def pass_through(params: Params, xs: Array, key: Array | None = None) -> Array:
    """Return ``xs``: the `Cell.inputs` of a cell that has nothing to do before the loop."""
    del params, key
    return xs


def same_steps(lengths: Any = None, mask: Any = None, resets: Any = None) -> tuple[Any, Any, Any]:
    """Return ``(lengths, mask, resets)``: the `Layer.output_steps` of a layer with an output for every input."""
    return lengths, mask, resets


class Spec(NamedTuple):
    """The call that made a `Cell`, a `Layer` or a model: what to call again, or to say in another framework's words.

    How weights are drawn is no part of it. Where a function is replaced, the spec is to be replaced too.

    factory: its name, such as "lstm".
    options: pairs ``(argument, value)``. A `Cell`, a `Layer` or another record among the values is its own spec, None
        where it has none; arrays and lists are tuples.
    origin: pairs of what the network had in the framework that it came from and has no counterpart here.
    """

    factory: str
    options: tuple[tuple[str, Any], ...]
    origin: tuple[tuple[str, Any], ...] = ()


FACTORIES: dict[str, Callable[..., Any]] = {}  # by name, all that are `recorded`
DRAWN = ("_init", "forget_bias", "bound")  # how arguments end that say how weights are drawn, and no more
P = ParamSpec("P")
R = TypeVar("R")


def recorded(factory: Callable[P, R]) -> Callable[P, R]:
    """Return the factory of a `Cell`, a `Layer` or a model, which has the call that made it as its ``spec``."""
    signature = inspect.signature(factory)
    defaults = {name: parameter.default for name, parameter in signature.parameters.items()}

    @functools.wraps(factory)
    def make(*args: P.args, **kwargs: P.kwargs) -> R:
        made: Any = factory(*args, **kwargs)
        call = signature.bind(*args, **kwargs)
        call.apply_defaults()
        options = tuple(
            (name, _option(name, value))
            for name, value in call.arguments.items()
            if not name.endswith(DRAWN) and not (inspect.isfunction(value) and value is defaults[name])
        )
        return made._replace(spec=Spec(factory.__name__, options))

    FACTORIES[factory.__name__] = make
    return make


def _option(name: str, value: Any) -> Any:
    """Return the value of an argument as it is in a `Spec`: without arrays, lists and records."""
    if name in ("dtype", "carry_dtype"):
        return None if value is None else jnp.dtype(value).name
    if hasattr(value, "spec"):
        return value.spec
    if isinstance(value, (jax.Array, np.ndarray, np.generic)):
        value = np.asarray(value).tolist()
    return tuple(_option("", each) for each in value) if isinstance(value, (list, tuple)) else value


class Adjoint(NamedTuple):
    """How one step of a cell is differentiated: the BPTT of `unroll`, cut at the step.

    The step touches its parameters in one place only, a product ``a_t = product(params, operand_t)``
    that is linear in them (``a = h U`` for most cells). The rest is a function of carry, z and a. So
    the reverse loop needs the carry's cotangent alone, and every parameter gradient is one
    contraction over all T·B rows, after the loop.

    No row may depend on another, be it a step or an example: all batch axes, and those that `vmap` adds, are one
    in the loops, and one with time in the product. Nothing tells a mean over the batch that its batch has grown, so
    that values and gradients would be wrong without a word; a cell that takes one has no adjoint.

    forward: ``(prepared, carry, z) -> (carry, y, operand, saved)``. The step, keeping what the
        product took on its left and what `backward` needs.
    transpose: ``(params) -> transposed``. What `backward` multiplies by; formed once, before the
        loop.
    backward: ``(transposed, saved, dcarry, dy) -> (dcarry, dz, da)``. The cotangents of the carry
        before the step, of z and of a. Returning one array as both dz and da says that a is simply
        added to z, and stores it once.
    product: ``(params, operand) -> a``. Linear in params, over any leading axes.
    gradients: ``(params, xs, operands, dzs, das) -> (dparams, dxs)``. The contractions over all
        steps, by hand, for `bptt`; None where any part of the backward pass is left to autodiff.
    ahead: whether a loop without a gradient reads z one step ahead. XLA for CPUs makes one fusion of a
        step that is all elementwise after its product, and a fusion that reads its part of zs itself
        is not vectorised; a step with more than one fusion only pays for the copy.
    prepare: ``(params, carry) -> prepared``. What `forward` multiplies by, where that is no parameter itself;
        formed once, before the loop, for carries of this shape.
    alike: whether `product` is the same for all rows, so that steps and examples may be one axis; not
        where the parameters hold something of each example.
    """

    forward: Callable[..., Any]
    transpose: Callable[..., Any]
    backward: Callable[..., Any]
    product: Callable[..., Any]
    gradients: Callable[..., Any] | None = None
    ahead: bool = False
    prepare: Callable[..., Any] = lambda params, carry: params
    alike: bool = True


class Split(NamedTuple):
    """A step cut at its product, ``step(params, carry, z) = update(carry, z, recur(params, carry))``.

    recur: ``(params, carry) -> a``. All that touches the parameters, for any leading axes.
    update: ``(carry, z, a) -> (carry, y)``. The rest, without parameters.
    """

    recur: Callable[..., Any]
    update: Callable[..., tuple[Carry, Any]]


class Cell(NamedTuple):
    """One step in time.

    init: ``(key) -> params``.
    initial_carry: ``(params, batch_shape=()) -> carry``.
    step: ``(params, carry, z) -> (carry, y)``. The sequential part, for any batch axes.
    inputs: ``(params, xs [T, *B, D], key=None) -> zs [T, *B, ...]``. All that does not need the carry:
        one product for all T·B rows. Without a key, a step of zs is made of that step of xs alone: one
        input is a sequence with T = 1, and a long sequence may come in parts. Noise is drawn here, from
        ``key``, for every step or once for all of them, and travels in zs.
    adjoint: how `unroll` differentiates the step; None for plain autodiff of the scan, and for a step in which one
        example of the batch depends on another.
    feature_axes: how many trailing axes of xs are features (1; more where they are spatial).
    split: the step cut at its product; None where it cannot be.
    spec: the call that made the cell; None for a cell of your own.
    """

    init: Callable[..., Params]
    initial_carry: Callable[..., Carry]
    step: Callable[..., tuple[Carry, Any]]
    inputs: Callable[..., Any] = pass_through
    adjoint: Adjoint | None = None
    feature_axes: int = 1
    split: Split | None = None
    spec: Spec | None = None


class Layer(NamedTuple):
    """A whole sequence, in two forms that agree.

    init: ``(key) -> params``.
    initial_carry: ``(params, batch_shape=()) -> carry``; ``()`` for a layer without a state.
    apply: ``(params, xs, carry=None, *, lengths=None, mask=None, resets=None, key=None)
        -> (carry, ys)``. All steps at once; ``xs [T, *B, D]``, ``ys [T, *B, K]``.
    step: ``(params, carry, x, *, reset=None, key=None) -> (carry, y)``. One input at a time, for
        generation and streaming; None for a layer that needs the future.
    output_steps: ``(lengths=None, mask=None, resets=None) -> (lengths, mask, resets)``. From what
        belongs to xs, what belongs to ys: for the next layer, and for the mask of a loss. The same
        unless the layer changes the time axis, as `jaxrnn.time_reduction` does.
    spec: the call that made the layer; None for a layer of your own.
    """

    init: Callable[..., Params]
    initial_carry: Callable[..., Carry]
    apply: Callable[..., tuple[Carry, Any]]
    step: Callable[..., tuple[Carry, Any]] | None = None
    output_steps: Callable[..., tuple[Any, Any, Any]] = same_steps
    spec: Spec | None = None
