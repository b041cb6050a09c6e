"""Estimate the cost of an augmentation, and show a document's: for `dyprag augment --dry-run` and `--show`."""

from dataclasses import asdict
from typing import Any

from dyprag.augmentation.limits import cost
from dyprag.config import AugmentSettings, PipelineConfig
from dyprag.corpora.documents import Document
from dyprag.corpora.products import ProductName
from dyprag.storage.journal import Journal, responses
from dyprag.storage.tables import read_product
from dyprag.tasks.ingest import read_location
from dyprag.tasks.planning.plan import Plan
from dyprag.tasks.planning.sources import corpus_settings, find_latest
from dyprag.tasks.workspace import Workspace

PAIR_TOKENS = 60  # one question-answer pair as JSON, estimated
BYTES_PER_TOKEN = 4


def estimate(config: PipelineConfig) -> dict[str, Any]:
    """Estimate the missing augmentations. A corpus that has not been ingested is read from its location.

    Returns:
        `documents`; for an endpoint also `requests`, `tokens_in`, `tokens_out` and `cost` (None if no price is known).
            Rejected answers need further requests.
    """
    workspace = Workspace(config)
    settings, missing = workspace.config.augment, _missing_products(workspace)
    counts: dict[str, Any] = {
        "backend": settings.backend, "documents": len({document.id for document, _, _ in missing}),
    }  # fmt: skip
    return counts if settings.backend == "local" else {**counts, **_requests(workspace, missing)}


def _missing_products(workspace: Workspace) -> list[tuple[Document, ProductName, str]]:
    """Missing products with their documents and keys."""
    store, config = workspace.store, workspace.config
    store.refresh()
    ingested = find_latest(store, "corpus", corpus_settings(config)) is not None
    plan = workspace.plan if ingested else Plan(config, read_location(config))
    return [
        (document, product, key)
        for document in plan.parametrized
        for product, key in plan.product_keys(document).items()
        if not store.find(product, key)
    ]


def _requests(workspace: Workspace, missing: list[tuple[Document, ProductName, str]]) -> dict[str, Any]:
    """Unanswered first requests for missing products, with their tokens and cost."""
    from dyprag.augmentation.api import first_request

    settings, journal = workspace.config.augment, Journal(workspace.store)
    requests = [(product, first_request(document, product, key, settings)) for document, product, key in missing]
    unanswered = [
        (product, request) for product, request in requests if journal.find(request.product_key, request.key) is None
    ]
    tokens_in = sum(request.bytes for _, request in unanswered) // BYTES_PER_TOKEN
    tokens_out = sum(_expected_answer(product, request.bytes, settings) for product, request in unanswered)
    price = settings.api.prices.get(settings.api.model)
    return {
        "requests": len(unanswered), "tokens_in": tokens_in, "tokens_out": tokens_out,
        "cost": cost(price, tokens_in, tokens_out), "model": settings.api.model,
    }  # fmt: skip


def _expected_answer(product: str, prompt_bytes: int, settings: AugmentSettings) -> int:
    if product == "qa_pairs":
        return min(settings.max_new_tokens, PAIR_TOKENS * settings.qa_pairs)
    return min(settings.max_new_tokens, settings.rewrites * max(0, prompt_bytes - 1000) // BYTES_PER_TOKEN)


def products(document_id: str, config: PipelineConfig) -> dict[str, Any]:
    """A document and its augmentation.

    Returns:
        id, title, text; and per product its items with their marks, the dropped items with reasons, and the measures.
            For a missing product, the raw answers received so far.

    Raises:
        CorpusError: There is no such document.
    """
    workspace = Workspace(config)
    store, document = workspace.store, workspace.document(document_id)
    shown: dict[str, Any] = {"id": document.id, "title": document.title, "text": document.text}
    for product, key in workspace.plan.product_keys(document).items():
        record = store.find(product, key)
        if record is None:
            raw = [asdict(answer) for answer in responses(store, document.id) if answer.product_key == key]
            shown[product] = {"missing": True, "answers": raw}
            continue
        content = read_product(store.folder(product, key))
        items = {kind: [asdict(item) for item in getattr(content, kind)] for kind in ("accepted", "dropped")}
        shown[product] = {**items, "measures": record.measures}
    return shown
