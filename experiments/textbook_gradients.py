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
import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from experiments import runs
from experiments import textbook_claims as texts
from experiments.textbook_report import Flows, Reading, Row, draw_errors, draw_flows, markdown, power, print_table
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


QUICK = Config(inputs=5, draws=4)


def error(formula: Any, truth: Any) -> float:
    """Return ‖formula - truth‖ / ‖truth‖ over all numbers of two pytrees."""
    formula, truth = (np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)]) for tree in (formula, truth))
    return float(np.linalg.norm(formula - truth) / np.linalg.norm(truth))


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


class Truths(NamedTuple):
    """What the formulas are measured against, all of it by `jax.grad`, `jax.jacobian` and `jaxrnn.unroll`.

    before, by_weights: ∂h_t/∂U at the last step but one, and at the last.
    tensor, by_product, in_chain: ∂y/∂A, ∂L/∂y and ∂L/∂A for y = A x, A = V and x = x_1, under L = ½‖y - ŷ‖².
    y, delta: σ(V h_t), and ∂L/∂(V h_t) for these outputs.
    final: h_T.
    """

    case: texts.Case
    before: Any
    by_weights: Any
    tensor: Any
    by_product: Any
    in_chain: Any
    y: Any
    delta: Any
    final: Any


@functools.partial(jax.jit, static_argnums=(2, 3))
def truths(case_key: jax.Array, goal_key: jax.Array, size: int, time: int) -> Truths:
    """Return a case and its truths, compiled as one program."""
    case = texts.make_case(case_key, size, time)
    net = case.net

    def state(U: jax.Array, t: int) -> jax.Array:
        return texts.states(net._replace(U=U), case.x, jnp.zeros_like(case.h))[t]

    before, by_weights = (jax.jacobian(state)(net.U, t) for t in (time - 2, time - 1))
    A, x, goal = net.V, case.x[0], jax.random.normal(goal_key, (size,))
    tensor = jax.jacobian(lambda A: A @ x)(A)
    in_chain = jax.grad(lambda A: 0.5 * ((A @ x - goal) ** 2).sum())(A)
    o = case.h @ net.V.T
    y, delta = jax.nn.sigmoid(o), jax.grad(lambda o: 0.5 * ((jax.nn.sigmoid(o) - case.target) ** 2).sum())(o)
    cell = jaxrnn.vanilla(size, size, dtype=jnp.float64)
    final = jaxrnn.unroll(cell, jaxrnn.VanillaParams(net.W.T, net.U.T, net.b), case.x)[0]
    return Truths(case, before, by_weights, tensor, A @ x - goal, in_chain, y, delta, final)


def gradient_rows(config: Config) -> list[Row]:
    """Return rows 1 to 11. The formulas are run in NumPy, where nothing has to be compiled."""
    case_key, goal_key, _ = keys(config)
    case, before, by_weights, tensor, by_product, in_chain, y, delta, final = jax.device_get(
        truths(case_key, goal_key, config.size, config.time)
    )
    net, truth, last = case.net, case.dnet, config.time - 1
    right = texts.bptt(case)
    right_loop = error(texts.state_gradients(case), case.dh)
    right_weights = error((right.W, right.U, right.b), (truth.W, truth.U, truth.b))
    A, x = net.V, case.x[0]
    right_product = max(
        error(texts.product_tensor(A, x), tensor), error(texts.product_in_chain(by_product, x), in_chain)
    )
    back, to_input = case.dh[:-1], case.dx[1:]
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
                lambda: jnp.subtract(net.W, texts.delta_rule_claim(case._replace(delta=case.delta[:, :-1])).W),
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


def run(config: Config, directory: pathlib.Path) -> dict[str, Any]:
    """Measure every row; print the table, write it with its figures and two pictures, return the figures."""
    with jax.enable_x64(True):
        gradients = gradient_rows(config)
        flows = texts.measure_flows(keys(config)[2], config.inputs, config.draws)
    rows = [*gradients, *weight_rows(flows)]
    print_table(rows)
    runs.write_text(directory / "table.md", markdown(rows))
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
    worst = max(reading.right for row in gradients for reading in row.readings)
    figure = runs.Row(f"{len(rows)} claims set right: largest relative error of a gradient", worst, "of its norm")
    pictures = {
        "errors.png": "Relative errors of the claims, and of the formulas set right",
        "initial_weights.png": "Growth of the gradient under three ways to draw the initial weights",
    }
    result = metrics.plain(
        {"rows": [figure._asdict()], "pictures": pictures, "claims": claims, "initial weights": medians}
    )
    path = directory / "metrics.jsonl"
    path.unlink(missing_ok=True)
    for record in [*result["claims"], *result["initial weights"]]:
        metrics.append(path, record)
    return result
