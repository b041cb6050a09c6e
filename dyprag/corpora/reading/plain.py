"""Read plain text files, whose first line may be the title."""

import re

from dyprag.corpora.reading.blocks import Reading
from dyprag.corpora.text.words import word_count

_LONGEST_TITLE = 100
_MOST_WORDS = 14
_NO_TITLE = re.compile(r"[.!?…:;,。．｡，、；：！？।॥۔؟،።]$|^[-*•>|{}\[<$#=~`/\\]|\w+://")
_UNDERLINE = re.compile(r"([=\-~*_#])\1{2,}[^\S\n]*(?=\n|\Z)")


def read_plain(text: str) -> Reading:
    """Return the title and text of a text file.

    The first line is the title if an empty line or an underline follows it and it is not a sentence.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    begin = len(text) - len(text.lstrip())
    end = text.find("\n", begin)
    if end < 0:
        return Reading("", text)
    line, rest = text[begin:end].strip(), text[end + 1 :]
    underline = _UNDERLINE.match(rest)
    apart = underline or not rest.split("\n", 1)[0].strip()
    body = rest[underline.end() :] if underline else rest
    if not apart or not body.strip() or not is_title(line):
        return Reading("", text)
    return Reading(line, body.strip())


def is_title(line: str) -> bool:
    """Whether a line could be a title: it is short, contains words, and is not a sentence, list item or URL."""
    words = line.split()
    return (
        len(line) <= _LONGEST_TITLE and word_count(line) <= _MOST_WORDS and any(c.isalpha() for c in line)
        and not _NO_TITLE.search(line) and not words[0].endswith(":")
    )  # fmt: skip
