"""torch's convolutions as an independent reference: one for each gate, in a plain loop, differentiated by torch.

Values, and the gradients of all weights, of the inputs and of the initial state, with groups, strides and dilation.
"""

import functools

import jax
import jax.numpy as jnp
import pytest

import jaxrnn
from tests.registry import assert_trees_close

torch = pytest.importorskip("torch")
T, B = 3, 2


def convolution(x, kernel, groups, strides=1, dilation=1, padding="same"):
    """Return x * W by torch for images and kernels in our layout."""
    apply = {3: torch.nn.functional.conv1d, 4: torch.nn.functional.conv2d, 5: torch.nn.functional.conv3d}[x.ndim]
    x, kernel = x.movedim(-1, 1), kernel.movedim((-1, -2), (0, 1))
    if padding == "same":
        around = []
        for n, k in zip(reversed(x.shape[2:]), reversed(kernel.shape[2:]), strict=True):
            zeros = max((-(-n // strides) - 1) * strides + dilation * (k - 1) + 1 - n, 0)
            around += [zeros // 2, zeros - zeros // 2]
        x = torch.nn.functional.pad(x, around)
    return apply(x, kernel, stride=strides, dilation=dilation, groups=groups).movedim(1, -1)


class Products:
    """For each gate x * W + b and h * U, by convolutions of its own."""

    def __init__(self, names, params, options):
        self.parts = {
            name: [tensor.chunk(len(names), dim=-1)[index] for tensor in params[:3]] for index, name in enumerate(names)
        }
        self.groups = options.get("groups", 1)
        self.rest = options.get("strides", 1), options.get("dilation", 1), options.get("padding", "same")

    def x(self, gate, x):
        kernel, _, bias = self.parts[gate]
        return convolution(x, kernel, self.groups, *self.rest) + bias

    def h(self, gate, h):
        return convolution(h, self.parts[gate][1], self.groups)


def vanilla(params, options, xs, h):
    of = Products("a", params, options)
    for x in xs:
        h = torch.tanh(of.x("a", x) + of.h("a", h))
        yield h, h


def lstm(params, options, xs, carry):
    of, (h, c) = Products("ifgo", params, options), carry
    for x in xs:
        a = {gate: of.x(gate, x) + of.h(gate, h) for gate in "ifgo"}
        c = torch.sigmoid(a["f"]) * c + torch.sigmoid(a["i"]) * torch.tanh(a["g"])
        h = torch.sigmoid(a["o"]) * torch.tanh(c)
        yield (h, c), h


def gru(params, options, xs, h):
    of = Products("run", params, options)
    for x in xs:
        r, u = (torch.sigmoid(of.x(gate, x) + of.h(gate, h)) for gate in "ru")
        if options.get("reset_after", True):
            n = torch.tanh(of.x("n", x) + r * (of.h("n", h) + params[3]))
        else:
            n = torch.tanh(of.x("n", x) + of.h("n", r * h))
        h = (1 - u) * n + u * h
        yield h, h


CASES = {
    "vanilla 3d": (jaxrnn.conv_vanilla, vanilla, ((3, 2, 2, 1), 2, (2, 1, 2)), {"strides": 2}),
    "lstm 2d": (jaxrnn.conv_lstm, lstm, ((3, 4, 4), 4, (2, 3)), {"groups": 2}),
    "gru after 1d": (jaxrnn.conv_gru, gru, ((5, 3), 6, 2), {"groups": 3, "padding": "valid", "dilation": 2}),
    "gru before 1d": (jaxrnn.conv_gru, gru, ((5, 2), 4, 3), {"groups": 2, "strides": 2, "reset_after": False}),
}


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_of_torch(name, rng, float64):
    factory, plain_loop, sizes, options = CASES[name]
    cell = factory(*sizes, **options, dtype=jnp.float64)
    params = jax.eval_shape(cell.init, jax.random.key(0))
    start = jax.eval_shape(lambda params: cell.initial_carry(params, (B,)), params)
    xs = jax.ShapeDtypeStruct((T, B, *sizes[0]), jnp.float64)
    results = jax.eval_shape(functools.partial(jaxrnn.unroll, cell), params, xs, start)
    draw = lambda leaf: rng.standard_normal(leaf.shape) / 2
    arguments, cotangents = jax.tree.map(draw, ((params, xs, start), results))

    tensors = jax.tree.map(lambda leaf: torch.tensor(leaf, requires_grad=True), arguments)
    carries, ys = zip(*plain_loop(tensors[0], options, *tensors[1:]), strict=True)
    results = jax.tree.leaves((carries[-1], torch.stack(ys)))
    torch.autograd.backward(results, list(map(torch.tensor, jax.tree.leaves(cotangents))))

    @jax.jit
    def ours(arguments, cotangents):
        results, transpose = jax.vjp(functools.partial(jaxrnn.unroll, cell), *arguments)
        return results, transpose(cotangents)

    values, gradients = ours(arguments, cotangents)
    assert_trees_close(jax.tree.leaves(values), [result.detach().numpy() for result in results])
    assert_trees_close(gradients, jax.tree.map(lambda tensor: tensor.grad.numpy(), tensors))
