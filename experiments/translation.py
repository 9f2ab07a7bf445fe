"""Translation: an encoder reads a sentence, a decoder that attends to it writes it in another language.

The encoder is embedding → recurrent, read from both ends; the decoder is embedding → recurrent with
additive attention → tanh layer → dense. In training the decoder reads the true translation one word late
(teacher forcing). The loss is the mean over all words and ends of sentences of -ln P(word | all before it,
source), its label smoothed, in validation too. Batches hold sentences of like lengths, the longer of source
and target padded to a few lengths, so that a step is compiled for each of these only.

Words are in lower case and as `experiments.data.words` cuts them; a rare one is ``<unk>``, which a
translation never holds. After each evaluation the validation sentences are translated greedily; the model
with the least loss there translates the test sentences, greedily and by beam search, at the very end. BLEU
is sacrebleu's of the detokenised translations beside the references as they are, both in lower case, with
its tokeniser 13a; the signature is in result.json. Beside it stand the untranslated source and a word by
word translation, see `experiments.word_by_word`. Source: Bahdanau, Cho and Bengio, "Neural Machine
Translation by Jointly Learning to Align and Translate" (2015).
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import rich.console
import tyro

import jaxrnn
from experiments import runs, translator
from experiments.data.lengths import Batching, batching
from experiments.data.translation import Direction, Pairs, Translation, generate_numerals, read_multi30k
from experiments.data.words import Words, load_words, save_words, tokenise, words_of
from experiments.runs import Row
from experiments.specimens import Specimen
from experiments.training import Evaluation, Training, best_params, independent, train
from experiments.translation_plots import Alignment, draw_alignments, draw_curves
from experiments.translation_specimen import specimen_of
from experiments.translator import Batch, Tokens, Translate
from experiments.word_by_word import word_by_word
from jaxrnn.losses import softmax_cross_entropy
from jaxrnn.models import EncoderDecoder, encoder_decoder

Loss = Callable[..., tuple[jax.Array, jax.Array]]

CELLS = {"gru": jaxrnn.gru, "lstm": jaxrnn.lstm}
VOCABULARIES = "source_words.json", "target_words.json"
PUBLISHED = {"Multi30k en-de": "36.5, a network that sees the pictures too (Calixto et al. 2017, other tokenisation)"}


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How a sentence is translated."""

    translate: str | None = None
    """A sentence to translate."""
    beams: int = 5
    """Prefixes kept in the search; 1 is greedy."""
    length_penalty: float = 1.0
    """Exponent of the penalty that keeps the search from short sentences."""

    def __post_init__(self) -> None:
        runs.require(self.translate is None or bool(tokenise(self.translate)), "translate", "a word", self.translate)
        runs.require(self.beams >= 1, "beams", "at least 1", self.beams)
        runs.require(self.length_penalty >= 0, "length-penalty", "0 or more", self.length_penalty)


@dataclasses.dataclass(frozen=True)
class Config:
    """Data, model and training."""

    dataset: Literal["numerals", "multi30k"] = "numerals"
    """Numbers in words, generated, or descriptions of pictures, which --data gives or which are downloaded."""
    data: pathlib.Path | None = None
    """The folder with the files of multi30k; unless given, they are downloaded."""
    unchecked: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Take the files of --data as they are, instead of making sure that they hold what the originals do."""
    direction: Direction = "en-de"
    """From which language to which."""
    pairs: int = 10_000
    """Sentences of numerals to train on; multi30k is always taken whole."""
    cell: Literal["gru", "lstm"] = "gru"
    """The recurrent cell."""
    embedding: int = 64
    """Size of the vector that stands for a word."""
    hidden: int = 64
    """Units of the encoder in each direction, and of the attention; the decoder has twice as many."""
    readout: int = 64
    """Units of the tanh layer between the decoder and the words."""
    dropout: float = 0.1
    """Share of embeddings, of what the encoder gives and of what the decoder gives that is set to zero in training."""
    label_smoothing: float = 0.1
    """Share of the probability that the loss spreads over all words."""
    at_least: int = 2
    """How often a word must occur in the training sentences to be in the vocabulary."""
    batch: int = 64
    """Sentences in a batch."""
    multiple: int = 6
    """Sentences are padded to a multiple of this length."""
    training: Training = Training(steps=800, learning_rate=5e-3, evaluate_every=200)
    """How it is trained."""
    sampling: Sampling = Sampling()

    def __post_init__(self) -> None:
        runs.make_absolute(self, "data")
        needed = self.data is None or self.dataset != "numerals"
        runs.require(needed, "data", "nothing with --dataset numerals", str(self.data))
        runs.require(not self.unchecked or self.data is not None, "unchecked", "--data beside it", True)
        runs.require_counts(self, "pairs", "embedding", "hidden", "readout", "at_least", "batch", "multiple")
        for name in ("dropout", "label_smoothing"):
            value = getattr(self, name)
            runs.require(0 <= value < 1, name, "at least 0, less than 1", value)


QUICK = Config(pairs=2000, hidden=32, multiple=12, training=Training(steps=100, learning_rate=1e-2, evaluate_every=50))


def run(config: Config, directory: pathlib.Path) -> dict[str, Any]:
    """Train a model, or go on with one that ``directory`` holds, and return its figures and the baselines."""
    console = rich.console.Console(highlight=False)
    say = functools.partial(console.print, soft_wrap=True, markup=False)
    corpus = read(config)
    sentences = [sentence for part in (corpus.train, corpus.valid, corpus.test) for side in part for sentence in side]
    runs.pin_data(directory, {"name": corpus.name, "source": corpus.source}, "\n".join(sentences))
    vocabularies = [words_of(side, at_least=config.at_least) for side in corpus.train]
    for name, words in zip(VOCABULARIES, vocabularies, strict=True):
        save_words(directory / name, words)
    train_tokens, valid_tokens, test_tokens = (
        translator.tokens_of(part, *vocabularies) for part in (corpus.train, corpus.valid, corpus.test)
    )
    say(f"Sentences: {corpus.name} ({corpus.source})")
    counts = [f"{len(tokens.sources):,}" for tokens in (train_tokens, valid_tokens, test_tokens)]
    say("      {} for training, {} for validation, {} for testing; ".format(*counts), end="")
    say("{:,} words to read, {:,} to write".format(*(words.size for words in vocabularies)))
    baselines = {
        "untranslated": translator.bleu(corpus.test.sources, corpus.test.targets),
        "word by word": translator.bleu(word_by_word(corpus.train, corpus.test.sources), corpus.test.targets),
    }
    say("BLEU of the test sentences: " + ", ".join(f"{name} {figure:.1f}" for name, figure in baselines.items()))

    model, plan = model_of(config, *vocabularies), plan_of(train_tokens, config)
    name = f"{config.cell.upper()} 2 × {config.hidden} with attention"
    say(
        f"Model: {name}; {config.training.steps:,} steps of {config.batch} sentences, "
        f"{config.training.steps / plan.per_epoch:.1f} times those for training; {plan.padding_share:.0%} is padding"
    )
    loss = loss_of(model, config.label_smoothing)
    translate = translator.by_search(model, vocabularies[1], config.sampling.length_penalty)
    trained = train(
        directory,
        config.training,
        model.init,
        independent(loss),
        lambda step: translator.laid_out(train_tokens, plan.batch(step)),
        rows=config.batch,
        batch_axis=Batch(1, 0, 1, 0),
        evaluate=evaluation(loss, translate, corpus.valid, valid_tokens),
        on_evaluate=[translator.show_samples(translate, corpus.valid, valid_tokens)],
    )
    draw_curves(directory / "curves.png", trained.records, baselines["word by word"], f"{name} on {corpus.name}")

    beams = sorted({1, config.sampling.beams})
    written = {
        width: [found[0].text for found in translate(trained.params, test_tokens.sources, width)] for width in beams
    }
    rows = rows_of(written, corpus, baselines, name, trained.parameters)
    translator.write_translations(directory / "translations.txt", corpus.test, written[beams[-1]])
    shown = Pairs(corpus.test.sources[: translator.SHOWN], written[beams[-1]][: translator.SHOWN])
    weights = translator.attention(model, trained.params, translator.tokens_of(shown, *vocabularies))
    draw_alignments(
        directory / "attention.png",
        [Alignment(tokenise(x), [*tokenise(y), "(end)"], w) for x, y, w in zip(*shown, weights, strict=True)],
        f"What each word written attends to, {corpus.name}",
    )
    return {
        "rows": [row._asdict() for row in rows],
        "pictures": {
            "curves.png": f"Losses and BLEU of the {name} on {corpus.name}",
            "attention.png": f"What the {name} attends to on {corpus.name}: for each word that it writes, a row",
        },
        "signature": str(translator.METRIC.get_signature()),
        "baselines": baselines,
        "best_step": trained.step,
        "valid": trained.figures,
        "padding_share": plan.padding_share,
    }


def asks(sampling: Sampling) -> bool:
    """Return whether a sentence is to be translated."""
    return sampling.translate is not None


def sample(config: Config, directory: pathlib.Path, sampling: Sampling) -> str:
    """Return what a sentence's translation is for the best model of a run: all hypotheses with their scores."""
    if sampling.translate is None:
        raise runs.InputError("--sample: expected a sentence beside it, with --translate")
    source_words, target_words = (load_words(directory / name) for name in VOCABULARIES)
    model = model_of(config, source_words, target_words)
    params = best_params(directory, jax.eval_shape(model.init, jax.random.key(0)))
    translate = translator.by_search(model, target_words, sampling.length_penalty, rows=1)
    found = translate(params, source_words.encode([sampling.translate]), sampling.beams)[0]
    unknown = sorted({word for word in tokenise(sampling.translate) if word not in source_words.words})
    lines = [f"{translation.score:7.2f}  {translation.text}" for translation in found]
    return "\n".join([*lines, *([f"Not in the vocabulary: {', '.join(unknown)}"] if unknown else [])])


def specimen(config: Config, directory: pathlib.Path, steps: int) -> Specimen:
    """Return what the best model of a run shows on the first test sentences."""
    words = [load_words(directory / name) for name in VOCABULARIES]
    model, reader, corpus = model_of(config, *words), reading(config, words[1]), read(config)
    params = best_params(directory, jax.eval_shape(model.init, jax.random.key(0)))
    cell = functools.partial(CELLS[config.cell], hidden_size=config.hidden)
    name = f"{config.cell.upper()} on {corpus.name}"
    return specimen_of(name, cell, model, reader, params, corpus.test, words, steps)


def read(config: Config) -> Translation:
    """Return the sentences for training, validation and testing."""
    if config.dataset == "multi30k":
        return read_multi30k(config.direction, config.data, unchecked=config.unchecked)
    return generate_numerals(config.direction, counts=(config.pairs, 512, 1024))


def plan_of(tokens: Tokens, config: Config) -> Batching:
    """Return which sentences are in the batch of each step of training."""
    return batching(tokens.lengths(), batch=config.batch, multiple=config.multiple, seed=config.training.seed)


def model_of(config: Config, source_words: Words, target_words: Words) -> EncoderDecoder:
    """Return the encoder-decoder."""
    return reading(config, target_words, jaxrnn.embedding(source_words.size, config.embedding))


def reading(config: Config, target_words: Words, *first: jaxrnn.Layer) -> EncoderDecoder:
    """Return the encoder-decoder with these layers first in its encoder; without them, it reads embedded words."""
    cell, drop, states = CELLS[config.cell], jaxrnn.dropout(config.dropout), 2 * config.hidden
    reader = jaxrnn.stacked(cell, config.embedding, config.hidden, bidirectional=True)
    return encoder_decoder(
        jaxrnn.serial(*first, drop, reader, drop),
        cell(config.embedding, states),
        jaxrnn.attention.additive(states, states, config.hidden),
        target_words.size,
        config.embedding,
        readout=config.readout,
        dropout=config.dropout,
    )


def loss_of(model: EncoderDecoder, label_smoothing: float) -> Loss:
    """Return ``(params, batch, key) -> (sum of losses, number of words)``."""

    def loss(params: Any, batch: Batch, key: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        lengths = {"source_lengths": batch.source_lengths, "target_lengths": batch.target_lengths}
        logits = model.apply(params, batch.source, translator.late(batch.target), **lengths, key=key)
        counts = jnp.arange(batch.target.shape[0])[:, None] < batch.target_lengths[None]
        words = jnp.sum(batch.target_lengths).astype(jnp.float32)
        return softmax_cross_entropy(logits, batch.target, counts, label_smoothing=label_smoothing) * words, words

    return loss


def evaluation(loss: Loss, translate: Translate, pairs: Pairs, tokens: Tokens) -> Evaluation:
    """Return the function from parameters to the loss, without dropout, and BLEU of greedy translations."""
    total = jax.jit(loss)
    plan = batching(tokens.lengths(), batch=translator.ROWS, multiple=translator.MULTIPLE, whole=True)
    batches = [translator.laid_out(tokens, plan.batch(place)) for place in range(plan.per_epoch)]

    def evaluate(params: Any) -> dict[str, float]:
        losses, words = np.sum([total(params, batch) for batch in batches], axis=0)
        written = [found[0].text for found in translate(params, tokens.sources)]
        return {"loss": float(losses / words), "bleu": translator.bleu(written, pairs.targets)}

    return evaluate


def rows_of(
    written: dict[int, list[str]], corpus: Translation, baselines: dict[str, float], name: str, parameters: int
) -> list[Row]:
    """Return the figures of the test sentences' translations, found with one beam or several."""
    floor, baseline = (f"{figure:.1f} ({name})" for name, figure in baselines.items())
    published = PUBLISHED.get(corpus.name, "")
    rows = []
    for beams, translations in written.items():
        what = f"{name} on {corpus.name}, " + ("greedy" if beams == 1 else f"beam of {beams}")
        figure = translator.bleu(translations, corpus.test.targets)
        rows.append(Row(what, figure, "BLEU", floor, baseline, published, parameters))
        if corpus.name.startswith("generated"):
            share = 100 * translator.exact(translations, corpus.test.targets)
            rows.append(Row(what, share, "% exactly right", parameters=parameters))
    return rows
