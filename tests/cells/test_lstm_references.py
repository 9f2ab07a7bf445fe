"""torch and onnxruntime as independent references of the LSTM family, with the same weights."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from tests.registry import assert_trees_close

T, B, D, H, R = 5, 3, 2, 4, 3
CLIP = 0.3

# torch: a projection, in float64, with the gradients of all weights, of the inputs and of the initial states


def torch_weights(w_ih, w_hh, b_ih, b_hh, w_hr):
    return jaxrnn.LSTMVariantParams(w_ih.T, w_hh.T, b_ih + b_hh, projection=w_hr.T)


def test_a_projection_is_that_of_torch(seed, float64):
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(seed)
    randn = functools.partial(torch.randn, generator=generator, dtype=torch.float64)
    module = torch.nn.LSTM(D, H, proj_size=R, dtype=torch.float64)
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(randn(weight.shape) / 2)
    xs, h, c = (randn(shape).requires_grad_() for shape in ((T, B, D), (1, B, R), (1, B, H)))
    ys, (h_final, c_final) = module(xs, (h, c))
    dys, dh, dc = randn(ys.shape), randn(h_final.shape), randn(c_final.shape)
    ((ys * dys).sum() + (h_final * dh).sum() + (c_final * dc).sum()).backward()
    array = lambda tensor: jnp.array(tensor.detach().numpy())
    carry = lambda h, c: jaxrnn.LSTMCarry(array(h[0]), array(c[0]))
    weights = list(module.parameters())

    unroll = functools.partial(jaxrnn.unroll, jaxrnn.lstm_variant(D, H, projection_size=R, dtype=jnp.float64))
    arguments = torch_weights(*map(array, weights)), array(xs), carry(h, c)
    results, transpose = jax.vjp(unroll, *arguments)
    assert_trees_close(results, (carry(h_final, c_final), array(ys)))
    dparams = torch_weights(*(array(weight.grad) for weight in weights))
    dparams = dparams._replace(bias=dparams.bias / 2)  # of a sum of two biases each has the whole gradient
    gradients = dparams, array(xs.grad), carry(h.grad, c.grad)
    assert_trees_close(transpose((carry(dh, dc), array(dys))), gradients)


# onnxruntime: values in float32, gates i, o, f, c and peepholes i, o, f


def by_onnxruntime(arrays, hidden_size, **attributes):
    """Return ys, h and c of one LSTM node on ``arrays``, by the names of the node's inputs."""
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    order = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"]
    node = onnx.helper.make_node(
        "LSTM",
        [name if name in arrays else "" for name in order],
        ["Y", "Y_h", "Y_c"],
        hidden_size=hidden_size,
        **attributes,
    )
    value = functools.partial(onnx.helper.make_tensor_value_info, elem_type=onnx.TensorProto.FLOAT)
    graph = onnx.helper.make_graph(
        [node],
        "lstm",
        [value(name, shape=array.shape) for name, array in arrays.items()],
        [value(name, shape=None) for name in node.output],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 14)], ir_version=8)
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    ys, h, c = session.run(None, arrays)
    return ys[:, 0], h[0], c[0]


def clipped(function):
    """Return the function of what onnxruntime clips: the arguments of gates and candidate, not c_t."""
    return lambda a: function(jnp.clip(a, -CLIP, CLIP))


def leaky(a):
    return jnp.where(a < 0, 0.1 * a, a)


CASES = {
    "plain": ({}, {}),
    "peephole": ({"peephole": True}, {}),
    "input_forget": ({"peephole": True, "coupled": True}, {"input_forget": 1}),
    "activations": (
        {"peephole": True, "activations": ("tanh", leaky, jax.nn.softplus)},
        {"activations": ["Tanh", "LeakyRelu", "Softplus"], "activation_alpha": [0.1]},
    ),
    "clip": (
        {"peephole": True, "activations": (clipped(jax.nn.sigmoid), clipped(jnp.tanh), "tanh")},
        {"clip": CLIP},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_values_are_those_of_onnxruntime(case, rng):
    options, attributes = CASES[case]
    draw = lambda *shape: rng.standard_normal(shape).astype(np.float32)
    i, o, f, g = ((draw(H, D), draw(H, H), draw(H), draw(H)) for _ in "iofg")
    by_array = lambda *gates: [np.concatenate(arrays) for arrays in zip(*gates, strict=True)]
    W, U, input_bias, recurrent_bias = by_array(i, o, f, g)
    p = dict(zip("iof", draw(3, H), strict=True))
    xs, h, c = draw(T, B, D), draw(B, H), draw(B, H)
    arrays = {"X": xs, "W": W[None], "R": U[None], "B": np.concatenate([input_bias, recurrent_bias])[None]}
    arrays |= {"initial_h": h[None], "initial_c": c[None]}
    if "peephole" in options:
        arrays["P"] = np.concatenate(list(p.values()))[None]
    expected = by_onnxruntime(arrays, H, **attributes)

    cell = jaxrnn.lstm_variant(D, H, **options)
    W, U, input_bias, recurrent_bias = by_array(i, g, o) if "coupled" in options else by_array(i, f, g, o)
    peephole = np.concatenate([p[gate] for gate in ("io" if "coupled" in options else "ifo")])
    weights: Any = W.T, U.T, input_bias + recurrent_bias, peephole if "peephole" in options else None
    params, start = jaxrnn.LSTMVariantParams(*weights), jaxrnn.LSTMCarry(h, c)
    (h, c), ys = jax.jit(functools.partial(jaxrnn.unroll, cell))(params, xs, start)
    for actual, want in zip((ys, h, c), expected, strict=True):
        np.testing.assert_allclose(actual, want, rtol=0, atol=2e-5)
