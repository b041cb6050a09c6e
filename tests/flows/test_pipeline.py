"""The flows on a real Prefect server with a tiny model: artifacts, caching, failures and retries."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TEXTS, outcome, save_official_translator, write_jsonl

from dyprag.config import PipelineConfig
from dyprag.errors import ConfigError, StoreError
from dyprag.model.base import load_model
from dyprag.storage.artifacts import Record, Store
from dyprag.storage.catalogue import Catalogue
from dyprag.tasks import augment as tasks
from dyprag.tasks.worker import worker_of
from dyprag.translators.protocol import load_translator

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("prefect_server")]

ARTIFACTS = {"corpus": 1, "rewrites": 3, "qa_pairs": 3, "adapter": 3, "embedding": 3, "translator": 1, "prediction": 6}


def run_pipeline(settings: dict[str, Any], **changes: Any) -> dict[str, dict[str, int]]:
    """Run the pipeline. Returns the stages' summaries by name."""
    from dyprag.flows.pipeline import pipeline

    state = pipeline(PipelineConfig.model_validate({**settings, **changes}), return_state=True)
    return {summary["stage"]: summary for summary in outcome(state)}


def run_until(last: str, settings: dict[str, Any]) -> dict[str, dict[str, int]]:
    """Run the stages up to the given one. Returns their summaries by name."""
    from dyprag.flows.augment import augment
    from dyprag.flows.ingest import ingest
    from dyprag.flows.parametrize import parametrize

    config, summaries = PipelineConfig.model_validate(settings), []
    for flow in (ingest, augment, parametrize):
        summaries += outcome(flow(config, return_state=True))
        if summaries[-1]["stage"] == last:
            break
    return {summary["stage"]: summary for summary in summaries}


def made(summaries: dict[str, dict[str, int]]) -> dict[str, int]:
    """Number of units that were worked on, by stage."""
    return {stage: summary["done"] - summary["cached"] for stage, summary in summaries.items()}


def artifacts(settings: dict[str, Any]) -> dict[str, int]:
    store = Store(settings["store"])
    counts = dict.fromkeys(ARTIFACTS, 0)
    for record in store.records():
        assert store.find(record.kind, record.key) == record  # none damaged
        counts[record.kind] += 1
    return counts


def test_a_run_makes_every_artifact_and_a_second_run_makes_nothing(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, messages: list[str]
):
    first = run_pipeline(settings)
    assert made(first) == {
        "ingest": 3, "augment": 3, "parametrize": 3, "embed": 3, "train-translator": 1, "evaluate": 6,
    }  # fmt: skip
    assert artifacts(settings) == ARTIFACTS

    def never(*arguments: object) -> None:
        raise AssertionError("the second run loads no model: it trains nothing and generates nothing")

    monkeypatch.setattr("dyprag.tasks.worker.load_model", never)
    worker_of(PipelineConfig.model_validate(settings)).close()
    second = run_pipeline(settings)
    assert set(made(second).values()) == {0}
    assert artifacts(settings) == ARTIFACTS
    assert any(message.startswith("augment: 3 in all: 3 cached, 0 made") for message in messages)
    assert "parametrize: 3 in all: 3 cached, 0 made" in messages


def test_changing_the_rank_repeats_adapters_and_later_stages_but_not_the_augmentation(settings: dict[str, Any]):
    run_pipeline(settings)
    changed = made(run_pipeline(settings, lora={"rank": 3}))
    assert changed == {
        "ingest": 0, "augment": 0, "parametrize": 3, "embed": 0, "train-translator": 1, "evaluate": 4,
    }  # fmt: skip


def test_an_official_translator_is_used_instead_of_training_one(tmp_path: Path, settings: dict[str, Any]):
    """No document needs an adapter then, and all documents count as unseen."""
    from dyprag.flows.evaluate import evaluate
    from dyprag.flows.ingest import ingest
    from dyprag.flows.train_translator import train_translator

    base = load_model(settings["model"]["name"], "float32", "cpu")
    networks = save_official_translator(tmp_path / "epoch_0.pt", base, 2)
    config = PipelineConfig.model_validate({
        **settings, "preset": "official", "translator": {"official": str(tmp_path / "epoch_0.pt")},
        "evaluate": {"methods": ["vanilla", "dyprag"], "max_new_tokens": 4, "controls": []},
    })  # fmt: skip
    for flow in (ingest, train_translator, evaluate):
        assert flow(config, return_state=True).is_completed()
    store = Store(settings["store"])
    (record,) = (r for r in store.records() if r.kind == "translator")
    stored = load_translator(store.folder("translator", record.key), base)
    assert torch.equal(stored.up["gate_proj_a"][1], networks["gate_proj_1"].projector.post_A_linear.weight)
    rows = {(row["method"], row["split"]): row["questions"] for row in Catalogue(store).results()}
    assert rows == {("vanilla", "all"): 3, ("dyprag", "all"): 3}
    assert {row["split"] for row in Catalogue(store).scores(Catalogue(store).results()[0]["run_id"])} == {"unseen"}
    again = outcome(train_translator(config, return_state=True))
    assert [summary["cached"] for summary in again] == [3, 1]
    (tmp_path / "epoch_0.pt").unlink()
    with pytest.raises(ConfigError, match=r"epoch_0\.pt cannot be read"):
        train_translator(config)


def test_a_document_whose_training_diverges_fails_alone_with_the_remedy(settings: dict[str, Any]):
    settings["parametrize"]["learning_rate"] = 1e38
    summaries = run_until("parametrize", settings)
    assert (summaries["parametrize"]["failed"], summaries["parametrize"]["done"]) == (3, 0)
    failures = Catalogue(Store(settings["store"])).query("SELECT document_id, error FROM failures")
    assert {row["document_id"] for row in failures} == set(TEXTS)
    assert all("Lower parametrize.learning_rate" in row["error"] for row in failures)


def test_the_report_and_the_catalogue_contain_the_results(settings: dict[str, Any]):
    run_pipeline(settings)
    catalogue = Catalogue(Store(settings["store"]))
    rows = catalogue.query("SELECT method, split, questions, f1, f1_low, f1_high FROM results")
    assert {row["method"] for row in rows} == {
        "vanilla", "rag", "prag", "prag-combine", "dyprag", "dyprag-combine",
    }  # fmt: skip
    assert {row["split"] for row in rows} == {"all", "seen", "unseen"}
    assert all(row["f1_low"] <= row["f1"] <= row["f1_high"] for row in rows)
    latest = Path(settings["store"]) / "reports" / "latest"
    assert "vanilla" in (latest / "report.md").read_text()
    assert "<html" in (latest / "report.html").read_text()


def test_a_document_without_text_fails_alone(tmp_path: Path, settings: dict[str, Any]):
    rows = [{"id": "hollow", "text": " "}, *({"id": i, "text": text} for i, text in TEXTS.items())]
    settings["corpus"]["documents"] = write_jsonl(tmp_path / "docs.jsonl", rows)
    summaries = run_pipeline(settings)
    assert summaries["ingest"]["failed"] == 1
    assert summaries["parametrize"]["done"] == 3
    failure = Catalogue(Store(settings["store"])).query("SELECT * FROM failures")[0]
    assert (failure["document_id"], failure["stage"]) == ("hollow", "ingest")
    assert failure["error"] == "document 'hollow': it has no text. Add text to it, or remove it."


def test_a_document_longer_than_the_context_fails_alone_and_only_it_is_retried(
    tmp_path: Path, settings: dict[str, Any]
):
    rows = [{"id": "endless", "text": "On and on it went. " * 2000}, *({"id": i, "text": t} for i, t in TEXTS.items())]
    settings["corpus"]["documents"] = write_jsonl(tmp_path / "docs.jsonl", rows)
    settings["corpus"]["questions"] = None
    first = run_pipeline(settings)
    assert (first["augment"]["failed"], first["augment"]["done"]) == (1, 3)
    assert (first["parametrize"]["waiting"], first["parametrize"]["done"]) == (1, 3)
    failure = Catalogue(Store(settings["store"])).query("SELECT * FROM failures")[0]
    assert failure["error_type"] == "DocumentTooLong"
    assert "document 'endless'" in failure["error"]
    assert "Split it into shorter passages." in failure["error"]
    second = run_pipeline(settings)
    assert made(second)["augment"] == 0
    assert (second["augment"]["cached"], second["augment"]["failed"]) == (3, 1)


def test_a_flow_with_failures_ends_in_a_failed_state_with_its_counts(tmp_path: Path, settings: dict[str, Any]):
    from dyprag.flows.ingest import ingest

    settings["corpus"]["documents"] = write_jsonl(
        tmp_path / "docs.jsonl", [{"id": "a", "text": ""}, {"id": "b", "text": "x"}]
    )
    settings["corpus"]["questions"] = None
    config = PipelineConfig.model_validate(settings)
    state = ingest(config, return_state=True)
    assert (state.type.value, state.name) == ("FAILED", "CompletedWithFailures")
    assert "1 failed" in (state.message or "")
    assert [(one["done"], one["failed"]) for one in outcome(state)] == [(1, 1)]
    strict = config.model_copy(update={"run": config.run.model_copy(update={"on_failures": "fail"})})
    state = ingest(strict, return_state=True)
    assert (state.type.value, state.name) == ("FAILED", "Failed")
    assert [(one["done"], one["failed"]) for one in outcome(state)] == [(1, 1)]


def test_a_document_that_exceeds_the_memory_fails_alone(
    tmp_path: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    from dyprag.adapters import parametrize as training

    measured, heavy_tokens = training.document_losses, 300

    def losses(base: Any, adapters: Any, batches: Any, *arguments: Any) -> Any:
        if max(len(sample.ids) for batch in batches for sample in batch) > heavy_tokens:
            torch.empty(2**50, dtype=torch.uint8)  # more than any machine has: PyTorch's own error
        return measured(base, adapters, batches, *arguments)

    long_text = " ".join(f"The Ostrel lamp number {n} was built in {1800 + n} by Greta Olmsted." for n in range(50))
    rows = [{"id": "heavy", "text": long_text}, *({"id": i, "text": text} for i, text in TEXTS.items())]
    settings["corpus"] |= {"documents": write_jsonl(tmp_path / "docs.jsonl", rows), "questions": None}
    with monkeypatch.context() as limited:
        limited.setattr(training, "document_losses", losses)
        summary = run_until("parametrize", settings)["parametrize"]
    assert (summary["failed"], summary["done"]) == (1, 3)
    failure = Catalogue(Store(settings["store"])).query("SELECT * FROM failures")[0]
    assert (failure["document_id"], failure["error_type"]) == ("heavy", "OutOfMemory")
    assert "use a machine with more memory" in failure["error"]
    again = run_until("parametrize", settings)["parametrize"]
    assert (again["cached"], again["done"], again["failed"]) == (3, 4, 0)


def test_transient_errors_are_retried_and_faulty_documents_are_not(
    tmp_path: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    from dyprag.flows.augment import augment
    from dyprag.flows.ingest import ingest

    rows = [{"id": "endless", "text": "On and on it went. " * 2000}, {"id": "lamp", "text": TEXTS["lamp"]}]
    settings["corpus"] = {"documents": write_jsonl(tmp_path / "docs.jsonl", rows)}
    settings["run"] = {"retries": 2, "retry_delay": 0.1}
    config = PipelineConfig.model_validate(settings)
    ingest(config)
    obstacle = Path(settings["store"]) / "qa_pairs"
    obstacle.write_text("a file where the store wants a folder")
    attempts = "SELECT document_id, attempts, error_type FROM failures ORDER BY document_id"
    augment(config, return_state=True)  # without, failed documents raise Incomplete
    assert Catalogue(Store(settings["store"])).query(attempts) == [
        {"document_id": "endless", "attempts": 1, "error_type": "DocumentTooLong"},
        {"document_id": "lamp", "attempts": 3, "error_type": "StoreError"},
    ]

    def store_or_mend(*arguments: Any) -> Record:
        try:
            return store_product(*arguments)
        except StoreError:
            obstacle.unlink()
            raise

    store_product = tasks._store
    monkeypatch.setattr(tasks, "_store", store_or_mend)
    summary = outcome(augment(config, return_state=True))[0]
    assert (summary["done"], summary["failed"]) == (1, 1)
    work = Catalogue(Store(settings["store"])).query("SELECT attempts FROM latest_work WHERE document_id = 'lamp'")
    assert any(row["attempts"] > 1 for row in work)


def test_a_damaged_artifact_is_made_again_and_nothing_else(settings: dict[str, Any], messages: list[str]):
    run_pipeline(settings)
    for kinds in (("rewrites", "adapter"), ("qa_pairs", "translator"), ("prediction",)):
        messages.clear()
        for kind in kinds:
            victim = next(record for record in Store(settings["store"]).records() if record.kind == kind)
            path = next(p for p in Store(settings["store"]).folder(kind, victim.key).iterdir() if p.suffix != ".json")
            os.truncate(path, path.stat().st_size // 2)
        again = made(run_pipeline(settings))
        for kind in kinds:
            assert any(kind in message and "missing or truncated" in message for message in messages), kind
        assert sorted(again.values()) == [*[0] * (6 - len(kinds)), *[1] * len(kinds)]
        assert artifacts(settings) == ARTIFACTS, kinds


def test_task_runs_are_named_after_their_documents_and_a_failure_shows_in_the_ui(
    tmp_path: Path, settings: dict[str, Any]
):
    import asyncio

    from prefect import get_client
    from prefect.client.schemas.filters import FlowRunFilter

    from dyprag.flows.augment import augment
    from dyprag.flows.ingest import ingest

    rows = [{"id": "endless", "text": "On and on it went. " * 2000}, {"id": "lamp", "text": TEXTS["lamp"]}]
    settings["corpus"] = {"documents": write_jsonl(tmp_path / "docs.jsonl", rows)}
    config = PipelineConfig.model_validate(settings)
    ingest(config)
    state = augment(config, return_state=True)

    async def read() -> tuple[dict[str, str], list[Any]]:
        async with get_client() as client:
            of_run = FlowRunFilter.model_validate({"id": {"any_": [state.state_details.flow_run_id]}})
            for _ in range(50):  # the server takes task runs in behind the flow
                tasks = await client.read_task_runs(flow_run_filter=of_run)
                found = {task.name: task.state_name or "" for task in tasks}
                if set(found.values()) <= {"Completed", "Failed"} and len(found) == 2:
                    break
                await asyncio.sleep(0.2)
            tables = await client.read_artifacts(flow_run_filter=of_run)
            return found, tables

    found, tables = asyncio.run(read())
    assert found == {"augment lamp": "Completed", "augment endless": "Failed"}
    table = next(artifact for artifact in tables if artifact.key == "augment-failures")
    assert json.loads(str(table.data))[0]["document"] == "endless"
