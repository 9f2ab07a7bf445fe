"""A layer with its weights as programs that run without this library: StableHLO, by `jax.export`.

The time and the batch are symbols, T and B, in the programs' shapes: one program is right for all lengths
and batches. A state is made of dicts where a `NamedTuple` is here, so that no class of this library is needed.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import export

from jaxrnn import checks
from jaxrnn.interop.descriptions import parameters_of
from jaxrnn.types import Carry, Layer


class Programs(NamedTuple):
    """What `export_layer` makes; each has ``call``, and ``serialize`` for a file.

    Where the parameters are an argument, ``params`` comes before the others.

    apply: ``(xs [T, B, ...], lengths [B]) -> (carry, ys [T, B, K])``, from the layer's own start.
    start: ``(x [B, ...]) -> carry``, the state before the first input.
    step: ``(carry, x [B, ...]) -> (carry, y [B, K])``; None for a layer that needs the future.
    """

    apply: export.Exported
    start: export.Exported
    step: export.Exported | None


def export_layer(
    layer: Layer,
    params: Any,
    x: jax.ShapeDtypeStruct,
    *,
    inside: bool = True,
    platforms: Sequence[str] | None = None,
) -> Programs:
    """Return (c_t, y_t) = step(θ, c_{t-1}, x_t) and its unroll as `Programs`, with the parameters θ inside.

    ``Path(name).write_bytes(program.serialize())`` saves one; where only JAX is installed,
    ``jax.export.deserialize(bytearray(Path(name).read_bytes())).call(…)`` runs it. What is saved by
    ``serialize(vjp_order=1)`` has its gradient, and can be trained there if the parameters are an argument.

    Args:
        layer: any `Layer` of this library. Of a symbolic time it is not known how to unroll the loop, or how
            often to checkpoint it: the programs do neither.
        params: its parameters.
        x: the shape and dtype of one input, without time and batch: ``[D]``, or ``[]`` for a token.
        inside: whether the parameters are constants of the programs; if not, their first argument, in dicts
            where there are `NamedTuple` here: ``jaxrnn.interop.programs.plain(params)``.
        platforms: where the programs run, such as ("cpu", "cuda"); where they are made unless given.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: sizes that do not fit; a layer whose steps depend on the number of them; an unknown platform.

    Source: the StableHLO of `jax.export`.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> from jaxrnn.interop import export_layer
        >>> layer = jaxrnn.recurrent(jaxrnn.vanilla(3, 4))
        >>> params = layer.init(jax.random.key(0))
        >>> programs = export_layer(layer, params, jax.ShapeDtypeStruct((3,), jnp.float32))
        >>> carry, ys = programs.apply.call(jnp.ones((7, 2, 3)), jnp.array([7, 5]))
        >>> ys.shape
        (7, 2, 4)
    """
    params = parameters_of(layer, params)
    if not hasattr(x, "shape") or not hasattr(x, "dtype"):
        raise TypeError(f"x: expected the jax.ShapeDtypeStruct of one input, got {checks.outline(x)}")
    checks.flag("inside", inside)
    if platforms is not None and (isinstance(platforms, str) or not all(isinstance(one, str) for one in platforms)):
        raise TypeError(f"platforms: expected names such as ('cpu', 'cuda'), or None, got {platforms!r}")
    weights = plain(params)
    T, B = export.symbolic_shape("T, B")

    def of_shape(*axes: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((*axes, *x.shape), x.dtype)

    carry = jax.eval_shape(lambda: layer.initial_carry(params, (B,)))

    def apply(weights: Any, xs: Any, lengths: Any) -> Any:
        return plain(layer.apply(like(params, weights), xs, lengths=lengths))

    def start(weights: Any, x: Any) -> Any:
        return plain(layer.initial_carry(like(params, weights), x.shape[:1]))

    def step(weights: Any, state: Any, x: Any) -> Any:
        assert layer.step is not None
        return plain(layer.step(like(params, weights), like(carry, state), x))

    def made(function: Any, *arguments: Any) -> export.Exported:
        if inside:
            function = functools.partial(function, weights)
        else:
            arguments = (jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), weights), *arguments)
        try:
            return export.export(jax.jit(function), platforms=platforms)(*arguments)
        except jax.errors.InconclusiveDimensionOperation as error:
            raise ValueError("layer: expected one that does the same for every number of steps and rows") from error

    return Programs(
        made(apply, of_shape(T, B), jax.ShapeDtypeStruct((B,), jnp.int32)),
        made(start, of_shape(B)),
        None if layer.step is None else made(step, plain(carry), of_shape(B)),
    )


def plain(tree: Carry) -> Any:
    """Return a carry or parameters with a dict for every `NamedTuple`."""
    fields = getattr(tree, "_fields", None)
    if fields is not None:
        return {name: plain(value) for name, value in zip(fields, tree, strict=True)}
    return tuple(map(plain, tree)) if isinstance(tree, (tuple, list)) else tree


def like(carry: Carry, state: Any) -> Any:
    """Return what `plain` made of a carry or of parameters in the form of ``carry``."""
    fields = getattr(carry, "_fields", None)
    if fields is not None:
        return type(carry)(*(like(part, state[name]) for name, part in zip(fields, carry, strict=True)))
    if isinstance(carry, (tuple, list)):
        return tuple(like(part, each) for part, each in zip(carry, state, strict=True))
    return state
