"""Exported layers: one program for every length and batch, which runs where this library is not."""

import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import jaxrnn
from jaxrnn.interop import export_layer
from jaxrnn.interop.programs import plain
from tests.registry import assert_trees_close

VECTOR, TOKEN = jax.ShapeDtypeStruct((3,), jnp.float32), jax.ShapeDtypeStruct((), jnp.int32)
MODEL = jaxrnn.serial(
    jaxrnn.embedding(7, 3), jaxrnn.recurrent(jaxrnn.lstm(3, 4)), jaxrnn.dropout(0.1), jaxrnn.dense(4, 2)
)


def drawn(rng, x, *axes):
    shape = (*axes, *x.shape)
    return rng.standard_normal(shape, np.float32) if x.shape else rng.integers(7, size=shape).astype(np.int32)


@pytest.mark.parametrize(
    ("layer", "x"),
    [(MODEL, TOKEN), (jaxrnn.stacked(jaxrnn.gru, 3, 4, bidirectional=True), VECTOR)],
    ids=["model", "bidirectional"],
)
def test_the_programs_compute_what_the_layer_does(layer, x, key, rng):
    params = layer.init(key)
    programs = export_layer(layer, params, x)
    apply, start = (export.deserialize(each.serialize()).call for each in programs[:2])
    for time, batch in ((1, 1), (5, 2)):
        xs, lengths = drawn(rng, x, time, batch), np.arange(time - batch + 1, time + 1, dtype=np.int32)
        carry, ys = layer.apply(params, xs, lengths=lengths)
        assert_trees_close(apply(xs, lengths), (plain(carry), ys), 1e-5)
        state = start(xs[0])
        assert_trees_close(state, plain(layer.initial_carry(params, (batch,))), 1e-5)
        if layer.step is None:
            assert programs.step is None
            continue
        assert programs.step is not None
        step = export.deserialize(programs.step.serialize()).call
        carry, y = layer.step(params, carry, xs[0])
        assert_trees_close(step(plain(layer.apply(params, xs, lengths=lengths)[0]), xs[0]), (plain(carry), y), 1e-5)


def test_a_program_runs_without_the_library(tmp_path, key):
    layer = jaxrnn.recurrent(jaxrnn.lstm(3, 4))
    params, xs = layer.init(key), np.ones((6, 2, 3), np.float32)
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
    np.testing.assert_allclose(np.array(eval(run.stdout)), layer.apply(params, xs)[1][-1], rtol=1e-5)


def test_what_cannot_be_exported(key):
    wrong: Any = 3
    layer = jaxrnn.recurrent(jaxrnn.vanilla(3, 4), unroll_factor=2)
    with pytest.raises(ValueError, match=r"^layer: expected one that does the same for every number of steps"):
        export_layer(layer, layer.init(key), VECTOR)
    with pytest.raises(TypeError, match=r"^x: expected the jax.ShapeDtypeStruct of one input, got int"):
        export_layer(layer, layer.init(key), wrong)
    with pytest.raises(TypeError, match=r"^layer: expected a Layer"):
        export_layer(layer.init(key), layer, VECTOR)
