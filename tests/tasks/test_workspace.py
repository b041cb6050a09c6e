"""A workspace: a configuration and its store, opened for reading."""

from pathlib import Path

import pytest
from conftest import TEXTS, write_jsonl

from dyprag.config import PipelineConfig
from dyprag.errors import CorpusError, DypragError, StoreError
from dyprag.storage.artifacts import Record
from dyprag.storage.catalogue import Catalogue
from dyprag.storage.tables import write_corpus
from dyprag.tasks.ingest import read_location
from dyprag.tasks.planning.plan import Plan
from dyprag.tasks.planning.sources import corpus_settings, note_latest_of_location
from dyprag.tasks.workspace import Workspace


@pytest.fixture
def config(tmp_path: Path, tiny_model: str) -> PipelineConfig:
    """A configuration with three documents that are not ingested."""
    documents = write_jsonl(tmp_path / "docs.jsonl", [{"id": name, "text": text} for name, text in TEXTS.items()])
    return PipelineConfig.model_validate({
        "store": str(tmp_path / "store"), "corpus": {"documents": str(documents)}, "model": {"name": tiny_model},
    })  # fmt: skip


def ingest(config: PipelineConfig) -> str:
    """Store the corpus as the flow does. Returns its key."""
    workspace, corpus = Workspace(config, writes=True), read_location(config)
    key = Plan(workspace.config, corpus).corpus_key
    record = Record("corpus", key, [], {"location": "docs"})
    workspace.store.write(record, lambda folder: write_corpus(folder, corpus))
    note_latest_of_location(workspace.store, "corpus", corpus_settings(workspace.config), key)
    return key


def test_the_workspace_opens_the_last_ingested_corpus(config: PipelineConfig):
    key = ingest(config)
    workspace = Workspace(config)
    assert workspace.corpus_key == key
    assert [document.id for document in workspace.corpus.documents] == list(TEXTS)
    assert workspace.document("lamp").text == TEXTS["lamp"]
    assert [hit.document.id for hit in workspace.passages.search("Who built the Ostrel lamp?", 1)] == ["lamp"]
    assert workspace.location() == ("docs", {})
    assert workspace.config.augment.qa_pairs is not None, "the preset's"


def test_opening_a_workspace_changes_nothing(config: PipelineConfig):
    workspace = Workspace(config)
    with pytest.raises(StoreError, match=r"has not been ingested into it. Run dyprag ingest"):
        _ = workspace.plan
    assert not workspace.catalogue.exists
    assert not Path(config.store).exists()


def test_an_unknown_document_is_reported_with_suggestions(config: PipelineConfig):
    ingest(config)
    with pytest.raises(CorpusError, match="Did you mean 'lamp'"):
        Workspace(config).document("lump")


def test_a_workspace_for_other_methods_has_the_same_keys(config: PipelineConfig):
    ingest(config)
    workspace = Workspace(config)
    lamp, other = workspace.document("lamp"), workspace.answering("rag")
    assert other.config.evaluate.methods == ("rag",)
    assert other.config.evaluate.controls == ()
    assert other.plan.adapter_key(lamp) == workspace.plan.adapter_key(lamp)
    assert workspace.config.evaluate.methods != ("rag",)


def test_results_belong_to_a_run_or_raise_an_error_with_a_remedy(config: PipelineConfig):
    workspace = Workspace(config, writes=True)
    Catalogue(workspace.store).prepare()
    with pytest.raises(DypragError, match=r"nothing has been evaluated yet. Run: dyprag run"):
        workspace.results()
    assert workspace.report_page("abc") == workspace.store.reports / "abc" / "report.html"
