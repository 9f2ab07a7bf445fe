"""Training in the directory of a run: the best parameters, early stopping, and going on where it stopped."""

import contextlib
import dataclasses
import math
import pathlib
import signal
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from experiments import runs
from experiments.training import Diverged, Training, best_params, independent, train

OPTIONS = Training(steps=12, learning_rate=0.5, evaluate_every=2, checkpoint_every=5, devices=1)


@pytest.fixture(autouse=True)
def _optimisers_promote():
    with jax.numpy_dtype_promotion("standard"):
        yield


def descend(directory: pathlib.Path, options: Training = OPTIONS, wanted: float = 1.0, **more: Any):
    """Minimise (w - 2)², and judge by (w - wanted)²."""
    return train(
        directory,
        options,
        lambda key: jnp.zeros(()),
        independent(lambda params, batch, key: (params - batch) ** 2),
        lambda step: jnp.array(2.0),
        rows=1,
        batch_axis=None,
        evaluate=lambda params: {"loss": (params - wanted) ** 2, "w": params},
        **more,
    )


def test_the_best_parameters_are_those_of_the_best_evaluation(tmp_path: pathlib.Path):
    seen = []
    trained = descend(tmp_path, on_evaluate=[lambda params, record: seen.append((float(params), record["step"]))])
    losses = [record["evaluation"]["loss"] for record in trained.records if "evaluation" in record]
    best = min(range(len(losses)), key=losses.__getitem__)
    assert [step for _, step in seen] == [2, 4, 6, 8, 10, 12]
    assert (float(trained.params), trained.step) == seen[best]
    assert trained.step < 12, "the optimum of the loss lies beyond that of the evaluation"
    assert trained.figures["loss"] == losses[best]
    assert float(best_params(tmp_path, jnp.zeros(()))) == float(trained.params)
    assert trained.parameters == 1


def test_it_ends_early_once_nothing_gets_better_and_stays_ended(tmp_path: pathlib.Path):
    options = dataclasses.replace(OPTIONS, steps=1000, patience=2)
    trained = descend(tmp_path, options)
    end = trained.records[-1]["step"]
    assert end == trained.step + 2 * options.evaluate_every
    again = descend(tmp_path, options)
    assert again.records == trained.records
    assert float(again.params) == float(trained.params)


def test_it_ends_once_a_figure_is_good_enough_and_stays_ended(tmp_path: pathlib.Path):
    options = dataclasses.replace(OPTIONS, steps=1000)
    trained = descend(tmp_path, options, wanted=2.0, enough=0.1)
    evaluations = [record["evaluation"]["loss"] for record in trained.records if "evaluation" in record]
    assert evaluations[-1] == trained.figures["loss"] <= 0.1 < min(evaluations[:-1])
    assert descend(tmp_path, options, wanted=2.0, enough=0.1).records == trained.records


def test_a_training_of_several_says_how_to_resume_the_run(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]):
    def interrupt(params: Any, record: dict[str, Any]) -> None:
        signal.raise_signal(signal.SIGINT)

    run = tmp_path / "elsewhere" / "name"
    run.mkdir(parents=True)
    runs.write_json(run / "config.json", {"experiment": "trial"})
    with pytest.raises(runs.Stopped):
        descend(run / "part" / "rate-1", on_evaluate=[interrupt])
    assert f"To resume: python -m experiments trial --resume {run}\n" in "".join(capsys.readouterr())


@pytest.mark.parametrize("ends", [{"steps": 12}, {"steps": 1000, "patience": 2}], ids=["all steps", "early"])
def test_a_run_stopped_as_its_training_ended_goes_on_after_it(tmp_path: pathlib.Path, ends: dict[str, Any]):
    options = dataclasses.replace(OPTIONS, **ends)
    once = descend(tmp_path / "whole", options)

    def interrupt(params: Any, record: dict[str, Any]) -> None:
        if record["step"] == once.records[-1]["step"]:
            signal.raise_signal(signal.SIGINT)

    run = tmp_path / "experiment" / "stopped"
    with pytest.raises(runs.Stopped):
        descend(run, options, on_evaluate=[interrupt])
    again = descend(run, options)
    assert [record["step"] for record in again.records] == [record["step"] for record in once.records]
    assert (float(again.params), again.figures["loss"]) == (float(once.params), once.figures["loss"])


def test_it_goes_on_where_it_stopped(tmp_path: pathlib.Path):
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    once = descend(whole)

    def cut(params: Any, record: dict[str, Any]) -> None:
        if record["step"] == 8:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        descend(halves, on_evaluate=[cut])
    twice = descend(halves)
    assert float(twice.params) == float(once.params)
    assert [record["step"] for record in twice.records] == [record["step"] for record in once.records]


def test_what_goes_wrong_is_said_in_words(tmp_path: pathlib.Path):
    with pytest.raises(runs.InputError, match=r"no model yet; continue it: python -m experiments .* --resume"):
        best_params(tmp_path, jnp.zeros(()))
    with pytest.raises(Diverged, match="begin a new run with a lower --learning-rate or --clip"):
        descend(tmp_path, dataclasses.replace(OPTIONS, learning_rate=1e30, clip=1e30))


def test_a_training_whose_figures_are_never_finite_has_no_model(tmp_path: pathlib.Path):
    for _ in range(2):  # it is the same when it is resumed
        with pytest.raises(Diverged, match=r"loss was not finite in any evaluation. To resume would only repeat it"):
            descend(tmp_path, wanted=math.inf)


def damage(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("name", ["best.safetensors", "checkpoint.safetensors"])
@pytest.mark.parametrize("harm", [damage, pathlib.Path.unlink])
@pytest.mark.parametrize("steps", [12, 7], ids=["finished", "stopped"])
def test_the_advice_for_files_that_were_harmed_leads_to_the_same_end(
    tmp_path: pathlib.Path, name: str, harm: Callable[[pathlib.Path], None], steps: int
):
    once, again = descend(tmp_path / "once"), tmp_path / "again"

    def cut(params: Any, record: dict[str, Any]) -> None:
        if record["step"] > steps:
            raise RuntimeError("power cut")

    with contextlib.suppress(RuntimeError):
        descend(again, on_evaluate=[cut])
    harm(again / name)
    if harm is damage or name == "best.safetensors":
        with pytest.raises(runs.InputError, match=r"To train anew, delete .*, then: python -m experiments") as raised:
            descend(again)
        files = str(raised.value).partition("delete ")[2].partition(", then")[0]
        for path in files.split(" and "):
            pathlib.Path(path).unlink()
    end = descend(again)
    assert float(end.params) == float(once.params)
    assert [record["step"] for record in end.records] == [record["step"] for record in once.records]


def test_best_parameters_that_are_damaged_are_told_of_where_they_are_asked_for(tmp_path: pathlib.Path):
    trained = descend(tmp_path)
    (tmp_path / "result.json").touch()
    damage(tmp_path / "best.safetensors")
    with pytest.raises(runs.InputError, match=r"damaged.* delete .* and .* and .*/result.json, then: python -m"):
        best_params(tmp_path, trained.params)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("steps", 0),
        ("evaluate_every", -1),
        ("checkpoint_every", 0),
        ("patience", 0),
        ("devices", 0),
        ("learning_rate", 0.0),
        ("clip", 0.0),
        ("weight_decay", -0.1),
        ("seed", -1),
        ("warmup", 1.0),
        ("learning_rate", math.nan),
    ],
)
def test_an_option_out_of_range_is_named(option: str, value: Any):
    with pytest.raises(runs.InputError, match=f"--{option.replace('_', '-')}: expected"):
        Training(**{option: value})
