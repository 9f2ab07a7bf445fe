"""Less memory for a whole stack: its layers run a segment of time at a time, and once more for the gradient.

Of a sequence of T steps in segments of S, the carry at the start of each segment is kept. Going back, a
segment runs once more, through all layers, before its own BPTT:

    memory   T/S carries + the residuals of S steps, of all layers        least at S = √T

`recurrent` with ``checkpoint=`` does this for one layer, and keeps what passes between two layers at every step.
"""

from typing import Any

import jax

from jaxrnn import checks
from jaxrnn.checkpointing import SQRT, in_segments, segment_length
from jaxrnn.steps import valid_like
from jaxrnn.types import Array, Carry, Layer, Params, recorded


@recorded
def checkpointed(layer: Layer, segment: str | int = SQRT) -> Layer:
    """Return ``layer``, whose gradient keeps the carry at every S-th step and computes the rest again.

    Values and gradients are those of ``layer``, from less memory and for a third more time. Parameters,
    carry and ``step`` are its own.

    Noise is drawn for a segment at a time, from ``fold_in(key, its first step)``. What a layer draws once
    for a whole sequence, as `jaxrnn.variational_dropout` does, it draws once for every segment here:
    where it must last, use ``recurrent(cell, checkpoint=…)``, and `weight_dropout` around this layer.

    Args:
        layer: any `Layer` with a `Layer.step`, such as `serial` of several, and an output for every input.
        segment: S, or "sqrt" for ⌈√T⌉.

    Raises:
        TypeError: ``layer`` is no `Layer`; a segment of the wrong type.
        ValueError: a layer that needs the future, or changes the time axis; a segment below 1.

    Source: Chen, Xu, Zhang and Guestrin, "Training Deep Nets with Sublinear Memory Cost" (2016); for
    recurrent networks, Gruslys et al., "Memory-Efficient Backpropagation Through Time" (2016).

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> layer = jaxrnn.checkpointed(jaxrnn.stacked(jaxrnn.vanilla, 3, 5, num_layers=2))
        >>> params, xs = layer.init(jax.random.key(0)), jnp.ones((10, 2, 3))
        >>> gradient = jax.grad(lambda params: layer.apply(params, xs)[1][-1].sum())(params)
        >>> gradient[0].input.shape
        (3, 5)
    """
    checks.layer("layer", layer)
    if layer.step is None:
        raise ValueError("layer: expected one with a step, to run by segments, got one that needs the future")
    if isinstance(segment, str):
        checks.choice("segment", segment, (SQRT,))
    else:
        checks.size("segment", segment)

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
        def whole() -> Any:
            return layer.apply(params, xs, carry, lengths=lengths, mask=mask, resets=resets, key=key)[1]

        ys = jax.eval_shape(whole)  # the layer says what is wrong with its arguments
        first = jax.tree.leaves(xs)[0]
        time = first.shape[0]
        if checks.symbolic(time):  # in a program that is exported, for any number of steps
            return layer.apply(params, xs, carry, lengths=lengths, mask=mask, resets=resets, key=key)
        if any(y.shape[:1] != (time,) for y in jax.tree.leaves(ys)):
            raise ValueError(f"layer: expected an output for each of {time} steps, got {jax.tree.leaves(ys)[0].shape}")

        def run(carry: Carry, part: Any) -> tuple[Carry, Any]:
            xs, mask, resets, steps = part
            drawn = None if key is None else jax.random.fold_in(key, steps[0])
            return layer.apply(params, xs, carry, mask=mask, resets=resets, key=drawn)

        # A layer's initial carry depends on its batch axes, which it knows: they are those of no steps too.
        start, _ = layer.apply(params, jax.tree.map(lambda leaf: leaf[:0], xs), carry)
        if resets is not None:
            resets = checks.array("resets", resets)
        sequences = xs, valid_like(first, lengths, mask), resets, jax.numpy.arange(time)
        return in_segments(jax.checkpoint(run, prevent_cse=False), start, sequences, segment_length(segment, time))

    return layer._replace(apply=apply)
