"""Which questions test and which align, and the documents that go with them (§4.1): never the same ones.

An experiment's data sets become one corpus: the test questions with what was retrieved for each, the documents those
need, and the documents that the translator is trained on, none of which any test question needs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from dyprag.config import DataSetSettings
from dyprag.corpora.documents import Corpus, Document, Found, Question, content_key
from dyprag.corpora.retrieval import Retriever


@dataclass(frozen=True)
class Part:
    """A data set in an experiment: its settings, questions, the documents at hand (none where its passages are too
    many to hold), and the retriever over its passages (None without any).

    `passages`: under which key those passages are stored.
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
    """The first so many questions (of each type) for the test, the next so many for the alignment set."""
    groups: dict[str, list[Question]] = {}
    for question in questions:
        groups.setdefault(question.type if settings.by_type else "", []).append(question)
    test, end = settings.questions, settings.questions + settings.alignment_questions
    return Split(
        tuple(q for group in groups.values() for q in group[:test]),
        tuple(q for group in groups.values() for q in group[test:end]),
    )


def assemble(parts: Sequence[Part], count: int, most_alignment: int | None = None) -> Corpus:
    """Retrieve for every question, and put the parts together.

    Ids get their data set's name before them. Equal documents under two ids stay two; they are made once.

    Args:
        count: documents retrieved for a question (the paper's c); of gold passages, all are taken, and questions that
            have none are left out.
        most_alignment: train the translator on the first so many alignment documents only.
    """
    shelves = [_Shelf(part, count) for part in parts]
    found: dict[str, Found] = {}
    documents: dict[str, Document] = {}
    needed: set[str] = set()  # keys of what a test question needs: alignment documents are others
    for shelf in shelves:
        for question in shelf.test:
            retrieved = shelf.found(question)
            needed |= {d.key for d in (*(d for d, _ in retrieved), *shelf.gold(question))}
            if shelf.part.settings.tested:
                found[question.id] = tuple((document.id, score) for document, score in retrieved)
                documents |= {document.id: document for document, _ in retrieved}
    queues = [list(shelf.alignment_documents(needed, found)) for shelf in shelves]
    # in turn, so that the first so many are of all data sets
    longest = max(map(len, queues), default=0)
    turns = [document for place in range(longest) for queue in queues for document in queue[place : place + 1]]
    alignment = {document.id: document for document in turns[:most_alignment]}
    return Corpus(
        tuple((alignment | documents).values()),
        tuple(question for shelf in shelves if shelf.part.settings.tested for question in shelf.test),
        frozenset(alignment),
        found,
        {shelf.name: shelf.part.passages for shelf in shelves if shelf.part.passages and shelf.asked},
        tuple(question for shelf in shelves for question in shelf.alignment),
    )


class _Shelf:
    """A part's questions and documents under the names that they have in the whole."""

    def __init__(self, part: Part, count: int) -> None:
        self.part, self.name, self._count = part, part.settings.name, count
        self._documents = {d.id: self._named(d) for d in part.documents}
        gold = [q for q in part.questions if any(name in self._documents for name in q.documents)]
        usable = gold if part.settings.gold else part.questions
        split = split_questions(usable, part.settings)
        self.test, self.alignment = (tuple(map(self._question, some)) for some in (split.test, split.alignment))

    def _named(self, document: Document) -> Document:
        return replace(document, id=f"{self.name}/{document.id}")

    def _question(self, question: Question) -> Question:
        documents = tuple(f"{self.name}/{document}" for document in question.documents)
        return replace(question, id=f"{self.name}/{question.id}", documents=documents, dataset=self.name)

    @property
    def asked(self) -> bool:
        """Whether the whole has questions of it."""
        return bool(self.alignment or (self.test and self.part.settings.tested))

    def gold(self, question: Question) -> list[Document]:
        """Its gold documents that are at hand."""
        start = f"{self.name}/"
        names = [identity.removeprefix(start) for identity in question.documents]
        return [self._documents[name] for name in names if name in self._documents]

    def found(self, question: Question) -> list[tuple[Document, float]]:
        """What is retrieved for a question, best first; the gold documents where those are to be taken."""
        if self.part.settings.gold:
            return [(document, 1.0) for document in self.gold(question)]
        if self.part.retriever is None:
            return []
        hits = self.part.retriever.search(question.question, self._count)
        return [(self._named(hit.document), hit.score) for hit in hits]

    def alignment_documents(self, needed: set[str], found: dict[str, Found]) -> Iterator[Document]:
        """Documents for the translator, none of which is needed by a test question; what is retrieved for alignment
        questions is noted in `found`."""
        wanted, given = self.part.settings.alignment_documents, set[str]()
        for question in self.alignment:
            retrieved = self.found(question)
            found[question.id] = tuple((document.id, score) for document, score in retrieved)
            for document, _ in retrieved:
                if document.text and document.key not in needed | given and (wanted is None or len(given) < wanted):
                    given.add(document.key)
                    yield document
        others = self._documents.values() if wanted else ()
        for document in sorted(others, key=lambda d: content_key("alignment", [d.key])):
            if len(given) >= (wanted or 0):
                return
            if document.text and document.key not in needed | given:
                given.add(document.key)
                yield document
