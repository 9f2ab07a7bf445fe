"""Checkpoints: every kind of leaf comes back, every damage is found, every interruption leaves a whole file."""

import builtins
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxrnn
from jaxrnn.training import CheckpointError, checkpoints, load, save, train_state

pytest.importorskip("safetensors")


class Pair(NamedTuple):
    first: object
    second: object


def tree():
    return {
        "pair": Pair(jnp.arange(6.0).reshape(2, 3), jnp.ones((), jnp.int32)),
        "half": jnp.full((2, 2), 1.5, jnp.bfloat16),
        "other": [jnp.zeros((0, 3)), jnp.array([True, False]), None, (), jnp.full(3, 7, jnp.uint8)],
        "key": jax.random.key(5),
        "keys": jax.random.split(jax.random.key(6, impl="rbg"), 3),
        "raw": jax.random.PRNGKey(7),
        "numpy": np.arange(3.0),
        "numbers": (3, 0.25, True),
    }


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert type(x) is type(y)
        if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            assert x.dtype == y.dtype
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        assert np.asarray(x).dtype == np.asarray(y).dtype
        np.testing.assert_array_equal(x, y)


def test_every_leaf_comes_back(tmp_path):
    path = tmp_path / "state.safetensors"
    metadata = {"step": 3, "options": {"cell": "lstm", "rate": 0.1}, "name": "Größe\n"}
    save(path, tree(), metadata)
    loaded, found = load(path, tree())
    assert_same(loaded, tree())
    assert found == metadata
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    # Arrays may be given as shapes alone, and the path as a string.
    arrays = {name: value for name, value in tree().items() if name not in ("numpy", "numbers")}
    save(str(path), arrays)
    loaded, found = load(str(path), jax.eval_shape(lambda: arrays))
    assert_same(loaded, arrays)
    assert found == {}


def test_a_train_state_comes_back(tmp_path):
    layer = jaxrnn.recurrent(jaxrnn.lstm(3, 4))
    params, optimizer = layer.init(jax.random.key(0)), optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))
    with jax.numpy_dtype_promotion("standard"):
        state = train_state(params, optimizer, jax.random.key(1), layer.initial_carry(params, (2,)))
    save(tmp_path / "state", state)
    zeros = jax.tree.map(jnp.zeros_like, state._replace(key=()))._replace(key=jax.random.key(0))
    assert_same(load(tmp_path / "state", zeros)[0], state)


def test_other_programs_read_the_arrays(tmp_path):
    from safetensors.numpy import load_file

    save(tmp_path / "w", {"a": Pair(jnp.ones(3), ()), "b": jnp.zeros((2, 2))})
    arrays = load_file(tmp_path / "w")
    assert sorted(arrays) == ["['a'].first", "['b']"]
    np.testing.assert_array_equal(arrays["['a'].first"], np.ones(3, np.float32))


def test_a_single_array_and_big_endian(tmp_path):
    save(tmp_path / "x", jnp.ones(3))
    assert_same(load(tmp_path / "x", jnp.zeros(3))[0], jnp.ones(3))
    save(tmp_path / "x", np.arange(3, dtype=">f4")[::-1])
    assert_same(load(tmp_path / "x", np.zeros(3, np.float32))[0], np.array([2, 1, 0], np.float32))


def test_loaded_arrays_do_not_hang_on_the_file(tmp_path):
    save(tmp_path / "x", {"a": jnp.ones(1000), "b": np.ones(3)})
    loaded, _ = load(tmp_path / "x", {"a": jnp.zeros(1000), "b": np.zeros(3)})
    jax.jit(lambda x: x + 1, donate_argnums=0)(loaded["a"])
    loaded["b"][0] = 5  # writable
    os.unlink(tmp_path / "x")


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ({"a": jnp.ones(3)}, r"the file also holds \['b'\]"),
        ({"a": jnp.ones(3), "b": jnp.ones(2), "c": jnp.ones(1)}, r"the file lacks \['c'\]"),
        ({"a": jnp.ones(3), "B": jnp.ones(2)}, r"the file lacks \['B'\]"),
        ({"a": jnp.ones(4), "b": jnp.ones(2)}, r"\['a'\]: expected shape \(4,\), .* got \(3,\)"),
        ({"a": jnp.ones((3, 1)), "b": jnp.ones(2)}, r"\['a'\]: expected shape \(3, 1\)"),
        ({"a": jnp.ones(3, jnp.bfloat16), "b": jnp.ones(2)}, r"\['a'\]: expected dtype bfloat16, .* got float32"),
        ({"a": jax.random.key(0), "b": jnp.ones(2)}, r"\['a'\]: expected shape \(\)"),
    ],
)
def test_another_tree_names_the_leaf(tmp_path, like, message):
    path = tmp_path / "state"
    save(path, {"a": jnp.ones(3), "b": jnp.ones(2)})
    with pytest.raises(CheckpointError, match=message) as raised:
        load(path, like)
    assert str(path) in str(raised.value)
    assert isinstance(raised.value, ValueError)


def test_another_kind_of_key_is_another_tree(tmp_path):
    save(tmp_path / "key", jax.random.key(0, impl="rbg"))
    for like in (jax.random.key(0), jax.random.key_data(jax.random.key(0, impl="rbg"))):
        with pytest.raises(CheckpointError, match=r"expected (dtype|shape)"):
            load(tmp_path / "key", like)


def test_sixty_four_bits_need_the_flag(tmp_path):
    with jax.enable_x64(True):
        save(tmp_path / "x", jnp.ones(3, jnp.float64))
        assert load(tmp_path / "x", jnp.zeros(3, jnp.float64))[0].dtype == jnp.float64
        like = jax.ShapeDtypeStruct((3,), jnp.float64)
    with pytest.raises(CheckpointError, match="jax_enable_x64"):
        load(tmp_path / "x", like)


def test_no_byte_can_change_unseen(tmp_path):
    path = tmp_path / "state"
    whole_tree, metadata = {"a": jnp.arange(3.0), "k": jax.random.key(1)}, {"step": 12}
    save(path, whole_tree, metadata)
    whole = path.read_bytes()
    unseen = 0
    for position in range(len(whole)):
        for flip in (0x01, 0x80):
            damaged = bytearray(whole)
            damaged[position] ^= flip
            path.write_bytes(damaged)
            try:
                loaded, found = load(path, whole_tree)
            except CheckpointError:
                continue
            else:  # padding, or a spelling of the same: harmless only if nothing else came back
                unseen += 1
                assert_same(loaded, whole_tree)
                assert found == metadata
    assert unseen < len(whole) // 20


def test_cut_empty_and_foreign_files(tmp_path):
    path, like = tmp_path / "state", {"a": jnp.arange(300.0)}
    save(path, like)
    whole = path.read_bytes()
    for size in (0, 1, 7, 8, 50, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match="is empty" if size == 0 else "damaged"):
            load(path, like)
    for foreign in (whole + b"more", b"\0" * 100, b"\xff" * 100, b"PK\x03\x04 a zip file", b"\x80\x04 a pickle"):
        path.write_bytes(foreign)
        with pytest.raises(CheckpointError, match=r"Use an earlier checkpoint, or start again"):
            load(path, like)
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="no jaxrnn checkpoint"):
        load(path, like)
    save_file({"a": np.zeros(3)}, path, metadata={"format": "pt", "version": "1"})
    with pytest.raises(CheckpointError, match="expected a jaxrnn checkpoint, got 'pt'"):
        load(path, like)
    save_file({"a": np.zeros(3)}, path, metadata={"format": checkpoints.FORMAT, "version": "99"})
    with pytest.raises(CheckpointError, match="expected a checkpoint of version 1, got '99'"):
        load(path, like)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nowhere", like)


def test_what_cannot_be_saved(tmp_path):
    for bad in ("text", np.array(["a"]), np.array([None]), object(), 1j):
        with pytest.raises(TypeError, match=r"tree: expected .* at \['x'\]"):
            save(tmp_path / "state", {"x": bad})
    with pytest.raises(TypeError, match="metadata: expected a dict that JSON can hold"):
        save(tmp_path / "state", {}, {"x": object()})
    with pytest.raises(TypeError, match="metadata: expected a dict"):
        save(tmp_path / "state", {}, [1])  # pyright: ignore[reportArgumentType]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("moment", ["open", "write", "fsync", "replace"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=["OSError", "KeyboardInterrupt"])
def test_an_error_at_any_moment_leaves_the_old_file(tmp_path, monkeypatch, moment, error):
    path = tmp_path / "state"
    save(path, jnp.zeros(1000), {"step": 1})
    whole = path.read_bytes()

    def fail(*arguments, **options):
        raise error

    class Half:
        """A file that takes half of what is written."""

        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *arguments):
            self.file.close()

        def write(self, data):
            self.file.write(data[: len(data) // 2])
            raise error

    real = builtins.open
    if moment in ("fsync", "replace"):
        monkeypatch.setattr(os, moment, fail)
    else:
        monkeypatch.setattr(builtins, "open", fail if moment == "open" else lambda *a, **o: Half(real(*a, **o)))
    with pytest.raises(type(error)):
        save(path, jnp.ones(1000), {"step": 2})
    monkeypatch.undo()
    assert path.read_bytes() == whole
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


LOOP = """
import sys, itertools
import numpy as np
from jaxrnn.training import save
for n in itertools.count(1):
    save(sys.argv[1], np.full(200_000, n, np.int64), {"step": n})
    print(n, flush=True)
"""


def test_a_kill_at_any_moment_leaves_a_whole_file(tmp_path):
    path = tmp_path / "state"
    seed = int.from_bytes(os.urandom(4), "little")
    print(f"{seed=}")
    environment = os.environ | {"PYTHONPATH": str(Path(jaxrnn.__file__).parents[1])}
    rng = np.random.default_rng(seed)
    for _ in range(3):
        command = [sys.executable, "-c", LOOP, str(path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert process.stdout is not None
        with process.stdout:
            process.stdout.readline()
            time.sleep(rng.uniform(0, 0.05))
            process.send_signal(signal.SIGKILL)
            printed = [1] + [int(line) for line in process.stdout if line.endswith("\n")]
        process.wait()
        loaded, metadata = load(path, np.zeros(200_000, np.int64))
        assert metadata["step"] >= printed[-1]  # what was said to be saved is saved
        assert np.all(loaded == metadata["step"])
    save(path, np.zeros(3))  # and what a kill left behind does not pile up
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_without_safetensors_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    for call in (lambda: save(tmp_path / "x", ()), lambda: load(tmp_path / "x", ())):
        with pytest.raises(ImportError, match=r"pip install 'jaxrnn\[training\]'"):
            call()


def test_the_format_is_safetensors(tmp_path):
    save(tmp_path / "x", {"a": jnp.ones(3)})
    data = (tmp_path / "x").read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert header["['a']"]["dtype"] == "F32"
    assert header["__metadata__"]["format"] == "jaxrnn checkpoint"
