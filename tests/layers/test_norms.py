"""Layer norm and RMS norm: torch's values and gradients, and rows that have no spread."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from tests.registry import assert_trees_close, normal_like

torch = pytest.importorskip("torch")

D = 5
NORMS = {
    "layer_norm": (jaxrnn.layer_norm, torch.nn.LayerNorm),
    "rms_norm": (jaxrnn.rms_norm, torch.nn.RMSNorm),
}


@pytest.mark.parametrize("name", NORMS)
def test_values_and_gradients_are_those_of_torch(name, key, float64):
    (ours, theirs), eps = NORMS[name], 0.3
    layer, module = ours(D, eps=eps, dtype=jnp.float64), theirs(D, eps=eps, dtype=torch.float64)
    params = normal_like(key, layer.init(key))
    xs, dys = (np.array(jax.random.normal(k, (3, 2, D))) for k in jax.random.split(key))
    with torch.no_grad():
        for weight, value in zip(module.parameters(), params, strict=True):
            weight.copy_(torch.tensor(np.array(value)))
    tensor = torch.tensor(xs, requires_grad=True)
    output = module(tensor)
    output.backward(torch.tensor(dys))
    assert tensor.grad is not None
    expected = [output, *(weight.grad for weight in module.parameters()), tensor.grad]

    @jax.jit
    def run(params, xs, dys):
        ys, transpose = jax.vjp(lambda params, xs: layer.apply(params, xs)[1], params, xs)
        return ys, transpose(dys)

    ys, (dparams, dxs) = run(params, xs, dys)
    assert_trees_close([ys, *dparams, dxs], [jnp.array(t.detach().numpy()) for t in expected], 1e-12)


@pytest.mark.parametrize("name", NORMS)
def test_it_starts_as_the_norm_alone(name, key):
    params = NORMS[name][0](D).init(key)
    assert (params.scale == 1).all()
    assert name == "rms_norm" or not params.bias.any()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", NORMS)
def test_gradients_of_rows_without_spread_are_finite(name, dtype, key):
    layer = NORMS[name][0](D, dtype=dtype)
    xs = jnp.stack([jnp.zeros(D), jnp.full(D, 7.0), jnp.full(D, jnp.nan)]).astype(dtype)

    @jax.jit
    def finite(params, xs):
        ys, transpose = jax.vjp(lambda p, xs: layer.apply(p, xs, lengths=jnp.array(2))[1], params, xs)
        return jax.tree.map(lambda leaf: jnp.isfinite(leaf).all(), (ys, transpose(jnp.ones_like(ys))))

    assert all(jax.tree.leaves(finite(layer.init(key), xs)))


@pytest.mark.parametrize("name", NORMS)
def test_half_precision_is_that_of_inputs_and_outputs_alone(name, key):
    xs = jax.random.normal(key, (64, D), jnp.bfloat16) + 9

    @jax.jit
    def run(xs):
        layer = NORMS[name][0](D, dtype=xs.dtype)
        return layer.apply(layer.init(key), xs)[1]

    assert (run(xs) == run(xs.astype(jnp.float32)).astype(jnp.bfloat16)).all()
