"""The translation experiment: one tiny run on numerals, and its parts against what they stand for."""

import dataclasses
import json
import math
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import runs, translation
from experiments.data.lengths import Batch as Chosen
from experiments.data.translation import Pairs
from experiments.data.words import BOS, EOS, PAD, UNK, load_words, words_of
from experiments.training import Training, best_params
from experiments.translator import Tokens, attention, bleu, by_search, exact, laid_out, late, tokens_of
from experiments.word_by_word import word_by_word

CONFIG = translation.Config(
    pairs=300,
    embedding=8,
    hidden=8,
    readout=8,
    batch=32,
    multiple=12,
    training=Training(steps=20, learning_rate=3e-2, evaluate_every=10, devices=1),
    sampling=translation.Sampling(beams=1),
)


@pytest.fixture(autouse=True)
def _optimisers_promote():
    with jax.numpy_dtype_promotion("standard"):
        yield


class Finished(NamedTuple):
    directory: pathlib.Path
    result: dict[str, Any]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A run that has learnt a little."""
    directory = tmp_path_factory.mktemp("translation")
    with jax.numpy_dtype_promotion("standard"):
        return Finished(directory, translation.run(CONFIG, directory))


def test_a_translator_can_be_looked_into(finished: Finished):
    shown = translation.specimen(CONFIG, finished.directory, 60)
    for attended in shown.attention:
        assert attended.weights.shape == (len(attended.rows), len(attended.columns))
    question = shown.questions[0]
    assert len(question.symbols) == len(question.inputs)
    word = question.what.split("”")[0].removeprefix("log-odds of “")
    # The whole translator gives that word the same odds.
    words = [load_words(finished.directory / name) for name in translation.VOCABULARIES]
    model = translation.model_of(CONFIG, *words)
    params = best_params(finished.directory, jax.eval_shape(model.init, jax.random.key(0)))
    _, place = question.params
    wrote = words[1].encode([shown.attention[0].title])[0]
    read = words[0].encode(["".join(question.symbols)])[0]
    assert words[1].words[wrote[place]] == word
    logits = np.asarray(jax.jit(model.apply)(params, read, late(jnp.asarray(wrote))))[place]
    p = np.exp(logits[wrote[place]]) / np.exp(logits).sum()
    score = jax.jit(question.score)(question.params, question.inputs)
    assert float(score) == pytest.approx(np.log(p / (1 - p)), rel=1e-4)


class Model(NamedTuple):
    model: Any
    params: Any
    words: tuple[Any, Any]
    tokens: Tokens
    pairs: Pairs


@pytest.fixture(scope="module")
def trained(finished: Finished) -> Model:
    """The best model of the run, and a few test sentences of different lengths."""
    corpus = translation.read(CONFIG)
    source_words, target_words = (words_of(side, at_least=CONFIG.at_least) for side in corpus.train)
    model = translation.model_of(CONFIG, source_words, target_words)
    params = best_params(finished.directory, jax.eval_shape(model.init, jax.random.key(0)))
    pairs = Pairs(corpus.test.sources[:3], corpus.test.targets[:3])
    return Model(model, params, (source_words, target_words), tokens_of(pairs, source_words, target_words), pairs)


def test_a_run_leaves_what_it_promises(finished: Finished):
    directory, result = finished
    assert {path.name for path in directory.iterdir()} == {
        "attention.png", "best.safetensors", "checkpoint.safetensors", "curves.png", "data.json", "metrics.jsonl",
        "source_words.json", "target_words.json", "translations.txt",
    }  # fmt: skip
    json.dumps(result)
    for name in result["pictures"]:
        assert (directory / name).read_bytes().startswith(b"\x89PNG")
    figure, share = (runs.Row(**row) for row in result["rows"])
    assert (figure.unit, share.unit) == ("BLEU", "% exactly right")

    lines = (directory / "translations.txt").read_text(encoding="utf-8").splitlines()
    corpus = translation.read(CONFIG)
    assert lines[::3] == corpus.test.sources
    references, written = ([line[4:] for line in lines[start::3]] for start in (1, 2))
    assert references == corpus.test.targets
    assert figure.value == bleu(written, references)
    assert share.value == 100 * np.mean(np.array(written) == references)
    assert "tok:13a" in result["signature"]
    assert "case:lc" in result["signature"]


def test_a_loss_is_the_mean_over_words_and_ends(trained: Model):
    """Sentence by sentence without padding, with smoothed labels written out."""
    model, params, tokens = trained.model, trained.params, Tokens(*(side[:2] for side in trained.tokens))
    sums, words = jax.jit(translation.loss_of(model, 0.2))(params, laid_out(tokens, Chosen(np.arange(2), (14,))))
    expected, apply = 0.0, jax.jit(model.apply)
    for source, target in zip(*tokens, strict=True):
        read = np.concatenate([[BOS], target[:-1]])
        log_p = jax.nn.log_softmax(apply(params, source[:, None], jnp.array(read)[:, None])[:, 0])
        expected -= float(0.8 * log_p[np.arange(len(target)), target].sum() + 0.2 * log_p.mean(1).sum())
    assert int(words) == sum(map(len, tokens.targets))
    assert float(sums) == pytest.approx(expected, rel=1e-4)


def test_a_translation_holds_words_only(trained: Model):
    model, params, (_, words), tokens, _ = trained
    *layers, head = params.decoder
    likely = head.bias.at[np.array([PAD, UNK, BOS])].set(50.0)
    params = params._replace(decoder=(*layers, head._replace(bias=likely)))
    found = by_search(model, words, 1.0, rows=2)(params, tokens.sources)
    assert len(found) == 3
    assert not any("<" in translation.text for [translation] in found)


def test_attention_is_over_the_words_of_a_sentence(trained: Model):
    weights = attention(trained.model, trained.params, trained.tokens)
    pairs = zip(*trained.tokens, strict=True)
    assert [w.shape for w in weights] == [(len(target), len(source)) for source, target in pairs]
    for w in weights:
        np.testing.assert_allclose(w.sum(1), 1, rtol=1e-5)


def test_targets_end(trained: Model):
    assert all(target[-1] == EOS and EOS not in target[:-1] for target in trained.tokens.targets)


def said(finished: Finished, sampling: translation.Sampling) -> list[str]:
    return translation.sample(CONFIG, finished.directory, sampling).splitlines()


def test_a_sentence_is_translated_by_the_best_model(finished: Finished, trained: Model):
    sampling = dataclasses.replace(CONFIG.sampling, translate=trained.pairs.sources[0])
    [line] = said(finished, sampling)
    written = (finished.directory / "translations.txt").read_text(encoding="utf-8").splitlines()[2][4:]
    assert line.split(maxsplit=1)[1] == written
    *lines, unknown = said(finished, dataclasses.replace(sampling, beams=2, translate="two bananas"))
    first, second = (float(line.split()[0]) for line in lines)
    assert first >= second
    assert unknown == "Not in the vocabulary: bananas"
    assert translation.asks(sampling)
    assert not translation.asks(CONFIG.sampling)
    with pytest.raises(runs.InputError, match=r"--sample: .*--translate"):
        said(finished, CONFIG.sampling)


def test_word_by_word_learns_a_dictionary():
    """Model 1 tells words apart that always stand together in one language by what else they stand with."""
    train = Pairs(
        ["the house", "the book", "a book", "a dog sleeps"], ["das haus", "das buch", "ein buch", "ein hund schläft"]
    )
    assert word_by_word(train, ["a house", "the red book ."]) == ["ein haus", "das red buch."]


def test_figures_of_translations():
    references = ["Eins zwei drei vier fünf", "sechs sieben acht neun"]
    assert bleu([text.lower() for text in references], references) == pytest.approx(100)
    # 8 words for 9, of which 7 are right; then 5 of 6 pairs, 3 of 4 triples, 1 of 2 quadruples.
    written = ["eins zwei drei vier", "sechs sieben acht null"]
    expected = 100 * math.exp(1 - 9 / 8) * (7 / 8 * 5 / 6 * 3 / 4 * 1 / 2) ** 0.25
    assert bleu(written, references) == pytest.approx(expected)
    assert exact([references[0].lower(), "sechs"], references) == 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 0}, "--hidden: expected at least 1, got 0"),
        ({"dropout": 1.0}, "--dropout: expected at least 0, less than 1, got 1.0"),
        ({"label_smoothing": -0.1}, "--label-smoothing: expected at least 0, less than 1"),
        ({"data": pathlib.Path("folder")}, "--data: expected nothing with --dataset numerals"),
    ],
)
def test_an_option_out_of_range_is_named(options: dict[str, Any], message: str):
    with pytest.raises(runs.InputError, match=message):
        translation.Config(**options)


@pytest.mark.parametrize("options", [{"translate": " "}, {"beams": 0}, {"length_penalty": -1.0}])
def test_a_sampling_option_out_of_range_is_named(options: dict[str, Any]):
    name = next(iter(options)).replace("_", "-")
    with pytest.raises(runs.InputError, match=f"--{name}: expected"):
        translation.Sampling(**options)
