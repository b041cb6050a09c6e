"""`dyprag ask`: one question, from the artifacts in the store or from documents given with it."""

from collections.abc import Sequence
from time import perf_counter
from typing import Any

from dyprag.config import Method, PipelineConfig
from dyprag.errors import ConfigError


def answer(question: str, method: str, config: PipelineConfig) -> dict[str, Any]:
    """Retrieve, inject and answer.

    Returns:
        question, method, answer, retrieved (document ids) and seconds, the loading of the model not counted.

    Raises:
        ConfigError: no such method.
        StoreError: its artifacts have not been made.
    """
    from dyprag.documents import Question
    from dyprag.evaluation.gains import CONTROLS
    from flows.evaluate import Sources, linked
    from flows.stage import Stage
    from tasks.evaluate import AnswerJob, passages_of, respond
    from tasks.plan import LOOPING
    from tasks.thresholds import PUBLISHED
    from tasks.work import base_model

    known = [m for m in Method.__args__ if m not in CONTROLS]  # type: ignore[attr-defined]
    if method not in known:
        reason = "it is a control, which only an evaluation has" if method in CONTROLS else "there is no such method"
        raise ConfigError(f"method {method!r}", reason, f"Choose one of {', '.join(known)}.")
    chosen = config.evaluate.model_copy(update={"methods": (method,), "controls": ()})
    stage = Stage(config.model_copy(update={"evaluate": chosen}).resolved(), "ask")
    corpus_key, corpus = stage.require_corpus(), stage.plan.corpus
    sources = Sources(stage)
    base_model(stage.config)
    began = perf_counter()
    hits = passages_of(config.store, corpus_key, corpus, "").search(question, chosen.passages)
    found = tuple((hit.document.id, hit.score) for hit in hits)
    threshold = getattr(chosen, f"{method}_threshold") if method in LOOPING else None
    published = method in LOOPING and threshold is None
    value = PUBLISHED[method] if published else threshold or 0.0
    job = AnswerJob("ask", "", method, "", (), (found,), threshold=value, published=published)
    (given,) = respond(linked(stage.plan, sources, job), corpus_key, [Question("ask", question, ())], stage.config)
    return {
        "question": question, "method": method, "answer": given.text,
        "retrieved": [identity for identity, _ in found], "seconds": perf_counter() - began,
    }  # fmt: skip


def answer_from(
    question: str, documents: Sequence[str], method: str | None, config: PipelineConfig
) -> list[dict[str, Any]]:
    """Answer from documents that are in no store, with the learned translator: by a method, or by all.

    Args:
        documents: locations, as `corpus.documents` takes them.

    Returns:
        Of the method, or of each, what `answer` gives, and `passages`: the texts that were retrieved.

    Raises:
        ConfigError: no such method, or no translator for the model.
        CorpusError: a location that cannot be read.
    """
    from dyprag.assistant import load
    from dyprag.corpus import read_documents

    given = [document for location in documents for document in read_documents(location)]
    assistant = load(config=config)
    replies = [assistant.ask(question, given, method)] if method else assistant.compare(question, given)
    return [
        {
            "question": question, "method": reply.method, "answer": reply.text,
            "retrieved": [found.document.id for found in reply.passages], "seconds": reply.seconds,
            "passages": [found.document.passage for found in reply.passages],
        }
        for reply in replies
    ]  # fmt: skip
