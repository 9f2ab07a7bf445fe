"""Beam search: of all continuations the most probable ones, by keeping the k best prefixes at every step.

A hypothesis y_1 … y_m ends with the end token, or at the longest length. Its score is

    ln P(y_1 … y_m) / lp(m),   lp(m) = ((5 + m) / (5 + 1))^α

At each step every prefix is extended by every token. Of these extensions, those of the k best that end
are hypotheses, and leave the beam; the k best that do not end are the next prefixes. The k hypotheses
with the highest scores are kept apart from the beam, so that no prefix displaces them.

The search is over when no prefix can become a hypothesis better than the k it has. Since ln P only falls
and lp only grows, a prefix of probability P becomes none better than ln P / lp(longest).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import checks
from jaxrnn.scores import float32_at_least
from jaxrnn.types import Array, Carry


class Hypotheses(NamedTuple):
    """Sequences that `beam_search` has found, the best first.

    tokens: int32 ``[length, *B, k]``; the end token from the end of each on.
    scores: ln P / lp ``[*B, k]``, in float32 at least; -∞ where there are fewer than k.
    lengths: int32 ``[*B, k]``, tokens with the one that ends them; 0 where there are fewer than k.
    """

    tokens: Array
    scores: Array
    lengths: Array


class Search(NamedTuple):
    """Where the search stands after n steps.

    carry: of the k prefixes, ``[k, *B, ...]``.
    last: their last tokens, ``[*B, k]``.
    prefixes: the tokens, ln P and lengths of those in the beam.
    finished: the hypotheses found so far.
    """

    n: Array
    carry: Carry
    last: Array
    prefixes: Hypotheses
    finished: Hypotheses


def beam_search(
    step: Callable[[Carry, Array], tuple[Carry, Array]],
    carry: Carry,
    start: Any,
    *,
    beams: int,
    length: int,
    end_token: int,
    length_penalty: Any = 0.0,
) -> Hypotheses:
    """Return the k sequences with the highest ln P / lp that a beam of k prefixes finds; lp(m) = ((5 + m) / 6)^α.

    One loop, which ends as soon as no sequence of the batch can do better. Call it inside your own
    `jax.jit`; on its own it compiles its loop at every call. With one beam and no penalty it is the
    greedy choice; where nothing is pruned, k ≥ V^length, it is the best there is.

    Args:
        step: ``(carry, tokens [k, *B]) -> (carry, logits [k, *B, V])``, such as ``lambda carry, token:
            layer.step(params, carry, token)``. The beam is the first axis, so that a memory with batch
            axes ``*B`` serves all prefixes (`jaxrnn.attention`).
        carry: where to begin; leaves ``[*B, ...]``.
        start: integer tokens ``[*B]`` to take the first step with; they are no part of what is found.
        beams: k, the width of the beam and the number of sequences returned.
        length: how many tokens a sequence has at most, with the one that ends it. Those cut there count
            as found.
        end_token: what ends a sequence, from 0 to V - 1.
        length_penalty: α ≥ 0, a scalar that may be traced, then unchecked; 0 compares probabilities,
            which favours short sequences, and 0.6 is usual for translation.

    Raises:
        ValueError: a size below 1, a value out of range, a shape that does not fit.
        TypeError: an argument of the wrong type.

    Source: Graves, "Sequence Transduction with Recurrent Neural Networks" (2012); the penalty, Wu et al.,
    "Google's Neural Machine Translation System" (2016).

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxrnn.decoding import beam_search
        >>> table = jnp.log(jnp.array([[0.0, 0.6, 0.4], [0.3, 0.35, 0.35], [0.9, 0.05, 0.05]]))
        >>> start = jnp.zeros((), int)  # 0 begins and ends; 2 is less probable at first, and then ends
        >>> found = beam_search(lambda _, token: ((), table[token]), (), start, beams=2, length=3, end_token=0)
        >>> found.tokens.T.tolist(), [round(p, 3) for p in jnp.exp(found.scores).tolist()]
        ([[2, 0, 0], [1, 2, 0]], [0.36, 0.189])
    """
    if not callable(step):
        raise TypeError(f"step: expected a function (carry, tokens) -> (carry, logits), got {type(step).__name__}")
    checks.size("beams", beams)
    checks.size("length", length)
    checks.size("end_token", end_token, least=0)
    start = _start(start)
    batch = start.shape
    last = jnp.broadcast_to(start[..., None], (*batch, beams))
    carry = jax.tree.map(lambda leaf: _repeated(leaf, beams, batch), carry)
    vocabulary, dtype = _logits_of(step, carry, jnp.moveaxis(last, -1, 0))
    if end_token >= vocabulary:
        raise ValueError(f"end_token: expected a token from 0 to {vocabulary - 1}, got {end_token}")
    alpha = _penalty(length_penalty).astype(dtype)

    def lp(m: Any) -> Array:
        return ((5 + jnp.asarray(m, dtype)) / 6) ** alpha

    def better_is_possible(search: Search) -> Array:
        best = search.prefixes.scores[..., 0] / lp(length)
        return (search.n < length) & jnp.any(search.finished.scores[..., -1] < best)

    def extend(search: Search) -> Search:
        n, carry, last, prefixes, finished = search
        carry, logits = step(carry, jnp.moveaxis(last, -1, 0))
        steps = jax.nn.log_softmax(jnp.moveaxis(logits, 0, -2).astype(dtype))
        every = (prefixes.scores[..., None] + steps).reshape(*batch, beams * vocabulary)
        # Each prefix ends in one way, so that of the 2k best at least k do not end.
        scores, index = jax.lax.top_k(every, min(2 * beams, beams * vocabulary))
        parents, tokens = index // vocabulary, index % vocabulary
        grown = jnp.take_along_axis(prefixes.tokens, parents[None], axis=-1).at[n].set(tokens)
        extended = Hypotheses(grown, scores, jnp.full_like(tokens, n + 1))

        ends = tokens == end_token
        among_the_best = jnp.arange(ends.shape[-1]).reshape((1,) * len(batch) + (-1,)) < beams
        ended = jnp.where(ends & among_the_best, scores / lp(n + 1), -jnp.inf)
        finished, _ = _best(beams, _beside(finished, extended._replace(scores=ended)))
        prefixes, chosen = _best(beams, extended._replace(scores=jnp.where(ends, -jnp.inf, scores)))
        parents, last = (jnp.take_along_axis(x, chosen, axis=-1) for x in (parents, tokens))
        carry = jax.tree.map(lambda leaf: _at(leaf, jnp.moveaxis(parents, -1, 0)), carry)
        return Search(n + 1, carry, last, prefixes, finished)

    nothing = Hypotheses(
        jnp.full((length, *batch, beams), end_token, jnp.int32),
        jnp.full((*batch, beams), -jnp.inf, dtype),
        jnp.zeros((*batch, beams), jnp.int32),
    )
    # One prefix to begin with: k equal ones would stay equal.
    one = nothing._replace(scores=nothing.scores.at[..., 0].set(0))
    end = jax.lax.while_loop(better_is_possible, extend, Search(jnp.zeros((), jnp.int32), carry, last, one, nothing))
    cut = jnp.where(end.n == length, end.prefixes.scores / lp(length), -jnp.inf)
    found, _ = _best(beams, _beside(end.finished, end.prefixes._replace(scores=cut)))
    some = found.scores > -jnp.inf
    return Hypotheses(jnp.where(some[None], found.tokens, end_token), found.scores, jnp.where(some, found.lengths, 0))


def _best(count: int, hypotheses: Hypotheses) -> tuple[Hypotheses, Array]:
    """Return those with the highest scores, the best first, and where they were."""
    scores, index = jax.lax.top_k(hypotheses.scores, count)
    tokens = jnp.take_along_axis(hypotheses.tokens, index[None], axis=-1)
    return Hypotheses(tokens, scores, jnp.take_along_axis(hypotheses.lengths, index, axis=-1)), index


def _beside(these: Hypotheses, others: Hypotheses) -> Hypotheses:
    return Hypotheses(*(jnp.concatenate(pair, axis=-1) for pair in zip(these, others, strict=True)))


def _at(leaf: Array, parents: Array) -> Array:
    """Return ``leaf [k, *B, ...]`` with the rows of ``parents [k, *B]``."""
    return jnp.take_along_axis(leaf, parents.reshape(*parents.shape, *(1,) * (leaf.ndim - parents.ndim)), axis=0)


def _repeated(leaf: Any, beams: int, batch: tuple[int, ...]) -> Array:
    leaf = checks.array("carry", leaf)
    if leaf.shape[: len(batch)] != batch:
        raise ValueError(f"carry: expected arrays {(*batch, '...')}, with the axes of start, got shape {leaf.shape}")
    return jnp.broadcast_to(leaf[None], (beams, *leaf.shape))


def _start(start: Any) -> Array:
    start = checks.array("start", start)
    if not jnp.issubdtype(start.dtype, jnp.integer):
        raise TypeError(f"start: expected integer tokens, got dtype {start.dtype}")
    return start.astype(jnp.int32)


def _logits_of(step: Callable[..., Any], carry: Carry, tokens: Array) -> tuple[int, Any]:
    """Return V and the dtype of the scores, or raise where the step does not give a carry like its own and logits."""
    result = jax.eval_shape(step, carry, tokens)
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(f"step: expected to return (carry, logits), got {checks.outline(result)}")
    after, logits = result
    checks.same_structure("step: carry", after, carry, "as it came in")
    if not hasattr(logits, "shape") or logits.shape[:-1] != tokens.shape or logits.ndim == 0:
        got = getattr(logits, "shape", checks.outline(logits))
        raise ValueError(f"step: expected logits {(*tokens.shape, 'V')} for tokens of shape {tokens.shape}, got {got}")
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise TypeError(f"step: expected floating logits, got dtype {logits.dtype}")
    return logits.shape[-1], float32_at_least(logits.dtype)


def _penalty(value: Any) -> Array:
    if getattr(value, "shape", ()) != ():
        raise ValueError(f"length_penalty: expected a scalar, got shape {value.shape}")
    if checks.concrete(value):
        known = value.item() if isinstance(value, (jax.Array, np.ndarray)) else value
        if checks.number("length_penalty", known) < 0:
            raise ValueError(f"length_penalty: expected at least 0, got {known}")
    return jnp.asarray(value)
