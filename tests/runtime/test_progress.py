"""Progress: the steps of computations, and their display."""

import re
import threading
import time
from typing import Any

import pytest
from conftest import wait_for

from dyprag.adapters.embedding import embed
from dyprag.adapters.generation import Sampling, generate
from dyprag.adapters.samples import Sample
from dyprag.config import AugmentSettings, LoraSettings, ParametrizeSettings
from dyprag.corpora.documents import Document
from dyprag.flows import progress as shown
from dyprag.model.base import BaseModel
from dyprag.runtime import progress
from dyprag.runtime.batching import compute

DOCUMENTS = [Document(name, f"The {name} lamp was built in 1911 by Greta Olmsted.") for name in ("one", "two", "three")]


@pytest.fixture
def shares(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Collect the share that is done at every counted step."""
    found: list[float] = []
    advance = progress.Part.advance

    def noted(part: progress.Part, steps: float = 1.0) -> None:
        advance(part, steps)
        found.append(part.share)

    monkeypatch.setattr(progress.Part, "advance", noted)
    return found


def test_steps_and_phases_add_up_to_the_whole():
    with progress.part(4) as part:
        progress.phase(0.5, 10)
        progress.advance(5)
        assert part.share == pytest.approx(0.25)
        progress.advance(50)
        assert part.share == pytest.approx(0.5)  # a phase never exceeds its share
        progress.phase(0.5, 0)  # a phase without steps
        progress.advance()
        assert part.share == pytest.approx(1.0)
        assert progress.under_way() == [part]
    assert progress.under_way() == []
    progress.advance()  # outside any computation: no error


def test_a_nested_computation_is_not_reported():
    with progress.part(1, 10) as outer:
        with progress.part(5, 2) as inner:
            progress.advance()
            assert (inner.share, outer.share) == (0.5, 0.0)
            assert progress.under_way() == [outer]
        progress.advance()
    assert outer.share == pytest.approx(0.1)


def test_steps_on_the_compute_thread_count_only_for_the_waiting_caller():
    def work() -> None:
        progress.advance(3)

    with progress.part(1, 10) as part:
        compute(work)
    thread = threading.Thread(target=work)
    with progress.part(1, 10) as other:
        thread.start()
        thread.join()
    assert (part.share, other.share) == (pytest.approx(0.3), 0.0)


def test_generation_counts_every_prompt_once_however_early_it_ends(base: BaseModel, shares: list[float]):
    prompts = [[5, 9, 33], [7, 21], [8], [250, 14, 60, 61]]
    with progress.part(4, len(prompts)) as part:
        generate(base, prompts, Sampling(12), batch_size=2)
        assert part.share == pytest.approx(1.0)
        assert part.counted == pytest.approx(4)
    assert len(shares) > 4  # also within a batch
    assert shares == sorted(shares)
    with progress.part(3, 3) as part:
        embed(base, [d.text for d in DOCUMENTS])
        assert part.share == pytest.approx(1.0)


def test_training_and_augmentation_count_their_steps(base: BaseModel, shares: list[float], tmp_path: Any):
    from dyprag.adapters.parametrize import parametrize
    from dyprag.augmentation.local import LocalAugmenter

    samples = [[Sample([5, 9, 33, 70], 1)] * 6, [Sample([7, 7, 21], 1)] * 6]
    settings = ParametrizeSettings(
        learning_rate=1e-3, epochs=2, batch_size=1, samples="both", shuffle=False, documents=2
    )
    list(parametrize(base, samples, LoraSettings(rank=2), settings))
    assert shares == pytest.approx([step / 12 for step in range(1, 13)])
    shares.clear()
    augmenter = LocalAugmenter(base, AugmentSettings(rewrites=1, qa_pairs=2, least_pairs=1, max_new_tokens=8))
    for product in ("rewrites", "qa_pairs"):
        list(augmenter._numbered(product, DOCUMENTS))  # type: ignore[arg-type]
        assert len(shares) > 3
        assert shares == sorted(shares)
        assert shares[-1] > 0.6
        shares.clear()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, str]]:
    """Report without delays, and return the updates of the progress artifact."""
    monkeypatch.setattr(shown, "LINE_EVERY", 0.0)
    monkeypatch.setattr(shown, "MOVE_EVERY", 0.0)
    monkeypatch.setattr(shown, "LOOK_EVERY", 0.01)
    moves: list[tuple[float, str]] = []
    monkeypatch.setattr(shown, "progress", lambda *arguments: lambda percent, text: moves.append((percent, text)))
    return moves


def test_a_stage_logs_its_work_its_progress_and_its_duration(quick: list[tuple[float, str]], messages: list[str]):
    with shown.stage_progress("parametrize", 8, 40) as advance:
        with progress.part(4, 10):
            progress.advance(5)
            time.sleep(1.2)  # no rate is shown for less than a second of work
        advance(4, 1)
        wait_for("a line", lambda: any("4 of 8" in line for line in messages), 30)
        advance(4, 0)
    assert messages[0] == "parametrize: 8 documents to train, 40 cached"
    assert any(line.startswith("parametrize: 0 of 8 documents, 25 %") for line in messages)
    assert any(re.search(r", [\d.]+ a (second|minute), \d+ s left$", line) for line in messages)
    assert any(line.startswith("parametrize: 4 of 8 documents, 1 failed, 50 %") for line in messages)
    percents = [percent for percent, _ in quick]
    assert percents == sorted(percents)
    assert quick[-1][0] == 100
    assert quick[-1][1].startswith("parametrize: 8 of 8 documents in ")
    assert quick[-1][1].endswith(", 1 failed")


def test_progress_never_decreases_before_finished_work_is_recorded(quick: list[tuple[float, str]]):
    with shown.stage_progress("augment", 2) as advance:
        with progress.part(2, 1):
            progress.advance()
            time.sleep(0.1)
        time.sleep(0.1)  # the computation has ended, but its documents' tasks have not
        advance(2, 0)
    percents = [percent for percent, _ in quick]
    assert percents == sorted(percents)


def test_a_translator_shows_its_steps_and_unknown_totals_show_the_count(
    quick: list[tuple[float, str]], messages: list[str]
):
    from dyprag.tasks.work import training_progress

    with shown.stage_progress("train-translator", 1) as advance:
        with training_progress("L_align") as tell:
            tell(3, 12, 2.5)
            wait_for("a line", lambda: any("step 3 of 12" in line for line in messages), 30)
        advance(1, 0)
    assert "train-translator: 25 %, step 3 of 12, L_align 2.500" in messages
    assert quick[-1][1].startswith("train-translator: step 3 of 12, L_align 2.500, in ")
    with shown.stage_progress("ingest", None), progress.part(0):
        progress.advance(1203)
        time.sleep(0.1)
    assert "ingest: 1,203 documents read" in messages


def test_an_empty_stage_is_not_shown_and_errors_propagate(quick: list[tuple[float, str]], messages: list[str]):
    with shown.stage_progress("embed", 0, 7) as advance:
        advance(0, 0)
    assert (messages, quick) == ([], [])
    with pytest.raises(ZeroDivisionError), shown.stage_progress("embed", 3):
        raise ZeroDivisionError
    assert not any(thread.name == "dyprag-progress" for thread in threading.enumerate())
