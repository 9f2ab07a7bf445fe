"""What is wrong with weights from elsewhere, said by the names that they have there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.interop import from_torch, from_torch_state, to_torch, to_torch_state


def weights(rows=16, D=3, R=4, places=("_l0",), **others):
    """Return the state dict of an LSTM of 4 features, or of what else it has rows for."""
    state = {}
    for place in places:
        state |= {
            f"weight_ih{place}": np.ones((rows, D), np.float32),
            f"weight_hh{place}": np.ones((rows, R), np.float32),
        }
        state |= {f"bias_{which}{place}": np.ones(rows, np.float32) for which in ("ih", "hh")}
    return {**state, **others}


def without(name, **arguments):
    state = weights(**arguments)
    del state[name]
    return state


F32 = np.zeros(16, np.float32)


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        (without("bias_hh_l0"), ValueError, "missing bias_hh_l0"),
        (without("weight_hh_l1", places=("_l0", "_l1"), D=4), ValueError, "missing weight_hh_l1"),
        (without("weight_ih_l0_reverse", places=("_l0", "_l0_reverse")), ValueError, "missing weight_ih_l0_reverse"),
        (
            weights(places=("_l0", "_l1"), D=3),
            ValueError,
            r"weight_ih_l1 of shape \(16, 4\), as the others, got \(16, 3\)",
        ),
        (weights(places=("_l0", "_l7"), D=4), ValueError, "missing weight_ih_l1, .* …"),
        (weights(places=("_l0", "_l99999999999")), ValueError, "missing weights of 100000000000 layers"),
        (weights(weight_h_l0=F32, extra=F32), ValueError, "unexpected weight_h_l0, extra"),
        (weights(weight_hr_l0=np.ones((2, 4), np.float32)), ValueError, r"weight_hh_l0 of shape \(16, 2\)"),
        (weights(rows=12, weight_hr_l0=np.ones((2, 4), np.float32)), ValueError, "4 times with a projection"),
        (weights(rows=20), ValueError, "1, 3 or 4 times 4 rows"),
        (weights(bias_ih_l0=F32[:7]), ValueError, r"bias_ih_l0 of shape \(16,\).*got \(7,\)"),
        (weights(bias_ih_l0=F32.astype(np.float16)), TypeError, "one dtype, got float16, float32"),
        (weights(bias_ih_l0=F32.astype(int)), TypeError, "bias_ih_l0: expected a floating dtype, got int64"),
        (weights(bias_ih_l0=F32.astype(float)), TypeError, "bias_ih_l0: .*float64; set jax_enable_x64"),
        (weights(bias_ih_l0="zeros"), TypeError, "bias_ih_l0: expected an array, got str"),
        ({}, ValueError, "such as weight_ih_l0 and weight_hh_l0, got none"),
        ({"encoder.weight_ih_l0": F32}, ValueError, "got encoder.weight_ih_l0"),
        ({"weight_ih_l0": F32, "weight_hh_l0": F32}, ValueError, "two axes"),
        (3, TypeError, "a module of torch, a state dict or a path, got int"),
    ],
)
def test_a_source_that_is_no_module(source, error, words):
    with pytest.raises(error, match=f"^source: .*{words}"):
        from_torch(source)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"activation": "tanh"}, ValueError, "activation: expected None for a LSTM, got 'tanh'"),
        ({"dropout": 1.5}, ValueError, "dropout: expected 0 <= dropout < 1, got 1.5"),
        ({"batch_first": 1}, TypeError, "batch_first: expected True or False, got 1"),
        ({"prefix": 3}, TypeError, "prefix: expected a str, got 3"),
        ({"prefix": "rnn."}, ValueError, "source: expected weights such as weight_ih_l0 .*, got none"),
    ],
)
def test_an_option_that_does_not_fit(options, error, words):
    with pytest.raises(error, match=words):
        from_torch(weights(), **options)
    with pytest.raises(ValueError, match="activation: expected one of 'tanh', 'relu', got 'selu'"):
        from_torch(weights(rows=4), activation="selu")


def test_a_module_says_its_options_itself():
    nn = pytest.importorskip("torch.nn")
    with pytest.raises(ValueError, match=r"batch_first: expected None with a module, .* got False"):
        from_torch(nn.GRU(2, 3), batch_first=False)
    with pytest.raises(TypeError, match=r"source: expected a torch.nn.RNN, .* got Sequential; .* prefix="):
        from_torch(nn.Sequential(nn.GRU(2, 3)))


def test_a_file_that_is_cut_short(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "weights.safetensors"
    whole = numpy.save(weights())
    for end in (0, 4, 40, -1):
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match=r"weights.safetensors: expected a safetensors file, .* cut short"):
            from_torch(path)
    with pytest.raises(FileNotFoundError):
        from_torch(tmp_path / "none")


def made(layer):
    return layer, jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, leaf.dtype), jax.eval_shape(layer.init, jax.random.key(0))
    )


GRU, BACK = jaxrnn.gru(3, 4), jaxrnn.recurrent(jaxrnn.gru(3, 4), reverse=True)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (jaxrnn.stacked(jaxrnn.gru, 3, [4, 5]), r"hidden_size=\(4, 5\)"),
        (jaxrnn.stacked(jaxrnn.gru, 3, 4, reset_after=False), "reset_after=False"),
        (jaxrnn.recurrent(jaxrnn.gru(3, 4, activations=("sigmoid", "relu"))), r"activations=\('sigmoid', 'relu'\)"),
        (jaxrnn.recurrent(jaxrnn.vanilla(3, 4, activation="identity")), "activation='identity'"),
        (jaxrnn.recurrent(jaxrnn.lstm_variant(3, 4, peephole=True, cell_clip=1.0)), "peephole=True, cell_clip=1.0"),
        (jaxrnn.recurrent(jaxrnn.lstm_variant(3, 4, projection_size=4)), "projection_size=4"),
        (jaxrnn.bidirectional(jaxrnn.recurrent(GRU), BACK, merge="sum"), "merge='sum'"),
        (BACK, "runs forward, or in both directions"),
        (jaxrnn.bidirectional(jaxrnn.recurrent(jaxrnn.gru(3, 5)), BACK), "the same sizes and options"),
        (jaxrnn.recurrent(jaxrnn.janet(3, 4)), "cells made by vanilla, lstm, lstm_variant, gru, got one of your own"),
        (jaxrnn.stacked(lambda *sizes: jaxrnn.zoneout(jaxrnn.gru(*sizes), 0.1), 3, 4), "got one of your own"),
        (jaxrnn.dense(3, 4), "one of jaxrnn.stacked, recurrent or bidirectional"),
    ],
)
def test_a_layer_that_torch_does_not_have(layer, words):
    pytest.importorskip("torch")
    with pytest.raises(ValueError, match=f"^layer: expected .*{words}"):
        to_torch(*made(layer))


def test_parameters_and_states_of_another_layer():
    layer, params = made(jaxrnn.stacked(jaxrnn.lstm, 3, 4, num_layers=2))
    with pytest.raises(TypeError, match=r"^layer: expected a Layer"):
        to_torch(params, params)
    with pytest.raises(TypeError, match=r"^params: expected .* of the layer, got"):
        to_torch(layer, params[:1])
    with pytest.raises(ValueError, match=r"^params\[0\].input: expected shape \(3, 16\)"):
        to_torch(layer, (params[0]._replace(input=params[0].recurrent), params[1]))
    with pytest.raises(TypeError, match=r"^params: expected one dtype, got float16, float32"):
        to_torch(layer, (jax.tree.map(lambda leaf: leaf.astype(np.float16), params[0]), params[1]))
    with pytest.raises(TypeError, match=r"^state: expected the pair \(h_n, c_n\) of an LSTM, got array"):
        from_torch_state(layer, np.zeros((2, 5, 4), np.float32))
    with pytest.raises(
        ValueError, match=r"^state: expected shape \(2, \*batch, features\) for the layer, got \(1, 5, 4\)"
    ):
        from_torch_state(layer, (np.zeros((1, 5, 4), np.float32),) * 2)
    pytest.importorskip("torch")
    carry = layer.initial_carry(params)
    with pytest.raises(TypeError, match=r"^carry: expected that of the layer, with 2 entries"):
        to_torch_state(layer, carry[:1])
    with pytest.raises(TypeError, match=r"^carry: expected the LSTMCarry of each layer"):
        to_torch_state(layer, (jnp.zeros(4),) * 2)
    both = jaxrnn.stacked(jaxrnn.gru, 3, 4, bidirectional=True)
    with pytest.raises(TypeError, match=r"^carry: expected the Directions of each layer"):
        to_torch_state(both, (jnp.zeros(4),))
