"""The Transformer of Vaswani et al. (2017), with the normalisation before each sublayer (Xiong et al. 2020).

    x ← x + Attention(norm(x)) W_o + b_o
    x ← x + max(0, norm(x) W_1 + b_1) W_2 + b_2        in every layer, and norm(x) at the end

    Attention: [q, k, v] = x W + b in heads,  softmax(q kᵀ / √A over the visible steps) v

A step sees the valid steps of its own segment, up to itself if causal, within the last ``context`` of
them if that is given. The position of a step is the number of valid steps before it in its segment, so
that steps that do not count might as well not be there.

The carry is the last ``context`` keys and values of the segment that goes on: one more step, or any
number of them, attends to these and to itself.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn import initializers as init_with
from jaxrnn.cells.products import affine
from jaxrnn.layers.dense import DenseParams
from jaxrnn.layers.dropout import dropout as dropout_layer
from jaxrnn.layers.positions import rotated, sinusoids
from jaxrnn.layers.views import View, newest, view
from jaxrnn.scores import float32_at_least, softmax
from jaxrnn.steps import flags, leading_axes, time_and_batch, valid_steps, zero_unless
from jaxrnn.types import Array, Layer, recorded

POSITIONS = ("rotary", "learned", "sinusoidal")
EPSILON = 1e-5  # in the normalisation


class NormParams(NamedTuple):
    """Weights of a layer normalisation: ``scale [D]`` and ``bias [D]``."""

    scale: Array
    bias: Array


class BlockParams(NamedTuple):
    """Weights of one layer of `transformer`; queries, keys and values side by side, ``[D, 3D]``."""

    attention_norm: NormParams
    attention: DenseParams
    output: DenseParams
    feedforward_norm: NormParams
    up: DenseParams
    down: DenseParams


class TransformerParams(NamedTuple):
    """Weights of `transformer`: its layers, the last normalisation, learned positions ``[context, D]`` or None."""

    blocks: tuple[BlockParams, ...]
    norm: NormParams
    positions: Array | None


class TransformerCarry(NamedTuple):
    """What later steps attend to: ``keys`` and ``values [*B, layers, context, N, A]``, the newest last.

    count: int ``[*B]``, the steps of the segment so far. Slots that hold none of them are zero.
    """

    keys: Array
    values: Array
    count: Array


class Options(NamedTuple):
    """The arguments of `transformer` that its parameters do not show."""

    heads: int
    causal: bool
    dropout: float
    context: int | None
    position: str | None

    @property
    def slots(self) -> int:
        """How many steps the carry holds."""
        return self.context if self.causal and self.context is not None else 0


@recorded
def transformer(
    features: int,
    heads: int,
    num_layers: int = 1,
    *,
    feedforward: int | None = None,
    causal: bool = True,
    dropout: float = 0.0,
    context: int | None = None,
    position: str | None = "rotary",
    kernel_init: init_with.Initializer = init_with.fan_in(),
    dtype: Any = jnp.float32,
) -> Layer:
    """Return a stack of pre-norm Transformer layers, x ← x + Attention(norm(x)), x ← x + MLP(norm(x)).

    Args:
        features: D of ``xs`` and ``ys [T, *B, D]``.
        heads: N, a divisor of D.
        num_layers: how many layers, before one last normalisation.
        feedforward: the units of the MLP; 4 D unless given.
        causal: whether a step sees only itself and what came before it.
        dropout: the share of each sublayer's outputs that is set to zero where a key is given.
        context: how many steps a step sees at most, itself the last of them (not causal: how many on
            either side, itself the first of both); None for all. It is the size of the carry, so that
            without it there is no carry and `Layer.step` is None, as it is where not causal.
            Through several layers a step hears of steps further back than its context.
        position: "rotary", "sinusoidal", "learned" or None. Learned positions are as many as the
            context; the last of them serves all steps beyond it.
        kernel_init: a `jaxrnn.initializers` for all kernels and learned positions.
        dtype: of the parameters, and so of inputs and outputs.

    Raises:
        ValueError: sizes that do not fit each other, an unknown choice.
        TypeError: an argument of the wrong type.

    Source: Vaswani et al., "Attention Is All You Need" (2017); Xiong et al., "On Layer Normalization in
    the Transformer Architecture" (2020).

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> layer = jaxrnn.transformer(8, 2, context=16)
        >>> params, xs = layer.init(jax.random.key(0)), jnp.ones((5, 3, 8))
        >>> carry, ys = jax.jit(layer.apply)(params, xs)
        >>> carry, y = layer.step(params, carry, xs[0])
        >>> ys.shape, y.shape, carry.count.tolist()
        ((5, 3, 8), (3, 8), [6, 6, 6])
    """
    checks.size("features", features)
    checks.size("heads", heads)
    checks.size("num_layers", num_layers)
    units = 4 * features if feedforward is None else checks.size("feedforward", feedforward)
    checks.flag("causal", causal)
    checks.number("dropout", dropout)
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout: expected 0 <= dropout < 1, got {dropout}")
    if context is not None:
        checks.size("context", context)
    if position is not None:
        checks.choice("position", position, POSITIONS)
    checks.functions(kernel_init=kernel_init)
    checks.floating(dtype=dtype)
    if features % heads:
        raise ValueError(f"heads: expected a divisor of the {features} features, got {heads}")
    size = features // heads
    if (position == "rotary" and size % 2) or (position == "sinusoidal" and features % 2):
        raise ValueError(f"position: expected pairs of features for {position!r}, got {features} in {heads} heads")
    if position == "learned" and context is None:
        raise ValueError("position: expected a context for 'learned', got None")
    call = f"transformer({features}, {heads}, {num_layers})"
    options = Options(heads, causal, dropout, context, position)

    def init(key: Array) -> TransformerParams:
        checks.key("key", key)
        *keys, positions_key = jax.random.split(key, 4 * num_layers + 1)

        def dense(index: int, inputs: int, outputs: int) -> DenseParams:
            return DenseParams(kernel_init(keys[index], (inputs, outputs), dtype), jnp.zeros(outputs, dtype))

        def norm() -> NormParams:
            return NormParams(jnp.ones(features, dtype), jnp.zeros(features, dtype))

        blocks = tuple(
            BlockParams(
                norm(),
                dense(4 * layer, features, 3 * features),
                dense(4 * layer + 1, features, features),
                norm(),
                dense(4 * layer + 2, features, units),
                dense(4 * layer + 3, units, features),
            )
            for layer in range(num_layers)
        )
        learned = kernel_init(positions_key, (context, features), dtype) if context and position == "learned" else None
        return TransformerParams(blocks, norm(), learned)

    shapes = jax.eval_shape(lambda: init(jax.random.key(0)))

    def check(params: TransformerParams) -> None:
        if not isinstance(params, TransformerParams):
            raise TypeError(f"params: expected the TransformerParams of {call}, got {type(params).__name__}")
        kept = getattr(params.norm.scale, "dtype", dtype)
        expected = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, kept), shapes)
        checks.same_structure("params", params, expected, f"for {call}")

    def initial_carry(params: TransformerParams, batch_shape: tuple[int, ...] = ()) -> Any:
        check(params)
        checks.batch(batch_shape)
        if options.slots == 0:
            return ()
        shape = (*batch_shape, num_layers, options.slots, heads, size)
        keys, values = (jnp.zeros(shape, params.norm.scale.dtype) for _ in range(2))
        return TransformerCarry(keys, values, jnp.zeros(batch_shape, jnp.int32))

    def run(
        params: TransformerParams, xs: Array, carry: Any, valid: Array | None, begins: Array | None, key: Array | None
    ) -> tuple[Any, Array]:
        batch = xs.shape[1:-1]
        checks.same_structure("carry", carry, initial_carry(params, batch), f"for a batch of shape {batch}")
        if key is not None:
            checks.key("key", key)
        return forward(options, params, xs, carry, valid, begins, key)[:2] if len(xs) else (carry, xs)

    def apply(
        params: TransformerParams,
        xs: Any,
        carry: Any = None,
        *,
        lengths: Any = None,
        mask: Any = None,
        resets: Any = None,
        key: Array | None = None,
    ) -> tuple[Any, Array]:
        time, batch = time_and_batch(xs, 1)
        check(params)
        checks.features("xs", xs, features, params.norm.scale.dtype, call)
        valid = valid_steps(time, batch, lengths, mask)
        begins = None if resets is None else flags("resets", resets, (time, *batch), "[time, *batch]")
        carry = initial_carry(params, batch) if carry is None else carry
        return run(params, jnp.asarray(xs), carry, valid, begins, key)

    def step(
        params: TransformerParams, carry: Any, x: Any, *, reset: Any = None, key: Array | None = None
    ) -> tuple[Any, Array]:
        batch = leading_axes("x", x, 1, "[*batch, features]")
        check(params)
        checks.features("x", x, features, params.norm.scale.dtype, call)
        begins = None if reset is None else flags("reset", reset, batch, "[*batch]")[None]
        carry, ys = run(params, jnp.asarray(x)[None], carry, None, begins, key)
        return carry, ys[0]

    return Layer(init, initial_carry, apply, step if options.slots else None)


def forward(
    options: Options,
    params: TransformerParams,
    xs: Array,
    carry: Any,
    valid: Array | None,
    begins: Array | None,
    key: Array | None,
) -> tuple[Any, Array, list[Array]]:
    """Return (carry, ys, weights) of ``xs [T, *B, D]``; what does not count in it is zeroed here, before and after.

    The weights of each layer are those of its attention, ``[rows, N, T, C + T]`` for the C steps carried and these;
    rows are all batch axes together.
    """
    (time, *batch), slots = xs.shape[:-1], options.slots
    noise = dropout_layer(options.dropout)
    draws = [None] * 2 * len(params.blocks) if key is None else list(jax.random.split(key, 2 * len(params.blocks)))

    def rows(x: Array, axis: int) -> Array:
        """Return ``x`` with one axis of rows, the first, for the batch axes from ``axis`` on."""
        return jnp.moveaxis(x.reshape(*x.shape[:axis], -1, *x.shape[axis + len(batch) :]), axis, 0)

    x, valid, begins = jax.tree.map(lambda leaf: rows(leaf, 1), (zero_unless(valid, xs), valid, begins))
    cached = jax.tree.map(lambda leaf: rows(leaf, 0), carry) if slots else None
    count = jnp.zeros(x.shape[0], jnp.int32) if cached is None else cached.count
    seen = view(count, slots, valid, begins, time, options.causal, options.context)
    if options.position == "sinusoidal":
        x = x + sinusoids(seen.positions, x.shape[-1], x.dtype)
    if params.positions is not None:
        x = x + jnp.take(params.positions, seen.positions, axis=0, mode="clip")
    after, weights = [], []
    for layer, block in enumerate(params.blocks):
        before = None if cached is None else (cached.keys[:, layer], cached.values[:, layer])
        mixed, pair, shares = _attend(options, block, _normalized(block.attention_norm, x), seen, before)
        x = x + noise.apply((), mixed, key=draws[2 * layer])[1]
        hidden = jax.nn.relu(affine(_normalized(block.feedforward_norm, x), *block.up))
        x = x + noise.apply((), affine(hidden, *block.down), key=draws[2 * layer + 1])[1]
        after.append(pair)
        weights.append(shares)
    ys = jnp.moveaxis(zero_unless(valid, _normalized(params.norm, x)), 0, 1).reshape(xs.shape)
    if cached is None:
        return (), ys, weights
    keys, values = (jnp.stack([newest(seen, slots, x) for x in each], axis=1) for each in zip(*after, strict=True))
    new = TransformerCarry(keys, values, seen.count)
    return jax.tree.map(lambda leaf, like: leaf.reshape(like.shape), new, carry), ys, weights


def _attend(
    options: Options, block: BlockParams, x: Array, seen: View, before: tuple[Array, Array] | None
) -> tuple[Array, tuple[Array, Array], Array]:
    """Return the attention's ``[B, T, D]``, the keys and values ``[B, C + T, N, A]`` that it read, and its weights."""
    size = x.shape[-1] // options.heads
    q, k, v = jnp.split(affine(x, *block.attention).reshape(*x.shape[:2], 3 * options.heads, size), 3, axis=2)
    if options.position == "rotary":
        q, k = rotated(q, seen.positions), rotated(k, seen.positions)
    if before is not None:
        k, v = (jnp.concatenate([old, new], axis=1) for old, new in zip(before, (k, v), strict=True))
    scores = jnp.einsum("btna,bsna->bnts", q, k) * jnp.asarray(size**-0.5, x.dtype)
    weights = softmax(scores, jnp.expand_dims(seen.visible, 1))
    mixed = jnp.einsum("bnts,bsna->btna", weights, v)
    return affine(mixed.reshape(x.shape), *block.output), (k, v), weights


def _normalized(params: NormParams, x: Array) -> Array:
    """Return (x - mean) / deviation over the features, scaled and shifted; mean and deviation in float32 at least."""
    wide = x.astype(float32_at_least(x.dtype))
    centred = wide - wide.mean(axis=-1, keepdims=True)
    unit = centred * jax.lax.rsqrt(jnp.square(centred).mean(axis=-1, keepdims=True) + EPSILON)
    scale, bias = (leaf.reshape((1,) * (x.ndim - 1) + (-1,)) for leaf in params)
    return unit.astype(x.dtype) * scale + bias
