"""ONNX: its recurrent operators, a backend, and networks from its models and to them."""

from typing import TYPE_CHECKING, Any

from jaxrnn.interop.onnx.activations import ONNXActivation
from jaxrnn.interop.onnx.nodes import run_node
from jaxrnn.interop.onnx.reading import from_onnx
from jaxrnn.interop.onnx.writing import to_onnx

if TYPE_CHECKING:
    Backend: type

__all__ = ["Backend", "ONNXActivation", "from_onnx", "run_node", "to_onnx"]


def __getattr__(name: str) -> Any:
    """Return `Backend`, a subclass of what is imported when it is first asked for."""
    if name == "Backend":
        from jaxrnn.interop.onnx.backend import backend

        return backend()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
