"""Networks of other frameworks here, and ours there: weights, and the options that go with them."""

from jaxrnn.interop.equinox import from_equinox, to_equinox
from jaxrnn.interop.flax import from_flax, to_flax, to_nnx
from jaxrnn.interop.haiku import from_haiku, to_haiku
from jaxrnn.interop.keras import from_keras, to_keras
from jaxrnn.interop.states import from_state, to_state

__all__ = [
    "from_equinox",
    "from_flax",
    "from_haiku",
    "from_keras",
    "from_state",
    "to_equinox",
    "to_flax",
    "to_haiku",
    "to_keras",
    "to_nnx",
    "to_state",
]
