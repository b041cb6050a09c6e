"""Training on documents with questions: it lowers the loss, can be resumed, and ignores unusable checkpoints."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TEXTS
from lessons import KINDS, LESSONS, given_settings, make

import dyprag.translators.training
from dyprag.corpora.documents import Document
from dyprag.errors import DypragError, Interrupted
from dyprag.model.base import BaseModel
from dyprag.runtime import interruption
from dyprag.translators.distil import calibration_prompts, learn
from dyprag.translators.lessons.lesson import Lesson


def test_documents_without_questions_are_an_error_that_says_what_to_set(base: BaseModel):
    silent = Lesson(LESSONS[0].document, ())
    assert len(calibration_prompts(base, [silent, LESSONS[1]])) == 2
    for lessons in ([], [silent]):
        with pytest.raises(DypragError, match=r"no documents with questions\. Raise learn\.closed or learn\.open"):
            calibration_prompts(base, lessons)
        with pytest.raises(DypragError, match="no documents with questions"):
            learn(base, make(base, given_settings()), lessons, given_settings())


def weights(translator: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in translator.state_dict().items()}


def alike(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize("kind", KINDS)
def test_training_lowers_the_loss_and_leaves_the_base_model_unchanged(lively: BaseModel, kind: str):
    settings = given_settings(kind=kind, steps=30, learning_rate=0.02)
    translator = make(lively, settings)
    frozen = weights(lively.model)
    curve = learn(lively, translator, LESSONS, settings)
    assert len(curve) == 30
    # the weights of the vocabulary projection are so small that no adapter gets far below 5.4
    assert sum(x.pred for x in curve[-3:]) / 3 < sum(x.pred for x in curve[:3]) / 3 - 0.15
    assert alike(frozen, weights(lively.model))
    assert not translator.training


def test_the_same_training_twice_gives_the_same_weights(base: BaseModel):
    settings = given_settings()
    first, second = make(base, settings), make(base, settings)
    assert learn(base, first, LESSONS, settings) == learn(base, second, LESSONS, settings)
    assert alike(weights(first), weights(second))


def test_a_lesson_without_pairs_is_skipped(base: BaseModel):
    settings = given_settings(steps=3)
    first, second = make(base, settings), make(base, settings)
    learn(base, first, LESSONS, settings)
    learn(base, second, [Lesson(Document("x", "Nothing is asked."), ()), *LESSONS], settings)
    assert alike(weights(first), weights(second))


class Stop(Exception):
    """Ends a training between two steps."""


def stop_at(wanted: int) -> Any:
    def on_step(step: int, losses: object) -> None:
        if step == wanted:
            raise Stop

    return on_step


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stopped", [1, 5])
def test_a_training_that_was_stopped_ends_with_the_same_weights(
    base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, stopped: int
):
    monkeypatch.setattr(dyprag.translators.training, "CHECKPOINT_SECONDS", 0)
    settings, checkpoint = given_settings(kind=kind, documents=2), tmp_path / "state"
    whole = make(base, settings)
    curve = learn(base, whole, LESSONS, settings)
    with pytest.raises(Stop):
        learn(base, make(base, settings), LESSONS, settings, stop_at(stopped), checkpoint)
    steps: list[int] = []
    again = make(base, settings)
    assert learn(base, again, LESSONS, settings, lambda step, _: steps.append(step), checkpoint) == curve
    assert steps == list(range(stopped + 1, settings.steps + 1))
    assert alike(weights(whole), weights(again))


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_training_loses_no_step(base: BaseModel, tmp_path: Path, kind: str):
    settings, checkpoint = given_settings(kind=kind, documents=2), tmp_path / "state"
    whole, again = make(base, settings), make(base, settings)
    curve = learn(base, whole, LESSONS, settings)  # no checkpoint is due within a minute

    def interrupt(step: int, _: Any) -> None:
        if step == 5:
            interruption.interrupt(passing=True)

    try:
        with pytest.raises(Interrupted):
            learn(base, make(base, settings), LESSONS, settings, interrupt, checkpoint)
    finally:
        interruption.renew()
    steps: list[int] = []
    assert learn(base, again, LESSONS, settings, lambda step, _: steps.append(step), checkpoint) == curve
    assert steps[0] == 6
    assert alike(weights(whole), weights(again))


@pytest.mark.parametrize("kind", KINDS)
def test_weights_do_not_depend_on_which_lessons_are_read_together(
    base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    """A resumed training reads lessons of very different lengths in other batches than the first one."""
    monkeypatch.setattr(dyprag.translators.training, "CHECKPOINT_SECONDS", 0)
    lessons = [
        Lesson(Document(str(n), " ".join(text.split()[n:] * (1 + n))), LESSONS[n % 3].pairs)
        for n, text in enumerate(itertools.chain.from_iterable([TEXTS.values()] * 4))
    ]
    settings = given_settings(kind=kind, documents=4, steps=12)
    whole, again = make(base, settings), make(base, settings)
    learn(base, whole, lessons, settings)
    with pytest.raises(Stop):
        learn(base, make(base, settings), lessons, settings, stop_at(3), tmp_path / "state")
    learn(base, again, lessons, settings, checkpoint=tmp_path / "state")
    assert alike(weights(whole), weights(again))


@pytest.mark.parametrize("changed", ["seed", "learning_rate", "lessons", "damage"])
def test_an_unusable_checkpoint_is_ignored(
    base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, messages: list[str], changed: str
):
    monkeypatch.setattr(dyprag.translators.training, "CHECKPOINT_SECONDS", 0)
    settings, checkpoint = given_settings(steps=4), tmp_path / "state"
    other = {"seed": {"seed": 1}, "learning_rate": {"learning_rate": 0.01}}.get(changed, {})
    theirs, lessons = given_settings(steps=4, **other), LESSONS[: 2 if changed == "lessons" else 3]
    with pytest.raises(Stop):
        learn(base, make(base, theirs), lessons, theirs, stop_at(2), checkpoint)
    if changed == "damage":
        checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    ours, plain = make(base, settings), make(base, settings)
    steps: list[int] = []
    learn(base, ours, LESSONS, settings, lambda step, _: steps.append(step), checkpoint)
    learn(base, plain, LESSONS, settings)
    assert steps == [1, 2, 3, 4]
    assert alike(weights(ours), weights(plain))
    assert sum("from the beginning" in message for message in messages) == 1


def test_checkpoints_are_not_written_more_often_than_once_a_minute(base: BaseModel, tmp_path: Path):
    settings = given_settings(steps=3)
    learn(base, make(base, settings), LESSONS, settings, checkpoint=tmp_path / "state")
    assert not (tmp_path / "state").exists()  # less than a minute has passed


@pytest.mark.parametrize("kind", KINDS)
def test_a_diverging_training_is_an_error_and_leaves_no_checkpoint(
    base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    monkeypatch.setattr(dyprag.translators.training, "CHECKPOINT_SECONDS", 0)
    settings = given_settings(kind=kind)
    translator = make(base, settings)

    def spoil(step: int, losses: object) -> None:
        if step == 2:
            next(translator.parameters()).data.fill_(float("nan"))

    with pytest.raises(DypragError, match=r"step 3[\s\S]*learn\.learning_rate"):
        learn(base, translator, LESSONS, settings, spoil, tmp_path / "state")
    assert not (tmp_path / "state").exists()
