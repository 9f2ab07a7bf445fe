"""Images as sequences, run in this process on scikit-learn's digits."""

import dataclasses
import json
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

from experiments import image_sequence, runs
from experiments.data.image_order import Order
from experiments.image_saliency import by_halving
from experiments.image_sequence import Config
from experiments.memory_cells import CONTENDERS
from experiments.training import Training


@pytest.fixture(autouse=True)
def _optimisers_promote():
    with jax.numpy_dtype_promotion("standard"):
        yield


class Finished(NamedTuple):
    config: Config
    directory: pathlib.Path
    result: dict[str, Any]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A run that has learnt something, of 16 steps, on 4×4 pixels in a drawn order."""
    training = Training(steps=80, learning_rate=2e-2, evaluate_every=40, checkpoint_every=40, devices=1)
    config = Config(order="permuted", shrink=2, cell="gru-chrono", hidden=12, batch=32, dropout=0.1, training=training)
    directory = tmp_path_factory.mktemp("run")
    return Finished(config, directory, image_sequence.run(config, directory))


def test_a_run_leaves_what_it_promises(finished: Finished):
    _, directory, result = finished
    assert {path.name for path in directory.iterdir()} == {
        "best.safetensors", "checkpoint.safetensors", "curves.png", "data.json", "floors.json", "metrics.jsonl",
        "saliency.png", "states.png",
    }  # fmt: skip
    assert all((directory / name).read_bytes().startswith(b"\x89PNG") for name in result["pictures"])
    json.dumps(result)
    evaluated = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    errors = [record["evaluation"]["error"] for record in evaluated if "evaluation" in record]
    assert result["valid_accuracy"] == pytest.approx(1 - min(errors))
    row = result["rows"][0]
    assert (row["what"], row["unit"]) == (
        "GRU, chrono, 1 × 12 on 8×8 digits by pixels in a drawn order, 4×4",
        "% of 359 test images",
    )
    assert row["value"] == 100 * result["test_accuracy"]


def test_a_model_can_be_looked_into(finished: Finished):
    shown = image_sequence.specimen(finished.config, finished.directory, 160)
    assert shown.reading is not None
    assert list(shown.reading.units) == [f"layer 1 {name}" for name in "runh"]
    assert shown.reading.starts == list(range(0, 160, 16))
    images = image_sequence.read(finished.config).test.images[:10]
    images = images / images.max()
    at = shown.reading.features
    np.testing.assert_allclose(at["ink so far"][15::16], images.sum(axis=(1, 2)), rtol=1e-5)
    places = at["row of the image"][:16] * 4 + at["column of the image"][:16]
    assert sorted(places.tolist()) == list(range(16))
    drawn = np.zeros(16)
    drawn[places.astype(int)] = at["ink of the pixel"][:16]
    np.testing.assert_allclose(drawn, images[0].reshape(-1), rtol=1e-5)


def test_a_model_learns_and_knows_nothing_before_it_has_read(finished: Finished):
    result = finished.result
    over_time = result["accuracy_over_time"]
    assert len(over_time) == 16
    assert over_time[-1] == pytest.approx(result["test_accuracy"])
    assert result["test_accuracy"] > 0.4 > over_time[0]
    assert 0 < result["integrated_gradients_gap"] <= 0.01


def test_integrals_find_where_an_answer_turns(rng: np.random.Generator):
    """At shares of the way that no rule with evenly spread points hits, and known pixel by pixel."""
    xs = jnp.asarray(rng.uniform(0.5, 1, (5, 3, 1)), jnp.float32)
    turns = jnp.array([0.1234, 0.5678, 0.9012])

    def score(steepness: Any, xs: jax.Array) -> jax.Array:
        return jnp.tanh(steepness * (xs.sum(axis=(0, 2)) / ends - turns))

    ends = xs.sum(axis=(0, 2))
    exact = xs / ends[None, :, None] * (score(2e4, xs) - score(2e4, 0 * xs))[None, :, None]
    attributions, missed = by_halving(score, 2e4, xs, 0 * xs, 1000)
    np.testing.assert_allclose(attributions, exact, rtol=0.01)
    assert (missed <= 0.01).all()
    _, missed = by_halving(score, 2e4, xs, 0 * xs, 50)
    assert missed.min() > 0.5


def test_floors_are_those_of_scikit_learn(finished: Finished):
    images = image_sequence.read(finished.config)
    train, test = (part.images.reshape(len(part.images), -1) for part in (images.train, images.test))
    floors = finished.result["without_a_network"]
    for name, reference in (("nearest neighbour", KNeighborsClassifier(1)), ("nearest centroid", NearestCentroid())):
        assert floors[name] == reference.fit(train, images.train.labels).score(test, images.test.labels)
    assert floors["majority"] == np.mean(images.test.labels == np.bincount(images.train.labels).argmax())


def test_a_run_does_not_go_on_with_other_images(finished: Finished):
    with pytest.raises(runs.InputError, match="not the ones that this run began with"):
        image_sequence.run(dataclasses.replace(finished.config, shrink=1), finished.directory)


def test_an_order_is_read_and_undone(rng: np.random.Generator):
    images = rng.integers(0, 256, (5, 4, 6)).astype(np.uint8)
    standardised = (images - images.mean()) / images.std()
    rows, pixels, permuted = (Order.of(images, order) for order in ("rows", "pixels", "permuted"))
    np.testing.assert_allclose(rows.sequences(images), standardised.transpose(1, 0, 2), atol=1e-5)
    np.testing.assert_allclose(pixels.sequences(images)[:, 2, 0], standardised[2].ravel(), atol=1e-5)
    assert (rows.steps, pixels.steps, permuted.steps) == (4, 24, 24)
    assert sorted(permuted.places.tolist()) == list(range(24)) != permuted.places.tolist()
    for order in (rows, pixels, permuted):
        np.testing.assert_allclose(order.pictures(order.sequences(images)), standardised, atol=1e-5)


def test_an_epoch_has_every_image_once_and_a_batch_depends_on_its_step_alone(finished: Finished):
    config = dataclasses.replace(finished.config, batch=90)
    part = image_sequence.read(config).valid
    order = Order.of(part.images, "rows")
    batches = image_sequence.batches(part, order, config)
    epoch = np.concatenate([batches(step).xs for step in (2, 3)], axis=1)
    whole = order.sequences(part.images)
    drawn, given = (np.sort(each.swapaxes(0, 1).reshape(180, -1), axis=0) for each in (epoch, whole))
    np.testing.assert_array_equal(drawn, given)
    again = image_sequence.batches(part, order, config)(3)
    assert all(map(np.array_equal, batches(3), again))
    assert not np.array_equal(batches(0).labels, batches(2).labels)


def test_an_evaluation_counts_every_image_once(monkeypatch: pytest.MonkeyPatch):
    """In chunks of which the last is padded, against all at once."""
    config = Config(cell="vanilla-scaled", hidden=5)
    part = image_sequence.read(config).test
    order = Order.of(part.images, config.order)
    model = image_sequence.model_of(config, order)
    params = model.init(jax.random.key(0))
    monkeypatch.setattr(image_sequence, "CHUNK", 100)
    figures = image_sequence.evaluation(model, order, part)(params)
    logits = np.asarray(model.apply(params, order.sequences(part.images)), float)
    chosen = logits[np.arange(359), part.labels] - np.log(np.exp(logits).sum(axis=1))
    assert figures["loss"] == pytest.approx(-chosen.mean(), rel=1e-5)
    assert figures["error"] == (logits.argmax(axis=1) != part.labels).mean()


@pytest.mark.parametrize(("cell", "count"), [("indrnn", 2), ("indrnn-2", 4)])
def test_the_weights_of_the_indrnn_stay_within_their_bound(cell: str, count: int, tmp_path: pathlib.Path):
    training = Training(steps=4, learning_rate=1.0, warmup=0.0, evaluate_every=4, devices=1)
    config = Config(shrink=2, cell=cell, layers=2, hidden=6, dropout=0.2, points=2, training=training)
    image_sequence.run(config, tmp_path)
    arrays = safetensors.numpy.load_file(tmp_path / "checkpoint.safetensors")
    weights = [array for name, array in arrays.items() if name.startswith(".params") and name.endswith(".recurrent")]
    assert len(weights) == count
    greatest = [float(np.abs(each).max()) for each in weights]
    np.testing.assert_allclose(max(greatest), 2 ** (1 / 4), rtol=1e-6)  # four rows are read


@pytest.mark.parametrize("cell", CONTENDERS)
def test_every_cell_makes_a_model(cell: str):
    images = np.zeros((2, 4, 3))
    model = image_sequence.model_of(Config(cell=cell, layers=2, hidden=5), Order(4, 3, 3, np.arange(12), 0.0, 1.0))
    xs = Order.of(images + np.eye(4, 3), "rows").sequences(images)
    logits = jax.eval_shape(lambda key: model.apply(model.init(key), xs), jax.random.key(0))
    assert logits.shape == (2, 10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 0}, "--hidden: expected at least 1, got 0"),
        ({"cell": "brain"}, "--cell: expected one of .*, gru, .* got 'brain'"),
        ({"points": 0}, "--points: expected at least 1, got 0"),
        ({"unchecked": True}, "--unchecked: expected --data beside it"),
        ({"shrink": 0}, "--shrink: expected at least 1, got 0"),
        ({"dropout": 1.0}, "--dropout: expected at least 0, less than 1, got 1.0"),
        ({"data": pathlib.Path("mnist")}, "--dataset: expected mnist where --data is given, got 'digits'"),
    ],
)
def test_an_option_out_of_range_is_named(options: dict[str, Any], message: str):
    with pytest.raises(runs.InputError, match=message):
        Config(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shrink": 3}, "--shrink: expected a divisor of 8 and 8, got 3"),
        ({"batch": 2000}, "--batch: expected at most 1,258 training images, got 2000"),
    ],
)
def test_an_option_that_does_not_fit_the_images_is_named(options: dict[str, Any], message: str, tmp_path: pathlib.Path):
    with pytest.raises(runs.InputError, match=message):
        image_sequence.run(Config(**options), tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.name != "data.json"]
