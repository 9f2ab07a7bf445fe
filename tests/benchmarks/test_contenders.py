"""Every contender computes what jaxrnn does, outputs and gradients; and one that does not is caught."""

import functools
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import rnn

import jaxrnn
from benchmarks import measure, races
from benchmarks.contenders import CONTENDERS, cudnn_rnn, naive_scan
from benchmarks.errors import MismatchError, NotApplicableError
from benchmarks.problems import CELLS, Shape, draw, tolerance
from benchmarks.programs import Network, on_one_device

SHAPE = Shape(T=5, B=4, D=3, H=6)
TOLERANCE = tolerance("float32")
PEERS = [name for name in CONTENDERS if name not in ("jaxrnn-1", "cudnn")]


@functools.cache
def expected(kind, variant, mode):
    """Return the results of `jaxrnn.unroll` without its hand-derived backward."""
    problem = draw(kind, SHAPE, options=dict(variant))
    network = Network(problem.params, lambda p, xs: jaxrnn.unroll(problem.cell, p, xs, gradient="autodiff")[1])
    program = on_one_device(network, problem.xs, mode)
    return program.read(program.call())


# Gradients come with outputs; alone, a contender may run another program.
EACH = [(kind, "forward+backward") for kind in CELLS] + [("lstm", "forward")]


@pytest.mark.parametrize(("kind", "mode"), EACH)
@pytest.mark.parametrize("name", PEERS)
def test_a_contender_computes_what_jaxrnn_does(name, kind, mode):
    contender = CONTENDERS[name]
    if importlib.util.find_spec(contender.package) is None:  # not by importing it: Keras must be told its backend first
        pytest.skip(f"{contender.distribution} is not installed")
    options = contender.options_of(kind)
    try:
        program = contender.module.program(draw(kind, SHAPE, options=options), mode, **contender.options)
    except NotApplicableError:
        assert (name, kind) == ("equinox", "vanilla")
        return
    error = measure.check(name, program.read(program.call()), expected(kind, tuple(options.items()), mode), TOLERANCE)
    assert error < 1e-5


def test_every_weight_is_compared_but_for_the_bias_that_flax_lacks():
    pytest.importorskip("flax")
    programs = {
        name: CONTENDERS[name].module.program(draw("gru", SHAPE), "forward+backward", **CONTENDERS[name].options)
        for name in PEERS
        if name != "haiku"
    }
    for name, program in programs.items():
        _, gradients = program.read(program.call())
        assert [field for field, value in gradients._asdict().items() if value is None] == (
            ["candidate_bias"] if name == "flax" else []
        ), name


def test_the_layout_of_cudnn_is_that_of_its_reference():
    problem = draw("lstm", SHAPE)
    T, B, D, H = SHAPE
    weights = rnn.unpack_lstm_weights(cudnn_rnn.pack(problem.params), D, H, 1, False)
    start = jnp.zeros((1, B, H))
    ys, *_ = rnn.lstm_ref(
        problem.xs.swapaxes(0, 1), start, start, *weights, jnp.full((B,), T, jnp.int32), D, H, 1, 0.0, False
    )
    measure.check("cuDNN", np.swapaxes(ys, 0, 1), expected("lstm", (), "forward"), TOLERANCE)
    back = cudnn_rnn.unpack(cudnn_rnn.pack(problem.params), D, H)
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a == b).all()), back, problem.params)))


def test_a_wrong_contender_is_caught_before_it_is_timed(monkeypatch):
    def forgetful(params, carry, x):
        (h, c), y = right(params, carry, x)
        return (h, 0.9 * c), y

    right = naive_scan.STEPS["lstm"]
    monkeypatch.setitem(naive_scan.STEPS, "lstm", forgetful)
    entrants = races.enter(["jaxrnn-1", "naive"], "lstm", SHAPE, "forward")
    monkeypatch.setattr(measure, "interleave", lambda *args, **kwargs: pytest.fail("it was timed"))
    with pytest.raises(MismatchError, match=r"naive: results is off by .* of the largest value, at most 0.001"):
        races.race("peers", "lstm", SHAPE, "forward", entrants, races.Budget())
