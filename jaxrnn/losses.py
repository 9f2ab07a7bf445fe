"""Losses over sequences, each with a padding mask: ``(predictions, targets, mask=None) -> scalar``.

``predictions [T, *B, K]`` are linear outputs (logits), ``mask [T, *B]`` says which steps count. At a
step that does not count, predictions and targets are set to zero before the formula, so NaN or
infinity there reaches neither the value nor a gradient. Where no step counts, every loss is 0.

All arithmetic keeps the dtype of the predictions; sums are accumulated in float32 at least. Cast
bfloat16 logits to float32 first where three digits of a loss are too few.

A mean over part of a batch does not say how much of it counted. `sum_and_weight` gives both, for a batch
that is divided among devices or comes in pieces.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrnn import checks
from jaxrnn.steps import flags, zero_unless
from jaxrnn.types import Array


def half_squared_error(predictions: Any, targets: Any, mask: Any = None, *, feature_axes: int = 1) -> Array:
    """Return L = Σ ½ (ŷ - y)², summed over all that counts: steps, batch and features.

    Args:
        predictions: ŷ ``[T, *B, K]``, floating.
        targets: y, with the shape and dtype of the predictions.
        mask: which steps count, bool ``[T, *B]``; None for all.
        feature_axes: how many trailing axes are features; 0 for predictions ``[T, *B]``.

    Raises:
        ValueError: a shape that does not fit.
        TypeError: a dtype that does not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxrnn.losses import half_squared_error
        >>> float(half_squared_error(jnp.array([[1.0, 3.0]]), jnp.array([[0.0, 0.0]])))
        5.0
    """
    predictions, targets, _ = _paired(predictions, targets, mask, feature_axes)
    total = jnp.sum(optax.l2_loss(predictions, targets), dtype=_wide(predictions.dtype))
    return total.astype(predictions.dtype)


def mean_squared_error(predictions: Any, targets: Any, mask: Any = None, *, feature_axes: int = 1) -> Array:
    """Return L = mean of (ŷ - y)² over the steps that count and their features.

    Arguments and errors are those of `half_squared_error`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxrnn.losses import mean_squared_error
        >>> mask = jnp.array([True, False])
        >>> float(mean_squared_error(jnp.array([[1.0, 3.0], [jnp.nan, 9.0]]), jnp.zeros((2, 2)), mask))
        5.0
    """
    predictions, targets, valid = _paired(predictions, targets, mask, feature_axes)
    axes = tuple(range(predictions.ndim - feature_axes, predictions.ndim))
    features = max(1, int(np.prod([predictions.shape[axis] for axis in axes], dtype=int)))
    return _mean(jnp.sum(optax.squared_error(predictions, targets), axis=axes) / features, valid)


def softmax_cross_entropy(predictions: Any, targets: Any, mask: Any = None, *, label_smoothing: float = 0.0) -> Array:
    """Return L = mean over steps of -ln softmax(ŷ)[y], in nats per step.

    With smoothing ε, -(1 - ε) ln softmax(ŷ)[y] - ε/V Σ_v ln softmax(ŷ)[v]: the label has the probability
    1 - ε, and ε is spread over all V classes.

    Args:
        predictions: ŷ ``[T, *B, V]``, the logits.
        targets: y ``[T, *B]``, integer labels from 0 to V - 1. Labels of steps that count are checked
            where they are known; under jit one outside that range makes the loss NaN.
        mask: which steps count, bool ``[T, *B]``; None for all.
        label_smoothing: ε, from 0 to less than 1.

    Raises:
        ValueError: a shape that does not fit, a label or ε out of range.
        TypeError: a dtype that does not fit.

    Source: of the smoothing, Szegedy et al., "Rethinking the Inception Architecture for Computer Vision" (2016).

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxrnn.losses import softmax_cross_entropy
        >>> round(float(softmax_cross_entropy(jnp.zeros((3, 4)), jnp.array([0, 1, 3]))), 4)  # ln 4
        1.3863
    """
    checks.rate("label_smoothing", label_smoothing)
    predictions = _floating("predictions", predictions)
    if predictions.ndim == 0 or predictions.shape[-1] == 0:
        raise ValueError(f"predictions: expected [time, *batch, classes], got shape {predictions.shape}")
    targets = _integers("targets", targets, predictions.shape[:-1], "[time, *batch], predictions without classes")
    valid = _valid(mask, targets.shape)
    predictions, targets = zero_unless(valid, predictions), zero_unless(valid, targets)
    classes = predictions.shape[-1]
    _check_range("targets", targets, 0, classes - 1, "labels")
    # A negative index would count from the end; one past the end gives NaN.
    targets = jnp.where(targets < 0, jnp.full_like(targets, classes), targets)
    losses = optax.softmax_cross_entropy_with_integer_labels(predictions, targets)
    if label_smoothing:
        # Where the label is -ln p[y] = lse - ŷ[y]; the mean of -ln p over all classes is lse - mean ŷ.
        of_label = jnp.take_along_axis(predictions, targets[..., None], axis=-1, mode="fill")[..., 0]
        losses = losses + label_smoothing * (of_label - jnp.mean(predictions, axis=-1))
    return _mean(zero_unless(valid, losses), valid)


def sigmoid_cross_entropy(predictions: Any, targets: Any, mask: Any = None, *, feature_axes: int = 1) -> Array:
    """Return L = mean over steps of -Σ_k [y ln σ(ŷ) + (1 - y) ln(1 - σ(ŷ))], in nats per step.

    The features of a step are independent yes-or-no questions; their losses are summed.

    Args:
        predictions: ŷ ``[T, *B, K]``, the logits.
        targets: y from 0 to 1, with the shape of the predictions; bool or the predictions' dtype.
        mask: which steps count, bool ``[T, *B]``; None for all.
        feature_axes: how many trailing axes are features; 0 for predictions ``[T, *B]``.

    Raises:
        ValueError: a shape that does not fit, a target outside [0, 1] where targets are known.
        TypeError: a dtype that does not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxrnn.losses import sigmoid_cross_entropy
        >>> round(float(sigmoid_cross_entropy(jnp.zeros((3, 2)), jnp.ones((3, 2)))), 4)  # 2 ln 2
        1.3863
    """
    targets = checks.array("targets", targets)
    if targets.dtype == jnp.bool_:
        targets = targets.astype(_floating("predictions", predictions).dtype)
    predictions, targets, valid = _paired(predictions, targets, mask, feature_axes)
    _check_range("targets", targets, 0, 1, "probabilities")
    losses = optax.sigmoid_binary_cross_entropy(predictions, targets)
    losses = jnp.sum(losses, axis=tuple(range(losses.ndim - feature_axes, losses.ndim)))
    return _mean(zero_unless(valid, losses), valid)


def ctc(
    logits: Any,
    labels: Any,
    mask: Any = None,
    *,
    lengths: Any = None,
    label_lengths: Any = None,
    blank_id: int = 0,
) -> Array:
    """Return L = mean over sequences of -ln Σ_π Π_t softmax(ŷ_t)[π_t], in nats per sequence.

    The sum is over all paths π, one class per step, that give the labels once repeats are merged and
    blanks removed: connectionist temporal classification. The mean is over the sequences that have
    at least one step that counts, each with the same weight whatever its length.

    A sequence whose labels cannot fit into its steps (one step per label, one more between equal
    neighbours) has probability 0; its loss is about 1e5, optax's stand-in for infinity.

    Args:
        logits: ŷ ``[T, *B, K]``, blank included.
        labels: ``[*B, N]``, integers from 0 to K - 1 without the blank, in order, padding at the end.
        mask: which steps count, bool ``[T, *B]``; None for all.
        lengths: how many steps count, ints ``[*B]`` from 0 to T; with a mask, both must hold.
        label_lengths: how many labels count, ints ``[*B]`` from 0 to N; None for all.
        blank_id: the class that stands for no label.

    Values of lengths and labels are checked where they are known; under jit lengths are clipped and a
    label out of range makes the loss NaN.

    Raises:
        ValueError: a shape that does not fit, a length or label out of range.
        TypeError: a dtype that does not fit.

    Source: Graves et al., "Connectionist Temporal Classification" (2006).

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxrnn.losses import ctc
        >>> loss = ctc(jnp.zeros((2, 1, 2)), jnp.array([[1]]))  # 3 of the 4 paths: 11, 1-, -1
        >>> round(float(loss), 4)  # -ln(3/4)
        0.2877
    """
    logits = _floating("logits", logits)
    if logits.ndim < 2 or logits.shape[-1] == 0:
        raise ValueError(f"logits: expected [time, *batch, classes], got shape {logits.shape}")
    time, *batch, classes = logits.shape
    labels = checks.array("labels", labels)
    labels = _integers("labels", labels, (*batch, *labels.shape[-1:]), "[*batch, N]")
    blank_id = _class("blank_id", blank_id, classes)

    steps = _valid(mask, (time, *batch))
    first = _first("lengths", lengths, time, tuple(batch))
    steps = first if steps is None else steps & first
    counted = jnp.moveaxis(_first("label_lengths", label_lengths, labels.shape[-1], tuple(batch)), 0, -1)
    _check_range("labels", zero_unless(counted, labels), 0, classes - 1, "labels")
    _check_no_blank(labels, counted, blank_id)

    sequences = int(np.prod(batch, dtype=int))
    flat_steps = steps.reshape(time, sequences).T
    flat_logits = zero_unless(steps, logits).astype(_wide(logits.dtype)).reshape(time, sequences, classes)
    flat_labels = jnp.where(counted, labels, 0).reshape(sequences, -1 if sequences else labels.shape[-1])
    losses = _ctc_losses(
        jnp.swapaxes(flat_logits, 0, 1), flat_steps, flat_labels, counted.reshape(flat_labels.shape), blank_id
    )
    in_range = jnp.all((flat_labels >= 0) & (flat_labels < classes), axis=1)
    losses = jnp.where(in_range, losses, jnp.nan)
    some = jnp.any(flat_steps, axis=1)
    return _mean(zero_unless(some, losses), some).astype(logits.dtype)


def _ctc_losses(logits: Array, steps: Array, labels: Array, counted: Array, blank_id: int) -> Array:
    """Return optax's loss of each sequence [b], for [b, T, K], [b, T], [b, N], [b, N]."""
    # optax reads the last step and the last label, so there must be one of each: one that does not count.
    logits = jnp.pad(logits, ((0, 0), (0, int(logits.shape[1] == 0)), (0, 0)))
    steps = jnp.pad(steps, ((0, 0), (0, int(steps.shape[1] == 0))))
    more = ((0, 0), (0, int(labels.shape[1] == 0)))
    labels, counted = jnp.pad(labels, more), jnp.pad(counted, more)
    # Its constants are float32 or float64 by jax_enable_x64, whatever the logits are.
    with jax.numpy_dtype_promotion("standard"):
        losses = optax.ctc_loss(
            logits, (~steps).astype(logits.dtype), labels, (~counted).astype(logits.dtype), blank_id=blank_id
        )
    return losses.astype(logits.dtype)


def sum_and_weight(loss: Callable[..., Array]) -> Callable[..., tuple[Array, Array]]:
    """Return a mean loss as ``(predictions, targets, mask=None) -> (S, w)``, a sum and how many steps it is over.

    L = S / w with S = Σ ℓ over the w steps that count. The S and w of parts of a batch add up to those of
    the whole; the mean of the parts' means is another loss where masks leave more steps to one than to
    another. So this is the form for masks on several devices: of `jaxrnn.training.data_parallel`, and of
    `jaxrnn.training.truncated_loss` over streams that end apart.

    Args:
        loss: a mean over the steps that count, such as `softmax_cross_entropy`; with its options by
            `functools.partial`, or your own. For `ctc`, a mean over sequences, and for other means over
            something else than steps, return such a pair yourself.

    S and w are scalars of the loss's dtype, float32 at least. Without a mask w = 1 and S = L: parts of one
    size count the same. Where no step counts, both are 0.

    Raises:
        TypeError: a loss that is no function.
        ValueError: `half_squared_error`, which is no mean, or `ctc`; at the call, those of ``loss``.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxrnn.losses import mean_squared_error, sum_and_weight
        >>> predictions, mask = jnp.array([[1.0], [3.0], [9.0]]), jnp.array([True, True, False])
        >>> total, weight = sum_and_weight(mean_squared_error)(predictions, jnp.zeros((3, 1)), mask)
        >>> float(total), float(weight)
        (10.0, 2.0)
    """
    checks.functions(loss=loss)
    for other in (half_squared_error, ctc):
        if getattr(loss, "func", loss) is other:  # a `functools.partial` has the function as ``func``
            raise ValueError(f"loss: expected a mean over the steps that count, got {other.__name__}")

    def pair(predictions: Any, targets: Any, mask: Any = None) -> tuple[Array, Array]:
        mean = loss(predictions, targets, mask)
        mean = mean.astype(_wide(mean.dtype))  # a bfloat16 cannot count beyond 256
        weight = jnp.ones((), mean.dtype) if mask is None else jnp.sum(checks.array("mask", mask), dtype=mean.dtype)
        return mean * weight, weight

    return pair


def _paired(predictions: Any, targets: Any, mask: Any, feature_axes: int) -> tuple[Array, Array, Array | None]:
    """Return predictions and targets of one shape, zero where they do not count, and what counts."""
    if isinstance(feature_axes, bool) or not isinstance(feature_axes, int):
        raise TypeError(f"feature_axes: expected an int, got {feature_axes!r}")
    predictions, targets = _floating("predictions", predictions), checks.array("targets", targets)
    if not 0 <= feature_axes <= predictions.ndim:
        raise ValueError(f"feature_axes: expected 0 to the {predictions.ndim} axes of predictions, got {feature_axes}")
    if targets.shape != predictions.shape:
        raise ValueError(f"targets: expected shape {predictions.shape}, that of predictions, got {targets.shape}")
    if targets.dtype != predictions.dtype:
        raise TypeError(f"targets: expected dtype {predictions.dtype}, that of predictions, got {targets.dtype}")
    valid = _valid(mask, predictions.shape[: predictions.ndim - feature_axes])
    return zero_unless(valid, predictions), zero_unless(valid, targets), valid


def _valid(mask: Any, shape: tuple[int, ...]) -> Array | None:
    return None if mask is None else flags("mask", mask, shape, "[time, *batch]")


def _floating(name: str, value: Any) -> Array:
    value = checks.array(name, value)
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(f"{name}: expected a floating dtype, got {value.dtype}")
    return value


def _integers(name: str, value: Any, shape: tuple[int, ...], layout: str) -> Array:
    value = checks.array(name, value)
    if not jnp.issubdtype(value.dtype, jnp.integer):
        raise TypeError(f"{name}: expected integers, got dtype {value.dtype}")
    if value.shape != shape:
        raise ValueError(f"{name}: expected shape {shape} = {layout}, got {value.shape}")
    return value.astype(jnp.int32)


def _class(name: str, value: Any, classes: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: expected an int, got {value!r}")
    if not 0 <= value < classes:
        raise ValueError(f"{name}: expected a class from 0 to {classes - 1}, got {value}")
    return int(value)


def _first(name: str, lengths: Any, limit: int, batch: tuple[int, ...]) -> Array:
    """Return which of ``limit`` positions come before each length, bool ``[limit, *batch]``."""
    if lengths is None:
        return jnp.ones((limit, *batch), bool)
    lengths = _integers(name, lengths, batch, "[*batch]")
    _check_range(name, lengths, 0, limit, "lengths")
    positions = jnp.arange(limit, dtype=lengths.dtype).reshape((limit,) + (1,) * len(batch))
    return positions < jnp.expand_dims(lengths, 0)


def _check_range(name: str, values: Array, low: int, high: int, what: str) -> None:
    if values.size and checks.concrete(values):
        known = np.asarray(values)
        if not (known.min() >= low and known.max() <= high):
            raise ValueError(f"{name}: expected {what} from {low} to {high}, got {known.min()} to {known.max()}")


def _check_no_blank(labels: Array, counted: Array, blank_id: int) -> None:
    blanks = counted & (labels == blank_id)
    if checks.concrete(blanks) and bool(jnp.any(blanks)):
        raise ValueError(f"labels: expected no blank among the labels that count, got blank_id {blank_id}")


def _wide(dtype: Any) -> Any:
    return dtype if jnp.finfo(dtype).bits >= 32 else jnp.float32


def _mean(losses: Array, valid: Array | None) -> Array:
    """Return the mean of the losses that count (the others are 0), or 0 where none does."""
    count = jnp.asarray(losses.size) if valid is None else jnp.sum(valid, dtype=jnp.int32)
    total = jnp.sum(losses, dtype=_wide(losses.dtype))
    return (total / jnp.maximum(count, 1).astype(total.dtype)).astype(losses.dtype)
