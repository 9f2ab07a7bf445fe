"""Modules of torch here and back: outputs, final states and every gradient, of random depths, sizes and options."""

import functools
import subprocess
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.interop import from_torch, from_torch_state, to_torch, to_torch_state
from tests import registry

torch = pytest.importorskip("torch")

NN = {
    "tanh": torch.nn.RNN,
    "relu": torch.nn.RNN,
    "lstm": torch.nn.LSTM,
    "gru": torch.nn.GRU,
    "projection": torch.nn.LSTM,
}
CELLS = {"RNNCell": torch.nn.RNNCell, "LSTMCell": torch.nn.LSTMCell, "GRUCell": torch.nn.GRUCell}
TIME, BATCH = 5, 3
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")


def assert_trees_close(actual, expected):
    """Fail unless both agree to 1e-10 in float64, to 1e-5 in float32."""
    single = any(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(actual))
    registry.assert_trees_close(actual, expected, 1e-5 if single else 1e-10)


class Example(NamedTuple):
    """A module of random options and weights, and what it is given."""

    module: Any
    xs: Any
    state: Any
    lengths: Any


def randomised(module):
    """Return the module with random weights, every one on its own."""
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(torch.randn(weight.shape, dtype=weight.dtype) / 2)
    return module


def options_of(kind, rng):
    options: dict[str, Any] = {"num_layers": int(rng.integers(1, 4)), "bidirectional": bool(rng.integers(2))}
    options |= {"bias": bool(rng.integers(3)), "batch_first": bool(rng.integers(2))}
    if kind in ("tanh", "relu"):
        options["nonlinearity"] = kind
    if kind == "projection":
        options["proj_size"] = 2
    return options


def example(kind, rng, seed, dtype):
    torch.manual_seed(seed)
    options = options_of(kind, rng)
    D, H = (int(size) for size in rng.integers(3, 6, 2))
    module = randomised(NN[kind](D, H, **options, dtype=dtype))
    rows = options["num_layers"] * (1 + options["bidirectional"])
    randn = functools.partial(torch.randn, dtype=dtype)
    states = [randn(rows, BATCH, options.get("proj_size", H))] + [randn(rows, BATCH, H)] * isinstance(
        module, torch.nn.LSTM
    )
    lengths = np.array([2, TIME, 1]) if rng.integers(2) else None
    return Example(module, randn(TIME, BATCH, D), tuple(states) if len(states) > 1 else states[0], lengths)


def by_torch(module, xs, state, lengths):
    """Return outputs, time first, and the final state."""
    xs = xs.transpose(0, 1) if module.batch_first else xs
    if lengths is None:
        ys, final = module(xs, state)
    else:
        rnn = torch.nn.utils.rnn
        first = {"batch_first": module.batch_first}
        packed = rnn.pack_padded_sequence(xs, torch.tensor(lengths), enforce_sorted=False, **first)
        ys, final = module(packed, state)
        ys, _ = rnn.pad_packed_sequence(ys, total_length=TIME, **first)
    return (ys.transpose(0, 1) if module.batch_first else ys), final


def arrays(tree):
    return jax.tree.map(lambda tensor: jax.device_put(tensor.detach().numpy().copy()), tree)


@pytest.mark.parametrize("kind", NN)
def test_outputs_states_and_gradients_are_those_of_torch(kind, rng, seed, float64):
    """Gradients by torch's own names: those of the weights before they were merged."""
    module, xs, state, lengths = example(kind, rng, seed, torch.float64)
    layer, _ = from_torch(module)
    options = {"batch_first": module.batch_first, "activation": kind if kind in ("tanh", "relu") else None}
    ys, final = by_torch(module, xs, state, lengths)
    results = [ys, *(final if isinstance(final, tuple) else [final])]
    cotangents = [torch.randn(part.shape, dtype=part.dtype) for part in results]
    torch.autograd.backward(results, cotangents)

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def gradients(weights, xs, carry, cotangents):
        _, params = from_torch(weights, **options)
        carry, ys = layer.apply(params, xs, carry, lengths=lengths)
        parts = jax.tree.leaves((ys, carry_as_state(layer, carry)))
        return sum((part * weight).sum() for part, weight in zip(parts, cotangents, strict=True)), (ys, carry)

    weights = arrays(dict(module.state_dict()))
    dweights, (actual, carry) = gradients(weights, arrays(xs), from_torch_state(layer, state), arrays(cotangents))
    assert_trees_close(actual, arrays(ys))
    assert_trees_close(carry, from_torch_state(layer, final))
    assert_trees_close(arrays(to_torch_state(layer, carry)), arrays(final))
    assert_trees_close(dweights, {name: arrays(weight.grad) for name, weight in module.named_parameters()})


def carry_as_state(layer, carry):
    """Return a traced carry as torch's h_n, or (h_n, c_n), by its leaves alone."""
    cells = jax.tree.leaves(carry, is_leaf=lambda node: isinstance(node, (jaxrnn.LSTMCarry, jax.Array)))
    if isinstance(cells[0], jaxrnn.LSTMCarry):
        return jnp.stack([cell.h for cell in cells]), jnp.stack([cell.c for cell in cells])
    return jnp.stack(cells)


@pytest.mark.parametrize("number", range(2))
@pytest.mark.parametrize("kind", NN)
def test_there_and_back(kind, number, rng, seed):
    """The same kind, options and, but for where a sum of two biases is, weights; ours are the same bit by bit."""
    module, xs, state, _ = example(kind, rng, seed, torch.float32)
    module.dropout = 0.25
    layer, params = from_torch(module)
    again = to_torch(layer, params)
    assert repr(again) == repr(module)
    assert type(again) is type(module)
    assert again.state_dict().keys() == module.state_dict().keys()
    for each in (module, again):
        each.eval()
    assert_trees_close(arrays(by_torch(again, xs, state, None)), arrays(by_torch(module, xs, state, None)))
    assert again.state_dict()["weight_hh_l0"].equal(module.state_dict()["weight_hh_l0"])
    same, twice = from_torch(again)
    assert same.spec == layer.spec
    assert jax.tree.structure(twice) == jax.tree.structure(params)
    assert all(map(np.array_equal, jax.tree.leaves(twice), jax.tree.leaves(params)))


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("name", CELLS)
def test_a_cell_is_a_step(name, bias, seed):
    torch.manual_seed(seed)
    options = {"nonlinearity": "relu"} if name == "RNNCell" else {}
    module = randomised(CELLS[name](3, 4, bias=bias, **options))
    x, h = torch.randn(2, 3), torch.randn(2, 4)
    state = (h, torch.randn(2, 4)) if name == "LSTMCell" else h
    layer, params = from_torch(module)
    assert layer.step is not None
    carry, y = layer.step(params, from_torch_state(layer, state), arrays(x))
    after = module(x, state)
    assert_trees_close(arrays(to_torch_state(layer, carry)), arrays(after))
    assert_trees_close(y, arrays(after[0] if name == "LSTMCell" else after))
    again = to_torch(layer, params)
    assert repr(again) == repr(module)
    assert_trees_close(arrays(again(x, state)), arrays(after))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_the_dtype_is_kept(dtype, seed, float64):
    module = torch.nn.GRU(3, 4, dtype=getattr(torch, dtype))
    layer, params = from_torch(module)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(dtype)}
    assert jax.tree.map(lambda leaf: leaf.dtype, jax.eval_shape(layer.init, jax.random.key(0))) == jax.tree.map(
        lambda leaf: leaf.dtype, params
    )
    assert to_torch(layer, params).weight_ih_l0.equal(module.weight_ih_l0)


def test_a_file_and_a_state_dict_say_what_the_module_says(tmp_path, seed):
    """A file of a model with other weights, by a prefix, and without importing torch."""
    safetensors = pytest.importorskip("safetensors.torch")
    torch.manual_seed(seed)
    module = torch.nn.LSTM(3, 4, 2, bidirectional=True, proj_size=2, dropout=0.1, batch_first=True)
    weights = {f"encoder.rnn.{name}": weight for name, weight in module.state_dict().items()}
    path = tmp_path / "model.safetensors"
    safetensors.save_file({**weights, "encoder.step": torch.zeros(1, dtype=torch.int64)}, path)
    layer, params = from_torch(module)
    for source in (path, str(path), weights):
        same, read = from_torch(source, prefix="encoder.rnn.", dropout=0.1, batch_first=True)
        assert same.spec == layer.spec
        assert all(map(np.array_equal, jax.tree.leaves(read), jax.tree.leaves(params)))
    code = f"import sys; from jaxrnn.interop import from_torch; from_torch({str(path)!r}, prefix='encoder.rnn.')"
    subprocess.run([sys.executable, "-c", code + "; assert 'torch' not in sys.modules"], check=True)


def test_ours_becomes_a_module(key):
    """A layer that never was in torch; a bias that is no longer zero comes back with biases."""
    for layer in (
        jaxrnn.stacked(jaxrnn.gru, 3, 4, num_layers=2, dropout=0.2),
        jaxrnn.recurrent(jaxrnn.vanilla(3, 4, activation="relu")),
        jaxrnn.bidirectional(jaxrnn.recurrent(jaxrnn.lstm(3, 4)), jaxrnn.recurrent(jaxrnn.lstm(3, 4), reverse=True)),
    ):
        params = jax.tree.map(lambda leaf: jax.random.normal(key, leaf.shape), jax.eval_shape(layer.init, key))
        xs = jax.random.normal(key, (TIME, BATCH, 3))
        module = to_torch(layer, params).eval()
        ys, final = module(torch.from_numpy(np.array(xs)))
        carry, actual = layer.apply(params, xs)
        assert_trees_close(actual, arrays(ys))
        assert_trees_close(carry, from_torch_state(layer, final))
    layer, params = from_torch(torch.nn.GRU(3, 4, bias=False))
    assert not to_torch(layer, params).bias
    moved = (params[0]._replace(candidate_bias=jnp.ones(4)),)
    assert to_torch(layer, moved).bias_hh_l0[-1] == 1
