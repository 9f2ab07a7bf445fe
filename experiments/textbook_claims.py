"""The claims of `experiments.textbook_gradients`, as functions: each wrong formula beside the right one.

The network is a_t = W x_t + U h_{t-1} + b, h_t = tanh(a_t), y_t = V h_t, L = Σ_t ½‖y_t - ŷ_t‖², in the column
form of the texts; δ_t = y_t - ŷ_t, ŷ_t the target. The first line of a docstring is the formula as printed.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from jaxrnn.analysis import gradient_norms, spectral_radius

Array = jax.Array


class Net(NamedTuple):
    """W ``[H, D]``, U ``[H, H]``, b ``[H]``, V ``[K, H]``, as columns are multiplied."""

    W: Array
    U: Array
    b: Array
    V: Array


class Case(NamedTuple):
    """A network, its data and its truth, time first, from t = 1; ``h_before`` is h_0..h_{T-1}.

    dnet, dx and dh are ∂L/∂(W, U, b, V), ∂L/∂x_t and ∂L/∂h_t by `jax.grad`; slope is φ'(a_t) = 1 - h_t².
    """

    net: Net
    x: Array
    target: Array
    h: Array
    h_before: Array
    slope: Array
    delta: Array
    dnet: Net
    dx: Array
    dh: Array


def states(net: Net, xs: Array, nudges: Array) -> Array:
    """Return h_1..h_T, h_t = tanh(W x_t + U h_{t-1} + b) + ε_t, in the plainest way."""
    h, hs = jnp.zeros_like(net.b), []
    for x, nudge in zip(xs, nudges, strict=True):
        h = jnp.tanh(net.W @ x + net.U @ h + net.b) + nudge
        hs.append(h)
    return jnp.stack(hs)


def loss(net: Net, xs: Array, targets: Array, nudges: Array) -> Array:
    """Return L = Σ_t ½‖V h_t - ŷ_t‖²."""
    return 0.5 * ((states(net, xs, nudges) @ net.V.T - targets) ** 2).sum()


def make_case(key: Array, size: int, time: int) -> Case:
    """Draw a network and its data, and differentiate it by `jax.grad`."""
    keys = jax.random.split(key, 6)
    W, U, V = (jax.random.normal(k, (size, size)) / size**0.5 for k in keys[:3])
    net = Net(W, U, jax.random.normal(keys[3], (size,)) / size**0.5, V)
    x, target = (jax.random.normal(k, (time, size)) for k in keys[4:])
    zeros = jnp.zeros((time, size))
    h = states(net, x, zeros)
    h_before = jnp.concatenate([zeros[:1], h[:-1]])
    dnet, dx, dh = jax.grad(loss, argnums=(0, 1, 3))(net, x, target, zeros)
    return Case(net, x, target, h, h_before, 1 - h**2, h @ V.T - target, dnet, dx, dh)


# --- 1. the derivative of a state with respect to the recurrent weights ---------------------------------


def state_by_weights_claim(case: Case, t: int, before: Array) -> Array:
    """∂h_t/∂U = (∂h_t/∂h_{t-1}) (∂h_{t-1}/∂U): the direct dependence of h_t on U is lost."""
    return jnp.einsum("i,ij,jkl->ikl", case.slope[t], case.net.U, before)


def state_by_weights(case: Case, direct: bool = True) -> Array:
    """∂h_t/∂U = (∂h_t/∂h_{t-1}) (∂h_{t-1}/∂U) + ∂⁺h_t/∂U,  (∂⁺h_t/∂U)_ijk = φ'(a_t)_i δ_ij (h_{t-1})_k.

    It runs from ∂h_0/∂U = 0 to t = T; without the ``direct`` term it runs as claimed.
    """
    size = len(case.net.b)
    total = jnp.zeros((size,) * 3)
    for t in range(len(case.x)):
        at_t = jnp.einsum("i,ij,k->ijk", case.slope[t], jnp.eye(size), case.h_before[t])
        total = state_by_weights_claim(case, t, total) + (at_t if direct else 0)
    return total


# --- 2. the derivative of a product with respect to its matrix -------------------------------------------


def product_claim(A: Array, x: Array) -> Array:
    """∂y/∂A = xᵀ for y = A x: one row, in place of the K×K×D numbers ∂y_i/∂A_jk."""
    return jnp.broadcast_to(x, (*A.shape[:1], *A.shape))


def product_tensor(A: Array, x: Array) -> Array:
    """∂y_i/∂A_jk = δ_ij x_k."""
    return jnp.einsum("ij,k->ijk", jnp.eye(len(A)), x)


def product_in_chain(g: Array, x: Array) -> Array:
    """∂L/∂A = g xᵀ with g = ∂L/∂y: what the tensor above comes to in a chain."""
    return jnp.outer(g, x)


# --- 3, 4. one step back, to the state and to the input --------------------------------------------------


def squared_claim(case: Case, slope: Array) -> Array:
    """∂L/∂h_{t-1} and ∂L/∂x_t = ∂L/∂h_t ⊙ δ_t ⊙ φ'(·) with δ_t = ∂L/∂h_t, for t = 2..T: squared, no weights."""
    return case.dh[1:] * case.dh[1:] * slope


def mixed_slope(case: Case) -> Array:
    """φ'(W x_{t-1} + U h_{t-1} + b) for t = 2..T: the input of one step beside the state of another."""
    return 1 - jnp.tanh(case.x[:-1] @ case.net.W.T + case.h_before[1:] @ case.net.U.T + case.net.b[None]) ** 2


def state_gradients(case: Case) -> Array:
    """∂L/∂h_{t-1} = Uᵀ(φ'(a_t) ⊙ ∂L/∂h_t) + Vᵀδ_{t-1}, from t = T down: the right backward loop."""
    dhs, later = [], jnp.zeros_like(case.net.b)
    for slope, delta in zip(case.slope[::-1], case.delta[::-1], strict=True):
        dh = case.net.V.T @ delta + later
        later = case.net.U.T @ (slope * dh)
        dhs.append(dh)
    return jnp.stack(dhs[::-1])


def input_gradients(case: Case) -> Array:
    """∂L/∂x_t = Wᵀ(φ'(a_t) ⊙ ∂L/∂h_t)."""
    return (case.slope * state_gradients(case)) @ case.net.W


# --- 5. tanh' of the wrong step ---------------------------------------------------------------------------


def early_slope_outside_claim(case: Case) -> Array:
    """∂L/∂h_t = Vᵀδ_t + ∂L/∂h_{t+1} Uᵀ(1-h_t²), read as (Uᵀ ∂L/∂h_{t+1}) ⊙ (1-h_t²)."""
    return case.delta[:-1] @ case.net.V + (case.dh[1:] @ case.net.U) * case.slope[:-1]


def early_slope_inside_claim(case: Case) -> Array:
    """∂L/∂h_t = Vᵀδ_t + ∂L/∂h_{t+1} Uᵀ(1-h_t²), read as Uᵀ((1-h_t²) ⊙ ∂L/∂h_{t+1})."""
    return case.delta[:-1] @ case.net.V + (case.dh[1:] * case.slope[:-1]) @ case.net.U


# --- 6, 7. the gradients of the weights -------------------------------------------------------------------


def weight_gradients(da: Array, case: Case) -> Net:
    """∇W = Σ da_t x_tᵀ, ∇U = Σ da_t h_{t-1}ᵀ, ∇b = Σ da_t, ∇V = Σ δ_t h_tᵀ, right for da_t = (1-h_t²) ⊙ ∂L/∂h_t."""
    return Net(da.T @ case.x, da.T @ case.h_before, da.sum(0), case.delta.T @ case.h)


def no_slope_claim(case: Case) -> Net:
    """∇W = Σ_t x_t ∂L/∂h_t, ∇U = Σ_t h_{t-1} ∂L/∂h_t: without tanh'. (Laid out as W and U are.)"""
    return weight_gradients(case.dh, case)


def one_step_claim(case: Case) -> Net:
    """dh_t = Vᵀδ_t ⊙ (1-h_t²) alone in the backward loop: nothing passes from t+1 to t."""
    return weight_gradients((case.delta @ case.net.V) * case.slope, case)


def bptt(case: Case) -> Net:
    """∇W = Σ_t ((1-h_t²) ⊙ ∂L/∂h_t) x_tᵀ, ∇U the same with h_{t-1}ᵀ, after the right backward loop."""
    return weight_gradients(case.slope * state_gradients(case), case)


# --- 8. a sigmoid output under squared error --------------------------------------------------------------


def output_delta_claim(y: Array, target: Array) -> Array:
    """δ_t = y_t - ŷ_t for y = σ(V h) under squared error: lacks σ' (it is right under cross-entropy)."""
    return y - target


def output_delta(y: Array, target: Array) -> Array:
    """δ_t = (y_t - ŷ_t) ⊙ y_t (1 - y_t)."""
    return (y - target) * y * (1 - y)


# --- 9. an update without a chain rule --------------------------------------------------------------------


def delta_rule_claim(case: Case) -> Net:
    """ΔW_x and ΔW_h = (y_t - ŷ_t) times the input: Σ δ_t x_tᵀ and Σ δ_t h_{t-1}ᵀ; b_h is never updated."""
    return weight_gradients(case.delta, case)._replace(b=jnp.zeros_like(case.net.b))


# --- 10, 11. listings that cannot run ---------------------------------------------------------------------

MINUS_ONE = """
def forward(W, U, b, xs):
    for x in xs:
        h_t = np.tanh(W @ x + U @ (h_t - 1) + b)
    return h_t
"""

STATE_KEPT = """
def forward(W, U, b, xs):
    h = np.zeros(len(U))
    for x in xs:
        h = np.tanh(W @ x + U @ h + b)
    return h
"""

STATES_STORED = """
def forward(W, U, b, xs):
    h = np.zeros((len(xs) + 1, len(U)))
    for t, x in enumerate(xs):
        h[t + 1] = np.tanh(W @ x + U @ h[t] + b)
    return h[-1]
"""


def run_listing(listing: str, net: Net, xs: Array) -> np.ndarray:
    """Run a NumPy listing as it is printed and return its last state."""
    scope: dict[str, Any] = {"np": np}
    exec(listing, scope)
    return scope["forward"](*(np.asarray(array) for array in (net.W, net.U, net.b, xs)))


# --- 12, 13, 14. initial weights ---------------------------------------------------------------------------


class Start(NamedTuple):
    """A way to draw W and U, and φ; ``claimed`` says that a text recommends it."""

    name: str
    init: Callable
    input_init: Callable
    activation: str = "tanh"
    claimed: bool = True


class Flow(NamedTuple):
    """What the gradient does under a `Start`: ``norms [draws, T]``, ‖∂L/∂h_t‖ / ‖∂L/∂h_T‖, and why.

    error is the largest error of these norms by the right backward loop against `jax.grad`. The others
    are medians over the draws: mean φ' over all steps and at the last, H·E[φ'²], that times the variance of
    the weights (expected growth of the squared norm per step), and, of five draws, the spectral radius of U.
    """

    norms: np.ndarray
    error: float
    slope: float
    last_slope: float
    h_slope2: float
    growth2: float
    radius: float

    def decades(self) -> tuple[float, float, float]:
        """Return log10 of the growth from the last step to the first: median, least, most over the draws."""
        with np.errstate(divide="ignore"):
            logs = np.log10(self.norms[:, 0])
        return float(np.median(logs)), float(logs.min()), float(logs.max())


def unit_interval(key: Array, shape: Any, dtype: Any) -> Array:
    """Draw from the uniform distribution on [0, 1)."""
    return jax.random.uniform(key, shape, dtype)


def starts() -> list[Start]:
    """Return the three starts that are claimed, one of them also with linear units, and the right ones."""
    draw = jaxrnn.initializers
    return [
        Start("N(0, 1)", draw.normal(1.0), draw.normal(1.0)),
        Start("0.01 · N(0, 1)", draw.normal(0.01), draw.normal(0.01)),
        Start("uniform on [0, 1)", unit_interval, unit_interval),
        Start("uniform on [0, 1), without tanh", unit_interval, unit_interval, activation="identity"),
        Start("N(0, 1/fan-in)", draw.fan_in(), draw.fan_in(), claimed=False),
        Start("orthogonal U", draw.orthogonal(), draw.fan_in(), claimed=False),
    ]


SIZES = {50: 20, 128: 50}  # units: steps back


def measure_flows(key: Array, inputs: int, draws: int) -> dict[tuple[str, int], Flow]:
    """Draw networks from every start, by name and units, and follow the gradient `SIZES[units]` steps back."""
    flows = {}
    for units, steps in SIZES.items():
        follow = {activation: _follow(inputs, units, activation) for activation in ("tanh", "identity")}
        for start in starts():
            key, net_key, x_key, g_key = jax.random.split(key, 4)
            cell = jaxrnn.vanilla(
                inputs, units, input_init=start.input_init, recurrent_init=start.init, dtype=jnp.float64
            )
            params = jax.vmap(cell.init)(jax.random.split(net_key, draws))
            xs, g = jax.random.normal(x_key, (draws, steps + 1, inputs)), jax.random.normal(g_key, (draws, units))
            norms, wrong_by, *why = follow[start.activation](params, xs, g)
            medians = (float(jnp.median(number)) for number in (*why, spectral_radius(params.recurrent[:5])))
            flows[start.name, units] = Flow(np.asarray(norms), float(wrong_by.max()), *medians)
    return flows


def _follow(inputs: int, units: int, activation: str) -> Callable:
    """Return a function of draws of (params, xs, g) that gives the fields of `Flow` but the last, for L = g·h_T."""
    cell = jaxrnn.vanilla(inputs, units, activation=activation, dtype=jnp.float64)

    def one(params: jaxrnn.VanillaParams, xs: Array, g: Array) -> tuple[Array, ...]:
        norms = gradient_norms(cell, params, xs, lambda hs: hs[-1] @ g).total
        hs = jaxrnn.unroll(cell, params, xs)[1]
        slope = 1 - hs**2 if activation == "tanh" else jnp.ones_like(hs)

        def back(dh: Array, slope: Array) -> tuple[Array, Array]:
            return params.recurrent @ (slope * dh), jnp.linalg.norm(dh)

        by_hand = jax.lax.scan(back, g, slope, reverse=True)[1]
        wrong_by = jnp.abs(by_hand - norms).max() / norms.max()
        h_slope2 = units * (slope**2).mean()
        why = slope.mean(), slope[-1].mean(), h_slope2, h_slope2 * params.recurrent.var()
        return norms / norms[-1], wrong_by, *why

    return jax.jit(jax.vmap(one))
