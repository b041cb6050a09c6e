"""Read settings from files and overrides, and build one configuration from them or raise one clear error.

The command line (`--config`, `--set`) and the run form (form.py) use the same functions, so the same input always
gives the same configuration.
"""

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from dyprag.config import PipelineConfig, Section
from dyprag.config.values import from_override, from_yaml
from dyprag.errors import ConfigError

SEE = "See: dyprag config --all."
_EXPECTED = {
    "int_parsing": "a whole number", "int_from_float": "a whole number", "float_parsing": "a number",
    "bool_parsing": "true or false",
}  # by pydantic's type of error  # fmt: skip


def read_file(path: Path) -> dict[str, Any]:
    """Return the settings in a YAML or TOML file, not yet validated.

    Raises:
        ConfigError: the file cannot be read or does not contain settings.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        values = tomllib.loads(text) if path.suffix == ".toml" else from_yaml(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, yaml.YAMLError) as error:
        raise ConfigError(
            f"configuration {path}",
            f"it cannot be read ({' '.join(str(error).split())})",
            "Check the path, and that the file is valid YAML or TOML.",
        ) from error
    if values is not None and not isinstance(values, dict):
        raise ConfigError(
            f"configuration {path}", "it contains no settings", "Write settings as `section:` and `key: value`."
        )
    return values or {}


def set_one(values: dict[str, Any], key: str, value: Any) -> None:
    """Set a setting, named as in `section.key`, in `values`.

    Raises:
        ConfigError: `values` has a single value in place of the section.
    """
    *sections, name = key.strip().split(".")
    for section in sections:
        inner = values.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"setting {key}", f"{section!r} is not a section", SEE)
        values = inner
    values[name] = value


def set_override(values: dict[str, Any], override: str) -> None:
    """Set `section.key=value`, as given to `--set`, in `values`.

    Raises:
        ConfigError: the override has no '=' or no value where one is required, or `values` has a single value in place
            of the section.
    """
    key, separator, text = override.partition("=")
    if not separator:
        raise ConfigError(f"--set {override}", "it has no '='", "Write --set section.key=value.")
    value = from_override(key, text)
    if value == "" and _default(key):  # usually an unset shell variable
        raise ConfigError(f"--set {override}", "there is no value after '='", "Add a value, or remove it.")
    set_one(values, key, value)


def _default(key: str) -> Any:
    """Return the default of a setting, named as in `section.key`; None if there is no such setting."""
    value: Any = PipelineConfig()
    for name in key.strip().split("."):
        value = getattr(value, name, None)
    return value


def merged(
    below: Mapping[str, Any], above: Mapping[str, Any], section: type[Section] = PipelineConfig
) -> dict[str, Any]:
    """Return the settings of both mappings. Values in `above` override those in `below`; nulls count as not given."""
    result = dict(below)
    for name, value in above.items():
        inner = section_of(section, name)
        if inner and isinstance(value, Mapping) and isinstance(result.get(name), Mapping):
            result[name] = merged(result[name], value, inner)
        elif value is not None:
            result[name] = value
    return result


def section_of(section: type[Section], name: str) -> type[Section] | None:
    """Return the class of a subsection; None if the name is a single setting or unknown."""
    field = section.model_fields.get(name)
    kind = field.annotation if field else None
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def configuration(values: Mapping[str, Any]) -> PipelineConfig:
    """Build the configuration from these settings.

    Raises:
        ConfigError: a setting does not exist, or a value is invalid.
    """
    try:
        return PipelineConfig.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise ConfigError(f"setting {key!r}", "there is no such setting", _nearest(first["loc"])) from None
        if first["type"] == "value_error":  # raised by our own validators
            raise ConfigError(f"setting {key!r}", str(first["ctx"]["error"]), SEE) from None
        if (plain := _plain(first)) is not None:
            raise ConfigError(f"setting {key!r}", *plain) from None
        unquoted = first["type"] == "string_type" and not isinstance(first["input"], dict | list)
        remedy = f"Write it in quotes. {SEE}" if unquoted else SEE
        raise ConfigError(f"setting {key!r}", f"{first['msg']} (given: {first['input']!r})", remedy) from None


def _plain(error: Any) -> tuple[str, str] | None:
    """The reason and the remedy of frequent errors in the words of this project; None for others."""
    given = error["input"]
    if expected := _EXPECTED.get(error["type"]):
        return f"it must be {expected} (given: {given!r})", SEE
    if error["type"] == "literal_error":
        choices = re.findall(r"'([^']*)'", error["ctx"]["expected"])
        known = f"Choose one of {', '.join(choices)}."
        close = _closest(given, choices)
        return f"{given!r} is not one of the choices", f"Did you mean {close!r}? {known}" if close else known
    return None


def _nearest(location: tuple[int | str, ...]) -> str:
    section: Any = PipelineConfig()
    for part in location[:-1]:
        section = getattr(section, str(part), None)
    if not isinstance(section, BaseModel):  # an item of a list has no default to inspect
        return SEE
    known = list(type(section).model_fields)
    if close := _closest(location[-1], known):
        return f"Did you mean {'.'.join([*map(str, location[:-1]), close])!r}? {SEE}"
    return f"Known here: {', '.join(known)}."


def _closest(given: object, known: list[str]) -> str:
    """The known name that is most like the given one; empty if none is."""
    return next(iter(difflib.get_close_matches(str(given), known, n=1)), "")


def to_write(config: PipelineConfig, everything: bool) -> dict[str, Any]:
    """Return a configuration's settings for a file, with the model's preset filled in.

    Args:
        config: the configuration.
        everything: include all settings; otherwise the basic settings and those that differ from their defaults.
    """
    values = config.resolved().model_dump(mode="json")
    return values if everything else _basic(values, untouched(config), PipelineConfig)


def untouched(config: PipelineConfig) -> dict[str, Any]:
    """Return the value that each setting has if only this model and preset are given."""
    plain = PipelineConfig(preset=config.preset, model=config.model).resolved().model_dump(mode="json")
    return plain | PipelineConfig().model_dump(mode="json", include={"preset", "model"})


def _basic(values: dict[str, Any], plain: dict[str, Any], section: type[Section]) -> dict[str, Any]:
    names = [*section.basic, *(name for name in section.model_fields if name not in section.basic)]
    settings: dict[str, Any] = {}
    for name in names:
        inner = section_of(section, name)
        if inner:
            if inner_settings := _basic(values[name], plain[name], inner):
                settings[name] = inner_settings
        elif name in section.basic or values[name] != plain[name]:
            settings[name] = values[name]
    return settings
