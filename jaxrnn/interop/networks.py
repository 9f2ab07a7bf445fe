"""A stack of recurrent layers, in words that belong to no framework: what a converter writes or reads."""

from typing import Any, NamedTuple

import jax

from jaxrnn import checks
from jaxrnn.layers.bidirectional import Directions
from jaxrnn.types import Layer, Spec

KINDS = {"vanilla": "vanilla", "lstm": "lstm", "lstm_variant": "lstm", "gru": "gru"}


class Network(NamedTuple):
    """What `jaxrnn.stacked`, `jaxrnn.recurrent` or `jaxrnn.bidirectional` made.

    factory: of its cells: "vanilla", "lstm", "lstm_variant" or "gru".
    kind: the same for the table of conventions, in which both LSTMs are "lstm".
    options: of the cells, by name; without their sizes.
    input_size, hidden_sizes: D, and H of each layer.
    bidirectional, dropout: as of `jaxrnn.stacked`.
    merge: as of `jaxrnn.bidirectional`.
    alone: whether it is one layer that is no stack: its parameters and carry are in no tuple.
    origin: `Spec.origin`, by name.
    """

    factory: str
    kind: str
    options: dict[str, Any]
    input_size: int
    hidden_sizes: tuple[int, ...]
    bidirectional: bool
    dropout: float
    merge: str
    alone: bool
    origin: dict[str, Any]

    @property
    def num_layers(self) -> int:
        """Return how many layers there are."""
        return len(self.hidden_sizes)


def describe(layer: Layer) -> Network:
    """Return the `Network` of a layer.

    Raises:
        TypeError: no `Layer`.
        ValueError: a layer that is no stack of vanilla networks, LSTMs or GRUs.
    """
    checks.layer("layer", layer)
    made_by = _stack(layer.spec)
    options = dict(made_by.options)
    factory = options.pop("cell")
    if factory not in KINDS:
        raise ValueError(f"layer: expected cells made by {', '.join(KINDS)}, got {factory}")
    hidden = options.pop("hidden_size")
    sizes = hidden if isinstance(hidden, tuple) else (hidden,)
    return Network(
        factory,
        KINDS[factory],
        input_size=options.pop("input_size"),
        hidden_sizes=sizes,
        bidirectional=options.pop("bidirectional"),
        dropout=options.pop("dropout"),
        merge=options.pop("merge", "concat"),
        alone=isinstance(hidden, int),
        origin=dict(made_by.origin),
        options=options,
    )


def cells_of(network: Network, layer: Layer, params: Any) -> list[tuple[Any, ...]]:
    """Return the parameters of the cells of each layer, one or, forward first, two.

    Raises:
        TypeError: parameters of another structure, or of more than one dtype.
        ValueError: parameters of other shapes.
    """
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(params) if hasattr(leaf, "dtype")}
    if len(dtypes) > 1:
        raise TypeError(f"params: expected one dtype, got {', '.join(sorted(map(str, dtypes)))}")
    shapes = jax.eval_shape(layer.init, jax.random.key(0))
    of_dtype = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, *dtypes or {leaf.dtype}), shapes)
    checks.same_structure("params", params, of_dtype, "of the layer")
    layers = (params,) if network.alone else params
    return [tuple(each) if network.bidirectional else (each,) for each in layers]


def _stack(made_by: Spec | None) -> Spec:
    """Return the spec of a `jaxrnn.stacked` of one layer for one that is there without a stack."""
    if made_by is None or made_by.factory not in ("stacked", "recurrent", "bidirectional"):
        got = "one of your own" if made_by is None else made_by.factory
        raise ValueError(f"layer: expected one of jaxrnn.stacked, recurrent or bidirectional, got {got}")
    options = dict(made_by.options)
    if made_by.factory == "stacked":
        return made_by
    if made_by.factory == "recurrent":
        if options["reverse"]:
            raise ValueError("layer: expected one that runs forward, or in both directions, got one in reverse")
        return _of_cell(made_by, options["cell"], bidirectional=False)
    children = [options[name] for name in Directions._fields]
    for child in children:
        if child is None or child.factory != "recurrent":
            raise ValueError("layer: expected a bidirectional of two jaxrnn.recurrent, got one of other layers")
    cells = [dict(child.options)["cell"] for child in children]
    if cells[0] != cells[1]:
        raise ValueError("layer: expected cells of the same sizes and options in both directions, got others")
    return _of_cell(made_by, cells[0], bidirectional=True, merge=options["merge"])


def _of_cell(made_by: Spec, cell: Spec | None, **choices: Any) -> Spec:
    if cell is None:
        raise ValueError(f"layer: expected cells made by {', '.join(KINDS)}, got one of your own")
    options = (("cell", cell.factory), *cell.options, ("dropout", 0.0), *choices.items())
    return Spec("stacked", options, made_by.origin)
