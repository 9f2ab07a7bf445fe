"""Every cell there is, by name. An invariant holds for a cell once the cell has its line here.

A test runs over ``CELLS`` with ``@pytest.mark.parametrize("entry", CELLS, ids=str)``, makes the cell by
``entry.cell(dtype)`` and draws its parameters by `noisy_params`.
"""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn

D, H = 2, 3  # input and hidden features of every entry


class Entry(NamedTuple):
    """A cell by name: ``factory(D, H, *, dtype, carry_dtype, **options)``; features: the last axes of xs."""

    name: str
    factory: Callable[..., jaxrnn.Cell]
    options: Mapping[str, Any] = MappingProxyType({})
    features: tuple[int, ...] = (D,)

    def __str__(self) -> str:
        return self.name

    def __hash__(self) -> int:
        return hash(self.name)  # options need not have one

    def cell(self, dtype: Any = jnp.float32, carry_dtype: Any = None) -> jaxrnn.Cell:
        return self.factory(D, H, dtype=dtype, carry_dtype=carry_dtype, **self.options)


def over(factory: Callable[..., jaxrnn.Cell], *spatial: int) -> Callable[..., jaxrnn.Cell]:
    """Return the ``factory`` of a convolutional cell as one of sizes, for images with those positions."""
    return lambda channels, hidden, **options: factory((*spatial, channels), hidden, **options)


def wrapped(
    wrapper: Callable[..., jaxrnn.Cell], factory: Callable[..., jaxrnn.Cell], *arguments: Any
) -> Callable[..., jaxrnn.Cell]:
    return lambda *args, **options: wrapper(factory(*args, **options), *arguments)


def learned(factory: Callable[..., jaxrnn.Cell]) -> Callable[..., jaxrnn.Cell]:
    return wrapped(jaxrnn.learned_carry, factory)


def attending(factory: Callable[..., jaxrnn.Cell], attention: Callable[[int, Any], Any], **options: Any) -> Any:
    """Return a factory of attending cells, drawn with a memory that all share, 3 of its 4 positions valid."""

    def make(input_size, hidden_size, *, dtype, carry_dtype):
        score = attention(hidden_size, dtype)
        inner = factory(input_size, hidden_size, dtype=dtype, carry_dtype=carry_dtype)
        cell = jaxrnn.attending(inner, score, input_size, **options)

        def init(key):
            params_key, memory_key = jax.random.split(key)
            memory = jax.random.normal(memory_key, (4, score.context_size), dtype)
            return jaxrnn.with_memory(cell.init(params_key), score, memory, lengths=3)

        return cell._replace(init=init)

    return make


class UserParams(NamedTuple):
    """What a user's own vanilla, LSTM or GRU might hold."""

    w: jax.Array
    u: jax.Array


def _user_init(input_size, hidden_size, gates, dtype):
    def init(key):
        w_key, u_key = jax.random.split(key)
        return UserParams(
            w=jax.random.normal(w_key, (input_size, gates * hidden_size), dtype) / 2,
            u=jax.random.normal(u_key, (hidden_size, gates * hidden_size), dtype) / 2,
        )

    return init


def _user_inputs(params, xs, key=None):
    del key
    return xs @ params.w


def _user_recur(params, h):
    return (h.astype(params.u.dtype) @ params.u).astype(h.dtype)


def user_vanilla(input_size, hidden_size, *, dtype, carry_dtype):
    """A vanilla cell as a user writes it in split form."""

    def update(h, z, a):
        h = jnp.tanh(z.astype(h.dtype) + a)
        return h, h.astype(z.dtype)

    return jaxrnn.split_cell(
        init=_user_init(input_size, hidden_size, 1, dtype),
        initial_carry=lambda params, batch_shape=(): jnp.zeros((*batch_shape, hidden_size), carry_dtype or dtype),
        recur=_user_recur,
        update=update,
        inputs=_user_inputs,
    )


def user_lstm(input_size, hidden_size, *, dtype, carry_dtype):
    """An LSTM in split form, with its carry in a dict, and an output that is not its state."""

    def update(carry, z, a):
        i, f, g, o = jnp.split(z.astype(a.dtype) + a, 4, axis=-1)
        c = jax.nn.sigmoid(f) * carry["c"] + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return {"h": h, "c": c}, (2 * h + c).astype(z.dtype)

    return jaxrnn.split_cell(
        init=_user_init(input_size, hidden_size, 4, dtype),
        initial_carry=lambda params, batch_shape=(): {
            "h": jnp.zeros((*batch_shape, hidden_size), carry_dtype or dtype),
            "c": jnp.ones((*batch_shape, hidden_size), carry_dtype or dtype),
        },
        recur=lambda params, carry: _user_recur(params, carry["h"]),
        update=update,
        inputs=_user_inputs,
    )


def user_gru(input_size, hidden_size, *, dtype, carry_dtype):
    """A GRU with the reset gate after the product, in split form."""

    def update(h, z, a):
        r_z, u_z, n_z = jnp.split(z.astype(a.dtype), 3, axis=-1)
        r_a, u_a, n_a = jnp.split(a, 3, axis=-1)
        u = jax.nn.sigmoid(u_z + u_a)
        h = u * h + (1 - u) * jnp.tanh(n_z + jax.nn.sigmoid(r_z + r_a) * n_a)
        return h, h.astype(z.dtype)

    return jaxrnn.split_cell(
        init=_user_init(input_size, hidden_size, 3, dtype),
        initial_carry=lambda params, batch_shape=(): jnp.zeros((*batch_shape, hidden_size), carry_dtype or dtype),
        recur=_user_recur,
        update=update,
        inputs=_user_inputs,
    )


def user_step(input_size, hidden_size, *, dtype, carry_dtype):
    """A leaky cell as a bare `Cell` with a step and no adjoint."""

    def step(params, h, x):
        a = (x @ params.w).astype(h.dtype) + _user_recur(params, h)
        h = 0.5 * h + 0.5 * jnp.sin(a)
        return h, h.astype(x.dtype)

    return jaxrnn.Cell(
        init=_user_init(input_size, hidden_size, 1, dtype),
        initial_carry=lambda params, batch_shape=(): jnp.zeros((*batch_shape, hidden_size), carry_dtype or dtype),
        step=step,
    )


def connected_leaky(input_size, hidden_size, **options):
    """A leaky cell of units that excite or inhibit, some of which are not connected."""
    mask = np.arange(hidden_size**2).reshape(hidden_size, hidden_size) % 4 != 1
    return jaxrnn.leaky(input_size, hidden_size, alpha=0.4, dale=0.6, mask=mask, **options)


SINE = (jnp.sin, jnp.cos)
CELLS = (
    Entry("vanilla-tanh", jaxrnn.vanilla),
    Entry("lstm", jaxrnn.lstm),
    Entry(
        "lstm-variant",
        jaxrnn.lstm_variant,
        {"peephole": True, "projection_size": 2, "normalization": "before_bias"},
    ),
    Entry("gru-after", jaxrnn.gru),
    Entry("gru-before", jaxrnn.gru, {"reset_after": False}),
    Entry("minimal-gated", jaxrnn.minimal_gated),
    Entry("normalized-vanilla", jaxrnn.normalized_vanilla),
    Entry("residual-vanilla", jaxrnn.residual_vanilla, {"scale": 0.4}),
    Entry("lem", jaxrnn.lem, {"dt": 0.7}),
    Entry("irnn", jaxrnn.irnn),
    Entry("indrnn", jaxrnn.indrnn, {"bound": 1.2, "activation": "sigmoid"}),
    Entry("ugrnn", jaxrnn.ugrnn),
    Entry("intersection", jaxrnn.intersection),
    Entry("janet", jaxrnn.janet, {"beta": 0.7}),
    Entry("cornn", jaxrnn.cornn, {"dt": 0.5}),
    Entry("leaky", connected_leaky),
    Entry("conv-lstm-2d", over(jaxrnn.conv_lstm, 3, 2), {"kernel_size": 2}, (3, 2, D)),
    Entry("conv-gru-1d", over(jaxrnn.conv_gru, 3), {"kernel_size": 3}, (3, D)),
    Entry("conv-vanilla-1d", over(jaxrnn.conv_vanilla, 3), {"kernel_size": 2}, (3, D)),
    Entry("learned-lstm", learned(jaxrnn.lstm)),
    Entry("user-lstm", user_lstm),
    Entry("user-step", user_step),
    Entry("zoneout-lstm", wrapped(jaxrnn.zoneout, jaxrnn.lstm, (0.2, 0.4))),
    Entry("attending-lstm", attending(jaxrnn.lstm, lambda size, dtype: jaxrnn.attention.dot(size))),
)
# What differs from a cell above in one formula or option: its gradients are checked, and the rest follows.
OPTIONS = (
    Entry("vanilla-relu", jaxrnn.vanilla, {"activation": "relu"}),
    Entry("vanilla-callable", jaxrnn.vanilla, {"activation": jax.nn.softplus}),
    Entry("gru-activations", jaxrnn.gru, {"activations": ("tanh", "sigmoid")}),
    Entry("user-vanilla", user_vanilla),
    Entry("learned-user-lstm", learned(user_lstm)),
    Entry("vanilla-sigmoid", jaxrnn.vanilla, {"activation": "sigmoid"}),
    Entry("vanilla-identity", jaxrnn.vanilla, {"activation": "identity"}),
    Entry(
        "conv-vanilla-3d",
        over(jaxrnn.conv_vanilla, 3, 2, 1),
        {"kernel_size": (2, 1, 2), "strides": (2, 1, 1), "recurrent_kernel_size": (2, 2, 1), "activation": SINE},
        (3, 2, 1, D),
    ),
    Entry("gru-after-callables", jaxrnn.gru, {"activations": (jnp.arctan, SINE)}),
    Entry("gru-before-callables", jaxrnn.gru, {"reset_after": False, "activations": (SINE, jnp.arctan)}),
    Entry("residual-callable", jaxrnn.residual_vanilla, {"activation": jax.nn.softplus}),
    Entry("normalized-pair", jaxrnn.normalized_vanilla, {"activation": SINE, "epsilon": 0.1}),
    Entry("cornn-implicit", jaxrnn.cornn, {"dt": 0.5, "implicit": True}),
    Entry("leaky-low-rank", jaxrnn.leaky, {"dt": 2, "tau": 5, "rank": 2, "noise": 0.3}),
    Entry("leaky-pair", jaxrnn.leaky, {"alpha": 1.0, "activation": SINE}),
    Entry("vanilla-pair", jaxrnn.vanilla, {"activation": SINE}),
    Entry(
        "conv-lstm-activations",
        over(jaxrnn.conv_lstm, 3),
        {"kernel_size": 2, "activations": ("tanh", jax.nn.softplus, SINE)},
        (3, D),
    ),
    Entry(
        "conv-gru-before",
        lambda channels, hidden, **options: jaxrnn.conv_gru((4, 2 * channels), 2 * hidden, 2, **options),
        {"reset_after": False, "groups": 2, "padding": "valid", "dilation": 2},
        (4, 2 * D),
    ),
    Entry("lstm-ba2016", jaxrnn.lstm_variant, {"normalization": "ba2016"}),
    Entry(
        "lstm-everything",
        jaxrnn.lstm_variant,
        {
            "peephole": True,
            "coupled": True,
            "projection_size": 2,
            "normalization": "before_bias",
            "activations": ("tanh", jax.nn.softplus, SINE),
            "cell_clip": 0.5,
            "projection_clip": 0.5,
        },
    ),
    Entry("learned-gru-after", learned(jaxrnn.gru)),
    Entry("user-gru", user_gru),
    Entry("variational-gru", wrapped(jaxrnn.variational_dropout, jaxrnn.gru, 0.3)),
    Entry("all-carries-lstm", wrapped(jaxrnn.all_carries, jaxrnn.lstm)),
    Entry(
        "attending-gru",
        attending(jaxrnn.gru, lambda size, dtype: jaxrnn.attention.additive(size, 2, 3, dtype=dtype)),
    ),
    Entry(
        "attending-user-vanilla",
        attending(
            user_vanilla,
            lambda size, dtype: jaxrnn.attention.scaled_dot(size, 2, 2, dtype=dtype),
            outputs=("weights", "context"),
        ),
    ),
)
BY_NAME = {entry.name: entry for entry in (*CELLS, *OPTIONS)}


def noisy_params(cell: jaxrnn.Cell | jaxrnn.Layer, key: jax.Array) -> Any:
    """Draw parameters of which none is zero or alike, without ``init``, which JAX compiles for every shape.

    Matrices are normal. Vectors are positive: to biases and learned carries it is the same, gains and weights of valid
    positions must be.
    """
    rng = generator(key)

    def draw(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        values = 0.5 * rng.standard_normal(leaf.shape) if leaf.ndim > 1 else rng.uniform(0.2, 1.0, leaf.shape)
        return on_device(values, leaf.dtype)

    return jax.tree.map(draw, jax.eval_shape(cell.init, key))


def normal_like(key: jax.Array, tree: Any) -> Any:
    """Draw a tree of the structure, shapes and dtypes of ``tree`` (arrays or `jax.ShapeDtypeStruct`)."""
    rng = generator(key)
    return jax.tree.map(lambda leaf: on_device(rng.standard_normal(leaf.shape), leaf.dtype), tree)


def normal(key: jax.Array, shape: tuple[int, ...], dtype: Any = float) -> jax.Array:
    """Draw normal numbers; ``float`` is float64 where that is switched on."""
    return on_device(generator(key).standard_normal(shape), jax.dtypes.canonicalize_dtype(dtype))


def generator(key: jax.Array) -> np.random.Generator:
    """Return NumPy's random numbers for a key: unlike JAX's they are not compiled for every shape."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))


def on_device(values: Any, dtype: Any) -> jax.Array:
    """Return an array of JAX; other than `jnp.asarray`, nothing is compiled."""
    return jax.device_put(np.asarray(values).astype(dtype))


def assert_trees_close(actual: Any, expected: Any, tolerance: float = 1e-10) -> None:
    """Fail unless both trees have one structure, shapes and dtypes, and values that agree."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for (path, got), want in zip(jax.tree_util.tree_leaves_with_path(actual), jax.tree.leaves(expected), strict=True):
        where = jax.tree_util.keystr(path)
        assert got.shape == want.shape, f"{where}: shape {got.shape}, expected {want.shape}"
        assert got.dtype == want.dtype, f"{where}: dtype {got.dtype}, expected {want.dtype}"
        with np.errstate(invalid="ignore"):  # what is not a number is off
            got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
            error, scale = np.max(np.abs(got - want), initial=0.0), np.max(np.abs(want), initial=1.0)
        assert error <= tolerance * scale, f"{where}: off by {error:.1e}, where at most {tolerance:.0e} is allowed"


def assert_gradients_by_autodiff(cell: jaxrnn.Cell, key: jax.Array, features: tuple[int, ...] = (D,)) -> None:
    """Fail unless the adjoint's values and gradients, with resets and with noise if there is any, are autodiff's."""
    time, batch = 4, 2
    params, xs = noisy_params(cell, key), normal(key, (time, batch, *features))
    carry = normal_like(key, jax.eval_shape(lambda: cell.initial_carry(params, (batch,))))
    cotangents = normal_like(key, jax.eval_shape(lambda: jaxrnn.unroll(cell, params, xs)))
    resets = np.arange(time * batch).reshape(time, batch) % 3 == 1

    def differentiate(gradient: Any) -> Any:
        unroll = functools.partial(jaxrnn.unroll, cell, resets=resets, gradient=gradient, key=key)
        results, transpose = jax.vjp(unroll, params, xs, carry)
        return results, transpose(cotangents)

    assert_trees_close(*jax.jit(lambda: [differentiate(way) for way in ("manual", "autodiff")])())
