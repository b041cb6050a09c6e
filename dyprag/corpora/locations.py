"""Where a corpus rests, and how what is there becomes documents: a folder, files of rows, a glob, here or behind a URL.

Whatever cannot be read is one `Unread`, which names the file (and row), the reason and the remedy; the others go on.
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
from dyprag.corpora.rows import ROWS, UNIQUE, NoDocuments, encodable, require_documents, whole
from dyprag.corpora.text.forms import written
from dyprag.errors import CorpusError, DocumentError, DypragError

Found = Document | Unread | Skipped | Noted
READ = ".txt, .md, .html, .pdf, .jsonl, .parquet, .csv and .tsv"
MEND = "Repair the file, or remove it."
NO_FILE = "it is no regular file"
# What a file's content raises, whichever library reads it.
BROKEN = (ValueError, EOFError, zlib.error, csv.Error, LookupError, RecursionError)
SECRET = re.compile(r"sig|token|key|secret|passw|credential", re.IGNORECASE)  # what parts of a URL's query are called
# How the names of files and folders begin that a system or an editor hides.
HIDDEN = re.compile(
    r"\.|~\$|(?:__MACOSX|__pycache__|@eaDir|\$RECYCLE\.BIN|System Volume Information|lost\+found|desktop\.ini"
    r"|Thumbs\.db)$",
    re.IGNORECASE,
)


def documents_at(location: str) -> Iterator[Found]:
    """The documents at a location, each id once, in the order of its files' names and of their rows; and what was
    passed over there, with the reason.

    Args:
        location: a folder, whose text files (.txt, .md, .html, .pdf) are documents named by their path, without its
            ending where that is unambiguous; one such file; a file of rows (.jsonl, .parquet, .csv, .tsv; .json is
            taken for the first) with `id`, `text` and an optional `title`, also in a folder; a glob of either; or a URL
            of these that fsspec knows, such as s3://bucket/folder. A file may be compressed (.gz). One whose name has
            no ending is read as what it begins like.

    Raises:
        CorpusError: the location does not exist or cannot be reached.
    """
    seen: set[str] = set()
    again: Counter[str] = Counter()
    for found in _each(location):
        if not isinstance(found, Document | Unread) or found.id not in seen:
            if isinstance(found, Document | Unread):
                seen.add(found.id)
            yield found
            continue
        again[found.id] += 1
        name = f"{found.id} (again{f', {again[found.id]}' if again[found.id] > 1 else ''})"
        if isinstance(found, Unread):
            yield replace(found, id=name)
        else:
            fault = DocumentError(f"corpus {location}", f"the id {found.id!r} occurs twice", UNIQUE)
            yield Unread(name, fault, found.source, named=True)


def _each(location: str) -> Iterator[Found]:
    from fsspec.core import has_magic

    place = f"corpus {location}"
    refuse_secrets(location, "corpus", CorpusError)
    if not location.strip():
        raise CorpusError(
            "corpus ''", "no location is given", "Name a folder or a file, or 'demo' to try the pipeline."
        )
    passed: list[Unread | Skipped] = []
    many = folder = False
    try:
        fs, path = _file_system(location)
        fs.invalidate_cache()  # a process may look twice
        if fs.isdir(path):
            base, many, folder = path.rstrip("/"), True, True
            files = list(_below(base, passed) if _is_local(fs) else _shown(fs.find(path), base, passed))
        elif fs.exists(path):
            base, files = os.path.dirname(path), [path]
            if _is_local(fs) and not os.path.isfile(path):  # a pipe would be waited for, a device never ends
                raise CorpusError(place, NO_FILE, "Name a file or a folder; save what a program writes first.")
        elif has_magic(path):
            base, many = os.path.dirname(re.split(r"[*?\[]", path, maxsplit=1)[0]), True
            files = list(_matching(fs, path, base, passed))
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
    yield from passed
    names = {file: written(encodable(file[len(base) :].lstrip("/"))) for file in sorted(files)}
    ids = _ids(names.values())
    for file, name in names.items():
        if many and _kind(file) not in {*TEXTS, *ROWS, "json"}:
            yield Skipped(name, _unsupported(name))
        else:
            found = _of_file(fs, file, name, ids[name], folder)
            yield from (_sourced(one, name) for one in found) if many else found


def _file_system(location: str) -> tuple[Any, str]:
    """Where a location is, and its path there. Without '://' it is a path of this machine, whatever is in it: '::' or
    'file:' in a name mean nothing, and a leading ~ is the home folder unless something here is called so."""
    import fsspec

    if "://" in location and not os.path.exists(location):
        fs, path = fsspec.url_to_fs(location)
        return fs, path
    known = os.path.lexists(location)
    return fsspec.filesystem("file"), os.path.abspath(location if known else os.path.expanduser(location))


def _below(base: str, passed: list[Unread | Skipped]) -> Iterator[str]:
    """The files below a folder of this machine. `passed` takes what is hidden or no file, and the folders that cannot
    be listed, which would seem to have been removed."""

    def closed(error: OSError) -> None:
        shown = encodable(str(error.filename))
        reason = f"this folder cannot be listed ({in_a_line(error)})"
        fault = DocumentError(f"corpus {shown}", reason, "Check its permissions.")
        name = f"{shown[len(base) :].lstrip('/')}/"
        passed.append(Unread(name, fault, name))

    def pass_over(path: str, reason: str) -> None:
        passed.append(Skipped(encodable(path[len(base) :].lstrip("/")), reason))

    for place, folders, names in os.walk(base, onerror=closed):
        for folder in sorted(folders):
            path = os.path.join(place, folder)
            if HIDDEN.match(folder):
                folders.remove(folder)
                pass_over(f"{path}/", "it is a hidden folder")
            elif os.path.islink(path):
                pass_over(f"{path}/", "it is a link to a folder, which is not followed")
        for name in names:
            path = os.path.join(place, name)
            if HIDDEN.match(name):
                pass_over(path, "it is a hidden file")
            elif not os.path.isfile(path):
                pass_over(path, "it is a link that leads nowhere" if os.path.islink(path) else NO_FILE)
            else:
                yield path


def _shown(files: Iterable[str], base: str, passed: list[Unread | Skipped]) -> Iterator[str]:
    """Files of a far folder, those apart that are hidden or in a hidden folder."""
    for file in files:
        name = file[len(base) :].lstrip("/")
        if any(HIDDEN.match(part) for part in name.split("/")):
            passed.append(Skipped(encodable(name), "it is hidden"))
        else:
            yield file


def _matching(fs: Any, pattern: str, base: str, passed: list[Unread | Skipped]) -> Iterator[str]:
    """The files that a pattern matches; `passed` takes those that are hidden, unless the pattern names what hides them,
    and what is no file."""
    meant = any(map(HIDDEN.match, pattern[len(base) :].split("/")))
    for path in fs.glob(pattern):
        name = path[len(base) :].lstrip("/")
        if not meant and any(map(HIDDEN.match, name.split("/"))):
            passed.append(Skipped(encodable(name), "it is hidden"))
        elif fs.isfile(path):
            yield path
        elif not fs.isdir(path):
            passed.append(Skipped(encodable(name), NO_FILE))


def _ids(names: Iterable[str]) -> dict[str, str]:
    """The documents' ids by their files' names: without the ending where no other file has the same name or id."""
    short = {name: _stem(name) for name in names}
    count = Counter(short.values())
    return {name: stem if count[stem] == 1 and stem not in short else name for name, stem in short.items()}


def _stem(name: str) -> str:
    """A file's path without an ending that says how it is read."""
    bare = name.removesuffix(".gz") if name.lower().endswith(".gz") else name
    stem, _, ending = bare.rpartition(".")
    return stem if stem and not stem.endswith("/") and KINDS.get(ending.lower(), ending.lower()) in TEXTS else name


def readable(name: str) -> str:
    """A file's name as a title: without path and ending, its words apart. What has a number keeps its hyphens."""
    stem = PurePosixPath(_stem(name)).name
    words = stem.replace("_", " ")
    if " " not in words:
        words = re.sub(r"(?<=[^\W\d])-(?=[^\W\d])", " ", words)
    return " ".join(words.split()) or stem


def _is_local(fs: Any) -> bool:
    return "file" in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,))


def _of_file(fs: Any, file: str, name: str, identity: str, in_folder: bool) -> Iterator[Found]:
    """The documents of a file. In a folder, files of rows that are something else than documents are passed over."""
    local = _is_local(fs)
    shown = file if local else fs.unstrip_protocol(file)
    place, kind = f"corpus {encodable(shown)}", _kind(file)
    try:
        with fs.open(file, "rb", compression="infer" if kind != "parquet" else None) as stream:
            begun: list[bytes] = []
            if "/" in kind:  # the name has no ending
                kind, begun = _by_content(stream)
            if kind in TEXTS:
                read = TEXTS[kind](b"".join((*begun, stream.read())))
                text = whole(read.text)
                title = whole(read.title) or readable(name)
                yield Document(identity, text, title, name) if text else Skipped(name, "there is no text in it")
            elif kind in ROWS or kind == "json":
                form = kind if kind in ROWS else "jsonl"
                given = require_documents(stream, place) if in_folder and form == "jsonl" else stream
                given = chain(begun, given) if begun else given
                for one in ROWS[form](given, place):
                    yield Noted(name, one.how) if isinstance(one, Noted) else one
            else:
                raise DocumentError("", _unsupported(name), f"Convert it to one of {READ}.")
    except NoDocuments as error:
        yield (
            Skipped(name, error.reason) if in_folder else Unread(name, DocumentError(place, error.reason, error.remedy))
        )
    except UnicodeDecodeError as error:
        fault = undecodable(error, error.object)
        yield Unread(name, DocumentError(place, fault.reason, fault.remedy))
    except DocumentError as error:
        yield Unread(name, DocumentError(place, error.reason, error.remedy))
    except ImportError as error:
        raise CorpusError(place, f"a library for it is missing ({error})", "Install dyprag anew.") from error
    except BROKEN as error:
        yield Unread(name, DocumentError(place, f"it is broken ({in_a_line(error)})", MEND))
    except Exception as error:
        reason = f"it cannot be read ({in_a_line(error)})"
        denied = isinstance(error, PermissionError | FileNotFoundError)
        # Of a file of rows the rest would seem to have been removed, and of a far one, it may be there the next minute,
        # or all others are denied from now on as well: a token's time is up.
        if ((denied or kind in TEXTS) and local) or isinstance(error, FileNotFoundError):
            yield Unread(name, DocumentError(place, reason, "Check its permissions." if denied else MEND))
            return
        remedy = "Check the credentials and its rights, and run again" if denied else "Run again"
        raise CorpusError(place, reason, f"{remedy}; the last ingest stays what it was.") from error


def _sourced(found: Found, source: str) -> Found:
    """What was found with the name of the file that it was read from; a line's name says which file's."""
    if isinstance(found, Document) and not found.source:
        return Document(found.id, found.text, found.title, source)
    if isinstance(found, Unread) and not found.source:
        own = found.named or found.id == source
        return replace(found, id=found.id if own else f"{source}, {found.id}", source=source)
    return found


def _kind(file: str) -> str:
    """A file's kind by its name: a key of TEXTS or ROWS, or whatever it ends with."""
    name = (urlsplit(file).path if "://" in file else file).lower().removesuffix(".gz")
    return KINDS.get(ending := name.rsplit(".", 1)[-1], ending)


def _by_content(stream: Iterable[bytes]) -> tuple[str, list[bytes]]:
    """A file's kind by its first line that is not blank, and the lines that were read for it."""
    begun: list[bytes] = []
    for line in stream:
        begun.append(line)
        if head := line.strip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n").lower():
            kinds = ((b"{", "jsonl"), (b"%pdf-", "pdf"), (b"<!doctype html", "html"), (b"<html", "html"))
            return next((kind for sign, kind in kinds if head.startswith(sign)), "text"), begun
    return "text", begun


def _unsupported(name: str) -> str:
    """Why a file of this name is not read."""
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
    """Raise an error of this kind where an address holds a password or a signature: it would be shown."""
    url = urlsplit(location)
    if url.scheme and (url.password or any(SECRET.search(name) for name, _ in parse_qsl(url.query))):
        reason = "there is a password or a signature in it, which would be shown"
        raise kind(f"{what} {url.scheme}://…", reason, "Give it by the environment or the library's own files.")


def in_a_line(error: BaseException) -> str:
    """What an error says, on one line."""
    return " ".join(str(getattr(error, "strerror", None) or error).split())[:200] or type(error).__name__


TEXTS: dict[str, Callable[[bytes], Reading]] = {"text": _plain, "markdown": _markdown, "html": _html, "pdf": _pdf}
KINDS = {
    "txt": "text", "md": "markdown", "htm": "html", "xhtml": "html", "ndjson": "jsonl",
}  # fmt: skip
