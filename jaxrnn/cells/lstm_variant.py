"""The LSTM family: peepholes, coupled gates, projection, layer norm, clipping and other activations, in one cell.

Greff et al., "LSTM: A Search Space Odyssey" (2017) compare most of them. The equations and their backward
are in `jaxrnn.cells.lstm_equations`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn import initializers as init_with
from jaxrnn.cells.activations import resolve_activation
from jaxrnn.cells.gates import raised
from jaxrnn.cells.lstm import LSTMCarry
from jaxrnn.cells.lstm_equations import LSTMEquations
from jaxrnn.cells.lstm_records import LSTMVariantParams
from jaxrnn.cells.products import zero_carry
from jaxrnn.types import Adjoint, Array, Cell, recorded

NORMALIZATIONS = ("before_bias", "ba2016")
ActivationChoice = str | Callable | tuple[Callable, Callable]


@recorded
def lstm_variant(
    input_size: int,
    hidden_size: int,
    *,
    peephole: bool = False,
    coupled: bool = False,
    projection_size: int | None = None,
    normalization: str | None = None,
    epsilon: float = 1e-5,
    activations: tuple[ActivationChoice, ActivationChoice, ActivationChoice] = ("sigmoid", "tanh", "tanh"),
    cell_clip: float | None = None,
    projection_clip: float | None = None,
    forget_bias: float = 1.0,
    input_init: init_with.Initializer = init_with.fan_in(),
    recurrent_init: init_with.Initializer = init_with.orthogonal(),
    bias_init: init_with.Initializer = init_with.zeros,
    dtype: Any = jnp.float32,
    carry_dtype: Any = None,
) -> Cell:
    """Return an LSTM with any of the options of its family: c_t = f ⊙ c_{t-1} + i ⊙ g and h_t = (o ⊙ ψ(c_t)) P.

    The gates are [i, f, g, o] = [φ, φ, χ, φ](x_t W + b + h_{t-1} U + p ⊙ [c_{t-1}, c_{t-1}, 0, c_t]), and
    y_t = h_t. Without an option it is `jaxrnn.lstm`, which is faster.

    Args:
        input_size: D, the features of ``xs [T, *B, D]``.
        hidden_size: H; the carry is ``LSTMCarry(h [*B, R], c [*B, H])``, and ``ys [T, *B, R]``.
        peephole: whether i and f see c_{t-1}, and o sees c_t, feature by feature (Gers and Schmidhuber 2000).
        coupled: whether f = 1 - i, and the forget gate has no weights: the ``input_forget`` of ONNX. The
            CIFG of TensorFlow Lite, i = 1 - f, is the same network with the kernels, bias and peephole
            of its gate negated, since σ(-a) = 1 - σ(a).
        projection_size: R, for h_t = m_t P with m_t = o ⊙ ψ(c_t) (Sak, Senior and Beaufays 2014); R = H and
            no P unless given.
        normalization: "before_bias" for γ ⊙ N(a) + b, gate by gate, of pre-activations a with all but the
            bias (as TensorFlow Lite does); "ba2016" for γ_x ⊙ N(x_t W) + γ_h ⊙ N(h_{t-1} U) + b, each over
            all gates, and ψ(γ_c ⊙ N(c_t) + β_c) (Ba, Kiros and Hinton 2016), where peepholes are added to
            what is normalised; None for neither.
        epsilon: ε of the norm, N(a) = (a - mean(a)) / √(var(a) + ε).
        activations: (φ, χ, ψ), of the gates, the candidate and the output, each as in `jaxrnn.vanilla`. A φ and
            a χ that clip, ``lambda a: jax.nn.sigmoid(jnp.clip(a, -3, 3))``, are the ``clip`` of onnxruntime.
        cell_clip: bound of the entries of c_t, whose gradient is zero at it; None for none.
        projection_clip: the same of m_t P.
        forget_bias: added to the forget gate's part of the bias when it is drawn, or taken from that of the
            input gate where they are coupled.
        input_init, recurrent_init, bias_init: `jaxrnn.initializers` for W, for U and P, and for b and p, gate
            by gate. Gains start at one, β_c at zero.
        dtype: of the parameters, and so of inputs and outputs.
        carry_dtype: of h and c; that of the parameters unless given.

    Raises:
        ValueError: a size below 1, a bound or ``epsilon`` that is not positive, an unknown choice, a clip of
            a projection that is not there.
        TypeError: an argument of the wrong type.

    Source: Greff et al., "LSTM: A Search Space Odyssey" (2017), and those above.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.lstm_variant(3, 5, peephole=True, projection_size=2)
        >>> params = cell.init(jax.random.key(0))
        >>> (h, c), ys = jaxrnn.unroll(cell, params, jax.numpy.ones((7, 4, 3)))
        >>> h.shape, c.shape, ys.shape
        ((4, 2), (4, 5), (7, 4, 2))
    """
    checks.size("input_size", input_size)
    checks.size("hidden_size", hidden_size)
    checks.flag("peephole", peephole)
    checks.flag("coupled", coupled)
    if projection_size is not None:
        checks.size("projection_size", projection_size)
    if normalization is not None:
        checks.choice("normalization", normalization, NORMALIZATIONS)
    if checks.number("epsilon", epsilon) <= 0:
        raise ValueError(f"epsilon: expected a positive number, got {epsilon}")
    if not isinstance(activations, (tuple, list)) or len(activations) != 3:
        raise TypeError(f"activations: expected three, of the gates, the candidate and the output, got {activations!r}")
    phi, chi, psi = (resolve_activation(one, f"activations[{n}]") for n, one in enumerate(activations))
    checks.bound("cell_clip", cell_clip)
    checks.bound("projection_clip", projection_clip)
    if projection_clip is not None and projection_size is None:
        raise ValueError(f"projection_clip: expected None without a projection_size, got {projection_clip}")
    checks.number("forget_bias", forget_bias)
    checks.functions(input_init=input_init, recurrent_init=recurrent_init, bias_init=bias_init)
    checks.floating(dtype=dtype, carry_dtype=dtype if carry_dtype is None else carry_dtype)

    H, R, gates = hidden_size, projection_size or hidden_size, 3 if coupled else 4
    ba2016 = normalization == "ba2016"
    shapes: dict[str, tuple[int, ...] | None] = {
        "input": (input_size, gates * H),
        "recurrent": (R, gates * H),
        "bias": (gates * H,),
        "peephole": ((gates - 1) * H,) if peephole else None,
        "projection": (H, R) if projection_size else None,
        "gain": (gates * H,) if normalization == "before_bias" else None,
        "input_gain": (gates * H,) if ba2016 else None,
        "recurrent_gain": (gates * H,) if ba2016 else None,
        "cell_gain": (H,) if ba2016 else None,
        "cell_bias": (H,) if ba2016 else None,
    }
    options = {"peephole": peephole, "coupled": coupled, "projection_size": projection_size}
    given = {name: value for name, value in {**options, "normalization": normalization}.items() if value}
    call = f"lstm_variant({', '.join([str(input_size), str(H), *(f'{k}={v!r}' for k, v in given.items())])})"

    def init(key: Array) -> LSTMVariantParams:
        checks.key("key", key)
        keys = dict(zip(shapes, jax.random.split(key, len(shapes)), strict=True))

        def draw(name: str, initializer: init_with.Initializer, gates: int = 1) -> Any:
            shape = shapes[name]
            return None if shape is None else init_with.per_gate(initializer, gates)(keys[name], shape, dtype)

        one = init_with.constant(1.0)
        forget_gate, shift = (slice(0, H), -forget_bias) if coupled else (slice(H, 2 * H), forget_bias)
        return LSTMVariantParams(
            input=draw("input", input_init, gates),
            recurrent=draw("recurrent", recurrent_init, gates),
            bias=raised(draw("bias", bias_init, gates), forget_gate, shift),
            peephole=draw("peephole", bias_init, gates - 1),
            projection=draw("projection", recurrent_init),
            gain=draw("gain", one),
            input_gain=draw("input_gain", one),
            recurrent_gain=draw("recurrent_gain", one),
            cell_gain=draw("cell_gain", one),
            cell_bias=draw("cell_bias", init_with.zeros),
        )

    def initial_carry(params: LSTMVariantParams, batch_shape: tuple[int, ...] = ()) -> LSTMCarry:
        checks.parameters(params, LSTMVariantParams, shapes, call)
        checks.batch(batch_shape)
        h, c = (zero_carry((*batch_shape, size), params.recurrent.dtype, carry_dtype) for size in (R, H))
        return LSTMCarry(h, c)

    equations = LSTMEquations(H, coupled, epsilon, phi, chi, psi, cell_clip, projection_clip)

    def inputs(params: LSTMVariantParams, xs: Array, key: Array | None = None) -> Array:
        del key
        checks.parameters(params, LSTMVariantParams, shapes, call)
        checks.features("xs", xs, input_size, params.input.dtype, call)
        return equations.inputs(params, xs)

    def step(params: LSTMVariantParams, carry: LSTMCarry, z: Array) -> tuple[LSTMCarry, Array]:
        carry, y, _, _ = equations.forward(params, carry, z)
        return carry, y

    adjoint = Adjoint(
        forward=equations.forward,
        transpose=equations.transpose,
        backward=equations.backward,
        product=equations.product,
        gradients=equations.gradients,
    )
    return Cell(init, initial_carry, step, inputs, adjoint)
