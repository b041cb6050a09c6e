"""The form of a run in Prefect's UI: for each flow its own basic settings, and two fields for all others.

Prefect draws the form from a JSON schema. What the UIs (3.8, V1 and V2) do with one decides how ours looks:

- A default is sent as if it had been typed. So there is none in the schema (the description tells it): what nobody
  touches is absent, and is the settings file's, the model preset's or the default, as on the command line.
- An empty boolean is sent as false. So one is a choice of 'yes' and 'no', which pydantic reads; true and false stay
  valid. Only a schema without `type` may list both and is still drawn as a choice.
- Whatever may be null is sent as null by some. So nothing on the form may.
- `properties` are drawn; `patternProperties` and `propertyNames` are heeded when a run is made, and not drawn. So these
  hold the settings that are not on the form, for deployments and scripts that send them.
- PostgreSQL's JSON forgets the order of keys; `position` restores it.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from dyprag.config import PipelineConfig, Section
from dyprag.config.base import LEVEL
from dyprag.config.files import configuration, merged, read_file, section_of, set_one
from dyprag.errors import ConfigError

UNTOUCHED: Any = {}  # the form as it opens; a flow's default, which may not be the 165 settings' values

WORDS = {"api": "API", "lora": "LoRA", "qa": "QA", "url": "URL"}  # of labels
FILE, MORE = "config_file", "settings"
OWN = {
    FILE: {
        "title": "Config file",
        "type": "string",
        "description": "A YAML or TOML file with any settings, on the worker's machine; a relative path starts at the "
        "deployment's folder. Fields of this form override it.",
    },
    MORE: {
        "title": "Further settings",
        "type": "object",
        "description": 'Any other settings as JSON, such as {"lora.alpha": 16}; dyprag config --all lists them. They '
        "override the rest.",
    },
}


class Form:
    """Beside `PipelineConfig` in a flow's signature: what is sent by a form of these settings is read as one.

    Args:
        names: sections, of which the basic settings are on the form, or single ones of these (`model.name`).
    """

    def __init__(self, *names: str) -> None:
        self.names = names

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(read_form, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return self.json_schema()

    def json_schema(self) -> dict[str, Any]:
        """The form's JSON schema, with no references in it."""
        whole = PipelineConfig.model_json_schema()
        form = _form_of(PipelineConfig, _inlined(whole, whole["$defs"]), "", self)
        for position, (name, own) in enumerate(OWN.items(), start=len(form["properties"])):
            form["properties"][name] = {**own, "position": position}
        form["propertyNames"]["enum"] += list(OWN)
        form["description"] = "Leave a field empty to use its default or, where it says so, the model preset's value."
        return form

    def shows(self, name: str) -> bool:
        """Whether a setting, or some of a section, is on the form."""
        return any(f"{name}.".startswith(f"{one}.") or f"{one}.".startswith(f"{name}.") for one in self.names)


def read_form(given: Any) -> PipelineConfig:
    """The configuration that a form, a deployment's parameters or a script gives; one that is made stays as it is.

    Raises:
        ConfigError: a file that cannot be read, a setting that does not exist, or a value that does not fit.
    """
    if isinstance(given, PipelineConfig):
        return given
    if not isinstance(given, Mapping):
        raise ConfigError(
            "parameter 'config'",
            f"it is not a mapping of settings (given: {given!r})",
            "Group the settings by section.",
        )
    sent = dict(given)
    file, more = sent.pop(FILE, None), sent.pop(MORE, None) or {}
    if not isinstance(file, str | None):
        raise ConfigError(f"setting {FILE!r}", f"it is not a path (given: {file!r})", "Give the path of a file.")
    if not isinstance(more, Mapping):
        raise ConfigError(
            f"setting {MORE!r}", f"it is not a mapping of settings (given: {more!r})", "Give names and values."
        )
    values = merged(read_file(Path(file)), sent) if file else sent
    further: dict[str, Any] = {}
    for key, value in more.items():
        set_one(further, key, value)
    return configuration(merged(values, further))


def _form_of(section: type[Section], schema: dict[str, Any], place: str, form: Form) -> dict[str, Any]:
    """The schema of a section with its basic settings as properties, and all others allowed but not drawn."""
    shown: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for name in [*section.basic, *(name for name in section.model_fields if name not in section.basic)]:
        inner, field = section_of(section, name), schema["properties"][name]
        one = _form_of(inner, field, f"{place}{name}.", form) if inner else None
        if name in section.basic and form.shows(place + name):
            shown[name] = {**(one or _drawn(field)), "title": _title(name), "position": len(shown)}
        else:
            others[f"^{re.escape(name)}$"] = _undrawn(one or field)
    return {
        "type": "object",
        "description": schema["description"],
        "properties": shown,
        "patternProperties": others,
        "propertyNames": {"enum": list(schema["properties"])},
    }


def _title(name: str) -> str:
    words = [WORDS.get(word, word) for word in name.split("_")]
    return " ".join([words[0][0].upper() + words[0][1:], *words[1:]])


def _drawn(field: dict[str, Any]) -> dict[str, Any]:
    """A setting as the UIs draw it well: of one type, never null, with its default in words."""
    kind = dict(next(one for one in field.get("anyOf", [field]) if one.get("type") != "null"))
    default = kind.pop("default", field.get("default"))
    description = field["description"]
    if default not in (None, ""):
        description += f" Default: {_in_words(default)}."
    if kind.get("type") == "boolean":
        del kind["type"]
        kind["enum"] = ["yes", "no", True, False]
    return {**kind, "description": description}


def _in_words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _undrawn(field: dict[str, Any]) -> dict[str, Any]:
    """What is only checked, each time a run is made: with no words, and null, which means not given."""
    checked = {key: value for key, value in field.items() if key not in ("default", "title", "description")}
    if isinstance(checked.get("type"), str) and "enum" not in checked:
        return {**checked, "type": [checked["type"], "null"]}
    return checked if {"type": "null"} in checked.get("anyOf", []) else {"anyOf": [checked, {"type": "null"}]}


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """A schema with what it refers to put in place."""
    if isinstance(schema, list):
        return [_inlined(one, definitions) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        referred = definitions[schema["$ref"].removeprefix("#/$defs/")]
        schema = {**referred, **{key: value for key, value in schema.items() if key != "$ref"}}
    return {key: _inlined(value, definitions) for key, value in schema.items() if key not in ("$defs", LEVEL)}
