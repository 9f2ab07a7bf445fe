"""Layers in files: what is read is what was written, and a file that is no such thing says so."""

import inspect
import json
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import attention, cells, layers, models
from jaxrnn.cells.activations import named
from jaxrnn.interop import load_layer, save_layer
from jaxrnn.training import CheckpointError, save
from jaxrnn.types import FACTORIES, Spec
from tests.interop.differential import assert_exact, drawn
from tests.registry import assert_trees_close, user_vanilla

pytest.importorskip("safetensors")


def both(cell, **choices):
    return jaxrnn.bidirectional(jaxrnn.recurrent(cell), jaxrnn.recurrent(cell, reverse=True), **choices)


GRU, DOT = jaxrnn.gru(3, 4), jaxrnn.attention.dot(4)
CELLS = {
    "all_carries": jaxrnn.all_carries(jaxrnn.lstm(3, 4)),
    "attending": jaxrnn.attending(jaxrnn.lstm(3, 4), jaxrnn.attention.additive(4, 2, 3), 3, outputs=("context",)),
    "attending, general": jaxrnn.attending(GRU, jaxrnn.attention.general(4, 2), 3),
    "attending, scaled_dot": jaxrnn.attending(GRU, jaxrnn.attention.scaled_dot(4, 2, 5), 3),
    "conv_gru": jaxrnn.conv_gru((3, 2, 3), 4, (2, 1), reset_after=False),
    "conv_lstm": jaxrnn.conv_lstm((3, 3), 4, 2, activations=("sigmoid", "relu", "tanh")),
    "conv_vanilla": jaxrnn.conv_vanilla((3, 3), 4, 2, padding="valid", groups=1),
    "cornn": jaxrnn.cornn(3, 4, implicit=True),
    "indrnn": jaxrnn.indrnn(3, 4, bound=0.5),
    "intersection": jaxrnn.intersection(3, 4, activations=("tanh", "relu")),
    "irnn": jaxrnn.irnn(3, 4),
    "janet": jaxrnn.janet(3, 4, beta=0.5),
    "leaky": jaxrnn.leaky(3, 4, dt=1.0, tau=5.0, dale=np.array([1, 1, -1, 1]), mask=np.eye(4, dtype=bool)),
    "learned_carry": jaxrnn.learned_carry(GRU),
    "lem": jaxrnn.lem(3, 4, dt=0.5, dtype=jnp.float16),
    "minimal_gated": jaxrnn.minimal_gated(3, 4, carry_dtype=jnp.float32),
    "normalized_vanilla": jaxrnn.normalized_vanilla(3, 4, epsilon=0.1),
    "residual_vanilla": jaxrnn.residual_vanilla(3, 4, scale=0.5),
    "ugrnn": jaxrnn.ugrnn(3, 4, activation=jnp.tanh),  # which has a name
    "vanilla": jaxrnn.vanilla(3, 4, activation="relu"),
    "variational_dropout": jaxrnn.variational_dropout(GRU, 0.1, input_rate=0.2),
    "zoneout": jaxrnn.zoneout(jaxrnn.lstm(3, 4), (0.1, 0.2)),
}
TRANSFORMER = jaxrnn.transformer(4, 2, 2, context=5, position="learned")
LAYERS = {
    **{name: jaxrnn.recurrent(cell, gradient="autodiff") for name, cell in CELLS.items()},
    "stacked": jaxrnn.stacked(jaxrnn.gru, 3, [4, 5], bidirectional=True, dropout=0.25, reset_after=False),
    "projection": jaxrnn.stacked(jaxrnn.lstm_variant, 3, 4, num_layers=2, projection_size=2, cell_clip=3.0),
    "stacked zoneout": jaxrnn.stacked(lambda *sizes: jaxrnn.zoneout(jaxrnn.gru(*sizes), 0.1), 3, 4, num_layers=2),
    "both": both(jaxrnn.lstm(3, 4), merge="both"),
    "connected": jaxrnn.dense_connections(
        jaxrnn.highway(jaxrnn.checkpointed(jaxrnn.recurrent(jaxrnn.gru(3, 3)), 2), 3), jaxrnn.dense(6, 2)
    ),
    "reduced": jaxrnn.serial(jaxrnn.time_reduction(2, "mean"), jaxrnn.flatten(1)),
    "classifier": jaxrnn.models.classifier(jaxrnn.recurrent(GRU), 4, 5, pooling="attention", attention_size=2),
    "forecaster": jaxrnn.models.forecaster(jaxrnn.recurrent(GRU), 4, 99, 3, method="autoregressive"),
    "encoder_decoder": jaxrnn.models.encoder_decoder(jaxrnn.recurrent(GRU), jaxrnn.gru(2, 4), DOT, 9, 2),
    "language_model": jaxrnn.models.language_model(7, 4, jaxrnn.weight_dropout(TRANSFORMER, 0.1)),
    "model": jaxrnn.serial(
        jaxrnn.embedding(7, 4),
        jaxrnn.dropout(0.1),
        jaxrnn.residual(jaxrnn.recurrent(jaxrnn.lstm(4, 4), unroll_factor=2), scale=0.5),
        jaxrnn.layer_norm(4),
        jaxrnn.rms_norm(4, eps=1e-3),
        jaxrnn.dense(4, 2, activation=jax.nn.relu, bias=False),
    ),
}
# What makes cells and layers, and records no call of its own.
UNRECORDED = {
    "irnn": "a vanilla whose weights are drawn in another way, which is saved",
    "split_cell": "made of functions of your own",
    "stacked": "a stack, which is saved",
    "with_memory": "makes parameters",
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("name", LAYERS)
def test_what_is_read_is_what_was_written(name, path, rng):
    layer = LAYERS[name]
    params = drawn(rng, layer)
    save_layer(path, layer, params)
    again, read = load_layer(path)
    assert type(again) is type(layer)
    assert named_functions(again.spec) == named_functions(layer.spec)
    assert_exact(read, params)
    if name == "model":
        xs = jnp.zeros((5, 2), int)
        assert_trees_close(again.apply(read, xs), layer.apply(params, xs))


def named_functions(value):
    """Return a spec with names for the functions that have one."""
    if isinstance(value, Spec):
        options = tuple((name, named_functions(option)) for name, option in value.options)
        return value._replace(options=options)
    return tuple(map(named_functions, value)) if isinstance(value, tuple) else named(value)


def test_every_factory_is_tried():
    def names(value):
        if isinstance(value, Spec):
            yield value.factory
            value = tuple(option for _, option in value.options)
        if isinstance(value, tuple):
            for each in value:
                yield from names(each)

    assert {name for layer in LAYERS.values() for name in names(layer.spec)} == set(FACTORIES)
    modules = (cells, layers, models, attention)
    public = {name for module in modules for name in module.__all__ if inspect.isfunction(getattr(module, name))}
    assert public - FACTORIES.keys() == UNRECORDED.keys()


def test_weights_that_were_cast_and_what_came_from_elsewhere(path, rng):
    layer = jaxrnn.stacked(jaxrnn.gru, 3, 4)
    assert layer.spec is not None
    layer = layer._replace(spec=layer.spec._replace(origin=(("framework", "torch"), ("batch_first", True))))
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), drawn(rng, layer))
    save_layer(path, layer, params)
    again, read = load_layer(path)
    assert again.spec == layer.spec
    assert_trees_close(read, params)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (jaxrnn.recurrent(user_vanilla(3, 4, dtype=None, carry_dtype=None)), "layer: cell: .* got one of your own"),
        (jaxrnn.serial(jaxrnn.dense(3, 4), jaxrnn.dense(4, 3)._replace(spec=None)), "layer: layers: .* of your own"),
        (jaxrnn.dense(3, 4, activation=jnp.sin), "layer: activation: expected a name, .* got the function sin"),
        (
            jaxrnn.recurrent(jaxrnn.gru(3, 4, activations=("sigmoid", jnp.sin))),
            "layer: cell: activations: .* function sin",
        ),
        (
            jaxrnn.weight_dropout(jaxrnn.recurrent(GRU), 0.1, where=lambda path: "input" in path),
            "layer: where: .* function .*lambda",
        ),
        (jaxrnn.recurrent(GRU)._replace(spec=None), "layer: expected .* of your own"),
    ],
)
def test_a_layer_that_a_file_cannot_hold(layer, words, path):
    with pytest.raises(ValueError, match=f"^{words}"):
        save_layer(path, layer, None)
    assert not path.exists()


def test_a_file_that_is_cut_short_or_damaged(path, rng):
    layer = LAYERS["stacked"]
    save_layer(path, layer, drawn(rng, layer))
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


def encoded(factory, **options):
    return {"factory": factory, "options": options, "origin": {}}


@pytest.mark.parametrize(
    ("description", "words"),
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
        (dense(activation=dense()), "activation: expected a name, a callable"),
        (dense(activation="os.system"), "activation: expected one of"),
        (encoded("recurrent", cell="lstm"), "cell: expected a jaxrnn Cell"),
        (encoded("transformer", features=4, heads=2, num_layers=99), "num_layers: expected at most 2, .* got 99"),
        (encoded("recurrent", cell=encoded("gru", input_size=3, hidden_size=4)), "the file lacks"),
        (encoded("vanilla", input_size=3, hidden_size=4), "expected a Layer"),
        (encoded("serial", layers=[dense(), None]), r"layers\[1\]: expected a Layer"),
        (encoded("stack", layers=[]), "layers: expected at least one"),
    ],
)
def test_a_file_from_a_stranger(description, words, path):
    params = jaxrnn.DenseParams(jnp.ones((3, 4)), jnp.ones(4))
    save(path, params, {"layer": description, "layer_version": 1})
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
