"""What each head of a Transformer looks at: the weights of its attention, at every step.

w_ts = softmax over the visible s of (q_t · k_s / √A),   in each layer and head of `jaxrnn.transformer`
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.layers.transformer import Options, forward
from jaxrnn.steps import valid_steps, zero_unless
from jaxrnn.types import Array, Layer, Params


def attention_weights(
    layer: Layer, params: Params, xs: Any, *, lengths: Any = None, mask: Any = None, resets: Any = None
) -> Array:
    """Return w_ts, how much step t sees of step s, in each layer and head of a Transformer without dropout.

    Args:
        layer: of `jaxrnn.transformer`, with L layers of N heads.
        params, xs, lengths, mask, resets: as `Layer.apply` takes them, ``xs [T, *B, D]``, from the initial carry on.

    Returns:
        ``[L, N, T, *B, T]``, in the dtype of the parameters. Over the last axis, weights add up to 1; they are zero
        at steps that are not valid.

    Raises:
        ValueError: a layer that `jaxrnn.transformer` has not made.
        ValueError, TypeError: as `Layer.apply`.

    Source: Vaswani et al., "Attention Is All You Need" (2017).

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> from jaxrnn.analysis import attention_weights
        >>> layer = jaxrnn.transformer(4, 2, num_layers=3)
        >>> weights = attention_weights(layer, layer.init(jax.random.key(0)), jnp.ones((2, 5, 4)))
        >>> weights.shape, weights[0, 0, :, 0].tolist()
        ((3, 2, 2, 5, 2), [[1.0, 0.0], [0.5, 0.5]])
    """
    checks.layer("layer", layer)
    if layer.spec is None or layer.spec.factory != "transformer":
        raise ValueError(f"layer: expected one of transformer, got {layer.spec and layer.spec.factory}")
    given = {"lengths": lengths, "mask": mask, "resets": resets}
    jax.eval_shape(functools.partial(layer.apply, **given), params, xs)  # which says what is wrong with them
    xs = jnp.asarray(xs)
    (time, *batch), of_layer = xs.shape[:-1], dict(layer.spec.options)
    options = Options(**{name: of_layer[name] for name in Options._fields})
    if time == 0:
        return jnp.zeros((len(params.blocks), options.heads, 0, *batch, 0), xs.dtype)
    valid = valid_steps(time, tuple(batch), lengths, mask)
    begins = None if resets is None else jnp.asarray(resets)
    _, _, weights = forward(options, params, xs, layer.initial_carry(params, tuple(batch)), valid, begins, None)
    by_step = jnp.stack(weights)[..., options.slots :].transpose(3, 1, 0, 2, 4)
    by_step = zero_unless(valid, by_step.reshape(time, *batch, *by_step.shape[2:]))
    return jnp.moveaxis(by_step, (-3, -2), (0, 1))
