"""The contract of `jaxrnn.steps`, slowly: one sequence after the other, one step after the other, no scan.

`jaxrnn.unroll` in every form is held against it. It looks at the inputs of valid steps alone, so that
nothing that stands in the others can reach its values or its gradients.
"""

import jax
import jax.numpy as jnp


def unroll(cell, params, xs, carry=None, *, lengths=None, mask=None, resets=None, reverse=False):
    """Return (carry, ys) as `jaxrnn.unroll` does; lengths, mask and resets with known values."""

    @jax.jit
    def step(params, carry, x):
        return cell.step(params, carry, jax.tree.map(lambda zs: zs[0], cell.inputs(params, x[None])))

    return _sequences(cell, step, params, xs, carry, lengths, mask, resets, reverse)


def _sequences(cell, step, params, xs, carry, lengths, mask, resets, reverse):
    if xs.ndim - 1 == cell.feature_axes:
        return _one_sequence(cell, step, params, xs, carry, lengths, mask, resets, reverse)
    results = [
        _sequences(
            cell,
            step,
            params,
            xs[:, b],
            None if carry is None else jax.tree.map(lambda leaf, b=b: leaf[b], carry),
            None if lengths is None else lengths[b],
            None if mask is None else mask[:, b],
            None if resets is None else resets[:, b],
            reverse,
        )
        for b in range(xs.shape[1])
    ]
    finals, yss = zip(*results, strict=True)
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *finals), jnp.stack(yss, axis=1)


def _one_sequence(cell, step, params, xs, carry, lengths, mask, resets, reverse):
    time = xs.shape[0]
    valid = [(lengths is None or t < lengths) and (mask is None or mask[t]) for t in range(time)]
    begins = [valid[t] and resets is not None and resets[t] for t in range(time)]
    initial = cell.initial_carry(params)
    carry = initial if carry is None else carry
    ys = [None] * time
    for t in reversed(range(time)) if reverse else range(time):
        if begins[t] and not reverse:
            carry = initial
        if valid[t]:
            carry, ys[t] = step(params, carry, xs[t])
        if begins[t] and reverse:
            carry = initial
    if all(valid) and time:
        return carry, jnp.stack(ys)
    _, y = jax.eval_shape(step, params, carry, jax.ShapeDtypeStruct(xs.shape[1:], xs.dtype))
    ys = [jnp.zeros(y.shape, y.dtype) if y_t is None else y_t for y_t in ys]
    return carry, jnp.stack(ys) if ys else jnp.zeros((0, *y.shape), y.dtype)
