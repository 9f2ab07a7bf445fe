"""The classifier of sentences, run in this process on few and short ones, with word vectors of a tiny file."""

import dataclasses
import functools
import json
import pathlib
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import runs, sentiment
from experiments.command_line import _execute
from experiments.data.sentiment import FILES, Sentences, Sentiment, generate_reviews
from experiments.data.words import UNK, load_words, save_words, words_of
from experiments.sentiment_answers import Answer, baselines_of, shown
from experiments.training import Training
from jaxrnn.training import save


@pytest.fixture(autouse=True)
def _optimisers_promote():
    with jax.numpy_dtype_promotion("standard"):
        yield


class Finished(NamedTuple):
    config: sentiment.Config
    directory: pathlib.Path
    result: dict[str, Any]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A run on sentences that "not" turns around, which single words do not give away."""
    folder = tmp_path_factory.mktemp("sentiment")
    texts = [
        f"{label ^ (turn != '')} it is {turn}{['bad', 'good'][label]}" for turn in ("", "not ") for label in (0, 1)
    ]
    for name, count in zip(FILES, (40, 5, 4), strict=True):
        (folder / name).write_text("\n".join(texts * count) + "\n", encoding="utf-8")
    (folder / "vectors.txt").write_text("bad -1 0 0\nunseen 9 9 9\ngood 1 0 0\n", encoding="utf-8")
    config = sentiment.Config(
        dataset="sst2",
        data=folder,
        unchecked=True,
        vectors=folder / "vectors.txt",
        cell="vanilla",
        hidden=8,
        word_dropout=0.05,
        dropout=0.1,
        batch=16,
        training=Training(steps=80, learning_rate=3e-2, evaluate_every=20, checkpoint_every=40),
    )
    (folder / "run").mkdir()
    return Finished(config, folder / "run", sentiment.run(config, folder / "run"))


def test_a_run_leaves_what_it_promises(finished: Finished):
    _, directory, result = finished
    assert {path.name for path in directory.iterdir()} == {
        "best.safetensors", "checkpoint.safetensors", "curves.png", "data.json", "metrics.jsonl", "words.json",
    }  # fmt: skip
    assert (directory / "curves.png").read_bytes().startswith(b"\x89PNG")
    json.dumps(result)
    records = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    errors = [record["evaluation"]["error"] for record in records if "evaluation" in record]
    assert len(errors) == 4
    assert result["validation"]["error"] == min(errors)
    assert load_words(directory / "words.json").words[4:] == ("is", "it", "bad", "good", "not")


def test_it_learns_what_single_words_do_not_say(finished: Finished):
    whole, turned = (runs.Row(**row) for row in finished.result["rows"])
    assert whole.value == turned.value == 100
    assert (whole.floor, whole.baseline) == ("50.0 (majority)", "50.0 (naive Bayes)")
    assert turned.what.endswith("with a negation or contrast")


def test_a_finished_run_has_nothing_left_to_do(finished: Finished):
    assert sentiment.run(finished.config, finished.directory) == finished.result


def test_sentences_are_classified_as_each_alone_in_their_order(finished: Finished):
    model, params, words = sentiment.restore(finished.config, finished.directory)
    sentences = words.encode(["it is not not good", "bad", "it is not not bad", "unheard"])
    logits = sentiment.classify(model, batch=3)(params, sentences)
    alone = np.stack([*map(jax.jit(functools.partial(model.apply, params)), sentences)])
    np.testing.assert_allclose(logits, alone, rtol=1e-5, atol=1e-6)
    figures = sentiment.figures(logits, np.array([1, 0, 0, 0]))
    probabilities = np.exp(alone) / np.exp(alone).sum(-1, keepdims=True)
    assert figures["loss"] == pytest.approx(-np.log(probabilities[range(4), [1, 0, 0, 0]]).mean(), rel=1e-5)
    assert figures["accuracy"] == 1 - figures["error"] == np.mean((alone[:, 1] > alone[:, 0]) == [1, 0, 0, 0])


def test_a_model_may_read_in_one_direction(tmp_path: pathlib.Path, key: jax.Array, monkeypatch: pytest.MonkeyPatch):
    """Its answer is then the head's, of what the last word leaves in the last layer."""
    config = sentiment.Config(bidirectional=False, cell="vanilla", hidden=6, embedding=5, pooling="ends")
    data = generate_reviews(counts=(40, 4, 4))
    monkeypatch.setattr(sentiment, "read", lambda config: data)
    words = words_of(data.train.texts)
    model = sentiment.model_of(config, words.size, 5)
    save_words(tmp_path / "words.json", words)
    runs.write_json(tmp_path / "data.json", {"embedding": 5})
    save(tmp_path / "best.safetensors", model.init(key), {})
    restored, params, _ = sentiment.restore(config, tmp_path)
    seen = sentiment.specimen(config, tmp_path, 20)
    assert seen.words == "vanilla RNN 1 × 6, ends pooling on generated reviews"
    assert seen.reading is not None
    assert {name.split()[2] for name in seen.reading.units} == {"forward"}
    (first,) = words.encode(data.test.texts[:1])
    left = seen.reading.units[seen.reading.state][len(first) - 1]
    logits = left @ params.head.kernel + params.head.bias
    np.testing.assert_allclose(logits, restored.apply(params, first), rtol=1e-5, atol=1e-6)


def test_words_are_forgotten_in_training_alone(key: jax.Array):
    seen = []

    def apply(params: Any, tokens: Any, *, lengths: Any, key: Any) -> jax.Array:
        seen.append((np.asarray(tokens), lengths))
        return jnp.zeros((tokens.shape[1], 2))

    model = sentiment.model_of(sentiment.Config(), 8, 3)._replace(apply=apply)
    batch = sentiment.Labelled(np.full((50, 80), 7), np.full(80, 50), np.zeros(80, int))
    loss = sentiment.loss(model, 0.25, (), batch, key)
    ((tokens, lengths),) = seen
    assert float(loss) == pytest.approx(np.log(2))
    assert set(np.unique(tokens)) == {UNK, 7}
    assert np.mean(tokens == UNK) == pytest.approx(0.25, abs=0.03)
    assert lengths is batch.lengths


def test_pretrained_vectors_are_what_the_embedding_begins_with(finished: Finished, key: jax.Array):
    config, directory, _ = finished
    assert runs.read_json(directory / "data.json")["embedding"] == 3
    vectors = np.arange(12, dtype=np.float32).reshape(4, 3)
    params = sentiment.model_of(config, 4, 3, vectors).init(key)
    assert any(leaf.shape == (4, 3) and np.array_equal(leaf, vectors) for leaf in jax.tree.leaves(params))
    _, trained, words = sentiment.restore(config, directory)
    (table,) = [leaf for leaf in jax.tree.leaves(trained) if leaf.shape == (words.size, 3)]
    good, bad = (table[words.words.index(word)] for word in ("good", "bad"))
    assert good[0] > 0.5
    assert bad[0] < -0.5


def test_a_sentence_is_classified_by_a_run_without_its_vectors(finished: Finished):
    config, directory, _ = finished
    config = dataclasses.replace(config, vectors=directory / "gone")
    asked = sentiment.Asking("It is NOT good")
    assert sentiment.asks(asked)
    assert not sentiment.asks(sentiment.Asking())
    first, *lines = sentiment.sample(config, directory, asked).splitlines()
    assert re.fullmatch(r"pan, probability (0\.[5-9]|1)\d*", first)
    assert [line.split()[-1] for line in lines] == ["it", "is", "not", "good"]
    assert sum(float(line.split()[0]) for line in lines) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("option", ["--run", "--resume"])
def test_an_option_of_training_does_not_say_who_answers(option: str):
    with pytest.raises(runs.InputError, match=f"{option} trains; name the run that is to answer with --sample"):
        _execute("sentiment", sentiment, "", [option, "mine", "--text", "not dull"])


def test_an_answer_without_attention_is_a_line():
    assert shown(Answer(["bad"], 0.25)) == "pan, probability 0.750"


def test_baselines_count_only_the_sentences_asked_for():
    train = Sentences(["good", "bad", "so bad"], np.array([1, 0, 0]))
    test = Sentences(["bad", "good", "not good"], np.array([0, 1, 0]))
    data = Sentiment(train, test, test, "", "")
    assert baselines_of(data, np.array([True, True, False])) == {"majority": 0.5, "naive Bayes": 1.0}
    assert baselines_of(data, np.array([True, False, True])) == {"majority": 1.0, "naive Bayes": 0.5}


@pytest.mark.parametrize("text", [None, "", "  "])
def test_a_text_without_words_is_an_error(finished: Finished, text: str | None):
    with pytest.raises(runs.InputError, match="--text: expected a sentence"):
        sentiment.sample(finished.config, finished.directory, sentiment.Asking(text))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 0}, "--hidden: expected at least 1, got 0"),
        ({"at_least": 0}, "--at-least: expected at least 1, got 0"),
        ({"word_dropout": 1.0}, "--word-dropout: expected at least 0, less than 1, got 1.0"),
        ({"dropout": -0.1}, "--dropout: expected at least 0, less than 1, got -0.1"),
        ({"unchecked": True}, "--unchecked: expected --data beside it"),
        ({"data": pathlib.Path("folder")}, "--data: expected --dataset sst2 beside it, got 'reviews'"),
    ],
)
def test_an_option_out_of_range_is_named(options: dict[str, Any], message: str):
    with pytest.raises(runs.InputError, match=message):
        sentiment.Config(**options)
