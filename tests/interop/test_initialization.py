"""Weights drawn as another framework draws them: ranges, moments and singular values, against the framework itself."""

import functools
import os
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.interop import drawn_as
from jaxrnn.interop.initialization import FRAMEWORKS, GATES

os.environ.setdefault("KERAS_BACKEND", "jax")
D, H = 40, 60
FACTORIES = {"vanilla": jaxrnn.vanilla, "lstm": jaxrnn.lstm, "gru": jaxrnn.gru}
CASES = [(framework, kind) for framework in FRAMEWORKS for kind in GATES if (framework, kind) != ("equinox", "vanilla")]


class Drawn(NamedTuple):
    """Kernels (in, out), and all biases in one row, those added to each other already."""

    input: np.ndarray
    recurrent: np.ndarray
    bias: np.ndarray


def of_torch(kind, seed):
    torch = pytest.importorskip("torch")
    torch.manual_seed(seed)
    module = {"vanilla": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[kind](D, H)
    w, u, b, c = (weight.detach().numpy() for weight in module.parameters())
    bias = np.concatenate([(b + c)[: 2 * H], b[2 * H :], c[2 * H :]]) if kind == "gru" else b + c
    return Drawn(w.T, u.T, bias)


def of_keras(kind, seed):
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    layer = {"vanilla": layers.SimpleRNN, "lstm": layers.LSTM, "gru": layers.GRU}[kind](H)
    layer.build((1, 2, D))
    w, u, b = map(np.asarray, layer.get_weights())
    return Drawn(w, u, np.concatenate([b[0], b[1, 2 * H :]]) if kind == "gru" else b)


def of_flax(kind, seed):
    linen = pytest.importorskip("flax.linen")
    cell = {"vanilla": linen.SimpleCell, "lstm": linen.LSTMCell, "gru": linen.GRUCell}[kind](H)
    x = jnp.zeros((1, D))
    weights = cell.init(jax.random.key(seed), cell.initialize_carry(jax.random.key(0), x.shape), x)["params"]
    kernels = [[layer["kernel"] for layer in weights.values() if layer["kernel"].shape[0] == size] for size in (D, H)]
    biases = [layer["bias"] for layer in weights.values() if "bias" in layer]
    return Drawn(*(np.concatenate(parts, -1) for parts in (*kernels, biases)))


def of_nnx(kind, seed):
    nnx = pytest.importorskip("flax.nnx")
    cell = {"vanilla": nnx.SimpleCell, "lstm": nnx.LSTMCell, "gru": nnx.GRUCell}[kind](D, H, rngs=nnx.Rngs(seed))
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(cell, nnx.Param))]
    biases = [leaf for leaf in leaves if leaf.ndim == 1] + [np.zeros(H, np.float32)] * (kind == "gru")
    kernels = [[leaf for leaf in leaves if leaf.shape[0] == size and leaf.ndim == 2] for size in (D, H)]
    return Drawn(*(np.concatenate(parts, -1) for parts in (*kernels, biases)))


def of_haiku(kind, seed):
    haiku = pytest.importorskip("haiku")
    make = {"vanilla": haiku.VanillaRNN, "lstm": haiku.LSTM, "gru": haiku.GRU}[kind]

    def run(x):
        core = make(H)
        return core(x, core.initial_state(1))

    weights = haiku.transform(run).init(jax.random.key(seed), jnp.zeros((1, D)))
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(weights)]
    bias = np.concatenate([leaf for leaf in leaves if leaf.ndim == 1])
    if kind == "lstm":
        (kernel,) = (leaf for leaf in leaves if leaf.ndim == 2)
        bias[2 * H : 3 * H] += 1  # what its forward pass adds
        return Drawn(kernel[:D], kernel[D:], bias)
    w, u = (next(leaf for leaf in leaves if leaf.ndim == 2 and leaf.shape[0] == size) for size in (D, H))
    return Drawn(w, u, bias[:H] if kind == "vanilla" else np.concatenate([bias, np.zeros(H, np.float32)]))


def of_equinox(kind, seed):
    equinox = pytest.importorskip("equinox")
    cell = {"lstm": equinox.nn.LSTMCell, "gru": equinox.nn.GRUCell}[kind](D, H, key=jax.random.key(seed))
    own = [cell.bias_n] if kind == "gru" else []
    return Drawn(np.asarray(cell.weight_ih.T), np.asarray(cell.weight_hh.T), np.concatenate([cell.bias, *own]))


def ours(framework, kind, seed):
    params = drawn_as(FACTORIES[kind](D, H), framework).init(jax.random.key(seed))
    own = [params.candidate_bias] if kind == "gru" else []
    return Drawn(np.asarray(params.input), np.asarray(params.recurrent), np.concatenate([params.bias, *own]))


def moments(drawn, gates):
    """Return numbers that tell the distributions apart: the singular values are 1 for orthogonal rows or columns."""
    blocks = np.split(drawn.recurrent, gates, axis=-1)
    values = [np.linalg.svd(matrix, compute_uv=False) for matrix in (drawn.input, drawn.recurrent, blocks[0])]
    b = drawn.bias
    return {
        "deviation": [drawn.input.std(), drawn.recurrent.std(), b.std()],
        "range": [np.ptp(drawn.input), np.ptp(b)],
        "tail": [np.mean(abs(part) > part.std()) for part in drawn],
        "mean": [b.mean(), *np.sort(np.abs(b).reshape(len(b), -1, H).mean((0, -1)))],
        "singular values": [value for part in values for value in (part.mean(), part.std())],
    }


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("framework", "kind"), CASES)
def test_the_distribution_is_the_one_of_the_framework(framework, kind, seed):
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        expected = moments(several(globals()[f"of_{framework}"], framework, kind, seed), GATES[kind])
    actual = moments(several(functools.partial(ours, framework), framework, kind, seed), GATES[kind])
    scale = max(expected["deviation"])
    for name in expected:
        np.testing.assert_allclose(actual[name], expected[name], rtol=0.1, atol=0.15 * scale, err_msg=name)


def several(draw, framework, kind, seed):
    """Return a draw with a row for its biases, or with those of many draws where they are random, being few."""
    drawn = [draw(kind, (seed + number) % 2**31) for number in range(60 if framework in ("torch", "equinox") else 1)]
    return drawn[0]._replace(bias=np.stack([each.bias for each in drawn]))


def test_a_gru_that_resets_before_has_one_bias(key):
    cell = drawn_as(jaxrnn.gru(2, 3, reset_after=False), "torch")
    assert jax.eval_shape(cell.init, key).candidate_bias is None
