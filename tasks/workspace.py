"""A configuration with its store, opened for reading by the command line and by notebooks.

    from dyprag.config import PipelineConfig
    from dyprag.tasks.workspace import Workspace

    workspace = Workspace(PipelineConfig(store="artifacts"))
    workspace.corpus.documents, workspace.catalogue.results(), workspace.store.find("adapter", key)

Nothing here imports Prefect or starts a run. A flow opens a `Stage` instead, which records the run in the catalogue.
"""

from functools import cached_property
from pathlib import Path
from typing import Any

from dyprag.config import PipelineConfig
from dyprag.corpora.documents import Corpus, Document
from dyprag.corpora.reader import such_as
from dyprag.corpora.retrieval import Retriever
from dyprag.errors import CorpusError, DypragError
from dyprag.storage.artifacts import Store
from dyprag.storage.catalogue import Catalogue
from dyprag.storage.latest import newest_note
from dyprag.tasks.corpora import corpus_of, passages_of
from dyprag.tasks.imports import imported_adapters
from dyprag.tasks.planning.plan import Plan


class Workspace:
    """The store of a configuration, its catalogue, its corpus, and the keys of all artifacts made from it.

    Args:
        config: Empty settings are filled in from the model's preset.
        writes: Create the store's folder if it is missing, and check that it is writable.

    Raises:
        StoreError: The store cannot be reached, or is not writable although `writes` is set.
    """

    def __init__(self, config: PipelineConfig, writes: bool = False) -> None:
        self.config = config.resolved()
        self.store = Store(config.store, writes)

    @cached_property
    def catalogue(self) -> Catalogue:
        """The store's catalogue. It may not exist yet."""
        return Catalogue(self.store)

    @cached_property
    def plan(self) -> Plan:
        """The keys of every artifact of this configuration over its corpus.

        Raises:
            StoreError: The corpus has not been ingested.
        """
        self.store.refresh()
        key, corpus = corpus_of(self.config, self.store)
        return Plan(self.config, corpus, key, imported_adapters(self.config, self.store))

    @property
    def corpus(self) -> Corpus:
        """The corpus that was ingested last. Raises as `plan` does."""
        return self.plan.corpus

    @property
    def corpus_key(self) -> str:
        """The key of the corpus. Raises as `plan` does."""
        return self.plan.corpus_key

    @property
    def passages(self) -> Retriever:
        """A retriever over the passages of the corpus. Raises as `plan` does."""
        return passages_of(self.config.store, self.corpus_key, self.corpus, "")

    def document(self, identity: str) -> Document:
        """A document of the corpus.

        Raises:
            CorpusError: The corpus has no document with this id.
            StoreError: As in `plan`.
        """
        documents = {document.id: document for document in self.corpus.documents}
        if identity not in documents:
            raise unknown_document(identity, list(documents))
        return documents[identity]

    def answering(self, *methods: str) -> "Workspace":
        """A copy of this workspace with other methods and without controls."""
        chosen = self.config.evaluate.model_copy(update={"methods": methods, "controls": ()})
        return Workspace(self.config.model_copy(update={"evaluate": chosen}))

    def location(self) -> tuple[str, dict[str, str]]:
        """The location that the corpus was ingested from, and each document's file by document id, where it is
        known."""
        record = self.store.find("corpus", self.corpus_key)
        location = str(record.settings.get("location", "")) if record else ""
        return location, dict(self._sources.get("files", {}))

    def unread(self) -> dict[str, dict[str, str]]:
        """Notes of the ingest: files that were skipped, files that could not be read, and files whose format was
        guessed. Three maps from name to reason, under `skipped`, `unread` and `guessed`."""
        return {kind: dict(self._sources.get(kind, {})) for kind in ("skipped", "unread", "guessed")}

    @cached_property
    def _sources(self) -> dict[str, Any]:
        return newest_note(self.store, "sources", self.corpus_key)

    def results(self, run: str | None = None) -> list[dict[str, Any]]:
        """The result rows of a run, or of the last evaluation.

        Args:
            run: The run's id or the beginning of it.

        Raises:
            DypragError: There are no results.
            StoreError: There is no catalogue yet.
        """
        catalogue = self.catalogue_of_results()
        rows = catalogue.results(catalogue.run(run)["run_id"] if run else None)
        if not rows:
            reason = f"run {run} has no results" if run else "nothing has been evaluated yet"
            raise DypragError(f"store {self.store.root}", reason, "Run: dyprag run.")
        return rows

    def report_page(self, run_id: str) -> Path:
        """The path of a run's HTML report."""
        return self.store.reports / run_id / "report.html"

    def catalogue_of_results(self) -> Catalogue:
        """The catalogue. If it is writable, result columns that an older version lacks are added."""
        if self.catalogue.exists and self.store.is_writable():
            self.catalogue.prepare()
        return self.catalogue


def unknown_document(identity: str, known: list[str]) -> CorpusError:
    """The error for a document id that is not in the corpus, with suggestions."""
    passages = [name for name in known if name.startswith(f"{identity}#")]
    if passages:
        return CorpusError(
            f"document {identity!r}", f"it was split into {len(passages)} passages, each with its own adapter",
            f"Name one of them: {', '.join(passages[:5])}{', …' if len(passages) > 5 else ''}.",
        )  # fmt: skip
    suggestion = such_as(identity, known)
    suggestion = f"{suggestion[0].upper()}{suggestion[1:]}{'' if suggestion.endswith('?') else '.'}"
    return CorpusError(
        f"document {identity!r}", "it is not in the ingested corpus", f"{suggestion} List them: dyprag documents."
    )
