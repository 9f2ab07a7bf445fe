"""What is timed: a cell of a shape and dtype, its parameters and inputs, and the loss."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from benchmarks.errors import InputError

CELLS = ("vanilla", "lstm", "gru")
GATES = {"vanilla": 1, "lstm": 4, "gru": 3}

# dtype of the arrays, precision of their products, and the largest error that still counts as equal,
# relative to the largest value of the array
PRECISIONS = {
    "float32": (jnp.float32, "highest", 1e-3),
    "tf32": (jnp.float32, "tensorfloat32", 5e-2),
    "bfloat16": (jnp.bfloat16, "default", 0.3),
}


AT_A_KINK = 5e-2


def tolerance(dtype: str, variant: str = "") -> float:
    """Return the largest error that still counts as equal, relative to the largest value of an array.

    More for ReLU: of a million units one is within rounding of 0, another order of summation puts it on the
    other side, and its slope, 0 or 1, reaches the gradients of all steps before.
    """
    return max(PRECISIONS[dtype][2], AT_A_KINK) if variant == "activation=relu" else PRECISIONS[dtype][2]


def positive(**sizes: tuple[int, ...]) -> None:
    """Refuse sizes below 1; each argument is an option of the command line."""
    for name, values in sizes.items():
        if any(value < 1 for value in values):
            raise InputError(f"--{name}: expected sizes of at least 1, got {' '.join(map(str, values))}")


class Shape(NamedTuple):
    """Steps T, batch B, input features D and hidden features H."""

    T: int
    B: int
    D: int
    H: int

    @classmethod
    def parse(cls, text: str) -> "Shape":
        """Return the shape that ``TxBxDxH`` stands for.

        Example:
            >>> Shape.parse("100x32x128x256")
            Shape(T=100, B=32, D=128, H=256)
        """
        sizes = text.split("x")
        if len(sizes) != 4 or not all(size.isdecimal() and int(size) > 0 for size in sizes):
            raise InputError(f"shape: expected four sizes TxBxDxH, such as 100x32x128x128, got {text!r}")
        return cls(*map(int, sizes))

    def __str__(self) -> str:
        return "×".join(map(str, self))


class Problem(NamedTuple):
    """A cell and its arguments; ``options`` are those of its factory, ``xs [T, B, D]``."""

    kind: str
    options: Mapping[str, Any]
    shape: Shape
    dtype: str
    cell: jaxrnn.Cell
    params: Any
    xs: jax.Array

    @property
    def variant(self) -> str:
        """The options in words, "" for a cell as it comes."""
        return in_words(self.options)


def in_words(options: Mapping[str, Any]) -> str:
    """Return options as they are written in a call.

    Example:
        >>> in_words({"reset_after": False})
        'reset_after=False'
    """
    return ", ".join(f"{name}={value}" for name, value in options.items())


def draw(kind: str, shape: Shape, *, dtype: str = "float32", options: Mapping[str, Any] | None = None) -> Problem:
    """Draw a problem, the same at every call: xs ~ N(0, 1), weights as the cell draws them, b += N(0, 1/100).

    The GRU's bias inside its reset gate's product stays zero: Flax has none.
    """
    options = options or {}
    cell = getattr(jaxrnn, kind)(shape.D, shape.H, dtype=PRECISIONS[dtype][0], **options)
    params_key, bias_key, xs_key = jax.random.split(jax.random.key(0), 3)
    params = cell.init(params_key)
    noise = 0.1 * jax.random.normal(bias_key, params.bias.shape, params.bias.dtype)
    xs = jax.random.normal(xs_key, (shape.T, shape.B, shape.D), params.bias.dtype)
    return Problem(kind, options, shape, dtype, cell, params._replace(bias=params.bias + noise), xs)


def loss(ys: jax.Array) -> jax.Array:
    """Return mean(y²)."""
    return jnp.mean(jnp.square(ys))


def host(tree: Any) -> Any:
    """Return a tree of arrays as NumPy, in float32 at least."""
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.promote_types(leaf.dtype, np.float32)), tree)
