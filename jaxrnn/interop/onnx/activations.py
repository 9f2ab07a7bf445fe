"""The activation functions that the recurrent operators of ONNX may name, with their two numbers and the clip."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.types import Array


class Formula(NamedTuple):
    """A function φ(a, α, β), and the values of α and β where a node gives none; None where φ has none."""

    function: Callable[..., Array]
    alpha: float | None = None
    beta: float | None = None


FORMULAS = {
    "Relu": Formula(lambda a, alpha, beta: jax.nn.relu(a)),
    "Tanh": Formula(lambda a, alpha, beta: jnp.tanh(a)),
    "Sigmoid": Formula(lambda a, alpha, beta: jax.nn.sigmoid(a)),
    "Affine": Formula(lambda a, alpha, beta: alpha * a + beta, 1.0, 0.0),
    "LeakyRelu": Formula(lambda a, alpha, beta: jnp.where(a >= 0, a, alpha * a), 0.01),
    "ThresholdedRelu": Formula(lambda a, alpha, beta: jnp.where(a >= alpha, a, jnp.zeros_like(a)), 1.0),
    "ScaledTanh": Formula(lambda a, alpha, beta: alpha * jnp.tanh(beta * a), 1.0, 1.0),
    "HardSigmoid": Formula(lambda a, alpha, beta: jnp.clip(alpha * a + beta, 0, 1), 0.2, 0.5),
    # The exponential of what is not chosen could overflow, and give the gradient a NaN.
    "Elu": Formula(lambda a, alpha, beta: jnp.where(a >= 0, a, alpha * jnp.expm1(jnp.minimum(a, 0))), 1.0),
    "Softsign": Formula(lambda a, alpha, beta: a / (1 + jnp.abs(a))),
    "Softplus": Formula(lambda a, alpha, beta: jax.nn.softplus(a)),
}
OURS = {"Relu": "relu", "Tanh": "tanh", "Sigmoid": "sigmoid"}
CANONICAL = {name.lower(): name for name in FORMULAS}


@dataclass(frozen=True)
class ONNXActivation:
    """The function φ(clip(a), α, β) that ONNX knows by ``name``: an ``activation`` for any cell.

    alpha, beta: α and β; None where the function has none.
    clip: the bound of a; None for none.
    """

    name: str
    alpha: float | None = None
    beta: float | None = None
    clip: float | None = None

    def __post_init__(self) -> None:
        """Raise unless there is such a function, with such numbers."""
        formula = FORMULAS[checks.choice("name", self.name, tuple(FORMULAS))]
        for number in ("alpha", "beta"):
            given, default = getattr(self, number), getattr(formula, number)
            if given is not None:
                checks.number(number, given)
            if (given is None) != (default is None):
                expected = "None" if default is None else f"a number, such as {default},"
                raise ValueError(f"{number}: expected {expected} for {self.name}, got {given}")
        checks.bound("clip", self.clip)

    def __call__(self, a: Array) -> Array:
        """Return the function of pre-activations ``a``."""
        if self.clip is not None:
            a = jnp.clip(a, -self.clip, self.clip)
        return FORMULAS[self.name].function(a, self.alpha, self.beta)


def read_activations(
    names: Sequence[str], alphas: Sequence[float], betas: Sequence[float], clips: Sequence[float | None]
) -> list[Any]:
    """Return an activation for each name: a cell's own name of it, or an `ONNXActivation`.

    ``alphas`` and ``betas`` belong, in order, to the functions that have an α or a β; defaults stand for
    those that are not given.
    """
    alphas, betas, read = list(alphas), list(betas), []
    for name, clip in zip(names, clips, strict=True):
        if name.lower() not in CANONICAL:
            raise ValueError(f"activations: expected one of {', '.join(map(repr, FORMULAS))}, got {name!r}")
        name = CANONICAL[name.lower()]
        _, alpha, beta = FORMULAS[name]
        if alpha is not None and alphas:
            alpha = float(alphas.pop(0))
        if beta is not None and betas:
            beta = float(betas.pop(0))
        plain = name in OURS and clip is None
        read.append(OURS[name] if plain else ONNXActivation(name, alpha, beta, clip))
    return read


def write_activation(activation: Any) -> ONNXActivation:
    """Return the `ONNXActivation` that a cell's own ``activation`` is, or raise."""
    if isinstance(activation, ONNXActivation):
        return activation
    names = {ours: name for name, ours in OURS.items()}
    if isinstance(activation, str) and activation in names:
        return ONNXActivation(names[activation])
    if activation == "identity":
        return ONNXActivation("Affine", 1.0, 0.0)
    raise ValueError(f"activation: expected one that ONNX has a name for, or an ONNXActivation, got {activation!r}")
