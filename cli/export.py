"""`dyprag export`: adapters for PEFT and vLLM, or the model with one merged in."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dyprag.config import PipelineConfig
from dyprag.corpora.documents import Document, Retrieved
from dyprag.errors import ConfigError, DocumentError, ExportError, StoreError

if TYPE_CHECKING:
    from dyprag.adapters.lora import Adapters
    from dyprag.model.base import BaseModel

METHODS = ("prag", "dyprag")


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
            raise ConfigError(f"method {self.method!r}", "it has no adapters of its own", "Choose prag or dyprag.")
        if self.file is not None and self.method == "prag":
            raise ConfigError(
                "--method prag", "no adapter is trained for a file", "Leave it out: the translator makes its adapter."
            )

    @property
    def one(self) -> bool:
        """Whether it is a single adapter."""
        return bool(self.document is not None or self.question is not None or self.file is not None)


@dataclass(frozen=True)
class Item:
    """An adapter to export: what its folder is called, the table of the index that names it, under which keys, the ids
    that it was made of, and how it is made; `stored` is its folder in the store, if it is one of those."""

    label: str
    table: str
    names: tuple[str, ...]
    made_of: tuple[str, ...]
    method: str
    adapter: Callable[[], "Adapters"]
    stored: Path | None = None


def export(
    choice: Choice, peft: Path | None, merged: Path | None, config: PipelineConfig, base_model: str | None = None
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
        raise ConfigError("dyprag export", "it is not said where to", "Give --peft DIR, or --merged DIR.")
    if merged is not None and not choice.one:
        raise ConfigError("--merged", "one adapter is merged in", "Name a --document, a --question or a --file.")
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


def export_peft(
    items: list[Item], folder: Path, whole: bool, config: PipelineConfig, base_model: str | None = None
) -> dict[str, Any]:
    """Write adapters, the index and vLLM's command.

    Args:
        whole: whether these are all documents' adapters, so that the index names no other document.
        base_model: see `export`.

    Returns:
        adapters (names of the folders that the index knows), written (how many of them were not there), folder, index,
        serve (vLLM's command, in lines), too_high (the highest rank, where vLLM does not take it).
    """
    from dyprag.adapters.exchange.export import INDEX, VLLM_RANKS, read_index, serve_command, write_index
    from dyprag.model.base import model_shape
    from dyprag.model.files import public_name

    base = model_shape(config.model.name)
    index = read_index(folder, config.model.name, base.fingerprint)
    index.base_model = index.base_model if base_model is None else base_model
    if whole:
        index.documents = {}
    written = 0
    for item in items:
        placed = _place(folder, item, base, config.model.name, index.base_model or public_name(config.model.name))
        written += placed.made
        getattr(index, item.table).update(dict.fromkeys(item.names, placed.name))
        index.adapters[placed.name] = {
            "method": item.method, "made_of": list(item.made_of), "rank": placed.rank, "alpha": placed.alpha,
            "bytes": placed.bytes,
        }  # fmt: skip
    index.prune()
    write_index(folder, index)
    highest = max(told["rank"] for told in index.adapters.values())
    return {
        "adapters": list(index.adapters), "written": written, "folder": str(folder), "index": str(folder / INDEX),
        "serve": serve_command(index), "too_high": highest if highest > VLLM_RANKS[-1] else None,
    }  # fmt: skip


def _place(folder: Path, item: Item, base: "BaseModel", model: str, name: str) -> Any:
    import json

    from dyprag.adapters.exchange.export import copy_adapter, name_base_model, place, write_adapter

    def fill(temporary: Path) -> None:
        alpha = None
        if item.stored is not None:
            alpha = json.loads((item.stored / "adapter_config.json").read_text())["lora_alpha"]
        if item.stored is not None and isinstance(alpha, int):  # as it is in the store, to the byte
            copy_adapter(item.stored, temporary)
        else:
            write_adapter(base, item.adapter(), temporary, model)
        name_base_model(temporary, name)

    return place(folder, item.label, fill)


class Source:
    """Where the adapters of a choice come from. The configuration must be resolved."""

    def __init__(self, choice: Choice, config: PipelineConfig) -> None:
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
        from dyprag.cli.documents import given_documents
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
        from dyprag.tasks.evaluate import passages_of

        stage = self._stage("prag")
        passages = passages_of(self.config.store, stage.require_corpus(), stage.plan.corpus, "")
        found = passages.search(question, self.config.evaluate.passages)
        if not found:
            raise ExportError(f"question {question!r}", "no document was found for it", "Ask in the documents' words.")
        trained = [hit for hit in found if self._trained(hit.document)]
        method = self.choice.method or ("prag" if trained else "dyprag")
        if method == "prag" and not trained:
            raise self._untrained("no document that was found has an adapter")
        used = trained if method == "prag" else found
        self.missing = [hit.document.id for hit in found if hit not in used]
        ids = tuple(hit.document.id for hit in used)
        return Item(question, "questions", (question,), ids, method, lambda: self._merged(method, used))

    def _of_document(self, identity: str) -> Item:
        documents = {document.id: document for document in self._stage("prag").plan.corpus.documents}
        document = documents.get(identity)
        if document is None:
            from dyprag.cli.documents import unknown_document

            raise unknown_document(identity, list(documents))
        if document.fault:
            raise document.fault
        method = self.choice.method or ("prag" if self._trained(document) else "dyprag")
        item = self._item(document, (identity,), method)
        if item is None:
            raise self._untrained(f"document {identity!r} has no adapter yet")
        return item

    def _of_corpus(self) -> Iterator[Item]:
        plan = self._stage("prag").plan
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

    def _item(self, document: Document, names: tuple[str, ...], method: str) -> Item | None:
        """A document's adapter; None where it is to be a trained one, and there is none."""
        stored = self._trained(document) if method == "prag" else None
        if method == "prag" and stored is None:
            return None
        alone = [Retrieved(document, 1.0)]
        return Item(names[0], "documents", names, names[:1], method, lambda: self._merged(method, alone), stored)

    def _trained(self, document: Document) -> Path | None:
        """The folder of a document's adapter in the store; None where there is none."""
        stage = self._stage("prag")
        key = stage.plan.adapter_key(document)
        return stage.store.folder("adapter", key) if stage.store.find("adapter", key) else None

    def _merged(self, method: str, found: list[Retrieved]) -> "Adapters":
        """What an answer by the method about these documents has injected."""
        from dyprag.runtime.batching import compute
        from dyprag.tasks.evaluate import make_method

        stage = self._stage(method)
        job = self._job(method, found)
        maker: Any = make_method(job, stage.require_corpus(), stage.config)
        return compute(lambda: maker.adapter(found))

    def _job(self, method: str, found: list[Retrieved]) -> Any:
        from dyprag.tasks.planning.answers import AnswerJob, linked

        stage = self._stage(method)
        documents = tuple((hit.document.id, hit.score) for hit in found)
        if method == "prag":
            keys = {hit.document.key: stage.plan.adapter_key(hit.document) for hit in found}
            return AnswerJob("export", "", method, "", (), (documents,), adapters=keys)
        return linked(stage.plan, self._sources, AnswerJob("export", "", method, "", (), (documents,)))

    def _stage(self, method: str) -> Any:
        """The store's corpus and keys for a method."""
        return self._stages[method]

    @cached_property
    def _stages(self) -> dict[str, Any]:
        from dyprag.flows.stage import Stage

        def of(method: str) -> Any:
            chosen = self.config.evaluate.model_copy(update={"methods": (method,), "controls": ()})
            return Stage(self.config.model_copy(update={"evaluate": chosen}), "export")

        return {method: of(method) for method in METHODS}

    @cached_property
    def _sources(self) -> Any:
        from dyprag.flows.evaluate import sources_of

        return sources_of(self._stage("dyprag"))

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
