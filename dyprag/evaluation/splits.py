"""Splits questions and documents into test and alignment sets, which never overlap (§4.1).

An experiment's data sets become one corpus: the test questions with their retrieved documents, and the translator's
training documents, none of which is needed by a test question.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from dyprag.config import DataSetSettings
from dyprag.corpora.documents import Corpus, Document, Found, Question, content_key
from dyprag.corpora.retrieval import Retriever


@dataclass(frozen=True)
class Part:
    """A data set of an experiment.

    documents: its documents; empty if there are too many passages to load.
    retriever: the retriever over its passages; None if it has none.
    passages: the key under which the passages are stored.
    """

    settings: DataSetSettings
    questions: tuple[Question, ...]
    documents: tuple[Document, ...]
    retriever: Retriever | None
    passages: str = ""


@dataclass(frozen=True)
class Split:
    """A data set's test and alignment questions."""

    test: tuple[Question, ...]
    alignment: tuple[Question, ...]


def split_questions(questions: Sequence[Question], settings: DataSetSettings) -> Split:
    """Split off the first questions (of each type) for testing, and the next ones for alignment."""
    groups: dict[str, list[Question]] = {}
    for question in questions:
        groups.setdefault(question.type if settings.by_type else "", []).append(question)
    test, end = settings.questions, settings.questions + settings.alignment_questions
    return Split(
        tuple(q for group in groups.values() for q in group[:test]),
        tuple(q for group in groups.values() for q in group[test:end]),
    )


def assemble(parts: Sequence[Part], count: int, most_alignment: int | None = None) -> Corpus:
    """Retrieve documents for every question, and combine the parts into one corpus.

    Ids are prefixed with their data set's name. Equal documents with different ids are kept; their artifacts are made
    only once.

    Args:
        count: number of documents retrieved per question (the paper's c). If gold passages are used, all of them are
            taken, and questions without any are left out.
        most_alignment: maximum number of alignment documents; None for all.
    """
    sources = [_Source(part, count) for part in parts]
    retrieved_by_question: dict[str, Found] = {}
    documents: dict[str, Document] = {}
    needed: set[str] = set()  # keys of documents that test questions need; excluded from alignment
    for source in sources:
        for question in source.test:
            retrieved = source.retrieve(question)
            needed |= {d.key for d in (*(d for d, _ in retrieved), *source.gold(question))}
            if source.part.settings.tested:
                retrieved_by_question[question.id] = tuple((document.id, score) for document, score in retrieved)
                documents |= {document.id: document for document, _ in retrieved}
    queues = [list(source.alignment_documents(needed, retrieved_by_question)) for source in sources]
    # interleave, so that the first documents cover all data sets
    longest = max(map(len, queues), default=0)
    interleaved = [document for index in range(longest) for queue in queues for document in queue[index : index + 1]]
    alignment = {document.id: document for document in interleaved[:most_alignment]}
    return Corpus(
        tuple((alignment | documents).values()),
        tuple(question for source in sources if source.part.settings.tested for question in source.test),
        frozenset(alignment),
        retrieved_by_question,
        {source.name: source.part.passages for source in sources if source.part.passages and source.asked},
        tuple(question for source in sources for question in source.alignment),
    )


class _Source:
    """A part's questions and documents, with their ids in the combined corpus."""

    def __init__(self, part: Part, count: int) -> None:
        self.part, self.name, self._count = part, part.settings.name, count
        self._documents = {d.id: self._named(d) for d in part.documents}
        gold = [q for q in part.questions if any(name in self._documents for name in q.documents)]
        usable = gold if part.settings.gold else part.questions
        split = split_questions(usable, part.settings)
        self.test, self.alignment = (
            tuple(map(self._question, questions)) for questions in (split.test, split.alignment)
        )

    def _named(self, document: Document) -> Document:
        return replace(document, id=f"{self.name}/{document.id}")

    def _question(self, question: Question) -> Question:
        documents = tuple(f"{self.name}/{document}" for document in question.documents)
        return replace(question, id=f"{self.name}/{question.id}", documents=documents, dataset=self.name)

    @property
    def asked(self) -> bool:
        """Whether the combined corpus contains questions of this part."""
        return bool(self.alignment or (self.test and self.part.settings.tested))

    def gold(self, question: Question) -> list[Document]:
        """Return the gold documents of a question that are loaded."""
        start = f"{self.name}/"
        names = [identity.removeprefix(start) for identity in question.documents]
        return [self._documents[name] for name in names if name in self._documents]

    def retrieve(self, question: Question) -> list[tuple[Document, float]]:
        """Return the documents retrieved for a question, best first, or its gold documents if those are used."""
        if self.part.settings.gold:
            return [(document, 1.0) for document in self.gold(question)]
        if self.part.retriever is None:
            return []
        hits = self.part.retriever.search(question.question, self._count)
        return [(self._named(hit.document), hit.score) for hit in hits]

    def alignment_documents(self, needed: set[str], retrieved_by_question: dict[str, Found]) -> Iterator[Document]:
        """Choose training documents of the translator that no test question needs.

        Documents retrieved for alignment questions are recorded in `retrieved_by_question`.
        """
        limit, used = self.part.settings.alignment_documents, set[str]()
        for question in self.alignment:
            retrieved = self.retrieve(question)
            retrieved_by_question[question.id] = tuple((document.id, score) for document, score in retrieved)
            for document, _ in retrieved:
                if document.text and document.key not in needed | used and (limit is None or len(used) < limit):
                    used.add(document.key)
                    yield document
        remaining = self._documents.values() if limit else ()
        for document in sorted(remaining, key=lambda d: content_key("alignment", [d.key])):
            if len(used) >= (limit or 0):
                return
            if document.text and document.key not in needed | used:
                used.add(document.key)
                yield document
