"""The plan: the key of every artifact of a configuration over a corpus, and the questions that each method answers."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property

from dyprag.config import PipelineConfig
from dyprag.corpora.documents import Corpus, Document, Question, content_key
from dyprag.corpora.products import PRODUCTS, ProductName
from dyprag.methods.spec import spec_of
from dyprag.tasks.planning import keys
from dyprag.tasks.planning.sources import draws_on_embeddings, given_checksum, model_material, writer_checksum


class Plan:
    """Keys of every artifact of a configuration over a corpus.

    Args:
        config: A resolved configuration.
        corpus_key: The key of a stored corpus; computed if it is not given.
        imported: Keys of imported adapters, which replace the trained ones, by document key.
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
        if corpus_key is not None:
            self.corpus_key = corpus_key

    @cached_property
    def model(self) -> dict[str, object]:
        """The model's part of a key."""
        return model_material(self.config)

    @cached_property
    def corpus_key(self) -> str:
        return keys.corpus_key(self.corpus)

    @cached_property
    def documents(self) -> list[Document]:
        """Documents with text, one per content: a text that occurs under two ids is processed once."""
        return distinct(self.corpus)

    def product_keys(self, document: Document) -> dict[ProductName, str]:
        """The keys of a document's products: question-answer pairs and, unless they are turned off, rewrites."""
        if document.key not in self._products:
            self._products[document.key] = {
                product: keys.product_key(product, document, material)
                for product, material in self._product_material.items()
            }
        return self._products[document.key]

    @cached_property
    def _product_material(self) -> dict[ProductName, keys.ProductMaterial]:
        """Computed once for all documents, since it takes longer than a key."""
        augment = self.config.augment
        wanted = [product for product in PRODUCTS if getattr(augment, product)]
        writer = writer_checksum(self.config)
        return {product: keys.product_material(product, augment, self.model, writer) for product in wanted}

    def augmentation_key(self, document: Document) -> str:
        return keys.augmentation_key(list(self.product_keys(document).values()))

    def adapter_key(self, document: Document) -> str:
        if imported := self.imported.get(document.key):
            return imported
        return keys.adapter_key(self.augmentation_key(document), self._adapter_material)

    @cached_property
    def _adapter_material(self) -> dict[str, object]:
        starts = self.config.parametrize.start == "translated"
        start = given_checksum(self.config) if starts else ""
        return keys.adapter_material(self.config.lora, self.config.parametrize, self.model, start)

    def embedding_key(self, document: Document) -> str:
        return keys.embedding_key(document, self.model)

    def translator_key(self, documents: Sequence[Document], start: str = "") -> str:
        """The key of the given translator, if there is one; else of the translator trained on these documents.
        `start` is the key of the translator that provides the initial weights."""
        if self.config.translator.official:
            return keys.official_translator_key(given_checksum(self.config), self.config.lora.rank, self.model)
        if self.config.translator.learned:
            return keys.given_translator_key(given_checksum(self.config), self.model)
        inputs = [key for d in documents for key in (self.adapter_key(d), self.embedding_key(d))]
        return keys.translator_key(inputs, start, self.config.translator.material())

    @cached_property
    def parametrized(self) -> list[Document]:
        """The documents that get a trained adapter.

        These are all documents, unless the translator is given and no method uses trained adapters. In an experiment
        they are the translator's training documents, if a method needs them, and the documents retrieved for questions
        of PRAG methods.
        """
        chosen, corpus = [spec_of(method) for method in self.methods], self.corpus
        injected = {spec.injects for spec in chosen}
        if corpus.retrieved is None:
            return self.documents if not self.config.translator.given or "trained" in injected else []
        wanted = set(corpus.alignment or ()) if any(spec.needs_training_pairs for spec in chosen) else set[str]()
        for method in (spec.name for spec in chosen if spec.injects == "trained"):
            wanted |= {i for q in self.questions(method) for i, _ in corpus.retrieved.get(q.id, ())}
        contents = {d.key for d in corpus.documents if d.id in wanted}
        return [document for document in self.documents if document.key in contents]

    @property
    def translated(self) -> bool:
        """Whether a translator is needed: always, except in an experiment without a method that uses it."""
        return self.corpus.retrieved is None or any(spec_of(method).uses_translator for method in self.methods)

    @cached_property
    def embedded(self) -> bool:
        """Whether document embeddings are needed; see `draws_on_embeddings`."""
        return draws_on_embeddings(self.config)

    @cached_property
    def document_keys(self) -> dict[str, str]:
        """Document keys by document id."""
        return {document.id: document.key for document in self.corpus.documents}

    @cached_property
    def positions(self) -> dict[str, int]:
        """Positions of the questions in the corpus, by question id."""
        return {question.id: position for position, question in enumerate(self.corpus.questions)}

    @cached_property
    def methods(self) -> list[str]:
        """The configured methods, each followed by its controls. Methods without a question to answer are left out."""
        settings = self.config.evaluate
        names = [name for method in settings.methods for name in (method, *spec_of(method).controls(settings.controls))]
        return [method for method in dict.fromkeys(names) if self.questions(method) or not self.corpus.questions]

    def questions(self, method: str) -> list[Question]:
        """The test questions that a method answers: up to the configured number per data set, without data sets
        reserved for other methods and without questions that lack a passage the method needs."""
        spec = spec_of(method)
        limits: Mapping[str, int] = self.config.evaluate.most_questions  # type: ignore[assignment]
        limit = limits.get(method, limits.get(spec.of))
        reserved = {dataset.name: dataset.methods for dataset in self.config.experiment.sets}
        counts: Counter[str] = Counter()
        chosen = []
        for question in self.corpus.questions:
            allowed = reserved.get(question.dataset)
            if allowed is not None and method not in {m for name in allowed for m in (name, *spec_of(name).controls())}:
                continue
            retrieved = self.corpus.retrieved
            if retrieved is not None and spec.needs_passages and not retrieved.get(question.id):
                continue
            counts[question.dataset] += 1
            if limit is None or counts[question.dataset] <= limit:
                chosen.append(question)
        return chosen

    @cached_property
    def held_out(self) -> set[str]:
        """Ids of the documents that the translator is not trained on.

        They are chosen by content, so their order does not matter. At least one document is left for training, unless
        the translator is given.
        """
        if self.config.translator.given:
            return {d.id for d in self.corpus.documents}
        if self.corpus.alignment is not None:
            return {d.id for d in self.corpus.documents} - self.corpus.alignment
        count = min(math.ceil(len(self.documents) * self.config.corpus.held_out), max(0, len(self.documents) - 1))
        chosen = sorted(self.documents, key=lambda d: content_key("held-out", [d.key]))[:count]
        contents = {d.key for d in chosen}
        return {d.id for d in self.corpus.documents if d.key in contents}

    def split(self, question: Question) -> str:
        """Whether the translator saw the question's documents in training: `seen`, `unseen` or `mixed`."""
        held_out = self.held_out
        if self.corpus.alignment is not None:
            return "unseen"
        unseen = [document in held_out for document in question.documents]
        if unseen and all(unseen):
            return "unseen"
        return "seen" if unseen and not any(unseen) else "mixed"


def distinct(corpus: Corpus) -> list[Document]:
    """Documents with text, one per content. The first id stands for the others."""
    return list({d.key: d for d in reversed(corpus.documents) if d.text}.values())[::-1]
