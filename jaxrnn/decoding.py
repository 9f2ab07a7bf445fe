"""Decoding: tokens out of logits, and text out of a model one token at a time."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import checks
from jaxrnn.beam import Hypotheses, beam_search
from jaxrnn.types import Array, Carry, Layer, Params

__all__ = ["Hypotheses", "Stream", "beam_search", "generate", "greedy", "sample", "stream"]


def greedy(logits: Any) -> Array:
    """Return argmax_v logits[v], the most probable token; the first one of equals.

    Args:
        logits: ``[..., V]``, floating.

    Returns int32 tokens ``[...]``.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxrnn.decoding import greedy
        >>> greedy(jnp.array([[0.0, 2.0, 1.0], [3.0, 3.0, 0.0]])).tolist()
        [1, 0]
    """
    return jnp.argmax(_logits(logits), axis=-1).astype(jnp.int32)


def sample(key: Array, logits: Any, *, temperature: Any = 1.0, top_k: int | None = None, top_p: Any = None) -> Array:
    """Draw tokens from softmax(logits / τ), cut to its most probable part.

    First temperature, then top-k, then top-p, each on the renormalised rest of the one before.

    Args:
        key: of `jax.random.key`; every token of ``[...]`` is drawn independently.
        logits: ``[..., V]``, floating.
        temperature: τ ≥ 0; 0 takes the most probable token, as `greedy` does.
        top_k: keep the k most probable tokens, k ≥ 1; of equals the first. k ≥ V keeps all.
        top_p: keep the smallest set of most probable tokens with mass ≥ p, 0 < p ≤ 1; never empty.

    ``top_k`` is static; ``temperature`` and ``top_p`` are scalars that may be traced, then unchecked.

    Returns int32 tokens ``[...]``.

    Raises:
        ValueError: a value out of range, a shape that does not fit.
        TypeError: logits that are not floating, a value that is no number.

    Source: top-k, Fan, Lewis and Dauphin, "Hierarchical Neural Story Generation" (2018); top-p, Holtzman
    et al., "The Curious Case of Neural Text Degeneration" (2020).

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxrnn.decoding import sample
        >>> logits = jnp.log(jnp.array([0.5, 0.3, 0.15, 0.05]))
        >>> keys = jax.random.split(jax.random.key(0), 200)
        >>> sorted(set(jax.vmap(lambda key: sample(key, logits, top_p=0.7))(keys).tolist()))
        [0, 1]
    """
    logits = _logits(logits)
    _check_choice(temperature, top_k, top_p)
    if checks.concrete(temperature) and temperature == 0:
        return greedy(logits)
    wide = logits if jnp.finfo(logits.dtype).bits >= 32 else logits.astype(jnp.float32)
    temperature = jnp.asarray(temperature, wide.dtype)
    scaled = wide / jnp.where(temperature == 0, jnp.ones_like(temperature), temperature).reshape((1,) * wide.ndim)
    tokens = _draw(key, scaled, top_k, top_p)
    return jnp.where(temperature == 0, greedy(logits), tokens)


def _draw(key: Array, logits: Array, top_k: int | None, top_p: Any) -> Array:
    if top_k is None and top_p is None:
        return jax.random.categorical(key, logits).astype(jnp.int32)
    vocabulary = logits.shape[-1]
    values, tokens = jax.lax.top_k(logits, vocabulary if top_k is None else min(top_k, vocabulary))
    if top_p is not None:
        top_p = jnp.asarray(top_p, values.dtype)
        probabilities = jax.nn.softmax(values)
        before = jnp.cumsum(probabilities, axis=-1) - probabilities
        # At p = 1 the rounding of the sum must not cut the tail.
        keep = ((before < top_p.reshape((1,) * before.ndim)) | (top_p >= 1)).at[..., 0].set(True)
        values = jnp.where(keep, values, -jnp.inf)
    rank = jax.random.categorical(key, values)
    return jnp.take_along_axis(tokens, jnp.expand_dims(rank, -1), axis=-1).squeeze(-1).astype(jnp.int32)


def generate(
    layer: Layer,
    params: Params,
    prompt: Any,
    length: int,
    *,
    key: Array | None = None,
    temperature: Any = 1.0,
    top_k: int | None = None,
    top_p: Any = None,
    carry: Carry | None = None,
) -> tuple[Carry, Array]:
    """Continue a prompt: x_{t+1} ~ softmax(logits_t / τ), with each token fed back as the next input.

    The prompt but its last token runs through `Layer.apply`; from there one compiled loop over
    `Layer.step` draws the tokens. It is compiled once for a layer, the shape of the prompt, ``length``
    and ``top_k``; other values of the rest do not compile again. No noise is given to the layer.

    Args:
        layer: from tokens ``[T, *B]`` to logits ``[T, *B, V]``, such as a `jaxrnn.serial` of an
            embedding, recurrent layers and a dense head.
        params: its parameters.
        prompt: integer tokens ``[T0, *B]``, T0 ≥ 1.
        length: how many tokens to draw, 0 or more.
        key: of `jax.random.key`; needed unless ``temperature`` is 0.
        temperature, top_k, top_p: as in `sample`; temperature 0 takes the most probable token.
        carry: where to begin; None for the layer's initial carry.

    Returns:
        ``(carry, tokens [length, *B])``, int32. The carry has seen all of prompt and tokens but the
        last one, so ``generate(layer, params, tokens[-1:], more, carry=carry, …)`` goes on from there.

    Raises:
        ValueError: a layer without a step, an empty prompt, a missing key, a value out of range.
        TypeError: an argument of the wrong type.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> from jaxrnn.decoding import generate
        >>> model = jaxrnn.serial(jaxrnn.embedding(10, 4), jaxrnn.recurrent(jaxrnn.gru(4, 8)), jaxrnn.dense(8, 10))
        >>> params, prompt = model.init(jax.random.key(0)), jnp.array([[1, 2], [3, 4], [5, 6]])
        >>> carry, tokens = generate(model, params, prompt, 7, key=jax.random.key(1), temperature=0.8, top_k=5)
        >>> tokens.shape, bool(((tokens >= 0) & (tokens < 10)).all())
        ((7, 2), True)
    """
    _check_steps(layer)
    if isinstance(length, bool) or not isinstance(length, (int, np.integer)):
        raise TypeError(f"length: expected an int, got {length!r}")
    if length < 0:
        raise ValueError(f"length: expected at least 0, got {length}")
    prompt = _tokens(prompt)
    _check_choice(temperature, top_k, top_p)
    greedily = checks.concrete(temperature) and bool(temperature == 0)
    if key is None and not greedily:
        raise ValueError("key: expected a jax.random.key to draw with, got None; temperature=0 needs none")
    # As arrays of one dtype, other values are not another trace.
    temperature, top_p = (None if x is None else jnp.asarray(x, jnp.float32) for x in (temperature, top_p))
    drawn = None if greedily else (key, temperature, top_p)
    return _generate(layer, int(length), None if greedily else top_k, params, prompt, carry, drawn)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _generate(
    layer: Layer, length: int, top_k: int | None, params: Params, prompt: Array, carry: Carry | None, drawn: Any
) -> tuple[Carry, Array]:
    if len(prompt) > 1:
        carry, _ = layer.apply(params, prompt[:-1], carry)
    elif carry is None:
        carry = layer.initial_carry(params, prompt.shape[1:])

    def step(state: tuple[Carry, Array], key: Array | None) -> tuple[tuple[Carry, Array], Array]:
        carry, token = state
        carry, logits = _step(layer)(params, carry, token)
        if jnp.shape(logits)[:-1] != token.shape or jnp.ndim(logits) == 0:
            raise ValueError(
                f"layer: expected logits {(*token.shape, 'V')} for tokens of shape {token.shape}, "
                f"got shape {jnp.shape(logits)}"
            )
        if drawn is None or key is None:
            token = greedy(logits)
        else:
            token = sample(key, logits, temperature=drawn[1], top_k=top_k, top_p=drawn[2])
        return (carry, token), token

    keys = None if drawn is None else jax.random.split(drawn[0], length)
    (carry, _), tokens = jax.lax.scan(step, (carry, prompt[-1]), keys, length=length)
    return carry, tokens


class Stream(NamedTuple):
    """A layer that is served one input at a time.

    start: ``(params, batch_shape=()) -> carry``, a fresh one.
    step: ``(params, carry, x) -> (carry, y)``, compiled; the memory of the carry given is reused, so it
        is gone after the call.
    """

    start: Callable[..., Carry]
    step: Callable[[Params, Carry, Any], tuple[Carry, Any]]


def stream(layer: Layer) -> Stream:
    """Return the layer's compiled step, for inputs that come one at a time: y_t before x_{t+1} is known.

    Args:
        layer: any `Layer` with a step. Keep the `Stream`: another one of the same layer compiles anew.

    Raises:
        ValueError: a layer without a step.
        TypeError: no layer.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> from jaxrnn.decoding import stream
        >>> layer = jaxrnn.recurrent(jaxrnn.gru(3, 5))
        >>> params, served = layer.init(jax.random.key(0)), stream(layer)
        >>> carry = served.start(params)
        >>> for x in jnp.ones((4, 3)):
        ...     carry, y = served.step(params, carry, x)
        >>> y.shape
        (5,)
    """
    _check_steps(layer)

    def start(params: Params, batch_shape: tuple[int, ...] = ()) -> Carry:
        # A learned initial carry can be the parameter itself, whose memory must not be given away.
        return jax.tree.map(lambda x: jnp.array(x, copy=True), layer.initial_carry(params, batch_shape))

    return Stream(start, jax.jit(lambda params, carry, x: _step(layer)(params, carry, x), donate_argnums=1))


def _check_steps(layer: Any) -> None:
    if not isinstance(layer, Layer):
        raise TypeError(f"layer: expected a jaxrnn Layer, got {type(layer).__name__}")
    _step(layer)


def _step(layer: Layer) -> Callable[..., tuple[Carry, Any]]:
    if layer.step is None:
        raise ValueError("layer: expected one with a step; this one, or a layer in it, needs the future of its input")
    return layer.step


def _tokens(prompt: Any) -> Array:
    given, prompt = prompt, checks.array("prompt", prompt)
    if not jnp.issubdtype(prompt.dtype, jnp.integer):
        raise TypeError(f"prompt: expected integer tokens, got dtype {prompt.dtype}")
    if prompt.ndim == 0 or len(prompt) == 0:
        raise ValueError(f"prompt: expected tokens [time, *batch] of at least one step, got shape {prompt.shape}")
    if prompt.size and checks.concrete(given) and np.asarray(given).min() < 0:
        raise ValueError(f"prompt: expected tokens of at least 0, got {np.asarray(given).min()}")
    return prompt.astype(jnp.int32)


def _logits(logits: Any) -> Array:
    logits = checks.array("logits", logits)
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise TypeError(f"logits: expected a floating dtype, got {logits.dtype}")
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise ValueError(f"logits: expected [..., vocabulary], got shape {logits.shape}")
    return logits


def _check_choice(temperature: Any, top_k: Any, top_p: Any) -> None:
    for name, value in (("temperature", temperature), ("top_p", top_p)):
        if getattr(value, "shape", ()) != ():
            raise ValueError(f"{name}: expected a scalar, got shape {value.shape}")
    if checks.concrete(temperature) and checks.number("temperature", _scalar(temperature)) < 0:
        raise ValueError(f"temperature: expected at least 0, got {temperature}")
    if top_k is not None:
        checks.size("top_k", top_k)
    if top_p is not None and checks.concrete(top_p) and not 0 < checks.number("top_p", _scalar(top_p)) <= 1:
        raise ValueError(f"top_p: expected 0 < top_p <= 1, got {top_p}")


def _scalar(value: Any) -> Any:
    return value.item() if isinstance(value, (jax.Array, np.ndarray)) else value
