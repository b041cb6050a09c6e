"""Which stored corpus, and which translator, a configuration means; and the model's part in every key."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dyprag.augmentation.products import PRODUCTS
from dyprag.config import PipelineConfig
from dyprag.errors import ConfigError
from dyprag.model.chat import template_version
from dyprag.model.files import learned_folder, model_fingerprint, reads_tokens
from dyprag.storage.artifacts import Store
from dyprag.storage.files import file_checksum
from dyprag.storage.latest import dated_notes, forget_latest, latest, note_latest, resolved_location
from dyprag.tasks.planning.keys import CORPUS_LAYOUT

PREPARED = "corpus:"  # before the key of a corpus that an experiment has put into the store
LOCATIONS = ("documents", "questions")  # settings of a corpus that name a place, perhaps by several names


def model_material(config: PipelineConfig) -> dict[str, object]:
    """The model's part in a key; with the rendering of its chat template where that is one of this package's own."""
    version = template_version(config.model.name)
    rendered = {"template": version} if version else {}
    return {"model": model_fingerprint(config.model.name), **config.model.material(), **rendered}


def corpus_settings(config: PipelineConfig) -> dict[str, object]:
    """What says which corpus an ingest stores: under these settings a later stage finds it."""
    settings = _located(config.corpus.model_dump(mode="json", exclude={"held_out"}, exclude_none=True))
    counted = {"model": model_fingerprint(config.model.name)} if config.corpus.passage_tokens else {}
    return {**settings, **counted, "layout": CORPUS_LAYOUT}


def find_latest(store: Store, kind: str, settings: Mapping[str, Any]) -> str | None:
    """The key of the latest artifact of a kind under settings with a corpus' among them, by whatever name that was
    called when it was noted: as earlier versions did, as it was given."""
    if key := latest(store, kind, settings):
        return key
    same = [(noted, key) for noted, key, known in dated_notes(store, kind) if _located(known) == settings]
    return max(same)[1] if same else None


def note_found(store: Store, kind: str, settings: Mapping[str, Any], key: str) -> None:
    """Note an artifact as the latest of its kind under such settings, in place of what other names say."""
    note_latest(store, kind, settings, key)
    for _, _, known in list(dated_notes(store, kind)):
        if known != settings and _located(known) == settings:
            forget_latest(store, kind, known)


def _located(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with their locations under their resolved names."""
    places = {
        name: resolved_location(settings[name])
        for name in LOCATIONS
        if settings.get(name) not in (None, "demo") and not str(settings[name]).startswith(PREPARED)
    }
    return {**settings, **places}


def translator_settings(config: PipelineConfig) -> dict[str, object]:
    """Under which settings the last translator is kept while few documents are new to it."""
    made_by = {name: getattr(config, name).material() for name in ("lora", "parametrize", "translator")}
    products = {str(product): config.augment.material_of(product) for product in PRODUCTS}
    corpus = {**corpus_settings(config), "held_out": config.corpus.held_out}
    return {**corpus, **made_by, **products, "given": given_checksum(config), **model_material(config)}


def draws_on_embeddings(config: PipelineConfig) -> bool:
    """Whether DyPRAG does. With a translator that reads all tokens of a document it does not.

    Raises:
        ConfigError: the translator cannot be read.
    """
    learned = config.translator.learned
    if learned is None:
        return True
    given_checksum(config)
    return not reads_tokens(learned_folder(learned, config.model.name))


def given_checksum(config: PipelineConfig) -> str:
    """Of the translator from elsewhere that is to be taken; empty for none.

    Raises:
        ConfigError: it cannot be read.
    """
    official, learned = config.translator.official, config.translator.learned
    if official:
        try:
            return file_checksum(Path(official))
        except OSError as error:
            raise _unreadable(
                "translator.official", official, error, "a translator of the official code (epoch_N.pt)"
            ) from error
    return learned_checksum("translator.learned", learned, config.model.name) if learned else ""


def learned_checksum(setting: str, name: str, model: str) -> str:
    """Of a learned translator that a setting names.

    Raises:
        ConfigError: it cannot be read.
    """
    folder = learned_folder(name, model)
    try:
        return "".join(file_checksum(folder / f"translator.{kind}") for kind in ("json", "safetensors"))
    except OSError as error:
        raise _unreadable(setting, name, error, "the folder that learn.output named, or 'packaged'") from error


def _unreadable(setting: str, given: str, error: OSError, remedy: str) -> ConfigError:
    return ConfigError(f"setting '{setting}'", f"{given} cannot be read ({error.strerror})", f"Give {remedy}.")
