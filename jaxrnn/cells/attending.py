"""A cell that attends to a memory at every step: the decoder of Bahdanau, Cho and Bengio (2015).

With h_{t-1} the hidden state of a cell and z_t what its step sees of the input,

    q_t = h_{t-1} W_q
    w_t = softmax(score(q_t, k_s) over s)
    c_t = Σ_s w_{t,s} v_s
    carry_t, y_t = step(carry_{t-1}, z_t + c_t W_c)

so that c_t stands beside x_t among the cell's inputs, the kernel of which is [W; W_c]; x_t W is taken
before the loop. Backward, the cell's own step giving dz_t and its dh_{t-1}:

    dc_t     = dz_t W_cᵀ                  (and what the output c_t brings)
    dw_{t,s} = dc_t · v_s                 (and what the output w_t brings)
    de_t     = w_t ⊙ (dw_t - Σ_s w_{t,s} dw_{t,s})
    dq_t     = Σ_s de_{t,s} ∂score/∂q
    dh_{t-1} += dq_t W_qᵀ
    dW_q = Σ h_{t-1}ᵀ dq_t,   dW_c = Σ c_tᵀ dz_t,   dv_s = Σ_t w_{t,s} dc_t,   dk_s = Σ_t de_{t,s} ∂score/∂k_s

The memory rides in the parameters, not in the carry: resets leave it alone, and its gradient, like that
of every weight, is one contraction over all steps, after the loop.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import checks
from jaxrnn import initializers as init_with
from jaxrnn.attention import Attention, AttentionParams, Memory
from jaxrnn.cells.noise import Noisy, without_noise
from jaxrnn.cells.products import recurrent_product, weight_gradient
from jaxrnn.scores import against, average, project, row_gradient, seen, softmax, softmax_gradient
from jaxrnn.types import Adjoint, Array, Carry, Cell, Params, recorded

OUTPUTS = ("y", "context", "weights")


class AttendingParams(NamedTuple):
    """Parameters of `attending`: of the cell, of the attention, W_c ``[C, Z]``, and the memory from `with_memory`."""

    cell: Params
    attention: AttentionParams
    context: Array
    memory: Memory | None = None


class Attended(NamedTuple):
    """What the products of one step's attention take: h_{t-1}, q_t, w_t and c_t."""

    hidden: Array
    query: Array
    weights: Array
    context: Array


class Products(NamedTuple):
    """The products: h W_q (None without W_q), the scores, Σ w v, c W_c, and the cell's own."""

    query: Array | None
    scores: Array
    context: Array
    z: Any
    cell: Any


def with_memory(
    params: AttendingParams, attention: Attention, memory: Array, *, lengths: Any = None, mask: Any = None
) -> AttendingParams:
    """Return the parameters of an `attending` cell with the memory that it attends to from now on.

    Call it inside the loss: the gradient reaches the memory, and so the encoder, through the result.

    Args:
        params, attention: those of the cell.
        memory: ``[S, *B, M]``, an encoder's ys say; its batch axes are the last of those of the
            sequences that attend to it, so that none at all serves every sequence, and those of the
            sources every beam.
        lengths: int ``[*B]``, the valid positions of each memory.
        mask: bool ``[S, *B]``, which positions are valid. Where none is, the context is zero.

    Raises:
        ValueError, TypeError: an argument that does not fit.

    Example: see `attending`.
    """
    if not isinstance(params, AttendingParams):
        raise TypeError(f"params: expected the AttendingParams of attending, got {type(params).__name__}")
    _check_attention(attention)
    return params._replace(memory=attention.prepare(params.attention, memory, lengths=lengths, mask=mask))


@recorded
def attending(
    cell: Cell,
    attention: Attention,
    input_size: int,
    *,
    outputs: tuple[str, ...] = ("y", "context"),
    context_init: init_with.Initializer = init_with.fan_in(),
) -> Cell:
    """Return ``cell`` that sees x_t and a context, c_t = Σ_s softmax(score(h_{t-1}, m_s))_s m_s, at every step.

    The state before the step asks, as in Bahdanau et al.; attention by the state after it, without
    feeding it back (Luong et al.), needs no loop: `Attention.attend` takes all the ys at once.

    Args:
        cell: a `Cell` whose carry is an array h or has a field h, as those of `vanilla`, `lstm` and
            `gru`; whose step sees nothing but a z to which c_t W_c can be added, floating arrays
            ``[..., Z]``, beside the noise of `zoneout` or `variational_dropout`; and whose output is one
            array. With an `Adjoint` it attends by an adjoint too.
        attention: of `jaxrnn.attention`, for queries of the H features of h.
        input_size: D, the features of ``xs [T, *B, D]``.
        outputs: what stands side by side in ``ys``: "y" the cell's own, "context" c_t ``[*B, C]``,
            "weights" w_t ``[*B, S]``.
        context_init: a `jaxrnn.initializers` for W_c ``[C, Z]``.

    Raises:
        ValueError: sizes that do not fit each other, an unknown output.
        TypeError: an argument of the wrong type, a cell that cannot attend.

    Source: Bahdanau, Cho and Bengio, "Neural Machine Translation by Jointly Learning to Align and
    Translate" (2015).

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> attention = jaxrnn.attention.additive(5, 4, 6)
        >>> cell = jaxrnn.attending(jaxrnn.gru(3, 5), attention, 3)
        >>> params = cell.init(jax.random.key(0))
        >>> source, target = jnp.ones((8, 2, 4)), jnp.ones((7, 2, 3))
        >>> params = jaxrnn.with_memory(params, attention, source, lengths=jnp.array([8, 3]))
        >>> h, ys = jaxrnn.unroll(cell, params, target)
        >>> h.shape, ys.shape  # y and context
        ((2, 5), (7, 2, 9))
    """
    checks.cell("cell", cell)
    _check_attention(attention)
    checks.size("input_size", input_size)
    if not isinstance(outputs, tuple) or not outputs or not set(outputs) <= set(OUTPUTS):
        raise ValueError(f"outputs: expected a tuple of {', '.join(map(repr, OUTPUTS))}, got {outputs!r}")
    if len(set(outputs)) < len(outputs):
        raise ValueError(f"outputs: expected each once, got {outputs!r}")
    checks.functions(context_init=context_init)
    z, y = _check_cell(cell, attention, input_size)
    sizes, treedef = [leaf.shape[-1] for leaf in jax.tree.leaves(z)], jax.tree.structure(z)
    dtype = jax.tree.leaves(z)[0].dtype
    shapes: dict[str, tuple[int, ...] | None] = {"context": (attention.context_size, sum(sizes))}
    call = f"attending(…, {input_size})"

    def init(key: Array) -> AttendingParams:
        checks.key("key", key)
        cell_key, attention_key, context_key = jax.random.split(key, 3)
        context = context_init(context_key, (attention.context_size, sum(sizes)), dtype)
        return AttendingParams(cell.init(cell_key), attention.init(attention_key), context)

    def initial_carry(params: AttendingParams, batch_shape: tuple[int, ...] = ()) -> Carry:
        checks.parameters(params, AttendingParams, shapes, call)
        return cell.initial_carry(params.cell, batch_shape)

    def inputs(params: AttendingParams, xs: Array, key: Array | None = None) -> Any:
        checks.parameters(params, AttendingParams, shapes, call)
        if params.memory is None:
            raise ValueError("params.memory: expected what with_memory puts there, got None")
        zs = cell.inputs(params.cell, xs, key)
        attention.check(params.attention, params.memory, xs.shape[:-1])
        return zs

    def split(x: Array) -> Any:
        """Return the columns of ``x [..., Z]`` that belong to each leaf of z."""
        return treedef.unflatten(jnp.split(x, np.cumsum(sizes)[:-1], axis=-1))

    def beside(z: Any) -> Array:
        return jnp.concatenate(jax.tree.leaves(z), axis=-1)

    def shifted(z: Any, shift: Any) -> Any:
        if isinstance(z, Noisy):
            return z._replace(z=shifted(z.z, shift))
        return jax.tree.map(lambda z, shift: (z.astype(shift.dtype) + shift).astype(z.dtype), z, shift)

    def attend(params: AttendingParams, carry: Carry, z: Any) -> tuple[Attended, Any]:
        assert params.memory is not None
        keys, values, valid = params.memory
        hidden = _hidden(carry)
        query = project(hidden, params.attention.query)
        scores = attention.score.function(params.attention.score, keys, query)
        weights = softmax(scores, seen(valid, scores))
        context = average(values, weights)
        shift = split(recurrent_product(context, params.context))
        return Attended(hidden, query, weights, context), shifted(z, shift)

    def output(at: Attended, y: Array) -> Array:
        parts = {"y": y, "context": at.context, "weights": at.weights}
        return jnp.concatenate([parts[name].astype(y.dtype) for name in outputs], axis=-1)

    def step(params: AttendingParams, carry: Carry, z: Any) -> tuple[Carry, Array]:
        at, z = attend(params, carry, z)
        carry, y = cell.step(params.cell, carry, z)
        return carry, output(at, y)

    inner = cell.adjoint
    if inner is None:
        return Cell(init, initial_carry, step, inputs)
    inner_gradients = inner.gradients

    def forward(params: AttendingParams, carry: Carry, z: Any) -> tuple[Carry, Array, Any, Any]:
        at, z = attend(params, carry, z)
        carry, y, operand, saved = inner.forward(params.cell, carry, z)
        return carry, output(at, y), (at, operand), (at.query, at.weights, saved)

    def prepare(params: AttendingParams, carry: Carry) -> AttendingParams:
        return params._replace(cell=inner.prepare(params.cell, carry))

    def transpose(params: AttendingParams) -> AttendingParams:
        query = params.attention.query
        turned = params.attention._replace(query=None if query is None else query.T)
        return params._replace(cell=inner.transpose(params.cell), attention=turned, context=params.context.T)

    def backward(transposed: AttendingParams, saved: Any, dcarry: Carry, dys: Array) -> tuple[Carry, Any, Products]:
        assert transposed.memory is not None
        query, weights, saved = saved
        keys, values, _ = transposed.memory
        widths = {"y": y.shape[-1], "context": values.shape[-1], "weights": keys.shape[-2]}
        parts = jnp.split(dys, np.cumsum([widths[name] for name in outputs])[:-1], axis=-1)
        given = dict(zip(outputs, parts, strict=True))
        dy = given.get("y", jnp.zeros((*dys.shape[:-1], widths["y"]), dys.dtype))
        dbefore, dz, da = inner.backward(transposed.cell, saved, dcarry, dy)
        dshift = without_noise(dz)
        dcontext = recurrent_product(beside(dshift), transposed.context)
        if "context" in given:
            dcontext = dcontext + given["context"].astype(dcontext.dtype)
        dweights = against(values, dcontext)
        if "weights" in given:
            dweights = dweights + given["weights"].astype(dweights.dtype)
        dscores = softmax_gradient(weights, dweights)
        dquery = attention.score.to_query(transposed.attention.score, keys, query, dscores)
        dbefore = _add_to_hidden(dbefore, project(dquery, transposed.attention.query))
        das = Products(None if transposed.attention.query is None else dquery, dscores, dcontext, dshift, da)
        return dbefore, dz, das

    def product(params: AttendingParams, operands: tuple[Attended, Any]) -> Products:
        assert params.memory is not None
        at, operand = operands
        kernel, keys = params.attention.query, params.memory.keys
        return Products(
            query=None if kernel is None else project(at.hidden, kernel),
            scores=attention.score.function(params.attention.score, keys, at.query),
            context=average(params.memory.values, at.weights),
            z=split(recurrent_product(at.context, params.context)),
            cell=inner.product(params.cell, operand),
        )

    def gradients(
        params: AttendingParams, xs: Array, operands: tuple[Attended, Any], dzs: Any, das: Products
    ) -> tuple[AttendingParams, Array]:
        assert inner_gradients is not None
        assert params.memory is not None
        (at, operand), (keys, values, valid) = operands, params.memory
        dcell, dxs = inner_gradients(params.cell, xs, operand, dzs, das.cell)
        dscore, dkeys = attention.score.to_keys(params.attention.score, keys, at.query, das.scores)
        dquery = None if das.query is None else weight_gradient(at.hidden, das.query)
        before = jax.tree.map(jnp.zeros_like, params.attention)  # W_k and W_v have made the memory, before the loop
        dvalues = row_gradient(values, at.weights, das.context)
        dmemory = Memory(dkeys, dvalues, None if valid is None else jnp.zeros_like(valid))
        dcontext = weight_gradient(at.context, beside(das.z))
        return AttendingParams(dcell, before._replace(query=dquery, score=dscore), dcontext, dmemory), dxs

    by_hand = None if inner_gradients is None else gradients
    adjoint = Adjoint(forward, transpose, backward, product, by_hand, prepare=prepare, alike=False)
    return Cell(init, initial_carry, step, inputs, adjoint)


def _check_attention(attention: Any) -> None:
    if not isinstance(attention, Attention):
        raise TypeError(f"attention: expected an Attention, got {type(attention).__name__}")


def _check_cell(cell: Cell, attention: Attention, input_size: int) -> tuple[Any, Any]:
    """Return z and y of one step of ``cell``, as shapes, or raise where it cannot attend."""
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0)))
    carry = jax.eval_shape(cell.initial_carry, params)
    hidden = _hidden(carry)
    if not hasattr(hidden, "shape") or len(hidden.shape) != 1:
        raise TypeError(
            f"cell: expected a carry that is an array [*B, H] or has a field h, got {checks.outline(carry)}"
        )
    if hidden.shape[0] != attention.query_size:
        raise ValueError(f"attention: expected queries of {hidden.shape[0]} features, got {attention.query_size}")
    dtype = jax.tree.leaves(params)[0].dtype
    z = jax.eval_shape(cell.inputs, params, jax.ShapeDtypeStruct((input_size,), dtype))
    y = jax.eval_shape(cell.step, params, carry, z)[1]
    z = without_noise(z)
    one_step = jax.ShapeDtypeStruct((1, input_size), dtype)  # noise is drawn for steps
    noisy = jax.eval_shape(lambda *given: cell.inputs(*given, jax.random.key(0)), params, one_step)
    if jax.tree.structure(without_noise(noisy)) != jax.tree.structure(z):
        raise TypeError(
            f"cell: expected a z of the same arrays with a key as without one, {checks.outline(z)}, "
            f"got {checks.outline(noisy)}; noise may come from a wrapper around attending, such as zoneout"
        )
    for leaf in jax.tree.leaves((z, y)):
        if len(leaf.shape) != 1 or not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise TypeError(f"cell: expected floating arrays [..., features] as its z and output, got {leaf}")
    if not hasattr(y, "shape"):
        raise TypeError(f"cell: expected one array as its output, got {checks.outline(y)}")
    return z, y


def _hidden(carry: Carry) -> Any:
    return getattr(carry, "h", carry)


def _add_to_hidden(carry: Carry, dh: Array) -> Carry:
    return carry._replace(h=carry.h + dh) if hasattr(carry, "h") else carry + dh
