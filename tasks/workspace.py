"""A configuration with its store, opened for reading: what the command line and a notebook open.

    from dyprag.config import PipelineConfig
    from dyprag.tasks.workspace import Workspace

    workspace = Workspace(PipelineConfig(store="artifacts"))
    workspace.corpus.documents, workspace.catalogue.results(), workspace.store.find("adapter", key)

Nothing here imports Prefect or starts a run. A flow opens a stage instead, which notes the run in the catalogue.
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
from dyprag.storage.latest import noted
from dyprag.tasks.corpora import corpus_of, passages_of
from dyprag.tasks.imports import imported_adapters
from dyprag.tasks.planning.plan import Plan


class Workspace:
    """The store of a configuration, its catalogue, its corpus, and the keys of everything that is made from it.

    Args:
        config: empty settings are filled in from the model's preset.
        writes: the store's folder is made where it is not there, and has to be writable.

    Raises:
        StoreError: the store cannot be reached, or not written where that is asked for.
    """

    def __init__(self, config: PipelineConfig, writes: bool = False) -> None:
        self.config = config.resolved()
        self.store = Store(config.store, writes)

    @cached_property
    def catalogue(self) -> Catalogue:
        """The store's catalogue; it may not be there yet."""
        return Catalogue(self.store)

    @cached_property
    def plan(self) -> Plan:
        """The keys of every artifact of this configuration over its corpus.

        Raises:
            StoreError: the corpus has not been ingested.
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
        """The corpus' key. Raises as `plan` does."""
        return self.plan.corpus_key

    @property
    def passages(self) -> Retriever:
        """What finds passages of the corpus for a question. Raises as `plan` does."""
        return passages_of(self.config.store, self.corpus_key, self.corpus, "")

    def document(self, identity: str) -> Document:
        """A document of the corpus.

        Raises:
            CorpusError: there is none of this id.
            StoreError: as `plan` does.
        """
        documents = {document.id: document for document in self.corpus.documents}
        if identity not in documents:
            raise unknown_document(identity, list(documents))
        return documents[identity]

    def answering(self, *methods: str) -> "Workspace":
        """The same for these methods and without controls, whatever the configuration's own are."""
        chosen = self.config.evaluate.model_copy(update={"methods": methods, "controls": ()})
        return Workspace(self.config.model_copy(update={"evaluate": chosen}))

    def location(self) -> tuple[str, dict[str, str]]:
        """Where the corpus was ingested from, and the file of each of its documents, by id, where that is known."""
        record = self.store.find("corpus", self.corpus_key)
        location = str(record.settings.get("location", "")) if record else ""
        return location, dict(self._sources.get("files", {}))

    def unread(self) -> dict[str, dict[str, str]]:
        """What the ingest skipped, could not read, and read in a way that it guessed: three maps of names to reasons,
        under `skipped`, `unread` and `guessed`."""
        return {kind: dict(self._sources.get(kind, {})) for kind in ("skipped", "unread", "guessed")}

    @cached_property
    def _sources(self) -> dict[str, Any]:
        return noted(self.store, "sources", self.corpus_key)

    def results(self, run: str | None = None) -> list[dict[str, Any]]:
        """The rows of results of a run, named by its id or the beginning of that, or of the last evaluation.

        Raises:
            DypragError: there are none.
            StoreError: there is no catalogue yet.
        """
        catalogue = self.catalogue_of_results()
        rows = catalogue.results(catalogue.run(run)["run_id"] if run else None)
        if not rows:
            reason = f"run {run} has no results" if run else "nothing has been evaluated yet"
            raise DypragError(f"store {self.store.root}", reason, "Run: dyprag run.")
        return rows

    def report_page(self, run_id: str) -> Path:
        """The page of a run's report."""
        return self.store.reports / run_id / "report.html"

    def catalogue_of_results(self) -> Catalogue:
        """The catalogue, with the columns of results that an older version's lacks where it can be written."""
        if self.catalogue.exists and self.store.is_writable():
            self.catalogue.prepare()
        return self.catalogue


def unknown_document(identity: str, known: list[str]) -> CorpusError:
    """The error for an id that is none of the corpus', with those that may be meant."""
    passages = [other for other in known if other.startswith(f"{identity}#")]
    if passages:
        return CorpusError(
            f"document {identity!r}", f"it was split into {len(passages)} passages, each with its own adapter",
            f"Name one of them: {', '.join(passages[:5])}{', …' if len(passages) > 5 else ''}.",
        )  # fmt: skip
    like = such_as(identity, known)
    like = f"{like[0].upper()}{like[1:]}{'' if like.endswith('?') else '.'}"
    return CorpusError(
        f"document {identity!r}", "it is not in the ingested corpus", f"{like} List them: dyprag documents."
    )
