"""ONNX Runtime as an independent reference: its GRU with all its activations and its clip, both resets, both ways."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

T, B, D, H = 5, 4, 3, 4
LENGTHS = np.array([3, 5, 1, 4], np.int32)


def clipped(function, bound):
    return lambda a: function(jnp.clip(a, -bound, bound))


def hard_sigmoid(a):
    return jnp.clip(0.2 * a + 0.5, 0, 1)


ACTIVATIONS = {
    "Sigmoid Tanh": ("sigmoid", "tanh"),
    "Tanh Sigmoid": ("tanh", "sigmoid"),
    "Sigmoid Relu": ("sigmoid", "relu"),
    "HardSigmoid Softsign": (hard_sigmoid, jax.nn.soft_sign),
    "Sigmoid Softplus": (jax.nn.sigmoid, (jax.nn.softplus, jax.nn.sigmoid)),
}
CLIPPED = {
    "Sigmoid Tanh": lambda bound: (clipped(jax.nn.sigmoid, bound), clipped(jnp.tanh, bound)),
    "Tanh Sigmoid": lambda bound: (clipped(jnp.tanh, bound), clipped(jax.nn.sigmoid, bound)),
}


def by_onnx(weights, xs, h, *, names, reverse, linear_before_reset, clip):
    """Return Y and Y_h of one GRU node, gates in its own order u, r, n."""
    given = {"X": xs, **weights, "sequence_lens": LENGTHS, "initial_h": h[None]}
    attributes = {} if clip is None else {"clip": clip}
    node = onnx.helper.make_node(
        "GRU",
        list(given),
        ["Y", "Y_h"],
        hidden_size=H,
        activations=names.split(),
        direction="reverse" if reverse else "forward",
        linear_before_reset=linear_before_reset,
        **attributes,
    )
    of_type = onnx.helper.np_dtype_to_tensor_dtype
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node],
        "gru",
        [info(name, of_type(value.dtype), value.shape) for name, value in given.items()],
        [info(name, onnx.TensorProto.FLOAT, None) for name in ("Y", "Y_h")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 14)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    ys, last = session.run(None, given)
    return last[0], ys[:, 0]


def ours(W, R, B, reset_after):
    """Return the weights of a node as our parameters; of its two biases, all but one part simply add."""
    order = np.concatenate([np.arange(H, 2 * H), np.arange(H), np.arange(2 * H, 3 * H)])  # u, r, n to r, u, n
    of_input, of_state = B[0, : 3 * H][order], B[0, 3 * H :][order]
    inside = np.where(np.arange(3 * H) < 2 * H, 0, of_state) if reset_after else np.zeros_like(of_state)
    candidate_bias = jnp.array(inside[2 * H :]) if reset_after else None
    kernel, recurrent = (jnp.array(w[0][order].T) for w in (W, R))
    return jaxrnn.GRUParams(kernel, recurrent, jnp.array(of_input + of_state - inside), candidate_bias)


@pytest.mark.parametrize("reset_after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("names", "reverse", "clip"),
    [(names, index % 2 == 1, None) for index, names in enumerate(ACTIVATIONS)]
    + [("Sigmoid Tanh", False, 0.4), ("Tanh Sigmoid", True, 0.4)],
)
def test_values_are_those_of_onnx_runtime(names, reverse, clip, reset_after, rng):
    draw = functools.partial(rng.standard_normal, dtype=np.float32)
    weights = {"W": draw((1, 3 * H, D)), "R": draw((1, 3 * H, H)), "B": draw((1, 6 * H))}
    xs, h = draw((T, B, D)), draw((B, H))
    expected = by_onnx(weights, xs, h, names=names, reverse=reverse, linear_before_reset=int(reset_after), clip=clip)
    activations = ACTIVATIONS[names] if clip is None else CLIPPED[names](clip)
    cell = jaxrnn.gru(D, H, reset_after=reset_after, activations=activations)
    params = ours(**weights, reset_after=reset_after)
    actual = jaxrnn.unroll(cell, params, jnp.array(xs), jnp.array(h), lengths=LENGTHS, reverse=reverse)
    for got, want in zip(actual, expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=2e-6)
