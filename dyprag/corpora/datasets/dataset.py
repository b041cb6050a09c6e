"""What every loader gives: a data set's questions and documents, and what is to be said about how it was read."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dyprag.corpora.documents import Document, Question
from dyprag.corpora.reader import Shelf
from dyprag.corpora.text.forms import written
from dyprag.errors import CorpusError

Passages = tuple[Document, ...]


@dataclass(frozen=True)
class DataSet:
    """A data set of the paper, or the user's own.

    Args:
        name: one of `DATA_SETS`.
        questions: in the order of the file; what their `documents` name is among the documents.
        documents: the corpus; empty where the set has none and none was given.
        notes: what a reader of its figures should know: what was left out, what was missing.
    """

    name: str
    questions: tuple[Question, ...]
    documents: tuple[Document, ...]
    notes: tuple[str, ...] = ()


def assembled(
    name: str,
    path: Path,
    questions: Sequence[Question],
    shelf: Shelf,
    passages: Passages | None,
    notes: Iterable[str] = (),
) -> DataSet:
    """A data set from what was read.

    Args:
        name: the set's name.
        path: the file of its questions, for errors.
        questions: with the ids of their gold documents on the shelf.
        shelf: the set's own documents.
        passages: a corpus to use instead; a question keeps its gold documents if all of them are in it, under the same
            ids and titles, and else has none.
        notes: what the loader has to say.

    Raises:
        CorpusError: there is no question, or an id occurs twice.
    """
    if not questions:
        raise CorpusError(f"{name} {path}", "it contains no usable questions", "Name another file.")
    seen: set[str] = set()
    for question in questions:
        if question.id in seen:
            raise CorpusError(f"{name} {path}", f"the id {question.id!r} occurs twice", "Take one of the two out.")
        seen.add(question.id)
    questions = [  # as the documents are: an answer stands in its document as it is spelled there
        replace(one, question=written(one.question), answers=tuple(dict.fromkeys(map(written, one.answers))))
        for one in questions
    ]
    if passages is None:
        return DataSet(name, tuple(questions), shelf.documents, tuple(notes))
    return _over_given(DataSet(name, tuple(questions), shelf.documents, tuple(notes)), passages)


def _over_given(own: DataSet, passages: Passages) -> DataSet:
    """The set over passages that stand for its own documents."""
    titles = {document.id: document.title for document in own.documents}
    same = {document.id for document in passages if titles.get(document.id) == document.title}
    kept = tuple(q if same.issuperset(q.documents) else _without_gold(q) for q in own.questions)
    notes = own.notes
    if titles:
        with_gold = sum(bool(question.documents) for question in kept)
        note = (
            f"{len(passages):,} given passages stand for its own {len(titles):,} documents; "
            f"gold documents among them: {share(with_gold, kept)}"
        )
        notes = (*notes, note)
    return DataSet(own.name, kept, passages, notes)


def _without_gold(question: Question) -> Question:
    return replace(question, documents=())


def share(count: int, questions: Sequence[Question], left_out: int = 0) -> str:
    """How many of the questions, and of those left out besides, a note is about."""
    return f"{count:,} of {len(questions) + left_out:,} questions"


def distinct(answers: Iterable[str]) -> tuple[str, ...]:
    """Answers without space around them, each once, none empty, in their order."""
    return tuple(dict.fromkeys(answer.strip() for answer in answers if answer.strip()))
