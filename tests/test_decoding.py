"""Decoding against slow references: sets kept by sorting in NumPy, and generation one step at a time."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import decoding
from tests.layers.stepping import step_of
from tests.registry import normal_like

LOGITS = np.random.default_rng(0).normal(size=(2, 3, 7)).astype(np.float32) * 2
V = 7


def kept(logits, temperature=1.0, top_k=None, top_p=None):
    """Return the distribution that is left of one row of logits, the slow and obvious way."""
    probabilities = np.exp(logits.astype(np.float64) / temperature)
    probabilities /= probabilities.sum()
    order = sorted(range(len(logits)), key=lambda v: (-logits[v], v))
    if top_k is not None:
        order = order[:top_k]
    if top_p is not None:
        whole = probabilities[order].sum()
        nucleus, mass = [], 0.0
        for v in order:
            if mass >= top_p:
                break
            nucleus.append(v)
            mass += probabilities[v] / whole
        order = nucleus
    left = np.zeros_like(probabilities)
    left[order] = probabilities[order]
    return left / left.sum()


def test_greedy_is_the_first_maximum():
    tokens = decoding.greedy(LOGITS)
    assert tokens.dtype == jnp.int32
    np.testing.assert_array_equal(tokens, LOGITS.argmax(-1))
    assert decoding.greedy(jnp.array([1.0, 5.0, 5.0])) == 1


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 2.0, "top_k": 3},
        {"top_k": 100},
        {"top_p": 0.6},
        {"temperature": 1.5, "top_k": 4, "top_p": 0.8},
    ],
    ids=str,
)
def test_sample_has_the_distribution_that_is_left(options):
    draws = 4000
    keys = jax.random.split(jax.random.key(7), draws)
    tokens = np.asarray(jax.jit(jax.vmap(lambda key: decoding.sample(key, LOGITS, **options)))(keys))
    assert tokens.shape == (draws, 2, 3)
    assert tokens.dtype == np.int32
    for row in np.ndindex(2, 3):
        expected = kept(LOGITS[row], **options)
        seen = np.bincount(tokens[(slice(None), *row)], minlength=V) / draws
        assert not np.any(seen[expected == 0])
        # Five standard deviations of a share of 4000 draws.
        np.testing.assert_array_less(np.abs(seen - expected), 5 * np.sqrt(expected * (1 - expected) / draws) + 1e-9)


def test_top_k_keeps_exactly_k_of_equals():
    keys = jax.random.split(jax.random.key(0), 300)
    tokens = jax.jit(jax.vmap(lambda key: decoding.sample(key, np.zeros(5, np.float32), top_k=2)))(keys)
    assert sorted(set(tokens.tolist())) == [0, 1]


def test_top_p_of_one_keeps_the_tail():
    # The running sum in float32 reaches 1 long before the last of these tokens.
    logits = np.array([20.0, *[0.0] * 1000], np.float32)
    keys = jax.random.split(jax.random.key(0), 300)
    everything = jax.jit(jax.vmap(lambda key: decoding.sample(key, logits * np.float32(1e-3), top_p=1.0)))(keys)
    assert len(set(everything.tolist())) > 200


@pytest.mark.parametrize("temperature", [0, 0.0, np.float32(0), jnp.float32(0)])
def test_temperature_zero_is_greedy(temperature):
    key = jax.random.key(0)
    np.testing.assert_array_equal(decoding.sample(key, LOGITS, temperature=temperature), LOGITS.argmax(-1))
    traced = jax.jit(lambda t: decoding.sample(key, LOGITS, temperature=t, top_k=5))(temperature)
    np.testing.assert_array_equal(traced, LOGITS.argmax(-1))


def test_traced_options_draw_the_same():
    key = jax.random.key(3)
    traced = jax.jit(lambda t, p: decoding.sample(key, LOGITS, temperature=t, top_p=p))(0.7, 0.8)
    np.testing.assert_array_equal(traced, decoding.sample(key, LOGITS, temperature=0.7, top_p=0.8))


def test_the_smallest_cuts_are_greedy():
    draw = jax.jit(lambda p: decoding.sample(jax.random.key(3), LOGITS, temperature=5.0, top_p=p))
    for p in (1e-6, 0.0, -1.0):  # a traced value is not checked, and still leaves one token
        np.testing.assert_array_equal(draw(p), LOGITS.argmax(-1))
    np.testing.assert_array_equal(
        decoding.sample(jax.random.key(3), LOGITS, temperature=5.0, top_k=1), LOGITS.argmax(-1)
    )


def test_half_precision_logits_and_banned_tokens():
    logits = np.where(np.arange(V) == 2, -np.inf, LOGITS).astype(jnp.bfloat16)
    keys = jax.random.split(jax.random.key(0), 300)
    tokens = jax.jit(jax.vmap(lambda key: decoding.sample(key, logits, top_p=0.99)))(keys)
    assert tokens.dtype == jnp.int32
    assert not np.any(np.asarray(tokens) == 2)


def test_both_kinds_of_key():
    tokens = decoding.sample(jax.random.PRNGKey(1), LOGITS, top_k=3)
    np.testing.assert_array_equal(tokens, decoding.sample(jax.random.key(1), LOGITS, top_k=3))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"temperature": -1.0}, ValueError, "temperature: expected at least 0, got -1.0"),
        ({"temperature": float("nan")}, ValueError, "temperature: expected a finite number"),
        ({"temperature": "hot"}, TypeError, "temperature: expected a number, got 'hot'"),
        ({"temperature": None}, TypeError, "temperature: expected a number, got None"),
        ({"temperature": np.ones(3)}, ValueError, r"temperature: expected a scalar, got shape \(3,\)"),
        ({"top_k": 0}, ValueError, "top_k: expected at least 1, got 0"),
        ({"top_k": 2.0}, TypeError, "top_k: expected an int, got 2.0"),
        ({"top_p": 0.0}, ValueError, "top_p: expected 0 < top_p <= 1, got 0.0"),
        ({"top_p": 1.5}, ValueError, "top_p: expected 0 < top_p <= 1, got 1.5"),
        ({"top_p": "all"}, TypeError, "top_p: expected a number"),
        ({"logits": LOGITS.astype(int)}, TypeError, "logits: expected a floating dtype"),
        ({"logits": np.float32(1)}, ValueError, r"logits: expected \[..., vocabulary\], got shape \(\)"),
        ({"logits": LOGITS[..., :0]}, ValueError, "logits: expected"),
    ],
)
def test_sample_wrong_arguments(options, error, message):
    with pytest.raises(error, match=message):
        decoding.sample(jax.random.key(0), **({"logits": LOGITS} | options))


def language_model():
    return jaxrnn.serial(
        jaxrnn.embedding(V, 4), jaxrnn.recurrent(jaxrnn.lstm(4, 6)), jaxrnn.dropout(0.5), jaxrnn.dense(6, V)
    )


MODEL = language_model()
PARAMS = normal_like(jax.random.key(0), jax.eval_shape(MODEL.init, jax.random.key(0)))
PROMPT = np.array([[1, 2], [3, 4], [5, 6]])


STEP = jax.jit(step_of(MODEL))


def one_at_a_time(prompt, length, choose):
    """Generate by calling the layer's step in a Python loop."""
    carry, token = MODEL.initial_carry(PARAMS, prompt.shape[1:]), prompt[0]
    tokens = []
    for t in range(len(prompt) + length - 1):
        carry, logits = STEP(PARAMS, carry, token)
        token = prompt[t + 1] if t + 1 < len(prompt) else choose(len(tokens), logits)
        if t + 1 >= len(prompt):
            tokens.append(token)
    return carry, np.stack(tokens)


def test_a_prompt_may_be_a_list_that_holds_a_traced_token():
    generate = lambda prompt: decoding.generate(MODEL, PARAMS, prompt, 3, temperature=0)[1]
    assert (jax.jit(lambda token: generate([token, 1]))(2) == generate([2, 1])).all()


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("batch", [(), (2,), (1, 2)])
def test_generate_greedily_is_the_loop(steps, batch):
    prompt = PROMPT[:steps, 0] if batch == () else PROMPT[:steps].reshape(steps, *batch)
    carry, tokens = decoding.generate(MODEL, PARAMS, prompt, 6, temperature=0)
    expected_carry, expected = one_at_a_time(
        prompt, 6, lambda _, logits: np.asarray(logits).argmax(-1).astype(np.int32)
    )
    assert tokens.shape == (6, *batch)
    assert tokens.dtype == jnp.int32
    np.testing.assert_array_equal(tokens, expected)
    chex.assert_trees_all_close(carry, expected_carry, atol=1e-6)


def test_generate_draws_as_sample_does():
    options = {"temperature": 0.9, "top_k": 5, "top_p": 0.9}
    keys = jax.random.split(jax.random.key(5), 6)
    _, tokens = decoding.generate(MODEL, PARAMS, PROMPT, 6, key=jax.random.key(5), **options)
    _, expected = one_at_a_time(PROMPT, 6, lambda n, logits: decoding.sample(keys[n], logits, **options))
    np.testing.assert_array_equal(tokens, expected)
    _, others = decoding.generate(MODEL, PARAMS, PROMPT, 6, key=jax.random.key(6), **options)
    assert np.any(np.asarray(tokens) != np.asarray(others))


def test_generate_goes_on_from_its_carry():
    _, whole = decoding.generate(MODEL, PARAMS, PROMPT, 7, temperature=0)
    carry, first = decoding.generate(MODEL, PARAMS, PROMPT, 4, temperature=0)
    _, second = decoding.generate(MODEL, PARAMS, first[-1:], 3, temperature=0, carry=carry)
    np.testing.assert_array_equal(whole, np.concatenate([first, second]))
    carry, none = decoding.generate(MODEL, PARAMS, PROMPT, 0, temperature=0)
    assert none.shape == (0, 2)
    _, after = decoding.generate(MODEL, PARAMS, PROMPT[-1:], 7, temperature=0, carry=carry)
    np.testing.assert_array_equal(whole, after)


def counted(layer):
    """Return the layer with a step that counts how often it is traced."""
    traces = []

    def step(params, carry, x, **options):
        traces.append(x.shape)
        assert layer.step is not None
        return layer.step(params, carry, x, **options)

    return layer._replace(step=step), traces


def test_generate_compiles_once():
    layer, traces = counted(MODEL)
    decoding.generate(layer, PARAMS, PROMPT, 5, key=jax.random.key(0), temperature=0.5, top_k=3, top_p=0.9)
    first = len(traces)
    assert first > 0
    for seed, temperature, top_p in ((1, 0.7, 0.8), (2, jnp.float32(1), 0.7), (3, 1, 1)):
        changed, key = normal_like(jax.random.key(seed), PARAMS), jax.random.key(seed)
        decoding.generate(layer, changed, PROMPT - 1, 5, key=key, temperature=temperature, top_k=3, top_p=top_p)
    assert len(traces) == first
    decoding.generate(layer, PARAMS, PROMPT, 6, key=jax.random.key(0), temperature=0.5, top_k=3, top_p=0.9)
    assert len(traces) > first


def test_generate_needs_a_step():
    backward = jaxrnn.recurrent(jaxrnn.gru(4, 6), reverse=True)
    layer = jaxrnn.serial(jaxrnn.embedding(V, 4), backward, jaxrnn.dense(6, V))
    params = normal_like(jax.random.key(0), jax.eval_shape(layer.init, jax.random.key(0)))
    for call in (
        lambda: decoding.generate(layer, params, PROMPT, 3, temperature=0),
        lambda: decoding.stream(layer),
    ):
        with pytest.raises(ValueError, match="layer: expected one with a step"):
            call()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"layer": jaxrnn.gru(3, 4)}, TypeError, "layer: expected a jaxrnn Layer, got Cell"),
        ({"layer": jaxrnn.embedding(V, 0 + 4), "params": 0}, TypeError, "params: expected the EmbeddingParams"),
        ({"prompt": PROMPT[:0]}, ValueError, r"prompt: expected .* at least one step, got shape \(0, 2\)"),
        ({"prompt": 3}, ValueError, "prompt: expected"),
        ({"prompt": PROMPT * 1.0}, TypeError, "prompt: expected integer tokens, got dtype float32"),
        ({"prompt": PROMPT - 2}, ValueError, "prompt: expected tokens of at least 0, got -1"),
        ({"length": -1}, ValueError, "length: expected at least 0, got -1"),
        ({"length": 2.0}, TypeError, "length: expected an int, got 2.0"),
        ({"temperature": 1.0}, ValueError, "key: expected a jax.random.key to draw with, got None"),
        ({"temperature": -1.0}, ValueError, "temperature: expected at least 0"),
        ({"top_k": 0}, ValueError, "top_k: expected at least 1"),
    ],
)
def test_generate_wrong_arguments(change, error, message):
    arguments = {"layer": MODEL, "params": PARAMS, "prompt": PROMPT, "length": 2, "temperature": 0} | change
    with pytest.raises(error, match=message):
        decoding.generate(**arguments)


def test_generate_needs_logits():
    layer = jaxrnn.Layer(
        lambda key: (),
        lambda params, batch_shape=(): (),
        lambda params, xs, carry=None, **_: ((), xs),
        lambda params, carry, x, **_: ((), jnp.zeros((5, *x.shape))),
    )
    with pytest.raises(ValueError, match=r"layer: expected logits \(2, 'V'\) .* got shape \(5, 2\)"):
        decoding.generate(layer, (), PROMPT, 2, temperature=0)


def test_stream_agrees_with_apply_and_compiles_once():
    layer, traces = counted(jaxrnn.recurrent(jaxrnn.lstm(3, 4)))
    params = normal_like(jax.random.key(0), jax.eval_shape(layer.init, jax.random.key(0)))
    xs = normal_like(jax.random.key(1), np.zeros((6, 2, 3), np.float32))
    served = decoding.stream(layer)
    first = carry = served.start(params, (2,))
    ys = []
    for x in np.asarray(xs):
        carry, y = served.step(params, carry, x)
        ys.append(y)
    expected_carry, expected = layer.apply(params, xs)
    chex.assert_trees_all_close((carry, np.stack(ys)), (expected_carry, expected), atol=1e-6)
    assert len(traces) == 1
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(first))


def test_stream_leaves_a_learned_initial_carry_alone():
    layer = jaxrnn.recurrent(jaxrnn.learned_carry(jaxrnn.gru(3, 4)))
    params = normal_like(jax.random.key(0), jax.eval_shape(layer.init, jax.random.key(0)))
    served = decoding.stream(layer)
    for _ in range(2):
        served.step(params, served.start(params), np.ones(3, np.float32))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(params))
