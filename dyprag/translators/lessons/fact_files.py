"""Reads the YAML files in facts/, from which the invented documents are written, and names the entry that is wrong."""

import re
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError

from dyprag.errors import ConfigError

FOLDER = Path(__file__).with_name("facts")
Loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # every value stays text: "no" and "1911" as well
STRICT = ConfigDict(extra="forbid")  # of the classes that describe an entry: a misspelt line is an error
T = TypeVar("T")


def read_facts_file(path: Path, kind: TypeAdapter[T]) -> T:
    """The content of a file as the kind given.

    Raises:
        ConfigError: the file cannot be read, gives an entry twice, or has an entry that breaks a rule.
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
        entry, *where = [str(part + 1 if isinstance(part, int) else part) for part in first["loc"]] or ["the file"]
        reason = str(first.get("ctx", {}).get("error") or first["msg"])
        raise wrong_entry(path, entry, ": ".join([" ".join(where), reason] if where else [reason])) from error


def wrong_entry(path: Path, entry: str, reason: str) -> ConfigError:
    """An error that names the file, the entry and the reason."""
    return ConfigError(f"facts file {path}, entry '{entry}'", reason, "The comments in facts/ say what an entry holds.")


def slots(needed: str = "", allowed: str = "", one_of: str = "") -> AfterValidator:
    """Checks the slots in a text, such as {v}: all those needed, one of some (if any), and no others than allowed."""
    known = {*needed.split(), *allowed.split(), *one_of.split()}

    def check(text: str) -> str:
        given = re.findall(r"\{(\w+)\}", text)
        if re.search(r"[{}]", re.sub(r"\{\w+\}", "", text)):
            raise ValueError(f"a brace in {text!r} belongs to no slot")
        if unknown := set(given) - known:
            raise ValueError(f"{text!r} has the unknown slot {_listed(unknown)}")
        if missing := set(needed.split()) - set(given):
            raise ValueError(f"{text!r} lacks {_listed(missing)}")
        if one_of and not set(one_of.split()) & set(given):
            raise ValueError(f"{text!r} needs one of {_listed(one_of.split())}")
        return text

    return AfterValidator(check)


def without_repetition(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Checks that no text of a list stands there twice."""
    if repeated := sorted({text for text in texts if texts.count(text) > 1}):
        raise ValueError(f"{', '.join(map(repr, repeated))} is given twice")
    return texts


def _listed(names: Any) -> str:
    return ", ".join(f"{{{name}}}" for name in sorted(names))


def _refuse_repeated_keys(node: yaml.Node | None, path: Path) -> None:
    """YAML itself would take the last of entries with one name, in silence."""
    if isinstance(node, yaml.MappingNode):
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key, value in node.value:
            if names.count(key.value) > 1:
                raise wrong_entry(path, key.value, f"it is given twice (line {key.start_mark.line + 1})")
            _refuse_repeated_keys(value, path)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_repeated_keys(value, path)
