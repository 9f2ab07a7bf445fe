"""PyTorch: torch.nn.RNN, LSTM and GRU, on the GPU where JAX is on one.

Its weights are ours transposed, with two biases that are added together. The second is zero here, but for
the GRU's candidate, where it stands inside the reset gate's product.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch

import jaxrnn
from benchmarks.errors import NotApplicableError
from benchmarks.problems import Problem
from benchmarks.programs import Program

MODULES = {"vanilla": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}
DTYPES = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16}


def program(problem: Problem, mode: str) -> Program:
    """Return the program of a problem with a cell as it comes, or of a vanilla cell with ReLU."""
    if problem.options.get("reset_after") is False:
        raise NotApplicableError("torch.nn.GRU resets after the product")
    options = {"nonlinearity": problem.options["activation"]} if problem.options else {}
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = problem.dtype == "tf32"
    module = MODULES[problem.kind](problem.shape.D, problem.shape.H, **options)
    load(module, problem.params)
    module.to(device(), DTYPES[problem.dtype])
    xs = tensor(problem.xs)
    return timed(module, lambda: module(xs)[0], mode, lambda: gradients(problem.kind, module))


def timed(module: torch.nn.Module, run: Callable[[], Any], mode: str, read: Callable[[], Any]) -> Program:
    """Return the program of ``run() -> ys``: forward alone, or with the loss and its gradients, by ``read()``."""

    def forward() -> Any:
        with torch.inference_mode():
            return finished(run())

    def forward_backward() -> Any:
        module.zero_grad(set_to_none=True)
        value = run().square().mean()
        value.backward()
        return finished(value)

    if mode == "forward":
        return Program(forward, array)
    return Program(forward_backward, lambda value: (array(value), read()))


def load(module: Any, params: Any, suffix: str = "_l0") -> None:
    """Put jaxrnn's parameters into one layer and direction of the module."""
    second_bias = np.zeros(params.bias.shape, np.float32)
    if isinstance(params, jaxrnn.GRUParams):
        second_bias[2 * len(params.recurrent) :] = params.candidate_bias
    with torch.no_grad():
        getattr(module, "weight_ih" + suffix).copy_(tensor(params.input.T, "cpu"))
        getattr(module, "weight_hh" + suffix).copy_(tensor(params.recurrent.T, "cpu"))
        getattr(module, "bias_ih" + suffix).copy_(tensor(params.bias, "cpu"))
        getattr(module, "bias_hh" + suffix).copy_(torch.from_numpy(second_bias))


def gradients(kind: str, module: Any, suffix: str = "_l0") -> Any:
    """Return the gradients of one layer and direction as jaxrnn's: either of two added biases has the whole one."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    weights, recurrent, bias, second_bias = (array(getattr(module, name + suffix).grad) for name in names)
    if kind == "lstm":
        return jaxrnn.LSTMParams(weights.T, recurrent.T, bias)
    if kind == "gru":
        return jaxrnn.GRUParams(weights.T, recurrent.T, bias, second_bias[2 * len(recurrent.T) :])
    return jaxrnn.VanillaParams(weights.T, recurrent.T, bias)


def device() -> str:
    """Return torch's name of the device that JAX computes on."""
    if jax.default_backend() != "gpu":
        return "cpu"
    if not torch.cuda.is_available():
        raise NotApplicableError("this torch has no CUDA")
    return "cuda"


def tensor(values: jax.Array, on: str | None = None) -> torch.Tensor:
    """Return a tensor of the same dtype; NumPy, in between, has no bfloat16 that torch reads."""
    whole = torch.from_numpy(np.array(values, np.promote_types(values.dtype, np.float32)))
    return whole.to(device() if on is None else on, torch.bfloat16 if values.dtype == jax.numpy.bfloat16 else None)


def array(values: torch.Tensor) -> Any:
    """Return a tensor as NumPy, in float32."""
    return values.detach().float().cpu().numpy()


def finished(values: torch.Tensor) -> torch.Tensor:
    """Return ``values`` when they are computed."""
    if values.is_cuda:
        torch.cuda.synchronize()
    return values
