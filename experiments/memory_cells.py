"""The cells that `experiments.long_memory` compares and `experiments.image_sequence` can take, by name."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import jaxrnn
from experiments.training import Training, optimizer_of
from jaxrnn import initializers
from jaxrnn.types import Array


class Contender(NamedTuple):
    """A cell and how it is trained.

    words: the cell and its start.
    make: ``(inputs, hidden, steps) -> Cell``, whose outputs have H = ``hidden`` features.
    project: ``(params, steps) -> params``, where every update of a model with the cell is to land; None for anywhere.
    """

    words: str
    make: Callable[[int, int, int], jaxrnn.Cell]
    project: Callable[[Any, int], Any] | None = None


def optimizer_for(contender: Contender, training: Training, steps: int) -> optax.GradientTransformation:
    """Return the optimizer of a model for T = ``steps``, whose updates land where the contender wants."""
    optimizer, project = optimizer_of(training), contender.project
    if project is None:
        return optimizer
    return optax.chain(optimizer, landing_on(lambda params: project(params, steps)))


def landing_on(project: Callable[[Any], Any]) -> optax.GradientTransformation:
    """Return the last part of an optimizer, whose updates lead to ``project`` of the parameters they led to."""

    def update(updates: Any, params: Any) -> Any:
        return jax.tree.map(jnp.subtract, project(optax.apply_updates(params, updates)), params)

    return optax.stateless(update)


def clipped(params: Any, steps: int) -> Any:
    """Return a model's parameters with |u| ≤ 2^(1/T) in every IndRNN: no unit more than doubles its state in T steps.

    Source: Li, Li, Cook, Zhu and Gao, "Independently Recurrent Neural Network (IndRNN)" (2018).
    """
    bound = 2 ** (1 / steps)

    def within(part: Any) -> Any:
        if not isinstance(part, jaxrnn.IndRNNParams):
            return part
        return part._replace(recurrent=jnp.clip(part.recurrent, -bound, bound))

    return jax.tree.map(within, params, is_leaf=lambda part: isinstance(part, jaxrnn.IndRNNParams))


def chrono(cell: jaxrnn.Cell, steps: int, keeps: int, admits: int | None = None) -> jaxrnn.Cell:
    """Return ``cell`` with a start that forgets over 1 to T steps, unit by unit: σ(log u) keeps a memory for u.

    The bias of the gate that keeps the memory is log u, u from U(1, T - 1), and that of the one that admits to
    it, where there is one, is -log u. Gates are given by their places in ``params.bias``.

    Source: Tallec and Ollivier, "Can Recurrent Neural Networks Warp Time?" (2018).
    """

    def init(key: Array) -> Any:
        cell_key, chrono_key = jax.random.split(key)
        params = cell.init(cell_key)
        hidden = params.recurrent.shape[0]
        bias = jnp.log(jax.random.uniform(chrono_key, (hidden,), minval=1.0, maxval=max(steps - 1.0, 2.0)))
        gates = params.bias.reshape(-1, hidden).at[keeps].set(bias)
        return params._replace(bias=(gates if admits is None else gates.at[admits].set(-bias)).reshape(-1))

    return cell._replace(init=init)


def stacked(*cells: jaxrnn.Cell) -> jaxrnn.Cell:
    """Return the cells as layers of one cell, each of which reads the outputs of the one before at once."""

    def step(params: tuple[Any, ...], carries: tuple[Any, ...], z: Any) -> tuple[tuple[Any, ...], Any]:
        carry, y = cells[0].step(params[0], carries[0], z)
        after = [carry]
        for cell, own, carry in zip(cells[1:], params[1:], carries[1:], strict=True):
            carry, y = cell.step(own, carry, jax.tree.map(lambda zs: zs[0], cell.inputs(own, y[None])))
            after.append(carry)
        return tuple(after), y

    return jaxrnn.Cell(
        init=lambda key: tuple(c.init(k) for c, k in zip(cells, jax.random.split(key, len(cells)), strict=True)),
        initial_carry=lambda params, batch_shape=(): tuple(
            cell.initial_carry(own, batch_shape) for cell, own in zip(cells, params, strict=True)
        ),
        step=step,
        inputs=lambda params, xs, key=None: cells[0].inputs(params[0], xs, key),
    )


class ProjectedParams(NamedTuple):
    """Weights of `projected`: those of the product that the inputs are put through, and of the cell."""

    inputs: Any
    cell: Any


def projected(cell: jaxrnn.Cell, inputs: int, hidden: int) -> jaxrnn.Cell:
    """Return ``cell``, whose inputs have the features of its outputs, for inputs of D features: it is fed x P + p."""
    product = jaxrnn.dense(inputs, hidden)

    def init(key: Array) -> ProjectedParams:
        product_key, cell_key = jax.random.split(key)
        return ProjectedParams(product.init(product_key), cell.init(cell_key))

    def fed(params: ProjectedParams, xs: Array, key: Array | None = None) -> Any:
        return cell.inputs(params.cell, product.apply(params.inputs, xs)[1], key)

    return jaxrnn.Cell(
        init=init,
        initial_carry=lambda params, batch_shape=(): cell.initial_carry(params.cell, batch_shape),
        step=lambda params, carry, z: cell.step(params.cell, carry, z),
        inputs=fed,
    )


# Every recurrent cell of the library but the convolutional ones, which read images, and those that wrap another:
# learned_carry, variational_dropout, zoneout, and attending, which needs no memory, as it looks back.
CONTENDERS = {
    "vanilla-scaled": Contender(
        "vanilla, N(0, 1/H)", lambda D, H, T: jaxrnn.vanilla(D, H, recurrent_init=initializers.fan_in())
    ),
    "vanilla-orthogonal": Contender("vanilla, orthogonal", lambda D, H, T: jaxrnn.vanilla(D, H)),
    "vanilla-identity": Contender("vanilla, identity and ReLU", lambda D, H, T: jaxrnn.irnn(D, H)),
    "linear-orthogonal": Contender("linear, orthogonal", lambda D, H, T: jaxrnn.vanilla(D, H, activation="identity")),
    "vanilla-normalized": Contender("vanilla, layer norm", lambda D, H, T: jaxrnn.normalized_vanilla(D, H)),
    "leaky": Contender("leaky, α = 1/T", lambda D, H, T: jaxrnn.leaky(D, H, alpha=1 / T)),
    "residual": Contender("residual vanilla, ρ = 1/T", lambda D, H, T: jaxrnn.residual_vanilla(D, H, scale=1 / T)),
    "lstm-bias-0": Contender("LSTM, forget bias 0", lambda D, H, T: jaxrnn.lstm(D, H, forget_bias=0.0)),
    "lstm-bias-1": Contender("LSTM, forget bias 1", lambda D, H, T: jaxrnn.lstm(D, H)),
    "lstm-chrono": Contender("LSTM, chrono", lambda D, H, T: chrono(jaxrnn.lstm(D, H), T, keeps=1, admits=0)),
    "lstm-peephole": Contender("LSTM, peepholes", lambda D, H, T: jaxrnn.lstm_variant(D, H, peephole=True)),
    "lstm-coupled": Contender("LSTM, coupled gates", lambda D, H, T: jaxrnn.lstm_variant(D, H, coupled=True)),
    "gru": Contender("GRU", lambda D, H, T: jaxrnn.gru(D, H)),
    "gru-chrono": Contender("GRU, chrono", lambda D, H, T: chrono(jaxrnn.gru(D, H), T, keeps=1)),
    "minimal-gated": Contender("minimal gated unit", lambda D, H, T: jaxrnn.minimal_gated(D, H)),
    "ugrnn": Contender("update gate RNN", lambda D, H, T: jaxrnn.ugrnn(D, H)),
    "intersection": Contender(
        "intersection RNN", lambda D, H, T: projected(jaxrnn.intersection(H, H), inputs=D, hidden=H)
    ),
    "janet": Contender("JANET, chrono", lambda D, H, T: chrono(jaxrnn.janet(D, H), T, keeps=0)),
    "indrnn": Contender("IndRNN", lambda D, H, T: jaxrnn.indrnn(D, H, bound=2 ** (1 / T)), project=clipped),
    "indrnn-2": Contender(
        "IndRNN, 2 layers",
        lambda D, H, T: stacked(*(jaxrnn.indrnn(size, H, bound=2 ** (1 / T)) for size in (D, H))),
        project=clipped,
    ),
    "cornn": Contender("coRNN", lambda D, H, T: jaxrnn.cornn(D, H)),
    "lem": Contender("LEM", lambda D, H, T: jaxrnn.lem(D, H)),
}
