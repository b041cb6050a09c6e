"""A store knows its corpus: whoever names none works on the one that was last ingested there, with the settings that it
was ingested with. Imports no Prefect: commands that run no flow ask here, too."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dyprag.config import CorpusSettings, PipelineConfig
from dyprag.storage.artifacts import Store
from dyprag.storage.latest import dated_notes, resolved_location
from dyprag.tasks.planning.keys import CORPUS_LAYOUT
from dyprag.tasks.planning.sources import LOCATIONS, PREPARED, corpus_settings, find_latest

DEMO = "demo"


def with_stored_corpus(config: PipelineConfig, ingests: bool = False) -> tuple[PipelineConfig, str]:
    """The configuration with the corpus that its store has where it names none, and a line that says so, or none.

    What is set explicitly stays. Of the corpora in the store that agree with it, the last ingested one is taken, and
    its settings for all that is not set: which questions, how it was split, and so on. Where `corpus.documents` is set
    it must be that corpus, and one with exactly the settings given goes before a newer one.

    Args:
        config: as it was read, not resolved: what is set explicitly can be told there only.
        ingests: whether it is for a run that ingests, which does as it is told where documents are named.

    Raises:
        StoreError: the store cannot be used, or a note in it not be read.
    """
    given = set(config.corpus.model_fields_set if "corpus" in config.model_fields_set else ()) - {"held_out"}
    named = "documents" in given
    if config.experiment.name or (named and (ingests or config.corpus.documents.startswith(PREPARED))):
        return config, ""
    store = Store(config.store)
    store.refresh()
    if named and find_latest(store, "corpus", corpus_settings(config)):
        return config, ""
    known = stored_corpora(store, any_layout=ingests)
    chosen = next((one for one in known if ingests or _agrees(one, config.corpus, given)), None)
    if chosen is None:
        return config, ""
    values = chosen.model_dump(exclude={"held_out"}, exclude_none=True)
    if "passage_tokens" in given:
        values.pop("overlap", None)  # it goes with those
    values |= config.corpus.model_dump(include=given | {"held_out"}, exclude_none=True)
    taken = config.model_copy(update={"corpus": CorpusSettings.model_validate(values)})
    if named or taken.corpus.documents == DEMO:
        return taken, ""
    others = f"; it has {len(known)}" if len(known) > 1 else ""
    why = f"the one that was last ingested into {config.store}{others}"
    return taken, f"Corpus: {_near(taken.corpus.documents)}, {why}. Another: --set corpus.documents=…"


def stored_corpora(store: Store, any_layout: bool = False) -> list[CorpusSettings]:
    """The settings of the corpora that were ingested into a store, the last first, those of experiments left out.

    Args:
        any_layout: those too whose tables are another version's, which have to be ingested again.
    """
    found = sorted(dated_notes(store, "corpus"), key=lambda note: note[0], reverse=True)
    return [
        _settings(settings)
        for _, key, settings in found
        if not str(settings.get("documents", PREPARED)).startswith(PREPARED)
        and (any_layout or (settings.get("layout") == CORPUS_LAYOUT and store.has("corpus", key)))
    ]


def known_corpora(store: Store) -> str:
    """What can be told of a store's corpora where another one was asked for."""
    names = list(dict.fromkeys(_near(one.documents) for one in stored_corpora(store)))
    few = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return f" It has: {few} (--set corpus.documents=…)." if names else ""


def _settings(noted: dict[str, Any]) -> CorpusSettings:
    return CorpusSettings.model_validate(
        {name: value for name, value in noted.items() if name in CorpusSettings.model_fields}
    )


def _near(location: str) -> str:
    """A path as one would write it in the working directory, where it is below that."""
    here = f"{Path.cwd()}{os.sep}"
    return location.removeprefix(here)


def _agrees(one: CorpusSettings, other: CorpusSettings, names: set[str]) -> bool:
    """Whether two corpora's settings of these names are the same."""

    def values(settings: CorpusSettings) -> Iterator[Any]:
        for name in sorted(names):
            value = getattr(settings, name)
            yield resolved_location(value) if name in LOCATIONS and value is not None else value

    return list(values(one)) == list(values(other))
