"""Where a corpus rests, and how what is there becomes documents: a folder, files of rows, a glob, here or behind a URL.

Whatever cannot be read is one `Unread`, which names the file (and row), the reason and the remedy; the others go on.
"""

import csv
import io
import json
import os
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from dyprag.documents import Document, Unread
from dyprag.errors import CONVERT, CorpusError, DocumentError, DypragError

Found = Document | Unread
UNIQUE = "Give each document a unique id."
MEND = "Mend the file, or take it out."
# What a file's content raises, whichever library reads it.
BROKEN = (ValueError, EOFError, zlib.error, csv.Error, LookupError, RecursionError)
SECRET = re.compile(r"sig|token|key|secret|passw|credential", re.IGNORECASE)  # what parts of a URL's query are called
csv.field_size_limit(sys.maxsize)


def documents_at(location: str) -> Iterator[Found]:
    """The documents at a location, each id once, in the order of its files' names and of their rows.

    Args:
        location: a folder, whose text files (.txt, .md, .html, .pdf) are documents named by their path; one such file;
            a file of rows (.jsonl, .parquet, .csv, .tsv; .json and names with no ending are taken for the first) with
            `id`, `text` and an optional `title`; a glob of either; or a URL of these that fsspec knows, such as
            s3://bucket/folder. A file may be compressed (.gz).

    Raises:
        CorpusError: the location does not exist or cannot be reached.
    """
    seen: set[str] = set()
    for found in _each(location):
        if found.id in seen:
            place = f"corpus {location}"
            reason = f"the id {found.id!r} occurs twice"
            again = f"{found.id} (again)"
            yield Unread(again, DocumentError(place, reason, UNIQUE)) if isinstance(found, Document) else found
            continue
        if isinstance(found, Document):
            seen.add(found.id)
        yield found


def _each(location: str) -> Iterator[Found]:
    import fsspec
    from fsspec.core import has_magic

    place = f"corpus {location}"
    refuse_secrets(location, "corpus", CorpusError)
    closed: list[OSError] = []
    try:
        fs, path = fsspec.url_to_fs(os.path.expanduser(location))
        fs.invalidate_cache()  # a process may look twice
        if fs.isdir(path):
            base = path.rstrip("/")
            below = _below(path, closed) if _is_local(fs) else fs.find(path)
            files = [file for file in sorted(below) if _kind(file) in TEXTS]
        elif fs.exists(path):
            base, files = os.path.dirname(path), [path]
        elif has_magic(path):
            base = os.path.dirname(re.split(r"[*?\[]", path, maxsplit=1)[0])
            files = [file for file in sorted(fs.glob(path)) if _kind(file) in {*TEXTS, *ROWS} and fs.isfile(file)]
        else:
            remedy = "Check the path, or use 'demo' to try the pipeline."
            raise CorpusError(place, "there is no such file or folder", remedy)
    except CorpusError:
        raise
    except ImportError as error:
        extra = "pip install 'dyprag[s3]'" if location.startswith("s3") else "install the package that it names"
        raise CorpusError(place, f"a library for it is missing ({error})", f"Install it: {extra}.") from error
    except Exception as error:  # each file system has its own kinds
        reason = f"it cannot be reached ({in_a_line(error)})"
        raise CorpusError(place, reason, "Check the address, the network and the credentials.") from error
    for folder in closed:
        shown = _encodable(str(folder.filename))
        reason = f"this folder cannot be listed ({in_a_line(folder)})"
        fault = DocumentError(f"corpus {shown}", reason, "Check its rights.")
        yield Unread(f"{shown[len(base) :].lstrip('/')}/", fault)
    for file in files:
        yield from _of_file(fs, file, _encodable(file[len(base) :].lstrip("/")))


def _below(folder: str, closed: list[OSError]) -> Iterator[str]:
    """The files below a folder; `closed` takes what fsspec would pass over in silence, as if it had been removed."""
    for place, _, names in os.walk(folder, onerror=closed.append):
        yield from (os.path.join(place, name) for name in names)


def _is_local(fs: Any) -> bool:
    return "file" in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,))


def _of_file(fs: Any, file: str, name: str) -> Iterator[Found]:
    local = _is_local(fs)
    shown = file if local else fs.unstrip_protocol(file)
    place, kind = f"corpus {_encodable(shown)}", _kind(file)
    try:
        with fs.open(file, "rb", compression="infer" if kind != "parquet" else None) as stream:
            if kind in ROWS:
                yield from ROWS[kind](stream, place)
            elif kind in TEXTS:
                title, text = TEXTS[kind](stream.read())
                yield Document(name, whole(text), whole(title) or PurePosixPath(name).name.split(".")[0])
            elif kind == "json" or "/" in kind:  # the name has no ending
                yield from ROWS["jsonl"](stream, place)
            else:
                remedy = "Convert it to one of .txt, .md, .html, .pdf, .jsonl, .parquet, .csv and .tsv."
                raise DocumentError("", f"nothing here reads .{kind} files", remedy)
    except UnicodeDecodeError as error:
        reason = f"it is not UTF-8 (byte {error.start:,} is {error.object[error.start]:#04x})"
        yield Unread(name, DocumentError(place, reason, CONVERT))
    except DocumentError as error:
        yield Unread(name, DocumentError(place, error.reason, error.remedy))
    except BROKEN as error:
        yield Unread(name, DocumentError(place, f"it is broken ({in_a_line(error)})", MEND))
    except Exception as error:
        reason = f"it cannot be read ({in_a_line(error)})"
        denied = isinstance(error, PermissionError | FileNotFoundError)
        # Of a file of rows the rest would seem to have been removed, and of a far one, it may be there the next minute,
        # or all others are denied from now on as well: a token's time is up.
        if ((denied or kind in TEXTS) and local) or isinstance(error, FileNotFoundError):
            yield Unread(name, DocumentError(place, reason, "Check its rights." if denied else MEND))
            return
        remedy = "Check the credentials and its rights, and run again" if denied else "Run again"
        raise CorpusError(place, reason, f"{remedy}; the last ingest stays what it was.") from error


def _kind(file: str) -> str:
    """A file's kind by its name: a key of TEXTS or ROWS, or whatever it ends with."""
    name = (urlsplit(file).path if "://" in file else file).lower().removesuffix(".gz")
    return KINDS.get(ending := name.rsplit(".", 1)[-1], ending)


def _plain(data: bytes) -> tuple[str, str]:
    text = data.decode("utf-8-sig")
    if "\0" in text:
        raise DocumentError("", "it is binary, not text", "Take it out, or convert it.")
    return "", text


def _html(data: bytes) -> tuple[str, str]:
    from bs4 import BeautifulSoup
    from markdownify import MarkdownConverter

    soup = BeautifulSoup(data, "html.parser")
    title = soup.title.get_text() if soup.title else ""
    for tag in soup(["head", "script", "style", "noscript", "template"]):
        tag.decompose()
    text = MarkdownConverter(heading_style="ATX").convert_soup(soup)
    return " ".join(title.split()), re.sub(r"\s*\n\s*\n\s*", "\n\n", text)


def _pdf(data: bytes) -> tuple[str, str]:
    from pypdf import PdfReader
    from pypdf.errors import FileNotDecryptedError, PyPdfError

    try:
        reader = PdfReader(io.BytesIO(data))
        text = "\n".join(page.extract_text() for page in reader.pages)
        title = reader.metadata.title if reader.metadata else ""
    except FileNotDecryptedError:
        raise DocumentError("", "it is encrypted", "Save it without a password.") from None
    except (PyPdfError, *BROKEN, TypeError, AttributeError, AssertionError) as error:
        raise DocumentError("", f"it is a broken PDF ({in_a_line(error)})", MEND) from error
    if not text.strip():
        raise DocumentError("", "it is a PDF without text, of scanned pages perhaps", "Run it through OCR first.")
    return title or "", text


def _jsonl(stream: Iterable[bytes], place: str) -> Iterator[Found]:
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


def _table(delimiter: str) -> Callable[[Any, str], Iterator[Found]]:
    def read(stream: Any, place: str) -> Iterator[Found]:
        rows = csv.DictReader(io.TextIOWrapper(stream, "utf-8-sig", newline=""), delimiter=delimiter, strict=True)
        _require_columns(rows.fieldnames or ())
        for row in rows:
            yield _of_row(row, f"{place}, line {rows.line_num}")

    return read


def _parquet(stream: Any, place: str) -> Iterator[Found]:
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
        raise DocumentError("", reason, "Name its columns id, text and perhaps title.")


def _of_row(row: Mapping[str, Any], place: str) -> Found:
    identity, text = row.get("id"), row.get("text")
    if not isinstance(identity, str | int) or not str(identity).strip():
        return Unread(place.rsplit(", ", 1)[-1], DocumentError(place, "the document has no 'id'", UNIQUE))
    identity = _encodable(str(identity))
    if not isinstance(text, str):
        reason = f"document {identity!r} has no 'text' string"
        return Unread(identity, DocumentError(place, reason, "Put the document's text there."))
    return Document(identity, whole(text), whole(str(row.get("title") or "")))


def whole(text: str) -> str:
    """Stripped, and with halves of surrogate pairs (a cut emoji in JSON), which nothing can encode, as '?'."""
    return _encodable(text.strip())


def _encodable(text: str) -> str:
    """With '?' for halves of surrogate pairs, and for bytes of a file's name that are not UTF-8."""
    return text.encode("utf-8", "replace").decode()


def refuse_secrets(location: str, what: str, kind: type[DypragError]) -> None:
    """Raise an error of this kind where an address holds a password or a signature: it would be shown."""
    url = urlsplit(location)
    if url.scheme and (url.password or any(SECRET.search(name) for name, _ in parse_qsl(url.query))):
        reason = "there is a password or a signature in it, which would be shown"
        raise kind(f"{what} {url.scheme}://…", reason, "Give it by the environment or the library's own files.")


def in_a_line(error: BaseException) -> str:
    """What an error says, on one line."""
    return " ".join(str(getattr(error, "strerror", None) or error).split())[:200] or type(error).__name__


TEXTS: dict[str, Callable[[bytes], tuple[str, str]]] = {"text": _plain, "html": _html, "pdf": _pdf}  # title, text
ROWS: dict[str, Callable[[Any, str], Iterator[Found]]] = {
    "jsonl": _jsonl, "csv": _table(","), "tsv": _table("\t"), "parquet": _parquet,
}  # fmt: skip
KINDS = {"txt": "text", "md": "text", "markdown": "text", "htm": "html", "ndjson": "jsonl"}
