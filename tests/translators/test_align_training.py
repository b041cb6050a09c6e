"""Training of stage 2: it lowers the loss, can be resumed, ignores unusable checkpoints, and stops early."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from alignment import random_pairs, settings, translator_for

from dyprag.adapters.samples import Sample
from dyprag.errors import DypragError, Interrupted
from dyprag.model.base import BaseModel, load_model
from dyprag.runtime import interruption
from dyprag.translators.align import Losses, Pair, alignment_loss, alignment_steps, split_pairs, train_translator
from dyprag.translators.hypernetwork import Translator


@pytest.fixture(scope="module")
def pairs(base: BaseModel) -> list[Pair]:
    return random_pairs(base)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_training_lowers_the_total(base: BaseModel, pairs: list[Pair], batch_size: int):
    translator, told = translator_for(base), []
    given = settings(epochs=10, batch_size=batch_size, learning_rate=3e-3)
    curve = train_translator(base, translator, pairs, given, lambda *step: told.append(step))
    epoch = len(curve) // 10
    first, last = (sum(losses.total for losses in part) / epoch for part in (curve[:epoch], curve[-epoch:]))
    assert last < 0.9 * first
    assert [step for step, _, _ in told] == list(range(1, len(curve) + 1))
    assert {steps for _, steps, _ in told} == {len(curve)}
    assert [losses for _, _, losses in told] == curve


def test_the_same_seed_gives_the_same_training(base: BaseModel, pairs: list[Pair]):
    curves = [train_translator(base, translator_for(base), pairs, settings(seed=seed)) for seed in (1, 1, 2)]
    assert curves[0] == curves[1] != curves[2]


class Stop(Exception):
    """Raised during training."""


def weights(translator: Translator) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in translator.state_dict().items()}


def stop_at(number: int) -> Callable[[int, int, Losses], None]:
    def on_step(step: int, steps: int, losses: Losses) -> None:
        if step == number:
            raise Stop

    return on_step


def test_a_stopped_training_ends_with_the_same_weights(
    base: BaseModel, pairs: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("dyprag.translators.training.CHECKPOINT_SECONDS", 0.0)  # after every step
    given = settings(epochs=3, validation=0.3, validate_every=2, patience=50)
    whole, broken = translator_for(base), translator_for(base)
    curve = train_translator(base, whole, pairs, given)
    with pytest.raises(Stop):
        train_translator(base, broken, pairs, given, stop_at(5), tmp_path / "state")
    fresh, steps = translator_for(base), []
    again = train_translator(base, fresh, pairs, given, lambda step, *_: steps.append(step), tmp_path / "state")
    assert steps[0] == 6
    assert again == curve
    for name, tensor in weights(whole).items():
        assert torch.equal(fresh.state_dict()[name], tensor)


def test_an_interrupted_training_loses_no_step(base: BaseModel, pairs: list[Pair], tmp_path: Path):
    given = settings(epochs=3, validation=0.3, validate_every=2, patience=50)  # no checkpoint is due within a minute
    whole = translator_for(base)
    curve = train_translator(base, whole, pairs, given)

    def interrupt(step: int, *_: object) -> None:
        if step == 5:
            interruption.interrupt(passing=True)

    try:
        with pytest.raises(Interrupted):
            train_translator(base, translator_for(base), pairs, given, interrupt, tmp_path / "state")
    finally:
        interruption.renew()
    fresh, steps = translator_for(base), []
    again = train_translator(base, fresh, pairs, given, lambda step, *_: steps.append(step), tmp_path / "state")
    assert steps[0] == 6
    assert again == curve
    for name, tensor in weights(whole).items():
        assert torch.equal(fresh.state_dict()[name], tensor)


def _train_until_killed(model: str, pairs: list[Pair], path: Path) -> None:
    import dyprag.translators.training

    dyprag.translators.training.CHECKPOINT_SECONDS = 0.0
    base = load_model(model, "float32", "cpu")

    def on_step(step: int, steps: int, losses: Losses) -> None:
        if step == 4:
            os.kill(os.getpid(), signal.SIGKILL)

    train_translator(base, translator_for(base), pairs, settings(epochs=2), on_step, path)


def test_a_killed_training_ends_with_the_same_weights(base: BaseModel, pairs: list[Pair], tmp_path: Path):
    process = multiprocessing.get_context("spawn").Process(
        target=_train_until_killed, args=(base.model.config._name_or_path, pairs, tmp_path / "state")
    )
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    whole, resumed, steps = translator_for(base), translator_for(base), []
    curve = train_translator(base, whole, pairs, settings(epochs=2))
    found = train_translator(
        base, resumed, pairs, settings(epochs=2), lambda step, *_: steps.append(step), tmp_path / "state"
    )
    assert steps[0] == 5
    assert [losses.total for losses in found] == pytest.approx([losses.total for losses in curve], rel=1e-6)
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(resumed.state_dict()[name], tensor, atol=1e-7, rtol=0)


@pytest.mark.parametrize("harm", ["truncated", "of another training", "of other documents", "in another format"])
def test_an_unusable_checkpoint_is_ignored(
    base: BaseModel, pairs: list[Pair], tmp_path: Path, harm: str, monkeypatch: pytest.MonkeyPatch, messages: list[str]
):
    monkeypatch.setattr("dyprag.translators.training.CHECKPOINT_SECONDS", 0.0)
    path, given = tmp_path / "state", settings()
    with pytest.raises(Stop):
        train_translator(base, translator_for(base), pairs, given, stop_at(3), path)
    if harm == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif harm == "of another training":
        given = settings(learning_rate=1e-4)
    elif harm == "of other documents":
        pairs = [replace(pair, embedding=pair.embedding + 1) for pair in pairs]
    else:
        base = load_model(base.model.config._name_or_path, "bfloat16", "cpu")
    steps: list[int] = []
    train_translator(base, translator_for(base), pairs, given, lambda step, *_: steps.append(step), path)
    assert steps[0] == 1
    assert any("from the beginning" in message for message in messages)


@pytest.mark.parametrize("rate", [1e4, 1e38])
def test_a_diverging_training_is_an_error_and_leaves_no_checkpoint(
    base: BaseModel, pairs: list[Pair], tmp_path: Path, rate: float, monkeypatch: pytest.MonkeyPatch
):
    """It may diverge in the middle, or at the only step, whose loss is still finite."""
    monkeypatch.setattr("dyprag.translators.training.CHECKPOINT_SECONDS", 0.0)
    given = settings(learning_rate=rate, epochs=20) if rate < 1e38 else settings(learning_rate=rate, batch_size=9)
    with pytest.raises(DypragError, match=r"Lower translator\.learning_rate"):
        train_translator(base, translator_for(base), pairs, given, checkpoint=tmp_path / "state")
    assert list(tmp_path.iterdir()) == []


def test_validation_uses_the_same_samples_per_document_as_training(
    base: BaseModel, pairs: list[Pair], monkeypatch: pytest.MonkeyPatch
):
    seen: list[Sample] = []
    real = alignment_loss

    def noted(base, translator, rows, samples, given):
        seen.extend(samples)
        return real(base, translator, rows, samples, given)

    monkeypatch.setattr("dyprag.translators.align.alignment_loss", noted)
    train_translator(base, translator_for(base), pairs, settings(samples="first", validation=0.3))
    assert all(any(sample is pair.samples[0] for pair in pairs) for sample in seen)
    assert len(seen) == 3


def test_training_stops_early_and_restores_the_best_weights(base: BaseModel, pairs: list[Pair]):
    given = settings(epochs=40, validation=0.3, validate_every=1, patience=3, learning_rate=0.3)
    translator, seen = translator_for(base), {}
    curve = train_translator(base, translator, pairs, given, lambda step, *_: seen.update({step: weights(translator)}))
    looks = [losses.validation for losses in curve]
    assert len(curve) < len(alignment_steps(pairs, given, split_pairs(3, given)[0]))
    best = looks.index(min(looks))
    assert len(looks) - 1 - best == 3
    for name, tensor in seen[best + 1].items():
        assert torch.equal(translator.state_dict()[name], tensor)


def test_validation_documents_are_not_trained_on_and_one_document_always_is():
    for count in (1, 2, 5, 40):
        kept, aside = split_pairs(count, settings(validation=0.9))
        assert sorted(kept + aside) == list(range(count))
        assert kept
    assert split_pairs(10, settings())[1] == []
    assert len(split_pairs(10, settings(validation=0.25))[1]) == 3
