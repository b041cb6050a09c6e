"""A document as blocks (headings, paragraphs, list items, rows of tables), and these as plain text.

Blocks are parted by empty lines, so that a heading never runs into the sentence behind it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from dyprag.corpora.text.forms import folded

_MARKS = re.compile(r"[\W_]+")
_LINE_SPACE = re.compile(r"[^\S\n]+")
_UNSEEN = dict.fromkeys(map(ord, "\u00ad\u200b\u2060\ufeff"))
_TOGETHER = {("item", "item"), ("row", "row")}  # on lines of their own, without an empty line between


class Kind(StrEnum):
    """What a block is."""

    HEADING = "heading"
    PARAGRAPH = "paragraph"
    ITEM = "item"
    ROW = "row"
    CODE = "code"


@dataclass(frozen=True)
class Block:
    """A piece of text that stands by itself.

    `level` is that of a heading; `linked` the share of its letters that lead elsewhere; `mark` what stands before a
    list item.
    """

    kind: Kind
    text: str
    level: int = 0
    linked: float = 0.0
    mark: str = ""


@dataclass(frozen=True)
class Reading:
    """What a file says: its title, "" where it has none of its own, and its text."""

    title: str
    text: str


def as_text(blocks: Sequence[Block]) -> str:
    """The blocks as plain text; a list or a table keeps its lines together."""
    parts: list[str] = []
    for before, block in zip([None, *blocks], blocks, strict=False):
        if before is not None:
            parts.append("\n" if (before.kind, block.kind) in _TOGETHER else "\n\n")
        parts.append(f"{block.mark} {block.text}" if block.mark else block.text)
    return "".join(parts)


def letters(text: str) -> str:
    """A text as it is compared: its letters and digits alone."""
    return _MARKS.sub("", folded(text))


def tidy(text: str) -> str:
    """Without superfluous spaces and marks of where a line may break; line breaks stay."""
    lines = _LINE_SPACE.sub(" ", text.translate(_UNSEEN)).split("\n")
    return "\n".join(stripped for line in lines if (stripped := line.strip()))


def without_title(title: str, blocks: Sequence[Block]) -> list[Block]:
    """The blocks without a heading or first line that only repeats the title, which a passage has before its text.

    What says nothing else keeps it.
    """
    rest = list(blocks)
    if len(rest) > 1 and letters(rest[0].text) == letters(title) and rest[0].kind in (Kind.HEADING, Kind.PARAGRAPH):
        del rest[0]
    return rest
