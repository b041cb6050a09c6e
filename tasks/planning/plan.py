"""The plan: the key of every artifact of a configuration over a corpus, and which questions each method answers."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property

from dyprag.augmentation.products import PRODUCTS, ProductName
from dyprag.config import PipelineConfig
from dyprag.corpora.documents import Corpus, Document, Question, content_key
from dyprag.methods.spec import spec_of
from dyprag.tasks.planning import keys
from dyprag.tasks.planning.sources import draws_on_embeddings, given_checksum, model_material


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
        return keys.corpus_key(self.corpus)

    @cached_property
    def documents(self) -> list[Document]:
        """Documents with text, one of each content: the same text under two ids is made once."""
        return distinct(self.corpus)

    def product_keys(self, document: Document) -> dict[ProductName, str]:
        """The keys of a document's two products; without rewrites only that of its question-answer pairs."""
        if document.key not in self._products:
            self._products[document.key] = {
                product: keys.product_key(product, document, material)
                for product, material in self._product_material.items()
            }
        return self._products[document.key]

    @cached_property
    def _product_material(self) -> dict[ProductName, keys.ProductMaterial]:
        """Worked out once for all documents: it takes longer than a key."""
        augment = self.config.augment
        wanted = [product for product in PRODUCTS if getattr(augment, product)]
        return {product: keys.product_material(product, augment, self.model) for product in wanted}

    def augmentation_key(self, document: Document) -> str:
        return keys.augmentation_key(list(self.product_keys(document).values()))

    def adapter_key(self, document: Document) -> str:
        if imported := self.imported.get(document.key):
            return imported
        return keys.adapter_key(self.augmentation_key(document), self._adapter_material)

    @cached_property
    def _adapter_material(self) -> dict[str, object]:
        return keys.adapter_material(self.config.lora, self.config.parametrize, self.model)

    def embedding_key(self, document: Document) -> str:
        return keys.embedding_key(document, self.model)

    def translator_key(self, documents: Sequence[Document], start: str = "") -> str:
        """The translator trained on these documents' adapters and embeddings, from the weights of the one that `start`
        names if there is one; or the one that is given."""
        if self.config.translator.official:
            return keys.official_translator_key(given_checksum(self.config), self.config.lora.rank, self.model)
        if self.config.translator.learned:
            return keys.given_translator_key(given_checksum(self.config), self.model)
        inputs = [key for d in documents for key in (self.adapter_key(d), self.embedding_key(d))]
        return keys.translator_key(inputs, start, self.config.translator.material())

    @cached_property
    def parametrized(self) -> list[Document]:
        """The documents that get an adapter trained: all of them, but none where the translator comes from elsewhere
        and no method is PRAG's, and of an experiment only those that the translator is trained on, if a method has one,
        and those found for the questions that a PRAG method answers."""
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
        """Whether a translator is trained: always, but of an experiment only if a method has need of it."""
        return self.corpus.retrieved is None or any(spec_of(method).uses_translator for method in self.methods)

    @cached_property
    def embedded(self) -> bool:
        """See `draws_on_embeddings`."""
        return draws_on_embeddings(self.config)

    @cached_property
    def document_keys(self) -> dict[str, str]:
        """Each document's key by its id."""
        return {document.id: document.key for document in self.corpus.documents}

    @cached_property
    def positions(self) -> dict[str, int]:
        """Each question's position in the corpus by its id."""
        return {question.id: position for position, question in enumerate(self.corpus.questions)}

    @cached_property
    def methods(self) -> list[str]:
        """The methods asked for, each followed by its controls; those that have no question to answer are left out."""
        settings = self.config.evaluate
        named = [name for method in settings.methods for name in (method, *spec_of(method).controls(settings.controls))]
        return [method for method in dict.fromkeys(named) if self.questions(method) or not self.corpus.questions]

    def questions(self, method: str) -> list[Question]:
        """The test questions that a method answers: of each data set at most as many as are set for it, none where the
        set is for other methods, and none that it has no passage for."""
        spec = spec_of(method)
        limits: Mapping[str, int] = self.config.evaluate.most_questions  # type: ignore[assignment]
        most = limits.get(method, limits.get(spec.of))
        only = {one.name: one.methods for one in self.config.experiment.sets}
        taken: Counter[str] = Counter()
        chosen = []
        for question in self.corpus.questions:
            allowed = only.get(question.dataset)
            if allowed is not None and method not in {m for one in allowed for m in (one, *spec_of(one).controls())}:
                continue
            retrieved = self.corpus.retrieved
            if retrieved is not None and spec.needs_passages and not retrieved.get(question.id):
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
        contents = {d.key for d in chosen}
        return {d.id for d in self.corpus.documents if d.key in contents}

    def split(self, question: Question) -> str:
        """Whether the translator saw the question's documents in training: seen, unseen, or mixed."""
        held_out = self.held_out
        if self.corpus.alignment is not None:
            return "unseen"
        unseen = [document in held_out for document in question.documents]
        if unseen and all(unseen):
            return "unseen"
        return "seen" if unseen and not any(unseen) else "mixed"


def distinct(corpus: Corpus) -> list[Document]:
    """Documents with text, one of each content: the first id stands for the same text under others."""
    return list({d.key: d for d in reversed(corpus.documents) if d.text}.values())[::-1]
