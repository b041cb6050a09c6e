"""What augmentation would take, and what it made of one document: for `dyprag augment --dry-run` and `--show`."""

from dataclasses import asdict
from typing import Any

from dyprag.augmentation.limits import cost
from dyprag.augmentation.products import ProductName
from dyprag.config import AugmentSettings, PipelineConfig
from dyprag.corpora.documents import Document
from dyprag.storage.journal import Journal, responses
from dyprag.storage.tables import read_product
from dyprag.tasks.ingest import read_location
from dyprag.tasks.planning.plan import Plan
from dyprag.tasks.planning.sources import corpus_settings, find_latest
from dyprag.tasks.workspace import Workspace

PAIR_TOKENS = 60  # of one question-answer pair as JSON, until answers have told
BYTES_PER_TOKEN = 4


def estimate(config: PipelineConfig) -> dict[str, Any]:
    """What is missing and what it would take. A corpus that was not ingested yet is read where it is.

    Returns:
        documents, and for an endpoint requests, tokens_in, tokens_out and cost (None: no price is known); more where
        answers are not accepted at once.
    """
    workspace = Workspace(config)
    settings, missing = workspace.config.augment, _missing_products(workspace)
    counted: dict[str, Any] = {
        "backend": settings.backend, "documents": len({document.id for document, _, _ in missing}),
    }  # fmt: skip
    return counted if settings.backend == "local" else {**counted, **_requests(workspace, missing)}


def _missing_products(workspace: Workspace) -> list[tuple[Document, ProductName, str]]:
    """Documents with the product that they lack and its key."""
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
    """The first requests for what is missing that have no answer yet, with their tokens and cost."""
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
    """One document and all that was made of it.

    Returns:
        id, title, text, and for each product its items with their marks, what was dropped and why, and what it took;
        for a product that is not there, the raw answers that came.

    Raises:
        CorpusError: no such document.
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
