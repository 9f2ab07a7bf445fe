"""torch as an independent reference: its RNN, LSTM and GRU, with the same weights, in float64.

Outputs, final states, and the gradients of all weights, of the inputs and of the initial states; plain
and packed sequences; forward, and in reverse by the second direction of a bidirectional module.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from tests.registry import assert_trees_close

torch = pytest.importorskip("torch")

TIME, BATCH, D, H = 5, 4, 3, 4
PADDED, WHOLE = [3, 5, 1, 4], [TIME] * BATCH
KINDS = {
    "rnn-tanh": (jaxrnn.vanilla(D, H), functools.partial(torch.nn.RNN, nonlinearity="tanh")),
    "rnn-relu": (jaxrnn.vanilla(D, H, activation="relu"), functools.partial(torch.nn.RNN, nonlinearity="relu")),
    "lstm": (jaxrnn.lstm(D, H), torch.nn.LSTM),
    "gru": (jaxrnn.gru(D, H), torch.nn.GRU),
}


def arrays(tree):
    return jax.tree.map(lambda tensor: jnp.array(tensor.detach().numpy()), tree)


def ours(kind, w_ih, w_hh, b_ih, b_hh):
    """Return torch's weights as our parameters; torch keeps two biases, of which all but one simply add."""
    if kind == "lstm":
        return jaxrnn.LSTMParams(w_ih.T, w_hh.T, b_ih + b_hh)
    if kind == "gru":
        recurrent_only = b_hh.at[: 2 * H].set(0)
        return jaxrnn.GRUParams(w_ih.T, w_hh.T, b_ih + b_hh - recurrent_only, recurrent_only[2 * H :])
    return jaxrnn.VanillaParams(w_ih.T, w_hh.T, b_ih + b_hh)


def our_gradients(kind, w_ih, w_hh, b_ih, b_hh):
    """Return torch's gradients in our layout: of a sum of two biases each has the whole gradient."""
    if kind == "lstm":
        return jaxrnn.LSTMParams(w_ih.T, w_hh.T, b_ih)
    if kind == "gru":
        assert_trees_close(b_hh[: 2 * H], b_ih[: 2 * H])
        return jaxrnn.GRUParams(w_ih.T, w_hh.T, b_ih, b_hh[2 * H :])
    return jaxrnn.VanillaParams(w_ih.T, w_hh.T, b_ih)


def our_carry(kind, states, direction):
    """Return one direction's ``[*B, H]`` of torch's ``[direction, *B, H]``, as our carry."""
    return jaxrnn.LSTMCarry(*(s[direction] for s in states)) if kind == "lstm" else states[0][direction]


def by_torch(kind, direction, lengths, generator):
    """Return arguments, results, cotangents and gradients of one direction of a bidirectional module."""
    module = KINDS[kind][1](D, H, bidirectional=True, dtype=torch.float64)
    randn = functools.partial(torch.randn, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(randn(weight.shape) / 2)
    xs = randn(TIME, BATCH, D).requires_grad_()
    states = [randn(2, BATCH, H).requires_grad_() for _ in range(2 if kind == "lstm" else 1)]
    start = tuple(states) if kind == "lstm" else states[0]
    if lengths == WHOLE:
        both, finals = module(xs, start)
    else:
        packed = torch.nn.utils.rnn.pack_padded_sequence(xs, torch.tensor(lengths), enforce_sorted=False)
        packed, finals = module(packed, start)
        both, _ = torch.nn.utils.rnn.pad_packed_sequence(packed, total_length=TIME)
    ys = both[..., direction * H : (direction + 1) * H]
    finals = list(finals) if kind == "lstm" else [finals]
    dys, dfinals = randn(ys.shape), [randn(final.shape) for final in finals]
    loss = (ys * dys).sum()
    for final, dfinal in zip(finals, dfinals, strict=True):
        loss = loss + (final[direction] * dfinal[direction]).sum()
    loss.backward()
    weights = [getattr(module, name + "_l0" + "_reverse" * direction) for name in NAMES]
    params, dparams = arrays(weights), arrays([weight.grad for weight in weights])
    arguments = ours(kind, *params), arrays(xs), our_carry(kind, arrays(states), direction)
    results = our_carry(kind, arrays(finals), direction), arrays(ys)
    cotangents = our_carry(kind, arrays(dfinals), direction), arrays(dys)
    dstates = our_carry(kind, arrays([state.grad for state in states]), direction)
    return arguments, results, cotangents, (our_gradients(kind, *dparams), arrays(xs.grad), dstates)


NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


@functools.cache
def by_jaxrnn(kind, reverse):
    def run(arguments, cotangents, lengths):
        unroll = functools.partial(jaxrnn.unroll, KINDS[kind][0], lengths=lengths, reverse=reverse)
        results, transpose = jax.vjp(unroll, *arguments)
        return results, transpose(cotangents)

    return jax.jit(run)


@pytest.mark.parametrize("direction", [0, 1], ids=["forward", "reverse"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lengths", [WHOLE, PADDED], ids=["whole", "packed"])
def test_values_and_gradients_are_those_of_torch(kind, direction, lengths, seed, float64):
    generator = torch.Generator().manual_seed(seed)
    arguments, results, cotangents, gradients = by_torch(kind, direction, lengths, generator)
    actual = by_jaxrnn(kind, direction == 1)(arguments, cotangents, np.array(lengths))
    assert_trees_close(actual, (results, gradients))
