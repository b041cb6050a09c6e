"""What is to be made, under which key: the one place that says which settings and inputs an artifact depends on."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dyprag.augmentation import local_version
from dyprag.augmentation.checks import CHECKS_VERSION
from dyprag.augmentation.products import PRODUCTS, ProductName
from dyprag.augmentation.prompt_files import prompt_file
from dyprag.config import PipelineConfig
from dyprag.corpora.documents import Corpus, Document, Question, content_key
from dyprag.errors import ConfigError
from dyprag.model.chat import template_version
from dyprag.model.files import learned_folder, model_fingerprint, reads_tokens
from dyprag.model.prompts import PROMPTS_VERSION
from dyprag.storage.artifacts import Store
from dyprag.storage.files import file_checksum
from dyprag.storage.latest import dated_notes, forget_latest, latest, note_latest, resolved_location

PREPARED = "corpus:"  # before the key of a corpus that an experiment has put into the store
LOOPING = ("flare", "dragin")  # methods that retrieve while they answer
LOCATIONS = ("documents", "questions")  # settings of a corpus that are one or other name of a place
CORPUS_LAYOUT = 2  # of the corpus' tables: raise it with any change of their columns


@dataclass(frozen=True)
class Job:
    """One document's work in one stage: what to make, and the key of what it is made from."""

    document_id: str
    document_key: str
    key: str
    upstream: tuple[str, ...] = ()


@dataclass(frozen=True)
class AugmentJob:
    """One document's augmentation: its key, and the key of each product that it consists of."""

    document_id: str
    document_key: str
    key: str
    products: dict[ProductName, str]


class Plan:
    """Keys of every artifact of a configuration over a corpus. The configuration must be resolved.

    `imported` has the keys of adapters that were trained elsewhere and stand for documents' own, by document key.
    """

    def __init__(
        self,
        config: PipelineConfig,
        corpus: Corpus,
        corpus_key: str | None = None,
        imported: Mapping[str, str] | None = None,
    ) -> None:
        self.config, self.corpus, self.imported = config, corpus, imported or {}
        self._products: dict[str, dict[ProductName, str]] = {}  # by document key
        if corpus_key is not None:  # of one that is stored
            self.corpus_key = corpus_key

    @cached_property
    def model(self) -> dict[str, object]:
        """The model's part in a key."""
        return model_material(self.config)

    @cached_property
    def corpus_key(self) -> str:
        corpus = self.corpus
        documents = [part for d in corpus.documents for part in (d.id, d.key)]
        questions = [str(astuple(q)) for q in (*corpus.questions, *corpus.alignment_questions)]
        apart = {"alignment": None if corpus.alignment is None else sorted(corpus.alignment),
                 "retrieved": None if corpus.retrieved is None else dict(corpus.retrieved),
                 "passages": dict(corpus.passages)}  # fmt: skip
        return content_key("corpus", [*documents, *questions], {"layout": CORPUS_LAYOUT, **apart})

    @cached_property
    def documents(self) -> list[Document]:
        """Documents with text, one of each content: the same text under two ids is made once."""
        return distinct(self.corpus)

    def product_keys(self, document: Document) -> dict[ProductName, str]:
        """The keys of a document's two products; without rewrites only that of its question-answer pairs."""
        if document.key not in self._products:
            self._products[document.key] = {
                product: content_key(product, [document.key, *(inputs or [local_version(document.text)])], settings)
                for product, (inputs, settings) in self._product_material.items()
            }
        return self._products[document.key]

    @cached_property
    def _product_material(self) -> dict[ProductName, tuple[list[str], dict[str, object]]]:
        """What enters the keys of all documents' products alike: inputs (none of what the local model writes, by rules
        that depend on the text) and settings. Worked out once, for it takes longer than a key."""
        augment = self.config.augment
        material: dict[ProductName, tuple[list[str], dict[str, object]]] = {}
        for product in PRODUCTS:
            if getattr(augment, product) == 0:
                continue
            if augment.backend == "api":
                names = [product, "repair", *(["verify"] if product == "qa_pairs" else [])]
                inputs = [prompt_file(name, augment.prompts).digest for name in names]
                settings = augment.material_of(product)
            else:
                inputs, settings = [], {**augment.material_of(product), **self.model}
            material[product] = inputs, {**settings, "checks": CHECKS_VERSION}
        return material

    def augmentation_key(self, document: Document) -> str:
        return content_key("augmentation", list(self.product_keys(document).values()))

    def adapter_key(self, document: Document) -> str:
        if imported := self.imported.get(document.key):
            return imported
        return content_key("adapter", [self.augmentation_key(document)], self._adapter_material)

    @cached_property
    def _adapter_material(self) -> dict[str, object]:
        return {
            "lora": self.config.lora.material(), "parametrize": self.config.parametrize.material(),
            "prompts": PROMPTS_VERSION, **self.model,
        }  # fmt: skip

    def embedding_key(self, document: Document) -> str:
        return content_key("embedding", [document.key], self.model)

    def translator_key(self, documents: Sequence[Document], start: str = "") -> str:
        """The translator trained on these documents' adapters and embeddings, from the weights of the one that `start`
        names if there is one; or the one that is given."""
        if self.config.translator.official:
            settings = {"rank": self.config.lora.rank, **self.model}
            return content_key("translator", ["official", given_checksum(self.config)], settings)
        if self.config.translator.learned:
            return content_key("translator", ["learned", given_checksum(self.config)], self.model)
        inputs = [key for d in documents for key in (self.adapter_key(d), self.embedding_key(d))]
        return content_key("translator", [*inputs, *([start] if start else [])], self.config.translator.material())

    @cached_property
    def parametrized(self) -> list[Document]:
        """The documents that get an adapter trained: all of them, but none where the translator comes from elsewhere
        and no method is PRAG's, and of an experiment only those that the translator is trained on, if a method has one,
        and those found for the questions that a PRAG method answers."""
        methods, corpus = self.methods, self.corpus
        if corpus.retrieved is None:
            return self.documents if not self.config.translator.given or any(map(needs_adapters, methods)) else []
        wanted = set(corpus.alignment or ()) if any(map(needs_training_pairs, methods)) else set[str]()
        for method in filter(needs_adapters, methods):
            wanted |= {i for q in self.questions(method) for i, _ in corpus.retrieved.get(q.id, ())}
        keys = {d.key for d in corpus.documents if d.id in wanted}
        return [document for document in self.documents if document.key in keys]

    @property
    def translated(self) -> bool:
        """Whether a translator is trained: always, but of an experiment only if a method has need of it."""
        return self.corpus.retrieved is None or any(method.startswith("dyprag") for method in self.methods)

    @cached_property
    def embedded(self) -> bool:
        """See `draws_on_embeddings`."""
        return draws_on_embeddings(self.config)

    @cached_property
    def keys(self) -> dict[str, str]:
        """Each document's key by its id."""
        return {document.id: document.key for document in self.corpus.documents}

    @cached_property
    def methods(self) -> list[str]:
        """The methods asked for, each followed by its controls; those that have no question to answer are left out."""
        settings = self.config.evaluate
        named = [name for method in settings.methods for name in (method, *controls(method, settings.controls))]
        return [method for method in dict.fromkeys(named) if self.questions(method) or not self.corpus.questions]

    def questions(self, method: str) -> list[Question]:
        """The test questions that a method answers: of each data set at most as many as are set for it, none where the
        set is for other methods, and none that it has no passage for."""
        limits: Mapping[str, int] = self.config.evaluate.most_questions  # type: ignore[assignment]
        most = limits.get(method, limits.get(family(method)))
        only = {one.name: one.methods for one in self.config.experiment.sets}
        taken: Counter[str] = Counter()
        chosen = []
        for question in self.corpus.questions:
            allowed = only.get(question.dataset)
            kinds = ("wrong", "mean", "generic", "zero")
            if allowed is not None and method not in {m for one in allowed for m in (one, *controls(one, kinds))}:
                continue
            retrieved = self.corpus.retrieved
            if retrieved is not None and needs_passages(method) and not retrieved.get(question.id):
                continue
            taken[question.dataset] += 1
            if most is None or taken[question.dataset] <= most:
                chosen.append(question)
        return chosen

    @cached_property
    def held_out(self) -> set[str]:
        """Ids of the documents that the translator is not trained on; chosen by content, whatever their order. At
        least one document is trained on, but if the translator comes from elsewhere."""
        if self.config.translator.given:
            return {d.id for d in self.corpus.documents}
        if self.corpus.alignment is not None:
            return {d.id for d in self.corpus.documents} - self.corpus.alignment
        count = min(math.ceil(len(self.documents) * self.config.corpus.held_out), max(0, len(self.documents) - 1))
        chosen = sorted(self.documents, key=lambda d: content_key("held-out", [d.key]))[:count]
        keys = {d.key for d in chosen}
        return {d.id for d in self.corpus.documents if d.key in keys}

    def split(self, question: Question) -> str:
        """Whether the translator saw the question's documents in training: seen, unseen, or mixed."""
        held_out = self.held_out
        if self.corpus.alignment is not None:
            return "unseen"
        unseen = [document in held_out for document in question.documents]
        if unseen and all(unseen):
            return "unseen"
        return "seen" if unseen and not any(unseen) else "mixed"


def model_material(config: PipelineConfig) -> dict[str, object]:
    """The model's part in a key; with the rendering of its chat template where that is one of this package's own."""
    version = template_version(config.model.name)
    rendered = {"template": version} if version else {}
    return {"model": model_fingerprint(config.model.name), **config.model.material(), **rendered}


def corpus_settings(config: PipelineConfig) -> dict[str, object]:
    """What says which corpus an ingest stores: under these settings a later stage finds it."""
    settings = _located(config.corpus.model_dump(mode="json", exclude={"held_out"}, exclude_none=True))
    counted = {"model": model_fingerprint(config.model.name)} if config.corpus.passage_tokens else {}
    return {**settings, **counted, "layout": CORPUS_LAYOUT}


def find_latest(store: Store, kind: str, settings: Mapping[str, Any]) -> str | None:
    """The key of the latest artifact of a kind under settings with a corpus' among them, by whatever name that was
    called when it was noted: as earlier versions did, as it was given."""
    if key := latest(store, kind, settings):
        return key
    same = [(noted, key) for noted, key, known in dated_notes(store, kind) if _located(known) == settings]
    return max(same)[1] if same else None


def note_found(store: Store, kind: str, settings: Mapping[str, Any], key: str) -> None:
    """Note an artifact as the latest of its kind under such settings, in place of what other names say."""
    note_latest(store, kind, settings, key)
    for _, _, known in list(dated_notes(store, kind)):
        if known != settings and _located(known) == settings:
            forget_latest(store, kind, known)


def _located(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with their locations under their resolved names."""
    places = {
        name: resolved_location(settings[name])
        for name in LOCATIONS
        if settings.get(name) not in (None, "demo") and not str(settings[name]).startswith(PREPARED)
    }
    return {**settings, **places}


def translator_settings(config: PipelineConfig) -> dict[str, object]:
    """Under which settings the last translator is kept while few documents are new to it."""
    made_by = {name: getattr(config, name).material() for name in ("lora", "parametrize", "translator")}
    products = {str(product): config.augment.material_of(product) for product in PRODUCTS}
    corpus = {**corpus_settings(config), "held_out": config.corpus.held_out}
    return {**corpus, **made_by, **products, "given": given_checksum(config), **model_material(config)}


def needs_training_pairs(method: str) -> bool:
    """Whether a method, or a control, draws on the translator's training documents: by the translator, or on their
    adapters and pairs themselves."""
    return method.startswith(("dyprag", "generic")) or method.endswith("-mean")


def needs_adapters(method: str) -> bool:
    """Whether a method injects the trained adapters of a question's own documents, or of other questions'."""
    return method.startswith("prag") and not method.endswith("-mean")


def needs_passages(method: str) -> bool:
    """Whether a method, or the one that it controls, cannot do without passages, in the prompt or as adapters."""
    return method not in ("vanilla", "zero", "generic")


def shows_passages(method: str) -> bool:
    """Whether the passages found for a question stand in a method's prompt."""
    return method == "rag" or "-combine" in method


def family(method: str) -> str:
    """The method that a control of one method belongs to; itself for any other."""
    return method.removesuffix("-wrong").removesuffix("-mean")


def controls(method: str, kinds: Sequence[str]) -> list[str]:
    """The controls of these kinds for a method with adapters; rag is what the zero adapter makes of a combined one."""
    if not method.startswith(("prag", "dyprag")) or method != family(method):
        return []
    combined = "-combine" if method.endswith("-combine") else ""
    names = {"wrong": f"{method}-wrong", "mean": f"{method}-mean", "generic": f"generic{combined}", "zero": "zero"}
    return [names[kind] for kind in kinds if not (kind == "zero" and combined)]


def draws_on_embeddings(config: PipelineConfig) -> bool:
    """Whether DyPRAG does. With a translator that reads all tokens of a document it does not.

    Raises:
        ConfigError: the translator cannot be read.
    """
    learned = config.translator.learned
    if learned is None:
        return True
    given_checksum(config)
    return not reads_tokens(learned_folder(learned, config.model.name))


def given_checksum(config: PipelineConfig) -> str:
    """Of the translator from elsewhere that is to be taken; empty for none.

    Raises:
        ConfigError: it cannot be read.
    """
    official, learned = config.translator.official, config.translator.learned
    if official:
        try:
            return file_checksum(Path(official))
        except OSError as error:
            raise _unreadable(
                "translator.official", official, error, "a translator of the official code (epoch_N.pt)"
            ) from error
    return learned_checksum("translator.learned", learned, config.model.name) if learned else ""


def learned_checksum(setting: str, name: str, model: str) -> str:
    """Of a learned translator that a setting names.

    Raises:
        ConfigError: it cannot be read.
    """
    folder = learned_folder(name, model)
    try:
        return "".join(file_checksum(folder / f"translator.{kind}") for kind in ("json", "safetensors"))
    except OSError as error:
        raise _unreadable(setting, name, error, "the folder that learn.output named, or 'packaged'") from error


def _unreadable(setting: str, given: str, error: OSError, remedy: str) -> ConfigError:
    return ConfigError(f"setting '{setting}'", f"{given} cannot be read ({error.strerror})", f"Give {remedy}.")


def distinct(corpus: Corpus) -> list[Document]:
    """Documents with text, one of each content: the first id stands for the same text under others."""
    return list({d.key: d for d in reversed(corpus.documents) if d.text}.values())[::-1]
