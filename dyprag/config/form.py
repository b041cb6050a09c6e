"""The run form in Prefect's UI: each flow shows its own basic settings, and two fields accept all other settings.

Prefect draws the form from a JSON schema. The schema works around the behaviour of the UIs (3.8, V1 and V2):

- The UI sends a default as if the user had typed it. The schema therefore has no defaults; descriptions mention them.
  A field that is left empty is not sent, and takes its value from the settings file, the model preset or the default,
  as on the command line.
- The UI sends an empty boolean as false. A boolean is therefore a choice of 'yes' and 'no', which pydantic accepts;
  true and false stay valid. The UI draws a choice with both only if the schema has no `type`.
- Some UIs send null for every nullable field. No field of the form is therefore nullable.
- The UI draws `properties` only. `patternProperties` and `propertyNames` are validated when a run is created, but not
  drawn. They contain the settings that are not on the form, for deployments and scripts that send them.
- PostgreSQL's JSON does not keep the order of keys; `position` restores it.
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

UNTOUCHED: Any = {}  # an empty form: the default of a flow's parameter, instead of the values of all settings

WORDS = {"api": "API", "lora": "LoRA", "qa": "QA", "url": "URL"}  # spelling of these words in labels
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
    """Annotation for a `PipelineConfig` parameter of a flow, which defines its form and reads the submitted values.

    Args:
        names: sections whose basic settings the form shows, or single basic settings (`model.name`).
    """

    def __init__(self, *names: str) -> None:
        self.names = names

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(read_form, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return self.json_schema()

    def json_schema(self) -> dict[str, Any]:
        """Return the form's JSON schema, without references."""
        whole = PipelineConfig.model_json_schema()
        form = _form_of(PipelineConfig, _inlined(whole, whole["$defs"]), "", self)
        for position, (name, own) in enumerate(OWN.items(), start=len(form["properties"])):
            form["properties"][name] = {**own, "position": position}
        form["propertyNames"]["enum"] += list(OWN)
        form["description"] = "Leave a field empty to use its default or, where it says so, the model preset's value."
        return form

    def shows(self, name: str) -> bool:
        """Whether the form shows a setting, or any setting of a section."""
        return any(f"{name}.".startswith(f"{shown}.") or f"{shown}.".startswith(f"{name}.") for shown in self.names)


def read_form(given: Any) -> PipelineConfig:
    """Build the configuration from the values of a form, deployment or script; return a `PipelineConfig` unchanged.

    Raises:
        ConfigError: a file cannot be read, a setting does not exist, or a value is invalid.
    """
    if isinstance(given, PipelineConfig):
        return given
    if not isinstance(given, Mapping):
        raise ConfigError(
            "parameter 'config'",
            f"it is not a mapping of settings (given: {given!r})",
            "Pass settings by section, such as {'lora': {'rank': 4}}.",
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


def _form_of(section: type[Section], schema: dict[str, Any], prefix: str, form: Form) -> dict[str, Any]:
    """Return the schema of a section: its basic settings as properties, and all others allowed but not drawn."""
    drawn: dict[str, Any] = {}
    undrawn: dict[str, Any] = {}
    for name in [*section.basic, *(name for name in section.model_fields if name not in section.basic)]:
        inner, field = section_of(section, name), schema["properties"][name]
        subform = _form_of(inner, field, f"{prefix}{name}.", form) if inner else None
        if name in section.basic and form.shows(prefix + name):
            drawn[name] = {**(subform or _drawn(field)), "title": _title(name), "position": len(drawn)}
        else:
            undrawn[f"^{re.escape(name)}$"] = _undrawn(subform or field)
    return {
        "type": "object",
        "description": schema["description"],
        "properties": drawn,
        "patternProperties": undrawn,
        "propertyNames": {"enum": list(schema["properties"])},
    }


def _title(name: str) -> str:
    words = [WORDS.get(word, word) for word in name.split("_")]
    return " ".join([words[0][0].upper() + words[0][1:], *words[1:]])


def _drawn(field: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a drawn setting: one type, not nullable, with its default in the description."""
    schema = dict(next(option for option in field.get("anyOf", [field]) if option.get("type") != "null"))
    default = schema.pop("default", field.get("default"))
    description = field["description"]
    if default not in (None, ""):
        description += f" Default: {_in_words(default)}."
    if schema.get("type") == "boolean":
        del schema["type"]
        schema["enum"] = ["yes", "no", True, False]
    return {**schema, "description": description}


def _in_words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _undrawn(field: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a setting that is only validated: without texts, and nullable (null means not given)."""
    checked = {key: value for key, value in field.items() if key not in ("default", "title", "description")}
    if isinstance(checked.get("type"), str) and "enum" not in checked:
        return {**checked, "type": [checked["type"], "null"]}
    return checked if {"type": "null"} in checked.get("anyOf", []) else {"anyOf": [checked, {"type": "null"}]}


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """Return a schema with all references replaced by their definitions."""
    if isinstance(schema, list):
        return [_inlined(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        definition = definitions[schema["$ref"].removeprefix("#/$defs/")]
        schema = {**definition, **{key: value for key, value in schema.items() if key != "$ref"}}
    return {key: _inlined(value, definitions) for key, value in schema.items() if key not in ("$defs", LEVEL)}
