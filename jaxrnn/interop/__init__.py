"""Networks of other frameworks here, and ours there: weights, and the options that go with them."""

from jaxrnn.interop.initialization import drawn_as
from jaxrnn.interop.torch import from_torch, to_torch
from jaxrnn.interop.torch_states import from_torch_state, to_torch_state

__all__ = ["drawn_as", "from_torch", "from_torch_state", "to_torch", "to_torch_state"]
