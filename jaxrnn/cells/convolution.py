"""The convolutions that stand in `conv_vanilla`, `conv_lstm` and `conv_gru` where their dense cells have products.

With p a position of 1, 2 or 3 spatial axes, j an offset within the kernel, s the strides, d the dilation, and ℓ the
zeros before the first position,

    (x * W)[p, o] = Σ_j Σ_c x[s p + d j - ℓ, c] W[j, c, o]        c over the channels of the group of o

A kernel is ``(*kernel_size, in / groups, gates · out)``. Its columns o are ordered by gate, then by group, then
within the group, so that every gate is a convolution of its own, with the same groups.
"""

import math
from typing import Any, NamedTuple

from jax import lax, vjp

from jaxrnn import checks
from jaxrnn.types import Array

PADDINGS = ("same", "valid")


class Convolution(NamedTuple):
    """x ↦ x * W for images ``x [..., *spatial, channels]``, any leading axes, and W of any number of gates.

    out_channels: of each gate.
    padding: "same", as many positions as strides allow, ⌈spatial / strides⌉, or "valid", without added zeros.
    """

    spatial: tuple[int, ...]
    channels: int
    out_channels: int
    kernel_size: tuple[int, ...]
    padding: str
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    @property
    def windows(self) -> tuple[int, ...]:
        """How many positions the kernel spans, along every axis."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel_size, self.dilation, strict=True))

    @property
    def out_spatial(self) -> tuple[int, ...]:
        """The positions of the result."""
        at_ends = [0 if self.padding == "same" else window - 1 for window in self.windows]
        return tuple(-(-(n - lost) // s) for n, lost, s in zip(self.spatial, at_ends, self.strides, strict=True))

    def kernel_shape(self, gates: int) -> tuple[int, ...]:
        """Return the shape of W."""
        return (*self.kernel_size, self.channels // self.groups, gates * self.out_channels)

    def __call__(self, x: Array, kernel: Array) -> Array:
        """Return x * W in the dtype of x, as it is multiplied in that of W and summed in the wider of the two."""
        axes = len(self.spatial)
        leading, image = x.shape[: -axes - 1], x.shape[-axes - 1 :]
        gates = kernel.shape[-1] // self.out_channels
        letters = "DHW"[-axes:]
        y = lax.conv_general_dilated(
            x.astype(kernel.dtype).reshape(math.prod(leading), *image),
            self._swap(kernel, gates, self.groups),
            window_strides=self.strides,
            padding=self.padding.upper(),
            rhs_dilation=self.dilation,
            dimension_numbers=(f"N{letters}C", f"{letters}IO", f"N{letters}C"),
            feature_group_count=self.groups,
            preferred_element_type=max(x.dtype, kernel.dtype, key=lambda dtype: dtype.itemsize),
        )
        return self._swap(y, self.groups, gates).reshape(*leading, *y.shape[1:]).astype(x.dtype)

    def transpose(self, x: Array, kernel: Array, dy: Array) -> Array:
        """Return dx, the cotangent of x, of which the shape alone matters, for that of x * W."""
        _, pull_back = vjp(lambda x: self(x, kernel), x)
        return pull_back(dy)[0]

    def _swap(self, columns: Array, outer: int, inner: int) -> Array:
        """Return columns that are ordered by ``outer``, then by ``inner``, in the other order; XLA's is by group."""
        if 1 in (outer, inner):
            return columns
        blocks = columns.reshape(*columns.shape[:-1], outer, inner, self.out_channels // self.groups)
        return blocks.swapaxes(-3, -2).reshape(columns.shape)


class Convolutions(NamedTuple):
    """The two of a cell: z = x * W + b for all steps, and h * U, which keeps the positions that the first leaves."""

    input: Convolution
    recurrent: Convolution
    gates: int
    call: str

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the parameters."""
        columns = (self.gates * self.recurrent.out_channels,)
        return {
            "input": self.input.kernel_shape(self.gates),
            "recurrent": self.recurrent.kernel_shape(self.gates),
            "bias": columns,
        }

    def carry_shape(self, batch_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return ``(*B, *spatial, hidden channels)``."""
        return (*batch_shape, *self.recurrent.spatial, self.recurrent.channels)

    @property
    def feature_axes(self) -> int:
        """How many trailing axes of xs are those of an image."""
        return len(self.input.spatial) + 1

    def zs(self, params: Any, xs: Array) -> Array:
        """Return x * W + b for the images ``xs [..., *spatial, channels]`` of all steps at once, after a check."""
        image = (*self.input.spatial, self.input.channels)
        checks.images("xs", xs, image, params.input.dtype, self.call)
        return self.input(xs, params.input) + across(params.bias, xs.ndim)


def across(bias: Array, axes: int) -> Array:
    """Return ``bias [channels]`` with ones before it, to be added to an array of so many axes."""
    return bias.reshape((1,) * (axes - 1) + bias.shape)


def convolutions(
    name: str,
    gates: int,
    input_shape: Any,
    hidden_channels: Any,
    kernel_size: Any,
    padding: Any,
    strides: Any,
    dilation: Any,
    groups: Any,
    recurrent_kernel_size: Any,
) -> Convolutions:
    """Return the convolutions of the cell that ``name`` makes of these arguments, after checking them."""
    *spatial, channels = checks.sizes("input_shape", input_shape, range(2, 5), "1 to 3 spatial sizes and the channels")
    axes = len(spatial)

    def per_axis(argument: str, value: Any) -> tuple[int, ...]:
        one_each = (value,) * axes if not isinstance(value, (tuple, list)) else value
        return checks.sizes(argument, one_each, range(axes, axes + 1), f"an int, or one for each of {axes} axes")

    hidden_channels = checks.size("hidden_channels", hidden_channels)
    kernel = per_axis("kernel_size", kernel_size)
    checks.choice("padding", padding, PADDINGS)
    over_inputs = Convolution(
        tuple(spatial),
        channels,
        hidden_channels,
        kernel,
        padding,
        per_axis("strides", strides),
        per_axis("dilation", dilation),
        checks.size("groups", groups),
    )
    if channels % groups or hidden_channels % groups:
        raise ValueError(
            f"groups: expected a divisor of {channels} input and {hidden_channels} hidden channels, got {groups}"
        )
    if min(over_inputs.out_spatial) < 1:
        raise ValueError(
            f"kernel_size: expected to span at most the {tuple(spatial)} positions of the image, with padding "
            f"'valid', got {kernel}, which with dilation {over_inputs.dilation} spans {over_inputs.windows}"
        )
    ones = (1,) * axes
    over_carry = Convolution(
        over_inputs.out_spatial,
        hidden_channels,
        hidden_channels,
        kernel if recurrent_kernel_size is None else per_axis("recurrent_kernel_size", recurrent_kernel_size),
        "same",
        strides=ones,
        dilation=ones,
        groups=groups,
    )
    call = f"{name}({(*spatial, channels)}, {hidden_channels}, {kernel})"
    return Convolutions(over_inputs, over_carry, gates, call)
