"""Starting values for weights.

An initializer is a function ``(key, shape, dtype) -> array``, as in `jax.nn.initializers`. Cells call
theirs once per gate, with the gate's own ``shape = (in, H)`` (``(H,)`` for a bias): an orthogonal
start is then orthogonal for each gate, which the fused ``(H, 4H)`` matrix can never be.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.types import Array

__all__ = ["Initializer", "constant", "fan_in", "identity", "normal", "orthogonal", "per_gate", "uniform", "zeros"]

Initializer = Callable[[Array, Sequence[int], Any], Array]


def zeros(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
    """Return zeros; the usual bias.

    Example:
        >>> zeros(jax.random.key(0), (3,)).tolist()
        [0.0, 0.0, 0.0]
    """
    del key
    return jnp.zeros(shape, dtype)


def constant(value: float) -> Initializer:
    """Return an initializer that fills with ``value``.

    Example:
        >>> constant(2.0)(jax.random.key(0), (2,), jnp.float32).tolist()
        [2.0, 2.0]
    """

    def initializer(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        del key
        return jnp.full(shape, value, dtype)

    return initializer


def normal(scale: float) -> Initializer:
    """Return an initializer that draws from N(0, scale²).

    Without a scale that shrinks as 1/√H this saturates the units of a recurrent network and makes
    its gradients explode; it is here to show that, and for embeddings.

    Example:
        >>> normal(0.01)(jax.random.key(0), (2, 3), jnp.float32).shape
        (2, 3)
    """

    def initializer(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        return scale * jax.random.normal(key, shape, dtype)

    return initializer


def fan_in(scale: float = 1.0) -> Initializer:
    """Return an initializer that draws from N(0, scale²/in), so that ``x @ w`` keeps the size of x.

    For ``shape = (in, H)``; LeCun, Bottou, Orr and Müller, "Efficient BackProp" (1998).

    Example:
        >>> w = fan_in()(jax.random.key(0), (400, 50), jnp.float32)
        >>> bool(abs(w.std() * 400**0.5 - 1.0) < 0.05)
        True
    """

    def initializer(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        if len(shape) < 2:
            raise ValueError(f"shape: fan_in expects a kernel (..., in, out), got {tuple(shape)}")
        return scale / math.sqrt(max(1, math.prod(shape[:-1]))) * jax.random.normal(key, shape, dtype)

    return initializer


def uniform(scale: float = 1.0) -> Initializer:
    """Return an initializer that draws from U(-scale/√H, scale/√H), H being the last axis.

    With scale 1 this is the start of torch's RNN, LSTM and GRU, for kernels and biases alike.

    Example:
        >>> w = uniform()(jax.random.key(0), (7, 25), jnp.float32)
        >>> bool(abs(w).max() <= 0.2)
        True
    """

    def initializer(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        bound = scale / math.sqrt(max(1, shape[-1]))
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return initializer


def orthogonal(scale: float = 1.0) -> Initializer:
    """Return an initializer that draws ``scale`` times a random orthogonal matrix: WᵀW = scale² I.

    A matrix that is not square gets orthonormal rows or columns, whichever are fewer. Saxe, McClelland
    and Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks"
    (2014).

    Example:
        >>> w = orthogonal()(jax.random.key(0), (4, 4), jnp.float32)
        >>> bool(jnp.allclose(w.T @ w, jnp.eye(4), atol=1e-5))
        True
    """
    draw = jax.nn.initializers.orthogonal(scale)

    def initializer(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        # The QR decomposition exists in single precision and above only.
        precise = dtype if jnp.finfo(dtype).bits >= 32 else jnp.float32
        return draw(key, tuple(shape), precise).astype(dtype)

    return initializer


def identity(scale: float = 1.0) -> Initializer:
    """Return an initializer that gives ``scale`` times the identity matrix.

    With ReLU this is the IRNN of Le, Jaitly and Hinton, "A Simple Way to Initialize Recurrent Networks
    of Rectified Linear Units" (2015).

    Example:
        >>> identity(0.5)(jax.random.key(0), (2, 2), jnp.float32).tolist()
        [[0.5, 0.0], [0.0, 0.5]]
    """

    def initializer(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        del key
        if len(shape) != 2 or shape[0] != shape[1]:
            raise ValueError(f"shape: identity expects a square matrix (H, H), got {tuple(shape)}")
        return scale * jnp.eye(shape[0], dtype=dtype)

    return initializer


def per_gate(initializer: Initializer, gates: int) -> Initializer:
    """Return an initializer that draws each of ``gates`` blocks of the last axis on its own.

    Example:
        >>> w = per_gate(orthogonal(), 3)(jax.random.key(0), (2, 6), jnp.float32)
        >>> bool(jnp.allclose(w[:, 2:4].T @ w[:, 2:4], jnp.eye(2), atol=1e-5))
        True
    """

    def fused(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        if shape[-1] % gates:
            raise ValueError(f"shape: expected a last axis that {gates} gates divide, got {tuple(shape)}")
        block = (*shape[:-1], shape[-1] // gates)
        return jnp.concatenate([initializer(k, block, dtype) for k in jax.random.split(key, gates)], axis=-1)

    return fused
