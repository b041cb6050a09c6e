"""`dyprag ask`: one question, from the artifacts in the store or from documents given with it.

Both ways are one: a source says by which methods it can be asked, and answers by one of them.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from dyprag.cli.options import ConfigOption, JsonOption, SetOption, of_store, read_config
from dyprag.cli.output import errors, print_json, print_table
from dyprag.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from dyprag.config import PipelineConfig
    from dyprag.tasks.workspace import Workspace

DEFAULT = "prag-combine"  # the method that is taken where none is named
DEFAULT_GIVEN = "dyprag-combine"  # the same for documents that are given with the question


def ask(
    question: Annotated[str, typer.Argument(help="The question, in quotes.")],
    document: Annotated[
        list[str] | None,
        typer.Option("--document", "-d", metavar="FILE", help="Ask this file or folder instead of the store, with no "
                     "training: the translator makes its adapter. Repeatable."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option("--method", "-m", help="One of the methods in `evaluate.methods`; by default prag-combine, and "
                     "dyprag-combine with --document."),
    ] = None,
    compare_: Annotated[
        bool,
        typer.Option("--compare", help="By all methods, side by side: those that need no store with --document, else "
                     "those of `evaluate.methods` for which the store has what they need."),
    ] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:  # fmt: skip
    """Answer one question from the documents in the store, or from a document of your own."""
    with errors():
        settings = read_config(config, set_)
        source: Source = GivenDocuments(document, settings) if document else StoredCorpus(of_store(settings))
        if compare_:
            answers, lacking = compare(question, source)
        else:
            answers, lacking = [source.answer(question, method or source.default)], {}
        if json_:
            print_json([made.as_dict() for made in answers] if compare_ else answers[0].as_dict())
        elif compare_:
            print_table(["method", "answer", "s"], [[a.method, a.text, f"{a.seconds:.2f}"] for a in answers])
        else:
            print(answers[0].text)
        if not json_:
            print("\n".join(made.how() for made in answers), file=sys.stderr)
        if lacking:
            reasons = "; ".join(f"{name} ({reason})" for name, reason in lacking.items())
            print(f"Left out: {reasons}.", file=sys.stderr)


@dataclass(frozen=True)
class Answered:
    """An answer, and what it was made from: the ids of documents that stood in the prompt or were injected as adapters;
    of documents that were given with the question, the texts of the passages too."""

    question: str
    method: str
    text: str
    in_prompt: Sequence[str]
    injected: Sequence[str]
    seconds: float  # the loading of the model not counted
    passages: Sequence[str] | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        retrieved = list(dict.fromkeys([*self.injected, *self.in_prompt]))
        values = {
            "question": self.question, "method": self.method, "answer": self.text, "retrieved": retrieved,
            "in_prompt": list(self.in_prompt), "injected": list(self.injected), "seconds": self.seconds,
        }  # fmt: skip
        return values if self.passages is None else {**values, "passages": list(self.passages)}

    def how(self) -> str:
        """What the answer was made from, in words."""
        from dyprag.methods.spec import spec_of

        shown, injected = self.in_prompt, self.injected
        parts = []
        if both := [name for name in injected if name in shown]:
            parts.append(f"{', '.join(both)} in the prompt and as adapters")
        if alone := [name for name in injected if name not in shown]:
            parts.append(f"{', '.join(alone)} as adapters" if len(alone) > 1 else f"{alone[0]} as an adapter")
        if alone := [name for name in shown if name not in injected]:
            parts.append(f"{', '.join(alone)} in the prompt")
        if not parts and not spec_of(self.method).needs_passages:
            return f"{self.method}, from the model alone; {self.seconds:.1f} s"
        nothing = "the model alone: no document was found that has a word of the question"
        return f"{self.method}, from {'; '.join(parts) or nothing}; {self.seconds:.1f} s"


class Source(Protocol):
    """What can be asked."""

    default: str

    @property
    def methods(self) -> Sequence[str]:
        """The methods that are compared.

        Raises:
            StoreError: there is nothing to ask yet.
        """

    def answer(self, question: str, method: str) -> Answered:
        """Retrieve, inject and answer.

        Raises:
            ConfigError: no such method.
            StoreError: what the method needs has not been made.
        """


def compare(question: str, source: Source) -> tuple[list[Answered], dict[str, str]]:
    """The answers by all methods of a source for which it has what they need; of the others, why it has not."""
    answers: list[Answered] = []
    lacking: dict[str, str] = {}
    for method in source.methods:
        try:
            answers.append(source.answer(question, method))
        except StoreError as error:
            lacking[method] = error.reason
    return answers, lacking


class StoredCorpus:
    """The corpus of a store, with the adapters and the translator that were made of it."""

    default = DEFAULT

    def __init__(self, config: "PipelineConfig") -> None:
        self.config = config

    @property
    def methods(self) -> Sequence[str]:
        """Those of `evaluate.methods` that are no controls."""
        from dyprag.methods.spec import is_control

        _ = self._workspace.corpus  # there has to be one
        return [method for method in self.config.evaluate.methods if not is_control(method)]

    def answer(self, question: str, method: str) -> Answered:
        """See `Source`."""
        from dyprag.corpora.documents import Question
        from dyprag.corpora.text.forms import written
        from dyprag.methods.spec import spec_of
        from dyprag.tasks.evaluate import answer_questions
        from dyprag.tasks.planning.answers import AnswerJob, linked, sources_of
        from dyprag.tasks.work import base_model

        _check_method(method)
        spec, workspace = spec_of(method), self._workspace.answering(method)
        chosen, corpus_key = workspace.config.evaluate, workspace.corpus_key
        sources = sources_of(workspace)
        base_model(workspace.config)
        began = perf_counter()
        searches = spec.shows_passages or spec.injects_documents
        hits = workspace.passages.search(question, chosen.passages) if searches else []
        found = tuple((hit.document.id, hit.score) for hit in hits)
        threshold = getattr(chosen, f"{method}_threshold", None)
        job = linked(workspace.plan, sources, AnswerJob("ask", "", method, "", (), (found,), threshold=threshold))
        (given,) = answer_questions(job, corpus_key, [Question("ask", written(question), ())], workspace.config)
        with_adapters = {i for i, _ in found if job.translator or workspace.plan.document_keys[i] in job.adapters}
        injected = [identity for identity, _ in found if given.adapted and identity in with_adapters]
        shown = [passage.document.id for passage in given.passages]
        in_prompt = shown if spec.shows_passages or not job.parametric else []
        return Answered(question, method, given.text, in_prompt, injected, perf_counter() - began)

    @cached_property
    def _workspace(self) -> "Workspace":
        from dyprag.tasks.workspace import Workspace

        return Workspace(self.config)


class GivenDocuments:
    """Documents that are in no store, with the learned translator.

    Args:
        locations: as `corpus.documents` takes them.
    """

    default = DEFAULT_GIVEN

    def __init__(self, locations: Sequence[str], config: "PipelineConfig") -> None:
        self.locations, self.config = locations, config

    @property
    def methods(self) -> Sequence[str]:
        """Those that need no store."""
        from dyprag.serving.assistant import served_methods

        return served_methods()

    def answer(self, question: str, method: str) -> Answered:
        """See `Source`.

        Raises:
            ConfigError: no such method, or no translator for the model.
            CorpusError: a location where no document can be read.
        """
        assistant, documents = self._opened
        reply = assistant.ask(question, documents, method)
        in_prompt = [passage.document.id for passage in reply.in_prompt]
        injected = [passage.document.id for passage in reply.injected]
        texts = [passage.document.passage for passage in reply.passages]
        return Answered(question, reply.method, reply.text, in_prompt, injected, reply.seconds, texts)

    @cached_property
    def _opened(self) -> Any:
        from dyprag.cli.given import given_documents
        from dyprag.cli.quick_imports import quick_imports

        with quick_imports():
            from dyprag.serving.assistant import load
        documents = given_documents(self.locations)
        return load(config=self.config), documents


def _check_method(method: str) -> None:
    from dyprag.methods.spec import is_control, methods

    known = [spec.name for spec in methods()]
    if method not in known:
        reason = "it is a control, which only evaluations use" if is_control(method) else "there is no such method"
        raise ConfigError(f"method {method!r}", reason, f"Choose one of {', '.join(known)}.")
