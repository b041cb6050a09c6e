"""Read a corpus, and compare it with the state of the last ingest. Documents are compared by content, not by name."""

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from types import MappingProxyType
from typing import Any

from dyprag.config import PipelineConfig
from dyprag.corpora.documents import Corpus
from dyprag.corpora.reader import load_corpus
from dyprag.corpora.splitting import split_corpus, splitter
from dyprag.storage.artifacts import Store
from dyprag.storage.tables import read_keys

SHOWN = 200  # rows of the difference that are shown
FEW = 3  # files named in a line


@dataclass(frozen=True)
class Difference:
    """What changed between two ingests.

    Attributes:
        new: Ids of new documents.
        changed: Ids of documents with other content than before.
        renamed: New ids with the ids before.
        removed: Ids of documents that are gone.
        unchanged: Number of other documents.
        unread: Ids of documents that are missing but may be among what could not be read.
    """

    new: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    unchanged: int = 0
    unread: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        words = {"new": "new", "changed": "changed", "renamed": "renamed", "removed": "removed", "unread": "not read"}
        counts = {word: len(getattr(self, name)) for name, word in words.items()}
        return ", ".join(f"{count} {word}" for word, count in counts.items() if count) or "nothing new"

    def rows(self) -> list[dict[str, str]]:
        """A table of the first documents that differ."""
        return [{"difference": what, "document": name, "before": old} for what, name, old in islice(self._all(), SHOWN)]

    def _all(self) -> Iterator[tuple[str, str, str]]:
        yield from (("removed", name, name) for name in self.removed)
        yield from (("not read", name, name) for name in self.unread)
        yield from (("changed", name, name) for name in self.changed)
        yield from (("renamed", name, old) for name, old in self.renamed.items())
        yield from (("new", name, "") for name in self.new)


def difference(
    before: Mapping[str, str],
    now: Mapping[str, str],
    files: Mapping[str, str] = MappingProxyType({}),
    unread: Container[str] = frozenset(),
) -> Difference:
    """Compare two states of a corpus.

    Args:
        before: Document keys, which identify contents, by document id.
        now: The same for the new state.
        files: File names by document id in the new state; earlier versions used file names as ids.
        unread: Ids of the old state that may still exist; see `maybe_unread`.
    """
    old_ids = {key: identity for identity, key in before.items() if identity not in now}
    result = Difference()
    renamed = result.renamed
    replaced: set[str] = set()  # old ids that were replaced by new ones
    unchanged = 0
    for identity, key in now.items():
        known = before.get(identity)
        if known == key:
            unchanged += 1
        elif known is not None:
            result.changed.append(identity)
        elif key in old_ids:
            renamed[identity] = old_ids.pop(key)
        elif files.get(identity) in before and files[identity] not in now:
            result.changed.append(identity)
            replaced.add(files[identity])
        else:
            result.new.append(identity)
    replaced |= set(renamed.values())
    missing = [identity for identity in before if identity not in now and identity not in replaced]
    removed = [identity for identity in missing if identity not in unread]
    unreadable = [identity for identity in missing if identity in unread]
    return Difference(result.new, result.changed, renamed, removed, unchanged, unreadable)


def maybe_unread(before: Iterable[str], files: Mapping[str, str], corpus: Corpus) -> set[str]:
    """Ids of earlier documents that are missing now but may be among what could not be read: their file, or a row of
    it, has an error or yields no document.

    Args:
        before: Ids of the earlier documents.
        files: File names by document id, if there are several files.
    """
    now = {document.id for document in corpus.documents}
    named_ids = {item.id for item in corpus.unread if item.named}
    closed_folders = tuple(item.id for item in corpus.unread if item.id.endswith("/"))
    sources = {item.source for item in corpus.unread if not item.named} | {item.id for item in corpus.skipped}

    def is_unread(identity: str) -> bool:
        file = files.get(identity, "")
        document_id = identity.rpartition("#")[0] or identity  # without a passage's number
        return (
            bool({identity, document_id} & named_ids) or file in sources or file.startswith(closed_folders or ("\0",))
        )

    return {identity for identity in before if identity not in now and is_unread(identity)}


def read_location(config: PipelineConfig) -> Corpus:
    """Read the corpus from its location, and split long documents if this is configured.

    Raises:
        CorpusError: The corpus cannot be read.
        ModelError: There is no such model to count tokens with.
    """
    settings = config.corpus
    corpus = load_corpus(settings.documents, settings.questions, settings.max_documents, settings.max_questions)
    if settings.passage_tokens is None:
        return corpus
    return split_corpus(corpus, splitter(config.model.name, settings.passage_tokens, settings.overlap))


def sources(corpus: Corpus) -> dict[str, Any]:
    """Notes about an ingest: each document's file, and what was skipped, not read or guessed, with reasons."""
    return {
        "files": {document.id: document.source for document in corpus.documents if document.source},
        "skipped": {item.id: item.reason for item in corpus.skipped},
        "unread": {item.id: str(item.error) for item in corpus.unread},
        "guessed": {item.id: item.how for item in corpus.noted},
    }


def skipped_text(corpus: Corpus) -> str:
    """The number of skipped files and the names of the first ones; empty if none was skipped."""
    names = [file.id for file in corpus.skipped]
    if not names:
        return ""
    shown = ", ".join(names[:FEW]) + (", …" if len(names) > FEW else "")
    return f"{len(names):,} skipped ({shown})"


def known_keys(store: Store, corpus_key: str | None) -> dict[str, str]:
    """Document keys of a stored corpus by document id; empty if the corpus does not exist."""
    if corpus_key is None or store.find("corpus", corpus_key) is None:
        return {}
    return read_keys(store.folder("corpus", corpus_key))
