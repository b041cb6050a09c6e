"""Files of rows (JSONL, Parquet, CSV, TSV): a document a row, by its columns id, text and perhaps title."""

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any

from dyprag.documents import Document, Unread
from dyprag.errors import CONVERT, DocumentError
from dyprag.text.forms import written

UNIQUE = "Give each document a unique id."
_LOOKED_AT = 50  # lines, in which a file of documents has shown one
csv.field_size_limit(sys.maxsize)


class NoDocuments(DocumentError):
    """A file of rows that are something else than documents."""


def _jsonl(stream: Iterable[bytes], place: str) -> Iterator[Document | Unread]:
    for number, line in enumerate(stream, start=1):
        if line.isspace():
            continue
        where = f"{place}, line {number}"
        try:
            row = object_of(line.decode("utf-8-sig"), where)
        except UnicodeDecodeError as error:
            reason = f"it is not UTF-8 (byte {error.start:,} of it is {line[error.start]:#04x})"
            yield Unread(f"line {number}", DocumentError(where, reason, CONVERT))
        except DocumentError as error:
            yield Unread(f"line {number}", error)
        else:
            yield _of_row(row, where)


def object_of(line: str, place: str) -> dict[str, Any]:
    """The object that a line of a JSONL file is.

    Raises:
        DocumentError: it is none.
    """
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DocumentError(place, f"it is not JSON ({error})", "Write one JSON object a line (JSONL).") from error
    if not isinstance(row, dict):
        raise DocumentError(place, "it is not a JSON object", "Write one object a line.")
    return row


def require_documents(stream: Iterable[bytes], place: str) -> Iterable[bytes]:
    """The lines of a JSONL file that nobody named, if they are documents.

    Raises:
        NoDocuments: none of its first lines is an object with 'id' and 'text'.
    """
    lines = iter(stream)
    first = list(islice(lines, _LOOKED_AT))
    for line in first:
        try:
            row = object_of(line.decode("utf-8-sig"), place)
        except (DocumentError, UnicodeDecodeError):
            continue
        if {"id", "text"} <= row.keys():
            return chain(first, lines)
    raise NoDocuments(
        "", "its lines are not JSON objects with 'id' and 'text'", "Write one document a line, or leave it."
    )


def _table(delimiter: str) -> Callable[[Any, str], Iterator[Document | Unread]]:
    def read(stream: Any, place: str) -> Iterator[Document | Unread]:
        rows = csv.DictReader(io.TextIOWrapper(stream, "utf-8-sig", newline=""), delimiter=delimiter, strict=True)
        _require_columns(rows.fieldnames or ())
        for row in rows:
            yield _of_row(row, f"{place}, line {rows.line_num}")

    return read


def _parquet(stream: Any, place: str) -> Iterator[Document | Unread]:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(stream)
    names = file.schema_arrow.names
    _require_columns(names)
    columns = [name for name in ("id", "text", "title") if name in names]
    number = 0
    for batch in file.iter_batches(batch_size=10_000, columns=columns):
        for values in zip(*(batch.column(name).to_pylist() for name in columns), strict=True):
            number += 1
            yield _of_row(dict(zip(columns, values, strict=True)), f"{place}, row {number}")


def _require_columns(names: Iterable[str]) -> None:
    if lacking := {"id", "text"} - set(names):
        reason = f"it has no column {' and none '.join(repr(name) for name in sorted(lacking))}"
        raise NoDocuments("", reason, "Name its columns id, text and perhaps title.")


def _of_row(row: Mapping[str, Any], place: str) -> Document | Unread:
    identity, text = row.get("id"), row.get("text")
    if not isinstance(identity, str | int) or not str(identity).strip():
        return Unread(place.rsplit(", ", 1)[-1], DocumentError(place, "the document has no 'id'", UNIQUE))
    identity = encodable(written(str(identity)))
    if not isinstance(text, str):
        reason = f"document {identity!r} has no 'text' string"
        return Unread(identity, DocumentError(place, reason, "Put the document's text there."))
    return Document(identity, whole(text), whole(str(row.get("title") or "")))


def whole(text: str) -> str:
    """A text as it is stored: stripped, its letters in one form (`written`), and with halves of surrogate pairs (a cut
    emoji in JSON), which nothing can encode, as '?'."""
    return encodable(written(text).strip())


def encodable(text: str) -> str:
    """With '?' for halves of surrogate pairs, and for bytes of a file's name that are not UTF-8."""
    return text.encode("utf-8", "replace").decode()


ROWS: dict[str, Callable[[Any, str], Iterator[Document | Unread]]] = {
    "jsonl": _jsonl, "csv": _table(","), "tsv": _table("\t"), "parquet": _parquet,
}  # fmt: skip
