"""Read and write the Parquet files inside artifacts."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import compress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dyprag.corpora.documents import Augmentation, Corpus, Document, QAPair, Question
from dyprag.corpora.products import Accepted, Dropped, Item, Product
from dyprag.storage.artifacts import Store

# Many threads write small files; Arrow's default pool would keep tens of megabytes per thread.
pa.set_memory_pool(pa.system_memory_pool())

_DOCUMENTS = pa.schema([
    ("id", pa.string()), ("title", pa.string()), ("text", pa.string()), ("key", pa.string()), ("alignment", pa.bool_()),
])  # fmt: skip
_QUESTIONS = pa.schema([
    ("id", pa.string()), ("question", pa.string()), ("answers", pa.list_(pa.string())),
    ("documents", pa.list_(pa.string())), ("type", pa.string()), ("dataset", pa.string()),
    ("chain_of_thought", pa.bool_()), ("believed", pa.list_(pa.string())), ("use", pa.string()),
    ("passages", pa.string()), ("found", pa.list_(pa.string())), ("scores", pa.list_(pa.float64())),
])  # fmt: skip
_PRODUCT = pa.schema([
    ("accepted", pa.bool_()), ("text", pa.string()), ("question", pa.string()), ("answer", pa.string()),
    ("full_answer", pa.string()), ("marks", pa.string()), ("reason", pa.string()),
])  # fmt: skip


def write_corpus(folder: Path, corpus: Corpus) -> None:
    """Write documents.parquet and questions.parquet.

    For an experiment they also contain the split: each question's use (test or alignment), the passages retrieved for
    it, and the documents that the translator is trained on (null: no split).
    """
    set_apart = corpus.alignment
    documents = corpus.documents
    columns = [
        [d.id for d in documents], [d.title for d in documents], [d.text for d in documents],
        [d.key for d in documents],
        [None if set_apart is None else d.id in set_apart for d in documents],
    ]  # fmt: skip
    pq.write_table(pa.table(columns, _DOCUMENTS), folder / "documents.parquet")
    questions = []
    for use, part in (("test", corpus.questions), ("alignment", corpus.alignment_questions)):
        for question in part:
            retrieved = None if corpus.retrieved is None else corpus.retrieved.get(question.id, ())
            questions.append({
                **asdict(question), "use": use, "passages": corpus.passages.get(question.dataset),
                "found": None if retrieved is None else [identity for identity, _ in retrieved],
                "scores": None if retrieved is None else [score for _, score in retrieved],
            })  # fmt: skip
    pq.write_table(pa.Table.from_pylist(questions, _QUESTIONS), folder / "questions.parquet")


def read_corpus(folder: Path) -> Corpus:
    """The corpus as it was ingested, in its order."""
    table = pq.read_table(folder / "documents.parquet")
    ids, titles, texts, keys, apart = (column.to_pylist() for column in table.columns)
    documents = tuple(map(Document, ids, texts, titles))
    for document, key in zip(documents, keys, strict=True):
        document.__dict__["key"] = key  # skip hashing: the stored key was made from the same content
    rows = pq.read_table(folder / "questions.parquet").to_pylist()
    retrieved = {r["id"]: tuple(zip(r["found"], r["scores"], strict=True)) for r in rows if r["found"] is not None}
    return Corpus(
        documents,
        tuple(_question(row) for row in rows if row["use"] == "test"),
        None if None in apart else frozenset(compress(ids, apart)),
        retrieved if retrieved or None not in apart else None,
        {row["dataset"]: row["passages"] for row in rows if row["passages"]},
        tuple(_question(row) for row in rows if row["use"] == "alignment"),
    )


def read_keys(folder: Path) -> dict[str, str]:
    """Document keys of a stored corpus by document id."""
    table = pq.read_table(folder / "documents.parquet", columns=["id", "key"])
    return dict(zip(*(column.to_pylist() for column in table.columns), strict=True))


def _question(row: dict[str, Any]) -> Question:
    return Question(
        row["id"], row["question"], tuple(row["answers"]), tuple(row["documents"]), row["type"], row["dataset"],
        row["chain_of_thought"], tuple(row["believed"]),
    )  # fmt: skip


def write_passages(folder: Path, documents: Sequence[Document]) -> None:
    """Write passages.parquet: the passages to retrieve from."""
    columns = {"id": [d.id for d in documents], "title": [d.title for d in documents],
               "text": [d.text for d in documents]}  # fmt: skip
    pq.write_table(pa.table(columns), folder / "passages.parquet")


def read_passages(folder: Path) -> list[Document]:
    """Read passages.parquet."""
    rows = pq.read_table(folder / "passages.parquet").to_pylist()
    return [Document(row["id"], row["text"], row["title"]) for row in rows]


def write_product(folder: Path, product: Product) -> None:
    """Write product.parquet: one row per item. Accepted items come first, in order, with their quality marks as
    JSON; then dropped items, with the reason."""
    rows = [{"accepted": True, **_columns(a.item), "marks": json.dumps(a.marks)} for a in product.accepted]
    rows += [{"accepted": False, **_columns(d.item), "reason": d.reason} for d in product.dropped]
    pq.write_table(pa.Table.from_pylist(rows, _PRODUCT), folder / "product.parquet")


def read_product(folder: Path) -> Product:
    """Read product.parquet. The cost of the product is in the artifact's record."""
    rows = pq.read_table(folder / "product.parquet").to_pylist()
    return Product(
        tuple(Accepted(_item(row), json.loads(row["marks"])) for row in rows if row["accepted"]),
        tuple(Dropped(_item(row), row["reason"]) for row in rows if not row["accepted"]),
    )


def read_augmentation(store: Store, products: Sequence[str]) -> Augmentation:
    """The accepted items of a document's products.

    Args:
        products: Keys of the products: of the rewrites, if there are any, and then of the question-answer pairs.

    Raises:
        ArtifactError: A product is missing or damaged.
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
    """Write embedding.parquet: one row with a list of float32 of the model's hidden size."""
    schema = pa.schema([("embedding", pa.list_(pa.float32()))])
    pq.write_table(pa.Table.from_pylist([{"embedding": list(embedding)}], schema), folder / "embedding.parquet")


def read_embedding(folder: Path) -> list[float]:
    """Read an embedding: `hidden` floats."""
    return pq.read_table(folder / "embedding.parquet").column("embedding")[0].as_py()


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows such as predictions or a learning curve as Parquet. The keys of the first row are the columns."""
    pq.write_table(pa.Table.from_pylist(list(rows)), path)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a Parquet file."""
    return pq.read_table(path).to_pylist()
