"""The names and shapes of the weights in torch's RNN, LSTM and GRU, and in their cells.

A module has ``weight_ih_l0 [G H, D]``, ``weight_hh_l0 [G H, R]``, ``bias_ih_l0 [G H]``, ``bias_hh_l0 [G H]`` and
``weight_hr_l0 [R, H]``, then those of ``l0_reverse``, ``l1`` and so on; a cell has them without ``_l0``. G is 1 for
the RNN, 3 for the GRU and 4 for the LSTM.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from jaxrnn.interop.conventions import Weights

NAMES = {
    "input": "weight_ih",
    "recurrent": "weight_hh",
    "bias": "bias_ih",
    "recurrent_bias": "bias_hh",
    "projection": "weight_hr",
}
KINDS = {1: "vanilla", 3: "gru", 4: "lstm"}
PATTERN = re.compile(rf"({'|'.join(NAMES.values())})(?:_l(\d+)(_reverse)?)?")


class Form(NamedTuple):
    """What names and shapes say of a module; ``cell`` is whether it is a cell, such as ``LSTMCell``."""

    kind: str
    input_size: int
    hidden_size: int
    num_layers: int
    bidirectional: bool
    bias: bool
    projection_size: int | None
    cell: bool

    def places(self) -> list[list[str]]:
        """Return what the names of each layer end in, one for each direction."""
        if self.cell:
            return [[""]]
        ends = ("", "_reverse") if self.bidirectional else ("",)
        return [[f"_l{layer}{end}" for end in ends] for layer in range(self.num_layers)]

    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield the name and the shape of every weight."""
        G, H, R = {kind: G for G, kind in KINDS.items()}[self.kind], self.hidden_size, self.projection_size
        output_size, features = R or H, self.input_size
        for places in self.places():
            for place in places:
                yield f"weight_ih{place}", (G * H, features)
                yield f"weight_hh{place}", (G * H, output_size)
                if self.bias:
                    yield f"bias_ih{place}", (G * H,)
                    yield f"bias_hh{place}", (G * H,)
                if R:
                    yield f"weight_hr{place}", (R, H)
            features = output_size * len(places)


def read_form(name: str, arrays: Mapping[str, Any]) -> Form:
    """Return the `Form` that arrays have, by their names and shapes; ``name`` is for the errors.

    Raises:
        ValueError: a weight too many or too few, or of another shape than the others ask for.
    """
    matches = [match for match in map(PATTERN.fullmatch, arrays) if match]
    first = next((arrays.get(f"weight_ih{end}") for end in ("_l0", "") if f"weight_ih{end}" in arrays), None)
    recurrent = next((arrays.get(f"weight_hh{end}") for end in ("_l0", "") if f"weight_hh{end}" in arrays), None)
    if first is None or recurrent is None:
        found = ", ".join(list(arrays)[:5]) or "none"
        raise ValueError(f"{name}: expected weights such as weight_ih_l0 and weight_hh_l0, got {found}")
    projection = arrays.get("weight_hr_l0")
    if any(array.ndim != 2 for array in (first, recurrent, *([] if projection is None else [projection]))):
        raise ValueError(f"{name}: expected kernels with two axes, got weight_ih of shape {tuple(first.shape)}")
    hidden_size = (recurrent if projection is None else projection).shape[1]
    gates, rest = divmod(first.shape[0], hidden_size)
    if rest or gates not in KINDS or (projection is not None and gates != 4):
        raise ValueError(
            f"{name}: expected weight_ih with 1, 3 or 4 times {hidden_size} rows, those of an RNN, GRU or LSTM, "
            f"or 4 times with a projection; got shape {tuple(first.shape)}"
        )
    form = Form(
        KINDS[gates],
        first.shape[1],
        hidden_size,
        num_layers=1 + max(int(match[2] or 0) for match in matches),
        bidirectional=any(match[3] for match in matches),
        bias=any(match[1].startswith("bias") for match in matches),
        projection_size=None if projection is None else projection.shape[0],
        cell="weight_ih" in arrays,
    )
    _check(name, arrays, form)
    return form


def weights_at(arrays: Mapping[str, Any], place: str) -> Weights:
    """Return the weights whose names end in ``place``."""
    return Weights(**{field: arrays.get(stem + place) for field, stem in NAMES.items()})


def names_at(weights: Weights, place: str) -> dict[str, Any]:
    """Return the weights that are there by their names, which end in ``place``."""
    named = {stem + place: getattr(weights, field) for field, stem in NAMES.items()}
    return {name: value for name, value in named.items() if value is not None}


def _check(name: str, arrays: Mapping[str, Any], form: Form) -> None:
    """Raise unless there is every weight of the form, and no other, with its shape."""
    shapes = dict(form.shapes()) if form.num_layers <= len(arrays) else {}  # a stray number asks for no long list
    missing = [key for key in shapes if key not in arrays] if shapes else [f"weights of {form.num_layers} layers"]
    unexpected = [key for key in arrays if key not in shapes] if shapes else []
    problems = [
        f"{what} {', '.join(keys[:8])}{' …' if len(keys) > 8 else ''}"
        for what, keys in (("missing", missing), ("unexpected", unexpected))
        if keys
    ]
    if problems:
        raise ValueError(f"{name}: expected the weights of one RNN, LSTM or GRU, got {'; '.join(problems)}")
    for key, shape in shapes.items():
        if tuple(arrays[key].shape) != shape:
            raise ValueError(f"{name}: expected {key} of shape {shape}, as the others, got {tuple(arrays[key].shape)}")
