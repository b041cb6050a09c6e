"""`dyprag export`: adapters for PEFT and vLLM, or the model with one merged in."""

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
        typer.Option("--merged", metavar="DIR", help="Write the model with the one adapter merged into its weights, in "
                     "model.dtype."),
    ] = None,
    document: Annotated[
        str | None, typer.Option("--document", "-d", metavar="ID", help="Only this document's of the corpus.")
    ] = None,
    question: Annotated[
        str | None,
        typer.Option("--question", "-q", help="Those of the documents found for this, merged into one; with --file, of "
                     "its passages."),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option("--file", "-f", metavar="FILE", help="Of a file: the translator makes its adapter. A long one "
                     "needs a --question."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option("--method", "-m", help="prag: trained adapters; dyprag: translated ones. By default prag where "
                     "the store has them."),
    ] = None,
    base_model: Annotated[
        str | None,
        typer.Option("--base-model", metavar="NAME_OR_PATH", help="With --peft: what the adapters name as their base "
                     "model, and serve.sh serves. By default the model's Hugging Face id, or its folder."),
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:  # fmt: skip
    """Write adapters for PEFT and vLLM, of the whole corpus, a document, a question or a file; or a merged model."""
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
    """What is to be exported: one document of the corpus, what is found for a question (in the corpus, or in a file), a
    file; else the corpus.

    Raises:
        ConfigError: more than one is named, or no such method.
    """

    document: str | None = None
    question: str | None = None
    file: str | None = None
    method: str | None = None

    def __post_init__(self) -> None:
        if self.document is not None and (self.question is not None or self.file is not None):
            reason = "more than one of --document, --question and --file is given"
            remedy = "Name one of them, --file with a --question, or none for the whole corpus."
            raise ConfigError("what to export", reason, remedy)
        if self.method not in (None, *METHODS):
            raise ConfigError(
                f"method {self.method!r}", "this method has no adapters to export", "Choose prag or dyprag."
            )
        if self.file is not None and self.method == "prag":
            raise ConfigError(
                "--method prag", "a file has no trained adapter", "Omit --method: the translator makes the adapter."
            )

    @property
    def one(self) -> bool:
        """Whether it is a single adapter."""
        return bool(self.document is not None or self.question is not None or self.file is not None)


def export_adapters(
    choice: Choice, peft: Path | None, merged: Path | None, config: "PipelineConfig", base_model: str | None = None
) -> dict[str, Any]:
    """Export adapters in PEFT's format, or the model with one merged in, or both.

    Args:
        base_model: what the adapters are to name as their base model, and vLLM's command to serve. None: what they were
            told the last time, else the name under which other programs load it.

    Returns:
        method; missing: ids of documents without an adapter; merged: the folder of the model, and whether it was
        written; peft: see `export_peft`. The last two are None where they are not asked for. passages: of a file, the
        ids of those that share the adapter; share: the part of its strength that each has, None where it is no such.

    Raises:
        ConfigError: nowhere to write to, or a choice that cannot be.
        StoreError: the corpus or what makes its adapters is not in the store.
        ExportError: there is nothing to export, or the folder cannot be written.
    """
    if peft is None and merged is None:
        raise ConfigError("dyprag export", "no folder to write to was given", "Give --peft DIR, or --merged DIR.")
    if merged is not None and not choice.one:
        raise ConfigError(
            "--merged", "a merged model takes exactly one adapter", "Pass --document, --question or --file."
        )
    config = config.resolved()
    source = Source(choice, config)
    items = list(source.items())
    found: dict[str, Any] = {"method": items[0].method, "missing": source.missing, "peft": None, "merged": None}
    if choice.file is not None:
        count = len(items[0].made_of)
        equal = choice.question is None and config.evaluate.dyprag_merge != "sum"
        found |= {"passages": list(items[0].made_of), "share": 1 / count if equal else None}
    if peft is not None:
        found["peft"] = export_peft(items, peft, not choice.one, config, base_model)
    if merged is not None:
        from dyprag.adapters.exchange.merged import save_merged
        from dyprag.runtime.batching import compute

        name, dtype = config.model.name, config.model.dtype
        written = compute(lambda: save_merged(name, items[0].adapter(), merged, dtype))
        found["merged"] = {"folder": str(merged), "written": written}
    return found


class Source:
    """Where the adapters of a choice come from. The configuration must be resolved."""

    def __init__(self, choice: Choice, config: "PipelineConfig") -> None:
        self.choice, self.config = choice, config
        self.missing: list[str] = []

    def items(self) -> Iterator[Item]:
        """The adapters, one after the other; `missing` has the documents without one when they are through.

        Raises:
            StoreError, ExportError, CorpusError, ConfigError: see `export`.
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
            passages = tuple(found.document.id for found in assistant.shared(documents, question))
        except DocumentError as error:
            remedy = error.remedy if question is not None else "Name a --question, whose passages are taken, or cut it."
            raise ExportError(f"file {location}", error.reason, remedy) from error
        label, name = (Path(location).stem, location) if question is None else (question, f"{location}: {question}")
        return Item(label, "files", (name,), passages, "dyprag", lambda: assistant.adapter(documents, question))

    def _of_question(self, question: str) -> Item:
        found = self._workspace("prag").passages.search(question, self.config.evaluate.passages)
        if not found:
            raise ExportError(
                f"question {question!r}", "no document matches it", "Use words that occur in the documents."
            )
        trained = [hit for hit in found if self._trained(hit.document)]
        method = self.choice.method or ("prag" if trained else "dyprag")
        if method == "prag" and not trained:
            raise self._untrained("no document that was found has an adapter")
        used = trained if method == "prag" else found
        self.missing = [hit.document.id for hit in found if hit not in used]
        ids = tuple(hit.document.id for hit in used)
        return Item(question, "questions", (question,), ids, method, lambda: self._merged(method, used))

    def _of_document(self, identity: str) -> Item:
        document = self._workspace("prag").document(identity)
        if document.fault:
            raise document.fault
        method = self.choice.method or ("prag" if self._trained(document) else "dyprag")
        item = self._item(document, (identity,), method)
        if item is None:
            raise self._untrained(f"document {identity!r} has no adapter yet")
        return item

    def _of_corpus(self) -> Iterator[Item]:
        plan = self._workspace("prag").plan
        names: dict[str, list[str]] = {}  # the same text under several ids has one adapter
        for document in plan.corpus.documents:
            names.setdefault(document.key, []).append(document.id)
        method = self.choice.method or ("prag" if any(map(self._trained, plan.documents)) else "dyprag")
        there = 0
        for document in plan.documents:
            if item := self._item(document, tuple(names[document.key]), method):
                there += 1
                yield item
            else:
                self.missing += names[document.key]
        if not there:
            raise self._untrained("no document has an adapter yet")

    def _item(self, document: "Document", names: tuple[str, ...], method: str) -> Item | None:
        """A document's adapter; None where it is to be a trained one, and there is none."""
        stored = self._trained(document) if method == "prag" else None
        if method == "prag" and stored is None:
            return None
        from dyprag.corpora.documents import Retrieved

        alone = [Retrieved(document, 1.0)]
        return Item(names[0], "documents", names, names[:1], method, lambda: self._merged(method, alone), stored)

    def _trained(self, document: "Document") -> Path | None:
        """The folder of a document's adapter in the store; None where there is none."""
        workspace = self._workspace("prag")
        key = workspace.plan.adapter_key(document)
        return workspace.store.folder("adapter", key) if workspace.store.find("adapter", key) else None

    def _merged(self, method: str, found: "list[Retrieved]") -> "Adapters":
        """What an answer by the method about these documents has injected."""
        from dyprag.runtime.batching import compute
        from dyprag.tasks.evaluate import make_method

        workspace = self._workspace(method)
        job = self._job(method, found)
        maker: Any = make_method(job, workspace.corpus_key, workspace.config)
        return compute(lambda: maker.adapter(found))

    def _job(self, method: str, found: "list[Retrieved]") -> Any:
        from dyprag.tasks.planning.answers import AnswerJob, linked

        plan = self._workspace(method).plan
        documents = tuple((hit.document.id, hit.score) for hit in found)
        if method == "prag":
            keys = {hit.document.key: plan.adapter_key(hit.document) for hit in found}
            return AnswerJob("export", "", method, "", (), (documents,), adapters=keys)
        return linked(plan, self._sources, AnswerJob("export", "", method, "", (), (documents,)))

    def _workspace(self, method: str) -> "Workspace":
        """The store's corpus and keys for a method."""
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


def exported_text(found: dict[str, Any]) -> str:
    """What was exported, in words, and how vLLM serves it."""
    lines = []
    if made := found["peft"]:
        count = len(made["adapters"])
        lines.append(f"{count} adapter{'s' * (count != 1)} in {made['folder']}, {made['written']} written now; "
                     f"{Path(made['index']).name} says which is whose.")  # fmt: skip
        if made["too_high"]:
            lines.append(f"For PEFT: vLLM takes no rank of {made['too_high']}.")
        else:
            lines.append(f"vLLM serves {'them' if count > 1 else 'it'}: sh {Path(made['folder']) / 'serve.sh'}")
    if made := found["merged"]:
        lines.append(f"Model in {made['folder']}{'' if made['written'] else ', where it was already'}.")
    if (share := found.get("share")) is not None and share < 1:
        count = len(found["passages"])
        lines.append(f"{count} passages share the adapter, each with 1/{count} of the strength that it has alone, so "
                     "that little is known of each: --question takes those that fit one.")  # fmt: skip
    return "\n".join(lines)
