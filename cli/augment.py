"""`dyprag augment --dry-run` and `--show`: what augmentation would take, and what it made of one document."""

from typing import Any

from dyprag.config import AugmentSettings, PipelineConfig

PAIR_TOKENS = 60  # of one question-answer pair as JSON, until answers have told
BYTES_PER_TOKEN = 4


def estimate(config: PipelineConfig) -> dict[str, Any]:
    """What is missing and what it would take.

    Returns:
        documents, and for an endpoint requests, tokens_in, tokens_out and cost (None: no price is known); more where
        answers are not accepted at once.
    """
    from dyprag.augmentation.api import first_request
    from dyprag.augmentation.limits import cost
    from dyprag.flows.augment import jobs
    from dyprag.flows.stage import Stage
    from dyprag.storage.journal import Journal
    from dyprag.tasks.ingest import read_location
    from dyprag.tasks.planning.plan import Plan
    from dyprag.tasks.planning.sources import corpus_settings, find_latest

    stage = Stage(config.resolved(), "augment")
    if find_latest(stage.store, "corpus", corpus_settings(stage.config)) is None:  # before the first ingest
        stage.plan = Plan(stage.config, read_location(stage.config))
    settings, documents = stage.config.augment, {d.id: d for d in stage.plan.documents}
    missing = [
        (documents[job.document_id], product, key)
        for job in jobs(stage)
        for product, key in job.products.items()
        if not stage.store.find(product, key)
    ]
    found: dict[str, Any] = {"backend": settings.backend, "documents": len({d.id for d, _, _ in missing})}
    if settings.backend == "local":
        return found
    journal = Journal(stage.store)
    requests = [(product, first_request(document, product, key, settings)) for document, product, key in missing]
    wanted = [(product, r) for product, r in requests if journal.find(r.product_key, r.key) is None]
    tokens_in = sum(request.bytes for _, request in wanted) // BYTES_PER_TOKEN
    tokens_out = sum(_expected_answer(product, request.bytes, settings) for product, request in wanted)
    price = settings.api.prices.get(settings.api.model)
    return {
        **found, "requests": len(wanted), "tokens_in": tokens_in, "tokens_out": tokens_out,
        "cost": cost(price, tokens_in, tokens_out), "model": settings.api.model,
    }  # fmt: skip


def _expected_answer(product: str, prompt_bytes: int, settings: AugmentSettings) -> int:
    if product == "qa_pairs":
        return min(settings.max_new_tokens, PAIR_TOKENS * settings.qa_pairs)
    return min(settings.max_new_tokens, settings.rewrites * max(0, prompt_bytes - 1000) // BYTES_PER_TOKEN)


def estimate_text(found: dict[str, Any]) -> str:
    """The estimate in words."""
    if found["backend"] == "local":
        return f"{found['documents']} documents lack a product; the local model writes them, nothing is sent or paid."
    money = "no price is known (augment.api.prices)" if found["cost"] is None else f"about {found['cost']:.4f}"
    return (
        f"{found['documents']} documents lack a product: {found['requests']} requests to {found['model']}, about "
        f"{found['tokens_in']:,} tokens in and {found['tokens_out']:,} out; cost: {money}.\n"
        "More where an answer is not accepted at once. Nothing was sent."
    )


def products(document_id: str, config: PipelineConfig) -> dict[str, Any]:
    """One document and all that was made of it.

    Returns:
        id, title, text, and for each product its items with their marks, what was dropped and why, and what it took;
        for a product that is not there, the raw answers that came.

    Raises:
        CorpusError: no such document.
    """
    from dataclasses import asdict

    from dyprag.cli.documents import unknown_document
    from dyprag.flows.stage import Stage
    from dyprag.storage.journal import responses
    from dyprag.storage.tables import read_product

    stage = Stage(config.resolved(), "augment")
    document = next((d for d in stage.plan.corpus.documents if d.id == document_id), None)
    if document is None:
        raise unknown_document(document_id, [one.id for one in stage.plan.corpus.documents])
    found: dict[str, Any] = {"id": document.id, "title": document.title, "text": document.text}
    for product, key in stage.plan.product_keys(document).items():
        record = stage.store.find(product, key)
        if record is None:
            raw = [asdict(r) for r in responses(stage.store, document.id) if r.product_key == key]
            found[product] = {"missing": True, "answers": raw}
            continue
        made = read_product(stage.store.folder(product, key))
        found[product] = {**{k: [asdict(x) for x in getattr(made, k)] for k in ("accepted", "dropped")},
                          "measures": record.measures}  # fmt: skip
    return found


def products_text(found: dict[str, Any]) -> str:
    """A document and its products, to be read."""
    lines = [f"{found['title'] or found['id']}\n{found['text']}"]
    for product in ("rewrites", "qa_pairs"):
        if product not in found:
            continue
        part = found[product]
        lines.append(f"\n== {product.replace('_', ' ')}")
        if part.get("missing"):
            lines.append("not made yet" + (", but these answers came:" if part["answers"] else ""))
            lines += [f"[{answer['label']}, {answer['finish']}] {answer['text']}" for answer in part["answers"]]
            continue
        lines += [f"{_item(a['item'])}\n    {_marks(a['marks'])}" for a in part["accepted"]]
        lines += [f"dropped, {d['reason']}: {_item(d['item'])}" for d in part["dropped"]]
        measures = part["measures"]
        cost = "" if measures["cost"] is None else f", cost {measures['cost']:.5f}"
        if measures["requests"]:
            tokens = f"{measures['tokens_in']:,} tokens in, {measures['tokens_out']:,} out"
            lines.append(f"{measures['requests']} requests, {tokens}{cost}")
    return "\n".join(lines)


def _item(item: Any) -> str:
    return item if isinstance(item, str) else f"Q: {item['question']}\nA: {item['answer']} | {item['full_answer']}"


def _marks(marks: dict[str, Any]) -> str:
    rounded = {name: f"{value:.2f}" if isinstance(value, float) else value for name, value in marks.items()}
    return ", ".join(f"{name} {value}" for name, value in rounded.items())
