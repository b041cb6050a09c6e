"""What is to be made, under which key: the one place that says which settings and inputs an artifact depends on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dyprag.augmentation import LOCAL_VERSION
from dyprag.augmentation.checks import CHECKS_VERSION
from dyprag.augmentation.products import PRODUCTS, ProductName
from dyprag.augmentation.prompt_files import prompt_file
from dyprag.config import PipelineConfig
from dyprag.documents import Corpus, Document, Question, content_key
from dyprag.errors import ConfigError
from dyprag.model_files import model_fingerprint
from dyprag.prompts import PROMPTS_VERSION
from storage.artifacts import file_checksum


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
    """Keys of every artifact of a configuration over a corpus. The configuration must be resolved."""

    def __init__(self, config: PipelineConfig, corpus: Corpus) -> None:
        self.config, self.corpus = config, corpus

    @cached_property
    def model(self) -> dict[str, object]:
        """The model's part in a key."""
        return {"model": model_fingerprint(self.config.model.name), **self.config.model.material()}

    @cached_property
    def corpus_key(self) -> str:
        documents = [part for d in self.corpus.documents for part in (d.id, d.key)]
        questions = [f"{q.id}\n{q.question}\n{q.answers}\n{q.documents}\n{q.type}" for q in self.corpus.questions]
        return content_key("corpus", [*documents, *questions])

    @cached_property
    def documents(self) -> list[Document]:
        """Documents with text, one of each content: the same text under two ids is made once."""
        return distinct(self.corpus)

    def product_keys(self, document: Document) -> dict[ProductName, str]:
        """The keys of a document's two products; without rewrites only that of its question-answer pairs."""
        augment = self.config.augment
        keys: dict[ProductName, str] = {}
        for product in PRODUCTS:
            if getattr(augment, product) == 0:
                continue
            if augment.backend == "api":
                names = [product, "repair", *(["verify"] if product == "qa_pairs" else [])]
                inputs = [prompt_file(name, augment.prompts).digest for name in names]
                settings = augment.material_of(product)
            else:
                inputs, settings = [LOCAL_VERSION], {**augment.material_of(product), **self.model}
            settings = {**settings, "checks": CHECKS_VERSION}
            keys[product] = content_key(product, [document.key, *inputs], settings)
        return keys

    def augmentation_key(self, document: Document) -> str:
        return content_key("augmentation", list(self.product_keys(document).values()))

    def adapter_key(self, document: Document) -> str:
        settings = {
            "lora": self.config.lora.material(), "parametrize": self.config.parametrize.material(),
            "prompts": PROMPTS_VERSION, **self.model,
        }  # fmt: skip
        return content_key("adapter", [self.augmentation_key(document)], settings)

    def embedding_key(self, document: Document) -> str:
        return content_key("embedding", [document.key], self.model)

    def translator_key(self, documents: Sequence[Document]) -> str:
        """The translator trained on these documents' adapters and embeddings, or the official one that is given."""
        if self.config.translator.official:
            settings = {"rank": self.config.lora.rank, **self.model}
            return content_key("translator", ["official", official_checksum(self.config)], settings)
        inputs = [key for d in documents for key in (self.adapter_key(d), self.embedding_key(d))]
        return content_key("translator", inputs, self.config.translator.material())

    @cached_property
    def held_out(self) -> set[str]:
        """Ids of the documents that the translator is not trained on; chosen by content, whatever their order. At
        least one document is trained on, but if the translator comes from elsewhere."""
        if self.config.translator.official:
            return {d.id for d in self.corpus.documents}
        count = min(math.ceil(len(self.documents) * self.config.corpus.held_out), max(0, len(self.documents) - 1))
        chosen = sorted(self.documents, key=lambda d: content_key("held-out", [d.key]))[:count]
        keys = {d.key for d in chosen}
        return {d.id for d in self.corpus.documents if d.key in keys}

    def split(self, question: Question) -> str:
        """Whether the translator saw the question's documents in training: seen, unseen, or mixed."""
        held_out = self.held_out
        unseen = [document in held_out for document in question.documents]
        if unseen and all(unseen):
            return "unseen"
        return "seen" if unseen and not any(unseen) else "mixed"


def official_checksum(config: PipelineConfig) -> str:
    """Of the official translator that is to be taken; empty for none.

    Raises:
        ConfigError: it cannot be read.
    """
    file = config.translator.official
    try:
        return file_checksum(Path(file)) if file else ""
    except OSError as error:
        raise ConfigError(
            "setting 'translator.official'", f"{file} cannot be read ({error.strerror})",
            "Give a translator of the official code (epoch_N.pt).",
        ) from error  # fmt: skip


def distinct(corpus: Corpus) -> list[Document]:
    """Documents with text, one of each content: the first id stands for the same text under others."""
    return list({d.key: d for d in reversed(corpus.documents) if d.text}.values())[::-1]
