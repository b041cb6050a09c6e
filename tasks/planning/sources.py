"""Find the stored corpus and the translator that a configuration means; and the model's part of every key."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dyprag.config import PipelineConfig
from dyprag.corpora.products import PRODUCTS
from dyprag.errors import ConfigError
from dyprag.model.chat import template_version
from dyprag.model.files import learned_folder, model_fingerprint, reads_tokens
from dyprag.storage.artifacts import Store
from dyprag.storage.files import file_checksum
from dyprag.storage.latest import dated_notes, forget_latest, latest, note_latest, resolved_location
from dyprag.tasks.planning.keys import CORPUS_LAYOUT

PREPARED = "corpus:"  # prefix of the key of a corpus that an experiment stored
LOCATIONS = ("documents", "questions")  # corpus settings that are paths or URLs


def model_material(config: PipelineConfig) -> dict[str, object]:
    """The model's part of a key, including the version of its chat template if this package provides it."""
    version = template_version(config.model.name)
    rendered = {"template": version} if version else {}
    return {"model": model_fingerprint(config.model.name), **config.model.material(), **rendered}


def corpus_settings(config: PipelineConfig) -> dict[str, object]:
    """The settings that identify an ingested corpus; later stages find it by them."""
    settings = _located(config.corpus.model_dump(mode="json", exclude={"held_out"}, exclude_none=True))
    counted = {"model": model_fingerprint(config.model.name)} if config.corpus.passage_tokens else {}
    return {**settings, **counted, "layout": CORPUS_LAYOUT}


def find_latest(store: Store, kind: str, settings: Mapping[str, Any]) -> str | None:
    """The key of the latest artifact of a kind under settings that include a corpus'. Locations match whatever way
    they are written, also as earlier versions recorded them."""
    if key := latest(store, kind, settings):
        return key
    matches = [(noted, key) for noted, key, old in dated_notes(store, kind) if _located(old) == settings]
    return max(matches)[1] if matches else None


def note_latest_of_location(store: Store, kind: str, settings: Mapping[str, Any], key: str) -> None:
    """Record an artifact as the latest of its kind, and remove notes that name the same location in another way."""
    note_latest(store, kind, settings, key)
    for _, _, old in list(dated_notes(store, kind)):
        if old != settings and _located(old) == settings:
            forget_latest(store, kind, old)


def _located(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with resolved locations."""
    resolved = {
        name: resolved_location(settings[name])
        for name in LOCATIONS
        if settings.get(name) not in (None, "demo") and not str(settings[name]).startswith(PREPARED)
    }
    return {**settings, **resolved}


def translator_settings(config: PipelineConfig) -> dict[str, object]:
    """The settings under which the last translator can be kept while few documents are new to it."""
    made_by = {name: getattr(config, name).material() for name in ("lora", "parametrize", "translator")}
    products = {str(product): config.augment.material_of(product) for product in PRODUCTS}
    corpus = {**corpus_settings(config), "held_out": config.corpus.held_out}
    writer = {"writer": checksum} if (checksum := writer_checksum(config)) else {}
    return {**corpus, **made_by, **products, **writer, "given": given_checksum(config), **model_material(config)}


def draws_on_embeddings(config: PipelineConfig) -> bool:
    """Whether DyPRAG uses document embeddings. A translator that reads a document's tokens does not.

    Raises:
        ConfigError: The translator cannot be read.
    """
    learned = config.translator.learned
    if learned is None:
        return True
    given_checksum(config)
    return not reads_tokens(learned_folder(learned, config.model.name))


def given_checksum(config: PipelineConfig) -> str:
    """The checksum of the translator that the configuration provides; empty if there is none.

    Raises:
        ConfigError: The translator cannot be read.
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
    """The checksum of the learned translator that a setting names.

    Raises:
        ConfigError: The translator cannot be read.
    """
    folder = learned_folder(name, model)
    try:
        return "".join(file_checksum(folder / f"translator.{kind}") for kind in ("json", "safetensors"))
    except OSError as error:
        raise _unreadable(setting, name, error, "the folder that learn.output named, or 'packaged'") from error


def writer_checksum(config: PipelineConfig) -> str:
    """The checksum of the question writer's files; empty if questions are written without one.

    Raises:
        ConfigError: The writer cannot be read.
    """
    name = config.augment.question_writer
    if name is None:
        return ""
    try:
        return "".join(
            file_checksum(Path(name) / file) for file in ("adapter_config.json", "adapter_model.safetensors")
        )
    except OSError as error:
        raise _unreadable("augment.writer", name, error, "the folder that writer.output named") from error


def _unreadable(setting: str, given: str, error: OSError, remedy: str) -> ConfigError:
    return ConfigError(f"setting '{setting}'", f"{given} cannot be read ({error.strerror})", f"Give {remedy}.")
