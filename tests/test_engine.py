"""How the fast loops are compiled: in place, whatever the batch looks like, and nothing written that nobody reads.

Once a step's buffer has a second reader, XLA copies the whole of it at every step: right, and many times slower.
"""

import math
import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.loops import ahead_scan, forward_loop, in_place_scan, stacked_scan
from jaxrnn.steps import Steps
from tests.registry import BY_NAME, assert_trees_close, noisy_params, normal

SPEC = jax.sharding.PartitionSpec
T, B, D, H = 37, 6, 5, 8  # no other axis has T elements
FLAGS = np.arange(T * B).reshape(T, B) % 3 == 0


def computations(text: str) -> dict[str, str]:
    """Return the computations of a compiled program by name."""
    parts = re.findall(r"^(?:ENTRY )?%?([\w.\-]+) \(.*?\{\n(.*?)^\}", text, flags=re.M | re.S)
    return dict(parts)


def in_loops(text: str) -> Iterator[str]:
    """Yield the instructions of all loop bodies, and of all that they call."""
    by_name = computations(text)
    todo, seen = re.findall(r"body=%?([\w.\-]+)", text), set()
    while todo:
        if (name := todo.pop()) not in seen:
            seen.add(name)
            yield from by_name[name].splitlines()
            todo += re.findall(r"(?:calls|to_apply|body|condition)=%?([\w.\-]+)", by_name[name])


def copies_of_all_steps(text: str) -> list[str]:
    """Return the instructions in loops that copy an array with all T steps."""
    whole = re.compile(rf"= \(?\w+\[(?:\d+,)*{T}(?:,\d+)*\]\S* copy(?:-start)?\(")
    assert any("dynamic-update-slice" in line for line in in_loops(text))  # so there are loops, and they write
    return [line for line in in_loops(text) if whole.search(line)]


def compiled(function: Any, *arguments: Any) -> str:
    as_for_a_user: dict[str, str | bool] = (
        {"xla_cpu_use_fusion_emitters": True} if jax.__version_info__ < (0, 11) else {}
    )
    return str(jax.jit(function).lower(*arguments).compile(as_for_a_user).as_text())


def loss_of(cell: jaxrnn.Cell, **options: Any) -> Any:
    def loss(params, xs):
        final, ys = jaxrnn.unroll(cell, params, xs, **options)
        return (ys**2).mean() + sum(leaf.mean() for leaf in jax.tree.leaves(final))

    return loss


def over_examples(loss: Any) -> Any:
    return lambda params, xs: jax.vmap(loss, (None, 1))(params, xs).mean()


def over_groups(loss: Any) -> Any:
    """Two mapped axes, the second of which is the last before the features."""
    return lambda params, xs: jax.vmap(jax.vmap(loss, (None, 1)), (None, 2))(params, xs).mean()


BATCHES = {
    "one batch axis": ((B,), lambda loss: loss),
    "two batch axes": ((2, 3), lambda loss: loss),
    "a batch of one": ((1,), lambda loss: loss),
    "no batch": ((), lambda loss: loss),
    "vmap over examples": ((B,), over_examples),
    "vmap over batches": ((2, 3), over_examples),
    "two vmaps": ((2, 3), over_groups),
}


EVERY_CELL = ["vanilla-tanh", "gru-after", "gru-before", "lem", "lstm-variant", "attending-lstm", "user-lstm"]


@pytest.mark.parametrize(
    ("name", "around"), [*((name, "one batch axis") for name in EVERY_CELL), *(("lstm", around) for around in BATCHES)]
)
def test_no_loop_copies_its_buffers(name, around):
    batch, wrap = BATCHES[around]
    cell = BY_NAME[name].factory(D, H, dtype=jnp.float32, carry_dtype=None, **BY_NAME[name].options)
    loss = wrap(loss_of(cell, reverse=True))
    text = compiled(jax.grad(loss, argnums=(0, 1)), noisy_params(cell, jax.random.key(0)), jnp.ones((T, *batch, D)))
    assert copies_of_all_steps(text) == []


@pytest.mark.parametrize(
    "name", ["vanilla-tanh", "lstm", "gru-after", "gru-after-callables", "gru-before", "lem", "lstm-variant"]
)
def test_masks_and_resets_copy_nothing(name):
    cell = BY_NAME[name].factory(D, H, dtype=jnp.float32, carry_dtype=None, **BY_NAME[name].options)
    loss = loss_of(cell, lengths=np.arange(B) + 3, mask=~FLAGS, resets=FLAGS)
    text = compiled(jax.grad(loss, argnums=(0, 1)), noisy_params(cell, jax.random.key(0)), jnp.ones((T, B, D)))
    assert copies_of_all_steps(text) == []


@pytest.mark.parametrize("name", ["vanilla-tanh", "lstm", "gru-after", "gru-before"])
def test_weight_gradients_transpose_nothing_in_memory(name):
    """Σ hᵀ da reads both as they are: one product of matrices [T·B, H] and [T·B, 4H], not of arrays of more axes."""
    cell = BY_NAME[name].factory(D, H, dtype=jnp.float32, carry_dtype=None, **BY_NAME[name].options)
    grad = jax.grad(loss_of(cell), argnums=(0, 1))
    text = compiled(grad, noisy_params(cell, jax.random.key(0)), jnp.ones((T, B, D)))
    assert re.search(rf"\w+\[{T},{B},\d+\]", text)
    assert re.findall(rf"\w+\[\d+,(?:{T},{B}|{T * B})\]\S* copy\(", text) == []


WRITTEN = {
    "vanilla": (jaxrnn.vanilla(D, H), 1),
    "lstm": (jaxrnn.lstm(D, H), 3),
    "gru-after": (jaxrnn.gru(D, H), 4),
    "gru-before": (jaxrnn.gru(D, H, reset_after=False), 4),
    "lem": (jaxrnn.lem(D, H), 3),
    "lstm-variant": (jaxrnn.lstm_variant(D, H), 4),
    "conv-gru-before": (jaxrnn.conv_gru((3, D), H, 2, reset_after=False), 4),
}


@pytest.mark.parametrize(("cell", "written"), WRITTEN.values(), ids=WRITTEN)
def test_the_forward_loop_writes_every_state_once(cell, written):
    """h before a step is h after the last: vanilla writes h over zs; the LSTM its gates over zs, c and h.

    The GRU writes its gates and its candidate over both parts of zs, h, and q or r ⊙ h; LEM its gates over zs, c and
    h; the LSTM variant over zs what da is a multiple of, two more such factors, and h.
    """
    xs = jnp.ones((T, B, *(3,) * (cell.feature_axes - 1), D))
    text = compiled(jax.grad(loss_of(cell)), noisy_params(cell, jax.random.key(0)), xs)
    entry = text[text.index("ENTRY ") :]
    forward = next(line for line in entry.splitlines() if " while(" in line)
    assert len(re.findall(rf"\w+\[{T},{B}(?:,\d+)+\]", forward.split(" while(")[0])) == written


@pytest.mark.parametrize("name", ["lstm", "gru-after"])
def test_outputs_that_nobody_reads_are_no_array(name):
    """The loop keeps the carry before each step, for the gradient of U, and the outputs are made of it, if they are."""
    size = 24  # of h: so little is not copied for the gradient of U
    cell = BY_NAME[name].factory(D, size, dtype=jnp.float32, carry_dtype=None, **BY_NAME[name].options)
    params, xs = noisy_params(cell, jax.random.key(0)), jnp.ones((4 * T, 16, D))  # arrays of all steps are the most
    bytes_of = []
    for read in (slice(None), slice(-1, None)):
        loss = lambda params, xs, read=read: (jaxrnn.unroll(cell, params, xs)[1][read] ** 2).mean()
        compiled: Any = jax.jit(jax.value_and_grad(loss)).lower(params, xs).compile()
        bytes_of.append(compiled.memory_analysis().temp_size_in_bytes)
    one_array = 4 * 4 * T * 16 * size
    assert bytes_of[0] - bytes_of[1] > 0.9 * one_array


def test_what_the_loss_reads_is_not_copied_for_the_way_back():
    """Vanilla's y is what its slope is made of, and others read y: so the cotangents are written over those of y."""
    cell = jaxrnn.vanilla(D, H)
    text = compiled(jax.value_and_grad(loss_of(cell)), cell.init(jax.random.key(0)), jnp.ones((T, B, D)))
    assert re.findall(rf"\w+\[{T},{B},\d+\]\S* copy\(", text) == []


def test_the_text_is_that_of_an_optimized_program(optimized):
    """The tests compile without LLVM's optimisations, of which the text of XLA knows nothing."""
    cell = jaxrnn.lstm(D, H)
    params, xs = cell.init(jax.random.key(0)), jnp.ones((T, B, D))
    texts = []
    for unoptimized in (False, True):
        jax.config.update("jax_disable_most_optimizations", unoptimized)
        texts.append(compiled(jax.grad(loss_of(cell)), params, xs))
    assert texts[0] == texts[1]


def test_the_inspection_sees_a_copy():
    """A buffer that is read once more after it was written."""

    def twice(buffer):
        def body(t, buffer):
            row = buffer[t]
            written = buffer.at[t].set(2 * row)
            return written.at[(t + 1) % T].add(buffer[t])

        return jax.lax.fori_loop(0, T, body, buffer)

    assert copies_of_all_steps(compiled(twice, jnp.ones((T, B)))) != []


@pytest.mark.parametrize("other", [in_place_scan, ahead_scan])
@pytest.mark.parametrize("name", ["vanilla-tanh", "lstm", "gru-after", "user-lstm"])
def test_every_scan_is_the_same_loop(name, other, key, float64):
    """Over arrays of its own, over those it has read, or reading a step ahead."""
    cell = BY_NAME[name].cell(jnp.float64)
    params, adjoint = noisy_params(cell, key), cell.adjoint
    assert adjoint is not None
    xs = normal(key, (T, B, 2))

    def run(scan):
        zs, carry = cell.inputs(params, xs), cell.initial_carry(params, (B,))
        steps = Steps(valid=FLAGS, restart=~FLAGS)
        return forward_loop(adjoint, params, zs, carry, carry, steps, reverse=True, unroll=2, scan=scan)

    assert_trees_close(jax.jit(lambda: run(other))(), jax.jit(lambda: run(stacked_scan))())


def equations(jaxpr: Any) -> Iterator[Any]:
    """Yield the equations of a jaxpr, at any depth."""
    for equation in jaxpr.eqns:
        yield equation
        for parameter in jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "eqns")):
            inner = getattr(parameter, "jaxpr", parameter)
            if hasattr(inner, "eqns"):
                yield from equations(inner)


def scans(jaxpr: Any) -> Iterator[Any]:
    """Yield the scans of a jaxpr, at any depth."""
    return (equation for equation in equations(jaxpr) if equation.primitive.name == "scan")


def on_devices(function: Any, out_specs: Any = SPEC(None, "rows"), devices: int = 2) -> Any:
    """Return ``function(params, xs)`` with the rows of ``xs [T, B, ...]`` divided among devices."""
    mesh = jax.make_mesh((devices,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    return jax.shard_map(function, mesh=mesh, in_specs=(SPEC(), SPEC(None, "rows")), out_specs=out_specs)


def gradient_scans(batch: tuple[int, ...], around: Any = lambda loss: loss, **options: Any) -> list[Any]:
    cell = jaxrnn.lstm(D, H)
    grad = jax.grad(around(loss_of(cell, **options)))
    return list(scans(jax.make_jaxpr(grad)(noisy_params(cell, jax.random.key(0)), jnp.ones((T, *batch, D))).jaxpr))


@pytest.mark.parametrize("around", BATCHES)
def test_every_batch_axis_is_folded_into_rows(around):
    """Both loops see arrays of one step ``[rows, features]``, and so one matrix product a step."""
    batch, wrap = BATCHES[around]
    loops = gradient_scans(batch, wrap)
    assert len(loops) == (2 if math.prod(batch) > 1 else 4)  # of one row both are there twice, once for CPUs
    for loop in loops:
        products = [eqn for eqn in loop.params["jaxpr"].jaxpr.eqns if eqn.primitive.name == "dot_general"]
        rows = [eqn.invars[0].aval.shape for eqn in products]
        assert [shape[:-1] for shape in rows] == [(math.prod(batch),)]


@pytest.mark.parametrize(
    ("hidden", "rows", "columns"), [(256, 2, 1056), (256, 1, 1024), (256, 64, 1024), (255, 2, 1020)]
)
def test_a_kernel_whose_rows_are_whole_pages_is_spaced(hidden, rows, columns):
    """In the forward loop, for a product of a few rows."""
    cell = jaxrnn.lstm(D, hidden)
    params = cell.init(jax.random.key(0))
    traced = jax.make_jaxpr(lambda params, xs: jaxrnn.unroll(cell, params, xs))(params, jnp.ones((T, rows, D)))
    products = [
        equation
        for loop in scans(traced.jaxpr)
        for equation in loop.params["jaxpr"].jaxpr.eqns
        if equation.primitive.name == "dot_general"
    ]
    assert {equation.outvars[0].aval.shape[-1] for equation in products} == {columns}


@pytest.mark.parametrize(
    ("devices", "hidden", "rows", "widths"),
    [
        (2, 300, 4, {192, 48}),
        (2, 300, 96, {192, 48}),
        (2, 300, 98, {1200}),
        (2, 300, 2, {1200}),
        (2, 338, 4, {192, 8}),
        (2, 1024, 4, {64}),
        (1, 300, 4, {1200}),
    ],
)
def test_on_several_devices_a_large_kernel_is_in_pieces(devices, hidden, rows, widths, key):
    """In the forward loop of the LSTM, for a product of a few rows, and with the same results."""
    cell = jaxrnn.lstm(2, hidden)
    params, xs = cell.init(key), normal(key, (T, rows, 2), jnp.float32)
    forward = lambda params, xs: jaxrnn.unroll(cell, params, xs)[1]
    sharded = on_devices(forward, devices=devices)
    loops = list(scans(jax.make_jaxpr(sharded)(params, xs).jaxpr))
    products = [eqn for loop in loops for eqn in loop.params["jaxpr"].jaxpr.eqns if eqn.primitive.name == "dot_general"]
    assert {equation.outvars[0].aval.shape[-1] for equation in products} == widths
    assert_trees_close(jax.jit(sharded)(params, xs), jax.jit(forward)(params, xs), 1e-5)


def test_columns_between_pages_change_nothing(key, float64):
    cell = jaxrnn.lstm(2, 128, dtype=jnp.float64)
    params, xs = noisy_params(cell, key), normal(key, (3, 2, 2))

    def both(gradient):
        loss = lambda params: (jaxrnn.unroll(cell, params, xs, gradient=gradient)[1] ** 2).sum()
        return jax.value_and_grad(loss)(params)

    assert_trees_close(jax.jit(both, static_argnums=0)("auto"), jax.jit(both, static_argnums=0)("autodiff"))


def test_one_row_takes_several_steps_to_an_iteration():
    """But where the loop is one kernel, which takes no longer for a step of its own."""
    assert [loop.params["unroll"] for loop in gradient_scans((1,))] == [1, 4, 1, 4]
    assert [loop.params["unroll"] for loop in gradient_scans((2,))] == [1, 1]
    assert [loop.params["unroll"] for loop in gradient_scans((1,), unroll=8)] == [8, 8, 8, 8]


def arrays_of_all_steps(text: str) -> int:
    """Return how many arrays with T steps the loops of a program read and write."""
    loops = re.findall(r"= \(([^)]*)\) while\(", text)
    return sum(len(re.findall(rf"\w+\[{T},", arrays)) for arrays in loops)


@pytest.mark.parametrize("name", ["vanilla-tanh", "lstm", "gru-after", "gru-before"])
def test_without_a_gradient_the_loop_reads_zs_and_writes_ys(name):
    cell = BY_NAME[name].factory(D, H, dtype=jnp.float32, carry_dtype=None, **BY_NAME[name].options)
    params, xs = noisy_params(cell, jax.random.key(0)), jnp.ones((T, B, D))
    forward = compiled(lambda params, xs: jaxrnn.unroll(cell, params, xs), params, xs)
    zs_and_ys = len(jax.tree.leaves(cell.inputs(params, xs))) + 1
    assert arrays_of_all_steps(forward) == zs_and_ys
    if name == "vanilla-tanh":  # the least there is to keep, and the measure can tell
        both = compiled(jax.grad(loss_of(cell)), params, xs)
        assert arrays_of_all_steps(both) > zs_and_ys


@pytest.mark.parametrize("argument", ["lengths", "mask", "resets"])
def test_masks_cost_nothing_where_there_are_none(argument):
    """Without them no select is in the program; with any of them there is."""
    cell = jaxrnn.lstm(D, H)
    params, xs = noisy_params(cell, jax.random.key(0)), jnp.ones((T, B, D))
    given = {"lengths": np.arange(B), "mask": FLAGS, "resets": FLAGS}[argument]
    plain, masked = (
        str(jax.make_jaxpr(jax.grad(loss_of(cell, **options)))(params, xs)) for options in ({}, {argument: given})
    )
    assert "select_n" not in plain
    assert "select_n" in masked
