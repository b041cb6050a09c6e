"""Files of rows (JSONL, Parquet, CSV, TSV): each row is a document with the columns id, text and optionally title."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, time
from decimal import Decimal
from itertools import chain, islice
from math import isfinite
from typing import Any
from uuid import UUID

from dyprag.corpora.documents import Document, Noted, Unread
from dyprag.corpora.reading.encodings import conversion, lines_of, undecodable
from dyprag.corpora.separated import DELIMITERS, SeparatedValues
from dyprag.corpora.text.forms import encodable, written
from dyprag.errors import DocumentError

Read = Document | Unread | Noted
NEEDED = ("id", "text")
COLUMNS = (*NEEDED, "title")
UNIQUE = "Give each document a unique id."
_INSPECTED_LINES = 50  # one of these must be a document if the file contains documents


class NoDocuments(DocumentError):
    """The rows of a file are not documents."""


def _jsonl(stream: Iterable[bytes], subject: str) -> Iterator[Read]:
    for number, line in enumerate(lines_of(stream), start=1):
        if line.isspace():
            continue
        row_subject = f"{subject}, line {number}"
        try:
            row = object_of(line.decode("utf-8-sig"), row_subject)
        except UnicodeDecodeError as error:
            fault = undecodable(error, line, " of the line")
            yield Unread(f"line {number}", DocumentError(row_subject, fault.reason, fault.remedy))
        except DocumentError as error:
            yield Unread(f"line {number}", error)
        else:
            yield _of_row(row, row_subject)


def object_of(line: str, subject: str) -> dict[str, Any]:
    """Parse a line of a JSONL file.

    Raises:
        DocumentError: the line is not a JSON object, or an object in it has a key twice.
    """

    def of_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise DocumentError(subject, f"it has the key {twice!r} twice", "Keep one of them.")
        return fields

    try:
        row = json.loads(line, object_pairs_hook=of_pairs)
    except (ValueError, RecursionError) as error:
        raise DocumentError(subject, f"it is not JSON ({error})", "Write one JSON object per line (JSONL).") from error
    if not isinstance(row, dict):
        raise DocumentError(subject, "it is not a JSON object", "Write one object per line.")
    return row


def require_documents(stream: Iterable[bytes], subject: str) -> Iterable[bytes]:
    """Return the lines of a JSONL file in a folder, after a check that they are documents.

    Raises:
        NoDocuments: none of its first lines is an object with 'id' and 'text'.
    """
    lines = lines_of(stream)
    first = list(islice(lines, _INSPECTED_LINES))
    for line in first:
        try:
            row = object_of(line.decode("utf-8-sig"), subject)
        except (DocumentError, UnicodeDecodeError):
            continue
        if {"id", "text"} <= row.keys():
            return chain(first, lines)
    raise NoDocuments(
        "", "its lines are not JSON objects with 'id' and 'text'", "Write one document per line, or ignore it."
    )


def _table(delimiter: str) -> Callable[[Any, str], Iterator[Read]]:
    def read(stream: Any, subject: str) -> Iterator[Read]:
        table = SeparatedValues(stream, delimiter, NEEDED)
        _require_columns(table.names)
        if table.guessed:
            yield Noted("", f"its cells are separated by {DELIMITERS[table.delimiter]}")
        for number, cells in table:
            row_subject = f"{subject}, line {number}"
            if isinstance(cells, DocumentError):
                yield Unread(f"line {number}", DocumentError(row_subject, cells.reason, cells.remedy))
            else:
                yield _of_row(dict(zip(table.names, cells, strict=True)), row_subject)
        if table.literal:
            rows = "in one row" if table.literal == 1 else f"in {table.literal:,} rows"
            yield Noted("", f"quotation marks {rows} are part of the text, because they do not enclose a cell")

    return read


def _parquet(stream: Any, subject: str) -> Iterator[Read]:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(stream)
    names = file.schema_arrow.names
    _require_columns(names)
    columns = [name for name in COLUMNS if name in names]
    number = 0
    for batch in file.iter_batches(batch_size=10_000, columns=columns):
        for values in zip(*(_values(batch.column(name)) for name in columns), strict=True):
            number += 1
            yield _of_row(dict(zip(columns, values, strict=True)), f"{subject}, row {number}")


def _values(column: Any) -> list[Any]:
    """Return a column's values. If a text is not UTF-8, all are bytes, so that only the affected rows fail."""
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        return list(column.cast("binary").to_pylist())


def _require_columns(names: Sequence[str]) -> None:
    if missing := sorted(set(NEEDED) - set(names)):
        reason = f"it has no column {' and no column '.join(map(repr, missing))}"
        raise NoDocuments("", reason, "Name its columns id, text and optionally title.")
    if duplicates := [name for name in COLUMNS if names.count(name) > 1]:
        raise DocumentError("", f"it has several columns {duplicates[0]!r}", "Give each column a unique name.")


def _of_row(row: Mapping[str, Any], subject: str) -> Document | Unread:
    identity, text, title = (text_of(row.get(name)) for name in COLUMNS)
    if not identity or not identity.strip():
        return Unread(subject.rsplit(", ", 1)[-1], DocumentError(subject, "the document has no 'id'", UNIQUE))
    identity = encodable(written(identity))
    if not isinstance(row.get("text"), str | bytes) or text is None:
        data = row.get("text")
        reason = f"document {identity!r} has no 'text' string"
        if isinstance(data, bytes):
            return Unread(identity, DocumentError(subject, f"{reason} in UTF-8", conversion(data)), named=True)
        return Unread(
            identity, DocumentError(subject, reason, "Set 'text' to the document's text, as a string."), named=True
        )
    if title is None and row.get("title") and not _is_empty(row["title"]):
        reason = f"the 'title' of document {identity!r} is not a string"
        return Unread(identity, DocumentError(subject, reason, "Write the title as a string, or omit it."), named=True)
    return Document(identity, whole(text), whole(title or ""))


def text_of(value: Any) -> str | None:
    """Return a value as text; None if it has no text form. A whole number stored as a float (7.0) becomes "7"."""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return None
    if _is_empty(value) or isinstance(value, bool):
        return None
    if isinstance(value, float | Decimal):
        if not isfinite(value):
            return None
        return str(int(value)) if value == int(value) else str(value)
    return str(value) if isinstance(value, str | int | date | time | UUID) else None


def _is_empty(value: Any) -> bool:
    """Whether a value is missing: null in databases, NaN in data frames."""
    return value is None or value != value


def whole(text: str) -> str:
    """Return a text in the form in which it is stored: stripped, normalised (`written`) and encodable as UTF-8."""
    return encodable(written(text).strip())


ROWS: dict[str, Callable[[Any, str], Iterator[Read]]] = {
    "jsonl": _jsonl, "csv": _table(","), "tsv": _table("\t"), "parquet": _parquet,
}  # fmt: skip
