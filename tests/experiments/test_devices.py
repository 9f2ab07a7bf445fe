"""How many devices share a batch."""

import subprocess
import sys

import jax
import pytest

from experiments import devices


@pytest.mark.parametrize(
    ("batch", "at_most", "count"),
    [(32, None, 2), (16, None, 2), (14, None, 1), (33, None, 1), (32, 1, 1), (32, 5, 2), (1, None, 1)],
)
def test_a_batch_is_shared_evenly_by_as_many_as_it_pays_for(batch, at_most, count):
    assert devices.sharing(batch, at_most) == jax.devices()[:count]


def test_every_core_is_a_device():
    code = "from experiments import devices; devices.use_every_core(); import jax; print(jax.device_count())"
    cores = "import os; print(len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count())"
    printed = [subprocess.check_output([sys.executable, "-c", line], text=True) for line in (code, cores)]
    assert printed[0] == printed[1]


def test_where_jax_has_started_nothing_changes():
    before = jax.device_count()
    devices.use_every_core()
    assert jax.device_count() == before


def test_one_copy_is_on_one_device():
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    whole = jax.device_put(jax.numpy.arange(3.0), jax.NamedSharding(mesh, jax.sharding.PartitionSpec()))
    copy = devices.one_copy({"x": whole})["x"]
    assert copy.devices() == {jax.devices()[0]}
    assert (copy == jax.numpy.arange(3.0)).all()
