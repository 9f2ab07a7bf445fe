"""The character model, run in this process on a text made here."""

import dataclasses
import errno
import json
import math
import pathlib
import re
import shutil
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from experiments import char_lm, runs
from experiments.data import text
from experiments.ngram import lzma_loss, witten_bell
from experiments.training import Training


@pytest.fixture(autouse=True)
def _optimisers_promote():
    with jax.numpy_dtype_promotion("standard"):
        yield


def tiny(folder: pathlib.Path) -> char_lm.Config:
    """A tiny run on words that a model can learn and a 3-gram cannot: each repeats the one before it."""
    words = np.repeat(np.random.default_rng(0).choice(["abcab", "acbac", "bcabb"], 700), 2)
    (folder / "text.txt").write_text(" ".join(words) + "\n", encoding="utf-8")
    return char_lm.Config(
        data=folder / "text.txt",
        cell="vanilla",
        hidden=24,
        embedding=4,
        batch=8,
        window=12,
        overlap=3,
        dropout=0.1,
        training=Training(steps=250, learning_rate=2e-2, evaluate_every=100, checkpoint_every=60),
        sampling=char_lm.Sampling(prompt="abcab ", length=20),
    )


@pytest.fixture
def config(tmp_path: pathlib.Path) -> char_lm.Config:
    return tiny(tmp_path)


class Finished(NamedTuple):
    config: char_lm.Config
    directory: pathlib.Path
    result: dict[str, Any]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A run that has learnt something."""
    folder = tmp_path_factory.mktemp("finished")
    config = tiny(folder)
    (folder / "run").mkdir()
    return Finished(config, folder / "run", char_lm.run(config, folder / "run"))


def test_a_run_leaves_what_it_promises(finished: Finished):
    _, directory, result = finished
    assert {path.name for path in directory.iterdir()} == {
        "best.safetensors", "checkpoint.safetensors", "curves.png", "data.json", "floors.json", "metrics.jsonl",
        "samples.txt",
    }  # fmt: skip
    assert (directory / "curves.png").read_bytes().startswith(b"\x89PNG")
    json.dumps(result)
    assert result["bits_per_character"] == pytest.approx(result["nats_per_character"] / math.log(2))
    assert result["train_characters"] + result["valid_characters"] == 1400 * 6

    records = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    evaluated = [record for record in records if "evaluation" in record]
    assert [record["step"] for record in evaluated] == [100, 200, 250]
    assert result["nats_per_character"] == min(record["evaluation"]["loss"] for record in evaluated)
    samples = (directory / "samples.txt").read_text(encoding="utf-8")
    assert re.findall(r"^=== step (\d+), \d\.\d+ nats per character\nabcab ", samples, re.M) == ["100", "200", "250"]


def test_a_finished_run_has_nothing_left_to_do(finished: Finished):
    assert char_lm.run(finished.config, finished.directory) == finished.result


def test_a_model_beats_floors_computed_on_the_same_split(finished: Finished):
    floors = finished.result["floors_nats_per_character"]
    corpus = char_lm.read(finished.config)
    vocabulary = text.vocabulary_of(corpus.train)
    losses = witten_bell(vocabulary.encode(corpus.train), vocabulary.encode(corpus.valid), vocabulary.size, 5)
    assert [floors["unigram"], floors["3-gram"], floors["5-gram"]] == [losses[0], losses[2], losses[4]]
    assert floors["lzma"] == lzma_loss(corpus.train, corpus.valid)
    assert finished.result["nats_per_character"] < floors["3-gram"]


def test_an_evaluation_is_the_mean_over_all_characters(config: char_lm.Config):
    """Against the stream of single steps, in one stream and so with one carry."""
    config = dataclasses.replace(config, batch=1, window=7)
    vocabulary = text.vocabulary_of("abc \n")
    model = char_lm.model_of(config, vocabulary.size)
    params = model.init(jax.random.key(0))
    tokens = vocabulary.encode("abcab acbac x\nb")
    figures = char_lm.evaluation(model, tokens, vocabulary, config)(params)

    assert model.step is not None
    carry, losses = model.initial_carry(params, ()), []
    for before, token in zip(vocabulary.encode("\n" + "abcab acbac x\n"), tokens, strict=True):
        carry, logits = model.step(params, carry, jnp.array(before))
        losses.append(-jax.nn.log_softmax(logits)[token])
    assert float(figures["loss"]) == pytest.approx(np.mean(losses), rel=1e-5)
    assert float(figures["bits"]) == pytest.approx(np.mean(losses) / math.log(2), rel=1e-5)


def test_streams_of_an_evaluation_differ_only_in_what_they_forget(config: char_lm.Config):
    vocabulary = text.vocabulary_of("abc \n")
    model = char_lm.model_of(config, vocabulary.size)
    tokens = vocabulary.encode("abcab acbac bcabb " * 30)
    params = model.init(jax.random.key(0))
    one, many = (
        float(char_lm.evaluation(model, tokens, vocabulary, dataclasses.replace(config, batch=batch))(params)["loss"])
        for batch in (1, 8)
    )
    assert one == pytest.approx(many, rel=0.01)


def test_a_run_killed_at_any_step_resumes_bit_for_bit(
    finished: Finished, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    def batches_that_stop(tokens: np.ndarray, config: char_lm.Config) -> Callable[[int], Any]:
        def batch(step: int) -> Any:
            if step == 150:
                raise RuntimeError("power cut")
            return batches(tokens, config)(step)

        return batch

    batches = char_lm.batches
    monkeypatch.setattr(char_lm, "batches", batches_that_stop)
    with pytest.raises(RuntimeError, match="power cut"):
        char_lm.run(finished.config, tmp_path)
    monkeypatch.undo()
    assert arrays(tmp_path / "checkpoint.safetensors")[".step"] == 120

    resumed = char_lm.run(finished.config, tmp_path)
    assert resumed == finished.result
    for name in ("checkpoint.safetensors", "best.safetensors"):
        first, second = arrays(finished.directory / name), arrays(tmp_path / name)
        assert first.keys() == second.keys()
        for leaf in first:
            assert np.array_equal(first[leaf], second[leaf]), leaf
    assert (finished.directory / "samples.txt").read_text() == (tmp_path / "samples.txt").read_text()


def arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    return safetensors.numpy.load_file(path)


def test_a_run_does_not_go_on_with_another_text(finished: Finished, tmp_path: pathlib.Path):
    directory = tmp_path / "run"
    shutil.copytree(finished.directory, directory)
    other = tmp_path / "other.txt"
    other.write_text("abc " * 1000)
    with pytest.raises(runs.InputError, match="not the ones that this run began with"):
        char_lm.run(dataclasses.replace(finished.config, data=other), directory)


def test_a_damaged_checkpoint_is_named(finished: Finished, tmp_path: pathlib.Path):
    shutil.copytree(finished.directory, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(runs.InputError, match=r"checkpoint\.safetensors: the file is damaged"):
        char_lm.run(finished.config, tmp_path)


def test_a_loss_that_is_no_number_ends_the_run_in_words(config: char_lm.Config, tmp_path: pathlib.Path):
    config = dataclasses.replace(
        config, overlap=0, dropout=0.0, training=dataclasses.replace(config.training, learning_rate=1e30, clip=1e30)
    )
    with pytest.raises(runs.InputError, match="lower learning rate"):
        char_lm.run(config, tmp_path)


def test_a_text_shorter_than_a_batch_is_an_error(config: char_lm.Config, tmp_path: pathlib.Path):
    config = dataclasses.replace(config, batch=256, window=64)
    with pytest.raises(runs.InputError, match=r"fewer than the 16,385 of one batch.*--batch or --window"):
        char_lm.run(config, tmp_path)


@pytest.mark.parametrize("cell", ["vanilla", "lstm", "gru"])
@pytest.mark.parametrize("layers", [1, 3])
def test_any_cell_in_any_depth(cell: Literal["vanilla", "lstm", "gru"], layers: int):
    model = char_lm.model_of(char_lm.Config(cell=cell, layers=layers, hidden=5, embedding=3), 7)
    params = model.init(jax.random.key(0))
    carry, logits = model.apply(params, jnp.zeros((4, 2), int))
    assert logits.shape == (4, 2, 7)
    assert len([c for c in carry if jax.tree.leaves(c)]) == layers


def test_a_sample_comes_from_the_best_model(finished: Finished, tmp_path: pathlib.Path):
    config, directory, _ = finished
    sampling = char_lm.Sampling(prompt="abc Ω", length=11, temperature=0.0)
    written = char_lm.sample(config, directory, sampling)
    assert written.startswith("abc Ω")
    assert len(written) == len("abc Ω") + 11
    assert set(written[5:]) <= set("abc \n\N{REPLACEMENT CHARACTER}")
    assert written == char_lm.sample(config, directory, dataclasses.replace(sampling, temperature=1.0, top_k=1))
    seeds = {char_lm.sample(config, directory, char_lm.Sampling(length=50, sample_seed=seed)) for seed in range(2)}
    assert len(seeds) == 2


def test_samples_are_written_whole_or_not_at_all(
    finished: Finished, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    """A disk that is full takes the name of a file, and none of its bytes."""
    path = tmp_path / "samples.txt"
    path.write_text("=== step 1, 2.0 nats per character\nearlier\n")
    monkeypatch.setattr(char_lm, "write", lambda *arguments: "later")
    model, vocabulary = char_lm.model_of(finished.config, 3), text.Vocabulary("ab")
    hook = char_lm.write_samples(path, model, vocabulary, finished.config)
    record = {"step": 2, "evaluation": {"loss": 1.0}}

    def full(path: pathlib.Path, text: str, encoding: str):
        path.write_bytes(b"")
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as context:
        context.setattr(pathlib.Path, "write_text", full)
        with pytest.raises(OSError, match="No space left"):
            hook(None, record)
    assert path.read_text().endswith("earlier\n")
    hook(None, record)
    assert path.read_text().endswith("earlier\n=== step 2, 1.000 nats per character\nlater\n")


def test_a_run_without_a_model_cannot_be_sampled(finished: Finished, tmp_path: pathlib.Path):
    shutil.copy(finished.directory / "data.json", tmp_path)
    with pytest.raises(runs.InputError, match=r"no model yet; continue it: python -m experiments .* --resume"):
        char_lm.sample(finished.config, tmp_path, char_lm.Sampling())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 0}, "--hidden: expected at least 1, got 0"),
        ({"overlap": -1}, "--overlap: expected 0 or more, got -1"),
        ({"dropout": 1.0}, "--dropout: expected at least 0, less than 1, got 1.0"),
    ],
)
def test_an_option_out_of_range_is_named(options: dict[str, Any], message: str):
    with pytest.raises(runs.InputError, match=message):
        char_lm.Config(**options)


@pytest.mark.parametrize(
    "options", [{"prompt": ""}, {"length": 0}, {"temperature": -1.0}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5}]
)
def test_a_sampling_option_out_of_range_is_named(options: dict[str, Any]):
    name = next(iter(options)).replace("_", "-")
    with pytest.raises(runs.InputError, match=f"--{name}: expected"):
        char_lm.Sampling(**options)
