"""Formulas that circulate and are wrong: each beside the right one, with its error.

Introductory texts on recurrent networks repeat the fourteen claims below. In
`experiments.textbook_claims` each is a small function beside the right formula; here both are measured.

Network. In the column form of those texts, for t = 1..T with h_0 = 0,

    a_t = W x_t + U h_{t-1} + b,   h_t = tanh(a_t),   y_t = V h_t,   L = Σ_t ½‖y_t - ŷ_t‖²,

with ŷ_t the target and δ_t = y_t - ŷ_t. The sizes of input, state and output are equal (D = H = K), since
several of the wrong formulas have a shape only then. Weights are drawn from N(0, 1/H), inputs and
targets from N(0, 1), everything is float64.

Measure. The truth is `jax.grad` of L, with a nudge ε_t added to each h_t for ∂L/∂h_t. The error of a
formula is ‖formula - truth‖ / ‖truth‖ over all the steps that it speaks of: 0 is right, 1 is as wrong as
answering zero. A claim that needs a gradient on its right-hand side is given the true one, which is the
kindest reading; a right formula gets nothing from autodiff and is run as the whole backward loop. Where
a claim can be read in several ways, all readings are shown. A listing that cannot run is run, and its
exception shown.

Initial weights. For the last three claims both W and U are drawn as claimed, x_t from N(0, 1), and g, the
gradient at the last step, from N(0, 1). What counts is ‖∂L/∂h_t‖ / ‖∂L/∂h_T‖ for L = g·h_T, over
several draws. If weights are independent with variance σ² and the units' φ' are typical, its square is
multiplied by about σ² H E[φ'²] at every step back. (Pascanu, Mikolov and Bengio 2013.)
"""

import dataclasses
import pathlib
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np
import rich.box
import rich.console
import rich.table
import rich.text

import jaxrnn
from experiments import runs
from experiments import textbook_claims as texts
from jaxrnn.training import metrics


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of the experiment."""

    size: int = 4
    """Sizes of input, state and output of the small network, all equal."""
    time: int = 6
    """Steps of the small network."""
    inputs: int = 20
    """Inputs of the networks of the three rows on initial weights."""
    draws: int = 20
    """Networks drawn for each of those rows."""
    seed: int = 0
    """Seed of all random numbers."""

    def __post_init__(self) -> None:
        for name, least in {"size": 2, "time": 2, "inputs": 1, "draws": 1}.items():
            runs.require(getattr(self, name) >= least, name, f"at least {least}", getattr(self, name))


Flows = dict[tuple[str, int], texts.Flow]  # by name of the start, and units


class Reading(NamedTuple):
    """One way to read a claim, and the right formula's figure beside it.

    The claim's is its error, or what it raised, or the growth of its gradient, log10: (median, least, most)
    over the draws. The right one's is an error, or for growth a median growth.
    """

    how: str
    right: float
    error: float | None = None
    raised: str | None = None
    growth: tuple[float, float, float] | None = None


class Row(NamedTuple):
    """A claim with its readings."""

    claim: str
    wrong: str
    right: str
    readings: list[Reading]


def error(formula: Any, truth: Any) -> float:
    """Return ‖formula - truth‖ / ‖truth‖ over all numbers of two pytrees."""
    formula, truth = (jnp.concatenate([jnp.ravel(x) for x in jax.tree.leaves(tree)]) for tree in (formula, truth))
    return float(jnp.linalg.norm(formula - truth) / jnp.linalg.norm(truth))


def row(claim: str, wrong: str, right: str, right_error: float, *readings: tuple[str, Callable, Any]) -> Row:
    """Run a claim's readings, each ``(how, formula, truth)``: measure them, or keep what they raise."""

    def read(how: str, formula: Callable, truth: Any) -> Reading:
        try:
            return Reading(how, right_error, error=error(formula(), truth))
        except (TypeError, ValueError, UnboundLocalError) as exception:
            return Reading(how, right_error, raised=f"{type(exception).__name__}: {str(exception).splitlines()[0]}")

    return Row(claim, wrong, right, [read(*reading) for reading in readings])


def keys(config: Config) -> tuple[jax.Array, ...]:
    """Return the keys of the network, of the target in row 2, and of the initial weights."""
    return tuple(jax.random.split(jax.random.key(config.seed), 3))


def gradient_rows(config: Config) -> list[Row]:
    """Return rows 1 to 11."""
    case_key, goal_key, _ = keys(config)
    case = texts.make_case(case_key, config.size, config.time)
    net, truth, last = case.net, case.dnet, config.time - 1
    right = texts.bptt(case)
    right_loop = error(texts.state_gradients(case), case.dh)
    right_weights = error((right.W, right.U, right.b), (truth.W, truth.U, truth.b))

    def state(U: jax.Array, t: int) -> jax.Array:
        return texts.states(net._replace(U=U), case.x, jnp.zeros_like(case.h))[t]

    before, by_weights = jax.jacobian(state)(net.U, last - 1), jax.jacobian(state)(net.U, last)
    A, x, goal = net.V, case.x[0], jax.random.normal(goal_key, (config.size,))
    tensor = jax.jacobian(lambda A: A @ x)(A)
    in_chain = jax.grad(lambda A: 0.5 * ((A @ x - goal) ** 2).sum())(A)
    right_product = max(
        error(texts.product_tensor(A, x), tensor), error(texts.product_in_chain(A @ x - goal, x), in_chain)
    )
    o = case.h @ net.V.T
    y, delta = jax.nn.sigmoid(o), jax.grad(lambda o: 0.5 * ((jax.nn.sigmoid(o) - case.target) ** 2).sum())(o)
    back, to_input = case.dh[:-1], case.dx[1:]
    cell = jaxrnn.vanilla(config.size, config.size, dtype=jnp.float64)
    final = jaxrnn.unroll(cell, jaxrnn.VanillaParams(net.W.T, net.U.T, net.b), case.x)[0]
    column = net._replace(b=net.b[:, None])
    return [
        row(
            "∂h_t/∂W_h = (∂h_t/∂h_{t-1}) (∂h_{t-1}/∂W_h)",
            "drops the direct dependence of h_t on W_h at step t",
            "add ∂⁺h_t/∂W_h = diag(φ'_t) ⊗ h_{t-1}ᵀ",
            error(texts.state_by_weights(case), by_weights),
            ("run from ∂h_0/∂W_h = 0: all zero", lambda: texts.state_by_weights(case, direct=False), by_weights),
            (
                "one step from the true ∂h_{t-1}/∂W_h",
                lambda: texts.state_by_weights_claim(case, last, before),
                by_weights,
            ),
        ),
        row(
            "y = A x ⇒ ∂y/∂A = xᵀ",
            "a third-order tensor called a row; true only inside a chain with g = ∂L/∂y",
            "∂y_i/∂A_jk = δ_ij x_k, so ∂L/∂A = g xᵀ",
            right_product,
            ("the tensor: every ∂y_i/∂A_jk = x_k", lambda: texts.product_claim(A, x), tensor),
            ("the gradient: every row of ∂L/∂A = xᵀ", lambda: texts.product_claim(A, x)[0], in_chain),
        ),
        row(
            "∂L/∂h_{t-1} = ∂L/∂h_t ⊙ δ_t ⊙ φ'(·), δ_t = ∂L/∂h_t",
            "squares the gradient, has no W_h, and takes φ' at a mixed pre-activation",
            "W_hᵀ(φ'(a_t) ⊙ ∂L/∂h_t) + the direct term of step t-1",
            right_loop,
            ("φ' at W_x x_{t-1} + W_h h_{t-1} + b", lambda: texts.squared_claim(case, texts.mixed_slope(case)), back),
        ),
        row(
            "∂L/∂x_t = ∂L/∂h_t ⊙ δ_t ⊙ φ'(·)",
            "the same, and no W_x: has the size of h, not of x",
            "W_xᵀ(φ'(a_t) ⊙ ∂L/∂h_t)",
            error(texts.input_gradients(case), case.dx),
            (
                "φ' at W_x x_{t-1} + W_h h_{t-1} + b",
                lambda: texts.squared_claim(case, texts.mixed_slope(case)),
                to_input,
            ),
            ("φ' at a_t", lambda: texts.squared_claim(case, case.slope[1:]), to_input),
        ),
        row(
            "∂L/∂h_t = Vᵀδ_t + ∂L/∂h_{t+1} Uᵀ(1-h_t²)",
            "tanh' is taken at t instead of t+1, and the product has two readings, both wrong",
            "Vᵀδ_t + Uᵀ((1-h_{t+1}²) ⊙ ∂L/∂h_{t+1})",
            right_loop,
            ("(Uᵀ ∂L/∂h_{t+1}) ⊙ (1-h_t²)", lambda: texts.early_slope_outside_claim(case), back),
            ("Uᵀ((1-h_t²) ⊙ ∂L/∂h_{t+1})", lambda: texts.early_slope_inside_claim(case), back),
        ),
        row(
            "∇W = Σ_t x_t ∂L/∂h_t, ∇U = Σ_t h_{t-1} ∂L/∂h_t",
            "no tanh'",
            "Σ_t ((1-h_t²) ⊙ ∂L/∂h_t) x_tᵀ, and the same with h_{t-1}ᵀ",
            right_weights,
            ("∇W", lambda: texts.no_slope_claim(case).W, truth.W),
            ("∇U", lambda: texts.no_slope_claim(case).U, truth.U),
        ),
        row(
            "a backward loop with dh_t = Vᵀδ_t ⊙ (1-h_t²) alone",
            "no gradient passes from t+1 to t: BPTT truncated to one step",
            "the loop of claim 5, set right",
            right_weights,
            ("∇W", lambda: texts.one_step_claim(case).W, truth.W),
            ("∇U", lambda: texts.one_step_claim(case).U, truth.U),
        ),
        row(
            "δ_t = y_t - ŷ_t with y = σ(V h) under squared error",
            "lacks σ'",
            "δ_t = (y_t - ŷ_t) ⊙ y_t(1-y_t)",
            error(texts.output_delta(y, case.target), delta),
            ("δ_t", lambda: texts.output_delta_claim(y, case.target), delta),
            ("∇V = Σ_t δ_t h_tᵀ", lambda: texts.output_delta_claim(y, case.target).T @ case.h, delta.T @ case.h),
        ),
        row(
            "updating W_x and W_h by (y_t - ŷ_t) times the input",
            "lacks W_yᵀ and φ', never updates b_h, and the shapes do not fit",
            "the gradients of claims 5 and 6, set right",
            right_weights,
            ("W_x, by the input x_t", lambda: texts.delta_rule_claim(case).W, truth.W),
            ("W_h, by its input h_{t-1}", lambda: texts.delta_rule_claim(case).U, truth.U),
            ("W_h, by the input x_t", lambda: texts.delta_rule_claim(case).W, truth.U),
            ("b_h: no update", lambda: texts.delta_rule_claim(case).b, truth.b),
            (
                "W_x - ΔW_x with one output less, K = H - 1",
                lambda: net.W - texts.delta_rule_claim(case._replace(delta=case.delta[:, :-1])).W,
                truth.W,
            ),
        ),
        row(
            "writing h_t - 1 for h_{t-1}",
            "subtracts one from an unbound name",
            "keep h_{t-1} (error of h_T)",
            error(texts.run_listing(texts.STATE_KEPT, net, case.x), final),
            ("the listing", lambda: texts.run_listing(texts.MINUS_ONE, net, case.x), final),
        ),
        row(
            "bias of shape (H,1) added to a state of shape (H,)",
            "broadcasts to (H,H): an exception at the assignment",
            "bias of shape (H,) (error of h_T)",
            error(texts.run_listing(texts.STATES_STORED, net, case.x), final),
            ("the listing", lambda: texts.run_listing(texts.STATES_STORED, column, case.x), final),
        ),
    ]


def weight_rows(flows: Flows) -> list[Row]:
    """Return rows 12 to 14."""
    left = flows["orthogonal U", max(texts.SIZES)].growth2 ** 0.5

    def weights(claim: str, name: str, wrong: str, explain: Callable[[int, texts.Flow], str]) -> Row:
        readings = []
        for units, steps in texts.SIZES.items():
            flow, right = flows[name, units], flows["orthogonal U", units].decades()[0]
            how = f"H = {units}, {steps} steps: {explain(units, flow)}"
            readings.append(Reading(how, right, growth=flow.decades()))
        return Row(
            claim, wrong, f"scale by 1/√fan-in; orthogonal for W_h; what is left is φ', {left:.2f} a step", readings
        )

    def saturation(_: int, flow: texts.Flow) -> str:
        return f"mean φ' {flow.slope:.2f}, H·E[φ'²] = {flow.h_slope2:.1f}"

    def per_step(_: int, flow: texts.Flow) -> str:
        return f"σ√(H·E[φ'²]) = {flow.growth2**0.5:.3f} a step"

    def dominance(units: int, flow: texts.Flow) -> str:
        linear = flows["uniform on [0, 1), without tanh", units].decades()[0]
        return (
            f"|λ|max = {flow.radius:.1f} beside H/2 = {units / 2:g}; φ' falls to {flow.last_slope:.0g}; "
            f"without tanh {power(linear)}"
        )

    return [
        weights(
            "weights from an unscaled normal distribution",
            "N(0, 1)",
            "units saturate, yet the backward product explodes: H·E[φ'²] > 1",
            saturation,
        ),
        weights("weights 0.01 times a normal distribution", "0.01 · N(0, 1)", "gradients vanish", per_step),
        weights(
            "weights uniform on [0, 1)",
            "uniform on [0, 1)",
            "all positive: one dominant eigenvalue near H/2",
            dominance,
        ),
    ]


def power(decades: float) -> str:
    """Return a growth as text: ×10^3.5, or zero."""
    return "0 in float64" if np.isneginf(decades) else f"×10^{decades:.1f}"


CAPTION = (
    "Errors are relative to jax.grad in float64: 0.01 is one percent, 1 is as wrong as answering zero. Rows 12 to 14: "
    "growth of the gradient's norm from the last step to the first, median and range over the draws."
)


def figures(reading: Reading) -> tuple[str, str]:
    """Return a reading's figure and the right one's, as text."""
    if reading.growth is not None:
        median, least, most = reading.growth
        spread = "" if np.isneginf(least) else f" ({least:.1f} to {most:.1f})"
        return power(median) + spread, power(reading.right)
    right = f"{reading.right:.0e}" if reading.right else "exact"
    return (f"cannot run, {reading.raised}" if reading.raised else f"{reading.error:.2f}"), right


def described(reading: Reading) -> rich.text.Text:
    """Return a reading and its figure for the terminal."""
    figure = (figures(reading)[0], "red")
    if reading.raised:
        return rich.text.Text.assemble(f"{reading.how}: ", figure)
    return rich.text.Text.assemble(figure, f"{',' if reading.growth else ' '} {reading.how}")


def print_table(rows: list[Row]) -> None:
    """Print the table on the terminal, a claim per line of it, a line per reading within."""
    table = rich.table.Table(box=rich.box.HORIZONTALS, pad_edge=False, show_lines=True, caption=CAPTION)
    table.add_column("", justify="right")
    for heading, ratio in {"claim, and what is wrong": 5, "error of each reading": 6, "right": 4}.items():
        table.add_column(heading, ratio=ratio, overflow="fold")
    table.add_column("error", justify="right", no_wrap=True)
    for number, row in enumerate(rows, 1):
        claim = rich.text.Text.assemble((row.claim, "bold"), f"\n{row.wrong}")
        readings = rich.text.Text("\n").join(map(described, row.readings))
        errors = "\n".join(dict.fromkeys(figures(reading)[1] for reading in row.readings))
        table.add_row(str(number), claim, readings, rich.text.Text(row.right), rich.text.Text(errors, "cyan"))
    rich.console.Console().print(table)


def markdown(rows: list[Row]) -> str:
    """Return the table as Markdown, a line per reading."""
    headings = ("", "claim", "what is wrong", "read as", "its error", "right", "its error")
    lines = [headings, ("---",) * len(headings)]
    for number, row in enumerate(rows, 1):
        first = (str(number), row.claim, row.wrong, row.right)
        for reading in row.readings:
            figure, right = figures(reading)
            lines.append((*first[:3], reading.how, figure, first[3], right))
            first = ("", "", "", "")
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def typeset(text: str) -> str:
    """Return ``text`` with its subscripts, h_t or h_{t-1}, as matplotlib writes formulas."""
    return re.sub(r"(\w'?)_(?:\{([^}]*)\}|([a-zA-Z0-9]+))", r"$\1_{\2\3}$", text)


CLAIM, RIGHT = "#c8502d", "#1f6f8b"
BEHIND = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}


def draw_errors(rows: list[Row], path: pathlib.Path) -> None:
    """Draw the errors of rows 1 to 11 as bars on a logarithmic axis, the claims' beside the right formulas'."""
    floor, top, y = 1e-17, 60.0, 0.0
    height = sum(len(row.readings) + 2.7 for row in rows)
    figure = matplotlib.figure.Figure(figsize=(11, 0.2 * height + 0.8), layout="constrained")
    axes = figure.subplots()
    for number, row in enumerate(rows, 1):
        axes.text(floor, y, typeset(f"{number}.  {row.claim}"), va="center", fontsize=10.5)
        axes.text(top, y, typeset(row.wrong), va="center", ha="right", fontsize=8.5, style="italic", color="#555555")
        y += 1.05
        for reading in row.readings:
            if reading.error is None:
                axes.barh(y, top - floor, left=floor, height=0.86, color="white", edgecolor=CLAIM, hatch="////", lw=0.8)
                axes.text(
                    2 * floor,
                    y,
                    f"{typeset(reading.how)}: cannot run, {reading.raised}",
                    va="center",
                    color=CLAIM,
                    fontsize=8.5,
                    bbox=BEHIND,
                )
            else:
                axes.barh(y, reading.error - floor, left=floor, height=0.86, color=CLAIM)
                axes.text(2 * floor, y, typeset(reading.how), va="center", color="white", fontsize=8.5)
                axes.text(1.3 * reading.error, y, f"{reading.error:.2f}", va="center", color=CLAIM, fontsize=9)
            y += 1
        right = row.readings[0].right
        end = max(right, 1.3 * floor)
        axes.barh(y, end - floor, left=floor, height=0.86, color=RIGHT)
        axes.text(
            1.4 * end,
            y,
            typeset(f"{figures(row.readings[0])[1]}  right: {row.right}"),
            va="center",
            color=RIGHT,
            fontsize=8.5,
        )
        y += 1.65
    worst = max(reading.right for row in rows for reading in row.readings)
    least = min(reading.error for row in rows for reading in row.readings if reading.error is not None)
    axes.set(xscale="log", xlim=(floor, top), ylim=(y - 0.9, -0.8), yticks=[])
    axes.set_xticks([10.0**k for k in range(-16, 2, 2)])
    axes.set_xlabel(
        "relative error against jax.grad in float64  (0.01 is one percent, 1 is as wrong as answering zero)"
    )
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.suptitle(
        f"As printed, each claim is off by {least:.0%} or more, or cannot run; set right, each agrees to {worst:.0e}",
        fontsize=12.5,
    )
    figure.savefig(path, dpi=150)


COLORS = {
    "N(0, 1)": "#c8502d",
    "0.01 · N(0, 1)": "#8e5ea2",
    "uniform on [0, 1)": "#a37400",
    "uniform on [0, 1), without tanh": "#d9a92b",
    "N(0, 1/fan-in)": "#3a9d6e",
    "orthogonal U": "#1f6f8b",
}


def draw_flows(flows: Flows, path: pathlib.Path) -> None:
    """Draw ‖∂L/∂h_t‖ over the steps back from the end, for every start and size."""
    figure = matplotlib.figure.Figure(figsize=(13, 5.4), layout="constrained")
    for axes, (units, steps) in zip(figure.subplots(1, 2), texts.SIZES.items(), strict=True):
        decades = {}
        for start in texts.starts():
            norms = flows[start.name, units].norms[:, ::-1]
            with np.errstate(divide="ignore"):
                least, median, most = np.quantile(np.maximum(np.log10(norms), -1e3), [0, 0.5, 1], axis=0)
            style = "-" if start.activation == "tanh" else ":"
            axes.plot(median, style, color=COLORS[start.name], lw=2.2)
            axes.fill_between(np.arange(steps + 1), least, most, color=COLORS[start.name], alpha=0.15, lw=0)
            decades[start.name] = flows[start.name, units].decades()[0]
        finite = [value for value in decades.values() if np.isfinite(value)]
        low, high = 1.25 * min(finite), 1.05 * max(finite)
        axes.set(
            xlim=(0, steps), ylim=(low, high), xlabel="steps back from the last", title=f"{units} units, {steps} steps"
        )
        axes.axhline(0, color="#8a8a8a", lw=0.8)
        axes.yaxis.set_major_formatter(lambda value, _: f"$10^{{{value:.0f}}}$")
        axes.spines[["top", "right"]].set_visible(False)
        gap, place = 0.05 * (high - low), low - np.inf
        for name, value in sorted(decades.items(), key=lambda item: item[1]):
            place = max(value, low + gap / 2, place + gap)
            factor = "0 in float64" if np.isneginf(value) else f"$\\times 10^{{{value:.1f}}}$"
            axes.text(1.02 * steps, place, f"{name}: {factor}", color=COLORS[name], va="center", fontsize=9.5)
    figure.axes[0].set_ylabel("‖∂L/∂h‖ relative to the last step\n(median and range of the draws)")
    units, steps = list(texts.SIZES.items())[-1]
    growth = {name: f"$10^{{{flows[name, units].decades()[0]:.0f}}}$" for name in COLORS}
    figure.suptitle(
        f"Over {steps} steps, weights from N(0, 1) multiply the gradient by {growth['N(0, 1)']}, "
        f"0.01 · N(0, 1) by {growth['0.01 · N(0, 1)']}, scaled and orthogonal ones by {growth['orthogonal U']}",
        fontsize=12.5,
    )
    figure.savefig(path, dpi=150)


def run(config: Config, directory: pathlib.Path) -> dict[str, Any]:
    """Measure every row; print the table, write it with its figures and two pictures, return the figures."""
    with jax.enable_x64(True):
        gradients = gradient_rows(config)
        flows = texts.measure_flows(keys(config)[2], config.inputs, config.draws)
    rows = [*gradients, *weight_rows(flows)]
    print_table(rows)
    (directory / "table.md").write_text(markdown(rows), encoding="utf-8")
    draw_errors(gradients, directory / "errors.png")
    draw_flows(flows, directory / "initial_weights.png")
    claims = [
        {"row": number, **row._asdict(), "readings": [reading._asdict() for reading in row.readings]}
        for number, row in enumerate(rows, 1)
    ]
    medians = [
        {"start": name, "units": units, **flow._asdict(), "norms": np.median(flow.norms, axis=0).tolist()}
        for (name, units), flow in flows.items()
    ]
    result = metrics.plain({"rows": claims, "initial weights": medians})
    path = directory / "metrics.jsonl"
    path.unlink(missing_ok=True)
    for record in [*result["rows"], *result["initial weights"]]:
        metrics.append(path, record)
    return result
