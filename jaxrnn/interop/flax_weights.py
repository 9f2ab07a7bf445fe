"""Where Flax keeps the weights of its recurrent cells: by gate, or side by side.

linen has a module for each gate and product, "ii" … "ho", as has nnx.LSTMCell; the other cells of nnx have
two, ``dense_i`` and ``dense_h``, of all gates. The gates' letters are ours but for z, our u.
"""

from collections.abc import Mapping
from typing import Any

from jaxrnn.interop.arrays import blocks_of, joined, off_host, on_host
from jaxrnn.interop.conventions import Convention, Weights

# By cell, what Flax calls our gates. The gate of the MGU is both of the GRU's, or the only one of a ugrnn.
GATES = {
    "SimpleCell": {"h": ""},
    "LSTMCell": {gate: gate for gate in "ifgo"},
    "OptimizedLSTMCell": {gate: gate for gate in "ifgo"},
    "GRUCell": {"r": "r", "u": "z", "n": "n"},
    "MGUCell": {"r": "f", "u": "f", "n": "n"},
}


def linen_weights(convention: Convention, cell: str, params: Any) -> Weights:
    """Return the weights of a cell from linen's parameters."""
    if cell == "ConvLSTMCell":
        first, second = params["ih"], params["hh"]
        return Weights(first["kernel"], second["kernel"], first.get("bias"), second.get("bias"))

    def beside(product: str, leaf: str) -> Any:
        modules = [params[product + GATES[cell][gate]] for gate in convention.gates]
        if not all(leaf in module for module in modules):
            return None
        return joined(on_host([module[leaf] for module in modules]))

    biases = [bias for bias in (beside("i", "bias"), beside("h", "bias")) if bias is not None]
    own = params["hn"]["bias"] if convention.biases == "candidate" else None
    return Weights(beside("i", "kernel"), beside("h", "kernel"), biases[0], own)


def linen_params(convention: Convention, cell: str, weights: Weights) -> dict[str, dict[str, Any]]:
    """Return linen's parameters of a cell from its weights."""
    if cell == "ConvLSTMCell":
        first = {"kernel": weights.input, "bias": weights.bias}
        return {"ih": first, "hh": {"kernel": weights.recurrent, "bias": weights.recurrent_bias}}
    params: dict[str, dict[str, Any]] = {}
    biased = "h" if "LSTM" in cell else "i"
    leaves = (("i", "kernel", weights.input), ("h", "kernel", weights.recurrent), (biased, "bias", weights.bias))
    for product, leaf, value in leaves:
        for gate, part in zip(convention.gates, blocks_of(on_host(value), len(convention.gates)), strict=True):
            params.setdefault(product + GATES[cell][gate], {})[leaf] = part
    if weights.recurrent_bias is not None:
        params["hn"]["bias"] = weights.recurrent_bias
    return off_host(params)


def nnx_weights(convention: Convention, cell: Any) -> Weights:
    """Return the weights of a cell of nnx."""
    if hasattr(cell, "ii"):
        return linen_weights(convention, "LSTMCell", _by_gate(cell))
    bias = cell.dense_h.bias if cell.dense_i.bias is None else cell.dense_i.bias
    return Weights(cell.dense_i.kernel[...], cell.dense_h.kernel[...], bias[...])


def set_nnx(cell: Any, weights: Weights) -> None:
    """Set the weights of a cell of nnx whose gates are side by side."""
    cell.dense_i.kernel.set_value(weights.input)
    cell.dense_h.kernel.set_value(weights.recurrent)
    (cell.dense_h if cell.dense_i.bias is None else cell.dense_i).bias.set_value(weights.bias)


def _by_gate(cell: Any) -> dict[str, Mapping[str, Any]]:
    """Return the parameters of an nnx.LSTMCell as linen has them."""
    params = {}
    for gate in "ifgo":
        inner = getattr(cell, "if_" if gate == "f" else "i" + gate)  # `if` is no attribute in Python
        outer = getattr(cell, "h" + gate)
        params["i" + gate] = {"kernel": inner.kernel[...]}
        params["h" + gate] = {"kernel": outer.kernel[...], "bias": outer.bias[...]}
    return params
