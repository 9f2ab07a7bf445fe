"""`check_gradients` passes for every cell, fails for a wrong one, and says which gradient is off."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from tests.registry import CELLS, OPTIONS, D, noisy_params, normal, user_vanilla

LENGTHS = np.array([3, 1])
MASK = np.array([[True, True], [False, True], [True, True]])
RESETS = np.array([[True, False], [True, True], [True, True]])


@pytest.mark.parametrize("entry", [*CELLS, *OPTIONS], ids=str)
def test_every_cell_passes(entry, key, float64):
    """By autodiff, by hand and by differences, with padding, resets, and some cells in reverse."""
    cell = entry.cell(jnp.float64)
    params, xs = noisy_params(cell, key), normal(key, (3, 2, *entry.features))
    options = {"lengths": LENGTHS, "mask": MASK, "resets": RESETS, "reverse": len(entry.name) % 2 == 1}
    check = jaxrnn.check_gradients(cell, xs, params, **options, key=key, verbose=False)
    has_adjoint = cell.adjoint is not None
    has_formulas = has_adjoint and cell.adjoint.gradients is not None
    assert check.worst_difference < 1e-6
    assert check.worst_exact < 1e-10
    for row in check.rows:
        assert (row.adjoint is not None) == has_adjoint
        assert (row.by_hand is not None) == has_formulas


def test_the_table_names_losses_and_leaves(key, capsys):
    cell = jaxrnn.lstm(D, 3)
    check = jaxrnn.check_gradients(cell, jnp.ones((3, 2, D)), key=key)
    printed = capsys.readouterr().out
    assert printed == f"{check}\n"
    heading, *lines = printed.splitlines()
    assert heading.split() == ["loss", "gradient", "of", "norm", "adjoint", "by", "hand", "differences"]
    assert len({len(line) for line in (heading, *lines)}) == 1
    leaves = ["params.input", "params.recurrent", "params.bias", "xs", "carry.h", "carry.c"]
    assert [row.leaf for row in check.rows] == 2 * leaves
    assert [row.loss for row in check.rows] == 6 * ["every step"] + 6 * ["last step"]
    for row, line in zip(check.rows, lines, strict=True):
        assert line.startswith(row.loss)
        assert line.split()[2:] == [
            row.leaf,
            f"{row.norm:.2e}",
            f"{row.adjoint:.1e}",
            f"{row.by_hand:.1e}",
            f"{row.differences:.1e}",
        ]


def test_arguments_are_used(key):
    """The gradients are those at the parameters, inputs and carry given, in their whole precision."""
    cell = user_vanilla(D, 3, dtype=jnp.float64, carry_dtype=None)
    with jax.enable_x64(True):
        params = cell.init(key)
        xs, carry, large = normal(key, (2, D)), jnp.ones(3), jnp.full(3, 1e3)
    check = jaxrnn.check_gradients(cell, xs, params, carry, key=key, verbose=False)
    saturated = jaxrnn.check_gradients(cell, xs, params, large, key=key, verbose=False)
    ours, theirs = ({row.leaf: row.norm for row in c.rows} for c in (check, saturated))
    assert ours["params.w"] > 0
    assert theirs["carry"] < 1e-6 * ours["carry"]


def wrong(adjoint_error=None, gradients_error=None, *, factory=jaxrnn.vanilla):
    """Return a cell with a mistake in its formulas: functions that wrap `Adjoint.backward` or `.gradients`."""
    cell = factory(D, 3)
    adjoint = cell.adjoint
    if adjoint_error is not None:
        adjoint = adjoint._replace(backward=adjoint_error(adjoint.backward))
    if gradients_error is not None:
        adjoint = adjoint._replace(gradients=gradients_error(adjoint.gradients))
    return cell._replace(adjoint=adjoint)


def rows_that_are_off(error):
    """Return {(column, leaf)} with an error above the limit, read from the table in the message."""
    off = set()
    for line in str(error).splitlines()[2:]:
        *_, leaf, _, adjoint, by_hand, differences = line.split()
        off |= {("adjoint", leaf)} if adjoint != "-" and not float(adjoint) < 1e-10 else set()
        off |= {("by hand", leaf)} if by_hand != "-" and not float(by_hand) < 1e-10 else set()
        off |= {("differences", leaf)} if not float(differences) < 1e-6 else set()
    return off


LEAVES = ("params.input", "params.recurrent", "params.bias", "xs", "carry")
WRONG_BACKWARD = {
    "no φ'": lambda backward: lambda u, slope, dh, dy: backward(u, jnp.ones_like(slope), dh, dy),
    "U for Uᵀ": lambda backward: lambda u, slope, dh, dy: backward(u.T, slope, dh, dy),
    "nothing from the step after": lambda backward: lambda u, slope, dh, dy: backward(u, slope, 0 * dh, dy),
    "nothing from the output": lambda backward: lambda u, slope, dh, dy: backward(u, slope, dh, 0 * dy),
    "δ squared": lambda backward: lambda u, slope, dh, dy: backward(u, slope * (dh + dy), dh, dy),
}


@pytest.mark.parametrize("mistake", WRONG_BACKWARD)
def test_a_wrong_backward_step_is_caught(mistake, key):
    cell = wrong(WRONG_BACKWARD[mistake])
    with pytest.raises(AssertionError, match="gradients disagree") as caught:
        jaxrnn.check_gradients(cell, normal(key, (3, 2, D)), key=key, verbose=False)
    assert rows_that_are_off(caught.value) == {(way, leaf) for way in ("adjoint", "by hand") for leaf in LEAVES}


def shifted(gradients):
    """Write h_t where h_{t-1} belongs."""
    return lambda params, xs, hs, dzs, das: gradients(params, xs, jnp.roll(hs, -1, axis=0), dzs, das)


def untransposed(gradients):
    """Write ∂z W where ∂z Wᵀ belongs; D = H, so that shapes do not tell."""

    def wrong_gradients(params, xs, hs, dzs, das):
        dparams, _ = gradients(params, xs, hs, dzs, das)
        return dparams, dzs @ params.input

    return wrong_gradients


def mean_for_sum(gradients):
    def wrong_gradients(params, xs, hs, dzs, das):
        dparams, dxs = gradients(params, xs, hs, dzs, das)
        return dparams._replace(bias=dparams.bias / 2), dxs

    return wrong_gradients


@pytest.mark.parametrize(
    ("mistake", "leaf"), [(shifted, "params.recurrent"), (untransposed, "xs"), (mean_for_sum, "params.bias")]
)
def test_a_wrong_contraction_is_caught_in_its_own_row_alone(mistake, leaf, key):
    cell = wrong(gradients_error=mistake, factory=lambda d, h: jaxrnn.vanilla(d, d))
    with pytest.raises(AssertionError, match="gradients disagree") as caught:
        jaxrnn.check_gradients(cell, normal(key, (3, 2, D)), key=key, verbose=False)
    assert rows_that_are_off(caught.value) == {("by hand", leaf)}


def test_a_gradient_that_is_not_a_number_is_caught(key):
    cell = wrong(lambda backward: lambda u, slope, dh, dy: backward(u, jnp.nan * slope, dh, dy))
    with pytest.raises(AssertionError, match="gradients disagree"):
        jaxrnn.check_gradients(cell, normal(key, (3, 2, D)), key=key, verbose=False)


def test_a_wrong_derivative_of_a_pair_is_caught(key):
    cell = jaxrnn.vanilla(D, 3, activation=(jnp.sin, jnp.sin))
    with pytest.raises(AssertionError, match="gradients disagree") as caught:
        jaxrnn.check_gradients(cell, normal(key, (3, 2, D)), key=key, verbose=False)
    assert ("adjoint", "params.recurrent") in rows_that_are_off(caught.value)


def test_differences_catch_a_wrong_rule_inside_autodiff(key):
    """A user's step may call a function whose own derivative rule is wrong; then only differences tell."""

    @jax.custom_jvp
    def sine(a):
        return jnp.sin(a)

    sine.defjvp(lambda primals, tangents: (jnp.sin(*primals), -jnp.cos(*primals) * tangents[0]))
    cell = jaxrnn.vanilla(D, 3, activation=sine)
    with pytest.raises(AssertionError, match="gradients disagree") as caught:
        jaxrnn.check_gradients(cell, normal(key, (3, 2, D)), key=key, verbose=False)
    assert ("differences", "params.recurrent") in rows_that_are_off(caught.value)
