"""The Parquet files inside artifacts, to and from the nouns of the method."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dyprag.augmentation.products import Accepted, Dropped, Item, Product
from dyprag.documents import Augmentation, Corpus, Document, QAPair, Question
from storage.artifacts import Store

# Many threads write small files: Arrow's own pool would keep tens of megabytes for each of them.
pa.set_memory_pool(pa.system_memory_pool())

_DOCUMENTS = pa.schema([("id", pa.string()), ("title", pa.string()), ("text", pa.string()), ("key", pa.string())])
_QUESTIONS = pa.schema([
    ("id", pa.string()), ("question", pa.string()), ("answers", pa.list_(pa.string())),
    ("documents", pa.list_(pa.string())), ("type", pa.string()),
])  # fmt: skip
_PRODUCT = pa.schema([
    ("accepted", pa.bool_()), ("text", pa.string()), ("question", pa.string()), ("answer", pa.string()),
    ("full_answer", pa.string()), ("marks", pa.string()), ("reason", pa.string()),
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


def write_product(folder: Path, product: Product) -> None:
    """product.parquet: a row for each item, the accepted ones first and in order, with its quality marks as JSON, then
    those dropped, with the reason."""
    rows = [{"accepted": True, **_columns(a.item), "marks": json.dumps(a.marks)} for a in product.accepted]
    rows += [{"accepted": False, **_columns(d.item), "reason": d.reason} for d in product.dropped]
    pq.write_table(pa.Table.from_pylist(rows, _PRODUCT), folder / "product.parquet")


def read_product(folder: Path) -> Product:
    """What `write_product` wrote; what the making took is in the artifact's record."""
    rows = pq.read_table(folder / "product.parquet").to_pylist()
    return Product(
        tuple(Accepted(_item(row), json.loads(row["marks"])) for row in rows if row["accepted"]),
        tuple(Dropped(_item(row), row["reason"]) for row in rows if not row["accepted"]),
    )


def read_augmentation(store: Store, products: Sequence[str]) -> Augmentation:
    """The accepted items of a document's products.

    Args:
        products: their keys: of the rewrites, where there are any, and of the question-answer pairs.

    Raises:
        ArtifactError: one of them is missing or damaged.
    """
    *rewrites, pairs = products
    texts = [item for key in rewrites for item in read_product(store.open("rewrites", key)).items]
    asked = read_product(store.open("qa_pairs", pairs)).items
    return Augmentation(
        tuple(text for text in texts if isinstance(text, str)), tuple(p for p in asked if isinstance(p, QAPair))
    )


def _columns(item: Item) -> dict[str, str]:
    return {"text": item} if isinstance(item, str) else asdict(item)


def _item(row: dict[str, Any]) -> Item:
    return row["text"] if row["text"] is not None else QAPair(row["question"], row["answer"], row["full_answer"])


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
