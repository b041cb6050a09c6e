"""What a corpus holds now, and what has changed there since it was last ingested: by content, whatever the names."""

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

SHOWN = 200  # rows of the difference that a person reads
FEW = 3  # files that a line names


@dataclass(frozen=True)
class Difference:
    """Ids of the documents that are new, changed (the same id, another content) or removed, and the ids that renamed
    ones had; `unread` are gone, too, but may be among what could not be read. `unchanged` counts the others."""

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
        """The first of the documents that differ, as a table."""
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
    """What has changed between two states of a corpus.

    Args:
        before: the documents' keys (which name their content) by their ids.
        now: the same of the newer state.
        files: the names of files by the ids of the newer state; an id was its file's name once.
        unread: ids of the older state that may be there still, see `maybe_unread`.
    """
    gone = {key: identity for identity, key in before.items() if identity not in now}
    found = Difference()
    renamed = found.renamed
    taken: set[str] = set()  # ids of before that others stand for now
    unchanged = 0
    for identity, key in now.items():
        known = before.get(identity)
        if known == key:
            unchanged += 1
        elif known is not None:
            found.changed.append(identity)
        elif key in gone:
            renamed[identity] = gone.pop(key)
        elif files.get(identity) in before and files[identity] not in now:
            found.changed.append(identity)
            taken.add(files[identity])
        else:
            found.new.append(identity)
    taken |= set(renamed.values())
    missing = [identity for identity in before if identity not in now and identity not in taken]
    removed = [identity for identity in missing if identity not in unread]
    kept = [identity for identity in missing if identity in unread]
    return Difference(found.new, found.changed, renamed, removed, unchanged, kept)


def maybe_unread(before: Iterable[str], files: Mapping[str, str], corpus: Corpus) -> set[str]:
    """Of the documents of an older state of a corpus, by their ids, those that are not in it now and may be among what
    could not be read: their file, or a row of it, is at fault or gives no document any more.

    Args:
        files: the names of their files by their ids, where they are several.
    """
    now = {document.id for document in corpus.documents}
    named = {one.id for one in corpus.unread if one.named}
    closed = tuple(one.id for one in corpus.unread if one.id.endswith("/"))
    sources = {one.source for one in corpus.unread if not one.named} | {one.id for one in corpus.skipped}

    def is_unread(identity: str) -> bool:
        file = files.get(identity, "")
        whole = identity.rpartition("#")[0] or identity  # of a passage
        return bool({identity, whole} & named) or file in sources or file.startswith(closed or ("\0",))

    return {identity for identity in before if identity not in now and is_unread(identity)}


def read_location(config: PipelineConfig) -> Corpus:
    """The corpus as it is now where the configuration says, long documents split if that is set.

    Raises:
        CorpusError: it cannot be read as a whole.
        ModelError: there is no such model, whose tokens could be counted.
    """
    settings = config.corpus
    corpus = load_corpus(settings.documents, settings.questions, settings.max_documents, settings.max_questions)
    if settings.passage_tokens is None:
        return corpus
    return split_corpus(corpus, splitter(config.model.name, settings.passage_tokens, settings.overlap))


def sources(corpus: Corpus) -> dict[str, Any]:
    """What is noted of where a corpus was read from: each document's file, and what was not read, with the reason."""
    return {
        "files": {document.id: document.source for document in corpus.documents if document.source},
        "skipped": {one.id: one.reason for one in corpus.skipped},
        "unread": {one.id: str(one.error) for one in corpus.unread},
        "guessed": {one.id: one.how for one in corpus.noted},
    }


def skipped_text(corpus: Corpus) -> str:
    """How many files were passed over, and the first of them; "" where there is none."""
    names = [one.id for one in corpus.skipped]
    if not names:
        return ""
    few = ", ".join(names[:FEW]) + (", …" if len(names) > FEW else "")
    return f"{len(names):,} skipped ({few})"


def known_keys(store: Store, corpus_key: str | None) -> dict[str, str]:
    """The documents' keys by their ids in a stored corpus; nothing where it is not there."""
    if corpus_key is None or store.find("corpus", corpus_key) is None:
        return {}
    return read_keys(store.folder("corpus", corpus_key))
