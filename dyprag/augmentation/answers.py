"""Parse items from a model's answer: tolerant of prose, code fences and broken JSON, strict about the items."""

import json
import re
from collections.abc import Collection
from functools import cache
from typing import Any

import json_repair
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dyprag.corpora.documents import QAPair
from dyprag.corpora.products import Item, ProductName
from dyprag.corpora.text.forms import encodable

# The faults in this module are shown to the model in repair prompts and so enter the keys of requests: do not reword.
BREAKS_OFF = "it breaks off."  # the answer ended within an item


class _Form(BaseModel):
    """Base of the answer models: unknown fields are ignored in answers, but forbidden in the schema sent out."""

    model_config = ConfigDict(
        extra="ignore", coerce_numbers_to_str=True, str_strip_whitespace=True,
        json_schema_extra={"additionalProperties": False},
    )  # fmt: skip


class _Pair(_Form):
    question: str = Field(min_length=1)
    answer: str = Field(min_length=1)
    full_answer: str = Field(min_length=1)


class _Rewrites(_Form):
    rewrites: list[str]


class _Pairs(_Form):
    qa_pairs: list[_Pair]


_FORMS: dict[ProductName, type[_Form]] = {"rewrites": _Rewrites, "qa_pairs": _Pairs}
LENGTHS = frozenset({"minLength", "maxLength"})
ITEMS = frozenset({"minItems", "maxItems"})
BOUNDS = LENGTHS | ITEMS  # left out of the schema for endpoints that refuse them, see refusals.py
_LONGEST = {"question": 300, "answer": 150, "full_answer": 400}  # characters; longer texts are degenerate


@cache  # building a schema takes as long as sending a request
def schema(product: ProductName, count: int, short: bool = False) -> dict[str, Any]:
    """The JSON schema of an answer with up to `count` items. The object is shared: do not modify it.

    Args:
        short: limit the lengths of the texts, for a model that otherwise does not stop. Not the default, because strict
            structured output does not support lengths, and xgrammar (vLLM) compiles them in 6 s instead of 0.01 s.
    """
    inner = _FORMS[product].model_json_schema()
    inner["properties"][product] |= {"minItems": 1, "maxItems": count}
    for name, field in inner.get("$defs", {}).get("_Pair", {}).get("properties", {}).items():
        if short:
            field["maxLength"] = _LONGEST[name]
        else:
            field.pop("minLength")
    return {"name": product, "strict": True, "schema": inner}


def without(form: Any, keywords: Collection[str]) -> Any:
    """A schema without some of its keywords."""
    if isinstance(form, dict):
        return {name: without(value, keywords) for name, value in form.items() if name not in keywords}
    return [without(value, keywords) for value in form] if isinstance(form, list) else form


def read_items(text: str, product: ProductName, cut: bool = False) -> tuple[list[Item], str]:
    """Parse the valid items of an answer, and describe the first fault of the rest (empty: none).

    Items are independent: an answer that breaks off in the third pair yields two pairs.

    Args:
        cut: whether the answer ended at its token limit.
    """
    if not text.strip():
        return [], "it is empty."
    try:
        values = _list(json_repair.loads(text), product)
    except (ValueError, TypeError, RecursionError):
        values = None
    if values is None:
        return [], f'it holds no JSON object with a list "{product}".'
    items: list[Item] = []
    error = "" if values else f'the list "{product}" is empty.'
    if values and (cut or _breaks_off(text, product)):  # the parser has completed the last item
        whole = _whole_items(text, product)
        values, error = values[:-1] if whole is None else whole, BREAKS_OFF
    for number, value in enumerate(values, start=1):
        try:
            if product == "rewrites":
                (rewrite,) = _Rewrites.model_validate({"rewrites": [_whole(value)]}).rewrites
                items += [rewrite] if rewrite else []
            else:
                parts = {name: _whole(part) for name, part in dict(value).items()}
                pair = _Pair.model_validate(parts)
                if long := next((name for name, most in _LONGEST.items() if len(str(parts[name])) >= most), ""):
                    error = error or f"item {number} of {product}: {long} is too long."  # or was cut at the limit
                    continue
                items.append(QAPair(pair.question, pair.answer, pair.full_answer))
        except ValidationError as invalid:
            first = invalid.errors()[0]
            field = ".".join(str(part) for part in first["loc"] if isinstance(part, str) and part != product)
            error = error or f"item {number} of {product}: {field or 'it'}: {first['msg']}."
        except (TypeError, ValueError):
            error = error or f"item {number} of {product}: it is no object."
    return items, error


def _whole_items(text: str, product: ProductName) -> list[Any] | None:
    """The complete items of a list whose text breaks off; None if the text is not plain JSON."""
    opening = re.search(rf'"{product}"\s*:\s*\[', text)
    if opening is None:
        return None
    items: list[Any] = []
    position, decoder = opening.end(), json.JSONDecoder(strict=False)
    while True:
        position += len(text[position:]) - len(text[position:].lstrip(" \t\r\n,"))
        if position >= len(text) or text[position] == "]":
            return items
        try:
            item, position = decoder.raw_decode(text, position)
        except ValueError:
            return items or None
        items.append(item)


def _whole(value: Any) -> Any:
    """Replace lone surrogates, which cannot be written to a file."""
    return encodable(value) if isinstance(value, str) else value


def _breaks_off(text: str, product: str) -> bool:
    """Whether the JSON in a text is incomplete, with an open string or bracket."""
    named = text.rfind("{", 0, max(0, text.find(f'"{product}"')))
    starts = [position for position in (text.find("{"), text.find("[")) if position >= 0]
    begin = named if named >= 0 else min(starts, default=len(text))
    try:
        json.JSONDecoder().raw_decode(text, begin)
        return False
    except ValueError:
        pass
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", text[begin:], flags=re.DOTALL)
    depth = 0
    for character in bare:
        depth += (character in "{[") - (character in "}]")
        if character in "}]" and depth <= 0:
            return False
    return depth > 0


def _list(value: Any, product: ProductName) -> list[Any] | None:
    """The list of items in the result of the tolerant parser."""
    if isinstance(value, dict):
        inner = value.get(product)
        return inner if isinstance(inner, list) else None
    if isinstance(value, list):
        for part in value:  # several JSON values in one text
            if isinstance(part, dict) and isinstance(part.get(product), list):
                return part[product]
        wanted = str if product == "rewrites" else dict
        return value if value and all(isinstance(part, wanted) for part in value) else None
    return None
