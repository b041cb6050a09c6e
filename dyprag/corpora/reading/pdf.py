"""Read PDF files: join lines to paragraphs, detect headings, and remove page numbers and running headers.

pdfminer.six extracts lines and boxes of lines; this module interprets them. Tables are read line by line, since a PDF
does not mark them.
"""

import io
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from statistics import median
from typing import Any

from dyprag.corpora.reading.blocks import Block, Kind, Reading, as_text, tidy, without_title
from dyprag.corpora.reading.order import Box, in_reading_order
from dyprag.corpora.reading.plain import is_title
from dyprag.corpora.text.forms import written
from dyprag.corpora.text.words import unwrapped, word_count
from dyprag.errors import DocumentError

_MARGIN = 0.12  # share of a page's height that contains running headers, footers and page numbers
_LEAST_PAGES = 3  # minimum number of pages with the same running line; 2 in short files
_MOST_NUMBERS = 4  # maximum numbers of a running line that may be page numbers
_MOST_BEFORE = 20  # maximum difference between a page's number and its position in the file, in a line with words
_FAR_PAGES = 5  # minimum pages of a running line whose number is far from the page's; fewer may be invoices
_LARGER = 1.12  # minimum size of a heading's letters, relative to the body text
_HEADING_WORDS = 20
_LEADERS = re.compile(r"(?:\s*\.){5,}")  # dots in a table of contents
_UNKNOWN = re.compile(r"\(cid:\d+\)")
_MOST_UNKNOWN = 0.2  # maximum share of unknown characters
_PAGE_NUMBER = re.compile(
    r"(?:page|seite|p\.|s\.|-|–|—|\[)?\s*(?:\d{1,4}|[ivxl]{1,6})\s*(?:(?:of|von|/)\s*\d{1,4})?\s*(?:-|–|—|\])?", re.I
)
_DIGITS = re.compile(r"\d{1,18}")
_NUMERALS = re.compile(r"[ivxl]+")
_ROMAN = {"i": 1, "v": 5, "x": 10, "l": 50}
# The words of a running line (None for only a page number), its height, and its numbers: whether each counts up with
# the pages, and its value, or what it exceeds the position of the page by.
_Signature = tuple[str | None, int, tuple[tuple[bool, int], ...]]
_BULLET = re.compile(r"([•●▪■◦‣∙·–*-]|\d{1,2}[.)]|\(\w\))\s+(?=\S)")
_BROKEN_WORD = re.compile(r"(\w+)([-\u2010\u00ad])$")
_WORD = re.compile(r"\w+(?:-\w+)*")
_ENDS = re.compile(r"[.!?:;…。！？：；．।۔؟][\"'”’)\]」』）》]*$")
# First parts of compounds that keep their hyphen.
_PREFIXES = frozenset(
    """
    self well non ex all half high low long short cross semi quasi post pre anti co e mid multi two three four five six
    seven eight nine ten twenty thirty forty fifty sixty seventy eighty ninety twin third first second
    """.split()
)
_JUNK_TITLE = re.compile(
    r"(?:microsoft (?:word|powerpoint|excel|office)\b.*|powerpoint[- ]?(?:presentation|präsentation)?|untitled.*"
    r"|unbenannt.*|(?:document|dokument|presentation|book|title|slide|scan)\s*\d*|no title|none|null|\W*"
    r"|.*\.(?:docx?|dotx?|xlsx?|pptx?|odt|odp|rtf|tex|dvi|pdf|ps|eps|indd|qxd|p65|fm|txt|html?|md|cdr|ai|pages|key)"
    r"|(?:https?|file)://.*|[0-9a-f-]{16,})",
    re.I,
)


@dataclass(frozen=True)
class _Line:
    """A line of text, its position (`top` and `bottom` as shares of the page's height, from the top) and its look."""

    text: str
    page: int
    box: int
    left: float
    top: float
    bottom: float
    size: float
    bold: bool


def read_pdf(data: bytes) -> Reading:
    """Return a PDF file's title and text.

    Raises:
        DocumentError: the file is damaged, encrypted, or has no text.
    """
    metadata_title, lines, pages = _opened(data)
    if not any(line.text.strip() for line in lines):
        reason = "it is a PDF without text, perhaps scanned pages" if pages else "it is a PDF without pages"
        remedy = "Run it through OCR first." if pages else "Repair the file, or remove it."
        raise DocumentError("", reason, remedy)
    text = "".join(line.text for line in lines)
    if len("".join(_UNKNOWN.findall(text))) > _MOST_UNKNOWN * len(text):
        raise DocumentError("", "its fonts do not map to characters", "Run it through OCR first.")
    lines = [line for line in _without_running(lines, pages) if line.text]
    blocks = _blocks(lines)
    title = "" if _JUNK_TITLE.fullmatch(metadata_title) else metadata_title
    title = title or _first_title(blocks)
    return Reading(title, as_text(without_title(title, blocks)))


def _opened(data: bytes) -> tuple[str, list[_Line], int]:
    """Return the title in a file's metadata, its lines, and its number of pages."""
    from pdfminer.high_level import extract_pages
    from pdfminer.layout import LAParams
    from pdfminer.pdfdocument import PDFDocument, PDFEncryptionError, PDFPasswordIncorrect
    from pdfminer.pdfparser import PDFParser
    from pdfminer.pdftypes import resolve1

    logging.getLogger("pdfminer").setLevel(logging.ERROR)
    try:
        document = PDFDocument(PDFParser(io.BytesIO(data)))
        declared = resolve1(resolve1(document.catalog.get("Pages")).get("Count"))
        titles = [title for info in document.info if (title := _decoded(resolve1(info.get("Title"))))]
        lines: list[_Line] = []
        page = -1
        for page, layout in enumerate(
            extract_pages(io.BytesIO(data), laparams=LAParams(boxes_flow=None, all_texts=True))
        ):
            lines += _lines(layout, page)
    except (PDFPasswordIncorrect, PDFEncryptionError):
        raise DocumentError("", "it is encrypted", "Save it without a password.") from None
    except MemoryError:
        raise
    except Exception as error:  # the library raises many types for damaged files
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DocumentError("", f"it is a damaged PDF ({reason})", "Repair the file, or remove it.") from error
    if isinstance(declared, int) and page + 1 < declared:
        reason = f"it is a damaged PDF (only {page + 1:,} of its {declared:,} pages exist)"
        raise DocumentError("", reason, "Repair the file, or remove it.")
    return (titles[0] if titles else ""), lines, page + 1


def _decoded(title: Any) -> str:
    from pdfminer.utils import decode_text

    if not isinstance(title, str | bytes):
        return ""
    text = decode_text(title) if isinstance(title, bytes) else title
    return " ".join(text.replace("\0", "").split())


def _lines(layout: Any, page: int) -> Iterator[_Line]:
    from pdfminer.layout import LTChar, LTTextBox

    height = layout.height or 1.0
    boxes = list(_boxes(layout, LTTextBox))
    positions = [Box(number, box.x0, box.x1, -box.y1, -box.y0) for number, box in enumerate(boxes)]
    for number in (position.number for position in in_reading_order(positions)):
        for line in boxes[number]:
            chars = [char for char in line if isinstance(char, LTChar) and not char.get_text().isspace()]
            text = " ".join(_LEADERS.sub(" ", _letters(line.get_text())).split())
            if chars and text:
                bold = sum(bool(re.search(r"bold|black|heavy", char.fontname, re.I)) for char in chars)
                top, bottom = (1 - (y - layout.y0) / height for y in (line.y1, line.y0))
                size = median(char.size for char in chars)
                yield _Line(text, page, number, line.x0, top, bottom, size, 2 * bold > len(chars))


def _letters(text: str) -> str:
    """Return a line in normal form, but keep a soft hyphen at its end, which marks a word that continues."""
    line = text.rstrip()
    return f"{written(line)}\u00ad" if line.endswith("\u00ad") else written(line)


def _boxes(item: Any, kind: type) -> Iterator[Any]:
    for inner in item:
        if isinstance(inner, kind):
            yield inner
        elif hasattr(inner, "__iter__"):  # a figure; some programs write whole pages as figures
            yield from _boxes(inner, kind)


def _without_running(lines: Sequence[_Line], pages: int) -> list[_Line]:
    """Remove page numbers, and lines that repeat on many pages at the same height in the margin.

    Lines that are the same on all pages are kept once, since they may name the document. At the top of the first page,
    this is in place; elsewhere, it is at the end, since they would interrupt a paragraph that a page ends.
    """
    margin = [line for line in lines if line.bottom < _MARGIN or line.top > 1 - _MARGIN]
    pages_of: dict[_Signature, set[int]] = {}
    for line in margin:
        for signature in _signatures(line):
            pages_of.setdefault(signature, set()).add(line.page)
    least = min(_LEAST_PAGES, max(2, pages - 1))
    running = {
        signature
        for signature, found_on in pages_of.items()
        if len(found_on) >= (2 if signature[0] is None else max(least, _FAR_PAGES * _counts_far(signature)))
    }
    dropped: set[_Line] = set()
    moved: list[_Line] = []
    seen: set[str] = set()
    for line in margin:
        found = running.intersection(_signatures(line))
        if not found:
            continue
        counts = any(is_counting for _, _, numbers in found for is_counting, _ in numbers)
        in_place = line.page == 0 and line.bottom < _MARGIN
        if counts or line.text in seen or not in_place:
            dropped.add(line)
        if not (counts or line.text in seen or in_place):
            moved.append(line)
        seen.add(line.text)
    kept = [line for line in lines if line not in dropped] + moved
    return [replace(line, text=_UNKNOWN.sub("", line.text).strip()) for line in kept]


def _signatures(line: _Line) -> Iterator[_Signature]:
    """Yield what a running line has in common on all pages: its words, its approximate height, and its numbers.

    A number is either the same on all pages, or counts up with them. The latter is only tried for numbers that could be
    those of the pages: the numbers of consecutive invoices also count up. A line with only a page number may be
    anywhere in the margin.
    """
    if _PAGE_NUMBER.fullmatch(line.text):
        yield None, 0, ((True, _first_number(line.text) - line.page),)
        return
    words, height = _DIGITS.sub("0", line.text.casefold()), line.top * 100
    choices = []
    for number in map(int, _DIGITS.findall(line.text)[:_MOST_NUMBERS]):
        offset = number - line.page
        outside = line.text.startswith(str(number)) or line.text.endswith(str(number))  # as in journals and books
        choices.append(
            [(False, number), (True, offset)] if outside or abs(offset) <= _MOST_BEFORE else [(False, number)]
        )
    rest = "".join(_DIGITS.findall(line.text)[_MOST_NUMBERS:])
    for numbers in product(*choices):
        for rounded in {int(height), int(height + 0.5)}:
            yield words + rest, rounded, numbers


def _counts_far(signature: _Signature) -> bool:
    """Whether a number counts up with the pages, but far from their own numbers, as in a part of a journal."""
    return any(counting and abs(number) > _MOST_BEFORE for counting, number in signature[2])


def _first_number(text: str) -> int:
    """Return the number in a line with a page number, which may be in Roman numerals."""
    if digits := _DIGITS.search(text):
        return int(digits[0])
    values = [_ROMAN[letter] for letter in (_NUMERALS.findall(text.casefold()) or [""])[-1]]
    return sum(-value if value < following else value for value, following in pairwise([*values, 0]))


def _blocks(lines: Sequence[_Line]) -> list[Block]:
    body = _body_size(lines)
    vocabulary = Counter(word.casefold() for line in lines for word in _WORD.findall(line.text))
    blocks: list[Block] = []
    sizes: list[float] = []
    for part in _parts(lines):
        size, bold = median(line.size for line in part), all(line.bold for line in part)
        text = tidy(_joined([line.text for line in part], vocabulary))
        words = word_count(text)
        large = size > _LARGER * body or (bold and not _ENDS.search(text) and len(part) < 3)
        if large and words <= _HEADING_WORDS and any(c.isalpha() for c in text):
            block = Block(Kind.HEADING, text, 1 if size > _LARGER * body else 2)
        elif bullet := _BULLET.match(text):
            mark = bullet[1] if bullet[1][0].isalnum() or bullet[1][0] == "(" else "-"
            block = Block(Kind.ITEM, text[bullet.end() :], mark=mark)
        else:
            block = Block(Kind.PARAGRAPH, text)
        if blocks and _continues(blocks[-1], block, sizes[-1], size):
            blocks[-1] = replace(blocks[-1], text=tidy(_joined([blocks[-1].text, block.text], vocabulary)))
        else:
            blocks.append(block)
            sizes.append(size)
    return blocks


def _body_size(lines: Sequence[_Line]) -> float:
    """Return the font size of most letters."""
    count: Counter[float] = Counter()
    for line in lines:
        count[round(line.size, 1)] += len(line.text)
    return count.most_common(1)[0][0] if count else 1.0


def _parts(lines: Sequence[_Line]) -> Iterator[list[_Line]]:
    """Group lines that belong together.

    The lines of a group are in one box and look the same. A new list item, an indented line or a wider gap starts a new
    group.
    """
    part: list[_Line] = []
    for line in lines:
        if part and _starts_part(part, line):
            yield part
            part = []
        part.append(line)
    if part:
        yield part


def _starts_part(part: Sequence[_Line], line: _Line) -> bool:
    """Whether a line starts a new group after the lines of `part`."""
    previous = part[-1]
    if (previous.page, previous.box) != (line.page, line.box) or abs(previous.size - line.size) > 0.8:
        return True
    if previous.bold != line.bold and len({each.bold for each in part}) == 1 and _ENDS.search(previous.text) is None:
        return previous.bold  # a bold heading, and the text below it
    if _BULLET.match(line.text) and (_BULLET.match(part[0].text) or _ENDS.search(previous.text)):
        return True
    gap = line.top - previous.bottom
    if len(part) > 1 and gap > 0.005 + 1.5 * max(0.0, part[1].top - part[0].bottom):
        return True
    indent = line.left - min(each.left for each in part)
    return len(part) > 1 and indent > 0.8 * line.size and bool(_ENDS.search(previous.text))


def _continues(previous: Block, block: Block, previous_size: float, size: float) -> bool:
    """Whether a block continues the previous one after the end of a column or page."""
    return (
        block.kind is Kind.PARAGRAPH and previous.kind in (Kind.PARAGRAPH, Kind.ITEM)
        and abs(size - previous_size) < 0.8 and block.text[0].islower() and not _ENDS.search(previous.text)
    )  # fmt: skip


def _joined(lines: Iterable[str], vocabulary: Counter[str]) -> str:
    """Join lines to running text, and join words that were hyphenated at the end of a line."""
    text = ""
    for line in lines:
        broken = _BROKEN_WORD.search(text)
        if not broken:
            text = unwrapped(f"{text}\r{line}", "\r").replace("\r", " ") if text else line
        elif broken[2] == "\u00ad" or _is_one_word(broken[1], line, vocabulary):
            text = text[:-1] + line
        else:
            text += line
    return text


def _is_one_word(first: str, line: str, vocabulary: Counter[str]) -> bool:
    """Whether a hyphen at the end of a line only breaks a word.

    This depends on which spelling occurs elsewhere in the document and, if none or both do, on the word's first part.
    """
    rest = _WORD.match(line)
    if rest is None or not rest[0][0].islower() or first[-1].isdigit():
        return False
    joined, hyphenated = f"{first}{rest[0]}".casefold(), f"{first}-{rest[0]}".casefold()
    if vocabulary[joined] != vocabulary[hyphenated]:
        return vocabulary[joined] > vocabulary[hyphenated]
    return first.casefold() not in _PREFIXES


def _first_title(blocks: Sequence[Block]) -> str:
    """Return the first large heading near the beginning of the text, or the first line if it could be a title."""
    for block in blocks[:4]:
        if block.kind is Kind.HEADING and block.level == 1:
            return block.text
    if len(blocks) > 1 and blocks[0].kind is Kind.HEADING:
        return blocks[0].text
    return blocks[0].text if len(blocks) > 1 and blocks[0].kind is Kind.PARAGRAPH and is_title(blocks[0].text) else ""
