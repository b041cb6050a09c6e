"""Parse the values of settings according to their types, so that a text setting keeps its text exactly.

YAML alone would turn `2024-05-01` into a date, `007` into a number and `no` into false, and would cut `notes #2` at the
comment. On the command line a text setting is therefore never parsed as YAML, and in a file its unquoted value is kept
as written.
"""

import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel

from dyprag.config import PipelineConfig

EMPTY = ("", "null")  # what the command line accepts for an optional setting that is not given


def from_override(key: str, text: str) -> Any:
    """Return the value of `--set key=text`.

    Text settings take the text unchanged; an optional one is empty if the text is empty or `null`. All other settings
    are parsed as YAML: numbers, yes and no, [lists], {maps}. Null means that the setting is not given.
    """
    kind: Any = PipelineConfig
    for part in key.strip().split("."):
        kind = _within(kind, part)
    kinds = _alternatives(kind)
    if str in kinds:
        return None if type(None) in kinds and text in EMPTY else text
    try:
        value = _read(text, kind)
    except yaml.YAMLError:
        return text  # fails validation later, with the text in the error
    plain = value is None or (isinstance(value, str) and text.strip()[:1] not in ("'", '"'))
    return text if Any in kinds and plain and text.strip() not in ("~", *EMPTY) else value


def from_yaml(text: str) -> Any:
    """Return the settings in a YAML text.

    Raises:
        yaml.YAMLError: the text is not valid YAML.
    """
    return _read(text, PipelineConfig)


def _read(text: str, kind: Any) -> Any:
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        return None if node is None else _built(loader, node, kind)
    except RecursionError as error:
        raise yaml.YAMLError("a value contains itself, or nests too deep") from error
    except ValueError as error:  # such as a date with month 13
        raise yaml.YAMLError(str(error)) from error
    finally:
        loader.dispose()


def _built(loader: yaml.SafeLoader, node: yaml.Node, kind: Any) -> Any:
    """Return the value of a YAML node according to the type of its setting."""
    kinds = _alternatives(kind)
    if isinstance(node, yaml.ScalarNode):
        return _scalar(loader, node, kinds)
    if isinstance(node, yaml.MappingNode):
        names = [name.value for name, _ in node.value if isinstance(name, yaml.ScalarNode)]
        if len(names) < len(node.value):
            raise yaml.YAMLError("a key is not text")
        if twice := [name for name in names if names.count(name) > 1]:
            raise yaml.YAMLError(f"{twice[0]!r} occurs twice")
        loader.flatten_mapping(node)
        pairs = [(_built(loader, name, str), value) for name, value in node.value]
        return {name: _built(loader, value, _within(kind, str(name))) for name, value in pairs}
    return [_built(loader, item, _item(kinds, index)) for index, item in enumerate(node.value)]


def _scalar(loader: yaml.SafeLoader, node: yaml.ScalarNode, kinds: Sequence[Any]) -> Any:
    tag = node.tag.rpartition(":")[2]
    if tag == "null":
        return None
    untyped = Any in kinds and tag in ("int", "float", "bool")
    number = tag == "float" and {int, float} & set(kinds) and ":" not in node.value  # YAML reads 1:30 as 90
    return loader.construct_object(node) if untyped or number else node.value


def _alternatives(kind: Any) -> tuple[Any, ...]:
    """Return the types that a setting accepts; (Any,) if they are unknown."""
    if get_origin(kind) is Annotated:
        return _alternatives(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return tuple(alternative for part in get_args(kind) for alternative in _alternatives(part))
    return (kind,)


def _within(kind: Any, name: str) -> Any:
    """Return the type of the value under a name in a section or mapping."""
    for alternative in _alternatives(kind):
        if isinstance(alternative, type) and issubclass(alternative, BaseModel):
            field = alternative.model_fields.get(name)
            return field.annotation if field else Any
        if get_origin(alternative) in (dict, Mapping):
            return get_args(alternative)[1]
    return Any


def _item(kinds: Sequence[Any], index: int) -> Any:
    """Return the type of an item of a list or tuple."""
    for kind in kinds:
        origin, items = get_origin(kind), get_args(kind)
        if origin in (tuple, list) and items:
            return items[0] if items[-1] is Ellipsis or origin is list else items[min(index, len(items) - 1)]
    return Any
