"""Who is timed: jaxrnn, a naive scan, and other libraries, one file each.

A file has ``program(problem, mode, **options) -> Program``: it takes jaxrnn's parameters, puts them into
its own layout, and reads its results back into jaxrnn's. Each library is used as its own documentation
would, in the form that suits it best. A file imports its library only when it is raced.
"""

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple

NOTHING: Mapping[str, Any] = MappingProxyType({})


class Contender(NamedTuple):
    """One contender, before it is imported.

    label: its name in tables.
    file: its module here.
    package: the module that must be installed.
    distribution: the name under which that module is installed.
    options: for its ``program``.
    variants: options of jaxrnn's cell that computes the same, where that is not the cell as it comes.
    """

    label: str
    file: str
    package: str
    distribution: str
    options: Mapping[str, Any] = NOTHING
    variants: Mapping[str, Mapping[str, Any]] = NOTHING

    @property
    def module(self) -> ModuleType:
        return importlib.import_module(f"benchmarks.contenders.{self.file}")

    def options_of(self, kind: str) -> Mapping[str, Any]:
        """Return the options of jaxrnn's cell that computes what this contender's ``kind`` does."""
        return self.variants.get(kind, NOTHING)


CONTENDERS = {
    "jaxrnn": Contender("jaxrnn", "jaxrnn_unroll", "jaxrnn", "jaxrnn"),
    "jaxrnn-1": Contender("jaxrnn, 1 device", "jaxrnn_unroll", "jaxrnn", "jaxrnn", {"devices": 1}),
    "torch": Contender("torch", "torch_nn", "torch", "torch"),
    "flax": Contender("Flax nnx", "flax_nnx", "flax", "flax"),
    "haiku": Contender(
        "Haiku",
        "haiku_unroll",
        "haiku",
        "dm-haiku",
        variants={"vanilla": {"activation": "relu"}, "gru": {"reset_after": False}},
    ),
    "equinox": Contender("Equinox", "equinox_scan", "equinox", "equinox"),
    "keras": Contender("Keras", "keras_layers", "keras", "keras"),
    "naive": Contender("naive scan", "naive_scan", "jax", "jax"),
    "cudnn": Contender("cuDNN through JAX", "cudnn_rnn", "jax", "jax"),
}
LIBRARIES_IN_JAX = ("flax", "haiku", "equinox", "keras")


def installed(names: tuple[str, ...], say: Callable[[str], Any]) -> list[str]:
    """Return those of ``names`` whose package is here; say which are not."""
    here = []
    for name in names:
        if importlib.util.find_spec(CONTENDERS[name].package) is None:
            say(f"{name}: {CONTENDERS[name].distribution} is not installed, skipped")
        else:
            here.append(name)
    return here
