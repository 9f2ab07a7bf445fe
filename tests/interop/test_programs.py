"""Exported layers: one program for every length and batch, which runs where this library is not."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

import jaxrnn
from jaxrnn.interop import export_layer
from jaxrnn.interop.programs import plain
from tests.interop.differential import drawn
from tests.registry import assert_trees_close

VECTOR, TOKEN = jax.ShapeDtypeStruct((3,), jnp.float32), jax.ShapeDtypeStruct((), jnp.int32)
MODEL = jaxrnn.serial(
    jaxrnn.embedding(7, 3), jaxrnn.recurrent(jaxrnn.lstm(3, 4)), jaxrnn.dropout(0.1), jaxrnn.dense(4, 2)
)


def tokens(rng, *shape):
    return rng.integers(7, size=shape).astype(np.int32)


def test_the_programs_compute_what_the_layer_does(rng):
    params = drawn(rng, MODEL)
    programs = export_layer(MODEL, params, TOKEN)
    assert programs.step is not None
    assert MODEL.step is not None
    every = programs.apply, programs.start, programs.step
    apply, start, step = (export.deserialize(each.serialize()).call for each in every)
    for time, batch in ((1, 1), (5, 2)):
        xs, lengths = tokens(rng, time, batch), np.arange(time - batch + 1, time + 1, dtype=np.int32)
        after = jax.jit(MODEL.apply)(params, xs, lengths=lengths)
        assert_trees_close(apply(xs, lengths), plain(after), 1e-5)
        assert_trees_close(start(xs[0]), plain(MODEL.initial_carry(params, (batch,))), 1e-5)
        again = jax.jit(MODEL.step)(params, after[0], xs[0])
        assert_trees_close(step(plain(after[0]), xs[0]), plain(again), 1e-5)


def test_a_program_has_the_gradient_of_its_parameters(rng):
    """Both directions, checkpoints and unrolled steps, which are left out, and an output for every second step."""
    cell = jaxrnn.vanilla(3, 4)
    choices = {"checkpoint": "sqrt", "unroll_factor": 2}
    forward, backward = (jaxrnn.recurrent(cell, reverse=reverse, **choices) for reverse in (False, True))
    layer = jaxrnn.serial(jaxrnn.bidirectional(forward, backward), jaxrnn.time_reduction(2))
    params, xs = drawn(rng, layer), rng.standard_normal((5, 2, 3), np.float32)
    programs = export_layer(layer, params, VECTOR, inside=False)
    assert programs.step is None
    program = export.deserialize(programs.apply.serialize(vjp_order=1))
    lengths = np.array([5, 2], np.int32)
    actual = jax.jit(jax.grad(lambda weights: program.call(weights, xs, lengths)[1].sum()))(plain(params))
    expected = jax.jit(jax.grad(lambda params: layer.apply(params, xs, lengths=lengths)[1].sum()))(params)
    assert_trees_close(actual, plain(expected), 1e-5)


def test_a_program_runs_without_the_library(tmp_path, key):
    layer = jaxrnn.recurrent(jaxrnn.lstm(3, 4))
    params, xs = jax.jit(layer.init)(key), np.ones((6, 2, 3), np.float32)
    programs = export_layer(layer, params, VECTOR)
    assert programs.step is not None
    for name in ("start", "step"):
        (tmp_path / name).write_bytes(getattr(programs, name).serialize())
    script = f"""
import sys, pathlib, jax.export, numpy as np
start, step = (jax.export.deserialize(bytearray(pathlib.Path({str(tmp_path)!r}, name).read_bytes())).call
               for name in ("start", "step"))
carry = start(np.ones((2, 3), np.float32))
for _ in range(6):
    carry, y = step(carry, np.ones((2, 3), np.float32))
assert "jaxrnn" not in sys.modules
print(np.asarray(y).tolist())
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)
    np.testing.assert_allclose(np.array(eval(run.stdout)), jax.jit(layer.apply)(params, xs)[1][-1], rtol=1e-5)
