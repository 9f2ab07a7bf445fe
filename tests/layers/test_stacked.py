"""Stacks as torch makes them: torch's own numbers, and what torch cannot do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from tests.layers.stepping import step_of
from tests.registry import assert_trees_close
from tests.test_torch import NAMES, arrays

torch = pytest.importorskip("torch")

TIME, BATCH, D, H = 4, 3, 2, 3
LENGTHS = [4, 2, 3]
MODULES = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}


def params_of(kind, w_ih, w_hh, b_ih, b_hh):
    """Return torch's weights of one direction as ours; with ``b_hh`` of 0 where it adds to ``b_ih``."""
    if kind == "lstm":
        return jaxrnn.LSTMParams(w_ih.T, w_hh.T, b_ih)
    return jaxrnn.GRUParams(w_ih.T, w_hh.T, b_ih, b_hh[2 * H :])


def by_layer(kind, per_weight):
    """Return what torch has for each weight, as our parameters of two layers of two directions."""
    first, first_back, second, second_back = (params_of(kind, *arrays(per_weight[at : at + 4])) for at in (0, 4, 8, 12))
    return jaxrnn.Directions(first, first_back), jaxrnn.Directions(second, second_back)


def carry_of(kind, states):
    """Return torch's ``[layers · directions, *B, H]`` as our carry."""
    of_one = [jaxrnn.LSTMCarry(*s) if kind == "lstm" else s[0] for s in zip(*states, strict=True)]
    return jaxrnn.Directions(*of_one[:2]), jaxrnn.Directions(*of_one[2:])


def by_torch(kind, generator):
    """Return arguments, results, cotangents and gradients of two bidirectional layers on packed sequences."""
    module = MODULES[kind](D, H, num_layers=2, bidirectional=True, dtype=torch.float64)
    randn = functools.partial(torch.randn, generator=generator, dtype=torch.float64)
    weights = list(module.parameters())
    assert [name for name, _ in module.named_parameters()][4:8] == [f"{name}_l0_reverse" for name in NAMES]
    with torch.no_grad():
        for name, weight in module.named_parameters():
            weight.copy_(randn(weight.shape) / 2)
            if name.startswith("bias_hh"):
                weight[: 4 * H if kind == "lstm" else 2 * H] = 0
    xs = randn(TIME, BATCH, D).requires_grad_()
    states = [randn(4, BATCH, H).requires_grad_() for _ in range(2 if kind == "lstm" else 1)]
    packed = torch.nn.utils.rnn.pack_padded_sequence(xs, torch.tensor(LENGTHS), enforce_sorted=False)
    packed, finals = module(packed, tuple(states) if kind == "lstm" else states[0])
    ys, _ = torch.nn.utils.rnn.pad_packed_sequence(packed, total_length=TIME)
    results = [ys, *(finals if kind == "lstm" else [finals])]
    cotangents = [randn(result.shape) for result in results]
    torch.autograd.backward(results, cotangents)

    def ours(tree):
        return carry_of(kind, arrays(tree[1:])), arrays(tree[0])

    gradients = by_layer(kind, [weight.grad for weight in weights]), *ours([xs.grad, *(s.grad for s in states)])
    return (by_layer(kind, weights), *ours([xs, *states])), ours(results), ours(cotangents), gradients


@pytest.mark.parametrize("kind", MODULES)
def test_values_and_gradients_are_those_of_torch(kind, seed, float64):
    (params, carry, xs), results, cotangents, gradients = by_torch(kind, torch.Generator().manual_seed(seed))
    layer = jaxrnn.stacked(getattr(jaxrnn, kind), D, H, num_layers=2, bidirectional=True, dtype=jnp.float64)

    def run(params, carry, xs, cotangents):
        actual, transpose = jax.vjp(
            lambda params, carry, xs: layer.apply(params, xs, carry, lengths=np.array(LENGTHS)), params, carry, xs
        )
        return actual, transpose(cotangents)

    assert_trees_close(jax.jit(run)(params, carry, xs, cotangents), (results, gradients))
    assert not results[1][3, 2].any()  # torch pads with zeros, and so do we


def sizes(layer: jaxrnn.Layer, inputs: tuple[int, ...]) -> tuple[list, tuple[int, ...]]:
    """Return the shapes of each layer's carry, and of the outputs."""
    params = jax.eval_shape(lambda: layer.init(jax.random.key(0)))
    carry, ys = jax.eval_shape(layer.apply, params, jax.ShapeDtypeStruct((5, 4, *inputs), jnp.float32))
    assert len(params) == len(carry)
    return [[leaf.shape[1:] for leaf in jax.tree.leaves(entry)] for entry in carry], ys.shape


def test_every_layer_may_have_a_size_of_its_own():
    assert sizes(jaxrnn.stacked(jaxrnn.gru, 2, 3), (2,)) == ([[(3,)]], (5, 4, 3))
    assert sizes(jaxrnn.stacked(jaxrnn.gru, 2, (7, 6, 5)), (2,)) == ([[(7,)], [(6,)], [(5,)]], (5, 4, 5))
    both_ways = jaxrnn.stacked(jaxrnn.gru, 2, [7, 6], num_layers=2, bidirectional=True)
    assert sizes(both_ways, (2,)) == ([[(7,)] * 2, [(6,)] * 2], (5, 4, 12))


def test_the_cell_says_how_many_features_its_outputs_have():
    def wider(input_size, hidden_size):
        cell = jaxrnn.vanilla(input_size, hidden_size)

        def step(params, carry, z):
            carry, y = cell.step(params, carry, z)
            return carry, jnp.concatenate([y, y, y], axis=-1)

        return cell._replace(step=step, adjoint=None)

    assert sizes(jaxrnn.stacked(wider, 2, (4, 5, 6)), (2,)) == ([[(4,)], [(5,)], [(6,)]], (5, 4, 18))


def test_inputs_may_have_axes_of_their_own():
    def image(input_shape, channels):
        shape = (*input_shape[:-1], channels)
        return jaxrnn.Cell(
            init=lambda key: jnp.ones((input_shape[-1], channels)),
            initial_carry=lambda params, batch_shape=(): jnp.zeros((*batch_shape, *shape)),
            step=lambda params, h, x: (h + x @ params,) * 2,
            feature_axes=len(input_shape),
        )

    layer = jaxrnn.stacked(image, (8, 7, 2), (5, 3))
    assert sizes(layer, (8, 7, 2)) == ([[(8, 7, 5)], [(8, 7, 3)]], (5, 4, 8, 7, 3))


def test_dropout_is_between_layers_and_needs_a_key(key):
    """Its rate changes neither parameters nor carry, so that what was trained with it runs without."""
    options = {"num_layers": 2, "gradient": "autodiff", "recurrent_init": jaxrnn.initializers.identity(0.5)}
    without, layer = (jaxrnn.stacked(jaxrnn.vanilla, 2, 8, dropout=rate, **options) for rate in (0.0, 0.5))

    @jax.jit
    def run(key):
        params, xs = layer.init(key), jax.random.normal(key, (2, 2))
        carry = without.initial_carry(params)
        plain = [model.apply(params, xs, key=k) for model, k in ((without, None), (without, key), (layer, None))]
        return plain, layer.apply(params, xs, key=key), step_of(layer)(params, carry, xs[0], key=key)

    (plain, *others), (carry, ys), (next_carry, y) = run(key)
    assert_trees_close(others, [plain] * 2, 0.0)
    assert_trees_close(carry[0], plain[0][0], 0.0)  # a state is not dropped: what goes up is
    assert (ys != plain[1]).all()
    assert (ys != 0).all()
    assert (y != plain[1][0]).all()
    assert (y == next_carry[1]).all()


def test_every_cell_has_a_key_of_its_own(key):
    cell, keys = jaxrnn.vanilla(3, 3), []

    def inputs(params, xs, key=None):
        keys.append(key)
        return cell.inputs(params, xs)

    layer = jaxrnn.stacked(lambda *sizes: cell._replace(inputs=inputs), 3, 3, num_layers=3, dropout=0.5)
    params = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), jax.eval_shape(layer.init, key))
    keys.clear()
    with jax.disable_jit():
        layer.apply(params, jnp.ones((1, 3)), key=key)
        step_of(layer)(params, layer.initial_carry(params), jnp.ones(3), key=key)
    assert len({tuple(jax.random.key_data(k).tolist()) for k in keys}) == 3


def test_options_reach_the_cells_and_the_loop():
    layer = jaxrnn.stacked(jaxrnn.gru, 2, 3, num_layers=2, gradient="autodiff", reset_after=False)
    params = jax.eval_shape(layer.init, jax.random.key(0))
    assert [entry.candidate_bias for entry in params] == [None, None]
    xs = jax.ShapeDtypeStruct((2, 2), jnp.float32)

    def tangent(params, xs):  # by hand there is none
        return jax.jvp(lambda xs: layer.apply(params, xs)[1], (xs,), (xs,))[1]

    assert jax.eval_shape(tangent, params, xs).shape == (2, 3)


def test_there_is_a_step_unless_it_reads_from_both_ends():
    assert jaxrnn.stacked(jaxrnn.gru, 2, 3, num_layers=2, dropout=0.1).step is not None
    assert jaxrnn.stacked(jaxrnn.gru, 2, 3, num_layers=2, dropout=0.1, bidirectional=True).step is None
