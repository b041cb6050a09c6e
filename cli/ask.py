"""`dyprag ask`: one question, from the artifacts in the store or from documents given with it."""

from collections.abc import Sequence
from time import perf_counter
from typing import Any

from dyprag.config import PipelineConfig
from dyprag.corpora.text.forms import written
from dyprag.errors import ConfigError, StoreError
from dyprag.methods.spec import is_control, methods, spec_of

Answered = dict[str, Any]
DEFAULT = "prag-combine"  # the method that is taken where none is named


def answer(question: str, method: str, config: PipelineConfig) -> Answered:
    """Retrieve, inject and answer.

    Returns:
        question, method, answer; retrieved: the ids of the documents that it was made from, of which `in_prompt` stood
        in the prompt and `injected` were injected as adapters; seconds, the loading of the model not counted.

    Raises:
        ConfigError: no such method.
        StoreError: its artifacts have not been made.
    """
    from dyprag.corpora.documents import Question
    from dyprag.flows.evaluate import sources_of
    from dyprag.flows.stage import Stage
    from dyprag.tasks.evaluate import passages_of, respond
    from dyprag.tasks.planning.answers import AnswerJob, linked
    from dyprag.tasks.work import base_model

    known = [spec.name for spec in methods()]
    if method not in known:
        reason = "it is a control, which only an evaluation has" if is_control(method) else "there is no such method"
        raise ConfigError(f"method {method!r}", reason, f"Choose one of {', '.join(known)}.")
    chosen = config.evaluate.model_copy(update={"methods": (method,), "controls": ()})
    stage = Stage(config.model_copy(update={"evaluate": chosen}).resolved(), "ask")
    corpus_key, corpus = stage.require_corpus(), stage.plan.corpus
    sources = sources_of(stage)
    spec = spec_of(method)
    base_model(stage.config)
    began = perf_counter()
    retriever = passages_of(config.store, corpus_key, corpus, "")
    hits = [] if not (spec.shows_passages or spec.injects_documents) else retriever.search(question, chosen.passages)
    found = tuple((hit.document.id, hit.score) for hit in hits)
    threshold = getattr(chosen, f"{method}_threshold") if spec.retrieves else None
    job = linked(stage.plan, sources, AnswerJob("ask", "", method, "", (), (found,), threshold=threshold))
    (given,) = respond(job, corpus_key, [Question("ask", written(question), ())], stage.config)
    with_adapters = {i for i, _ in found if job.translator or stage.plan.document_keys[i] in job.adapters}
    injected = [identity for identity, _ in found if given.adapted and identity in with_adapters]
    shown = [one.document.id for one in given.passages]
    in_prompt = shown if spec.shows_passages or not job.parametric else []
    return _answered(question, method, given.text, in_prompt, injected, perf_counter() - began)


def answers(question: str, config: PipelineConfig) -> tuple[list[Answered], dict[str, str]]:
    """Answer by each method of `evaluate.methods`, as far as the store has what it needs.

    Returns:
        What `answer` gives of each; and of the others why not.

    Raises:
        StoreError: nothing has been ingested.
    """
    from dyprag.flows.stage import Stage

    Stage(config.resolved(), "ask").require_corpus()
    found: list[Answered] = []
    lacking: dict[str, str] = {}
    for method in config.evaluate.methods:
        if is_control(method):
            continue
        try:
            found.append(answer(question, method, config))
        except StoreError as error:
            lacking[method] = error.reason
    return found, lacking


def answer_from(question: str, documents: Sequence[str], method: str | None, config: PipelineConfig) -> list[Answered]:
    """Answer from documents that are in no store, with the learned translator: by a method, or by all.

    Args:
        documents: locations, as `corpus.documents` takes them.

    Returns:
        Of the method, or of each, what `answer` gives, and `passages`: the texts of what was retrieved.

    Raises:
        ConfigError: no such method, or no translator for the model.
        CorpusError: a location where no document can be read.
    """
    from dyprag.cli.documents import given_documents
    from dyprag.serving.assistant import load

    given = given_documents(documents)
    assistant = load(config=config)
    replies = [assistant.ask(question, given, method)] if method else assistant.compare(question, given)
    return [
        {
            **_answered(
                question, reply.method, reply.text, [one.document.id for one in reply.in_prompt],
                [one.document.id for one in reply.injected], reply.seconds,
            ),
            "passages": [found.document.passage for found in reply.passages],
        }
        for reply in replies
    ]  # fmt: skip


def _answered(
    question: str, method: str, text: str, in_prompt: Sequence[str], injected: Sequence[str], seconds: float
) -> Answered:
    return {
        "question": question, "method": method, "answer": text,
        "retrieved": list(dict.fromkeys([*injected, *in_prompt])), "in_prompt": list(in_prompt),
        "injected": list(injected), "seconds": seconds,
    }  # fmt: skip


def how(made: Answered) -> str:
    """What an answer was made from, in words."""
    method, shown, injected = made["method"], made["in_prompt"], made["injected"]
    parts = []
    if both := [name for name in injected if name in shown]:
        parts.append(f"{', '.join(both)} in the prompt and as adapters")
    if alone := [name for name in injected if name not in shown]:
        parts.append(f"{', '.join(alone)} as adapters" if len(alone) > 1 else f"{alone[0]} as an adapter")
    if alone := [name for name in shown if name not in injected]:
        parts.append(f"{', '.join(alone)} in the prompt")
    if not parts and not spec_of(method).needs_passages:
        return f"{method}, from the model alone; {made['seconds']:.1f} s"
    nothing = "the model alone: no document was found that has a word of the question"
    return f"{method}, from {'; '.join(parts) or nothing}; {made['seconds']:.1f} s"
