"""Reads the YAML files in facts/, the source of the invented documents. Errors name the invalid entry."""

import re
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError

from dyprag.errors import ConfigError

FOLDER = Path(__file__).with_name("facts")
Loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # keeps every value as text, also "no" and "1911"
STRICT = ConfigDict(extra="forbid")  # for the classes of entries: a misspelt field is an error
T = TypeVar("T")


def read_facts_file(path: Path, kind: TypeAdapter[T]) -> T:
    """Read a file and validate its content.

    Raises:
        ConfigError: the file cannot be read, or contains a duplicate or invalid entry.
    """
    try:
        loader = Loader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        _refuse_repeated_keys(node, path)
        content = loader.construct_document(node) if node else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"facts file {path}", f"it cannot be read ({error})", "Give a YAML file.") from error
    try:
        return kind.validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        entry, *location = [str(part + 1 if isinstance(part, int) else part) for part in first["loc"]] or ["the file"]
        reason = str(first.get("ctx", {}).get("error") or first["msg"])
        raise wrong_entry(path, entry, ": ".join([" ".join(location), reason] if location else [reason])) from error


def wrong_entry(path: Path, entry: str, reason: str) -> ConfigError:
    """Create an error that names the file, the entry and the reason."""
    return ConfigError(
        f"facts file {path}, entry '{entry}'", reason, "See the comments in facts/ for the format of an entry."
    )


def slots(needed: str = "", allowed: str = "", one_of: str = "") -> AfterValidator:
    """Validate the slots in a text, such as {v}.

    Args:
        needed: slots that must all occur.
        allowed: further slots that may occur.
        one_of: slots of which at least one must occur.
    """
    known = {*needed.split(), *allowed.split(), *one_of.split()}

    def check(text: str) -> str:
        used = re.findall(r"\{(\w+)\}", text)
        if re.search(r"[{}]", re.sub(r"\{\w+\}", "", text)):
            raise ValueError(f"a brace in {text!r} does not belong to a slot")
        if unknown := set(used) - known:
            raise ValueError(f"{text!r} has the unknown slot {_listed(unknown)}")
        if missing := set(needed.split()) - set(used):
            raise ValueError(f"{text!r} lacks {_listed(missing)}")
        if one_of and not set(one_of.split()) & set(used):
            raise ValueError(f"{text!r} needs one of {_listed(one_of.split())}")
        return text

    return AfterValidator(check)


def without_repetition(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Validate that a list contains no text twice."""
    if repeated := sorted({text for text in texts if texts.count(text) > 1}):
        raise ValueError(f"{', '.join(map(repr, repeated))} occurs more than once")
    return texts


def _listed(names: Any) -> str:
    return ", ".join(f"{{{name}}}" for name in sorted(names))


def _refuse_repeated_keys(node: yaml.Node | None, path: Path) -> None:
    """Raise an error for duplicate keys; YAML would silently use the last one."""
    if isinstance(node, yaml.MappingNode):
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key, value in node.value:
            if names.count(key.value) > 1:
                raise wrong_entry(path, key.value, f"it occurs more than once (line {key.start_mark.line + 1})")
            _refuse_repeated_keys(value, path)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_repeated_keys(value, path)
