"""Layers in files: what is read is what was written, and a file that is no such thing says so."""

import json
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.interop import load_layer, save_layer
from jaxrnn.interop.saving import FACTORIES
from jaxrnn.training import CheckpointError, save
from tests.registry import assert_trees_close

pytest.importorskip("safetensors")


def both(cell, **choices):
    return jaxrnn.bidirectional(jaxrnn.recurrent(cell), jaxrnn.recurrent(cell, reverse=True), **choices)


LAYERS = {
    "vanilla": jaxrnn.recurrent(jaxrnn.vanilla(3, 4, activation="relu"), gradient="autodiff"),
    "stacked": jaxrnn.stacked(jaxrnn.gru, 3, [4, 5], bidirectional=True, dropout=0.25, reset_after=False),
    "projection": jaxrnn.stacked(jaxrnn.lstm_variant, 3, 4, num_layers=2, projection_size=2, cell_clip=3.0),
    "both": both(jaxrnn.all_carries(jaxrnn.lstm(3, 4)), merge="both"),
    "model": jaxrnn.serial(
        jaxrnn.embedding(7, 4),
        jaxrnn.dropout(0.1),
        jaxrnn.residual(jaxrnn.recurrent(jaxrnn.lstm(4, 4), unroll_factor=2), scale=0.5),
        jaxrnn.layer_norm(4),
        jaxrnn.rms_norm(4, eps=1e-3),
        jaxrnn.dense(4, 2, activation=None, bias=False),
    ),
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("name", LAYERS)
def test_what_is_read_is_what_was_written(name, path, key):
    layer = LAYERS[name]
    params = layer.init(key)
    save_layer(path, layer, params)
    again, read = load_layer(path)
    assert again.spec == layer.spec
    assert jax.tree.structure(read) == jax.tree.structure(params)
    assert all(map(np.array_equal, jax.tree.leaves(read), jax.tree.leaves(params)))
    xs = jnp.zeros((5, 2), int) if name == "model" else jax.random.normal(key, (5, 2, 3))
    assert_trees_close(again.apply(read, xs), layer.apply(params, xs))
    assert (again.step is None) == (layer.step is None)


def test_every_factory_is_tried():
    def names(value):
        if hasattr(value, "factory"):
            yield value.factory
            for _, option in value.options:
                yield from names(option)
        elif isinstance(value, tuple):
            for each in value:
                yield from names(each)
        elif isinstance(value, str):
            yield value

    assert FACTORIES.keys() <= {name for layer in LAYERS.values() for name in names(layer.spec)}


def test_weights_that_were_cast_and_what_came_from_elsewhere(path, key):
    layer = jaxrnn.stacked(jaxrnn.gru, 3, 4)
    assert layer.spec is not None
    layer = layer._replace(spec=layer.spec._replace(origin=(("framework", "torch"), ("batch_first", True))))
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), layer.init(key))
    save_layer(path, layer, params)
    again, read = load_layer(path)
    assert again.spec == layer.spec
    assert_trees_close(read, params)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (jaxrnn.recurrent(jaxrnn.janet(3, 4)), "layer: cell: expected one made by .* got one of your own"),
        (jaxrnn.stacked(lambda *sizes: jaxrnn.zoneout(jaxrnn.gru(*sizes), 0.1), 3, 4), "layer: expected one made by"),
        (jaxrnn.serial(jaxrnn.dense(3, 4), jaxrnn.dense(4, 3)._replace(spec=None)), "layer: layers: .* of your own"),
        (jaxrnn.dense(3, 4, activation=jnp.tanh), "layer: activation: expected a name, .* got a function"),
        (
            jaxrnn.recurrent(jaxrnn.gru(3, 4, activations=("sigmoid", jnp.tanh))),
            "layer: cell: activations: .* function",
        ),
    ],
)
def test_a_layer_that_a_file_cannot_hold(layer, words, path, key):
    with pytest.raises(ValueError, match=f"^{words}"):
        save_layer(path, layer, layer.init(key))
    assert not path.exists()


def test_parameters_of_another_layer(path, key):
    layer = jaxrnn.dense(3, 4)
    with pytest.raises(ValueError, match=r"^params.kernel: expected shape \(3, 4\)"):
        save_layer(path, layer, jaxrnn.dense(4, 4).init(key))
    with pytest.raises(TypeError, match=r"^params: expected DenseParams"):
        save_layer(path, layer, jaxrnn.layer_norm(3).init(key))
    with pytest.raises(TypeError, match=r"^layer: expected a Layer"):
        save_layer(path, layer.init(key), layer)


def test_a_file_that_is_cut_short_or_damaged(path, key):
    layer = LAYERS["stacked"]
    save_layer(path, layer, layer.init(key))
    whole = path.read_bytes()
    length = struct.unpack("<Q", whole[:8])[0]
    for end in (0, 4, 100, length, 8 + length, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(CheckpointError, match=r"model.safetensors: "):
            load_layer(path)
    for place in range(0, len(whole), len(whole) // 40):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        with pytest.raises(CheckpointError, match=r"model.safetensors: "):
            load_layer(path)


def dense(**changes):
    """Return the description of ``dense(3, 4)``, with changes to its options."""
    options = {"input_size": 3, "output_size": 4, "activation": None, "bias": True, "dtype": "float32", **changes}
    return {"factory": "dense", "options": options, "origin": {}}


def stack(**options):
    return {
        "factory": "stacked",
        "options": {"cell": "gru", "input_size": 3, "hidden_size": 4, **options},
        "origin": {},
    }


@pytest.mark.parametrize(
    ("encoded", "words"),
    [
        (None, "expected a file of save_layer, got a checkpoint without a layer"),
        ("dense(3, 4)", "expected a factory"),
        ({**dense(), "code": "import os"}, "expected a factory"),
        ({**dense(), "factory": "eval"}, "factory: expected one of .* got 'eval'"),
        ({**dense(), "factory": ["dense"]}, "factory: expected one of"),
        ({**dense(), "options": [3, 4]}, "options: expected an object"),
        (dense(input_size=10**12), "input_size: expected at most 12, .* got 1000000000000"),
        (dense(output_size=0), "output_size: expected at least 1"),
        (dense(input_size=2.5), "input_size: expected an int"),
        (dense(kernel_init="zeros"), "kernel_init: expected a function"),
        (dense(dtype="object"), "dtype: expected a floating dtype"),
        (dense(size=3), "unexpected keyword argument 'size'"),
        (dense(input_size=4), r"kernel: expected shape \(4, 4\).* got \(3, 4\)"),
        (dense(bias=False), "the file also holds .bias"),
        (dense(activation=dense()), "activation: expected a callable"),
        (stack(cell="os.system"), "cell: expected one of"),
        (stack(cell=dense()), "cell: expected one of"),
        (stack(hidden_size=[1] * 99), "hidden_size: expected at most 2 layers, .* got 99"),
        (stack(), "the file lacks"),
        ({"factory": "vanilla", "options": {"input_size": 3, "hidden_size": 4}, "origin": {}}, "expected a Layer"),
        ({"factory": "serial", "options": {"layers": [dense(), None]}, "origin": {}}, r"layers\[1\]: expected a Layer"),
    ],
)
def test_a_file_from_a_stranger(encoded, words, path):
    params = jaxrnn.DenseParams(jnp.ones((3, 4)), jnp.ones(4))
    save(path, params, {"layer": encoded, "layer_version": 1})
    with pytest.raises(CheckpointError, match=f"model.safetensors: .*{words}"):
        load_layer(path)


def test_a_file_of_another_version_or_kind(path):
    params = jaxrnn.DenseParams(jnp.ones((3, 4)), jnp.ones(4))
    save(path, params, {"layer": dense(), "layer_version": 2})
    with pytest.raises(CheckpointError, match="expected a layer of version 1, got 2"):
        load_layer(path)
    nested = json.loads("[" * 400 + "]" * 400)
    save(path, params, {"layer": dense(bias=nested), "layer_version": 1})
    with pytest.raises(CheckpointError, match=r"model.safetensors: "):
        load_layer(path)
    from safetensors.numpy import save_file

    save_file({"kernel": np.ones((3, 4))}, path)
    with pytest.raises(CheckpointError, match=r"model.safetensors: "):
        load_layer(path)
    with pytest.raises(FileNotFoundError):
        load_layer(path.with_name("none"))
