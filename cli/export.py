"""`dyprag export`: adapters for PEFT and vLLM, or the model with one adapter merged into its weights."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dyprag.cli.export_folder import Item, export_peft
from dyprag.cli.options import ConfigOption, JsonOption, SetOption, of_store, read_config
from dyprag.cli.output import errors, exit_with_missing, print_json
from dyprag.errors import ConfigError, DocumentError, ExportError, StoreError

if TYPE_CHECKING:
    from dyprag.adapters.lora import Adapters
    from dyprag.config import PipelineConfig
    from dyprag.corpora.documents import Document, Retrieved
    from dyprag.tasks.workspace import Workspace

METHODS = ("prag", "dyprag")


def export(
    peft: Annotated[
        Path | None, typer.Option("--peft", metavar="DIR", help="Write adapters in PEFT's format, for PEFT and vLLM.")
    ] = None,
    merged: Annotated[
        Path | None,
        typer.Option("--merged", metavar="DIR", help="Write the model with the adapter merged into its weights, in "
                     "model.dtype. Takes exactly one adapter."),
    ] = None,
    document: Annotated[
        str | None, typer.Option("--document", "-d", metavar="ID", help="Export only the adapter of this document.")
    ] = None,
    question: Annotated[
        str | None,
        typer.Option("--question", "-q", help="Export one adapter, merged from those of the documents retrieved for "
                     "this question; with --file, from those of its passages."),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option("--file", "-f", metavar="FILE", help="Export an adapter for a file; the translator makes it. A "
                     "long file needs a --question."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option("--method", "-m", help="prag: trained adapters; dyprag: translated adapters. Default: prag if "
                     "the store has trained adapters."),
    ] = None,
    base_model: Annotated[
        str | None,
        typer.Option("--base-model", metavar="NAME_OR_PATH", help="With --peft: the base model that the adapters name "
                     "and serve.sh serves. Default: the model's Hugging Face id, or its folder."),
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:  # fmt: skip
    """Export the adapters of the corpus, a document, a question or a file for PEFT and vLLM, or a merged model."""
    with errors():
        settings = read_config(config, set_)
        settings = settings if file is not None else of_store(settings)
        exported = export_adapters(Choice(document, question, file, method), peft, merged, settings, base_model)
        if json_:
            print_json(exported)
        else:
            print(exported_text(exported))
        exit_with_missing(exported["missing"], "without an adapter")


@dataclass(frozen=True)
class Choice:
    """What to export: a document, the documents retrieved for a question, a file, or by default the whole corpus.

    With both a file and a question, the passages of the file are retrieved.

    Raises:
        ConfigError: the options exclude each other, or the method has no adapters.
    """

    document: str | None = None
    question: str | None = None
    file: str | None = None
    method: str | None = None

    def __post_init__(self) -> None:
        if self.document is not None and (self.question is not None or self.file is not None):
            reason = "--document cannot be combined with --question or --file"
            remedy = "Pass one of them, --file with --question, or none for the whole corpus."
            raise ConfigError("what to export", reason, remedy)
        if self.method not in (None, *METHODS):
            raise ConfigError(
                f"method {self.method!r}", "only adapters of prag and dyprag can be exported", "Choose prag or dyprag."
            )
        if self.file is not None and self.method == "prag":
            raise ConfigError(
                "--method prag", "a file has no trained adapter", "Omit --method: the translator makes the adapter."
            )

    @property
    def is_single(self) -> bool:
        """Whether this is a single adapter."""
        return bool(self.document is not None or self.question is not None or self.file is not None)


def export_adapters(
    choice: Choice, peft: Path | None, merged: Path | None, config: "PipelineConfig", base_model: str | None = None
) -> dict[str, Any]:
    """Export adapters in PEFT's format, or the model with one merged in, or both.

    Args:
        base_model: the base model that the adapters name and that vLLM's command serves. None: the one of the last
            export to this folder, or the name under which other programs load the model.

    Returns:
        method; missing: ids of documents without an adapter; merged: the folder of the model, and whether it was
        written; peft: see `export_peft`. The last two are None if not requested. For a file also passages: ids of the
        passages that share the adapter; share: the fraction of its strength that each has, None if they differ.

    Raises:
        ConfigError: no folder was given, or the options exclude each other.
        StoreError: the corpus, its adapters or the translator are not in the store.
        ExportError: there is nothing to export, or the folder cannot be written.
    """
    if peft is None and merged is None:
        raise ConfigError("dyprag export", "no output folder was given", "Pass --peft DIR or --merged DIR.")
    if merged is not None and not choice.is_single:
        raise ConfigError(
            "--merged", "a merged model takes exactly one adapter", "Pass --document, --question or --file."
        )
    config = config.resolved()
    source = Source(choice, config)
    items = list(source.items())
    exported: dict[str, Any] = {"method": items[0].method, "missing": source.missing, "peft": None, "merged": None}
    if choice.file is not None:
        count = len(items[0].made_of)
        equal = choice.question is None and config.evaluate.dyprag_merge != "sum"
        exported |= {"passages": list(items[0].made_of), "share": 1 / count if equal else None}
    if peft is not None:
        exported["peft"] = export_peft(items, peft, not choice.is_single, config, base_model)
    if merged is not None:
        from dyprag.adapters.exchange.merged import save_merged
        from dyprag.runtime.batching import compute

        name, dtype = config.model.name, config.model.dtype
        written = compute(lambda: save_merged(name, items[0].adapter(), merged, dtype))
        exported["merged"] = {"folder": str(merged), "written": written}
    return exported


class Source:
    """The adapters of a choice. The configuration must be resolved."""

    def __init__(self, choice: Choice, config: "PipelineConfig") -> None:
        self.choice, self.config = choice, config
        self.missing: list[str] = []

    def items(self) -> Iterator[Item]:
        """Yield the adapters. Afterwards, `missing` has the ids of documents without one.

        Raises:
            StoreError, ExportError, CorpusError, ConfigError: see `export_adapters`.
        """
        if self.choice.file is not None:
            yield self._of_file(self.choice.file)
        elif self.choice.question is not None:
            yield self._of_question(self.choice.question)
        elif self.choice.document is not None:
            yield self._of_document(self.choice.document)
        else:
            yield from self._of_corpus()

    def _of_file(self, location: str) -> Item:
        from dyprag.cli.given import given_documents
        from dyprag.serving.assistant import load

        documents, question = given_documents([location]), self.choice.question
        assistant = load(config=self.config)
        try:
            passages = tuple(passage.document.id for passage in assistant.shared(documents, question))
        except DocumentError as error:
            remedy = error.remedy.replace("Pass a question", "Pass --question")
            raise ExportError(f"{error.subject} in {location}", error.reason, remedy) from error
        label, name = (Path(location).stem, location) if question is None else (question, f"{location}: {question}")
        return Item(label, "files", (name,), passages, "dyprag", lambda: assistant.adapter(documents, question))

    def _of_question(self, question: str) -> Item:
        retrieved = self._workspace("prag").passages.search(question, self.config.evaluate.passages)
        if not retrieved:
            raise ExportError(
                f"question {question!r}", "no document matches it", "Use words that occur in the documents."
            )
        trained = [hit for hit in retrieved if self._trained(hit.document)]
        method = self.choice.method or ("prag" if trained else "dyprag")
        if method == "prag" and not trained:
            raise self._untrained("no retrieved document has a trained adapter")
        used = trained if method == "prag" else retrieved
        self.missing = [hit.document.id for hit in retrieved if hit not in used]
        ids = tuple(hit.document.id for hit in used)
        return Item(question, "questions", (question,), ids, method, lambda: self._merged(method, used))

    def _of_document(self, identity: str) -> Item:
        document = self._workspace("prag").document(identity)
        if document.fault:
            raise document.fault
        method = self.choice.method or ("prag" if self._trained(document) else "dyprag")
        item = self._item(document, (identity,), method)
        if item is None:
            raise self._untrained(f"document {identity!r} has no trained adapter yet")
        return item

    def _of_corpus(self) -> Iterator[Item]:
        plan = self._workspace("prag").plan
        names: dict[str, list[str]] = {}  # documents with the same text share one adapter
        for document in plan.corpus.documents:
            names.setdefault(document.key, []).append(document.id)
        method = self.choice.method or ("prag" if any(map(self._trained, plan.documents)) else "dyprag")
        count = 0
        for document in plan.documents:
            if item := self._item(document, tuple(names[document.key]), method):
                count += 1
                yield item
            else:
                self.missing += names[document.key]
        if not count:
            raise self._untrained("no document has a trained adapter yet")

    def _item(self, document: "Document", names: tuple[str, ...], method: str) -> Item | None:
        """A document's adapter; None if the method is prag and the document has no trained adapter."""
        stored = self._trained(document) if method == "prag" else None
        if method == "prag" and stored is None:
            return None
        from dyprag.corpora.documents import Retrieved

        alone = [Retrieved(document, 1.0)]
        return Item(names[0], "documents", names, names[:1], method, lambda: self._merged(method, alone), stored)

    def _trained(self, document: "Document") -> Path | None:
        """The folder of a document's trained adapter in the store; None if there is none."""
        workspace = self._workspace("prag")
        key = workspace.plan.adapter_key(document)
        return workspace.store.folder("adapter", key) if workspace.store.find("adapter", key) else None

    def _merged(self, method: str, retrieved: "list[Retrieved]") -> "Adapters":
        """The adapter that the method injects for these documents."""
        from dyprag.runtime.batching import compute
        from dyprag.tasks.answering import make_method

        workspace = self._workspace(method)
        job = self._job(method, retrieved)
        answering: Any = make_method(job, workspace.corpus_key, workspace.config)
        return compute(lambda: answering.adapter(retrieved))

    def _job(self, method: str, retrieved: "list[Retrieved]") -> Any:
        from dyprag.tasks.planning.answers import AnswerJob, linked

        plan = self._workspace(method).plan
        documents = tuple((hit.document.id, hit.score) for hit in retrieved)
        if method == "prag":
            keys = {hit.document.key: plan.adapter_key(hit.document) for hit in retrieved}
            return AnswerJob("export", "", method, "", (), (documents,), adapters=keys)
        return linked(plan, self._sources, AnswerJob("export", "", method, "", (), (documents,)))

    def _workspace(self, method: str) -> "Workspace":
        """The workspace for a method's keys."""
        return self._workspaces[method]

    @cached_property
    def _workspaces(self) -> "dict[str, Workspace]":
        from dyprag.tasks.workspace import Workspace

        opened = Workspace(self.config)
        return {method: opened.answering(method) for method in METHODS}

    @cached_property
    def _sources(self) -> Any:
        from dyprag.tasks.planning.answers import sources_of

        return sources_of(self._workspace("dyprag"))

    def _untrained(self, reason: str) -> StoreError:
        remedy = "Run: dyprag parametrize, or choose --method dyprag."
        return StoreError(f"store {self.config.store}", reason, remedy)


def exported_text(exported: dict[str, Any]) -> str:
    """Describe what was exported, and how to serve it with vLLM."""
    lines = []
    if export := exported["peft"]:
        count = len(export["adapters"])
        lines.append(f"{count} adapter{'s' * (count != 1)} in {export['folder']}, {export['written']} written now. "
                     f"{Path(export['index']).name} maps documents to adapters.")  # fmt: skip
        if export["too_high"]:
            lines.append(f"Use PEFT: vLLM does not support rank {export['too_high']}.")
        else:
            lines.append(f"Serve {'them' if count > 1 else 'it'} with vLLM: sh {Path(export['folder']) / 'serve.sh'}")
    if export := exported["merged"]:
        lines.append(f"Model in {export['folder']}{'' if export['written'] else ' (already there)'}.")
    if (share := exported.get("share")) is not None and share < 1:
        count = len(exported["passages"])
        lines.append(f"{count} passages share the adapter, each at 1/{count} of its full strength, so the model "
                     "recalls little of each. Pass --question to export only the matching passages.")  # fmt: skip
    return "\n".join(lines)
