"""Settings as they are written down: a file's, single ones over it, and both made one configuration or one clear error.

The command line (`--config`, `--set`) and the form of a run (forms.py) read with the same functions, so that the same
words mean the same configuration.
"""

import difflib
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


def read_file(path: Path) -> dict[str, Any]:
    """The settings of a YAML or TOML file, not checked yet.

    Raises:
        ConfigError: it cannot be read, or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        values = tomllib.loads(text) if path.suffix == ".toml" else from_yaml(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, yaml.YAMLError) as error:
        raise ConfigError(
            f"configuration {path}", f"it cannot be read ({' '.join(str(error).split())})", "Give a YAML or TOML file."
        ) from error
    if values is not None and not isinstance(values, dict):
        raise ConfigError(
            f"configuration {path}", "it contains no settings", "Write settings as `section:` and `key: value`."
        )
    return values or {}


def set_one(values: dict[str, Any], key: str, value: Any) -> None:
    """Put a setting, named as in `section.key`, into `values`.

    Raises:
        ConfigError: what stands there for the section is a single value.
    """
    *sections, name = key.strip().split(".")
    for section in sections:
        inner = values.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"setting {key}", f"{section!r} is not a section", SEE)
        values = inner
    values[name] = value


def set_override(values: dict[str, Any], override: str) -> None:
    """Put `section.key=value`, as it is written behind `--set`, into `values`.

    Raises:
        ConfigError: it has no '=', nothing behind it where that cannot be, or what stands there for the section is a
            single value.
    """
    key, separator, text = override.partition("=")
    if not separator:
        raise ConfigError(f"--set {override}", "it has no '='", "Write --set section.key=value.")
    value = from_override(key, text)
    if value == "" and _default(key):  # a shell's variable that is not set, most often
        raise ConfigError(f"--set {override}", "there is no value after '='", "Add a value, or remove it.")
    set_one(values, key, value)


def _default(key: str) -> Any:
    """What a setting, named as in `section.key`, is where it is not given; None where there is no such setting."""
    value: Any = PipelineConfig()
    for name in key.strip().split("."):
        value = getattr(value, name, None)
    return value


def merged(
    below: Mapping[str, Any], above: Mapping[str, Any], section: type[Section] = PipelineConfig
) -> dict[str, Any]:
    """The settings of both, where `above` wins, setting by setting; nulls in it are not given."""
    both = dict(below)
    for name, value in above.items():
        inner = section_of(section, name)
        if inner and isinstance(value, Mapping) and isinstance(both.get(name), Mapping):
            both[name] = merged(both[name], value, inner)
        elif value is not None:
            both[name] = value
    return both


def section_of(section: type[Section], name: str) -> type[Section] | None:
    """The class of the settings that a section has under this name; None for a single setting, or none."""
    field = section.model_fields.get(name)
    kind = field.annotation if field else None
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def configuration(values: Mapping[str, Any]) -> PipelineConfig:
    """The configuration that these settings make.

    Raises:
        ConfigError: a setting that does not exist, or a value that does not fit.
    """
    try:
        return PipelineConfig.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise ConfigError(f"setting {key!r}", "there is no such setting", _nearest(first["loc"])) from None
        if first["type"] == "value_error":  # our own, of settings that do not go together
            raise ConfigError(f"setting {key!r}", str(first["ctx"]["error"]), SEE) from None
        unquoted = first["type"] == "string_type" and not isinstance(first["input"], dict | list)
        remedy = f"Write it in quotes. {SEE}" if unquoted else SEE
        raise ConfigError(f"setting {key!r}", f"{first['msg']} (given: {first['input']!r})", remedy) from None


def _nearest(location: tuple[int | str, ...]) -> str:
    section: Any = PipelineConfig()
    for part in location[:-1]:
        section = getattr(section, str(part), None)
    if not isinstance(section, BaseModel):  # an item of a list, which has no value yet
        return SEE
    known = list(type(section).model_fields)
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"Did you mean {close[0]!r}? {SEE}" if close else f"Known here: {', '.join(known)}."


def to_write(config: PipelineConfig, everything: bool) -> dict[str, Any]:
    """A configuration for a file, the model's preset filled in: the basic settings and whatever else is not as it
    would be anyway, or everything."""
    values = config.resolved().model_dump(mode="json")
    return values if everything else _basic(values, untouched(config), PipelineConfig)


def untouched(config: PipelineConfig) -> dict[str, Any]:
    """What every setting would be with this model and preset and nothing else given."""
    plain = PipelineConfig(preset=config.preset, model=config.model).resolved().model_dump(mode="json")
    return plain | PipelineConfig().model_dump(mode="json", include={"preset", "model"})


def _basic(values: dict[str, Any], plain: dict[str, Any], section: type[Section]) -> dict[str, Any]:
    names = [*section.basic, *(name for name in section.model_fields if name not in section.basic)]
    found: dict[str, Any] = {}
    for name in names:
        inner = section_of(section, name)
        if inner:
            if settings := _basic(values[name], plain[name], inner):
                found[name] = settings
        elif name in section.basic or values[name] != plain[name]:
            found[name] = values[name]
    return found
