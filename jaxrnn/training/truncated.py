"""Truncated backpropagation through time: an update every k1 steps, a gradient over the last k2.

Window i ends with the new steps i·k1 … (i+1)·k1 - 1 and begins k2 - k1 steps before them::

    steps            0   1   2   3   4   5   6   7
    window 0   -   - [0   1]                           k1 = 2, k2 = 4
    window 1         0   1 [2   3]                     - masked: before the sequence
    window 2                 2   3 [4   5]             [ ] the steps whose loss counts
    window 3                         4   5 [6   7]

The carry at the start of a window is a constant, so the gradient of the k1 losses reaches back k2
steps at most and k2 - k1 + 1 at least. With k2 = k1 the windows do not overlap: the usual form.

Source: Williams and Peng, "An Efficient Gradient-Based Algorithm for On-Line Training of Recurrent
Network Trajectories" (1990), BPTT(h; h') with h = k2, h' = k1.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import checks
from jaxrnn.steps import select
from jaxrnn.training.step import Loss, LossFunction
from jaxrnn.types import Array, Carry, Layer, Params


class Window(NamedTuple):
    """One batch of truncated BPTT. All windows of one `windows` have the same shapes.

    xs: ``[k2, *B, ...]``. Steps outside the sequence repeat its first or last one; the mask excludes them.
    targets: ``[k1, *B, ...]``, those of the last k1 steps.
    mask: bool ``[k2, *B]``, or None where every step of every window counts.
    resets: bool ``[k2, *B]``, or None.
    start: bool scalar, whether the window reaches back to step 0: it begins at the initial carry.
    """

    xs: Any
    targets: Any
    mask: Any
    resets: Any
    start: Any


class Windows(NamedTuple):
    """What `windows` returns: ``window(i)`` for i = 0, 1, 2, …, and ``count`` windows in one pass."""

    window: Callable[[int], Window]
    count: int


def windows(
    xs: Any,
    targets: Any,
    k1: int,
    k2: int | None = None,
    *,
    mask: Any = None,
    resets: Any = None,
    batch_axes: int = 1,
) -> Windows:
    """Return the windows of sequences held in memory, window i a pure function of i.

    For documents that are longer, or come one by one, see `stream_windows`.

    After the last window of a pass the next pass begins, so i may grow without end. A run that stops
    at step i goes on with window i. In one pass every target is in exactly one window.

    Args:
        xs: ``[N, *B, ...]``, N steps of parallel sequences.
        targets: ``[N, *B, ...]``.
        k1: steps between updates.
        k2: steps back-propagated, k2 ≥ k1; None for k1.
        mask: which steps count, bool ``[N, *B]``; None for all.
        resets: which steps begin a new segment, bool ``[N, *B]``; None for none.
        batch_axes: how many axes of ``*B`` there are, none (0) included.

    Raises:
        ValueError: k1 < 1, k2 < k1, N = 0, shapes that do not fit.
        TypeError: sizes that are no ints, mask or resets that are not bool.

    Example:
        >>> import numpy as np
        >>> from jaxrnn.training import windows
        >>> tokens = np.arange(9).reshape(9, 1)
        >>> window, count = windows(tokens[:-1], tokens[1:], 2, 4)
        >>> count, window(2).xs.ravel().tolist(), window(2).targets.ravel().tolist()
        (4, [2, 3, 4, 5], [5, 6])
        >>> window(0).mask.ravel().tolist(), window(0).start.tolist(), window(2).start.tolist()
        ([False, False, True, True], [True], [False])
    """
    k1, k2 = check_sizes(k1, k2)
    if isinstance(batch_axes, bool) or not isinstance(batch_axes, int):
        raise TypeError(f"batch_axes: expected an int, got {batch_axes!r}")
    xs, targets = np.asarray(xs), np.asarray(targets)
    if not 0 <= batch_axes < xs.ndim:
        raise ValueError(f"xs: expected [time, *batch, ...] with {batch_axes} batch axes, got shape {xs.shape}")
    axes = xs.shape[: batch_axes + 1]
    steps, batch = axes[0], axes[1:]
    if steps == 0:
        raise ValueError(f"xs: expected at least one step, got shape {xs.shape}")
    if targets.shape[: batch_axes + 1] != axes:
        raise ValueError(f"targets: expected {axes} = [time, *batch] of xs first, got shape {targets.shape}")
    mask, resets = _flags("mask", mask, axes), _flags("resets", resets, axes)
    count = -(-steps // k1)
    all_count = mask is None and k1 == k2 and steps % k1 == 0

    def window(index: int) -> Window:
        if index < 0:
            raise ValueError(f"index: expected at least 0, got {index}")
        stop = (int(index) % count + 1) * k1
        rows = np.arange(stop - k2, stop)
        inside = np.expand_dims((rows >= 0) & (rows < steps), tuple(range(1, batch_axes + 1)))
        rows = np.clip(rows, 0, steps - 1)
        counted = np.broadcast_to(inside, (k2, *batch)) if mask is None else mask[rows] & inside
        return Window(
            xs=xs[rows],
            targets=targets[rows[k2 - k1 :]],
            mask=None if all_count else counted,
            resets=None if resets is None else resets[rows],
            start=np.full(batch, stop <= k2),
        )

    return Windows(window, count)


def truncated_loss(
    layer: Layer, loss: Callable[[Any, Array, Array | None], Loss], k1: int, k2: int | None = None
) -> LossFunction[Loss]:
    """Return the loss of one `Window`, in the form that `train_step` takes.

    The layer runs over the first k1 steps of the window, and the carry after them is what the next
    window begins with. It then runs over the k2 - k1 others. The loss sees the last k1 outputs.

    Args:
        layer: the model. A learned initial carry gets its gradient in every window that reaches step 0.
        loss: ``(predictions [k1, *B, ...], targets [k1, *B, ...], mask [k1, *B] or None) -> scalar``,
            such as `jaxrnn.losses.softmax_cross_entropy`; or ``-> (sum, weight)``, a pair of scalars that
            `train_step` divides, such as `jaxrnn.losses.sum_and_weight` makes.
        k1, k2: those of `windows`.

    The state's first carry is ``layer.initial_carry(params, batch_shape)``.

    On several devices masked streams need the pair. Where some of `stream_windows` have ended, one device has
    fewer steps that count than another, and a mean of the devices' means would count each of them for more.

    Raises:
        ValueError: k1 < 1, k2 < k1; at the first call, a window of another length.
        TypeError: an argument of the wrong type.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> from jaxrnn.losses import mean_squared_error
        >>> from jaxrnn.training import gradient_descent, train_state, train_step, truncated_loss, windows
        >>> layer = jaxrnn.recurrent(jaxrnn.gru(1, 1))
        >>> params, xs = layer.init(jax.random.key(0)), jnp.ones((10, 2, 1))
        >>> optimizer, window = gradient_descent(0.5), windows(xs[1:], xs[:-1], 3, 5).window
        >>> state = train_state(params, optimizer, jax.random.key(1), layer.initial_carry(params, (2,)))
        >>> step = train_step(truncated_loss(layer, mean_squared_error, 3, 5), optimizer)
        >>> losses = []
        >>> for i in range(20):
        ...     state, metrics = step(state, window(i))
        ...     losses.append(float(metrics["loss"]))
        >>> losses[-1] < losses[0]
        True

        Two streams on two devices, or on one where there is one, of which the second ends first:

        >>> from jaxrnn.losses import sum_and_weight
        >>> from jaxrnn.training import Window, stream_windows
        >>> loss_fn = truncated_loss(layer, sum_and_weight(mean_squared_error), 3)
        >>> axes = Window(xs=1, targets=1, mask=1, resets=1, start=0)
        >>> step = train_step(loss_fn, optimizer, devices=jax.devices()[:2], batch_axis=axes)
        >>> for window in stream_windows([(xs[:, 0], xs[:, 0]), (xs[:4, 1], xs[:4, 1])], 2, 3):
        ...     state, metrics = step(state, window)
        >>> window.mask.sum(axis=0).tolist(), int(state.step)
        ([1, 0], 24)
    """
    if not isinstance(layer, Layer):
        raise TypeError(f"layer: expected a jaxrnn Layer, got {type(layer).__name__}")
    if not callable(loss):
        raise TypeError(f"loss: expected a function (predictions, targets, mask), got {loss!r}")
    k1, k2 = check_sizes(k1, k2)

    def loss_fn(params: Params, carry: Carry, window: Window, key: Array) -> tuple[Loss, tuple[Carry, dict]]:
        if not isinstance(window, Window):
            raise TypeError(f"batch: expected a Window of windows(…, {k1}, {k2}), got {type(window).__name__}")
        if len(window.xs) != k2 or len(window.targets) != k1:
            given = f"{len(window.xs)} steps and {len(window.targets)} targets"
            raise ValueError(f"batch: expected a window of k2 = {k2} steps and k1 = {k1} targets, got {given}")
        initial = layer.initial_carry(params, window.start.shape)
        carry = select(window.start, initial, jax.lax.stop_gradient(carry))

        def run(carry: Carry, part: slice, key: Array) -> tuple[Carry, Any]:
            mask, resets = (None if flags is None else flags[part] for flags in (window.mask, window.resets))
            return layer.apply(params, window.xs[part], carry, mask=mask, resets=resets, key=key)

        keys = jax.random.split(key)
        kept, predictions = run(carry, slice(0, k1), keys[0])
        if k2 > k1:
            _, later = run(kept, slice(k1, k2), keys[1])
            predictions = jax.tree.map(lambda *ys: jnp.concatenate(ys)[k2 - k1 :], predictions, later)
        mask = None if window.mask is None else window.mask[k2 - k1 :]
        return loss(predictions, window.targets, mask), (jax.lax.stop_gradient(kept), {})

    return loss_fn


def check_sizes(k1: int, k2: int | None) -> tuple[int, int]:
    """Return k1 and k2, or raise unless 1 ≤ k1 ≤ k2."""
    k1 = checks.size("k1", k1)
    k2 = k1 if k2 is None else checks.size("k2", k2)
    if k2 < k1:
        raise ValueError(f"k2: expected at least k1 = {k1} steps back-propagated, got {k2}")
    return k1, k2


def _flags(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    if value is None:
        return None
    value = np.asarray(value)
    if value.dtype != bool:
        raise TypeError(f"{name}: expected bool, got dtype {value.dtype}")
    if value.shape != shape:
        raise ValueError(f"{name}: expected shape {shape} = [time, *batch], got {value.shape}")
    return value
