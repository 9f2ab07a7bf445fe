"""Strict flags, two CPU devices, seeds that are printed, and float64 on request.

Every test runs with rank promotion and dtype promotion forbidden; warnings are errors by
pyproject.toml. A test that needs random numbers asks for ``key`` (a JAX key) or ``rng`` (NumPy);
both follow from ``--seed`` and the test's own name, so that a test draws the same numbers alone as
in the whole suite.
"""

import atexit
import functools
import gc
import itertools
import os
import shutil
import signal
import tempfile
import zlib

import hypothesis
import jax
import numpy as np
import pytest
from jax._src.interpreters import mlir

jax.config.update("jax_num_cpu_devices", 2)
# Most of a test's time is compilation, and what is right is right without optimisation, in the processes that
# tests start too. What is left out is LLVM's work on machine code: the text of a compiled program stays the same.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
jax.config.update("jax_disable_most_optimizations", True)
# Where in the Python source an operation comes from, nobody reads in these programs, and it takes time to write down.
os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"] = "0"
jax.config.update("jax_traceback_in_locations_limit", 0)
# Nor does anybody read the traceback of an error that a test expects: JAX would sort its own frames out of it.
jax.config.update("jax_traceback_filtering", "off")
# Small programs are compiled soonest in one piece; and, where there is a choice, not by XLA's younger emitter of loops.
FLAGS = ["--xla_cpu_parallel_codegen_split_count=1"]
if jax.__version_info__ < (0, 11):
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *FLAGS])

# Every core has its worker: the threads of OpenBLAS and torch would take time from the other one's, to wait for it.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

# What one process has compiled the others need not: the workers, and what tests start, share a cache while they run.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="jaxrnn-tests-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)

# JAX makes a context of MLIR for every program, which takes longer than to write a small program down in it.
mlir.make_ir_context = functools.cache(mlir.make_ir_context)

# What has been imported is not garbage; looking for it there, and as often as usual, takes a tenth of the time.
gc.freeze()
gc.set_threshold(10_000, 20, 20)

# To take apart an interpreter with thousands of programs in it takes some seconds. Of a worker nothing more is wanted.
if "PYTEST_XDIST_WORKER" in os.environ:
    atexit.register(os._exit, 0)

# A job in the background is started with Ctrl-C ignored, and so would be what tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile(
    "jaxrnn",
    deadline=None,
    max_examples=25,
    print_blob=True,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("jaxrnn")


def pytest_addoption(parser):
    parser.addoption("--seed", type=int, default=0, help="of the random numbers in the tests (default: 0)")


def pytest_report_header(config):
    return f"jax {jax.__version__}, seed: {config.getoption('seed')} (--seed)"


MODULES_AT_ONCE = 6
modules_done = itertools.count(1)


@pytest.fixture(autouse=True, scope="module")
def small():
    """Drop what some modules have compiled: thousands of programs would fill the memory of every worker.

    But not after each of them, since the next one needs many of the same operations.
    """
    yield
    if next(modules_done) % MODULES_AT_ONCE == 0:
        jax.clear_caches()


@pytest.fixture(autouse=True)
def strict():
    """Forbid hidden promotion of ranks and dtypes."""
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture
def float64():
    """Run the test in float64."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def optimized():
    """Compile as for a user, with the last digits of optimised machine code."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture
def seed(request):
    """An int from ``--seed`` and the test's name."""
    name = request.node.nodeid.rpartition("/")[2]
    return zlib.crc32(f"{request.config.getoption('seed')} {name}".encode())


@pytest.fixture
def key(seed):
    return jax.random.key(seed)


@pytest.fixture
def rng(seed):
    return np.random.default_rng(seed)
