"""Every entry of the table that is about a framework of JAX matters: changed, it changes the network, or is refused."""

import os

os.environ["KERAS_BACKEND"] = "jax"  # read when Keras is imported

import jax
import numpy as np
import pytest

import jaxrnn
from jaxrnn import interop
from jaxrnn.interop.conventions import CONVENTIONS
from tests.interop.differential import B, D, H, T, drawn, lenient, noisy
from tests.interop.test_flax import without_candidate_bias

for package in ("keras", "flax", "haiku", "equinox"):
    pytest.importorskip(package)
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
ROWS = [row for row in CONVENTIONS if row[0] in CONVERTERS]


def layer_of(framework, kind):
    """Return a layer that the framework has."""
    if kind == "vanilla":
        cell = jaxrnn.vanilla(D, H, activation="relu" if framework == "haiku" else "tanh")
    elif kind == "gru":
        cell = jaxrnn.gru(D, H, reset_after=framework not in ("keras before", "haiku"))
    elif kind == "conv_lstm":
        cell = jaxrnn.conv_lstm((2, D), H, 2)
    else:
        cell = {"lstm": jaxrnn.lstm, "ugrnn": jaxrnn.ugrnn}[kind](D, H)
    if framework in ("haiku", "equinox"):
        return jaxrnn.recurrent(cell)
    return jaxrnn.bidirectional(jaxrnn.recurrent(cell), jaxrnn.recurrent(cell, reverse=True))


def mutations(convention, kind, framework):
    """Return conventions with one thing changed."""
    gates = convention.gates
    by_name = framework == "linen" and kind != "conv_lstm"  # in any order
    for index in range(0 if by_name else len(gates) - 1):
        yield convention._replace(gates=gates[:index] + gates[index + 1] + gates[index] + gates[index + 2 :])
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
        yield convention._replace(carry=convention.carry[::-1])
    if framework not in ("haiku", "equinox"):
        yield convention._replace(directions=convention.directions[::-1])


@pytest.mark.parametrize(("framework", "kind"), ROWS, ids=lambda name: name.replace(" ", "-"))
def test_every_change_is_caught(framework, kind, rng, monkeypatch):
    layer = layer_of(framework, kind)
    to_theirs, from_theirs = CONVERTERS[framework]
    if from_theirs is None:
        from_theirs = lambda made: interop.from_haiku(made, CORES[kind], spatial=(2,) if "conv" in kind else None)
    params = drawn(rng, layer)
    if framework == "nnx" and kind == "gru":
        params = without_candidate_bias(params)
    with lenient():
        theirs = to_theirs(layer, params)
    names = STATES.get(framework, framework)
    state = interop.to_state(names, layer, params, noisy(rng, layer.initial_carry(params, (B,))))
    xs = rng.normal(size=(T, B, *((2, D) if "conv" in kind else (D,)))).astype(np.float32)
    run = jax.jit(lambda params, carry: layer.apply(params, xs, carry)[1])

    def outputs():
        """Return what becomes of their weights and state here, and of those again when they have been there."""
        with lenient():
            made, once = from_theirs(theirs)
            carry = interop.from_state(names, made, once, state)
            written = to_theirs(made, params)
            again = from_theirs(written)[1]
        if framework in ("linen", "haiku"):
            assert jax.tree.structure(written) == jax.tree.structure(theirs)
        return np.array([run(once, carry), run(again, carry)])

    convention, expected = CONVENTIONS[framework, kind], outputs()
    for mutated in mutations(convention, kind, framework):
        monkeypatch.setitem(CONVENTIONS, (framework, kind), mutated)
        try:
            actual = outputs()
        except (ValueError, TypeError, AttributeError, AssertionError, KeyError):
            continue
        assert np.abs(actual - expected).max() > 1e-3, mutated
