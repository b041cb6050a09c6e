"""Embedding: a document that cannot be embedded fails alone, and the translator is trained without it."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from conftest import TEXTS, outcome

from dyprag.adapters import embedding
from dyprag.config import PipelineConfig
from dyprag.errors import StoreError
from dyprag.storage.artifacts import Store
from dyprag.storage.catalogue import Catalogue
from dyprag.tasks.embed import _embeddings

embed = embedding.embed


def failing(error: Exception, *words: str) -> Callable[..., torch.Tensor]:
    """An `embed` that raises an error if a passage contains one of these words."""

    def embed_or_raise(base: Any, passages: Sequence[str]) -> torch.Tensor:
        if any(word in passage for passage in passages for word in words):
            raise error
        return embed(base, passages)

    return embed_or_raise


@pytest.fixture
def prepared(settings: dict[str, Any], prefect_server: None) -> PipelineConfig:
    """A configuration whose documents all have adapters; none is held out."""
    from dyprag.flows.augment import augment
    from dyprag.flows.ingest import ingest
    from dyprag.flows.parametrize import parametrize

    settings["corpus"] |= {"held_out": 0.0, "questions": None}
    config = PipelineConfig.model_validate(settings)
    for flow in (ingest, augment, parametrize):
        flow(config)
    return config


@pytest.mark.prefect
@pytest.mark.parametrize(
    ("error", "kind"), [(ValueError("no such token"), "ValueError"), (MemoryError(), "OutOfMemory")]
)
def test_a_document_that_cannot_be_embedded_fails_alone_and_only_it_is_retried(
    prepared: PipelineConfig, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: str
):
    from dyprag.flows.train_translator import train_translator

    monkeypatch.setattr(embedding, "embed", failing(error, TEXTS["lamp"]))
    state = train_translator(prepared, return_state=True)
    embedded, trained = outcome(state)
    assert state.name == "CompletedWithFailures"
    assert (embedded["done"], embedded["failed"]) == (2, 1)
    assert (trained["done"], trained["note"]) == (1, "1 document with an adapter left out: not embedded")
    store = Store(prepared.store)
    failures = Catalogue(store).query("SELECT document_id, stage, error_type FROM failures")
    assert failures == [{"document_id": "lamp", "stage": "embed", "error_type": kind}]
    (translator,) = (record for record in store.records() if record.kind == "translator")
    assert translator.measures["documents"] == 2

    asked: list[str] = []
    monkeypatch.setattr(embedding, "embed", lambda base, passages: asked.extend(passages) or embed(base, passages))
    embedded, trained = outcome(train_translator(prepared, return_state=True))
    assert (embedded["cached"], embedded["done"], embedded["failed"]) == (2, 3, 0)
    assert [TEXTS["lamp"] in passage for passage in asked] == [True]
    assert (trained["cached"], trained["note"]) == (0, "")


@pytest.mark.prefect
def test_no_translator_is_trained_without_an_embedded_document(
    prepared: PipelineConfig, monkeypatch: pytest.MonkeyPatch
):
    from dyprag.flows.train_translator import train_translator

    monkeypatch.setattr(embedding, "embed", failing(ValueError("no such token"), ""))
    with pytest.raises(StoreError, match="no training document could be embedded"):
        train_translator(prepared)
    assert len(Catalogue(Store(prepared.store)).query("FROM failures WHERE stage = 'embed'")) == 3


def test_passages_that_fail_together_are_tried_separately(base: Any, monkeypatch: pytest.MonkeyPatch):
    error = ValueError("no such token")
    monkeypatch.setattr(embedding, "embed", failing(error, "2", "5"))
    embeddings = _embeddings(base, [f"Lamp {number}." for number in range(7)])
    assert [number for number, given in enumerate(embeddings) if given is error] == [2, 5]
    assert torch.tensor(embeddings[6]).equal(embed(base, ["Lamp 6."])[0])
