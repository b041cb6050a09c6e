"""From a model's text to items: tolerant of prose, fences and broken JSON around them, strict about their form."""

import json
import re
from collections.abc import Collection
from functools import cache
from typing import Any

import json_repair
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dyprag.augmentation.products import Item, ProductName
from dyprag.corpora.documents import QAPair

BREAKS_OFF = "it breaks off."  # of an answer that ended before its last item did


class _Form(BaseModel):
    """Unknown fields are passed over in an answer, and forbidden in the schema that an endpoint is given."""

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
BOUNDS = LENGTHS | ITEMS  # what is refused of them is left out, see refusals.py
_LONGEST = {"question": 300, "answer": 150, "full_answer": 400}  # characters; a text that gets there has lost its way


@cache  # pydantic takes as long for it as the client for sending a request
def schema(product: ProductName, count: int, short: bool = False) -> dict[str, Any]:
    """The JSON schema of an answer with up to so many items. One object for all who ask: not to be changed.

    Args:
        short: with lengths that the texts of a pair must not exceed, for a model that has not come to an end without.
            Strict structured output knows none, and a grammar with them takes xgrammar (vLLM) 6 s instead of 0.01 s,
            once for each schema.
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
    """The sound items of an answer, and what is wrong with the rest (empty: nothing).

    Each item stands for itself: of an answer that breaks off in the third pair, two are taken.

    Args:
        cut: the answer is known to have ended at the limit of its tokens.
    """
    if not text.strip():
        return [], "it is empty."
    try:
        values = _list(json_repair.loads(text), product)
    except (ValueError, TypeError, RecursionError):  # what no parser can make sense of
        values = None
    if values is None:
        return [], f'it holds no JSON object with a list "{product}".'
    items: list[Item] = []
    error = "" if values else f'the list "{product}" is empty.'
    if values and (cut or _breaks_off(text, product)):  # what the parser closed for it is not what was to be said
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
                    error = error or f"item {number} of {product}: {long} is too long."  # or was cut at the bound
                    continue
                items.append(QAPair(pair.question, pair.answer, pair.full_answer))
        except ValidationError as invalid:
            first = invalid.errors()[0]
            where = ".".join(str(part) for part in first["loc"] if isinstance(part, str) and part != product)
            error = error or f"item {number} of {product}: {where or 'it'}: {first['msg']}."
        except (TypeError, ValueError):
            error = error or f"item {number} of {product}: it is no object."
    return items, error


def _whole_items(text: str, product: ProductName) -> list[Any] | None:
    """The items that a list had come to when its text broke off, each of them whole; None where it is no plain JSON."""
    begun = re.search(rf'"{product}"\s*:\s*\[', text)
    if begun is None:
        return None
    items: list[Any] = []
    place, decoder = begun.end(), json.JSONDecoder(strict=False)
    while True:
        place += len(text[place:]) - len(text[place:].lstrip(" \t\r\n,"))
        if place >= len(text) or text[place] == "]":
            return items
        try:
            item, place = decoder.raw_decode(text, place)
        except ValueError:
            return items or None
        items.append(item)


def _whole(value: Any) -> Any:
    """A text without halves of surrogate pairs, which no file can hold."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _breaks_off(text: str, product: str) -> bool:
    """Whether the JSON in a text does not come to its end: a string or a bracket of it stays open."""
    named = text.rfind("{", 0, max(0, text.find(f'"{product}"')))
    starts = [place for place in (text.find("{"), text.find("[")) if place >= 0]
    begin = named if named >= 0 else min(starts, default=len(text))
    try:
        json.JSONDecoder().raw_decode(text, begin)
        return False
    except ValueError:
        pass
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", text[begin:], flags=re.DOTALL)
    depth = 0
    for sign in bare:
        depth += (sign in "{[") - (sign in "}]")
        if sign in "}]" and depth <= 0:
            return False
    return depth > 0


def _list(value: Any, product: ProductName) -> list[Any] | None:
    """The list of items in whatever a tolerant parser found."""
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
