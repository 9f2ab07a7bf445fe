"""Networks to models of ONNX and back: ONNX Runtime runs what we write, and models of other writers are read."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.interop.onnx import ONNXActivation, from_onnx, to_onnx
from tests.interop.onnx_runtime import model_of, onnx, run_model
from tests.registry import on_device

T, B, D, H, V = 4, 3, 2, 3, 7
LENGTHS = np.array([2, T, 1], np.int32)
make_node = onnx.helper.make_node


def both(cell, merge="concat"):
    return jaxrnn.bidirectional(jaxrnn.recurrent(cell), jaxrnn.recurrent(cell, reverse=True), merge=merge)


CLIPPED = ONNXActivation("Sigmoid", clip=0.4), ONNXActivation("Tanh", clip=0.4)
NETWORKS = {
    "vanilla": jaxrnn.recurrent(jaxrnn.vanilla(D, H, activation="relu")),
    "lstm": jaxrnn.recurrent(jaxrnn.lstm(D, H), reverse=True),
    "gru after": jaxrnn.recurrent(jaxrnn.gru(D, H)),
    "gru before": both(jaxrnn.gru(D, H, reset_after=False, activations=CLIPPED), "mean"),
    "lstm_variant": both(
        jaxrnn.lstm_variant(D, H, peephole=True, activations=("sigmoid", ONNXActivation("LeakyRelu", 0.2), "identity")),
        "sum",
    ),
    "coupled": jaxrnn.recurrent(jaxrnn.lstm_variant(D, H, peephole=True, coupled=True, activations=(*CLIPPED, "tanh"))),
    "product": both(jaxrnn.vanilla(D, H), "product"),
    "stacked": jaxrnn.stacked(jaxrnn.lstm, D, (H, 5), bidirectional=True, dropout=0.5),
    "serial": jaxrnn.serial(
        jaxrnn.embedding(V, D),
        jaxrnn.stacked(jaxrnn.gru, D, H, num_layers=2),
        jaxrnn.dropout(0.5),
        jaxrnn.dense(H, 4, activation=jnp.tanh),
        both(jaxrnn.lstm(4, H)),
        jaxrnn.dense(2 * H, 2, bias=False),
        jaxrnn.dense(2, 2),
    ),
}


def draw_like(tree, rng):
    return jax.tree.map(lambda leaf: on_device(rng.uniform(-0.9, 0.9, leaf.shape), leaf.dtype), tree)


def params_of(layer, rng):
    return draw_like(jax.eval_shape(layer.init, jax.random.key(0)), rng)


def inputs_of(name, rng):
    if name == "serial":
        return rng.integers(0, V, (T, B))
    return rng.standard_normal((T, B, D), dtype=np.float32)


def states_of(carry):
    """Return what the model calls the carry, in its own order: h and c of each layer, both directions stacked."""
    kinds = jaxrnn.Directions | jaxrnn.LSTMCarry
    of_layers = jax.tree.leaves(carry, is_leaf=lambda node: isinstance(node, kinds))
    named = {}
    for index, state in enumerate(of_layers):
        ways = state if isinstance(state, jaxrnn.Directions) else (state,)
        for part, arrays in zip("hc", zip(*map(jax.tree.leaves, ways), strict=True), strict=False):
            named[f"{part}_{index}"] = np.stack(arrays)
    return named


@pytest.mark.parametrize("name", NETWORKS)
def test_onnx_runtime_runs_what_we_write(name, rng):
    """Outputs, zero in padding, and final states, from lengths and initial states."""
    layer = NETWORKS[name]
    params, xs = params_of(layer, rng), inputs_of(name, rng)
    carry = draw_like(jax.eval_shape(lambda: layer.initial_carry(params, (B,))), rng)
    after, ys = jax.jit(layer.apply)(params, xs, carry, lengths=LENGTHS)
    starts = {f"initial_{state}": value for state, value in states_of(carry).items()}
    found = run_model(to_onnx(layer, params, lengths=True, carry=True), {"xs": xs, "lengths": LENGTHS, **starts})
    expected = {"ys": ys, **{f"final_{state}": value for state, value in states_of(after).items()}}
    assert list(found) == list(expected)
    for output, value in expected.items():
        np.testing.assert_allclose(found[output], value, rtol=1e-5, atol=2e-6, err_msg=output)


@pytest.mark.parametrize("name", NETWORKS)
def test_what_we_write_we_read(name, rng):
    """Weights come back to the last bit, and options too: what is written again is the same model."""
    layer = NETWORKS[name]
    params = params_of(layer, rng)
    model = to_onnx(layer, params, lengths=True)
    again, params_again = from_onnx(model)
    for got, want in zip(jax.tree.leaves(params_again), jax.tree.leaves(params), strict=True):
        np.testing.assert_array_equal(got, want)
        assert got.dtype == want.dtype
    assert to_onnx(again, params_again, lengths=True) == model


# Models of other writers


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Return a function that exports a network of torch: ``(layer of torch, batch_first, bidirectional)``."""
    torch = pytest.importorskip("torch")

    class Tagger(torch.nn.Module):
        def __init__(self, kind, **options):
            super().__init__()
            self.embedding = torch.nn.Embedding(V, D)
            self.recurrent = getattr(torch.nn, kind)(D, H, num_layers=2, **options)
            self.head = torch.nn.Linear(2 * H if options["bidirectional"] else H, 4)

        def forward(self, tokens):
            return self.head(self.recurrent(self.embedding(tokens))[0])

    def export(kind, seed, **options):
        torch.manual_seed(seed)
        network = Tagger(kind, **options).eval()
        tokens = torch.randint(0, V, (T, B))
        path = tmp_path_factory.mktemp("models") / "tagger.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter, about itself
            torch.onnx.export(
                network, (tokens,), path, dynamo=False, input_names=["tokens"], dynamic_axes={"tokens": [0, 1]}
            )
        return path, tokens.numpy(), network(tokens).detach().numpy()

    return export


@pytest.mark.parametrize(
    ("kind", "batch_first", "bidirectional"),
    [("RNN", False, True), ("LSTM", True, True), ("LSTM", False, False), ("GRU", True, False), ("GRU", False, True)],
)
def test_what_torch_exports_we_read(exported, kind, batch_first, bidirectional, seed):
    path, tokens, expected = exported(kind, seed, batch_first=batch_first, bidirectional=bidirectional)
    layer, params = from_onnx(path)
    assert [type(each).__name__ for each in params][-1] == "DenseParams"
    assert len(params) == 4
    turned = (lambda x: x.swapaxes(0, 1)) if batch_first else (lambda x: x)
    _, ys = jax.jit(layer.apply)(params, turned(tokens))
    np.testing.assert_allclose(turned(ys), expected, rtol=1e-5, atol=1e-6)


def gru_model(after, **constants):
    """Return the model of a GRU whose outputs, ``ys [T, B, H]``, go through the nodes ``after``, to "out"."""
    xs = np.ones((T, B, D), np.float32)
    constants = {name: np.asarray(value) for name, value in constants.items()}
    constants |= {"W": np.ones((1, 3 * H, D), np.float32), "R": np.ones((1, 3 * H, H), np.float32)}
    nodes = [
        make_node("GRU", ["xs", "W", "R"], ["states"], hidden_size=H),
        make_node("Squeeze", ["states", "one"], ["ys"]),
    ]
    return model_of([*nodes, *after], {"xs": xs}, {"out": 3}, {"one": np.array([1]), **constants})


FLATTENED = [
    make_node("Reshape", ["ys", "rows"], ["flat"]),
    make_node("Gemm", ["flat", "kernel", "bias"], ["logits"], transB=1),
    make_node("Relu", ["logits"], ["positive"]),
    make_node("Reshape", ["positive", "back"], ["out"]),
]


def test_a_dense_layer_over_rows_is_one_over_steps(rng):
    kernel, bias = (rng.standard_normal(shape).astype(np.float32) for shape in ((4, H), (4,)))
    model = gru_model(FLATTENED, kernel=kernel, bias=bias, rows=[-1, H], back=[T, B, 4])
    layer, params = from_onnx(model)
    xs = rng.standard_normal((T, B, D)).astype(np.float32)
    _, ys = jax.jit(layer.apply)(params, xs)
    np.testing.assert_allclose(ys, run_model(model, {"xs": xs})["out"], rtol=1e-5, atol=1e-6)


UNREAD = {
    "another operator": ([make_node("Softmax", ["ys"], ["p"]), make_node("Gelu", ["p"], ["out"])], "Softmax"),
    "the last step": ([make_node("Gather", ["ys", "one"], ["out"])], "Gather"),
    "a shortcut": ([make_node("Add", ["ys", "ys"], ["out"])], "Add"),
    "two branches": (
        [
            make_node("MatMul", ["ys", "kernel"], ["a"]),
            make_node("MatMul", ["ys", "kernel"], ["b"]),
            make_node("Add", ["a", "b"], ["out"]),
        ],
        "MatMul",
    ),
    "a scaled product": ([make_node("Gemm", ["ys", "kernel"], ["out"], alpha=0.5)], "Gemm"),
    "numbers that are no bias": ([make_node("Add", ["ys", "kernel"], ["out"])], "Add"),
    "a state made of zeros that is not zero": (
        [
            make_node("Shape", ["ys"], ["shape"]),
            make_node("ConstantOfShape", ["shape"], ["zeros"]),
            make_node("Exp", ["zeros"], ["h1"]),
            make_node("GRU", ["ys", "W2", "R", "", "", "h1"], ["states2"], hidden_size=H),
            make_node("Squeeze", ["states2", "one"], ["out"]),
        ],
        "Exp",
    ),
    "a product from the left": ([make_node("MatMul", ["kernel", "ys"], ["out"])], "MatMul"),
    "another axis of time": (
        [
            make_node("Transpose", ["ys"], ["turned"], perm=[1, 0, 2]),
            make_node("GRU", ["turned", "W2", "R"], ["states2"], hidden_size=H),
            make_node("Squeeze", ["states2", "one"], ["out"]),
        ],
        "GRU",
    ),
    "a state that is not zero": (
        [
            make_node("GRU", ["ys", "W2", "R", "", "", "h"], ["states2"], hidden_size=H),
            make_node("Squeeze", ["states2", "one"], ["out"]),
        ],
        "GRU",
    ),
}


@pytest.mark.parametrize("case", UNREAD)
def test_the_first_operator_that_is_not_read_is_named(case):
    after, operator = UNREAD[case]
    like = {"kernel": (H, H), "W2": (1, 3 * H, H), "h": (1, B, H)}
    model = gru_model(after, **{name: np.ones(shape, np.float32) for name, shape in like.items()})
    with pytest.raises(ValueError, match=rf"\Amodel: expected .*, got the operator {operator} \("):
        from_onnx(model)


def test_a_model_without_outputs_for_every_step_is_not_read():
    model = gru_model([])
    model.graph.output[0].name = "states"
    with pytest.raises(ValueError, match=r"model: expected an output for every step"):
        from_onnx(model)
