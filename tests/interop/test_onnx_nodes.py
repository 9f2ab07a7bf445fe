"""The operators RNN, LSTM and GRU of ONNX: the standard's own tests, and ONNX Runtime over random nodes."""

import functools
import importlib
import re
import unittest

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn.interop.onnx import ONNXActivation, run_node
from jaxrnn.interop.onnx.activations import FORMULAS
from tests.interop.onnx_runtime import model_of, onnx, run_model

make_node = onnx.helper.make_node

T, B, D, H = 4, 3, 2, 3
GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}
SLOTS = {"RNN": 1, "LSTM": 3, "GRU": 2}
DIRECTIONS = ("forward", "reverse", "bidirectional")


@pytest.mark.filterwarnings("ignore::RuntimeWarning:onnx.backend.test.case.node")
def test_the_tests_of_the_standard_pass(monkeypatch, optimized):
    """ONNX's own runner drives the backend through all node tests of the three operators.

    They compare to 1e-7, which a program without optimisations misses near the ends of a gate. ONNX computes what it
    expects by NumPy, which now and then warns of a product that is fine, of flags that other threads' arithmetic left.
    """
    import onnx.backend.test.loader
    from onnx.backend.test import BackendTest

    from jaxrnn.interop.onnx import Backend

    def import_cases(package):  # of three operators, for those of all take longer than their tests
        return [importlib.import_module(f"{package.__name__}.{name}") for name in ("rnn", "lstm", "gru")]

    monkeypatch.setattr(onnx.backend.test.loader, "import_recursive", import_cases)
    tests = BackendTest(Backend, __name__).test_cases["OnnxBackendNodeModelTest"]
    ours = re.compile(r"test_(simple_)?(rnn|lstm|gru)_.*_cpu")
    names = [name for name in unittest.defaultTestLoader.getTestCaseNames(tests) if ours.fullmatch(name)]
    result = unittest.TestResult()
    unittest.TestSuite(map(tests, names)).run(result)
    assert not [report for _, report in [*result.errors, *result.failures, *result.skipped]]
    assert result.testsRun == len(names) >= 18


def run(node, inputs):
    """Run a node as one program, which is compiled sooner than its operations one after the other."""
    return jax.jit(functools.partial(run_node, node))(inputs)


def draw_node(operator, rng):
    """Return attributes and arrays of a random node, its activations by name, α and β given where there are any."""
    direction = DIRECTIONS[rng.integers(3)]
    ways = 2 if direction == "bidirectional" else 1
    draw = lambda *shape: rng.uniform(-0.8, 0.8, shape).astype(np.float32)
    gates, maybe = GATES[operator], lambda array: array if rng.integers(2) else None
    arrays = {
        "X": draw(T, B, D),
        "W": draw(ways, gates * H, D),
        "R": draw(ways, gates * H, H),
        "B": maybe(draw(ways, 2 * gates * H)),
        "sequence_lens": maybe(rng.permutation([0, 2, T]).astype(np.int32)),
        "initial_h": maybe(draw(ways, B, H)),
    }
    attributes = {"direction": direction, "hidden_size": H}
    if operator == "LSTM":
        arrays |= {"initial_c": maybe(draw(ways, B, H)), "P": maybe(draw(ways, 3 * H))}
        attributes["input_forget"] = int(rng.integers(2))
    if operator == "GRU":
        attributes["linear_before_reset"] = int(rng.integers(2))
    if arrays["sequence_lens"] is not None and any(arrays.get(f"initial_{part}") is not None for part in "hc"):
        arrays["sequence_lens"] += arrays["sequence_lens"] == 0  # where that forgets the initial state
    return attributes, arrays


def hold(operator, attributes, arrays, layout=0):
    """Fail unless the node gives what ONNX Runtime does, which knows layout 0 alone."""
    outputs = {"Y": 4, "Y_h": 3, "Y_c": 3} if operator == "LSTM" else {"Y": 4, "Y_h": 3}
    present = {name: array for name, array in arrays.items() if array is not None}
    node = make_node(operator, [name if name in present else "" for name in arrays], outputs, **attributes)
    expected = run_model(model_of([node], present, outputs), present)
    inputs = dict(arrays)
    for name in ("X", "initial_h", "initial_c"):
        if layout and inputs.get(name) is not None:
            inputs[name] = inputs[name].swapaxes(0, 1)
    node.attribute.append(onnx.helper.make_attribute("layout", layout))
    actual = dict(zip(outputs, run(node, list(inputs.values())), strict=True))
    for name, value in expected.items():
        axes = range(value.ndim) if not layout else (2, 0, 1, 3) if name == "Y" else (1, 0, 2)
        np.testing.assert_allclose(actual[name], value.transpose(*axes), rtol=1e-4, atol=5e-6, err_msg=name)


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("operator", GATES)
def test_values_are_those_of_onnx_runtime(operator, index, rng):
    attributes, arrays = draw_node(operator, rng)
    if index > 1:
        attributes["clip"] = 0.5
    hold(operator, attributes, arrays, layout=index % 2)


@pytest.mark.parametrize("name", FORMULAS)
def test_activations_are_those_of_onnx_runtime(name, rng):
    """The function in every place of a node, other numbers in each, which others without numbers do not take."""
    operator = ("RNN", "LSTM", "GRU")[sorted(FORMULAS).index(name) % 3]
    attributes, arrays = draw_node(operator, rng)
    count = SLOTS[operator] * (2 if attributes["direction"] == "bidirectional" else 1)
    attributes["activations"] = ["Tanh" if index == 1 else name for index in range(count)]
    _, alpha, beta = FORMULAS[name]
    numbers = rng.uniform(0.1, 0.9, count).tolist()
    attributes |= {} if alpha is None else {"activation_alpha": numbers}
    attributes |= {} if beta is None else {"activation_beta": numbers[::-1]}
    hold(operator, attributes, arrays)


def ones(dtype):
    """Return X, W and R of an RNN."""
    return [np.ones(shape, dtype) for shape in [(T, B, D), (1, H, D), (1, H, H)]]


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16, np.float32])
def test_the_dtype_stays_and_absent_outputs_are_none(dtype):
    ys, h = run(make_node("RNN", ["X", "W", "R"], ["", "Y_h"]), ones(dtype))
    assert ys is None
    assert h.dtype == dtype


def test_a_sequence_of_no_steps_keeps_its_initial_state(rng):
    arrays = {"X": (T, B, D), "W": (1, H, D), "R": (1, H, H), "B": (1, 2 * H)}
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in arrays.items()}
    h = rng.standard_normal((1, B, H)).astype(np.float32)
    node = make_node("RNN", [*arrays, "sequence_lens", "initial_h"], ["Y", "Y_h"])
    ys, last = run(node, [*arrays.values(), np.array([0, 2, 0], np.int32), h])
    assert (last == h).all(axis=-1).tolist() == [[True, False, True]]
    assert not ys[:, :, 0].any()


def test_a_node_is_differentiated_mapped_and_compiled_as_anything_else():
    node = make_node("GRU", ["X", "W", "R"], ["Y"])
    loss = lambda W, X, R: jnp.array(run_node(node, [X, W, R])[0]).sum()
    arrays = [np.ones(shape, np.float32) for shape in [(1, 3 * H, D), (5, T, B, D), (1, 3 * H, H)]]
    gradients = jax.eval_shape(jax.jit(jax.vmap(jax.grad(loss), (None, 0, None))), *arrays)
    assert gradients.shape == (5, 1, 3 * H, D)


def test_float64_is_not_rounded_in_silence():
    node = make_node("RNN", ["X", "W", "R"], ["Y"])
    with pytest.raises(TypeError, match="X: expected float32, or JAX with float64 enabled"):
        run_node(node, ones(np.float64))
    with jax.enable_x64(True):
        assert run(node, ones(np.float64))[0].dtype == np.float64


def test_a_backend_runs_whole_models_again_and_again(rng):
    """Recurrent nodes here, others by ONNX; lengths may change from run to run."""
    from jaxrnn.interop.onnx import Backend

    attributes, arrays = draw_node("GRU", rng)
    arrays |= {"B": None, "initial_h": None, "sequence_lens": np.array([T, 1, 2], np.int32)}
    present = {name: array for name, array in arrays.items() if array is not None}
    nodes = [
        make_node("GRU", [name if name in present else "" for name in arrays], ["Y"], **attributes),
        make_node("ReduceSum", ["Y"], ["total"], keepdims=0),
    ]
    model = model_of(nodes, present, {"total": 0})
    assert Backend.is_compatible(model)
    prepared = Backend.prepare(model)
    for lengths in ([T, 1, 2], [0, 3, 1]):
        inputs = {**present, "sequence_lens": np.array(lengths, np.int32)}
        (total,) = prepared.run(list(inputs.values()))
        np.testing.assert_allclose(total, run_model(model, inputs)["total"], rtol=1e-4)
    (total,) = Backend.run_model(model, list(present.values()))
    assert total.dtype == np.float32


def test_a_backend_says_what_it_has():
    from jaxrnn.interop.onnx import Backend

    assert issubclass(Backend, importlib.import_module("onnx.backend.base").Backend)
    assert Backend.supports_device("CPU")
    assert not Backend.supports_device("CUDA:99")
    assert not Backend.supports_device("TPU")
    unknown = model_of([make_node("Unknown", ["X"], ["Y"])], {"X": np.ones(1, np.float32)}, {"Y": 1})
    assert not Backend.is_compatible(unknown)
    other = Backend.run_node(make_node("Neg", ["X"], ["Y"]), [np.ones(2, np.float32)])
    assert other[0].tolist() == [-1, -1]


def test_an_activation_of_onnx_goes_into_any_cell():
    a = jnp.array(np.array([-2.0, 0.5, 3.0], np.float32))
    assert jax.jit(ONNXActivation("LeakyRelu", 0.1, clip=1.0))(a).tolist() == [np.float32(-0.1), 0.5, 1.0]
