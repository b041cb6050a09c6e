"""BM25 from an index on disk, for corpora of any size: built from a stream, searched without loading it (§4.1).

FOLDER/index.json       passages, a fingerprint of the corpus, the size and checksum of every file; written last
FOLDER/…                tantivy's files: the words of each passage, and its id, title and text
"""

import hashlib
import json
import os
import shutil
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import tantivy

from dyprag.corpora.documents import Document, Retrieved
from dyprag.corpora.retrieval.bm25 import BM25Retriever, Retriever
from dyprag.corpora.text.words import search_words
from dyprag.errors import ArtifactError, StoreError

LARGE = 20_000  # documents from which on the index is used: rank_bm25 then takes some 50 ms a question
MEMORY = 256 * 2**20  # bytes of words held before they are written out as one segment
DESCRIPTION = "index.json"
FORMAT = 2  # raise it where the files are others, or the words by which passages are found
REBUILD = "Delete the folder and build the index again."


def retriever_for(documents: Sequence[Document], folder: Path) -> Retriever:
    """BM25 over a corpus: in memory below LARGE documents, else from the index in `folder`, built where there is none.

    Raises:
        ArtifactError: the index is damaged, incomplete or of other documents.
        StoreError: it cannot be written.
    """
    if len(documents) < LARGE:
        return BM25Retriever(documents)
    if not is_built(folder):
        build_index(folder, documents)
    index = IndexedBM25(folder)
    index.verify()
    fingerprint = _fingerprint()
    for document in documents:
        fingerprint.update(_packed(document))
    if index.description["fingerprint"] != fingerprint.hexdigest():
        raise ArtifactError(f"index {folder}", "it was built from other documents", "Name another folder or delete it.")
    return index


def is_built(folder: Path) -> bool:
    """Whether there is an index at a path: of an earlier version there is none, as it has other words."""
    return folder.exists() and not _is_earlier(folder)


def build_index(folder: Path, documents: Iterable[Document], memory_bytes: int = MEMORY) -> int:
    """Index a stream of documents, never held as a whole, into a folder that appears complete or not at all.

    Args:
        folder: where the index goes; must not exist, unless it is an index of an earlier version, which is replaced.
        documents: in the order that decides between equal scores.
        memory_bytes: words held before a segment is written, at least 15,000,000. More gives fewer, larger segments;
            tantivy merges them by eights.

    Returns:
        The number of passages.

    Raises:
        ArtifactError: there is something at `folder`.
        StoreError: the folder cannot be written.
    """
    if is_built(folder):
        raise ArtifactError(f"index {folder}", "the path already exists", "Delete it or name another folder.")
    made = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with _writing(folder):
            made.mkdir(parents=True)
        description = _write(made, folder, documents, memory_bytes)
        with _writing(folder):
            _describe(made, description)
            _place(made, folder, description)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return int(description["passages"])


class IndexedBM25:
    """Okapi BM25 over titles and texts from an index on disk; it is mapped into memory, not read.

    The words are those of BM25Retriever, a question's repeated words count as often as they occur, and the inverse
    document frequency is the same. The scores are tantivy's: k1 = 1.2 (in memory: 1.5), b = 0.75, and a passage's
    length rounded down to one of 256 values (in memory: exact). Of 129 questions about 6,119 passages of
    2WikiMultihopQA, 95 % find the same first passage and 94 % of the first three are shared; with the same k1, 100 %
    and 98 %.

    Opening checks that every file is there with its size; `verify` reads them.

    Raises:
        ArtifactError: the index is missing, damaged or incomplete.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.description = _description(folder)
        for name, file in self.description["files"].items():
            path = folder / name
            if not path.is_file() or path.stat().st_size != file["bytes"]:
                raise ArtifactError(f"index {folder}", f"its file {name} is missing or has another size", REBUILD)
        with _reading(folder):
            index = tantivy.Index.open(str(folder))
            index.config_reader("manual")  # it never changes, so nothing need watch it
            self._schema, self._searcher = index.schema, index.searcher()
        if self._searcher.num_docs != len(self):
            raise ArtifactError(f"index {folder}", f"it holds {self._searcher.num_docs} of {len(self)}", REBUILD)

    def __len__(self) -> int:
        return int(self.description["passages"])

    def search(self, question: str, count: int) -> list[Retrieved]:
        """Up to `count` of the documents that have a word of the question, the best first; equal scores keep the
        corpus's order, so results are repeatable."""
        count = min(count, len(self))
        if count < 1:
            return []
        with _reading(self._folder):
            best = self._best(Counter(search_words(question)), count)
            return [Retrieved(self._document(address), score) for score, _, address in best if score > 0]

    def verify(self) -> None:
        """Read every file and compare its checksum.

        Raises:
            ArtifactError: a file is not what was written.
        """
        for name, file in self.description["files"].items():
            with _reading(self._folder):
                checksum = _checksum(self._folder / name)
            if checksum != file["blake2b"]:
                raise ArtifactError(f"index {self._folder}", f"its file {name} has another checksum", REBUILD)

    def _best(self, asked: Counter[str], count: int) -> list[tuple[float, int, tantivy.DocAddress]]:
        """(score, place in the corpus, address) of up to `count` passages with any of the words, best first."""
        terms = [
            (tantivy.Occur.Should, tantivy.Query.boost_query(self._term(word), float(times)))
            for word, times in asked.items()
        ]
        limit = count
        while True:  # tantivy's own order among equals is that of its segments: fetch until the last equal is in
            limit = min(2 * limit, len(self))
            hits = self._searcher.search(tantivy.Query.boolean_query(terms), limit, count=False).hits
            if len(hits) < limit or limit == len(self) or hits[-1][0] < hits[count - 1][0]:
                break
        places: list[Any] = self._searcher.fast_field_values("number", [address for _, address in hits])
        found = [(score, place, address) for (score, address), place in zip(hits, places, strict=True)]
        return sorted(found, key=lambda hit: (-hit[0], hit[1]))[:count]

    def _term(self, word: str) -> tantivy.Query:
        return tantivy.Query.term_query(self._schema, "words", word, "freq")

    def _document(self, address: tantivy.DocAddress) -> Document:
        identity, title, text = json.loads(
            bytes(self._searcher.doc(address)["document"][0]).decode("utf-8", "surrogatepass")
        )
        return Document(identity, text, title)


def _write(made: Path, folder: Path, documents: Iterable[Document], memory_bytes: int) -> dict[str, Any]:
    """Fill a folder with the index; gives its description."""
    schema = tantivy.SchemaBuilder()
    schema.add_unsigned_field("number", fast=True)
    schema.add_bytes_field("document", stored=True)
    schema.add_text_field("words", tokenizer_name="whitespace", index_option="freq")
    writer = tantivy.Index(schema.build(), str(made)).writer(memory_bytes, num_threads=1)
    passages, fingerprint = 0, _fingerprint()
    try:
        for passages, document in enumerate(documents, start=1):
            entry, packed = tantivy.Document(), _packed(document)
            entry.add_unsigned("number", passages - 1)
            entry.add_bytes("document", packed)
            entry.add_text("words", " ".join(search_words(document.passage)))
            fingerprint.update(packed)
            with _writing(folder):
                writer.add_document(entry)
        with _writing(folder):
            writer.commit()
            writer.wait_merging_threads()
    except BaseException:  # its threads must end before the folder can be removed
        with suppress(OSError, ValueError):
            writer.rollback()
            writer.wait_merging_threads()
        raise
    return {"format": FORMAT, "passages": passages, "fingerprint": fingerprint.hexdigest()}


def _describe(made: Path, description: dict[str, Any]) -> None:
    paths = sorted(path for path in made.iterdir() if path.suffix != ".lock")
    description["files"] = {p.name: {"bytes": p.stat().st_size, "blake2b": _checksum(p)} for p in paths}
    with open(made / DESCRIPTION, "w", encoding="utf-8") as stream:
        json.dump(description, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())


def _place(made: Path, folder: Path, description: dict[str, Any]) -> None:
    """Rename the finished folder; that another process has placed the same index meanwhile is as good."""
    try:
        if _is_earlier(folder):
            shutil.rmtree(folder)
        made.rename(folder)
    except OSError:
        if not folder.is_dir() or _description(folder)["fingerprint"] != description["fingerprint"]:
            raise


def _description(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise ArtifactError(f"index {folder}", "there is no such folder", "Build the index, or check the path.")
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        if description["format"] == FORMAT and {"passages", "fingerprint", "files"} <= set(description):
            return description
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = f"it is incomplete or damaged ({DESCRIPTION}: {type(error).__name__})"
        raise ArtifactError(f"index {folder}", reason, REBUILD) from error
    if _is_earlier(folder):
        reason = "it was built by an earlier version of dyprag, which parted words otherwise"
        raise ArtifactError(f"index {folder}", reason, "Run dyprag ingest again to rebuild it.")
    raise ArtifactError(f"index {folder}", "it has another format version", REBUILD)


def _is_earlier(folder: Path) -> bool:
    try:
        return 0 < json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))["format"] < FORMAT
    except (OSError, ValueError, TypeError, KeyError):
        return False


def _packed(document: Document) -> bytes:
    fields = [document.id, document.title, document.text]
    return json.dumps(fields, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _fingerprint() -> "hashlib.blake2b":
    return hashlib.blake2b(digest_size=16)


def _checksum(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, _fingerprint).hexdigest()


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        reason = f"it cannot be written ({error})"
        raise StoreError(f"index {folder}", reason, "Choose another folder, or free disk space.") from error


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        # A panic inside tantivy arrives as a class that cannot be imported and is no Exception.
        if not isinstance(error, OSError | ValueError) and type(error).__name__ != "PanicException":
            raise
        first_line = str(error).partition("\n")[0]
        reason = f"it cannot be read ({first_line})"
        raise ArtifactError(f"index {folder}", reason, REBUILD) from error
