"""Learning a translator and measuring recall: the flow on a Prefect server with a tiny model, and the figures."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import outcome

from dyprag.config import PipelineConfig
from dyprag.corpora.documents import Document, QAPair
from dyprag.errors import ConfigError
from dyprag.evaluation.recall import measure
from dyprag.evaluation.recall.benchmark import (
    BEFORE_AND_AFTER,
    BROAD,
    CONDITIONS,
    GUARDS,
    Asked,
    Recalled,
    questions_of,
    recall_bands,
    training_lessons,
    wrong_lessons,
)
from dyprag.evaluation.recall.card import recall_table
from dyprag.evaluation.recall.measure import Asking, Measurer
from dyprag.evaluation.recall.summaries import summarise
from dyprag.methods import gate
from dyprag.methods.gate import Gate
from dyprag.model.base import BaseModel, load_model
from dyprag.model.prompts import PLAIN
from dyprag.storage.artifacts import Store
from dyprag.storage.catalogue import Catalogue
from dyprag.translators.hypernetwork import Translator
from dyprag.translators.lessons.lesson import Lesson
from dyprag.translators.protocol import fresh_translator, load_translator

LEARN = {
    "closed": 6, "open": 6, "steps": 3, "documents": 2, "questions": 2, "rank": 2, "alpha": 2, "first_layer": 1,
    "sources": 1, "width": 8, "heads": 2, "blocks": 1,
}  # fmt: skip
RECALL = {"closed": 2, "open": 2, "everyday": 1, "questions": 1, "parametrized": 1}
MEASURED = 2 * len(CONDITIONS) + len(BROAD) + len(GUARDS) * 2 * len(BEFORE_AND_AFTER)


def learned(settings: dict[str, Any], **changes: Any) -> dict[str, dict[str, Any]]:
    """Run the flow. Returns the stages' summaries by name."""
    from dyprag.flows.learn import learn

    config = PipelineConfig.model_validate({**settings, "learn": {**LEARN, **changes}, "recall": RECALL})
    return {summary["stage"]: summary for summary in outcome(learn(config, return_state=True))}


def made(summaries: dict[str, dict[str, Any]]) -> dict[str, int]:
    return {stage: summary["done"] - summary["cached"] for stage, summary in summaries.items()}


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_server")
class TestFlow:
    def test_a_translator_is_learned_measured_and_written_once(self, settings: dict[str, Any], tmp_path: Path):
        output = tmp_path / "translator"
        assert made(learned(settings, output=str(output))) == {"learn": 1, "recall": MEASURED}
        assert made(learned(settings, output=str(output))) == {"learn": 0, "recall": 0}
        base = load_model(settings["model"]["name"], "float32", "cpu")
        stored = {record.kind: record for record in Store(settings["store"]).records()}
        assert stored["translator"].measures["steps"] == 3
        whole = load_translator(Store(settings["store"]).open("translator", stored["translator"].key), base)
        packed = load_translator(output, base)
        for name, tensor in packed.state_dict().items():
            torch.testing.assert_close(tensor, whole.state_dict()[name], atol=1e-2, rtol=1e-2)
        card = (output / "README.md").read_text()
        assert "wrong document" in card
        assert "learning_rate" in card
        assert str(tmp_path) not in card

    def test_other_settings_learn_another_translator_and_repeat_only_its_measurements(self, settings: dict[str, Any]):
        learned(settings)
        again = made(learned(settings, learning_rate=1e-4))
        translated = ("own", "wrong", "mean", "beside", "beside-wrong")
        assert again == {"learn": 1, "recall": 2 * len(translated) + len(translated) - 1 + len(GUARDS) * 2}

    def test_another_combine_strength_repeats_only_the_measurements_with_passages(self, settings: dict[str, Any]):
        learned(settings)
        again = made(learned(settings | {"evaluate": {**settings["evaluate"], "combine_strength": 0.5}}))
        assert again == {"learn": 0, "recall": 3 * len(("beside", "beside-wrong")) + len(GUARDS)}

    def test_a_translator_can_start_from_the_weights_of_another(self, settings: dict[str, Any], tmp_path: Path):
        output = tmp_path / "translator"
        learned(settings, output=str(output))
        assert made(learned(settings, start=str(output)))["learn"] == 1
        assert made(learned(settings, start=str(output)))["learn"] == 0
        learned(settings, learning_rate=1e-4, output=str(output))
        assert made(learned(settings, start=str(output)))["learn"] == 1  # the folder holds other weights now

    def test_the_papers_hypernetwork_learns_from_the_same_lessons(self, settings: dict[str, Any]):
        assert made(learned(settings, kind="hypernetwork"))["learn"] == 1
        (record,) = (r for r in Store(settings["store"]).records() if r.kind == "translator")
        folder = Store(settings["store"]).folder("translator", record.key)
        assert isinstance(load_translator(folder, load_model(settings["model"]["name"], "float32", "cpu")), Translator)

    def test_with_a_learned_translator_the_pipeline_trains_nothing(self, settings: dict[str, Any], tmp_path: Path):
        from dyprag.flows.pipeline import pipeline

        output = tmp_path / "translator"
        learned(settings, output=str(output))
        config = PipelineConfig.model_validate({
            **settings, "translator": {"learned": str(output)},
            "evaluate": {"methods": ["vanilla", "dyprag", "dyprag-combine"], "max_new_tokens": 4, "passages": 1,
                         "controls": ["wrong"]},
        })  # fmt: skip
        assert pipeline(config, return_state=True).is_completed()
        kinds = {record.kind for record in Store(settings["store"]).records()}
        assert not {"rewrites", "qa_pairs", "adapter", "embedding"} & kinds
        methods = {row["method"] for row in Catalogue(Store(settings["store"])).results()}
        assert {"vanilla", "dyprag", "dyprag-combine", "dyprag-wrong"} <= methods


def test_a_missing_learned_translator_is_a_settings_error(settings: dict[str, Any]):
    from dyprag.tasks.planning.sources import given_checksum

    config = PipelineConfig.model_validate({**settings, "translator": {"learned": "nowhere"}})
    with pytest.raises(ConfigError, match="nowhere"):
        given_checksum(config)


def lesson(number: int, answer: str) -> Lesson:
    text = f"The lamp of Name{number} is {answer}."
    return Lesson(Document(str(number), text), (QAPair(f"What is the lamp of Name{number}?", answer, text),))


def test_a_wrong_document_never_contains_the_answer():
    lessons = [lesson(number, "red" if number % 2 else "blue") for number in range(12)]
    asked = questions_of("closed", lessons, None, 4)
    for question, place in zip(asked, wrong_lessons(lessons, asked), strict=True):
        assert place != question.lesson
        assert question.answers[0] not in lessons[place].document.text


def test_test_documents_are_not_training_documents():
    config = PipelineConfig.model_validate({"learn": {"closed": 300, "open": 300}})
    bands = recall_bands(config.recall, None)
    trained = {x.document.text for x in training_lessons(config.learn)}
    questions = {pair.question for x in training_lessons(config.learn) for pair in x.pairs}
    for lessons in bands.values():
        assert not trained & {x.document.text for x in lessons}
        assert not questions & {pair.question for x in lessons for pair in x.pairs}


def test_specific_recall_is_own_minus_wrong_over_the_same_questions():
    asked = [Asked("closed", 0, str(n), ("x",)) for n in range(4)]
    rows = [Recalled(q, "own", "x", True, 1.0) for q in asked]
    rows += [Recalled(q, "wrong", "x", n == 0, 0.5) for n, q in enumerate(asked)]
    (summary,) = summarise(rows)
    assert summary.presence == {"own": 100.0, "wrong": 25.0}
    assert summary.specific is not None
    assert summary.specific.difference == 75.0
    table = recall_table([summary])
    assert "| 100.0 | 25.0 | **+75.0 [+25.0, +100.0]** |  |  |" in table


def test_each_condition_injects_the_adapter_it_names(lively: BaseModel):
    """No adapter and the passage's prompt differ from own; the mean is the mean of deltas of training documents."""
    config = PipelineConfig.model_validate({"learn": LEARN, "recall": RECALL}).resolved()
    lessons = training_lessons(config.learn)
    base = lively
    translator = fresh_translator(base, config.learn, [base.tokenizer(x.document.text)["input_ids"] for x in lessons])
    with torch.no_grad():
        translator.gains.fill_(10.0)  # 50 drown the text: all adapters say the same
    measurer = Measurer(
        base,
        translator,
        lessons,
        config.lora,
        config.parametrize,
        config.recall,
        None,
        replace(Asking.of(config.evaluate), form=PLAIN, combine_strength=1.0, gate=None),
    )
    band = recall_bands(config.recall, None)["closed"]
    answers = {
        condition: tuple(row.answer for row in measurer.measure("closed", band, condition))
        for condition in ("own", "wrong", "mean", "zero", "passage", "beside")
    }
    assert answers["own"] != answers["zero"]
    assert answers["own"] != answers["wrong"]
    assert answers["passage"] != answers["zero"]
    assert answers["beside"] not in (answers["passage"], answers["own"])
    none = replace(measurer, asking=replace(measurer.asking, strength=0.0, combine_strength=0.0))
    for condition, plain in (("own", "zero"), ("beside", "passage")):
        assert tuple(row.answer for row in none.measure("closed", band, condition)) == answers[plain]
    assert len(measurer.measure("closed", band, "parametrized")) == 1


def test_where_the_gate_leaves_an_adapter_out_the_passage_alone_answered_already(
    lively: BaseModel, monkeypatch: pytest.MonkeyPatch
):
    config = PipelineConfig.model_validate({"learn": LEARN, "recall": RECALL}).resolved()
    lessons = training_lessons(config.learn)
    prompts = [lively.tokenizer(x.document.text)["input_ids"] for x in lessons]
    translator = fresh_translator(lively, config.learn, prompts)
    with torch.no_grad():
        translator.gains.fill_(10.0)
    asking = replace(Asking.of(config.evaluate), form=PLAIN, combine_strength=1.0, gate=Gate(1.0))
    settings = (config.lora, config.parametrize, config.recall, None)
    measurer = Measurer(lively, translator, lessons, *settings, asking)
    always = Measurer(lively, translator, lessons, *settings, replace(asking, gate=None))
    band = recall_bands(config.recall, None)["closed"]
    passage, adapted = (m.measure("closed", band, c) for m, c in ((measurer, "passage"), (always, "beside")))
    kept = {each.asked.question for each in passage[::2]}

    def probed(base: BaseModel, adapters: Any, questions: Any, passages: Any, gate: Gate) -> Any:
        return [adapter if question in kept else None for adapter, question in zip(adapters, questions, strict=True)]

    asked, real = [], measure.generate
    monkeypatch.setattr(measure, "borne_out", probed)
    monkeypatch.setattr(
        measure, "generate", lambda b, prompts, *a, **k: asked.extend(prompts) or real(b, prompts, *a, **k)
    )
    beside = measurer.measure("closed", band, "beside")
    assert [each.asked for each in beside] == [each.asked for each in passage]
    assert {each.condition for each in beside} == {"beside"}
    expected = [
        (one if one.asked.question in kept else other).answer for one, other in zip(adapted, passage, strict=True)
    ]
    assert [each.answer for each in beside] == expected
    assert len(asked) == len(kept) < len(passage)
    assert expected not in ([each.answer for each in adapted], [each.answer for each in passage])


def test_the_gate_looks_up_what_the_adapter_said_without_the_passage(
    lively: BaseModel, monkeypatch: pytest.MonkeyPatch
):
    config = PipelineConfig.model_validate({"learn": LEARN, "recall": RECALL}).resolved()
    lessons = training_lessons(config.learn)
    prompts = [lively.tokenizer(x.document.text)["input_ids"] for x in lessons]
    translator = fresh_translator(lively, config.learn, prompts)
    with torch.no_grad():
        translator.gains.fill_(10.0)
    asking = replace(Asking.of(config.evaluate), form=PLAIN, strength=1.0, combine_strength=0.5, gate=Gate(2.0))
    settings = (config.lora, config.parametrize, config.recall, None)
    band = recall_bands(config.recall, None)["closed"]
    looked_up: list[tuple[str, str, list[str]]] = []

    def noted(text: str, question: str, passages: list[str]) -> bool:
        looked_up.append((text, question, passages))
        return len(question) % 2 == 0

    monkeypatch.setattr(measure, "stands_in", noted)
    monkeypatch.setattr(gate, "stands_in", noted)
    found = []
    for before in ((), ("own",), ("zero",)):
        measurer = Measurer(lively, translator, lessons, *settings, asking)
        for condition in before:
            measurer.measure("closed", band, condition)
        probes: list[int] = []
        real = gate.generate
        monkeypatch.setattr(gate, "generate", lambda b, asked, *a, **k: probes.extend(asked) or real(b, asked, *a, **k))  # noqa: B023
        looked_up.clear()
        beside = [each.answer for each in measurer.measure("closed", band, "beside")]
        found.append((beside, sorted(looked_up), len(probes)))
        monkeypatch.setattr(gate, "generate", real)
    without, after_own, after_zero = found
    assert without[:2] == after_own[:2] == after_zero[:2]
    assert len(without[1]) == without[2] == after_zero[2] > after_own[2]


@pytest.mark.parametrize(("kept_bytes", "readings"), [(2**30, 1), (0, 3)])
def test_a_document_is_translated_once_for_all_conditions_if_its_adapter_can_be_kept(
    lively: BaseModel, monkeypatch: pytest.MonkeyPatch, kept_bytes: int, readings: int
):
    monkeypatch.setattr(measure, "KEPT_BYTES", kept_bytes)
    config = PipelineConfig.model_validate({"learn": LEARN, "recall": RECALL}).resolved()
    band = recall_bands(config.recall, None)["closed"]
    translator = fresh_translator(
        lively, config.learn, [lively.tokenizer(x.document.text)["input_ids"] for x in training_lessons(config.learn)]
    )
    read: list[str] = []
    original = translator.read
    monkeypatch.setattr(translator, "read", lambda base, texts: (read.extend(texts), original(base, texts))[1])
    measurer = Measurer(lively, translator, (), config.lora, config.parametrize, config.recall, None,
                        Asking.of(config.evaluate))  # fmt: skip
    for condition in ("own", "own", "own"):
        measurer.measure("closed", band, condition)
    assert sorted(read) == sorted(readings * [lesson.document.passage for lesson in band])
