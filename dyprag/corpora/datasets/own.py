"""The user's own questions: JSON lines, which contain passages or refer to a separate corpus."""

from dataclasses import replace
from pathlib import Path

from dyprag.corpora.datasets.dataset import DataSet, Passages, assembled, share
from dyprag.corpora.datasets.files import Layout
from dyprag.corpora.reader import DocumentCollection, read_questions, require_documents

OWN = Layout("jsonl", "questions.jsonl", "JSON lines of question and answer")


def load_jsonl(path: Path, passages: Passages | None) -> DataSet:
    """Load questions in the format of `corpus.questions`. Their own passages are added to the given ones.

    Raises:
        CorpusError: a question names a document that is not among the given passages.
    """
    collection = DocumentCollection(passages or ())
    questions, notes = read_questions(str(path), collection), []
    if passages is not None:
        require_documents(str(path), questions, collection)
    else:
        known = tuple(replace(q, documents=tuple(d for d in q.documents if d in collection)) for q in questions)
        lost = sum(before != after for before, after in zip(questions, known, strict=True))
        notes = [f"gold documents named, but no passages given: {share(lost, questions)}"] if lost else []
        questions = known
    return assembled("jsonl", path, questions, collection, None, notes)
