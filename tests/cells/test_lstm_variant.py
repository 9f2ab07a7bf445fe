"""The LSTM family: every combination of options by hand against autodiff, and what each option means."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from tests.registry import D, H, assert_trees_close, on_device

T, B, R = 4, 2, 2
EPSILON, CLIP = 1e-3, 0.4
pytestmark = pytest.mark.usefixtures("float64")


def variant(**options):
    return jaxrnn.lstm_variant(D, H, epsilon=EPSILON, dtype=jnp.float64, **options)


def draw(rng, shapes):
    """Return normal numbers in arrays of these shapes, at no cost of compilation."""
    return jax.tree.map(lambda leaf: on_device(rng.standard_normal(leaf.shape), jnp.float64), shapes)


def draw_params(rng, cell):
    return draw(rng, jax.eval_shape(cell.init, jax.random.key(0)))


def one_step(cell, params, carry, x):
    return cell.step(params, carry, cell.inputs(params, x))


def draw_carry(rng, cell, params, batch=()):
    return draw(rng, jax.eval_shape(lambda: cell.initial_carry(params, batch)))


# By hand and by autodiff

ON = [{"peephole": True}, {"coupled": True}, {"cell_clip": CLIP}]
PROJECTIONS = [{}, {"projection_size": R}, {"projection_size": R, "projection_clip": CLIP}]
COMBINATIONS = [
    {name: value for options in chosen for name, value in options.items()} | projection
    for count in range(len(ON) + 1)
    for chosen in itertools.combinations(ON, count)
    for projection in PROJECTIONS
]
ACTIVATIONS = itertools.cycle([("sigmoid", "tanh", "tanh"), ((jnp.sin, jnp.cos), jnp.arctan, "sigmoid")])


@pytest.mark.parametrize("normalization", [None, "before_bias", "ba2016"])
def test_one_step_of_every_combination(normalization, rng):
    """The backward of the step, and the gradients of the parameters, by formula and through the products."""
    for options, activations in zip(COMBINATIONS, ACTIVATIONS, strict=False):
        cell = variant(normalization=normalization, activations=activations, **options)
        params = draw_params(rng, cell)
        carry, x = draw_carry(rng, cell, params, (B,)), jnp.array(rng.standard_normal((B, D)))
        results, transpose = jax.vjp(functools.partial(one_step, cell), params, carry, x)
        dcarry, dy = draw(rng, results)

        assert cell.adjoint is not None
        assert cell.adjoint.gradients is not None
        forward, transposed, backward, product, *_ = cell.adjoint
        after, y, operands, saved = forward(params, carry, cell.inputs(params, x))
        dbefore, dz, da = backward(transposed(params), saved, dcarry, dy)
        dparams, dx = cell.adjoint.gradients(params, x, operands, dz, da)
        assert_trees_close((after, y), results, tolerance=0)
        assert_trees_close((dparams, dbefore, dx), transpose((dcarry, dy)))

        _, through_product = jax.vjp(functools.partial(product, operands=operands), params)
        _, through_inputs = jax.vjp(functools.partial(cell.inputs, xs=x), params)
        assert_trees_close(jax.tree.map(jnp.add, *through_product(da), *through_inputs(dz)), dparams)


def test_without_options_it_is_the_lstm(rng):
    """With the same weights, in values and gradients."""
    cells = jaxrnn.lstm(D, H, dtype=jnp.float64), variant()
    params, xs = draw_params(rng, cells[0]), rng.standard_normal((T, B, D))
    cotangents = jaxrnn.LSTMCarry(*rng.standard_normal((2, B, H))), rng.standard_normal((T, B, H))

    def run(cell, kind, weights, xs):
        return jaxrnn.unroll(cell, kind(*weights), xs, resets=np.arange(T * B).reshape(T, B) % 3 == 1)

    @jax.jit
    def both(weights, xs, cotangents):
        results = []
        for cell, kind in zip(cells, (jaxrnn.LSTMParams, jaxrnn.LSTMVariantParams), strict=True):
            values, transpose = jax.vjp(functools.partial(run, cell, kind), weights, xs)
            results.append((values, transpose(cotangents)))
        return results

    assert_trees_close(*both(tuple(params), xs, cotangents))


# Each equation as its paper has it, one matrix per gate


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def norm(a):
    return (a - a.mean()) / np.sqrt(a.var() + EPSILON)


def gates(array, names="ifgo"):
    """Return the columns of each gate by name."""
    return dict(zip(names, np.split(np.asarray(array), len(names), axis=-1), strict=True))


def products(params, x, h, names="ifgo"):
    W, U = gates(params.input, names), gates(params.recurrent, names)
    return {gate: W[gate].T @ x + U[gate].T @ h for gate in names}


def peephole(params, x, h, c):
    """Gers and Schmidhuber (2000)."""
    a, b, p = products(params, x, h), gates(params.bias), gates(params.peephole, "ifo")
    i, f = (sigmoid(a[gate] + b[gate] + p[gate] * c) for gate in "if")
    c = f * c + i * np.tanh(a["g"] + b["g"])
    return sigmoid(a["o"] + b["o"] + p["o"] * c) * np.tanh(c), c


def coupled(params, x, h, c):
    """The CIFG of Greff et al. (2017), with peepholes."""
    a, b, p = products(params, x, h, "igo"), gates(params.bias, "igo"), gates(params.peephole, "io")
    i = sigmoid(a["i"] + b["i"] + p["i"] * c)
    c = (1 - i) * c + i * np.tanh(a["g"] + b["g"])
    return sigmoid(a["o"] + b["o"] + p["o"] * c) * np.tanh(c), c


def projected(params, x, h, c):
    """Sak, Senior and Beaufays (2014), with both clips."""
    a, b, P = products(params, x, h), gates(params.bias), np.asarray(params.projection)
    c = sigmoid(a["f"] + b["f"]) * c + sigmoid(a["i"] + b["i"]) * np.tanh(a["g"] + b["g"])
    c = np.maximum(np.minimum(c, CLIP), -CLIP)
    h = P.T @ (sigmoid(a["o"] + b["o"]) * np.tanh(c))
    return np.maximum(np.minimum(h, CLIP), -CLIP), c


def normalized_before_the_bias(params, x, h, c):
    """The layer norm of TensorFlow Lite, with its peepholes."""
    a, b, p, gain = products(params, x, h), gates(params.bias), gates(params.peephole, "ifo"), gates(params.gain)
    i, f = (sigmoid(gain[gate] * norm(a[gate] + p[gate] * c) + b[gate]) for gate in "if")
    c = f * c + i * np.tanh(gain["g"] * norm(a["g"]) + b["g"])
    return sigmoid(gain["o"] * norm(a["o"] + p["o"] * c) + b["o"]) * np.tanh(c), c


def ba2016(params, x, h, c):
    """Equations 20 to 22 of Ba, Kiros and Hinton (2016)."""
    W, U, b, input_gain, recurrent_gain, cell_gain, cell_bias = (
        np.asarray(params._asdict()[name])
        for name in ("input", "recurrent", "bias", "input_gain", "recurrent_gain", "cell_gain", "cell_bias")
    )
    a = gates(recurrent_gain * norm(U.T @ h) + input_gain * norm(W.T @ x) + b)
    c = sigmoid(a["f"]) * c + sigmoid(a["i"]) * np.tanh(a["g"])
    return sigmoid(a["o"]) * np.tanh(cell_gain * norm(c) + cell_bias), c


EQUATIONS = {
    peephole: {"peephole": True},
    coupled: {"coupled": True, "peephole": True},
    projected: {"projection_size": R, "cell_clip": CLIP, "projection_clip": CLIP},
    normalized_before_the_bias: {"peephole": True, "normalization": "before_bias"},
    ba2016: {"normalization": "ba2016"},
}


@pytest.mark.parametrize("equations", EQUATIONS, ids=lambda equations: equations.__name__)
def test_values_are_those_of_the_equations(equations, rng):
    cell = variant(**EQUATIONS[equations])
    params, xs = draw_params(rng, cell), rng.standard_normal((T, D))
    start = draw_carry(rng, cell, params)
    final, ys = jax.jit(functools.partial(jaxrnn.unroll, cell))(params, xs, start)
    h, c = map(np.asarray, start)
    for x, y in zip(xs, np.asarray(ys), strict=True):
        h, c = equations(params, x, h, c)
        np.testing.assert_allclose(y, h, rtol=0, atol=1e-13)
    np.testing.assert_allclose(final.c, c, rtol=0, atol=1e-13)


def coupled_to_the_forget_gate(params, x, h, c):
    """The CIFG of TensorFlow Lite, i = 1 - f, with peepholes and its layer norm."""
    a, b, p = products(params, x, h, "fgo"), gates(params.bias, "fgo"), gates(params.peephole, "fo")
    gain = gates(params.gain, "fgo")
    f = sigmoid(gain["f"] * norm(a["f"] + p["f"] * c) + b["f"])
    c = f * c + (1 - f) * np.tanh(gain["g"] * norm(a["g"]) + b["g"])
    return sigmoid(gain["o"] * norm(a["o"] + p["o"] * c) + b["o"]) * np.tanh(c), c


def test_gates_coupled_the_other_way_round_have_negated_weights(rng):
    cell = variant(coupled=True, peephole=True, normalization="before_bias")
    params, x = draw_params(rng, cell), on_device(rng.standard_normal(D), jnp.float64)
    start = draw_carry(rng, cell, params)
    expected = coupled_to_the_forget_gate(params, np.asarray(x), *map(np.asarray, start))
    negated = {name: np.array(params._asdict()[name]) for name in ("input", "recurrent", "bias", "peephole")}
    for weights in negated.values():
        weights[..., :H] *= -1
    params = params._replace(**negated)
    (h, c), _ = jax.jit(one_step, static_argnums=0)(cell, params, start, x)
    np.testing.assert_allclose([h, c], expected, rtol=0, atol=1e-13)


def test_clips_hold(rng):
    """And neither holds everything."""
    cell = variant(cell_clip=CLIP, projection_size=R, projection_clip=CLIP)
    params = draw_params(rng, cell)
    after, _ = jax.jit(one_step, static_argnums=0)(cell, params, draw_carry(rng, cell, params, (50,)), np.ones((50, D)))
    for state in after:
        assert np.abs(state).max() == CLIP
        assert np.abs(state).min() < CLIP


# Where it starts


@pytest.mark.parametrize(("coupled", "expected"), [(False, [0, 3, 0, 0]), (True, [-3, 0, 0])])
def test_forget_bias_is_in_the_gate_that_forgets(coupled, expected, key):
    params = jaxrnn.lstm_variant(D, H, coupled=coupled, forget_bias=3).init(key)
    np.testing.assert_array_equal(params.bias, np.repeat(np.array(expected, float), H))


def test_initializers_and_gains(key):
    """Recurrent weights and projection by one, bias and peepholes by another; norms start as norms."""
    values = {"input_init": 1.0, "recurrent_init": 2.0, "bias_init": 3.0}
    inits = {name: jaxrnn.initializers.constant(value) for name, value in values.items()}
    options = {"peephole": True, "projection_size": R, "forget_bias": 0.0, **inits}
    starts = {"input": 1, "recurrent": 2, "projection": 2, "bias": 3, "peephole": 3}
    gains = {"gain": 1, "input_gain": 1, "recurrent_gain": 1, "cell_gain": 1, "cell_bias": 0}
    for normalization, there in ((None, []), ("before_bias", ["gain"]), ("ba2016", list(gains)[1:])):
        params = jaxrnn.lstm_variant(D, H, normalization=normalization, **options).init(key)._asdict()
        for name, value in (starts | {name: gains[name] for name in there}).items():
            np.testing.assert_array_equal(params[name], value)
        assert all(params[name] is None for name in gains.keys() - set(there))


def test_recurrent_weights_are_orthogonal_gate_by_gate(key):
    params = jaxrnn.lstm_variant(D, 6, projection_size=4).init(key)
    recurrent, projection = np.asarray(params.recurrent), np.asarray(params.projection)
    for block in np.split(recurrent, 4, axis=1):
        np.testing.assert_allclose(block @ block.T, np.eye(4), atol=1e-6)
    np.testing.assert_allclose(projection.T @ projection, np.eye(4), atol=1e-6)
