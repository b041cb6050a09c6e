"""`dyprag ask`: answer one question, from the artifacts in the store or from documents passed with it.

Both cases implement `Source`, which lists its methods and answers with one of them.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from dyprag.cli.options import ConfigOption, JsonOption, SetOption, of_store, read_config
from dyprag.cli.output import errors, print_json, print_table
from dyprag.cli.quick_imports import quick_imports
from dyprag.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from dyprag.config import PipelineConfig
    from dyprag.tasks.workspace import Workspace

_assistants: dict[Any, Any] = {}  # the last one, by everything that it is made from
DEFAULT = "prag-combine"  # the default method for the corpus in the store
DEFAULT_GIVEN = "dyprag-combine"  # the default method for documents passed with the question


def ask(
    question: Annotated[str, typer.Argument(help="The question, in quotes.")],
    document: Annotated[
        list[str] | None,
        typer.Option("--document", "-d", metavar="FILE", help="Answer from this file or folder instead of the store. "
                     "Nothing is trained: the translator makes the adapters. Repeatable."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option("--method", "-m", help="One of the methods in `evaluate.methods`. Default: prag-combine, or "
                     "dyprag-combine with --document."),
    ] = None,
    compare_: Annotated[
        bool,
        typer.Option("--compare", help="Answer with all methods, side by side. With --document, these are the methods "
                     "that need no store; otherwise those of `evaluate.methods` whose artifacts exist."),
    ] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    json_: JsonOption = False,
    keep: Annotated[
        float | None,
        typer.Option("--keep", metavar="MINUTES", envvar="DYPRAG_KEEP", min=0, help="How long a background process "
                     "keeps the model loaded for further questions. 0: end that process, and answer without one. "
                     "Default: 5, or 0 on a GPU.", show_default=False),
    ] = None,
) -> None:  # fmt: skip
    """Answer one question from the documents in the store, or from your own documents."""
    from dyprag.cli.resident import ask_resident, end_resident

    request: dict[str, Any] = {
        "question": question, "document": document, "method": method, "compare_": compare_,
        "config": config and str(config), "set_": set_, "json_": json_,
    }  # fmt: skip
    with errors():
        if keep == 0:
            end_resident()
        elif (code := ask_resident(request, keep)) is not None:
            raise typer.Exit(code)
    answer(**request)


def answer(
    question: str,
    document: list[str] | None,
    method: str | None,
    compare_: bool,
    config: str | None,
    set_: list[str] | None,
    json_: bool,
) -> None:
    """Answer in this process; the arguments are those of `ask`."""
    with errors():
        settings = read_config(Path(config) if config else None, set_)
        source: Source = GivenDocuments(document, settings) if document else StoredCorpus(of_store(settings))
        if compare_:
            answers, omitted = compare(question, source)
        else:
            answers, omitted = [source.answer(question, method or source.default)], {}
        if json_:
            print_json([answer.as_dict() for answer in answers] if compare_ else answers[0].as_dict())
        elif compare_:
            print_table(["method", "answer", "s"], [[a.method, a.text, f"{a.seconds:.2f}"] for a in answers])
        else:
            print(answers[0].text)
        if not json_:
            print("\n".join(answer.provenance() for answer in answers), file=sys.stderr)
        if omitted:
            reasons = "; ".join(f"{name} ({reason})" for name, reason in omitted.items())
            print(f"Left out: {reasons}.", file=sys.stderr)


@dataclass(frozen=True)
class Answered:
    """An answer, and the ids of the documents that were shown in the prompt or injected as adapters.

    `passages` has the texts of the passages if the documents were passed with the question.
    """

    question: str
    method: str
    text: str
    in_prompt: Sequence[str]
    injected: Sequence[str]
    seconds: float  # without loading the model
    passages: Sequence[str] | None = None

    def as_dict(self) -> dict[str, Any]:
        """The answer as a dictionary for JSON."""
        retrieved = list(dict.fromkeys([*self.injected, *self.in_prompt]))
        values = {
            "question": self.question, "method": self.method, "answer": self.text, "retrieved": retrieved,
            "in_prompt": list(self.in_prompt), "injected": list(self.injected), "seconds": self.seconds,
        }  # fmt: skip
        return values if self.passages is None else {**values, "passages": list(self.passages)}

    def provenance(self) -> str:
        """One line on what the answer was made from."""
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
        nothing = "the model alone: no document shares a word with the question"
        return f"{self.method}, from {'; '.join(parts) or nothing}; {self.seconds:.1f} s"


class Source(Protocol):
    """Documents that can answer a question."""

    default: str

    @property
    def methods(self) -> Sequence[str]:
        """The methods that `compare` uses.

        Raises:
            StoreError: the store has no corpus yet.
        """

    def answer(self, question: str, method: str) -> Answered:
        """Retrieve passages, inject their adapters and answer.

        Raises:
            ConfigError: there is no such method.
            StoreError: an artifact that the method needs does not exist yet.
        """


def compare(question: str, source: Source) -> tuple[list[Answered], dict[str, str]]:
    """Answer a question with all methods of a source.

    Returns:
        The answers, and for each method whose artifacts do not exist the reason.
    """
    answers: list[Answered] = []
    omitted: dict[str, str] = {}
    for method in source.methods:
        try:
            answers.append(source.answer(question, method))
        except StoreError as error:
            omitted[method] = error.reason
    return answers, omitted


class StoredCorpus:
    """The corpus of a store, with its adapters and its translator."""

    default = DEFAULT

    def __init__(self, config: "PipelineConfig") -> None:
        self.config = config

    @property
    def methods(self) -> Sequence[str]:
        """The methods of `evaluate.methods` that are not controls."""
        from dyprag.methods.spec import is_control

        _ = self._workspace.corpus  # raises if there is none
        return [method for method in self.config.evaluate.methods if not is_control(method)]

    def answer(self, question: str, method: str) -> Answered:
        """See `Source`."""
        with quick_imports():
            from dyprag.corpora.documents import Question
            from dyprag.corpora.text.forms import written
            from dyprag.methods.spec import spec_of
            from dyprag.tasks.answering import answer_questions
            from dyprag.tasks.planning.answers import AnswerJob, linked, sources_of
            from dyprag.tasks.worker import worker_of

        _check_method(method)
        spec, workspace = spec_of(method), self._workspace.answering(method)
        evaluate, corpus_key = workspace.config.evaluate, workspace.corpus_key
        sources = sources_of(workspace)
        with quick_imports():
            worker_of(workspace.config).asked_alone()
        start = perf_counter()
        searches = spec.shows_passages or spec.injects_documents
        hits = workspace.passages.search(question, evaluate.passages) if searches else []
        retrieved = tuple((hit.document.id, hit.score) for hit in hits)
        threshold = evaluate.threshold_of(method)
        job = linked(workspace.plan, sources, AnswerJob("ask", "", method, "", (), (retrieved,), threshold=threshold))
        asked = [Question("ask", written(question), ())]
        (answer,) = answer_questions(job, corpus_key, asked, workspace.config, alone=True)
        with_adapters = {i for i, _ in retrieved if job.translator or workspace.plan.document_keys[i] in job.adapters}
        injected = [identity for identity, _ in retrieved if answer.adapted and identity in with_adapters]
        shown = [passage.document.id for passage in answer.passages]
        in_prompt = shown if spec.shows_passages or not job.parametric else []
        return Answered(question, method, answer.text, in_prompt, injected, perf_counter() - start)

    @cached_property
    def _workspace(self) -> "Workspace":
        from dyprag.tasks.workspace import Workspace

        return Workspace(self.config)


class GivenDocuments:
    """Documents passed with the question, answered with the learned translator and without a store.

    Args:
        locations: files and folders, in the form that `corpus.documents` takes.
    """

    default = DEFAULT_GIVEN

    def __init__(self, locations: Sequence[str], config: "PipelineConfig") -> None:
        self.locations, self.config = locations, config

    @property
    def methods(self) -> Sequence[str]:
        """The methods that need no store."""
        from dyprag.serving.assistant import served_methods

        return served_methods()

    def answer(self, question: str, method: str) -> Answered:
        """See `Source`.

        Raises:
            ConfigError: there is no such method, or no translator for the model.
            CorpusError: no document can be read at a location.
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

        documents = given_documents(self.locations)
        with quick_imports():
            return _assistant(self.config), documents


def _assistant(config: "PipelineConfig") -> Any:
    """The assistant of a configuration. A process that answers several questions loads it once."""
    from dyprag.model.files import learned_folder, model_fingerprint

    resolved = config.resolved()
    folder = learned_folder(resolved.translator.learned or "packaged", resolved.model.name)
    stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(folder.glob("*"))]
    # the fingerprint may download the model: not before `load` has said that there is no translator for it
    model = model_fingerprint(resolved.model.name) if (folder / "translator.json").is_file() else ""
    contents = (config.model_dump_json(), model, *stats)
    if contents not in _assistants:
        from dyprag.serving.assistant import load

        _assistants.clear()
        _assistants[contents] = load(config=config)
    return _assistants[contents]


def _check_method(method: str) -> None:
    from dyprag.methods.spec import is_control, methods

    known = [spec.name for spec in methods()]
    if method not in known:
        reason = "it is a control, which only evaluations use" if is_control(method) else "there is no such method"
        raise ConfigError(f"method {method!r}", reason, f"Choose one of {', '.join(known)}.")
