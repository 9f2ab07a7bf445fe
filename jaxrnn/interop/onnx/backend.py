"""A backend of ONNX: the recurrent nodes of a model by jaxrnn, all others by ONNX's own reference evaluator."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxrnn.interop.arrays import require
from jaxrnn.interop.onnx.nodes import INPUTS, run_node, run_operator

PLATFORMS = {"CPU": "cpu", "CUDA": "cuda"}


@functools.cache
def backend() -> type:
    """Return the class `Backend`, a subclass of ONNX's own, which is imported here."""
    require("onnx")
    from onnx import checker
    from onnx.backend import base
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun

    class RecurrentOperator(OpRun):
        """A node that the evaluator leaves to jaxrnn: compiled once for all inputs of the same shapes."""

        op_domain = ""

        def __init__(self, onnx_node: Any, run_params: Any, schema: Any = None) -> None:
            super().__init__(onnx_node, run_params, schema)
            self.compiled = {}

        def _run(self, *inputs: Any, **attributes: Any) -> tuple[Any, ...]:
            operator = self.onnx_node.op_type
            run = jax.jit(lambda arrays: run_operator(operator, attributes, arrays))
            run = self.compiled.setdefault(repr(attributes), run)  # in a function of ONNX they may differ
            return tuple(map(np.asarray, run(list(inputs))[: len(self.onnx_node.output)]))

    operators: list[type[OpRun]] = [type(name, (RecurrentOperator,), {}) for name in INPUTS]

    class PreparedModel(base.BackendRep):
        """A model to run, as often as one likes; its recurrent nodes are compiled at the first run."""

        def __init__(self, model: Any, device: Any) -> None:
            self.evaluator = ReferenceEvaluator(model, new_ops=operators)
            self.device = device

        def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
            """Return the outputs of the model for ``inputs``: a sequence in order, or a dict by name."""
            del kwargs
            if not isinstance(inputs, dict):
                inputs = dict(zip(self.evaluator.input_names, inputs, strict=False))
            with jax.enable_x64(True), jax.default_device(self.device):
                return tuple(self.evaluator.run(None, inputs))

    class Backend(base.Backend):
        """ONNX's backend interface: RNN, LSTM and GRU by jaxrnn, other nodes by ONNX's reference evaluator."""

        @classmethod
        def is_compatible(cls, model: Any, device: str = "CPU", **kwargs: Any) -> bool:
            """Return whether every operator of the model is known and the device is there."""
            try:
                cls.prepare(model, device, **kwargs)
            except (checker.ValidationError, NotImplementedError, RuntimeError, ValueError):
                return False
            return True

        @classmethod
        def prepare(cls, model: Any, device: str = "CPU", **kwargs: Any) -> PreparedModel:
            """Return the model, checked and ready to run on a device, "CPU", "CUDA" or "CUDA:1"."""
            super().prepare(model, device, **kwargs)
            return PreparedModel(model, _device(device))

        @classmethod
        def run_node(
            cls, node: Any, inputs: Any, device: str = "CPU", outputs_info: Any = None, **kwargs: Any
        ) -> tuple[Any, ...]:
            """Return the outputs of one node, as NumPy arrays."""
            super().run_node(node, inputs, device, outputs_info, **kwargs)
            with jax.enable_x64(True), jax.default_device(_device(device)):
                if node.op_type in INPUTS:
                    return tuple(None if y is None else np.asarray(y) for y in run_node(node, inputs))
                return tuple(ReferenceEvaluator(node).run(None, dict(zip(node.input, inputs, strict=True))))

        @classmethod
        def supports_device(cls, device: str) -> bool:
            """Return whether JAX has the device."""
            try:
                _device(device)
            except (RuntimeError, ValueError):
                return False
            return True

    return Backend


def _device(name: str) -> Any:
    """Return JAX's device of the name that ONNX gives it."""
    kind, _, index = name.partition(":")
    if kind not in PLATFORMS or not (index or "0").isdigit():
        raise ValueError(f"device: expected 'CPU', 'CUDA' or 'CUDA:1', got {name!r}")
    devices: Sequence[Any] = jax.devices(PLATFORMS[kind])
    if int(index or 0) >= len(devices):
        raise ValueError(f"device: expected one of the {len(devices)} of {kind}, got {name!r}")
    return devices[int(index or 0)]
