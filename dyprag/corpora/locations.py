"""Read the documents at a location: a folder, files of rows or a glob, on this machine or behind a URL.

A document that cannot be read becomes an `Unread` entry with its file (and row), the reason and the remedy. The other
documents are not affected.
"""

import csv
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from dyprag.corpora.documents import Document, Noted, Skipped, Unread
from dyprag.corpora.reading.blocks import Reading
from dyprag.corpora.reading.encodings import letters_of, undecodable
from dyprag.corpora.rows import ROWS, UNIQUE, NoDocuments, require_documents, whole
from dyprag.corpora.text.forms import encodable, written
from dyprag.errors import CorpusError, DocumentError, DypragError

Entry = Document | Unread | Skipped | Noted
READ = ".txt, .md, .html, .pdf, .jsonl, .parquet, .csv and .tsv"
REPAIR = "Repair the file, or remove it."
NO_FILE = "it is not a regular file"
# The exceptions that reading libraries raise for damaged files.
BROKEN = (ValueError, EOFError, zlib.error, csv.Error, LookupError, RecursionError, OverflowError)
SECRET = re.compile(r"sig|token|key|secret|passw|credential", re.IGNORECASE)  # names of secret URL parameters
# The beginnings of names of files and folders that systems and editors hide.
HIDDEN = re.compile(
    r"\.|~\$|(?:__MACOSX|__pycache__|@eaDir|\$RECYCLE\.BIN|System Volume Information|lost\+found|desktop\.ini"
    r"|Thumbs\.db)$",
    re.IGNORECASE,
)


def documents_at(location: str) -> Iterator[Entry]:
    """Yield the documents at a location, and an entry with the reason for everything that is not read.

    Documents come in the order of their files' names and of their rows. An id that occurs again is an error of the
    later document.

    Args:
        location: a folder, a file, a glob, or a URL of one of these that fsspec supports, such as s3://bucket/folder.
            Text files (.txt, .md, .html, .pdf) are documents; their ids are their paths, without the extension if that
            is unambiguous. Files of rows (.jsonl, .parquet, .csv, .tsv; .json is read as .jsonl) have `id`, `text` and
            an optional `title`. Files may be compressed (.gz). The type of a file without an extension is detected from
            its beginning.

    Raises:
        CorpusError: the location does not exist or cannot be reached.
    """
    seen: set[str] = set()
    repeats: Counter[str] = Counter()
    for entry in _each(location):
        if not isinstance(entry, Document | Unread) or entry.id not in seen:
            if isinstance(entry, Document | Unread):
                seen.add(entry.id)
            yield entry
            continue
        repeats[entry.id] += 1
        name = f"{entry.id} (again{f', {repeats[entry.id]}' if repeats[entry.id] > 1 else ''})"
        if isinstance(entry, Unread):
            yield replace(entry, id=name)
        else:
            error = DocumentError(f"corpus {location}", f"the id {entry.id!r} occurs twice", UNIQUE)
            yield Unread(name, error, entry.source, named=True)


def _each(location: str) -> Iterator[Entry]:
    from fsspec.core import has_magic

    subject = f"corpus {location}"
    refuse_secrets(location, "corpus", CorpusError)
    if not location.strip():
        raise CorpusError(
            "corpus ''", "no location is given", "Name a folder or a file, or 'demo' to try the pipeline."
        )
    skipped: list[Unread | Skipped] = []
    many = folder = False
    try:
        fs, path = _file_system(location)
        fs.invalidate_cache()  # the files may have changed since an earlier call
        if fs.isdir(path):
            base, many, folder = path.rstrip("/"), True, True
            files = list(_below(base, skipped) if _is_local(fs) else _visible(fs.find(path), base, skipped))
        elif fs.exists(path):
            base, files = os.path.dirname(path), [path]
            if _is_local(fs) and not os.path.isfile(path):  # reading a pipe or device might never end
                raise CorpusError(subject, NO_FILE, "If it is a pipe, save its output to a file and name that file.")
        elif has_magic(path):
            base, many = os.path.dirname(re.split(r"[*?\[]", path, maxsplit=1)[0]), True
            files = list(_matching(fs, path, base, skipped))
        else:
            relative = _is_local(fs) and not os.path.isabs(os.path.expanduser(location))
            where = f" in {os.getcwd()}" if relative else ""
            remedy = "Check the path; corpus.documents=demo is the demo's corpus."
            raise CorpusError(subject, f"there is no such file or folder{where}", remedy)
    except CorpusError:
        raise
    except ImportError as error:
        extra = "pip install 'dyprag[s3]'" if location.startswith("s3") else "install the package that it names"
        raise CorpusError(subject, f"a library for it is missing ({error})", f"Install it: {extra}.") from error
    except Exception as error:  # each file system raises its own types
        reason = f"it cannot be reached ({in_a_line(error)})"
        raise CorpusError(subject, reason, "Check the address, the network and the credentials.") from error
    yield from skipped
    names = {file: written(encodable(file[len(base) :].lstrip("/"))) for file in sorted(files)}
    ids = _ids(names.values())
    for file, name in names.items():
        if many and _kind(file) not in {*TEXTS, *ROWS, "json"}:
            yield Skipped(name, _unsupported(name))
        else:
            entries = _of_file(fs, file, name, ids[name], folder)
            yield from (_with_source(entry, name) for entry in entries) if many else entries


def _file_system(location: str) -> tuple[Any, str]:
    """Return the file system of a location and the path in it.

    A location without '://' is a path on this machine; '::' or 'file:' in it have no special meaning. A leading ~ is
    the home folder, unless there is a file of that name.
    """
    import fsspec

    if "://" in location and not os.path.exists(location):
        fs, path = fsspec.url_to_fs(location)
        return fs, path
    exists = os.path.lexists(location)
    return fsspec.filesystem("file"), os.path.abspath(location if exists else os.path.expanduser(location))


def _below(base: str, skipped: list[Unread | Skipped]) -> Iterator[str]:
    """Yield the files below a local folder.

    Hidden and irregular files are added to `skipped`. So are folders that cannot be listed; otherwise their documents
    would seem to have been removed.
    """

    def report_unlistable(error: OSError) -> None:
        folder = encodable(str(error.filename))
        reason = f"this folder cannot be listed ({in_a_line(error)})"
        name = f"{folder[len(base) :].lstrip('/')}/"
        skipped.append(Unread(name, DocumentError(f"corpus {folder}", reason, "Check its permissions."), name))

    def skip(path: str, reason: str) -> None:
        skipped.append(Skipped(encodable(path[len(base) :].lstrip("/")), reason))

    for parent, folders, names in os.walk(base, onerror=report_unlistable):
        for folder in sorted(folders):
            path = os.path.join(parent, folder)
            if HIDDEN.match(folder):
                folders.remove(folder)
                skip(f"{path}/", "it is a hidden folder")
            elif os.path.isfile(os.path.join(path, "catalogue.lock")) and os.path.isdir(os.path.join(path, "corpus")):
                folders.remove(folder)  # its copies of texts are not the corpus
                skip(f"{path}/", "it is a store of dyprag")
            elif os.path.islink(path):
                skip(f"{path}/", "links to folders are not followed")
        for name in names:
            path = os.path.join(parent, name)
            if HIDDEN.match(name):
                skip(path, "it is a hidden file")
            elif not os.path.isfile(path):
                skip(path, "it is a broken link" if os.path.islink(path) else NO_FILE)
            else:
                yield path


def _visible(files: Iterable[str], base: str, skipped: list[Unread | Skipped]) -> Iterator[str]:
    """Yield the files of a remote folder. Hidden files, and files in hidden folders, are added to `skipped`."""
    for file in files:
        name = file[len(base) :].lstrip("/")
        if any(HIDDEN.match(part) for part in name.split("/")):
            skipped.append(Skipped(encodable(name), "it is hidden"))
        else:
            yield file


def _matching(fs: Any, pattern: str, base: str, skipped: list[Unread | Skipped]) -> Iterator[str]:
    """Yield the files that a pattern matches.

    Irregular files are added to `skipped`. So are hidden files, unless the pattern itself contains a hidden name.
    """
    include_hidden = any(map(HIDDEN.match, pattern[len(base) :].split("/")))
    for path in fs.glob(pattern):
        name = path[len(base) :].lstrip("/")
        if not include_hidden and any(map(HIDDEN.match, name.split("/"))):
            skipped.append(Skipped(encodable(name), "it is hidden"))
        elif fs.isfile(path):
            yield path
        elif not fs.isdir(path):
            skipped.append(Skipped(encodable(name), NO_FILE))


def _ids(names: Iterable[str]) -> dict[str, str]:
    """Return the document ids by file name: without the extension, if no other file has the same name or id."""
    stems = {name: _stem(name) for name in names}
    count = Counter(stems.values())
    return {name: stem if count[stem] == 1 and stem not in stems else name for name, stem in stems.items()}


def _stem(name: str) -> str:
    """Return a file's path without the extension of a supported text format."""
    bare = name.removesuffix(".gz") if name.lower().endswith(".gz") else name
    stem, _, extension = bare.rpartition(".")
    kind = KINDS.get(extension.lower(), extension.lower())
    return stem if stem and not stem.endswith("/") and kind in TEXTS else name


def readable(name: str) -> str:
    """Turn a file name into a title: without path and extension, with spaces between words.

    Hyphens next to digits are kept.
    """
    stem = PurePosixPath(_stem(name)).name
    words = stem.replace("_", " ")
    if " " not in words:
        words = re.sub(r"(?<=[^\W\d])-(?=[^\W\d])", " ", words)
    return " ".join(words.split()) or stem


def _is_local(fs: Any) -> bool:
    return "file" in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,))


def _of_file(fs: Any, file: str, name: str, identity: str, in_folder: bool) -> Iterator[Entry]:
    """Yield the documents of a file. In a folder, files of rows that contain no documents are skipped."""
    local = _is_local(fs)
    address = file if local else fs.unstrip_protocol(file)
    subject, kind = f"corpus {encodable(address)}", _kind(file)
    try:
        with fs.open(file, "rb", compression="infer" if kind != "parquet" else None) as stream:
            head: list[bytes] = []
            if "/" in kind:  # the name has no extension
                kind, head = _by_content(stream)
            if kind in TEXTS:
                reading = TEXTS[kind](b"".join((*head, stream.read())))
                text = whole(reading.text)
                title = whole(reading.title) or readable(name)
                yield Document(identity, text, title, name) if text else Skipped(name, "it contains no text")
            elif kind in ROWS or kind == "json":
                form = kind if kind in ROWS else "jsonl"
                lines = require_documents(stream, subject) if in_folder and form == "jsonl" else stream
                lines = chain(head, lines) if head else lines
                for entry in ROWS[form](lines, subject):
                    yield Noted(name, entry.how) if isinstance(entry, Noted) else entry
            else:
                raise DocumentError("", _unsupported(name), f"Convert it to one of {READ}.")
    except NoDocuments as error:
        unread = Unread(name, DocumentError(subject, error.reason, error.remedy))
        yield Skipped(name, error.reason) if in_folder else unread
    except UnicodeDecodeError as error:
        fault = undecodable(error, error.object)
        yield Unread(name, DocumentError(subject, fault.reason, fault.remedy))
    except DocumentError as error:
        yield Unread(name, DocumentError(subject, error.reason, error.remedy))
    except ImportError as error:
        raise CorpusError(subject, f"a library for it is missing ({error})", "Reinstall dyprag.") from error
    except Exception as error:
        of_decoder = local and isinstance(error, OSError) and error.errno is None  # others are of the disk
        if of_decoder or isinstance(error, BROKEN):
            yield Unread(name, DocumentError(subject, f"it is damaged ({in_a_line(error)})", REPAIR))
            return
        reason = f"it cannot be read ({in_a_line(error)})"
        denied = isinstance(error, PermissionError | FileNotFoundError)
        # Other errors stop the ingest. The remaining rows of a file would otherwise seem to have been removed. A remote
        # file may be available again in a minute, or, if a token has expired, all further files are denied as well.
        if ((denied or kind in TEXTS) and local) or isinstance(error, FileNotFoundError):
            yield Unread(name, DocumentError(subject, reason, "Check its permissions." if denied else REPAIR))
            return
        remedy = "Check the credentials and permissions, and run again" if denied else "Run again"
        raise CorpusError(subject, reason, f"{remedy}; the last ingest is unchanged.") from error


def _with_source(entry: Entry, source: str) -> Entry:
    """Return an entry with the name of its file. The name of an unread line then includes the file."""
    if isinstance(entry, Document) and not entry.source:
        return Document(entry.id, entry.text, entry.title, source)
    if isinstance(entry, Unread) and not entry.source:
        unique = entry.named or entry.id == source
        return replace(entry, id=entry.id if unique else f"{source}, {entry.id}", source=source)
    return entry


def _kind(file: str) -> str:
    """Return a file's kind by its name: a key of TEXTS or ROWS, or the extension if it is not supported."""
    name = (urlsplit(file).path if "://" in file else file).lower().removesuffix(".gz")
    return KINDS.get(extension := name.rsplit(".", 1)[-1], extension)


def _by_content(stream: Iterable[bytes]) -> tuple[str, list[bytes]]:
    """Return a file's kind, detected from its first non-blank line, and the lines that were read."""
    lines: list[bytes] = []
    for line in stream:
        lines.append(line)
        if head := line.strip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n").lower():
            kinds = ((b"{", "jsonl"), (b"%pdf-", "pdf"), (b"<!doctype html", "html"), (b"<html", "html"))
            return next((kind for prefix, kind in kinds if head.startswith(prefix)), "text"), lines
    return "text", lines


def _unsupported(name: str) -> str:
    """Return the reason why a file with this name is not read."""
    suffix = PurePosixPath(name).suffix
    return f"{suffix} files are not supported" if suffix else "files without an extension are not supported"


def _plain(data: bytes) -> Reading:
    from dyprag.corpora.reading.plain import read_plain

    return read_plain(letters_of(data))


def _markdown(data: bytes) -> Reading:
    from dyprag.corpora.reading.markdown import read_markdown

    return read_markdown(letters_of(data))


def _html(data: bytes) -> Reading:
    from dyprag.corpora.reading.web import read_page

    return read_page(data)


def _pdf(data: bytes) -> Reading:
    from dyprag.corpora.reading.pdf import read_pdf

    return read_pdf(data)


def refuse_secrets(location: str, what: str, kind: type[DypragError]) -> None:
    """Raise an error of this class if a URL contains a password or signature, because logs and reports show the URL."""
    url = urlsplit(location)
    if url.scheme and (url.password or any(SECRET.search(name) for name, _ in parse_qsl(url.query))):
        reason = "the URL contains a password or signature, which logs would show"
        remedy = "Provide credentials through the environment or the library's configuration files."
        raise kind(f"{what} {url.scheme}://…", reason, remedy)


def in_a_line(error: BaseException) -> str:
    """Return an error's message on one line."""
    return " ".join(str(getattr(error, "strerror", None) or error).split())[:200] or type(error).__name__


TEXTS: dict[str, Callable[[bytes], Reading]] = {"text": _plain, "markdown": _markdown, "html": _html, "pdf": _pdf}
KINDS = {
    "txt": "text", "md": "markdown", "htm": "html", "xhtml": "html", "ndjson": "jsonl",
}  # fmt: skip
