"""The Parquet files inside artifacts, to and from the nouns of the method."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dyprag.documents import Augmentation, Corpus, Document, QAPair, Question

_DOCUMENTS = pa.schema([("id", pa.string()), ("title", pa.string()), ("text", pa.string()), ("key", pa.string())])
_QUESTIONS = pa.schema([
    ("id", pa.string()), ("question", pa.string()), ("answers", pa.list_(pa.string())),
    ("documents", pa.list_(pa.string())), ("type", pa.string()),
])  # fmt: skip
_AUGMENTATION = pa.schema([
    ("kind", pa.string()), ("text", pa.string()), ("question", pa.string()), ("answer", pa.string()),
    ("full_answer", pa.string()),
])  # fmt: skip


def write_corpus(folder: Path, corpus: Corpus) -> None:
    """documents.parquet and questions.parquet."""
    documents = [{"id": d.id, "title": d.title, "text": d.text, "key": d.key} for d in corpus.documents]
    pq.write_table(pa.Table.from_pylist(documents, _DOCUMENTS), folder / "documents.parquet")
    questions = [
        {"id": q.id, "question": q.question, "answers": list(q.answers), "documents": list(q.documents), "type": q.type}
        for q in corpus.questions
    ]
    pq.write_table(pa.Table.from_pylist(questions, _QUESTIONS), folder / "questions.parquet")


def read_corpus(folder: Path) -> Corpus:
    """The corpus as it was ingested, in its order."""
    documents = pq.read_table(folder / "documents.parquet").to_pylist()
    questions = pq.read_table(folder / "questions.parquet").to_pylist()
    return Corpus(
        tuple(Document(d["id"], d["text"], d["title"]) for d in documents),
        tuple(
            Question(q["id"], q["question"], tuple(q["answers"]), tuple(q["documents"]), q["type"]) for q in questions
        ),
    )


def write_augmentation(folder: Path, augmentation: Augmentation) -> None:
    """augmentation.parquet: a row for each rewrite and each question-answer pair, in order."""
    rows: list[dict[str, Any]] = [{"kind": "rewrite", "text": text} for text in augmentation.rewrites]
    rows += [
        {"kind": "qa", "question": p.question, "answer": p.answer, "full_answer": p.full_answer}
        for p in augmentation.qa_pairs
    ]
    pq.write_table(pa.Table.from_pylist(rows, _AUGMENTATION), folder / "augmentation.parquet")


def read_augmentation(folder: Path) -> Augmentation:
    """What `write_augmentation` wrote."""
    rows = pq.read_table(folder / "augmentation.parquet").to_pylist()
    return Augmentation(
        tuple(row["text"] for row in rows if row["kind"] == "rewrite"),
        tuple(QAPair(row["question"], row["answer"], row["full_answer"]) for row in rows if row["kind"] == "qa"),
    )


def write_embedding(folder: Path, embedding: Sequence[float]) -> None:
    """embedding.parquet: one row, one list of float32 of the model's hidden size."""
    schema = pa.schema([("embedding", pa.list_(pa.float32()))])
    pq.write_table(pa.Table.from_pylist([{"embedding": list(embedding)}], schema), folder / "embedding.parquet")


def read_embedding(folder: Path) -> list[float]:
    """[hidden] floats."""
    return pq.read_table(folder / "embedding.parquet").column("embedding")[0].as_py()


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """A Parquet file of plain rows, such as predictions or a learning curve; the first row's keys are the columns."""
    pq.write_table(pa.Table.from_pylist(list(rows)), path)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a Parquet file."""
    return pq.read_table(path).to_pylist()
