"""What is written for a setting becomes what the setting's own type says: text stays text, to the letter.

YAML alone would make a date of `2024-05-01`, a number of `007`, false of `no`, and would cut `notes #2` at the comment.
So a setting that is text never sees YAML on the command line, and in a file the words of a plain value are kept.
"""

import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel

from dyprag.config import PipelineConfig

NOTHING = ("", "null")  # how it is said on the command line that a setting which may be empty is not given


def from_override(key: str, text: str) -> Any:
    """The value that `--set key=text` gives.

    Text settings take the text as it is; those that may be empty are when it is empty or `null`. All others are read as
    YAML: numbers, yes and no, [lists], {maps}; null leaves them as if not given.
    """
    kind: Any = PipelineConfig
    for part in key.strip().split("."):
        kind = _within(kind, part)
    kinds = _alternatives(kind)
    if str in kinds:
        return None if type(None) in kinds and text in NOTHING else text
    try:
        value = _read(text, kind)
    except yaml.YAMLError:
        return text  # which does not fit, and is shown in the error
    plain = value is None or (isinstance(value, str) and text.strip()[:1] not in ("'", '"'))
    return text if Any in kinds and plain and text.strip() not in ("~", *NOTHING) else value


def from_yaml(text: str) -> Any:
    """The settings that a YAML file holds.

    Raises:
        yaml.YAMLError: it is no YAML.
    """
    return _read(text, PipelineConfig)


def _read(text: str, kind: Any) -> Any:
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        return None if node is None else _built(loader, node, kind)
    except RecursionError as error:
        raise yaml.YAMLError("a value contains itself, or nests too deep") from error
    except ValueError as error:  # such as a date with a 13th month
        raise yaml.YAMLError(str(error)) from error
    finally:
        loader.dispose()


def _built(loader: yaml.SafeLoader, node: yaml.Node, kind: Any) -> Any:
    """The value of a node of YAML, where its type says what it is."""
    kinds = _alternatives(kind)
    if isinstance(node, yaml.ScalarNode):
        return _scalar(loader, node, kinds)
    if isinstance(node, yaml.MappingNode):
        loader.flatten_mapping(node)
        pairs = [(_built(loader, name, str), value) for name, value in node.value]
        return {name: _built(loader, value, _within(kind, str(name))) for name, value in pairs}
    return [_built(loader, item, _item(kinds, place)) for place, item in enumerate(node.value)]


def _scalar(loader: yaml.SafeLoader, node: yaml.ScalarNode, kinds: Sequence[Any]) -> Any:
    said = node.tag.rpartition(":")[2]
    if said == "null":
        return None
    free = Any in kinds and said in ("int", "float", "bool")
    number = said == "float" and {int, float} & set(kinds) and ":" not in node.value  # no minutes and seconds
    return loader.construct_object(node) if free or number else node.value


def _alternatives(kind: Any) -> tuple[Any, ...]:
    """The types that a setting may be of; (Any,) where nothing is known of it."""
    if get_origin(kind) is Annotated:
        return _alternatives(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return tuple(one for part in get_args(kind) for one in _alternatives(part))
    return (kind,)


def _within(kind: Any, name: str) -> Any:
    """The type of what stands under a name in a section or a map."""
    for one in _alternatives(kind):
        if isinstance(one, type) and issubclass(one, BaseModel):
            field = one.model_fields.get(name)
            return field.annotation if field else Any
        if get_origin(one) in (dict, Mapping):
            return get_args(one)[1]
    return Any


def _item(kinds: Sequence[Any], place: int) -> Any:
    """The type of an item of a list."""
    for one in kinds:
        if get_origin(one) in (tuple, list) and (inner := get_args(one)):
            return inner[0] if inner[-1] is Ellipsis or get_origin(one) is list else inner[min(place, len(inner) - 1)]
    return Any
