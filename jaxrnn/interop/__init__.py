"""Networks of other frameworks here, and ours there: weights, and the options that go with them; files and programs."""

from jaxrnn.interop.initialization import drawn_as
from jaxrnn.interop.programs import Programs, export_layer
from jaxrnn.interop.saving import load_layer, save_layer
from jaxrnn.interop.torch import from_torch, to_torch
from jaxrnn.interop.torch_states import from_torch_state, to_torch_state

__all__ = [
    "Programs",
    "drawn_as",
    "export_layer",
    "from_torch",
    "from_torch_state",
    "load_layer",
    "save_layer",
    "to_torch",
    "to_torch_state",
]
