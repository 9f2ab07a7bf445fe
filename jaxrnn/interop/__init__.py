"""Networks of other frameworks here, and ours there: weights, and the options that go with them; files and programs."""

from jaxrnn.interop.equinox import from_equinox, to_equinox
from jaxrnn.interop.flax import from_flax, to_flax, to_nnx
from jaxrnn.interop.haiku import from_haiku, to_haiku
from jaxrnn.interop.initialization import drawn_as
from jaxrnn.interop.keras import from_keras, to_keras
from jaxrnn.interop.programs import Programs, export_layer
from jaxrnn.interop.saving import load_layer, save_layer
from jaxrnn.interop.states import from_state, to_state
from jaxrnn.interop.torch import from_torch, to_torch
from jaxrnn.interop.torch_states import from_torch_state, to_torch_state

__all__ = [
    "Programs",
    "drawn_as",
    "export_layer",
    "from_equinox",
    "from_flax",
    "from_haiku",
    "from_keras",
    "from_state",
    "from_torch",
    "from_torch_state",
    "load_layer",
    "save_layer",
    "to_equinox",
    "to_flax",
    "to_haiku",
    "to_keras",
    "to_nnx",
    "to_state",
    "to_torch",
    "to_torch_state",
]
