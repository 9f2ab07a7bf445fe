"""How other frameworks draw the weights of a recurrent network, where nothing else is said.

With D inputs, H hidden features and G gates, kernels being drawn as one or gate by gate:

    torch     W, U, b_x, b_h ~ U(-1/√H, 1/√H)
    Keras     W ~ U(-a, a) with a² = 6/(D + G H), U orthogonal as one, b = 0, and 1 for the forget gate
    Flax      W ~ N(0, 1/D) within two deviations, U orthogonal gate by gate, b = 0
    nnx       the same, but for the GRU, whose U is orthogonal as one; its LSTM is LSTMCell
    Haiku     W ~ N(0, 1/D) and U ~ N(0, 1/H) within two deviations, b = 0; the LSTM draws both from
              N(0, 1/(D + H)) and adds 1 to the forget gate
    Equinox   W, U, b ~ U(-1/√H, 1/√H)

A normal distribution cut at two deviations has 0.88 of its deviation left. Flax, and Haiku for the GRU,
make up for it.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.cells.gru import GRUParams
from jaxrnn.cells.lstm import LSTMParams
from jaxrnn.cells.vanilla import VanillaParams
from jaxrnn.initializers import Initializer, orthogonal, per_gate, zeros
from jaxrnn.types import Array, Cell

GATES = {"vanilla": 1, "lstm": 4, "gru": 3}
CUT = 0.87962566103423978  # the deviation of a standard normal between -2 and 2


class Start(NamedTuple):
    """How the weights of one cell are drawn, all gates at once.

    input, recurrent: W ``[D, G H]`` and U ``[H, G H]``.
    bias: each bias, ``[G H]``.
    biases: how many are drawn and added.
    forget_bias: added to that of the forget gate.
    """

    input: Initializer
    recurrent: Initializer
    bias: Initializer = zeros
    biases: int = 1
    forget_bias: float = 0.0


def drawn_as(cell: Cell, framework: str) -> Cell:
    """Return the cell with the weights that a framework starts from, W, U, b ~ p(D, H) as it draws them.

    The numbers are of this library's own keys: the distributions are the same, not the draws. In a stack it is
    ``stacked(lambda *sizes: drawn_as(lstm(*sizes), "keras"), D, H)``.

    Args:
        cell: of `jaxrnn.vanilla`, `jaxrnn.lstm` or `jaxrnn.gru`.
        framework: "torch", "keras", "flax", "nnx", "haiku" or "equinox".

    Raises:
        TypeError: no `Cell`.
        ValueError: another framework, or a cell that it has no counterpart of.

    Source: the defaults of the frameworks; Glorot and Bengio, "Understanding the difficulty of training deep
    feedforward neural networks" (2010), for Keras; LeCun, Bottou, Orr and Müller, "Efficient BackProp" (1998),
    for Flax and Haiku.

    Example:
        >>> import jax, jaxrnn
        >>> from jaxrnn.interop import drawn_as
        >>> params = drawn_as(jaxrnn.lstm(3, 2), "keras").init(jax.random.key(0))
        >>> params.bias.tolist()
        [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    """
    checks.cell("cell", cell)
    start_of = FRAMEWORKS[checks.choice("framework", framework, tuple(FRAMEWORKS))]
    kind = "" if cell.spec is None else cell.spec.factory
    if cell.spec is None or kind not in GATES:
        raise ValueError(f"cell: expected one of jaxrnn.vanilla, lstm or gru, got {kind or 'one of your own'}")
    if (framework, kind) == ("equinox", "vanilla"):
        raise ValueError("framework: expected one that has a vanilla network, got 'equinox'")
    options = dict(cell.spec.options)
    D, H, G, dtype = options["input_size"], options["hidden_size"], GATES[kind], options["dtype"]
    start = start_of(kind, D, H)

    def init(key: Array) -> Any:
        checks.key("key", key)
        input_key, recurrent_key, bias_key, second_key = jax.random.split(key, 4)
        kernels = start.input(input_key, (D, G * H), dtype), start.recurrent(recurrent_key, (H, G * H), dtype)
        bias = start.bias(bias_key, (G * H,), dtype)
        second = start.bias(second_key, (G * H,), dtype)
        summed = second if start.biases == 2 else jnp.zeros_like(bias)
        if kind == "vanilla":
            return VanillaParams(*kernels, bias + summed)
        if kind == "lstm":
            return LSTMParams(*kernels, (bias + summed).at[H : 2 * H].add(start.forget_bias))
        if not options["reset_after"]:
            return GRUParams(*kernels, bias + summed, None)
        return GRUParams(*kernels, bias + summed.at[2 * H :].set(0), second[2 * H :])

    return cell._replace(init=init)


def within(bound: float) -> Initializer:
    """Return an initializer that draws from U(-bound, bound)."""
    return lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -bound, bound)


def cut_normal(deviation: float) -> Initializer:
    """Return an initializer that draws from N(0, deviation²), of which it keeps what is within two deviations."""
    return lambda key, shape, dtype: deviation * jax.random.truncated_normal(key, -2, 2, shape, dtype)


def _torch(kind: str, D: int, H: int) -> Start:
    del kind, D
    draw = within(1 / math.sqrt(H))
    return Start(draw, draw, draw, biases=2)


def _keras(kind: str, D: int, H: int) -> Start:
    return Start(within(math.sqrt(6 / (D + GATES[kind] * H))), orthogonal(), forget_bias=1.0)


def _flax(kind: str, D: int, H: int) -> Start:
    del H
    return Start(cut_normal(1 / CUT / math.sqrt(D)), per_gate(orthogonal(), GATES[kind]))


def _nnx(kind: str, D: int, H: int) -> Start:
    start = _flax(kind, D, H)
    return start._replace(recurrent=orthogonal()) if kind == "gru" else start


def _haiku(kind: str, D: int, H: int) -> Start:
    if kind == "lstm":
        draw = cut_normal(1 / math.sqrt(D + H))
        return Start(draw, draw, forget_bias=1.0)
    full = CUT if kind == "gru" else 1.0
    return Start(cut_normal(1 / full / math.sqrt(D)), cut_normal(1 / full / math.sqrt(H)))


def _equinox(kind: str, D: int, H: int) -> Start:
    del kind, D
    draw = within(1 / math.sqrt(H))
    return Start(draw, draw, draw)


FRAMEWORKS: dict[str, Callable[[str, int, int], Start]] = {
    "torch": _torch,
    "keras": _keras,
    "flax": _flax,
    "nnx": _nnx,
    "haiku": _haiku,
    "equinox": _equinox,
}
