"""Convert a tree of HTML elements to blocks, with the visible text in document order."""

import re
from collections.abc import Iterator
from typing import Any

from dyprag.corpora.reading.blocks import Block, Kind, tidy
from dyprag.corpora.reading.tables import TABLE_LEVEL, Cell, Row, row_blocks
from dyprag.corpora.text.words import unwrapped
from dyprag.errors import DocumentError

SILENT = frozenset(
    """
    script style noscript template head svg canvas audio video iframe object embed map button select textarea datalist
    input progress meter dialog rp colgroup title
    """.split()
)
_BLOCKS = frozenset(
    """
    html body address article aside blockquote center dd details div dl dt fieldset figcaption figure footer form
    header hgroup hr legend li main menu nav ol p pre section summary ul table caption thead tbody tfoot tr td th
    h1 h2 h3 h4 h5 h6 option
    """.split()
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_RAISED = str.maketrans("0123456789+-−()n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁽⁾ⁿ")
_MOST_SPANNED = 40  # maximum columns or rows that a cell spans; pages use larger numbers for 'all'
_BOLD = frozenset({"b", "strong"})
# The parser would drop all that follows the end of the body. Scripts and comments may contain these tags as text.
_END = re.compile(
    r"<!--.*?(?:-->|\Z)|<(script|style|textarea|title|xmp)\b.*?(?:</\1\s*>|\Z)|(</(?:body|html)(?=[\s/>])[^<>]*>)",
    re.I | re.S,
)
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.I)


def parse(text: str) -> Any:
    """Return the root element of a page or fragment; None if it is empty.

    Raises:
        DocumentError: its elements are nested more deeply than the parser supports, so that text would be lost.
    """
    from lxml import etree, html

    parser = html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, huge_tree=True)
    text = _END.sub(lambda found: "" if found[2] else found[0], text)
    try:
        root = html.document_fromstring(text.encode("utf-8", "replace"), parser=parser)
    except etree.ParserError:  # only white space
        root = None
    if any("depth" in str(error.message).lower() for error in parser.error_log):
        raise DocumentError("", "its elements are nested too deeply", "Simplify it, or convert it to text.")
    return root


def is_hidden(element: Any) -> bool:
    """Whether an element's own attributes hide it."""
    if element.tag in ("html", "body"):
        return False
    by_attribute = "hidden" in element.attrib or element.get("aria-hidden") == "true"
    return by_attribute or bool(_HIDDEN.search(element.get("style") or ""))


def remove(element: Any) -> None:
    """Remove an element from its tree, but keep the text after it."""
    parent = element.getparent()
    if parent is None:
        return
    if element.tail:
        previous = element.getprevious()
        if previous is not None:
            previous.tail = f"{previous.tail or ''} {element.tail}"
        else:
            parent.text = f"{parent.text or ''} {element.tail}"
    parent.remove(element)


def blocks_of(root: Any, pictures: bool = False) -> list[Block]:
    """Return the blocks below an element.

    Args:
        root: the element.
        pictures: whether to include the alternative texts of images.
    """
    return _BlockBuilder(pictures).build(root)


class _BlockBuilder:
    """Builds blocks in one pass through a tree, without recursion, since pages can exceed Python's recursion limit."""

    def __init__(self, pictures: bool) -> None:
        self._pictures = pictures
        self._blocks: list[Block] = []
        self._texts: list[str] = []  # the texts of the current block
        self._linked = 0  # number of their letters that are in links
        self._links = 0  # number of open links
        self._open: list[str] = []  # open block elements
        self._lists: list[int] = []  # number of the last item of each open list; -1 for bullet lists
        self._mark = ""
        self._labels: list[str] = []  # terms of a definition list that still lack their definition

    def build(self, root: Any) -> list[Block]:
        from lxml import etree

        walk = etree.iterwalk(root, events=("start", "end"))
        for event, element in walk:
            tag = element.tag if isinstance(element.tag, str) else ""
            if event == "start":
                if not tag or tag in SILENT:
                    walk.skip_subtree()
                elif tag == "pre" or (tag == "table" and is_data(element)):
                    self._add_preformatted_or_table(tag, element)
                    walk.skip_subtree()
                else:
                    self._enter(tag, element)
            else:
                if tag and tag not in SILENT:
                    self._leave(tag)
                if element is not root and element.tail:
                    self._add_text(element.tail)
        self._flush()
        self._add_labels()
        return self._blocks

    def _add_preformatted_or_table(self, tag: str, element: Any) -> None:
        self._flush()
        if tag == "pre":
            if text := _text(element).strip("\n").rstrip():
                self._add_block(Block(Kind.CODE, text))
            return
        for caption in element.iter("caption"):
            if text := tidy(_text(caption)).replace("\n", " "):
                self._add_block(Block(Kind.HEADING, text, TABLE_LEVEL))
        linked = _linked_share(element)
        for block in row_blocks(rows_of(element), linked):
            self._add_block(block)

    def _enter(self, tag: str, element: Any) -> None:
        if tag in _BLOCKS:
            self._flush()
            self._open.append(tag)
            if tag in ("ul", "ol", "menu"):
                self._lists.append(int(_number(element.get("start"), 1)) - 1 if tag == "ol" else -1)
            elif tag == "li":
                self._mark = self._next_mark()
        elif tag == "br":
            self._add_text("\n", keep=True)
        elif tag == "a" and element.get("href"):
            self._links += 1
        elif tag == "img" and self._pictures and element.get("alt"):
            self._add_text(element.get("alt"))
        elif tag == "q":
            self._add_text("“")
        if element.text and tag not in ("sup", "img"):
            self._add_text(element.text)
        elif tag == "sup" and element.text:
            is_exponent = re.fullmatch(r"[-+−\dn()]+", element.text)
            self._add_text(element.text.translate(_RAISED) if is_exponent else element.text)

    def _leave(self, tag: str) -> None:
        if tag in _BLOCKS and tag not in ("pre",) and self._open and self._open[-1] == tag:
            self._flush()
            self._open.pop()
            if tag in ("ul", "ol", "menu") and self._lists:
                self._lists.pop()
            elif tag == "li":
                self._mark = ""
            elif tag == "dl":
                self._add_labels()
        elif tag == "a" and self._links:
            self._links -= 1
        elif tag == "q":
            self._add_text("”")

    def _next_mark(self) -> str:
        if not self._lists or self._lists[-1] < 0:
            return "-"
        self._lists[-1] += 1
        return f"{self._lists[-1]}."

    def _add_text(self, text: str, keep: bool = False) -> None:
        """Add text to the current block; white space is collapsed unless `keep` is set."""
        self._texts.append(text if keep else re.sub(r"\s+", " ", unwrapped(text)))
        if self._links:
            self._linked += len("".join(text.split()))

    def _flush(self) -> None:
        """End the current block."""
        content, linked = "".join(self._texts), self._linked
        self._texts, self._linked = [], 0
        for part in re.split(r"\n[^\S\n]*\n\s*", content):  # old pages separate paragraphs by two line breaks
            if text := tidy(part):
                share = min(1.0, linked / max(1, len("".join(content.split()))))
                self._add_by_element(text, share)

    def _add_by_element(self, text: str, linked: float) -> None:
        """Add a block whose kind depends on the innermost open element."""
        inner = next((tag for tag in reversed(self._open) if tag in _HEADINGS or tag in ("dt", "dd", "li")), "")
        if inner in _HEADINGS:
            self._add_block(Block(Kind.HEADING, text.replace("\n", " "), _HEADINGS[inner], linked))
        elif inner == "dt":
            self._labels.append(text.replace("\n", " ").rstrip(":"))
        elif inner == "dd" and self._labels:
            label, self._labels = ", ".join(self._labels), []
            self._add_block(Block(Kind.PARAGRAPH, f"{label}: {text}", linked=linked))
        elif inner == "li" and self._mark:
            self._add_block(Block(Kind.ITEM, text, linked=linked, mark=self._mark))
            self._mark = ""
        else:
            self._add_block(Block(Kind.PARAGRAPH, text, linked=linked))

    def _add_labels(self) -> None:
        """Add terms without a definition as paragraphs."""
        labels, self._labels = self._labels, []
        self._blocks += [Block(Kind.PARAGRAPH, label) for label in labels]

    def _add_block(self, block: Block) -> None:
        self._add_labels()
        self._blocks.append(block)


def is_data(table: Any) -> bool:
    """Whether a table contains data, rather than being used for layout."""
    if table.get("role") in ("presentation", "none") or next(_inner_tables(table), None) is not None:
        return False
    rows = list(table.iter("tr"))
    most = max((sum(cell.tag in ("td", "th") for cell in row) for row in rows), default=0)
    if most < 2 or (len(rows) < 2 and next(table.iter("th"), None) is None):
        return False
    return next(table.iter("h1", "h2", "article", "section", "nav", "pre"), None) is None


def _inner_tables(table: Any) -> Iterator[Any]:
    return (inner for inner in table.iter("table") if inner is not table)


def rows_of(table: Any) -> list[Row]:
    """Return a table's rows. A cell that spans several positions appears in each of them."""
    grid: list[Row] = []
    spanning: dict[int, tuple[int, Cell]] = {}  # by column: a cell from above, and how many more rows it fills
    for tr in table.iter("tr"):
        row: list[Cell] = []

        def add_spanning(row: list[Cell] = row) -> None:
            while len(row) in spanning:
                remaining, cell = spanning.pop(len(row))
                if remaining > 1:
                    spanning[len(row)] = (remaining - 1, cell)
                row.append(cell)

        for element in tr:
            if element.tag not in ("td", "th"):
                continue
            add_spanning()
            text = tidy(_text(element)).replace("\n", " ")
            heading = element.tag == "th" or _in_head(element) or _is_bold(element, text)
            across, down = (_number(element.get(name), 1) for name in ("colspan", "rowspan"))
            for column in range(across):
                if down > 1:  # the cell's text is repeated in every row that it spans
                    spanning[len(row)] = (down - 1, Cell(text, heading, column == 0))
                row.append(Cell(text, heading, column == 0))
        add_spanning()
        grid.append(row)
    if any(cell.tag == "th" for cell in table.iter("th")):
        return grid
    bold = [all(c.heading for c in row if c.text) for row in grid]
    if sum(bold) == 1 and bold[0]:  # a first row in bold names the columns
        return grid
    return [[Cell(c.text, False, c.own) for c in row] if not _has_head(table) else row for row in grid]


def _has_head(table: Any) -> bool:
    return next(table.iter("thead"), None) is not None


def _in_head(cell: Any) -> bool:
    row = cell.getparent()
    return row is not None and row.getparent() is not None and row.getparent().tag == "thead"


def _is_bold(cell: Any, text: str) -> bool:
    bold = "".join(_text(part) for part in cell.iter(*_BOLD))
    return bool(text) and "".join(bold.split()) == "".join(text.split())


def _number(value: str | None, default: int) -> int:
    return min(max(int(value), 1), _MOST_SPANNED) if value and value.strip().isdecimal() else default


def _text(element: Any) -> str:
    """Return all text below an element, with line breaks between different blocks and lines."""
    from lxml import etree

    parts: list[str] = []
    walk = etree.iterwalk(element, events=("start", "end"))
    for event, inner in walk:
        silent = not isinstance(inner.tag, str) or inner.tag in SILENT
        if event == "start":
            if silent:
                walk.skip_subtree()
                continue
            parts += ["\n" if inner.tag in _BLOCKS or inner.tag == "br" else "", inner.text or ""]
        elif inner is not element:
            parts += ["\n" if not silent and inner.tag in _BLOCKS else "", inner.tail or ""]
    return "".join(parts)


def _linked_share(element: Any) -> float:
    total = len("".join(_text(element).split()))
    linked = sum(len("".join(_text(link).split())) for link in element.iter("a") if link.get("href"))
    return min(1.0, linked / max(1, total))
