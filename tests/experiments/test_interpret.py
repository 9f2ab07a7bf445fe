"""Looking into runs: on a specimen made here, where it is known what is to be found, and on tiny runs."""

import dataclasses
import json
import math
import pathlib
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from experiments import char_lm, interpret, runs
from experiments.char_specimen import CONTEXT, specimen_of
from experiments.coloured_text import WIDTH, Panel, draw_text, write_page
from experiments.data.text import vocabulary_of
from experiments.specimens import Attention, Heads, Question, Reading, Specimen, both_ways
from experiments.text_features import clauses, code, prose
from jaxrnn.losses import softmax_cross_entropy

SOURCE = '''def f(x, y):  # "not a string"
    """One
    "quoted" line."""
    return [x, 'it\\'s', "#"]
'''
CONFIG = interpret.Config(of="made/here", steps=400, controls=99, points=8)


def marked(text: str, feature: str) -> str:
    """The characters of which the feature holds."""
    return "".join(character for character, holds in zip(text, code(text)[feature], strict=True) if holds)


def test_features_of_code_are_what_an_editor_colours():
    assert marked(SOURCE, "inside a comment") == '# "not a string"'
    assert marked(SOURCE, "inside a string") == "'it\\'s\"#"
    assert marked(SOURCE, "inside a docstring") == '"""One\n    "quoted" line.'
    assert marked(SOURCE, "inside brackets") == "(x, y[x, 'it\\'s', \"#\""
    assert marked(SOURCE, "in a line with def") == ' f(x, y):  # "not a string"\n'
    at = code(SOURCE)
    assert at["indentation"][SOURCE.index("return")] == 4
    assert at["position in the line"][SOURCE.index("return")] == 5
    assert all(values.shape == (len(SOURCE),) and values.dtype == np.float32 for values in at.values())


def test_features_know_nothing_of_what_comes_later():
    for of in (code, prose):
        whole = of(SOURCE)
        for end in (20, 33, 60, len(SOURCE) - 3):
            for name, values in of(SOURCE[:end]).items():
                # Only the rest of a delimiter of several characters, and of a line's indentation, is read ahead.
                np.testing.assert_array_equal(values[: end - 4], whole[name][: end - 4], err_msg=name)


def test_features_of_prose_and_of_clauses():
    at = prose('A "b c" d,\nE.\n\nf')
    assert "".join(str(int(holds)) for holds in at["inside quotation marks"]) == "00111100000000" + "00"
    assert at["line begins with a capital"].tolist() == [1] * 14 + [0, 0]
    assert at["first line of a paragraph"].tolist() == [1] * 11 + [0] * 4 + [1]
    assert at["words since the last comma or stop"][[0, 2, 7, 9, 10]].tolist() == [0, 1, 3, 0, 1]
    at = clauses(["although", "it", "is", "not", "bad", ",", "it", "is", "good", ",", "but", "long"])
    assert at["in the clause with although"].tolist() == [1] * 5 + [0] * 7
    assert at["after a negation in the clause"].tolist() == [0, 0, 0, 1, 1, *[0] * 7]
    assert at["after but"].tolist() == [0] * 10 + [1, 1]


def made() -> Specimen:
    """A reading in which one unit is "in a word" and the rest noise, and a question with a known answer."""
    rng = np.random.default_rng(0)
    symbols = ["word\n" if place % 9 == 8 else "word " for place in range(400)]
    feature = np.repeat(rng.random(100) > 0.5, 4).astype(np.float32)
    units = {name: rng.normal(size=(400, 5)).astype(np.float32) for name in ("layer 1 i", "layer 1 h")}
    units["layer 1 h"][:, 2] -= 3 * feature
    unknown = rng.normal(size=400).astype(np.float32)
    weights = jnp.array([1.0, -2.0])
    inputs = jnp.array([[1.0, 2.0], [3.0, 0.5], [0.0, 1.0]])
    question = Question("a sum", "abc", inputs, jnp.ones(2), lambda w, x: ((x @ w) ** 2).sum(), weights)
    attention = Attention("two words", ["so", "good"], ["a", "b", "c"], np.array([[1, 0, 0], [0.5, 0.5, 0]]))
    features = {"noise": unknown, "on": feature}
    heads = Heads("abc", rng.random((1, 2, 3, 3)))
    return Specimen("a made model", Reading(symbols, units, features, "layer 1 h"), [question], [attention], heads)


def test_a_planted_unit_is_found_and_noise_is_not():
    reading = made().reading
    assert reading is not None
    found = {one["feature"]: one for one in interpret.units_of(CONFIG, reading)}
    assert (found["on"]["units"], found["on"]["unit"], found["on"]["p"]) == ("layer 1 h", 2, pytest.approx(0.01))
    assert found["on"]["correlation"] < -0.7
    assert found["noise"]["p"] > 0.01


def test_a_unit_that_follows_but_little_is_not_found():
    rng = np.random.default_rng(0)
    feature = rng.normal(size=4000).astype(np.float32)
    units = {"h": np.stack([feature + size * rng.normal(size=4000) for size in (4, 6)], axis=1)}
    found = interpret.units_of(CONFIG, Reading("a" * 4000, units, {"on": feature}, "h"))
    assert (found[0]["unit"], found[0]["p"], found[0]["found"]) == (0, pytest.approx(0.01), False)
    assert 0.15 < found[0]["correlation"] < interpret.FOLLOWS
    row = interpret.units_row("it", found)
    assert (row.what, row.value) == ("units that follow a feature in it", 0)


def test_an_excerpt_is_of_whole_sequences_or_lines():
    values = np.zeros(2000, np.float32)
    values[1200:1210] = 1
    sequences = Reading(["1"] * 2000, {}, {"on": values}, "h", range(0, 2000, 300))
    assert interpret.excerpt(sequences, "on") == slice(1200, 1800)
    lines = Reading("".join("\n" if place % 50 == 9 else "a" for place in range(2000)), {}, {"on": values}, "h")
    part = interpret.excerpt(lines, "on")
    assert (part.start % 50, part.stop % 50, part.stop - part.start) == (10, 10, 500)  # 10 lines of 50 + 20
    assert part.start <= 1200 < part.stop
    assert interpret.excerpt(Reading("a" * 3000, {}, {"on": np.zeros(3000)}, "h"), "on") == slice(1500, 2500)


def test_what_a_score_depends_on_adds_up_to_it():
    (question,) = made().questions
    gradient, attributions, change, gap = interpret.dependence(question, 4)
    w, x = np.asarray(question.params), np.asarray(question.inputs)
    np.testing.assert_allclose(gradient, 2 * (x @ w) * ((x - 1) @ w), atol=1e-5)
    assert change == pytest.approx(float(((x @ w) ** 2).sum() - 3))
    np.testing.assert_allclose(attributions, (x @ w) ** 2 - 1, atol=1e-5)
    assert gap == pytest.approx(0, abs=1e-5)


def test_an_answer_that_depends_on_nothing_is_said_to():
    (question,) = made().questions
    constant = question._replace(what="a constant", score=lambda w, x: 0 * x.sum() + w.sum())
    panels, gap = interpret.saliency(CONFIG, [constant, question])
    assert panels[0].title == "a constant, which does not depend on what was read · gradient × input"
    assert panels[2].title.startswith("a sum, +")
    assert gap == interpret.saliency(CONFIG, [question])[1]
    assert interpret.saliency(CONFIG, [constant])[1] is None


def test_a_run_is_looked_into(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    experiment = types.SimpleNamespace(Config=interpret.Config, specimen=lambda config, directory, steps: made())
    monkeypatch.setattr(interpret, "find", lambda config: ("made", tmp_path))
    monkeypatch.setattr(runs, "read_config", lambda *arguments: None)
    monkeypatch.setattr(interpret, "importlib", types.SimpleNamespace(import_module=lambda name: experiment))
    result = interpret.run(CONFIG, tmp_path)
    json.dumps(result)
    units, completeness = (runs.Row(**row) for row in result["rows"])
    assert (units.value, units.unit, units.floor) == (1, "of 2 features, |r| ≥ 0.3", "0.02 at most (by chance)")
    assert units.what == "units that follow a feature (|r| 0.85 to 0.85) in a made model"
    assert completeness.value == pytest.approx(100 * result["largest_gap"])
    assert completeness.value < 0.01
    pictures = {"attention.png", "gates.png", "heads.png", "neurons.png", "saliency.png", "states.png", "units.png"}
    assert set(result["pictures"]) == pictures
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in pictures)
    assert {path.name for path in tmp_path.glob("*.html")} == {"gates.html", "neurons.html", "saliency.html"}


def test_a_page_keeps_the_text_and_shows_its_values(tmp_path: pathlib.Path):
    panel = Panel("a < b", ["x<y", "\n", "&z"], np.array([1.0, -0.5, 0.0]))
    write_page(tmp_path / "page.html", "1 & 2", [panel])
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<h1>1 &amp; 2</h1>" in page
    assert 'title="1.000">x&lt;y</span>' in page
    assert 'title="-0.500">↵\n</span>' in page
    assert 'title="0.000">&amp;z</span>' in page
    draw_text(tmp_path / "text.png", "long " * 40, [panel, Panel("", ["w" * (WIDTH + 3), ""], np.zeros(2), 1.0)])
    assert (tmp_path / "text.png").read_bytes().startswith(b"\x89PNG")


def test_a_character_model_shows_what_it_computes(key: jax.Array):
    config = char_lm.Config(cell="lstm", layers=2, hidden=5, embedding=3)
    text = ("some words (in brackets) follow others: " * 5)[:190]
    vocabulary = vocabulary_of(text)
    model = char_lm.model_of(config, vocabulary.size)
    params = jax.jit(model.init)(key)
    shown = specimen_of("words", char_lm.cells_of(config), params, vocabulary, text, prose)
    assert shown.reading is not None
    assert list(shown.reading.units) == [f"layer {number} {name}" for number in (1, 2) for name in "ifgoch"]
    _, logits = jax.jit(model.apply)(params, vocabulary.encode(text))
    hs = shown.reading.units["layer 2 h"]
    np.testing.assert_allclose(hs @ params[-1].kernel + params[-1].bias[None], logits, rtol=1e-5, atol=1e-5)
    assert [question.what for question in shown.questions]
    question = shown.questions[0]
    read, place = question.symbols, text.index(str(question.symbols)) + CONTEXT
    (_, alone), target = jax.jit(model.apply)(params, vocabulary.encode(str(read))), vocabulary.encode(text[place])
    p = math.exp(-jax.jit(softmax_cross_entropy)(alone[-1:], target))
    score = jax.jit(question.score)(question.params, question.inputs)
    assert float(score) == pytest.approx(np.log(p / (1 - p)), rel=1e-4)


def test_a_short_text_is_read_whole(key: jax.Array):
    """Of 80 characters the last place with one after it is 78, before which there are fewer than a context has."""
    config = char_lm.Config(cell="gru", hidden=3, embedding=2)
    text = "ab" * (CONTEXT // 2)
    vocabulary = vocabulary_of(text)
    params = jax.jit(char_lm.model_of(config, vocabulary.size).init)(key)
    shown = specimen_of("words", char_lm.cells_of(config), params, vocabulary, text, prose)
    assert shown.questions[0].symbols == text[:-1]
    assert len(shown.questions[0].inputs) == len(text) - 1


def test_both_ways_are_those_of_the_layer(key: jax.Array):
    layer = jaxrnn.stacked(jaxrnn.gru, 3, 4, num_layers=2, bidirectional=True)
    params, xs, lengths = jax.jit(layer.init)(key), jax.random.normal(key, (5, 2, 3)), np.array([5, 3])
    _, ys = jax.jit(layer.apply)(params, xs, lengths=lengths)
    units = both_ways(lambda size: jaxrnn.gru(size, 4), params, xs, lengths)
    assert list(units)[-4:] == [f"layer 2 backward {name}" for name in "runh"]
    ours = np.concatenate([units["layer 2 forward h"], units["layer 2 backward h"]], axis=1)
    np.testing.assert_allclose(ours, np.concatenate([ys[:5, 0], ys[:3, 1]]), rtol=1e-5, atol=1e-6)


def test_one_of_several_models_can_be_named(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    asked = []
    several = types.SimpleNamespace(
        Config=None,
        parts=lambda config, directory: ["good", "bad"],
        specimen=lambda config, directory, steps, part: asked.append(part) or made(),
    )
    monkeypatch.setattr(runs, "read_config", lambda *arguments: None)
    monkeypatch.setattr(interpret, "importlib", types.SimpleNamespace(import_module=lambda name: several))
    for part in (None, "bad"):
        interpret.specimen_of(dataclasses.replace(CONFIG, part=part), "made", tmp_path)
    assert asked == ["good", "bad"]
    with pytest.raises(runs.InputError, match="--part: expected one of good, bad, got 'worse'"):
        interpret.specimen_of(dataclasses.replace(CONFIG, part="worse"), "made", tmp_path)
    del several.parts
    with pytest.raises(runs.InputError, match="--part: expected none, since a run of made has one model"):
        interpret.specimen_of(dataclasses.replace(CONFIG, part="bad"), "made", tmp_path)


def test_what_can_be_looked_into_is_named(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    known = ["char_lm", "image_sequence", "long_memory", "sentiment", "transformer_or_rnn", "translation"]
    assert interpret.offering() == known
    with pytest.raises(runs.InputError, match=r"--of: expected one of char_lm, .*, got 'char_ml'"):
        interpret.find(interpret.Config(of="char_ml"))
    for without in ("gradient_flow", "textbook_gradients", "interpret"):
        for run in ("", "/one"):
            wanted = f"--of {without}{run}: {without} keeps no trained model to look into; expected one of char_lm, "
            with pytest.raises(runs.InputError, match=wanted):
                interpret.find(interpret.Config(of=without + run))
    with pytest.raises(runs.InputError, match=r"--of char_lm: no run has a model yet; make one, or add --train"):
        interpret.find(interpret.Config())
    made = runs.create("char_lm", "one")
    runs.write_json(made / "config.json", {})
    with pytest.raises(runs.InputError, match="no run has a model yet"):
        interpret.find(interpret.Config())
    (made / "best.safetensors").touch()
    assert interpret.find(interpret.Config()) == interpret.find(interpret.Config(of="char_lm/one"))
    assert interpret.find(interpret.Config())[1].name == "one"


@pytest.mark.parametrize("option", ["steps", "controls", "points", "seed"])
def test_an_option_out_of_range_is_named(option: str):
    with pytest.raises(runs.InputError, match=f"--{option}: expected at least"):
        dataclasses.replace(CONFIG, **{option: -1})
