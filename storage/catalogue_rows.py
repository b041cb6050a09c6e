"""Write rows of the catalogue in batches, as Arrow tables, on a connection that the caller opens and closes."""

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import duckdb

from dyprag.corpora.documents import Document
from dyprag.corpora.products import Response
from dyprag.corpora.text.words import word_count
from dyprag.storage.artifacts import Record

if TYPE_CHECKING:
    from dyprag.storage.catalogue import Work

Connection = duckdb.DuckDBPyConnection
MICROSECOND = 2e-6  # precision with which the catalogue stores a record's time
REQUEST_COLUMNS = ("request", "created", "document_id", "product_key", "label", "model", "finish", "tokens_in",
                   "tokens_out", "cost", "seconds", "retries")  # fmt: skip


def read(connection: Connection, sql: str, parameters: Sequence[Any]) -> tuple[list[str], list[tuple[Any, ...]]]:
    """The column names and rows of a statement."""
    cursor = connection.execute(sql, list(parameters))
    return [column[0] for column in cursor.description or []], cursor.fetchall()


def put_documents(connection: Connection, corpus_key: str, documents: Sequence[Document]) -> None:
    """Add a corpus' documents, unless they are all there."""
    import pyarrow as pa

    known = "SELECT count(*) FROM documents WHERE corpus_key = ?"
    if connection.execute(known, [corpus_key]).fetchall() == [(len(documents),)]:
        return
    columns = {
        "document_key": [d.key for d in documents], "document_id": [d.id for d in documents],
        "title": [d.title for d in documents],
        "words": pa.array([word_count(d.text) for d in documents], pa.int32()),
    }  # fmt: skip
    connection.register("given", pa.table(columns))
    connection.execute(
        "INSERT OR IGNORE INTO documents (document_key, document_id, corpus_key, title, words) "
        "SELECT document_key, document_id, ?, title, words FROM given", [corpus_key],
    )  # fmt: skip


def put_artifacts(connection: Connection, records: Iterable[Record]) -> None:
    """Add artifacts, replacing rows that differ from their records."""
    import pyarrow as pa

    latest = {record.key: record for record in records}
    if not latest:
        return
    connection.register("given", pa.table({"key": list(latest)}))
    for key, created in connection.execute(  # a run may reuse tens of thousands of artifacts, whose rows are up to date
        "SELECT key, epoch(created) FROM artifacts SEMI JOIN given USING (key)"
    ).fetchall():
        if abs(created - latest[key].created) < MICROSECOND:
            del latest[key]
    changed = list(latest.values())
    if not changed:
        return
    columns = {name: [getattr(r, name) for r in changed] for name in ("key", "kind", "document_key", "document_id")}
    figures = {"bytes": pa.int64(), "checksum": pa.string(), "seconds": pa.float64(), "created": pa.float64()}
    columns |= {name: pa.array([getattr(r, name) for r in changed], kind) for name, kind in figures.items()}
    columns |= {name: [json.dumps(getattr(r, name)) for r in changed] for name in ("inputs", "settings", "measures")}
    connection.register("changed", pa.table(columns))
    connection.execute(
        "INSERT OR REPLACE INTO artifacts SELECT * REPLACE (to_timestamp(created) AS created) FROM changed"
    )


def put_requests(connection: Connection, answers: Sequence["Response"]) -> None:
    """Add responses of endpoints; existing rows are kept."""
    import pyarrow as pa

    columns: dict[str, Any] = {name: [getattr(answer, name) for answer in answers] for name in REQUEST_COLUMNS}
    columns["cost"] = pa.array(columns["cost"], pa.float64())
    connection.register("answered", pa.table(columns))
    connection.execute(
        "INSERT OR IGNORE INTO requests SELECT * REPLACE (to_timestamp(created) AS created) FROM answered"
    )


def put_work(connection: Connection, run_id: str, stage: str, items: Sequence["Work"], names: Sequence[str]) -> None:
    """Record outcomes in the given columns; the last outcome of each unit counts."""
    import pyarrow as pa

    last = list({item.document_id: item for item in items}.values())
    if not last:
        return
    connection.register("given", pa.table({name: [getattr(w, name) for w in last] for name in names}))
    connection.execute(
        f"INSERT OR REPLACE INTO work (run_id, stage, updated, {', '.join(names)}) "
        f"SELECT ?, ?, now(), {', '.join(names)} FROM given", [run_id, stage],
    )  # fmt: skip


def replace_rows(
    connection: Connection, table: str, run_id: str, rows: Sequence[dict[str, Any]], more: dict[str, str]
) -> None:
    """Replace a run's rows in a table.

    Args:
        more: Further columns as SQL expressions.
    """
    import pyarrow as pa

    connection.execute(f"DELETE FROM {table} WHERE run_id = ?", [run_id])
    if not rows:
        return
    known = [column[0] for column in connection.execute(f"SELECT * FROM {table} LIMIT 0").description or []]
    names = [name for name in known if name in rows[0]]
    connection.register("given", pa.table({name: [row[name] for row in rows] for name in names}))
    quoted = ", ".join(f'"{name}"' for name in names)
    columns, values = ["run_id", quoted, *more], ["?", quoted, *more.values()]
    connection.execute(f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(values)} FROM given", [run_id])
