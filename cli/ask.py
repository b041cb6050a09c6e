"""`dyprag ask`: one question, one method, from the artifacts in the store."""

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
    from dyprag.batching import compute
    from dyprag.generation import Sampling
    from dyprag.methods import Asked, answer_questions
    from dyprag.retrieval import BM25Retriever
    from flows.evaluate import answer_sources
    from flows.stage import Stage
    from tasks.evaluate import make_method
    from tasks.work import base_model

    known = Method.__args__  # type: ignore[attr-defined]
    if method not in known:
        raise ConfigError(f"method {method!r}", "there is no such method", f"Choose one of {', '.join(known)}.")
    chosen = config.evaluate.model_copy(update={"methods": (method,)})
    stage = Stage(config.model_copy(update={"evaluate": chosen}).resolved(), "ask")
    stage.require_corpus()
    sources = answer_sources(stage)
    base = base_model(stage.config)
    began = perf_counter()
    settings = stage.config.evaluate
    retrieved = BM25Retriever(stage.plan.documents).search(question, settings.passages)
    asked = [Asked(question, tuple(retrieved))]
    made = make_method(method, stage.store, sources, stage.config)
    answers = compute(lambda: answer_questions(base, made, asked, Sampling(settings.max_new_tokens), 1))
    return {
        "question": question, "method": method, "answer": answers[0].text,
        "retrieved": [item.document.id for item in retrieved], "seconds": perf_counter() - began,
    }  # fmt: skip
