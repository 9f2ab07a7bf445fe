"""Each claim is really wrong, each right formula right, and the listings really raise."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from experiments import runs, textbook_claims, textbook_gradients, textbook_report

CLAIMS = 14
MARGIN = 0.05  # of relative error: the least that counts as wrong


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    directory = tmp_path_factory.mktemp("textbook")
    config = textbook_gradients.Config()
    return textbook_gradients.run(config, directory), directory


@pytest.fixture
def case():
    with jax.enable_x64(True):
        yield textbook_claims.make_case(jax.random.key(1), size=4, time=6)


def readings(result, number):
    return {reading["how"]: reading for reading in result[0]["claims"][number - 1]["readings"]}


@pytest.mark.parametrize("number", range(1, 12))
def test_the_claim_is_wrong_and_the_right_formula_is_right(result, number):
    for reading in readings(result, number).values():
        assert reading["right"] <= 1e-12
        assert reading["raised"] is not None or reading["error"] > MARGIN


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_verdicts_do_not_hang_on_the_seed(seed):
    with jax.enable_x64(True):
        rows = textbook_gradients.gradient_rows(textbook_gradients.Config(seed=seed))
    for row in rows:
        assert all(reading.right <= 1e-12 for reading in row.readings)
        assert all(reading.raised or (reading.error or 0) > MARGIN for reading in row.readings), row.claim


@pytest.mark.parametrize(
    ("number", "how", "message"),
    [
        (9, "W_x - ΔW_x with one output less, K = H - 1", "TypeError: sub got incompatible shapes"),
        (10, "the listing", "UnboundLocalError: cannot access local variable 'h_t'"),
        (11, "the listing", "ValueError: could not broadcast input array from shape (4,4) into shape (4,)"),
    ],
)
def test_what_cannot_run_raises(result, number, how, message):
    assert readings(result, number)[how]["raised"].startswith(message)


def test_the_listings_raise_outside_the_table_too(case):
    with pytest.raises(UnboundLocalError, match="h_t"):
        textbook_claims.run_listing(textbook_claims.MINUS_ONE, case.net, case.x)
    column = case.net._replace(b=case.net.b[:, None])
    with pytest.raises(ValueError, match="broadcast"):
        textbook_claims.run_listing(textbook_claims.STATES_STORED, column, case.x)


def test_the_network_is_the_vanilla_cell(case):
    cell = jaxrnn.vanilla(4, 4, dtype=jnp.float64)
    params = jaxrnn.VanillaParams(case.net.W.T, case.net.U.T, case.net.b)
    _, hs = jaxrnn.unroll(cell, params, case.x)
    by_hand = jaxrnn.bptt(cell, params, case.x, dys=case.delta @ case.net.V)
    np.testing.assert_allclose(case.h, hs, rtol=1e-12)
    np.testing.assert_allclose(case.dnet.W.T, by_hand.params.input, rtol=1e-10)
    np.testing.assert_allclose(case.dnet.U.T, by_hand.params.recurrent, rtol=1e-10)
    np.testing.assert_allclose(case.dnet.b, by_hand.params.bias, rtol=1e-10)
    np.testing.assert_allclose(case.dx, by_hand.xs, rtol=1e-10)


def test_the_one_step_claim_is_the_gradient_of_a_network_whose_past_is_constant(case):
    def loss(net):
        h = jnp.tanh(case.x @ net.W.T + jax.lax.stop_gradient(case.h_before) @ net.U.T + net.b[None])
        return 0.5 * ((h @ net.V.T - case.target) ** 2).sum()

    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-10),
        textbook_claims.one_step_claim(case),
        jax.grad(loss)(case.net),
    )


def test_the_claim_for_an_input_has_the_size_of_the_state():
    with jax.enable_x64(True):
        case = textbook_claims.make_case(jax.random.key(0), size=4, time=6)
        narrow = case._replace(x=case.x[:, :2], net=case.net._replace(W=case.net.W[:, :2]))
        assert textbook_claims.squared_claim(narrow, textbook_claims.mixed_slope(narrow)).shape == (5, 4)
        assert textbook_claims.input_gradients(narrow).shape == (6, 2)


def start(result, name, units):
    return next(s for s in result[0]["initial weights"] if s["start"] == name and s["units"] == units)


def growth(result, number):
    return [reading["growth"][0] for reading in result[0]["claims"][number - 1]["readings"]]


def test_unscaled_normal_weights_saturate_and_explode(result):
    # One network was measured at 10⁴ over 20 steps with 50 units and at 10¹⁶ over 50 steps with 128.
    for reading, measured in zip(result[0]["claims"][11]["readings"], (4, 16), strict=True):
        median, least, most = reading["growth"]
        assert least <= measured <= most
        assert abs(median - measured) < 2
    assert 0.05 < start(result, "N(0, 1)", 128)["slope"] < start(result, "N(0, 1)", 50)["slope"] < 0.15
    assert 1 < start(result, "N(0, 1)", 50)["h_slope2"] < start(result, "N(0, 1)", 128)["h_slope2"]


def test_small_weights_vanish(result):
    norms = start(result, "0.01 · N(0, 1)", 50)["norms"]
    assert -22.5 <= np.log10(norms[-20]) <= -21.3  # after 19 steps
    assert growth(result, 13)[0] == pytest.approx(np.log10(norms[0]), abs=0.1)
    assert growth(result, 13)[1] < -45


def test_uniform_weights_have_one_dominant_eigenvalue(result):
    for units in textbook_claims.SIZES:
        flow = start(result, "uniform on [0, 1)", units)
        assert flow["radius"] == pytest.approx(units / 2, rel=0.05)
        assert flow["last_slope"] < 1e-10
        assert flow["norms"][0] == 0
        linear = start(result, "uniform on [0, 1), without tanh", units)
        steps = textbook_claims.SIZES[units]
        assert np.log10(linear["norms"][0]) == pytest.approx(steps * np.log10(units / 2), rel=0.1)


def test_right_starts_lose_only_what_the_slope_takes(result):
    for units, steps in textbook_claims.SIZES.items():
        flow = start(result, "orthogonal U", units)
        assert flow["radius"] == pytest.approx(1, abs=1e-6)
        assert np.log10(flow["norms"][0]) == pytest.approx(0.5 * steps * np.log10(flow["growth2"]), abs=1)
        assert all(s["error"] < 1e-12 for s in result[0]["initial weights"])


def test_it_writes_a_table_figures_and_pictures(result):
    _, directory = result
    table = (directory / "table.md").read_text(encoding="utf-8").splitlines()
    assert sum(line.startswith(tuple(f"| {n} |" for n in range(1, CLAIMS + 1))) for line in table) == CLAIMS
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["row"] for line in lines if "row" in line] == list(range(1, CLAIMS + 1))
    for name in ("errors.png", "initial_weights.png"):
        assert (directory / name).read_bytes().startswith(b"\x89PNG")


def test_subscripts_are_typeset():
    assert textbook_report.typeset("∂h_{t-1}/∂W_h = φ'_t x_tᵀ") == "∂$h_{t-1}$/∂$W_{h}$ = $φ'_{t}$ $x_{t}$ᵀ"


def test_bad_options_are_named():
    with pytest.raises(runs.InputError, match="--size: expected at least 2, got 1"):
        textbook_gradients.Config(size=1)
