"""The documents of a stored corpus, or of files as they would be read: for `dyprag documents`."""

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
    """List the documents of the corpus that was ingested last.

    Returns:
        `location`; `documents`, see `_entries`; `skipped` and `unread`: names with reasons; `guessed`: names of files
            whose format was guessed, with the guess.

    Raises:
        StoreError: Nothing has been ingested.
    """
    workspace = Workspace(config)
    location, files = workspace.location()
    split = config.corpus.passage_tokens is not None
    entries = _entries(workspace.corpus.documents, files, location, split)
    return {"location": location, "documents": entries, **workspace.unread()}


def documents_at(locations: Sequence[str], config: PipelineConfig) -> dict[str, Any]:
    """List documents of files or folders as they would be read, in the form of `documents_in_store`. Nothing is stored.

    Raises:
        CorpusError: A location does not exist.
        ModelError: Documents are to be split, and the model does not exist.
    """
    tokens = config.corpus.passage_tokens
    split = splitter(config.resolved().model.name, tokens, config.corpus.overlap) if tokens is not None else None
    contents: dict[str, Any] = {"location": ", ".join(locations), "documents": []}
    contents |= {"skipped": {}, "unread": {}, "guessed": {}}
    for location in locations:
        corpus = read_anything(location)
        parts = [part for item in corpus.documents for part in (split_document(item, split) if split else [item])]
        files = {part.id: part.source for part in parts if part.source}
        contents["documents"] += _entries(parts, files, location, split is not None)
        contents["skipped"] |= {item.id: item.reason for item in corpus.skipped}
        contents["unread"] |= {item.id: str(item.error) for item in corpus.unread}
        contents["guessed"] |= {item.id: item.how for item in corpus.noted}
    return contents


def _entries(documents: Iterable[Document], files: dict[str, str], location: str, split: bool) -> list[dict[str, Any]]:
    """One entry per document: id, title, words, source (a file of the location), and the texts of its passages."""
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


def one_document(identity: str, contents: dict[str, Any]) -> dict[str, Any]:
    """The entry of a document, or of a single passage of it.

    Raises:
        CorpusError: There is no such document.
    """
    identity = written(identity)  # shells on macOS complete names in decomposed form
    for entry in contents["documents"]:
        if entry["id"] == identity:
            return dict(entry)
        for passage in entry["passages"]:
            if passage["id"] == identity:
                return {**entry, "id": identity, "words": word_count(passage["text"]), "passages": [passage]}
    raise unknown_document(identity, [entry["id"] for entry in contents["documents"]])
