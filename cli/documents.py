"""`dyprag documents`: what the corpus holds, as it was read, and what could not be read."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from dyprag.config import PipelineConfig
from dyprag.corpora.documents import Document
from dyprag.corpora.text.forms import written
from dyprag.corpora.text.words import word_count
from dyprag.errors import CorpusError

FEW = 20  # files that were not read, where they are not asked for


def given_documents(locations: Sequence[str]) -> list[Document]:
    """The documents of files and folders that are handed over. What cannot be read there is told on stderr, and stops
    nothing.

    Raises:
        CorpusError: a location does not exist, or no document at any of them can be read.
    """
    from dyprag.corpora.reader import read_given

    corpus = read_given(locations)
    lines = [f"Not read: {one.error}" for one in corpus.unread]
    lines += [f"Skipped: {one.id}: {one.reason}." for one in corpus.skipped]
    if len(lines) > FEW:
        lines[FEW:] = [f"{len(lines) - FEW:,} more were not read: dyprag documents --skipped lists them all."]
    lines += [f"{one.id}: {one.how}." for one in corpus.noted]
    print("".join(f"{line}\n" for line in lines), end="", file=sys.stderr)
    return list(corpus.documents)


def documents_in_store(config: PipelineConfig) -> dict[str, Any]:
    """The documents of the corpus as it was last ingested.

    Returns:
        location; documents, see `_entries`; skipped and unread: names with the reason; guessed: how files are
        read where that was guessed, by their names.

    Raises:
        StoreError: nothing has been ingested.
    """
    from dyprag.flows.stage import corpus_of
    from dyprag.storage.artifacts import Store
    from dyprag.storage.latest import noted

    config = config.resolved()
    store = Store(config.store)
    store.refresh()
    key, corpus = corpus_of(config, store)
    note = noted(store, "sources", key)
    record = store.find("corpus", key)
    location = str(record.settings.get("location", "")) if record else ""
    split = config.corpus.passage_tokens is not None
    return {
        "location": location, "documents": _entries(corpus.documents, note.get("files", {}), location, split),
        "skipped": note.get("skipped", {}), "unread": note.get("unread", {}), "guessed": note.get("guessed", {}),
    }  # fmt: skip


def documents_at(locations: Sequence[str], config: PipelineConfig) -> dict[str, Any]:
    """What `documents_in_store` gives, of files or folders as they would be read; nothing is stored.

    Raises:
        CorpusError: a location does not exist.
        ModelError: documents are to be split, and there is no such model.
    """
    from dyprag.corpora.reader import read_anything
    from dyprag.corpora.splitting import split_document, splitter

    tokens = config.corpus.passage_tokens
    split = splitter(config.resolved().model.name, tokens, config.corpus.overlap) if tokens is not None else None
    found: dict[str, Any] = {"location": ", ".join(locations), "documents": []}
    found |= {"skipped": {}, "unread": {}, "guessed": {}}
    for location in locations:
        corpus = read_anything(location)
        parts = [part for one in corpus.documents for part in (split_document(one, split) if split else [one])]
        files = {part.id: part.source for part in parts if part.source}
        found["documents"] += _entries(parts, files, location, split is not None)
        found["skipped"] |= {one.id: one.reason for one in corpus.skipped}
        found["unread"] |= {one.id: str(one.error) for one in corpus.unread}
        found["guessed"] |= {one.id: one.how for one in corpus.noted}
    return found


def _entries(documents: Iterable[Document], files: dict[str, str], location: str, split: bool) -> list[dict[str, Any]]:
    """Of each document its id, title, words, source (a file of the location), and the texts of its passages."""
    entries: dict[str, dict[str, Any]] = {}
    for document in documents:
        identity, mark, number = document.id.rpartition("#")
        whole = identity if split and mark and number.isdecimal() else document.id
        entry = entries.setdefault(whole, {
            "id": whole, "title": document.title, "words": 0, "passages": [],
            "source": files.get(document.id, location),
        })  # fmt: skip
        entry["words"] += word_count(document.text)
        entry["passages"].append({"id": document.id, "text": document.text})
    return list(entries.values())


def one_document(identity: str, found: dict[str, Any]) -> dict[str, Any]:
    """The entry of a document, or of the one passage of it that is named.

    Raises:
        CorpusError: there is none.
    """
    identity = written(identity)  # a Mac's shell completes a name with its letters decomposed
    for entry in found["documents"]:
        if entry["id"] == identity:
            return dict(entry)
        for passage in entry["passages"]:
            if passage["id"] == identity:
                return {**entry, "id": identity, "words": word_count(passage["text"]), "passages": [passage]}
    raise unknown_document(identity, [entry["id"] for entry in found["documents"]])


def document_text(entry: dict[str, Any]) -> str:
    """A document as it was read: its title, and its text or its passages."""
    passages = entry["passages"]
    if len(passages) == 1:
        return "\n\n".join(filter(None, (entry["title"], passages[0]["text"])))
    parts = [f"[{passage['id']}]\n{passage['text']}" for passage in passages]
    return "\n\n".join(filter(None, (entry["title"], *parts)))


def listed(found: dict[str, Any], unread_only: bool) -> dict[str, Any]:
    """The same with the number of each document's passages in place of their texts; or only what was not read."""
    if unread_only:
        return {name: found[name] for name in ("location", "skipped", "unread")}
    entries = [{**entry, "passages": len(entry["passages"])} for entry in found["documents"]]
    return {**found, "documents": entries}


def rows_of(found: dict[str, Any]) -> list[list[str]]:
    """The documents as rows of a table: id, title, words, passages, source."""
    return [
        [entry["id"], entry["title"], f"{entry['words']:,}", f"{len(entry['passages']):,}", entry["source"]]
        for entry in found["documents"]
    ]


def unread_rows(found: dict[str, Any], most: int | None = None) -> list[list[str]]:
    """What was not read as rows of a table: file, and why; the failures first."""
    rows = [["failed", name, reason] for name, reason in found["unread"].items()]
    rows += [["skipped", name, reason] for name, reason in found["skipped"].items()]
    if most is not None and len(rows) > most:
        print(f"{len(rows) - most:,} more files were not read: --skipped lists them all.", file=sys.stderr)
    return rows[:most]


def unknown_document(identity: str, known: list[str]) -> CorpusError:
    """The error for an id that is none of the corpus', with those that may be meant."""
    from dyprag.corpora.reader import such_as

    passages = [other for other in known if other.startswith(f"{identity}#")]
    if passages:
        return CorpusError(
            f"document {identity!r}", f"it was split into {len(passages)} passages, an adapter each",
            f"Name one of them: {', '.join(passages[:5])}{', …' if len(passages) > 5 else ''}.",
        )  # fmt: skip
    like = such_as(identity, known)
    like = f"{like[0].upper()}{like[1:]}{'' if like.endswith('?') else '.'}"
    return CorpusError(
        f"document {identity!r}", "it is not in the corpus as last ingested", f"{like} List them: dyprag documents."
    )
