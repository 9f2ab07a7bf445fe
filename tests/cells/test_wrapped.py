"""`learned_carry`, `split_cell` and all wrappers: they agree with the cells that they are made of or stand for."""

import functools
import itertools
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from tests.registry import (
    BY_NAME,
    CELLS,
    D,
    H,
    assert_gradients_by_autodiff,
    assert_trees_close,
    attending,
    normal,
    normal_like,
    on_device,
)

pytestmark = pytest.mark.usefixtures("float64")
T, B = 4, 2


def run(cell, params, xs, carry, cotangents, **options):
    def differentiate(params, xs, carry):
        results, transpose = jax.vjp(functools.partial(jaxrnn.unroll, cell, **options), params, xs, carry)
        return results, transpose(cotangents)

    return jax.jit(differentiate)(params, xs, carry)


def zeros(size):
    return on_device(np.zeros(size), jnp.float64)


TWINS = {
    "user-vanilla": ("vanilla-tanh", lambda w, u: jaxrnn.VanillaParams(w, u, zeros(H))),
    "user-gru": ("gru-after", lambda w, u: jaxrnn.GRUParams(w, u, zeros(3 * H), zeros(H))),
}


@pytest.mark.parametrize("name", TWINS)
def test_split_cell_equals_the_cell_of_the_library(name, key):
    """With the same weights, the generic backward gives what the formulas give."""
    twin, convert = TWINS[name]
    cell, library = BY_NAME[name].cell(jnp.float64), BY_NAME[twin].cell(jnp.float64)
    params = normal_like(key, jax.eval_shape(cell.init, key))
    xs, carry, ys = normal_like(key, (np.zeros((T, B, D)), np.zeros((B, H)), np.zeros((T, B, H))))
    results, (dparams, dxs, dcarry) = run(cell, params, xs, carry, (carry, ys), gradient="manual")
    expected, (dlibrary, *others) = run(library, convert(*params), xs, carry, (carry, ys), gradient="manual")
    assert_trees_close(results, expected)
    assert_trees_close(tuple(dparams), (dlibrary.input, dlibrary.recurrent))
    assert_trees_close([dxs, dcarry], others)


@pytest.mark.parametrize("name", TWINS)
def test_the_way_back_of_a_split_cell_computes_no_gate_and_no_product_again(name, key):
    """What is left of the update in the compiled backward is arithmetic, and of the product its transpose."""
    cell = BY_NAME[name].cell(jnp.float64)
    adjoint = cell.adjoint
    assert adjoint is not None
    params = jax.eval_shape(cell.init, key)
    carry = jax.eval_shape(lambda params: cell.initial_carry(params, (B,)), params)
    z = jax.eval_shape(lambda params, xs: cell.inputs(params, xs)[0], params, jnp.zeros((T, B, D)))
    after, y, _, saved = jax.eval_shape(adjoint.forward, params, carry, z)
    there = str(jax.jit(adjoint.forward).lower(params, carry, z).compile().as_text())
    back = str(jax.jit(adjoint.backward).lower(params, saved, after, y).compile().as_text())
    gates = re.compile(r"\b(tanh|logistic|exponential)\(")
    assert gates.search(there)
    assert not gates.search(back)
    assert len(re.findall(r"\bdot\(", back)) == 1


class PeepholeParams(NamedTuple):
    recurrent: jax.Array
    peephole: jax.Array
    decay: jax.Array


def peephole_cell():
    """Parameters beside the product: one elementwise in the carry, one that enters through a sigmoid."""

    def recur(params, h):
        product = h @ params.recurrent + h * params.peephole.reshape((1,) * (h.ndim - 1) + (H,))
        return {"product": product, "decay": jnp.broadcast_to(jax.nn.sigmoid(params.decay), h.shape)}

    def update(h, z, a):
        after = a["decay"] * h + jnp.tanh(z["x"] + a["product"]) * z["gate"]
        return after, {"h": after, "sum": after.sum(axis=-1)}

    return jaxrnn.split_cell(
        init=lambda key: PeepholeParams(*normal_like(key, (np.zeros((H, H)), np.zeros(H), np.zeros(H)))),
        initial_carry=lambda params, batch_shape=(): jnp.zeros((*batch_shape, H)),
        recur=recur,
        update=update,
        inputs=lambda params, xs, key=None: {"x": xs, "gate": jax.nn.sigmoid(xs)},
    )


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_split_cell_with_trees_everywhere(reverse, key):
    """Dicts as zs, a and ys, and parameters that enter elementwise and nonlinearly."""
    cell = peephole_cell()
    params = cell.init(key)
    xs, carry = normal_like(key, (np.zeros((T, B, H)), np.zeros((B, H))))
    resets = np.array([[False, True], [True, False], [False, False], [True, True]])
    options = {"lengths": np.array([3, 4]), "resets": resets, "reverse": reverse}
    cotangents = normal_like(key, jax.eval_shape(lambda: jaxrnn.unroll(cell, params, xs)))
    manual, autodiff = (run(cell, params, xs, carry, cotangents, gradient=g, **options) for g in ("manual", "autodiff"))
    assert_trees_close(manual, autodiff)
    assert all(np.abs(leaf).min() > 0 for leaf in jax.tree.leaves(manual[1][0]))


def thirds(x):
    return jnp.split(x, 3, axis=-1)


def three_gates(s_1, s_2, s_3) -> Any:
    h = jax.nn.sigmoid(s_1) * jnp.tanh(s_2) + jnp.tanh(s_3)
    return h, h


def batch_mean(h, z, a):
    """All that the way back needs of z has no rows."""
    scale = jnp.tanh(thirds(z.mean(axis=-2, keepdims=True))[0])
    h = scale * three_gates(*thirds(z + a))[0]
    return h, h


UPDATES = {
    "the sum": lambda h, z, a: three_gates(*thirds(z + a)),
    "the sum, turned round": lambda h, z, a: three_gates(*thirds(a + z)),
    "the sum and z": lambda h, z, a: three_gates(*thirds((z + a) * jnp.cos(z))),
    "the sum and a": lambda h, z, a: three_gates(*thirds((z + a) * jnp.cos(a))),
    "the sum, and z as an output": lambda h, z, a: (three_gates(*thirds(z + a))[0], z),
    "the sum, and a as an output": lambda h, z, a: (three_gates(*thirds(z + a))[0], a),
    "z twice": lambda h, z, a: three_gates(*thirds(z + z + a)),
    "the difference": lambda h, z, a: three_gates(*thirds(z - a)),
    "two sums": lambda h, z, a: three_gates(*thirds(jnp.sin(z + a) + jnp.sin(a + z))),
    "part of z": lambda h, z, a: three_gates(*thirds((z + a).at[..., H:].set(z[..., H:]))),
    "too little to fill z": lambda h, z, a: three_gates(
        *thirds((z + a) * on_device(np.arange(3 * H) < H, z.dtype)[None])
    ),
    "a mean over the batch": batch_mean,
    "the square of z": lambda h, z, a: three_gates(*thirds(z * z * a)),
}


@pytest.mark.parametrize("update", UPDATES)
def test_what_is_kept_of_an_update_is_enough(update, key):
    """Gates are kept over z, and one array is both cotangents, where that is right and nowhere else."""
    cell = jaxrnn.split_cell(
        init=lambda key: normal(key, (H, 3 * H)),
        initial_carry=lambda params, batch_shape=(): jnp.zeros((*batch_shape, H)),
        recur=lambda params, h: h @ params,
        update=UPDATES[update],
    )
    params, xs, carry = normal_like(key, (np.zeros((H, 3 * H)), np.zeros((T, B, 3 * H)), np.zeros((B, H))))
    cotangents = normal_like(key, jax.eval_shape(lambda: jaxrnn.unroll(cell, params, xs)))
    mask = np.array([[True, False], [True, True], [False, True], [True, True]])
    manual, autodiff = (run(cell, params, xs, carry, cotangents, gradient=g, mask=mask) for g in ("manual", "autodiff"))
    assert_trees_close(manual, autodiff)


def test_a_split_lstm_keeps_at_most_one_array_more_than_the_one_of_the_library(key):
    """tanh(c), which the library's computes again."""

    def update(carry, z, a):
        i, f, g, o = jnp.split(z + a, 4, axis=-1)
        c = jax.nn.sigmoid(f) * carry.c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return jaxrnn.LSTMCarry(h, c), h

    library = jaxrnn.lstm(D, 64)
    recur = lambda params, carry: carry.h @ params.recurrent + params.bias[None]
    inputs = lambda params, xs, key=None: xs @ params.input
    own = jaxrnn.split_cell(library.init, library.initial_carry, recur, update, inputs=inputs)
    params, xs = jax.eval_shape(library.init, key), jax.ShapeDtypeStruct((40, 16, D), jnp.float32)

    def temporary_bytes(cell) -> int:
        loss = lambda params, xs: (jaxrnn.unroll(cell, params, xs)[1] ** 2).mean()
        compiled: Any = jax.jit(jax.value_and_grad(loss)).lower(params, xs).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    one_array = 4 * 40 * 16 * 64
    assert temporary_bytes(own) < 1.02 * temporary_bytes(library) + one_array


@pytest.mark.parametrize("name", ["vanilla-tanh", "lstm", "gru-after", "conv-gru-1d", "user-lstm", "user-step"])
def test_learned_carry_starts_as_the_cell_does(name, key):
    plain = BY_NAME[name].cell(jnp.float64)
    cell = jaxrnn.learned_carry(plain)
    params = cell.init(key)
    assert_trees_close(params.cell, plain.init(key), tolerance=0)
    assert_trees_close(params.carry, plain.initial_carry(params.cell), tolerance=0)
    assert (cell.adjoint is None) == (plain.adjoint is None)
    xs = normal(key, (T, B, *BY_NAME[name].features))
    both = jax.jit(lambda params, xs: (jaxrnn.unroll(cell, params, xs), jaxrnn.unroll(plain, params.cell, xs)))
    assert_trees_close(*both(params, xs), tolerance=1e-15)


def test_learned_carry_is_where_every_sequence_starts(key):
    plain = jaxrnn.lstm(D, H, dtype=jnp.float64)
    cell = jaxrnn.learned_carry(plain)
    params, xs = normal_like(key, (jax.eval_shape(cell.init, key), np.zeros((T, B, D))))
    start = jax.tree.map(lambda leaf: np.stack([leaf] * B), params.carry)
    both = jax.jit(lambda params, xs: (jaxrnn.unroll(cell, params, xs), jaxrnn.unroll(plain, params.cell, xs, start)))
    assert_trees_close(*both(params, xs), tolerance=1e-15)


def test_learned_carry_is_learned():
    """Gradient descent on θ_0 alone finds the start from which h decays to a target."""
    cell = jaxrnn.learned_carry(jaxrnn.vanilla(1, 1, activation="identity", dtype=jnp.float64))
    params = jaxrnn.LearnedCarryParams(
        jaxrnn.VanillaParams(jnp.zeros((1, 1)), jnp.full((1, 1), 0.5), jnp.zeros(1)), jnp.zeros(1)
    )

    @jax.jit
    def descend(theta):
        def loss(theta):
            final, _ = jaxrnn.unroll(cell, params._replace(carry=theta), jnp.zeros((3, 1)))
            return jnp.square(final - 1.0).sum()

        return theta - 16 * jax.grad(loss)(theta)

    theta = params.carry
    for _ in range(60):
        theta = descend(theta)
    np.testing.assert_allclose(theta, 8.0, rtol=1e-6)


SPLIT = [entry for entry in CELLS if entry.cell().split is not None]


@pytest.mark.parametrize("entry", SPLIT, ids=str)
def test_a_split_is_the_step(entry, key):
    """update(carry, z, recur(params, carry)), whose products may be taken of all steps at once."""
    cell = entry.cell(jnp.float64)
    recur, update = cell.split
    params, xs = normal_like(key, (jax.eval_shape(cell.init, key), np.zeros((T, B, *entry.features))))
    carries = normal_like(key, jax.eval_shape(lambda: cell.initial_carry(params, (T, B))))

    @jax.jit
    def both(params, xs, carries):
        everything = carries, cell.inputs(params, xs), recur(params, carries)
        ends = [jax.tree.map(lambda leaf, t=t: leaf[t], everything) for t in (0, T - 1)]
        return [(update(carry, z, a), cell.step(params, carry, z)) for carry, z, a in ends]

    for by_split, by_step in both(params, xs, carries):
        assert_trees_close(by_split, by_step, tolerance=1e-14)


def test_which_cells_have_a_split():
    """Not the GRU that resets before its product, since the reset needs a product of its own; nor a bare step."""
    names = {entry.name for entry in SPLIT}
    assert {"vanilla-tanh", "lstm", "gru-after", "learned-lstm", "user-lstm", "zoneout-lstm"} <= names
    assert names.isdisjoint({"gru-before", "user-step"})


def attended(cell):
    factory = attending(lambda *sizes, **options: cell, lambda size, dtype: jaxrnn.attention.dot(size))
    return factory(D, H, dtype=jnp.float64, carry_dtype=None)


WRAPPERS = {
    "learned": jaxrnn.learned_carry,
    "all carries": jaxrnn.all_carries,
    "zoneout": lambda cell: jaxrnn.zoneout(cell, 0.4),
    "variational": lambda cell: jaxrnn.variational_dropout(cell, 0.3, input_rate=0.2),
    "attending": attended,
}


def prepares(entry):
    """Whether the adjoint's forward step takes anything but the parameters, which every wrapper must know."""
    adjoint = entry.cell().adjoint
    return adjoint is not None and adjoint.prepare is not type(adjoint)._field_defaults["prepare"]


def wraps(name, entry):
    """Whether there is such a wrapper for the cell: one asks for a split, one for a state h and an array as output.

    `zoneout` around every cell has a test of its own.
    """
    if name == "attending":
        has_h = not entry.name.startswith(("attending", "all-carries", "learned-user-lstm"))
        return entry.features == (D,) and has_h
    return name != "zoneout" and (name != "variational" or entry.cell().split is not None)


PREPARED = [entry for entry in BY_NAME.values() if prepares(entry)]
AROUND = [(name, entry) for name, entry in itertools.product(WRAPPERS, PREPARED) if wraps(name, entry)]
NEITHER = {("attending", "all carries"), ("variational", "attending")}  # for the same reasons
TWICE = [pair for pair in itertools.permutations(WRAPPERS, 2) if pair not in NEITHER]


@pytest.mark.parametrize(("name", "entry"), AROUND, ids=str)
def test_wrappers_around_prepared_weights(name, entry, key):
    assert_gradients_by_autodiff(WRAPPERS[name](entry.cell(jnp.float64)), key, entry.features)


@pytest.mark.parametrize(("outer", "inner"), TWICE)
def test_wrappers_around_wrappers(outer, inner, key):
    """Of a cell with prepared weights; with a split where one of the wrappers needs it."""
    cell = BY_NAME["lstm" if "variational" in (outer, inner) else "gru-before"].cell(jnp.float64)
    assert_gradients_by_autodiff(WRAPPERS[outer](WRAPPERS[inner](cell)), key)


def test_cells_that_prepare_their_weights_are_among_the_wrapped():
    names = {entry.name for entry in PREPARED}
    assert {"lstm", "gru-before", "lem", "minimal-gated", "conv-gru-before", "attending-gru", "learned-lstm"} <= names
