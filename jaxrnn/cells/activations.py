"""The functions φ that a cell squashes its pre-activations by, each with its derivative."""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.types import Array


class Activation(NamedTuple):
    """A function φ and its derivative.

    function: ``φ(a) -> h``.
    keep: ``(a, h) -> kept``, what the derivative is computed from; h where that will do, which is there anyway.
    slope: ``(kept) -> φ'(a)``.
    """

    function: Callable[[Array], Array]
    keep: Callable[[Array, Array], Array]
    slope: Callable[[Array], Array]

    def keep_apart(self, a: Array, h: Array) -> Array | None:
        """Return what to keep besides h, which is kept in any case: None where h will do.

        One array under two names could not be written over: it would have a second reader.
        """
        kept = self.keep(a, h)
        return None if kept is h else kept


def of_output(function: Callable[[Array], Array], slope: Callable[[Array], Array]) -> Activation:
    """Return the `Activation` whose derivative is ``slope(φ(a))``."""
    return Activation(function, lambda a, h: h, slope)


ACTIVATIONS = {
    "tanh": of_output(jnp.tanh, lambda h: 1 - h * h),
    "relu": of_output(jax.nn.relu, lambda h: (h > 0).astype(h.dtype)),
    "sigmoid": of_output(jax.nn.sigmoid, lambda h: h * (1 - h)),
    "identity": of_output(lambda a: a, jnp.ones_like),
}


def resolve_activation(activation: Any, name: str = "activation") -> Activation:
    """Return the `Activation` that a name, a pair (φ, φ') or a callable stands for; ``name``: of the argument."""
    if isinstance(activation, str):
        return ACTIVATIONS[checks.choice(name, activation, tuple(ACTIVATIONS))]
    if isinstance(activation, tuple) and len(activation) == 2 and all(map(callable, activation)):
        return Activation(activation[0], lambda a, h: activation[1](a), lambda slope: slope)
    if callable(activation):
        function = cast(Callable[[Array], Array], activation)

        def keep(a: Array, h: Array) -> Array:
            """Return φ'(a), in the forward step, where all that φ reads is at hand.

            In reverse mode, for which alone φ may have a rule of its own: `jax.custom_vjp`, as surrogate gradients do.
            """
            try:
                (slope,) = jax.vjp(function, a)[1](jnp.ones_like(h))
            except ValueError:  # a loop until something holds goes forward alone
                _, slope = jax.jvp(function, (a,), (jnp.ones_like(a),))
            return slope

        return Activation(function, keep, lambda slope: slope)
    names = ", ".join(map(repr, ACTIVATIONS))
    raise TypeError(f"{name}: expected {names}, a pair (φ, φ') or a callable, got {activation!r}")


def named(activation: Any) -> Any:
    """Return the name of an activation that has one; else what was given."""
    names = (name for name, known in ACTIVATIONS.items() if activation is known.function)
    return next(names, activation)


def elementwise(activation: Any, name: str = "activation") -> Callable[[Array], Array]:
    """Return φ alone, for a cell that JAX differentiates; the derivative of a pair (φ, φ') is its own."""
    resolved = resolve_activation(activation, name)
    if not isinstance(activation, tuple):
        return resolved.function
    function = jax.custom_jvp(resolved.function)
    function.defjvps(lambda tangent, _, a: activation[1](a) * tangent)
    return function
