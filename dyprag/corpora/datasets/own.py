"""The user's own questions: JSON lines, with passages in them or in a corpus beside them."""

from dataclasses import replace
from pathlib import Path

from dyprag.corpora.datasets.dataset import DataSet, Passages, assembled, share
from dyprag.corpora.datasets.files import Layout
from dyprag.corpora.reader import Shelf, read_questions, require_documents

OWN = Layout("jsonl", "questions.jsonl", "JSON lines of question and answer")


def load_jsonl(path: Path, passages: Passages | None) -> DataSet:
    """Questions as `corpus.questions` takes them; the passages that they carry join those given.

    Raises:
        CorpusError: a question names a document that is not among the passages given.
    """
    shelf = Shelf(passages or ())
    questions, notes = read_questions(str(path), shelf), []
    if passages is not None:
        require_documents(str(path), questions, shelf)
    else:
        known = tuple(replace(q, documents=tuple(d for d in q.documents if d in shelf)) for q in questions)
        lost = sum(before != after for before, after in zip(questions, known, strict=True))
        notes = [f"documents named, but no passages given: {share(lost, questions)}"] if lost else []
        questions = known
    return assembled("jsonl", path, questions, shelf, None, notes)
