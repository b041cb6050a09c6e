"""A document as blocks (headings, paragraphs, list items, table rows), and their conversion to plain text.

Empty lines separate blocks, so that a heading never runs into the sentence after it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from dyprag.corpora.text.forms import folded

_MARKS = re.compile(r"[\W_]+")
_LINE_SPACE = re.compile(r"[^\S\n]+")
_UNSEEN = dict.fromkeys(map(ord, "\u00ad\u200b\u2060\ufeff"))
_TOGETHER = {("item", "item"), ("row", "row")}  # separated by a line break instead of an empty line


class Kind(StrEnum):
    """The kind of a block."""

    HEADING = "heading"
    PARAGRAPH = "paragraph"
    ITEM = "item"
    ROW = "row"
    CODE = "code"


@dataclass(frozen=True)
class Block:
    """A self-contained piece of text.

    `level` is the level of a heading, `linked` the share of the block's letters that are in links, and `mark` the
    bullet or number of a list item.
    """

    kind: Kind
    text: str
    level: int = 0
    linked: float = 0.0
    mark: str = ""


@dataclass(frozen=True)
class Reading:
    """The content of a file: its title (empty if the file has none) and its text."""

    title: str
    text: str


def as_text(blocks: Sequence[Block]) -> str:
    """Return the blocks as plain text; the lines of a list or table stay together."""
    parts: list[str] = []
    for previous, block in zip([None, *blocks], blocks, strict=False):
        if previous is not None:
            parts.append("\n" if (previous.kind, block.kind) in _TOGETHER else "\n\n")
        parts.append(f"{block.mark} {block.text}" if block.mark else block.text)
    return "".join(parts)


def letters(text: str) -> str:
    """Return only the letters and digits of a text, folded, for comparison."""
    return _MARKS.sub("", folded(text))


def tidy(text: str) -> str:
    """Remove superfluous spaces, empty lines and invisible break marks; keep line breaks."""
    lines = _LINE_SPACE.sub(" ", text.translate(_UNSEEN)).split("\n")
    return "\n".join(stripped for line in lines if (stripped := line.strip()))


def without_title(title: str, blocks: Sequence[Block]) -> list[Block]:
    """Remove a first heading or line that only repeats the title, since prompts show the title before the text.

    A document that consists of nothing else keeps it.
    """
    rest = list(blocks)
    if len(rest) > 1 and letters(rest[0].text) == letters(title) and rest[0].kind in (Kind.HEADING, Kind.PARAGRAPH):
        del rest[0]
    return rest
