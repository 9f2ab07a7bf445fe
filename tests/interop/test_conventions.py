"""Every entry of the table of conventions matters: changed, it changes what a network computes, or is refused."""

import os

os.environ["KERAS_BACKEND"] = "jax"  # read when Keras is imported

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import interop
from jaxrnn.interop.conventions import CONVENTIONS
from jaxrnn.interop.onnx import from_onnx, to_onnx
from tests.interop.differential import B, D, H, T, drawn, lenient, noisy
from tests.interop.onnx_runtime import run_model
from tests.interop.test_flax import without_candidate_bias

for package in ("keras", "flax", "haiku", "equinox"):
    pytest.importorskip(package)
torch = pytest.importorskip("torch")
CONVERTERS = {
    "keras": (interop.to_keras, interop.from_keras),
    "keras before": (interop.to_keras, interop.from_keras),
    "linen": (interop.to_flax, lambda made: interop.from_flax(*made, spatial=(2,))),
    "nnx": (interop.to_nnx, interop.from_flax),
    "haiku": (interop.to_haiku, None),
    "equinox": (interop.to_equinox, interop.from_equinox),
}
CORES = {"vanilla": "VanillaRNN", "lstm": "LSTM", "gru": "GRU", "conv_lstm": "Conv1DLSTM"}
STATES = {"keras before": "keras", "linen": "flax"}
REFUSED = (ValueError, TypeError, AttributeError, AssertionError, KeyError, RuntimeError)


def layer_of(framework, kind):
    """Return a layer that the framework has."""
    if kind == "vanilla":
        cell = jaxrnn.vanilla(D, H, activation="relu" if framework == "haiku" else "tanh")
    elif kind == "gru":
        cell = jaxrnn.gru(D, H, reset_after=framework not in ("keras before", "onnx before", "haiku"))
    elif kind == "conv_lstm":
        cell = jaxrnn.conv_lstm((2, D), H, 2)
    elif framework == "onnx":
        cell = jaxrnn.lstm_variant(D, H, peephole=True)
    else:
        cell = {"lstm": jaxrnn.lstm, "ugrnn": jaxrnn.ugrnn}[kind](D, H)
    if framework in ("haiku", "equinox"):
        return jaxrnn.recurrent(cell)
    return jaxrnn.bidirectional(jaxrnn.recurrent(cell), jaxrnn.recurrent(cell, reverse=True))


def mutations(convention, kind, framework):
    """Return conventions with one thing changed."""

    def swapped(letters):
        for index in range(len(letters) - 1):
            yield letters[:index] + letters[index + 1] + letters[index] + letters[index + 2 :]

    if framework != "linen" or kind == "conv_lstm":  # where linen has the gates by name, in any order
        for gates in swapped(convention.gates):
            yield convention._replace(gates=gates)
    for peepholes in swapped(convention.peepholes):
        yield convention._replace(peepholes=peepholes)
    yield convention._replace(kernels="in_out" if convention.kernels == "out_in" else "out_in")
    for biases in ("one", "two", "candidate"):
        # One bias is read in one way whatever it is called; what is written differs where the framework has a place.
        if biases != convention.biases and convention.biases != "one":
            yield convention._replace(biases=biases)
    if kind == "gru":
        yield convention._replace(reset_after=not convention.reset_after)
        yield convention._replace(update_inverted=not convention.update_inverted)
    if "lstm" in kind:
        yield convention._replace(forget_offset=1.0 - convention.forget_offset)
    if "lstm" in kind and framework != "onnx":  # which has h and c by name
        yield convention._replace(carry=convention.carry[::-1])
    if framework not in ("haiku", "equinox"):
        yield convention._replace(directions=convention.directions[::-1])


def by_torch(layer, params, state, xs):
    """Return what torch computes, and a function of the same from its weights here, and there with ours."""
    module = interop.to_torch(layer, params)
    start = interop.to_torch_state(layer, state)

    def theirs(module):
        with torch.no_grad():
            return module(torch.from_numpy(xs), start)[0].numpy()

    def outputs():
        carry = interop.from_torch_state(layer, start)
        return [run(layer, interop.from_torch(module)[1][0], carry, xs), theirs(interop.to_torch(layer, params))]

    return [theirs(module)] * 2, outputs


def by_onnx(layer, params, state, xs):
    """Return the same of ONNX Runtime, from a state of zeros."""
    model, zeros = to_onnx(layer, params), jax.tree.map(jnp.zeros_like, state)

    def theirs(model):
        return run_model(model, {"xs": xs})["ys"]

    return [theirs(model)] * 2, lambda: [run(layer, from_onnx(model)[1], zeros, xs), theirs(to_onnx(layer, params))]


def by_jax(framework, kind, layer, params, state, xs):
    """Return the outputs of the layer, and a function of what becomes of them by their weights, and by those again.

    That the frameworks compute the same is tested with each of them.
    """
    to_theirs, from_theirs = CONVERTERS[framework]
    if from_theirs is None:
        from_theirs = lambda made: interop.from_haiku(made, CORES[kind], spatial=(2,) if "conv" in kind else None)
    if framework == "nnx" and kind == "gru":
        params = without_candidate_bias(params)
    with lenient():
        theirs = to_theirs(layer, params)
    names = STATES.get(framework, framework)
    start = interop.to_state(names, layer, params, state)

    def outputs():
        with lenient():
            made, once = from_theirs(theirs)
            carry = interop.from_state(names, made, once, start)
            written = to_theirs(made, params)
            again = from_theirs(written)[1]
        if framework in ("linen", "haiku"):
            assert jax.tree.structure(written) == jax.tree.structure(theirs)
        return [run(layer, each, carry, xs) for each in (once, again)]

    return [run(layer, params, state, xs)] * 2, outputs


def run(layer, params, carry, xs):
    return COMPILED.setdefault(layer, jax.jit(layer.apply))(params, xs, carry)[1]


COMPILED = {}


@pytest.mark.parametrize(("framework", "kind"), CONVENTIONS, ids=lambda name: name.replace(" ", "-"))
def test_every_change_is_caught(framework, kind, rng, monkeypatch):
    layer = layer_of(framework, kind)
    params = drawn(rng, layer)
    state = noisy(rng, layer.initial_carry(params, (B,)))
    xs = rng.normal(size=(T, B, *((2, D) if "conv" in kind else (D,)))).astype(np.float32)
    if framework == "torch":
        expected, outputs = by_torch(layer, params, state, xs)
    elif framework.startswith("onnx"):
        expected, outputs = by_onnx(layer, params, state, xs)
    else:
        expected, outputs = by_jax(framework, kind, layer, params, state, xs)
    np.testing.assert_allclose(outputs(), expected, atol=1e-5)
    for mutated in mutations(CONVENTIONS[framework, kind], kind, framework):
        monkeypatch.setitem(CONVENTIONS, (framework, kind), mutated)
        try:
            actual = outputs()
        except REFUSED:
            continue
        assert np.abs(np.subtract(actual, expected)).max() > 1e-3, mutated
