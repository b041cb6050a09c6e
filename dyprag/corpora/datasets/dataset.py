"""The result of every loader: a data set's questions and documents, and notes about how it was read."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dyprag.corpora.documents import Document, Question
from dyprag.corpora.reader import DocumentCollection
from dyprag.corpora.text.forms import written
from dyprag.errors import CorpusError

Passages = tuple[Document, ...]


@dataclass(frozen=True)
class DataSet:
    """A data set of the paper, or the user's own questions.

    Args:
        name: one of `DATA_SETS`.
        questions: the questions in the order of the file. All ids in their `documents` are among the documents.
        documents: the corpus; empty if the data set has none and none was given.
        notes: what to know when reading its results, such as excluded questions and missing files.
    """

    name: str
    questions: tuple[Question, ...]
    documents: tuple[Document, ...]
    notes: tuple[str, ...] = ()


def assembled(
    name: str,
    path: Path,
    questions: Sequence[Question],
    collection: DocumentCollection,
    passages: Passages | None,
    notes: Iterable[str] = (),
) -> DataSet:
    """Assemble a data set from its questions and documents.

    Args:
        name: the data set's name.
        path: the file of its questions, for error messages.
        questions: the questions, with the ids of their gold documents in `collection`.
        collection: the data set's own documents.
        passages: a corpus to use instead. A question keeps its gold documents if all of them are in the corpus, with
            the same ids and titles; otherwise it has none.
        notes: the loader's notes.

    Raises:
        CorpusError: there are no questions, or an id occurs twice.
    """
    if not questions:
        raise CorpusError(f"{name} {path}", "it contains no usable questions", "Name another file.")
    seen: set[str] = set()
    for question in questions:
        if question.id in seen:
            raise CorpusError(f"{name} {path}", f"the id {question.id!r} occurs twice", "Remove one of the two.")
        seen.add(question.id)
    questions = [  # normalised like the documents, so that answers match their spelling there
        replace(each, question=written(each.question), answers=tuple(dict.fromkeys(map(written, each.answers))))
        for each in questions
    ]
    if passages is None:
        return DataSet(name, tuple(questions), collection.documents, tuple(notes))
    return _with_passages(DataSet(name, tuple(questions), collection.documents, tuple(notes)), passages)


def _with_passages(own: DataSet, passages: Passages) -> DataSet:
    """Return the data set with the given passages in place of its own documents."""
    titles = {document.id: document.title for document in own.documents}
    same = {document.id for document in passages if titles.get(document.id) == document.title}
    kept = tuple(q if same.issuperset(q.documents) else _without_gold(q) for q in own.questions)
    notes = own.notes
    if titles:
        with_gold = sum(bool(question.documents) for question in kept)
        note = (
            f"{len(passages):,} given passages replace its own {len(titles):,} documents; "
            f"gold documents among them: {share(with_gold, kept)}"
        )
        notes = (*notes, note)
    return DataSet(own.name, kept, passages, notes)


def _without_gold(question: Question) -> Question:
    return replace(question, documents=())


def share(count: int, questions: Sequence[Question], left_out: int = 0) -> str:
    """Return a text such as '3 of 10 questions'; the total includes the questions that were left out."""
    return f"{count:,} of {len(questions) + left_out:,} questions"


def distinct(answers: Iterable[str]) -> tuple[str, ...]:
    """Strip the answers and remove duplicates and empty ones; the order is kept."""
    return tuple(dict.fromkeys(answer.strip() for answer in answers if answer.strip()))
