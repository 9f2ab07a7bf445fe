"""Transformer or RNN, run in this process at tiny sizes."""

import dataclasses
import json
import math
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxrnn
from experiments import contest_training, runs, training, transformer_or_rnn
from experiments.contest_costs import Costs, Generating, Memory, medians
from experiments.contest_models import NAMES, Sizes, contestant, count
from experiments.contest_specimen import SHOWN, text_specimen
from experiments.contest_table import table
from experiments.contest_tasks import copying, evaluation, next_character
from experiments.contest_training import Learnt, enter, following, learn
from experiments.data import streams
from experiments.data.text import vocabulary_of
from experiments.text_features import prose
from experiments.training import Training, optimizer_of

OPTIONS = Training(steps=8, learning_rate=2e-2, evaluate_every=4, checkpoint_every=4, devices=1)


@pytest.fixture(autouse=True)
def _optimisers_promote():
    with jax.numpy_dtype_promotion("standard"):
        yield


class Finished(NamedTuple):
    config: transformer_or_rnn.Config
    directory: pathlib.Path
    result: dict[str, Any]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A run of one model; the quick run is one of the Transformer too, whose compilation takes longer."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "text.txt").write_text("abc bca\n" * 400)
    config = transformer_or_rnn.Config(
        data=folder / "text.txt",
        models=("vanilla",),
        sizes=Sizes(parameters=1000, embedding=4),
        batch=4,
        window=8,
        copy_length=2,
        copy_steps=8,
        rates=(1.0, 0.5, 0.005),
        contexts=(8, 16),
        lengths=(8,),
        rounds=2,
        training=OPTIONS,
    )
    (folder / "run").mkdir()
    return Finished(config, folder / "run", transformer_or_rnn.run(config, folder / "run"))


def test_a_model_of_a_run_can_be_looked_into(finished: Finished, tmp_path: pathlib.Path):
    config, directory, result = finished
    with pytest.raises(runs.InputError, match=r"not finished; continue it: python -m experiments .* --resume"):
        transformer_or_rnn.parts(config, directory)
    (tmp_path / "data.json").symlink_to(directory / "data.json")
    for part in ("text-vanilla", "copy-vanilla"):
        (tmp_path / part).symlink_to(directory / part)
    (tmp_path / "result.json").write_text(json.dumps(result))
    assert transformer_or_rnn.parts(config, tmp_path) == ["text-vanilla", "copy-vanilla"]
    for part, text in (("text-vanilla", "abc bca\n"), ("copy-vanilla", "·?")):
        shown = transformer_or_rnn.specimen(config, tmp_path, 200, part)
        assert shown.reading is not None
        assert text in "".join(shown.reading.symbols)
        (states,) = shown.reading.units.values()
        assert len(states) == len(shown.reading.symbols)
        assert shown.questions[0].what.startswith("log-odds")


def test_the_transformer_shows_its_heads(key: jax.Array):
    model = contestant("transformer", 5, Sizes(parameters=1000, embedding=4, heads=2, transformer_layers=1))
    params, vocabulary = model.layer.init(key), vocabulary_of("ab(c)")
    shown = text_specimen("words", model, params, vocabulary, "abab(ccbbccaabbacba)" * 16, 16, prose)
    assert shown.heads is not None
    assert shown.heads.weights.shape == (1, 2, SHOWN, SHOWN)
    assert shown.reading is not None
    windows = vocabulary.encode(str(shown.reading.symbols)).reshape(-1, 16).T
    logits = np.asarray(jax.jit(model.layer.apply)(params, windows)[1])
    ours = shown.reading.units["output y"] @ params[-1].kernel + params[-1].bias[None]
    np.testing.assert_allclose(ours, np.moveaxis(logits, 0, 1).reshape(len(ours), -1), rtol=1e-4, atol=1e-5)


def test_a_text_shorter_than_a_window_cannot_be_shown(key: jax.Array):
    model = contestant("transformer", 5, Sizes(parameters=1000, embedding=4, heads=2, transformer_layers=1))
    params, vocabulary = model.layer.init(key), vocabulary_of("ab(c)")
    with pytest.raises(runs.InputError, match=r"--steps: expected at least 128 characters, a window .*, got 100"):
        text_specimen("words", model, params, vocabulary, "ab" * 50, 128, prose)


def test_a_run_leaves_what_it_promises(finished: Finished):
    _, directory, result = finished
    assert {path.name for path in directory.iterdir()} == {
        "data.json", "floors.json", "costs.json", "text-vanilla", "copy-vanilla",
        "text.png", "copy.png", "generating.png", "memory.png",
    }  # fmt: skip
    assert set(result["pictures"]) == {path.name for path in directory.glob("*.png")}
    json.dumps(result)
    text, copy = result["rows"]
    assert (text["unit"], copy["unit"]) == ("nats per character", "nats per step")
    assert copy["floor"] == f"{10 * math.log(8) / 22:.3f} (guessing)"
    assert text["value"] == min(loss for _, loss in result["learnt"]["text"]["vanilla"]["curve"]) < math.log(5)
    assert abs(text["parameters"] - 1000) <= 20


def test_the_best_of_the_short_trainings_go_on_and_the_best_of_these_counts(finished: Finished):
    for task in ("text", "copy"):
        one = finished.result["learnt"][task]["vanilla"]
        assert list(one["tried"]) == [2e-2, 1e-2, 1e-4]
        assert list(one["full"]) == sorted(one["tried"], key=one["tried"].get)[:2]
        assert one["rate"] == min(one["full"], key=one["full"].get)
        assert one["loss"] == one["full"][one["rate"]] == min(loss for _, loss in one["curve"])
        assert [step for step, _ in one["curve"]] == [4, 8]
        folders = {path.name for path in (finished.directory / f"{task}-vanilla").iterdir()}
        assert folders == {"tuning.json", *(f"rate-{rate:g}" for rate in one["full"])}


def test_a_finished_run_repeats_nothing(finished: Finished, monkeypatch: pytest.MonkeyPatch):
    def train_again(*arguments: Any, **options: Any) -> Any:
        if arguments[0].step < options["steps"]:
            raise AssertionError("trained again")
        return fit(*arguments, **options)

    fit = training.fit
    for module in (training, contest_training):
        monkeypatch.setattr(module, "fit", train_again)
    assert transformer_or_rnn.run(finished.config, finished.directory) == finished.result


def test_a_training_in_full_that_diverges_leaves_the_others(finished: Finished, monkeypatch: pytest.MonkeyPatch):
    def train(directory: pathlib.Path, *arguments: Any, **options: Any) -> Any:
        if directory.name == f"rate-{best:g}":
            raise training.Diverged("the loss of update 3 is nan", 3)
        return training.train(directory, *arguments, **options)

    before = finished.result["learnt"]["text"]["vanilla"]
    best, other = sorted(before["full"], key=before["full"].get)
    monkeypatch.setattr(contest_training, "train", train)
    after = transformer_or_rnn.run(finished.config, finished.directory)
    found = after["learnt"]["text"]["vanilla"]
    assert found["full"] == {best: None, other: before["full"][other]}
    assert (found["rate"], found["loss"]) == (other, before["full"][other])
    assert "→ not finite" in after["table"]


@pytest.mark.parametrize("kind", NAMES)
def test_models_have_the_parameters_asked_for(kind: Any):
    for vocabulary, sizes in ((10, Sizes(parameters=50_000)), (90, Sizes(20_000, 16, 2, 1, heads=2))):
        found = contestant(kind, vocabulary, sizes)
        assert found.parameters == count(found.layer) == count(found.within(8))
        assert abs(found.parameters - sizes.parameters) <= 0.02 * sizes.parameters


@pytest.mark.parametrize("kind", ["lstm", "transformer"])
def test_a_size_that_cannot_be_had_is_an_error(kind: Any):
    with pytest.raises(runs.InputError, match=r"--parameters 500: the .* for 90 tokens that comes nearest .* has"):
        contestant(kind, 90, Sizes(parameters=500))


def test_one_compiled_step_is_adamw_at_every_rate():
    """Against AdamW with the schedule in the program: a short training, then one in full with another rate."""
    params, gradients = {"w": jnp.array([[1.0, -2.0]]), "b": jnp.array([0.5])}, {"w": 0.3, "b": -2.0}

    def trained(optimizer: optax.GradientTransformation, steps: int) -> Any:
        @jax.jit
        def update(found: Any, state: Any) -> Any:
            grads = jax.tree.map(lambda leaf, scale: scale * leaf, found, gradients)
            updates, state = optimizer.update(grads, state, found)
            return optax.apply_updates(found, updates), state

        found, state = params, jax.jit(optimizer.init)(params)
        for _ in range(steps):
            found, state = update(found, state)
        return found

    for rate, steps in ((0.1, 3), (0.02, OPTIONS.steps)):
        expected = trained(optimizer_of(dataclasses.replace(OPTIONS, learning_rate=rate, steps=steps)), steps)
        got = trained(following(OPTIONS, rate, steps), steps)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), got, expected)


def test_evaluations_differ_in_what_a_window_begins_with():
    """Against the model's own steps, one after the other: the carry goes on, or not, from window to window."""
    layer = jaxrnn.serial(jaxrnn.embedding(3, 2), jaxrnn.recurrent(jaxrnn.vanilla(2, 4)), jaxrnn.dense(4, 3))
    params, tokens = layer.init(jax.random.key(0)), np.array([0, 1, 2, 2, 1, 0, 1])
    data = streams.evaluation_windows(tokens, 0, 1, 3)
    assert layer.step is not None
    step = jax.jit(layer.step)
    for carried in (False, True):
        carry, losses = layer.initial_carry(params, ()), []
        for place, (before, token) in enumerate(zip([0, *tokens[:-1]], tokens, strict=True)):
            if place % 3 == 0 and not carried:
                carry = layer.initial_carry(params, ())
            carry, logits = step(params, carry, jnp.array(before))
            losses.append(-jax.nn.log_softmax(logits)[token])
        loss = evaluation(layer, data, carried=carried)(params)["loss"]
        assert float(loss) == pytest.approx(np.mean(losses), rel=1e-5)


def test_windows_come_from_anywhere_and_are_those_of_their_step():
    text = np.arange(40, dtype=np.int32)
    task = next_character("text", 40, text, streams.evaluation_windows(text, 0, 2, 5), 3, 5, OPTIONS)
    inputs, targets = task.batches(7)
    assert inputs.shape == (5, 3)
    assert task.tokens == 15
    np.testing.assert_array_equal(targets, inputs + 1)
    np.testing.assert_array_equal(inputs, task.batches(7)[0])
    begins = {int(task.batches(step)[0][0, row]) for step in range(200) for row in range(3)}
    assert begins == set(range(35))
    with pytest.raises(runs.InputError, match="40 characters for training: give a longer text, or a smaller --window"):
        next_character("text", 40, text, task.valid, 3, 40, OPTIONS)


def test_the_copy_problem_is_validated_on_sequences_of_its_own():
    task = copying(3, 2, OPTIONS)
    inputs, targets = task.batches(0)
    np.testing.assert_array_equal(targets[-10:], inputs[:10])
    assert task.valid.inputs.shape == (16, 23, 2)
    seen = {tuple(row[:10]) for step in range(8) for row in np.asarray(task.batches(step)[0]).T.tolist()}
    held_out = {tuple(row[:10]) for row in task.valid.inputs.transpose(0, 2, 1).reshape(-1, 23).tolist()}
    assert len(held_out) == 32
    assert not seen & held_out


def test_a_rate_that_fails_is_passed_over(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    text = np.zeros(20, np.int32)
    task = next_character("text", 5, text, streams.evaluation_windows(text, 0, 1, 4), 1, 4, OPTIONS)
    entry = enter(contestant("gru", 5, Sizes(parameters=20_000)), task)
    monkeypatch.setattr(contest_training, "_attempt", lambda entry, rate, short: None)
    with pytest.raises(runs.InputError, match="GRU: no learning rate led to a finite loss; give a lower"):
        learn(entry, [1.0, 2.0], 3, 1, tmp_path / "gru")
    monkeypatch.setattr(contest_training, "_attempt", lambda entry, rate, short: rate)
    tried = contest_training.tune(entry, [2.0, 3.0, 0.5], 3, tmp_path / "gru" / "tuning.json")
    assert tried == {1.0: None, 2.0: None, 3.0: 3.0, 0.5: 0.5}, "those that are known are not tried again"


def test_the_table_has_a_column_for_each_model():
    text = np.zeros(20, np.int32)
    task = next_character("a text", 5, text, streams.evaluation_windows(text, 0, 1, 4), 1, 4, OPTIONS)
    entries = {kind: enter(contestant(kind, 5, Sizes(parameters=20_000)), task) for kind in ("lstm", "gru")}
    learnt = {
        "lstm": Learnt({0.1: 2.0, 0.2: None}, {0.1: 1.5}, 0.1, 1.5, [(4, 1.5)], None),
        "gru": Learnt({0.1: 2.0, 0.2: 1.75}, {0.2: 1.3, 0.1: 1.25}, 0.1, 1.25, [(4, 1.25)], None),
    }
    costs = Costs(
        {"text": {"lstm": 3.0, "gru": 4.0}},
        {kind: [Generating(8, 0.5, 2048)] for kind in entries},
        {kind: [Memory(16, 3 << 20, 1.5)] for kind in entries},
    )
    shown = table({"text": entries}, {"text": 3}, {"text": learnt}, {"lstm": 1.4, "gru": 1.1}, costs)
    lines = dict(shown.lines)
    assert shown.models == ["LSTM", "GRU"]
    tried = "nats per character after 3 updates → best of 8, learning rate"
    assert lines[f"{tried} 0.1"] == ["**2.0000 → 1.5000**", "**2.0000 → 1.2500**"]
    assert lines[f"{tried} 0.2"] == ["not finite", "1.7500 → 1.3000"]
    assert lines["nats per character, best of 8 updates"] == ["**1.5000**", "**1.2500**"]
    assert lines["nats per character, with a state between windows"] == ["1.4000", "1.1000"]
    assert lines["generating after 8 characters: milliseconds each, state"] == ["0.5, 2 KiB"] * 2
    assert lines["gradient of 8 × 16 characters: memory, seconds to compile"] == ["3 MiB, 1.5"] * 2


def test_times_are_taken_in_turn():
    calls = []
    medians({name: (lambda name=name: calls.append(name)) for name in "ab"}, rounds=2)
    assert calls == list("ab" * 3), "once to warm up, then each round"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("window", 0),
        ("copy_length", 0),
        ("copy_steps", 0),
        ("rounds", 0),
        ("finalists", 0),
        ("models", ()),
        ("models", ("gru", "gru")),
        ("rates", (1.0, 0.0)),
        ("contexts", (8, 8)),
        ("lengths", ()),
        ("tuning", 0.0),
        ("tuning", 1.5),
    ],
)
def test_an_option_out_of_range_is_named(option: str, value: Any):
    with pytest.raises(runs.InputError, match=f"--{option.replace('_', '-')}: expected"):
        transformer_or_rnn.Config(**{option: value})


def test_a_size_out_of_range_is_named():
    with pytest.raises(runs.InputError, match="--heads: expected at least 1, got 0"):
        Sizes(heads=0)
