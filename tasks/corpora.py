"""The corpora of a store: find the one that a configuration means, and open its documents and passages.

A configuration that names no corpus means the one that was ingested last, with the settings of that ingest. Nothing
here imports Prefect, because commands that run no flow use it, too.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dyprag.config import CorpusSettings, PipelineConfig
from dyprag.corpora.documents import Corpus
from dyprag.corpora.retrieval import Retriever, retriever_for
from dyprag.errors import StoreError
from dyprag.storage.artifacts import Store
from dyprag.storage.latest import dated_notes, resolved_location
from dyprag.tasks.experiment import index_folder, open_passages
from dyprag.tasks.planning.keys import CORPUS_LAYOUT
from dyprag.tasks.planning.plan import distinct
from dyprag.tasks.planning.sources import LOCATIONS, PREPARED, corpus_settings, find_latest
from dyprag.tasks.worker import CORPORA, worker_for, worker_of

DEMO = "demo"


def with_stored_corpus(config: PipelineConfig, ingests: bool = False) -> tuple[PipelineConfig, str]:
    """Fill in the corpus settings from the store's corpus if the configuration does not set them.

    Explicit settings are kept. Of the stored corpora that agree with them, the last ingested one supplies the other
    settings, such as questions and splitting. If `corpus.documents` is set, a corpus with exactly these settings takes
    precedence over a newer one.

    Args:
        config: The configuration as it was read, not resolved, so that explicit settings can be told apart.
        ingests: The configuration is for a run that ingests; named documents are then taken as they are.

    Returns:
        The configuration, and a line that tells the user which corpus is used (or "").

    Raises:
        StoreError: The store cannot be used, or one of its notes cannot be read.
    """
    explicit = set(config.corpus.model_fields_set if "corpus" in config.model_fields_set else ()) - {"held_out"}
    named = "documents" in explicit
    if config.experiment.name or (named and (ingests or config.corpus.documents.startswith(PREPARED))):
        return config, ""
    store = Store(config.store, writes=False)
    store.refresh()
    if named and find_latest(store, "corpus", corpus_settings(config)):
        return config, ""
    candidates = stored_corpora(store, any_layout=ingests)
    chosen = next((corpus for corpus in candidates if ingests or _agrees(corpus, config.corpus, explicit)), None)
    if chosen is None:
        return config, ""
    values = chosen.model_dump(exclude={"held_out"}, exclude_none=True)
    if "passage_tokens" in explicit:
        values.pop("overlap", None)  # the stored overlap belongs to the stored passage length
    values |= config.corpus.model_dump(include=explicit | {"held_out"}, exclude_none=True)
    completed = config.model_copy(update={"corpus": CorpusSettings.model_validate(values)})
    if named or completed.corpus.documents == DEMO:
        return completed, ""
    count = f"; it has {len(candidates)}" if len(candidates) > 1 else ""
    origin = f"the one that was last ingested into {config.store}{count}"
    return completed, f"Corpus: {_relative(completed.corpus.documents)}, {origin}. Another: --set corpus.documents=…"


def stored_corpora(store: Store, any_layout: bool = False) -> list[CorpusSettings]:
    """The settings of the ingested corpora of a store, the last first. Corpora of experiments are left out.

    Args:
        any_layout: Include corpora whose tables another version wrote; these have to be ingested again.
    """
    notes = sorted(dated_notes(store, "corpus"), key=lambda note: note[0], reverse=True)
    return [
        _settings(settings)
        for _, key, settings in notes
        if not str(settings.get("documents", PREPARED)).startswith(PREPARED)
        and (any_layout or (settings.get("layout") == CORPUS_LAYOUT and store.has("corpus", key)))
    ]


def corpus_of(config: PipelineConfig, store: Store) -> tuple[str, Corpus]:
    """The corpus that a configuration names, with its key: ingested, or stored by an experiment.

    Raises:
        StoreError: It has not been ingested.
    """
    documents = config.corpus.documents
    prepared = documents.startswith(PREPARED)
    key = documents.removeprefix(PREPARED) if prepared else find_latest(store, "corpus", corpus_settings(config))
    if key is None or store.find("corpus", key) is None:
        remedy = (
            f"Run dyprag ingest with the same settings, or name its store with --set store=PATH.{known_corpora(store)}"
        )
        raise StoreError(f"store {store.root}", f"corpus {documents} has not been ingested into it", remedy)
    return key, worker_of(config).corpus(key)


def stored_corpus(store_root: str, corpus_key: str) -> Corpus:
    """An ingested corpus, read once per process."""
    return worker_for(store_root).corpus(corpus_key)


def passages_of(store_root: str, corpus_key: str, corpus: Corpus, dataset: str) -> Retriever:
    """A retriever over a data set's passages, or over the corpus' own documents if it has no separate passages."""
    if key := corpus.passages.get(dataset):
        return open_passages(store_root, key)
    worker = worker_for(store_root)

    def open_retriever() -> Retriever:
        return retriever_for(distinct(worker.corpus(corpus_key)), index_folder(worker.store, corpus_key))

    return worker.keep("own passages", corpus_key, open_retriever, CORPORA)


def known_corpora(store: Store) -> str:
    """A sentence that lists the store's corpora, for errors about a missing one; empty if there are none."""
    names = list(dict.fromkeys(_relative(one.documents) for one in stored_corpora(store)))
    shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return f" It has: {shown} (--set corpus.documents=…)." if names else ""


def _settings(noted: dict[str, Any]) -> CorpusSettings:
    return CorpusSettings.model_validate(
        {name: value for name, value in noted.items() if name in CorpusSettings.model_fields}
    )


def _relative(location: str) -> str:
    """A path relative to the working directory if it is below it."""
    prefix = f"{Path.cwd()}{os.sep}"
    return location.removeprefix(prefix)


def _agrees(first: CorpusSettings, second: CorpusSettings, names: set[str]) -> bool:
    """Whether two corpora agree in the settings of these names."""

    def values(settings: CorpusSettings) -> Iterator[Any]:
        for name in sorted(names):
            value = getattr(settings, name)
            yield resolved_location(value) if name in LOCATIONS and value is not None else value

    return list(values(first)) == list(values(second))
