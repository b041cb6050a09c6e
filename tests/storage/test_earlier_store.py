"""Every artifact in a store of an earlier version is found by its key, and nothing is made again."""

import tarfile
from pathlib import Path
from typing import Any

import pytest
from conftest import outcome

from dyprag.config import PipelineConfig
from dyprag.storage.artifacts import Store

# Made on 30 November 2026 with the code before the modules got their homes: a tiny random model, three documents, all
# methods and all controls. Without the catalogue, which is rebuilt from the artifacts.
EARLIER = Path(__file__).with_name("earlier_store.tar.gz")
METHODS = ["vanilla", "rag", "prag", "prag-combine", "dyprag", "dyprag-combine", "flare", "dragin"]


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_server")
def test_all_artifacts_of_an_earlier_versions_store_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dyprag.flows.pipeline import pipeline

    with tarfile.open(EARLIER) as archive:
        archive.extractall(tmp_path, filter="data")
    before = {(record.kind, record.key) for record in Store(str(tmp_path / "store")).records()}
    assert len(before) > 50
    settings: dict[str, Any] = {
        "store": str(tmp_path / "store"),
        "model": {"name": str(tmp_path / "model"), "dtype": "float32", "device": "cpu"},
        "corpus": {
            "documents": str(tmp_path / "documents.jsonl"), "questions": str(tmp_path / "questions.jsonl"),
            "held_out": 0.3,
        },
        "augment": {"qa_pairs": 2, "rewrites": 1, "max_new_tokens": 8},
        "parametrize": {"epochs": 1},
        "translator": {"width": 4, "epochs": 1},
        "evaluate": {
            "methods": METHODS, "controls": ["wrong", "mean", "generic", "zero"], "passages": 2, "max_new_tokens": 4,
            "batch_size": 2,
        },
        "run": {"retries": 0},
    }  # fmt: skip

    def never(*arguments: object) -> None:
        raise AssertionError("nothing is computed: all is there")

    monkeypatch.setattr("dyprag.model.base.load_model", never)
    monkeypatch.setattr("dyprag.tasks.worker.load_model", never)
    summaries = outcome(pipeline(PipelineConfig.model_validate(settings), return_state=True))
    made = {summary["stage"]: (summary["done"], summary["done"] - summary["cached"]) for summary in summaries}
    assert made == {
        "ingest": (3, 0), "augment": (3, 0), "parametrize": (3, 0), "embed": (3, 0), "train-translator": (1, 0),
        "evaluate": (38, 0),
    }  # fmt: skip
    assert {(record.kind, record.key) for record in Store(settings["store"]).records()} == before
