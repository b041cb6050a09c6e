"""Stream the passages of a large corpus: DPR's Wikipedia (psgs_w100.tsv, the paper's source, §4.1) or JSONL."""

import csv
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

from dyprag.corpora.documents import Document
from dyprag.corpora.rows import whole
from dyprag.corpora.text.forms import written
from dyprag.errors import CONVERT, CorpusError

COLUMNS = ("id", "text", "title")
FIELD_LIMIT = 16 * 2**20  # maximum characters of a field, so that an unclosed quotation mark does not exhaust memory


def read_passages(path: Path) -> Iterator[Document]:
    """Stream a file of passages: .tsv with a header (id, text, title; quoted as in CSV) or .jsonl; either also .gz.

    Duplicate ids are not detected, since this would take the memory that streaming saves.

    Raises:
        CorpusError: a row cannot be read. It is raised when the stream reaches the row, and names its line.
    """
    kind = (path.with_suffix("") if path.suffix == ".gz" else path).suffix
    if kind not in (".tsv", ".jsonl"):
        raise CorpusError(f"passages {path}", "only .tsv, .jsonl and their .gz forms are supported", "Convert it.")
    return _tsv(path) if kind == ".tsv" else _jsonl(path)


def _tsv(path: Path) -> Iterator[Document]:
    csv.field_size_limit(max(csv.field_size_limit(), FIELD_LIMIT))
    rows = csv.reader(_lines(path), delimiter="\t", strict=True)
    columns: list[str] = []
    while True:
        subject = _subject(path, rows.line_num + 1)
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise CorpusError(
                subject,
                f"it cannot be split ({error})",
                "Put a field that contains quotation marks in quotation marks, and double those inside it.",
            ) from error
        if row is None:
            return
        if not row:  # an empty line
            continue
        if not columns:
            columns = row
            if sorted(columns) != sorted(COLUMNS):
                raise CorpusError(
                    subject,
                    "the header is not id, text, title",
                    "Write id, text and title as the first line, separated by tabs.",
                )
        elif len(row) != len(columns):
            raise CorpusError(
                subject,
                f"it has {len(row)} columns, and the header has {len(columns)}",
                "Separate id, text, title by tabs.",
            )
        else:
            yield _passage(subject, **dict(zip(columns, row, strict=True)))


def _jsonl(path: Path) -> Iterator[Document]:
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        subject = _subject(path, number)
        try:
            row = json.loads(line)
        except ValueError as error:
            raise CorpusError(
                subject, f"it is not JSON ({error})", "Write one JSON object per line (JSONL)."
            ) from error
        if not isinstance(row, dict):
            raise CorpusError(subject, "it is not a JSON object", "Write one object per line.")
        yield _passage(subject, row.get("id"), row.get("text"), row.get("title"))


def _passage(subject: str, id: object, text: object, title: object) -> Document:
    if not isinstance(id, str | int) or not str(id).strip():
        raise CorpusError(subject, "the passage has no 'id'", "Give each passage a unique id.")
    if not isinstance(text, str):
        raise CorpusError(subject, f"passage {str(id)!r} has no 'text' string", "Set it to the passage's text.")
    return Document(written(str(id)), whole(text), whole(str(title or "")))


def _subject(path: Path, line: int) -> str:
    return f"passages {path}, line {line}"


def _lines(path: Path) -> Iterator[str]:
    """Yield the file's lines with their line breaks, decoded one by one so that errors name the line."""
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as stream:
            for number, line in enumerate(stream, start=1):
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        reason = f"it is not UTF-8 (byte {error.start + 1:,} of the line is {error.object[error.start]:#04x})"
        raise CorpusError(_subject(path, number), reason, CONVERT) from error
    except (OSError, EOFError, zlib.error) as error:
        reason = f"it cannot be read after line {number} ({error})"
        raise CorpusError(
            f"passages {path}", reason, "Check the path and its permissions, or download it again."
        ) from error
