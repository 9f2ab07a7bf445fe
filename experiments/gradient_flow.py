"""How far back a gradient reaches: vanilla, LSTM and GRU, before and after training, and what helps.

Tasks. Both have T steps, two inputs and a wait, and are drawn anew at every update. In the adding problem
(Hochreiter and Schmidhuber 1997) the inputs are a number from U(0, 1) and a marker; the answer at the
last step is the sum of the two marked numbers, one from each half. In delayed recall they are a number
from U(-1, 1) and a marker at the first step; the answer at the last step is the first number. The model
is a cell and a linear readout of the last h; the loss is the mean squared error, and the trivial floor is
that of always answering the mean, 1/6 and 1/3.

Gradient norms. For L = ½(ŷ - y)² of each held-out sequence, ‖∂L/∂carry_t‖ / ‖∂L/∂carry_T‖ by
`jaxrnn.analysis.gradient_norms`, in float64; the carry is (h, c) for the LSTM. Curves are the median over
sequences, bands the range from 10 to 90 percent. Singular values. Those of ∂carry_T/∂carry_t along one
held-out sequence, by `jaxrnn.analysis.log_singular_values`.

What is varied. (1) Cells: vanilla with tanh and an orthogonal start, LSTM with forget bias 1, GRU, on the
adding problem. (2) Starts of the vanilla cell's recurrent weights, on the adding problem: orthogonal;
N(0, 1/H); U(±1/√H); N(0, 1); 0.01 · N(0, 1); and the identity with ReLU and input weights 0.03 · N(0, 1)
(IRNN; Le, Jaitly and Hinton 2015). (3) The LSTM's forget bias, on delayed recall; with the gates at their
biases alone the memory keeps σ(b) a step, drawn dotted. These train by Adam, gradients clipped at global
norm 1. (4) Clipping (Pascanu, Mikolov and Bengio 2013): plain gradient descent on delayed recall from a
start that explodes, ReLU with 1.03 times the identity, with and without clipping by global norm.
"""

import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxrnn
from experiments import gradient_plots, runs
from experiments.data.memory import draw_adding
from experiments.gradient_plots import Curves, final
from jaxrnn import initializers
from jaxrnn.analysis import gradient_norms, log_singular_values, state_jacobians
from jaxrnn.training import metrics

Array = jax.Array

PICTURES = {
    "gradient_norms.png": "Gradient norms over time for vanilla, LSTM and GRU, before and after training",
    "starts.png": "Starts of the recurrent weights: gradient at the start, and training",
    "singular_values.png": "Singular values of the products of state Jacobians",
    "forget_bias.png": "Forget bias: gradient at the start, and training",
    "clipping.png": "Clipping by global norm, from a start that explodes",
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes and training."""

    steps: int = 60
    """Steps of a sequence, T."""
    hidden: int = 32
    """Hidden units, H."""
    batch: int = 50
    """Sequences per update."""
    updates: int = 1500
    """Updates per training."""
    learning_rate: float = 0.003
    """Of Adam."""
    descent_rate: float = 0.01
    """Learning rate of plain gradient descent, in the comparison of clipping."""
    clip: float = 0.1
    """Largest global norm, in the comparison of clipping."""
    forget_biases: tuple[float, ...] = (0.0, 1.0, 3.0, 5.0)
    """Forget biases to compare."""
    sequences: int = 64
    """Held-out sequences for gradient norms."""
    seed: int = 0
    """Seed of all random numbers."""

    def __post_init__(self) -> None:
        for name, least in {"steps": 4, "hidden": 2, "batch": 1, "updates": 1, "sequences": 1}.items():
            runs.require(getattr(self, name) >= least, name, f"at least {least}", getattr(self, name))
        for name in ("learning_rate", "descent_rate", "clip"):
            runs.require(getattr(self, name) > 0, name, "more than 0", getattr(self, name))
        runs.require(len(self.forget_biases) > 0, "forget_biases", "at least one", self.forget_biases)


QUICK = Config(steps=20, hidden=12, updates=60, sequences=8)


class Task(NamedTuple):
    """A task: its name, ``draw(key, steps, batch) -> (xs [T, B, 2], targets [B])``, and the trivial floor."""

    name: str
    draw: Callable
    floor: float


class Seeds(NamedTuple):
    """A key for each thing that is drawn."""

    cell: Array
    readout: Array
    batches: Array
    held_out: Array


class Model(NamedTuple):
    """Parameters: of the cell, and of the readout ŷ = h·w + b."""

    cell: Any
    w: Array
    b: Array


class Trained(NamedTuple):
    """What a training leaves: ``start`` and ``end`` of the parameters, losses and gradient norms per update."""

    cell: jaxrnn.Cell
    start: Model
    end: Model
    losses: np.ndarray
    norms: np.ndarray


def draw_recall(key: Array, steps: int, batch: int) -> tuple[Array, Array]:
    """Draw delayed recall: the first number, marked, to be given after the others."""
    numbers = jax.random.uniform(key, (steps, batch), minval=-1.0)
    marks = jnp.zeros_like(numbers).at[0].set(1.0)
    return jnp.stack([numbers, marks], axis=-1), numbers[0]


def seeds(config: Config) -> Seeds:
    """Return the keys of everything that is drawn."""
    return Seeds(*jax.random.split(jax.random.key(config.seed), 4))


ADDING = Task("adding problem", draw_adding, 1 / 6)
RECALL = Task("delayed recall", draw_recall, 1 / 3)


@functools.cache
def draw_updates(task: Task, config: Config) -> tuple[Array, Array]:
    """Draw the batches of all updates, the same for all: xs ``[updates, T, B, 2]``, targets ``[updates, B]``."""
    keys = jax.random.split(seeds(config).batches, config.updates)
    return jax.jit(jax.vmap(lambda key: task.draw(key, config.steps, config.batch)))(keys)


@functools.cache
def training_loop(cell: jaxrnn.Cell, optimizer: optax.GradientTransformation) -> Callable:
    """Return ``((model, moments), batches) -> ((model, moments), (losses, norms))``, compiled, one update per batch."""

    def loss(model: Model, xs: Array, targets: Array) -> Array:
        carry, _ = jaxrnn.unroll(cell, model.cell, xs)
        return ((getattr(carry, "h", carry) @ model.w + model.b - targets) ** 2).mean()

    def update(state: tuple[Any, Any], batch: tuple[Array, Array]) -> tuple[tuple[Any, Any], tuple[Array, Array]]:
        model, moments = state
        value, gradient = jax.value_and_grad(loss)(model, *batch)
        change, moments = optimizer.update(gradient, moments, model)
        return (optax.apply_updates(model, change), moments), (value, optax.tree.norm(gradient))

    return jax.jit(lambda state, batches: jax.lax.scan(update, state, batches))


def train(
    name: str,
    cell: jaxrnn.Cell,
    init: Callable,
    task: Task,
    optimizer: optax.GradientTransformation,
    config: Config,
) -> Trained:
    """Train a cell with a readout, its parameters drawn by ``init``; the same seeds and batches for all."""
    w = jax.random.normal(seeds(config).readout, (config.hidden,)) / config.hidden**0.5
    start = Model(init(seeds(config).cell), w, jnp.zeros(()))
    began = time.perf_counter()
    updates = training_loop(cell, optimizer)
    (end, _), record = updates((start, optimizer.init(start)), draw_updates(task, config))
    trained = Trained(cell, start, end, *map(np.asarray, record))
    print(
        f"  {task.name}, {name:<28} error {final(trained.losses):.4f} (answering the mean: {task.floor:.4f}), "
        f"{config.updates} updates in {time.perf_counter() - began:.1f} s",
        flush=True,
    )
    return trained


def in_float64(tree: Any) -> Any:
    """Return the arrays of ``tree`` as float64; call it where float64 is enabled."""
    return jax.tree.map(lambda x: jnp.asarray(np.asarray(x), jnp.float64), tree)


def held_out(task: Task, config: Config) -> tuple[Array, Array]:
    """Draw the sequences that gradients are measured on."""
    return task.draw(seeds(config).held_out, config.steps, config.sequences)


@functools.cache
def norms_of(cell: jaxrnn.Cell) -> Callable:
    """Return ``(model, xs, targets) -> ‖∂L/∂carry_t‖ [T, B]``, compiled."""

    def norms(model: Model, xs: Array, targets: Array) -> Array:
        def loss(carries: Any) -> Array:
            h = getattr(carries, "h", carries)[-1]
            return 0.5 * ((h @ model.w + model.b - targets) ** 2).sum()

        return gradient_norms(cell, model.cell, xs, loss).total

    return jax.jit(norms)


def curves(cell: jaxrnn.Cell, model: Model, task: Task, config: Config) -> Curves:
    """Measure ‖∂L/∂carry_t‖ relative to the last step over held-out sequences."""
    with jax.enable_x64(True):
        norms = np.asarray(norms_of(cell)(*in_float64((model, *held_out(task, config)))))
    return Curves(*np.quantile(norms[::-1] / norms[-1:], [0.5, 0.1, 0.9], axis=1))


@functools.cache
def spectra_of(cell: jaxrnn.Cell) -> Callable:
    """Return ``(params, xs [T, 2]) -> log singular values [T + 1, n]``, compiled."""
    return jax.jit(lambda params, xs: log_singular_values(state_jacobians(cell, params, xs)))


def spectrum(cell: jaxrnn.Cell, model: Model, task: Task, config: Config) -> np.ndarray:
    """Return log10 of the singular values of ∂carry_T/∂carry_t on one held-out sequence, ``[T + 1, n]``."""
    with jax.enable_x64(True):
        params, xs = in_float64((model.cell, held_out(task, config)[0][:, 0]))
        return np.asarray(spectra_of(cell)(params, xs)) / np.log(10)


# --- the four comparisons -------------------------------------------------------------------------------------


def adam(config: Config) -> optax.GradientTransformation:
    """Return Adam after clipping at global norm 1."""
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(config.learning_rate))


def cells(config: Config) -> dict[str, jaxrnn.Cell]:
    """Return the three cells as they start by default."""
    sizes = (2, config.hidden)
    return {"vanilla": jaxrnn.vanilla(*sizes), "LSTM": jaxrnn.lstm(*sizes), "GRU": jaxrnn.gru(*sizes)}


def relu_identity(scale: float, config: Config) -> jaxrnn.Cell:
    """Return a ReLU cell that starts from ``scale`` times the identity: the IRNN at 1."""
    return jaxrnn.vanilla(
        2,
        config.hidden,
        activation="relu",
        recurrent_init=initializers.identity(scale),
        input_init=initializers.normal(0.03),
    )


def starts(config: Config) -> dict[str, Callable]:
    """Return ways to draw the parameters of a vanilla cell with tanh, by the start of the recurrent weights.

    The orthogonal one is the cell's own.
    """
    draws = {
        "N(0, 1/H)": initializers.fan_in(),
        "U(±1/√H)": initializers.uniform(),
        "N(0, 1)": initializers.normal(1.0),
        "0.01 · N(0, 1)": initializers.normal(0.01),
    }
    return {name: jaxrnn.vanilla(2, config.hidden, recurrent_init=draw).init for name, draw in draws.items()}


def clipping(config: Config) -> dict[str, optax.GradientTransformation]:
    """Return plain gradient descent with and without clipping."""
    descent = optax.sgd(config.descent_rate)
    return {
        "without clipping": descent,
        f"clipped at {config.clip:g}": optax.chain(optax.clip_by_global_norm(config.clip), descent),
    }


def losses_of(trained: dict[str, Trained]) -> dict[str, np.ndarray]:
    """Return the losses of every training by name."""
    return {name: result.losses for name, result in trained.items()}


# --- all of it --------------------------------------------------------------------------------------------------


def run(config: Config, directory: pathlib.Path) -> dict[str, Any]:
    """Train, measure and draw all four comparisons; return the figures."""
    records, figures = {}, {}

    def keep(comparison: str, task: Task, trained: dict[str, Trained], ends: dict[str, Curves] | None = None) -> dict:
        """Measure gradients at the start, note the figures of each member, return the measured curves."""
        measured = {name: curves(result.cell, result.start, task, config) for name, result in trained.items()}
        for name, result in trained.items():
            record = {
                "task": task.name,
                "floor": task.floor,
                "error": final(result.losses),
                "gradient norms at the start": measured[name].median,
                "largest gradient norm in training": gradient_plots.largest_norm(result.norms),
            }
            records[comparison, name] = record | ({"gradient norms at the end": ends[name].median} if ends else {})
        return measured

    print("Training", flush=True)
    rule, three = adam(config), cells(config)
    trained = {name: train(name, cell, cell.init, ADDING, rule, config) for name, cell in three.items()}
    ends = {name: curves(result.cell, result.end, ADDING, config) for name, result in trained.items()}
    figures["gradient_norms"] = gradient_plots.draw_cells(
        keep("cells", ADDING, trained, ends), ends, losses_of(trained), ADDING.floor
    )
    first, last = (
        {name: spectrum(result.cell, getattr(result, when), ADDING, config) for name, result in trained.items()}
        for when in ("start", "end")
    )
    figures["singular_values"] = gradient_plots.draw_spectra(first, last)
    for name in trained:
        records["cells", name]["log10 of the singular values over all steps, at the start"] = first[name][0]
        records["cells", name]["log10 of the singular values over all steps, at the end"] = last[name][0]

    from_starts = {"orthogonal": trained["vanilla"]}
    for name, init in starts(config).items():
        from_starts[name] = train(f"vanilla, {name}", three["vanilla"], init, ADDING, rule, config)
    irnn = relu_identity(1.0, config)
    from_starts["identity, ReLU"] = train("vanilla, identity and ReLU", irnn, irnn.init, ADDING, rule, config)
    figures["starts"] = gradient_plots.draw_starts(
        keep("starts", ADDING, from_starts), losses_of(from_starts), ADDING.floor
    )

    by_bias = {}
    for bias in config.forget_biases:
        init = jaxrnn.lstm(2, config.hidden, forget_bias=bias).init
        by_bias[f"bias {bias:g}"] = train(f"LSTM, forget bias {bias:g}", three["LSTM"], init, RECALL, rule, config)
    figures["forget_bias"] = gradient_plots.draw_forget_biases(
        keep("forget bias", RECALL, by_bias), losses_of(by_bias), RECALL.floor, config.forget_biases
    )

    exploding = relu_identity(1.03, config).init
    descents = {
        name: train(f"descent {name}", irnn, exploding, RECALL, descent, config)
        for name, descent in clipping(config).items()
    }
    keep("clipping", RECALL, descents)
    norms = {name: result.norms for name, result in descents.items()}
    figures["clipping"] = gradient_plots.draw_clipping(norms, losses_of(descents), RECALL.floor, config.clip)
    return write(records, figures, directory)


def write(records: dict[tuple[str, str], dict], figures: dict[str, Any], directory: pathlib.Path) -> dict[str, Any]:
    """Write the pictures and the metrics, print what a person wants to read, return the figures."""
    for name, figure in figures.items():
        figure.savefig(directory / f"{name}.png", dpi=150)
    rows = [
        runs.Row(
            f"{comparison}: {name}, {record['task']}",
            record["error"],
            "squared error",
            floor=f"{record['floor']:.4g} (answering the mean)",
        )
        for (comparison, name), record in records.items()
    ]
    path = directory / "metrics.jsonl"
    path.unlink(missing_ok=True)
    result: dict[str, Any] = {"rows": [row._asdict() for row in rows], "pictures": PICTURES}
    print("\nGradient at the first step relative to the last, at the start of training")
    for (comparison, name), record in records.items():
        plain = metrics.plain(record)
        metrics.append(path, {"comparison": comparison, "name": name, **plain})
        result.setdefault(comparison, {})[name] = plain
        reach = record["gradient norms at the start"][-1]
        after = (
            f", {record['gradient norms at the end'][-1]:.1e} after" if "gradient norms at the end" in record else ""
        )
        print(f"  {comparison:<12} {name:<17} {reach:8.1e}{after}; error {record['error']:.4g}")
    return result
