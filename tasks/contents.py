"""What a corpus holds, as it was read, or what would be read of files: for `dyprag documents`."""

from collections.abc import Iterable, Sequence
from typing import Any

from dyprag.config import PipelineConfig
from dyprag.corpora.documents import Document
from dyprag.corpora.reader import read_anything
from dyprag.corpora.splitting import split_document, splitter
from dyprag.corpora.text.forms import written
from dyprag.corpora.text.words import word_count
from dyprag.tasks.workspace import Workspace, unknown_document


def documents_in_store(config: PipelineConfig) -> dict[str, Any]:
    """The documents of the corpus as it was last ingested.

    Returns:
        location; documents, see `_entries`; skipped and unread: names with the reason; guessed: how files are
        read where that was guessed, by their names.

    Raises:
        StoreError: nothing has been ingested.
    """
    workspace = Workspace(config)
    location, files = workspace.location()
    split = config.corpus.passage_tokens is not None
    entries = _entries(workspace.corpus.documents, files, location, split)
    return {"location": location, "documents": entries, **workspace.unread()}


def documents_at(locations: Sequence[str], config: PipelineConfig) -> dict[str, Any]:
    """What `documents_in_store` gives, of files or folders as they would be read; nothing is stored.

    Raises:
        CorpusError: a location does not exist.
        ModelError: documents are to be split, and there is no such model.
    """
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
