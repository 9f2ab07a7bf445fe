"""The losses against formulas written out in NumPy, all CTC paths counted, and torch; then masks and errors."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import losses

T, B, K = 5, 3, 4
RNG = np.random.default_rng(0)
PREDICTIONS = RNG.normal(size=(T, B, K)).astype(np.float32)
TARGETS = RNG.normal(size=(T, B, K)).astype(np.float32)
LABELS = RNG.integers(0, K, (T, B)).astype(np.int32)
BITS = RNG.integers(0, 2, (T, B, K)).astype(np.float32)
MASK = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 0]], bool)  # one sequence is all padding


def log_softmax(x):
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def half_squared(p, y, mask):
    return 0.5 * ((p - y) ** 2)[mask].sum()


def mean_squared(p, y, mask):
    return ((p - y) ** 2)[mask].mean()


def softmax(p, y, mask):
    return -np.take_along_axis(log_softmax(p), y[..., None], -1)[..., 0][mask].mean()


def smoothed(p, y, mask):
    labels = 0.9 * np.eye(K)[y] + 0.1 / K
    return -(labels * log_softmax(p)).sum(-1)[mask].mean()


def sigmoid(p, y, mask):
    q = 1 / (1 + np.exp(-p))
    return -(y * np.log(q) + (1 - y) * np.log(1 - q)).sum(-1)[mask].mean()


SMOOTHED = functools.partial(losses.softmax_cross_entropy, label_smoothing=0.1)


@functools.cache
def value_and_gradient(loss):
    """Return the loss and its gradient in one jitted function, the same whenever it is asked for."""
    return jax.jit(jax.value_and_grad(loss))


CASES = [
    pytest.param(losses.half_squared_error, half_squared, TARGETS, id="half_squared_error"),
    pytest.param(losses.mean_squared_error, mean_squared, TARGETS, id="mean_squared_error"),
    pytest.param(losses.softmax_cross_entropy, softmax, LABELS, id="softmax_cross_entropy"),
    pytest.param(SMOOTHED, smoothed, LABELS, id="softmax_cross_entropy, smoothed"),
    pytest.param(losses.sigmoid_cross_entropy, sigmoid, BITS, id="sigmoid_cross_entropy"),
]


@pytest.mark.parametrize(("loss", "reference", "targets"), CASES)
def test_value_is_the_formula(loss, reference, targets):
    wide = PREDICTIONS.astype(np.float64)
    everywhere = np.ones((T, B), bool)
    for mask, counted in ((None, everywhere), (MASK, MASK)):
        value = loss(PREDICTIONS, targets, mask)
        assert value.shape == ()
        assert value.dtype == jnp.float32
        np.testing.assert_allclose(value, reference(wide, targets, counted), rtol=1e-6)
    np.testing.assert_allclose(jax.jit(loss)(PREDICTIONS, targets, MASK), loss(PREDICTIONS, targets, MASK), rtol=1e-6)


@pytest.mark.parametrize(("loss", "reference", "targets"), CASES)
@pytest.mark.parametrize("batch", [(), (3, 1)])
def test_any_batch_axes(loss, reference, targets, batch):
    size = int(np.prod(batch, dtype=int))
    cut = [x[:, :size].reshape(T, *batch, *x.shape[2:]) for x in (PREDICTIONS, targets)]
    mask = MASK[:, :size].reshape(T, *batch)
    flat = reference(PREDICTIONS[:, :size].astype(np.float64), targets[:, :size], MASK[:, :size])
    np.testing.assert_allclose(jax.jit(loss)(*cut, mask), flat, rtol=1e-6)


@pytest.mark.parametrize(("loss", "reference", "targets"), CASES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_padding_reaches_neither_value_nor_gradient(loss, reference, targets, bad):
    del reference
    padded = np.where(MASK[..., None], PREDICTIONS, np.float32(bad))
    if np.issubdtype(targets.dtype, np.floating):
        dirty = np.where(MASK[..., None], targets, np.float32(bad))
    else:
        dirty = np.where(MASK, targets, -99)
    both = value_and_gradient(loss)
    value, gradient = both(padded, dirty, MASK)
    clean, clean_gradient = both(PREDICTIONS, targets, MASK)
    assert value == clean
    np.testing.assert_array_equal(gradient, clean_gradient)
    assert not np.any(np.asarray(gradient)[~MASK])
    assert np.all(np.asarray(gradient)[MASK] != 0)
    without_jit = jax.grad(loss)(padded, dirty, MASK)
    np.testing.assert_allclose(without_jit, gradient, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("loss", "reference", "targets"), CASES)
def test_nothing_that_counts_gives_zero(loss, reference, targets):
    del reference
    value, gradient = value_and_gradient(loss)(np.full_like(PREDICTIONS, np.nan), targets, np.zeros((T, B), bool))
    assert value == 0
    assert not np.any(gradient)
    for shape in ((0, B), (T, 0)):
        assert jax.jit(loss)(np.zeros((*shape, K), np.float32), np.zeros(shape + targets.shape[2:], targets.dtype)) == 0


@pytest.mark.parametrize(("loss", "reference", "targets"), CASES)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float64])
def test_dtype_is_kept(loss, reference, targets, dtype):
    with jax.enable_x64(dtype == jnp.float64):
        given = targets if targets is LABELS else targets.astype(dtype)
        value, gradient = value_and_gradient(loss)(PREDICTIONS.astype(dtype), given, MASK)
        assert value.dtype == gradient.dtype == dtype
        tolerance = 1e-12 if dtype == jnp.float64 else 0.05
        np.testing.assert_allclose(float(value), reference(PREDICTIONS.astype(float), targets, MASK), rtol=tolerance)


@pytest.mark.parametrize(("loss", "reference", "targets"), CASES)
def test_gradient_is_central_differences(loss, reference, targets):
    gradient = np.asarray(value_and_gradient(loss)(PREDICTIONS, targets, MASK)[1])
    wide, eps = PREDICTIONS.astype(np.float64), 1e-6
    for index in itertools.product(range(T), range(B), range(K)):
        ends = []
        for sign in (1, -1):
            moved = wide.copy()
            moved[index] += sign * eps
            ends.append(reference(moved, targets, MASK))
        np.testing.assert_allclose(gradient[index], (ends[0] - ends[1]) / (2 * eps), rtol=1e-4, atol=1e-6)


MEANS = [case for case in CASES if case.values[0] is not losses.half_squared_error]


@pytest.mark.parametrize(("loss", "reference", "targets"), MEANS)
def test_sums_and_weights_of_parts_add_up_to_the_mean(loss, reference, targets):
    pair = jax.jit(losses.sum_and_weight(loss))
    parts = [pair(PREDICTIONS[:, [b]], targets[:, [b]], MASK[:, [b]]) for b in range(B)]
    assert [float(weight) for _, weight in parts] == [3, 4, 0]
    assert parts[2][0] == 0
    total, weight = np.sum(parts, axis=0)
    np.testing.assert_allclose(total / weight, reference(PREDICTIONS.astype(float), targets, MASK), rtol=1e-6)
    whole = losses.sum_and_weight(loss)(PREDICTIONS, targets)
    assert (float(whole[0]), float(whole[1])) == (float(loss(PREDICTIONS, targets)), 1.0)
    cut = [pair(PREDICTIONS[:2], targets[:2], MASK[:2]), pair(PREDICTIONS[2:], targets[2:], MASK[2:])]
    assert [float(weight) for _, weight in cut] == [3, 4]
    np.testing.assert_allclose(sum(float(total) for total, _ in cut), total, rtol=1e-6)


def test_a_weight_counts_beyond_half_precision():
    many, mask = jnp.ones((5001, 1), jnp.bfloat16), jnp.ones(5001, bool)
    total, weight = losses.sum_and_weight(losses.mean_squared_error)(many, jnp.zeros_like(many), mask)
    assert total == weight == 5001
    assert total.dtype == weight.dtype == jnp.float32


def test_feature_axes():
    p, y = RNG.normal(size=(2, T, B, 2, 2, 3)).astype(np.float32)
    error = ((p - y) ** 2)[MASK]
    np.testing.assert_allclose(losses.mean_squared_error(p, y, MASK, feature_axes=3), error.mean(), rtol=1e-6)
    np.testing.assert_allclose(losses.half_squared_error(p, y, MASK, feature_axes=3), error.sum() / 2, rtol=1e-6)
    one = losses.sigmoid_cross_entropy(PREDICTIONS[..., :1], BITS[..., :1], MASK)
    none = losses.sigmoid_cross_entropy(PREDICTIONS[..., 0], BITS[..., 0], MASK, feature_axes=0)
    assert one == none


def test_half_precision_counts_all_steps():
    many = jnp.ones((5000, 1), jnp.bfloat16)  # a bfloat16 count or sum stops at 256
    assert losses.mean_squared_error(many, jnp.zeros_like(many)) == 1
    assert losses.mean_squared_error(many, jnp.zeros_like(many), jnp.ones(5000, bool)) == 1


def test_sigmoid_takes_bool_and_soft_targets():
    assert losses.sigmoid_cross_entropy(PREDICTIONS, BITS == 1) == losses.sigmoid_cross_entropy(PREDICTIONS, BITS)
    soft = np.full_like(BITS, 0.25)
    np.testing.assert_allclose(
        losses.sigmoid_cross_entropy(PREDICTIONS, soft), sigmoid(PREDICTIONS, soft, np.ones((T, B), bool)), rtol=1e-5
    )


@pytest.mark.parametrize("label", [-1, K, 10**6])
def test_label_out_of_range_is_never_a_silent_number(label):
    labels = LABELS.copy()
    labels[0, 0] = label
    with pytest.raises(ValueError, match="targets: expected labels from 0 to 3"):
        losses.softmax_cross_entropy(PREDICTIONS, labels)
    for loss in (losses.softmax_cross_entropy, SMOOTHED):
        assert np.isnan(jax.jit(loss)(PREDICTIONS, labels))
        assert np.isfinite(jax.jit(loss)(PREDICTIONS, labels, labels == LABELS))


def test_labels_of_any_integer_dtype():
    value = losses.softmax_cross_entropy(PREDICTIONS, LABELS)
    for dtype in (np.uint8, np.int8, np.int16, np.int64):
        assert losses.softmax_cross_entropy(PREDICTIONS, LABELS.astype(dtype)) == value
    large = np.zeros((1, 300), np.float32)
    np.testing.assert_allclose(losses.softmax_cross_entropy(large, np.array([255], np.uint8)), np.log(300), rtol=1e-6)


ctc = jax.jit(losses.ctc, static_argnames="blank_id")


def ctc_by_counting(log_probabilities, labels, blank=0):
    """Return -ln of the summed probability of every path that collapses to ``labels``, one sequence."""
    steps, classes = log_probabilities.shape
    total = 0.0
    for path in itertools.product(range(classes), repeat=steps):
        merged = [c for c, before in zip(path, (None, *path), strict=False) if c != before]
        if [c for c in merged if c != blank] == list(labels):
            total += np.exp(sum(log_probabilities[t, c] for t, c in enumerate(path)))
    return -np.log(total)


CTC_LOGITS = RNG.normal(size=(T, 4, 3)).astype(np.float32)
CTC_LABELS = [[1, 2], [1, 1], [2], []]
CTC_LENGTHS = np.array([5, 4, 2, 3])


def ctc_arguments(blank=0, padding=0):
    """Return labels and their lengths, moved so that ``blank`` is the class left out."""
    moved = [[(label + blank) % 3 for label in row] for row in CTC_LABELS]
    labels = np.array([row + [padding] * (3 - len(row)) for row in moved], np.int32)
    return labels, np.array([len(row) for row in CTC_LABELS])


@pytest.mark.parametrize("blank", [0, 1, 2])
@pytest.mark.parametrize("padding", [0, 2, -1])
def test_ctc_counts_every_path(blank, padding):
    labels, label_lengths = ctc_arguments(blank, padding)
    expected = [
        ctc_by_counting(log_softmax(CTC_LOGITS[:n, b].astype(float)), labels[b, :m], blank)
        for b, (n, m) in enumerate(zip(CTC_LENGTHS, label_lengths, strict=True))
    ]
    mask = np.arange(T)[:, None] < CTC_LENGTHS
    options = {"label_lengths": label_lengths, "blank_id": blank}
    value = ctc(CTC_LOGITS, labels, lengths=CTC_LENGTHS, **options)
    np.testing.assert_allclose(value, np.mean(expected), rtol=1e-5)
    np.testing.assert_allclose(ctc(CTC_LOGITS, labels, mask, **options), value, rtol=1e-6)
    if blank == padding == 0:
        np.testing.assert_allclose(losses.ctc(CTC_LOGITS, labels, lengths=CTC_LENGTHS, **options), value, rtol=1e-6)


def test_ctc_batch_axes():
    labels, label_lengths = ctc_arguments()
    value = ctc(CTC_LOGITS, labels, lengths=CTC_LENGTHS, label_lengths=label_lengths)
    two = ctc(
        CTC_LOGITS.reshape(T, 2, 2, 3),
        labels.reshape(2, 2, 3),
        lengths=CTC_LENGTHS.reshape(2, 2),
        label_lengths=label_lengths.reshape(2, 2),
    )
    np.testing.assert_allclose(two, value, rtol=1e-6)
    single = [
        ctc(CTC_LOGITS[:, b], labels[b], lengths=CTC_LENGTHS[b], label_lengths=label_lengths[b]) for b in range(4)
    ]
    np.testing.assert_allclose(np.mean(single), value, rtol=1e-6)


def test_ctc_mask_anywhere_is_the_sequence_without_those_steps():
    labels, label_lengths = ctc_arguments()
    mask = np.array([1, 0, 1, 1, 0], bool)
    masked = ctc(CTC_LOGITS[:, 0], labels[0], mask, label_lengths=label_lengths[0])
    cut = ctc(CTC_LOGITS[mask, 0], labels[0], label_lengths=label_lengths[0])
    np.testing.assert_allclose(masked, cut, rtol=1e-6)


def test_ctc_padding_reaches_neither_value_nor_gradient():
    labels, label_lengths = ctc_arguments()
    mask = np.arange(T)[:, None] < CTC_LENGTHS
    dirty = np.where(mask[..., None], CTC_LOGITS, np.float32(np.nan))

    both = functools.partial(value_and_gradient(losses.ctc), lengths=CTC_LENGTHS, label_lengths=label_lengths)
    value, gradient = both(dirty, labels)
    clean, clean_gradient = both(CTC_LOGITS, labels)
    assert value == clean
    np.testing.assert_array_equal(gradient, clean_gradient)
    assert not np.any(np.asarray(gradient)[~mask])


def test_ctc_sequences_without_steps_do_not_count():
    labels, label_lengths = ctc_arguments()
    lengths = CTC_LENGTHS.copy()
    lengths[1] = 0
    value = ctc(CTC_LOGITS, labels, lengths=lengths, label_lengths=label_lengths)
    rest = [0, 2, 3]
    alone = ctc(CTC_LOGITS[:, rest], labels[rest], lengths=lengths[rest], label_lengths=label_lengths[rest])
    np.testing.assert_allclose(value, alone, rtol=1e-6)
    assert ctc(CTC_LOGITS, labels, np.zeros((T, 4), bool), label_lengths=label_lengths) == 0
    assert ctc(CTC_LOGITS[:0], labels, label_lengths=label_lengths) == 0
    assert ctc(CTC_LOGITS[:, :0], labels[:0]) == 0
    no_labels = ctc(CTC_LOGITS[:, 0], np.zeros(0, np.int32))
    np.testing.assert_allclose(no_labels, -log_softmax(CTC_LOGITS[:, 0].astype(float))[:, 0].sum(), rtol=1e-5)


def test_ctc_impossible_targets_are_large_and_finite():
    value, gradient = value_and_gradient(losses.ctc)(CTC_LOGITS[:2, 0], np.array([1, 1]))  # needs three steps
    assert value > 9e4
    assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize(("dtype", "x64"), [(jnp.bfloat16, False), (jnp.float32, True), (jnp.float64, True)])
def test_ctc_dtype_is_kept(dtype, x64):
    labels, label_lengths = ctc_arguments()
    with jax.enable_x64(x64):
        value, gradient = value_and_gradient(losses.ctc)(
            CTC_LOGITS.astype(dtype), labels, lengths=CTC_LENGTHS, label_lengths=label_lengths
        )
    assert value.dtype == gradient.dtype == dtype


def test_losses_against_torch():
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    labels, label_lengths = ctc_arguments()
    mask = torch.tensor(MASK)

    def mean(values):
        return values[mask].mean()

    pairs = [
        (losses.half_squared_error, TARGETS, lambda p, y: functional.mse_loss(p[mask], y[mask], reduction="sum") / 2),
        (losses.mean_squared_error, TARGETS, lambda p, y: functional.mse_loss(p[mask], y[mask])),
        (losses.softmax_cross_entropy, LABELS, lambda p, y: functional.cross_entropy(p[mask], y[mask].long())),
        (SMOOTHED, LABELS, lambda p, y: functional.cross_entropy(p[mask], y[mask].long(), label_smoothing=0.1)),
        (
            losses.sigmoid_cross_entropy,
            BITS,
            lambda p, y: mean(functional.binary_cross_entropy_with_logits(p, y, reduction="none").sum(-1)),
        ),
    ]
    for loss, targets, reference in pairs:
        predictions = torch.tensor(PREDICTIONS, requires_grad=True)
        expected = reference(predictions, torch.tensor(targets))
        expected.backward()
        value, gradient = value_and_gradient(loss)(PREDICTIONS, targets, MASK)
        np.testing.assert_allclose(value, expected.item(), rtol=1e-5)
        np.testing.assert_allclose(gradient, predictions.grad.numpy(), rtol=1e-4, atol=1e-6)

    logits = torch.tensor(CTC_LOGITS, requires_grad=True)
    expected = functional.ctc_loss(
        functional.log_softmax(logits, -1),
        torch.tensor(labels),
        torch.tensor(CTC_LENGTHS),
        torch.tensor(label_lengths),
        reduction="none",
    ).mean()
    expected.backward()
    value, gradient = value_and_gradient(losses.ctc)(
        CTC_LOGITS, labels, lengths=CTC_LENGTHS, label_lengths=label_lengths
    )
    np.testing.assert_allclose(value, expected.item(), rtol=1e-5)
    np.testing.assert_allclose(gradient, logits.grad.numpy(), rtol=1e-4, atol=1e-5)


WRONG = [
    (losses.half_squared_error, (LABELS, LABELS), {}, TypeError, "predictions: expected a floating dtype, got int32"),
    (losses.half_squared_error, (PREDICTIONS, TARGETS[:, :1]), {}, ValueError, r"targets: expected shape \(5, 3, 4\)"),
    (losses.mean_squared_error, (PREDICTIONS, LABELS), {}, ValueError, "targets: expected shape"),
    (
        losses.mean_squared_error,
        (PREDICTIONS, TARGETS.astype(np.float16)),
        {},
        TypeError,
        "targets: expected dtype float32, that of predictions, got float16",
    ),
    (
        losses.mean_squared_error,
        (PREDICTIONS, TARGETS, MASK.T),
        {},
        ValueError,
        r"mask: expected shape \(5, 3\) = \[time, \*batch\], got \(3, 5\)",
    ),
    (losses.mean_squared_error, (PREDICTIONS, TARGETS, MASK[:, 0]), {}, ValueError, "mask: expected shape"),
    (losses.mean_squared_error, (PREDICTIONS, TARGETS, MASK[..., None]), {}, ValueError, "mask: expected shape"),
    (losses.mean_squared_error, (PREDICTIONS, TARGETS, MASK * 1.0), {}, TypeError, "mask: expected bool, got dtype"),
    (losses.mean_squared_error, (PREDICTIONS, TARGETS), {"feature_axes": 4}, ValueError, "feature_axes: expected 0 to"),
    (losses.mean_squared_error, (PREDICTIONS, TARGETS), {"feature_axes": 1.0}, TypeError, "feature_axes: expected an"),
    (losses.mean_squared_error, ("abc", TARGETS), {}, TypeError, "predictions: expected an array, got str"),
    (losses.softmax_cross_entropy, (PREDICTIONS, LABELS.T), {}, ValueError, r"targets: expected shape \(5, 3\) ="),
    (losses.softmax_cross_entropy, (PREDICTIONS, BITS), {}, TypeError, "targets: expected integers, got dtype float32"),
    (losses.softmax_cross_entropy, (PREDICTIONS, LABELS, MASK.T), {}, ValueError, "mask: expected shape"),
    (losses.softmax_cross_entropy, (np.float32(1), LABELS), {}, ValueError, "predictions: expected .*got shape"),
    (losses.sigmoid_cross_entropy, (PREDICTIONS, BITS * 2), {}, ValueError, "targets: expected probabilities from 0"),
    (losses.sigmoid_cross_entropy, (PREDICTIONS, LABELS), {}, ValueError, "targets: expected shape"),
    (losses.sigmoid_cross_entropy, (PREDICTIONS, BITS.astype(int)), {}, TypeError, "targets: expected dtype float32"),
]


@pytest.mark.parametrize(("loss", "arguments", "options", "error", "message"), WRONG)
def test_wrong_arguments(loss, arguments, options, error, message):
    with pytest.raises(error, match=message):
        loss(*arguments, **options)


CTC_WRONG = [
    ({"logits": LABELS}, TypeError, "logits: expected a floating dtype"),
    ({"logits": CTC_LOGITS[:, 0, 0]}, ValueError, "logits: expected .*time, .*batch, classes"),
    ({"labels": np.zeros((3, 2), int)}, ValueError, r"labels: expected shape \(4, 2\) = \[\*batch, N\], got \(3, 2\)"),
    ({"labels": np.ones(4, int)}, ValueError, "labels: expected shape"),
    ({"labels": np.ones((4, 2))}, TypeError, "labels: expected integers"),
    ({"labels": np.full((4, 2), 3)}, ValueError, "labels: expected labels from 0 to 2, got 3 to 3"),
    ({"labels": np.full((4, 2), 0)}, ValueError, "labels: expected no blank among the labels that count"),
    ({"mask": np.ones((4, T), bool)}, ValueError, "mask: expected shape"),
    ({"mask": np.ones((T, 4))}, TypeError, "mask: expected bool"),
    ({"lengths": np.array([1, 2, 3])}, ValueError, "lengths: expected shape"),
    ({"lengths": np.array([1, 2, 3, 6])}, ValueError, "lengths: expected lengths from 0 to 5, got 1 to 6"),
    ({"lengths": np.array([1, 2, 3, -1])}, ValueError, "lengths: expected lengths from 0 to 5, got -1"),
    ({"lengths": np.ones(4)}, TypeError, "lengths: expected integers"),
    ({"label_lengths": np.array([3, 0, 0, 0])}, ValueError, "label_lengths: expected lengths from 0 to 2, got 0 to 3"),
    ({"blank_id": 3}, ValueError, "blank_id: expected a class from 0 to 2, got 3"),
    ({"blank_id": -1}, ValueError, "blank_id: expected a class from 0 to 2, got -1"),
    ({"blank_id": 0.0}, TypeError, "blank_id: expected an int"),
]


@pytest.mark.parametrize(("change", "error", "message"), CTC_WRONG)
def test_ctc_wrong_arguments(change, error, message):
    arguments = {"logits": CTC_LOGITS, "labels": np.ones((4, 2), np.int32)} | change
    with pytest.raises(error, match=message):
        losses.ctc(**arguments)


def test_ctc_label_out_of_range_under_jit_is_nan():
    labels, label_lengths = ctc_arguments()
    for label in (3, -1):
        wrong = np.full_like(labels, label)
        assert np.isnan(ctc(CTC_LOGITS, wrong, lengths=CTC_LENGTHS, label_lengths=label_lengths))
