"""A tree of HTML elements as blocks: what a browser shows, in the order in which it stands."""

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
    input progress meter dialog rp colgroup
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
_MOST_SPANNED = 40  # columns or rows; pages name larger numbers for 'all'
_BOLD = frozenset({"b", "strong"})
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.I)


def parse(text: str) -> Any:
    """The root element of a page or of a piece of one; None where there is nothing in it.

    Raises:
        DocumentError: it nests deeper than the parser goes, so that some of it would be lost.
    """
    from lxml import etree, html

    parser = html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, huge_tree=True)
    try:
        root = html.document_fromstring(text.encode("utf-8", "replace"), parser=parser)
    except etree.ParserError:  # nothing but space
        root = None
    if any("depth" in str(error.message).lower() for error in parser.error_log):
        raise DocumentError("", "its elements are nested too deeply", "Simplify it, or convert it to text.")
    return root


def is_hidden(element: Any) -> bool:
    """Whether an element says of itself that it is not shown."""
    if element.tag in ("html", "body"):
        return False
    marked = "hidden" in element.attrib or element.get("aria-hidden") == "true"
    return marked or bool(_HIDDEN.search(element.get("style") or ""))


def remove(element: Any) -> None:
    """Take an element out of its tree; the text behind it stays."""
    parent = element.getparent()
    if parent is None:
        return
    if element.tail:
        before = element.getprevious()
        if before is not None:
            before.tail = f"{before.tail or ''} {element.tail}"
        else:
            parent.text = f"{parent.text or ''} {element.tail}"
    parent.remove(element)


def blocks_of(root: Any, pictures: bool = False) -> list[Block]:
    """The blocks below an element.

    Args:
        pictures: whether what an image is said to show stands for it.
    """
    return _Walk(pictures).through(root)


class _Walk:
    """One pass through a tree, without recursion: pages nest deeper than Python does."""

    def __init__(self, pictures: bool) -> None:
        self._pictures = pictures
        self._blocks: list[Block] = []
        self._words: list[str] = []
        self._linked = 0  # letters of them that are in links
        self._links = 0  # open ones
        self._open: list[str] = []  # block elements
        self._lists: list[int] = []  # numbers of the last item of each open list; -1 where it has none
        self._mark = ""
        self._labels: list[str] = []  # of a definition list, until their definition comes

    def through(self, root: Any) -> list[Block]:
        from lxml import etree

        walk = etree.iterwalk(root, events=("start", "end"))
        for event, element in walk:
            tag = element.tag if isinstance(element.tag, str) else ""
            if event == "start":
                if not tag or tag in SILENT:
                    walk.skip_subtree()
                elif tag == "pre" or (tag == "table" and is_data(element)):
                    self._whole(tag, element)
                    walk.skip_subtree()
                else:
                    self._enter(tag, element)
            else:
                if tag and tag not in SILENT:
                    self._leave(tag)
                if element is not root and element.tail:
                    self._say(element.tail)
        self._flush()
        self._give_labels()
        return self._blocks

    def _whole(self, tag: str, element: Any) -> None:
        self._flush()
        if tag == "pre":
            if text := _text(element).strip("\n").rstrip():
                self._give(Block(Kind.CODE, text))
            return
        for caption in element.iter("caption"):
            if text := tidy(_text(caption)).replace("\n", " "):
                self._give(Block(Kind.HEADING, text, TABLE_LEVEL))
        linked = _linked_share(element)
        for block in row_blocks(rows_of(element), linked):
            self._give(block)

    def _enter(self, tag: str, element: Any) -> None:
        if tag in _BLOCKS:
            self._flush()
            self._open.append(tag)
            if tag in ("ul", "ol", "menu"):
                self._lists.append(int(_number(element.get("start"), 1)) - 1 if tag == "ol" else -1)
            elif tag == "li":
                self._mark = self._next_mark()
        elif tag == "br":
            self._say("\n", keep=True)
        elif tag == "a" and element.get("href"):
            self._links += 1
        elif tag == "img" and self._pictures and element.get("alt"):
            self._say(element.get("alt"))
        elif tag == "q":
            self._say("“")
        if element.text and tag not in ("sup", "img"):
            self._say(element.text)
        elif tag == "sup" and element.text:
            self._say(element.text.translate(_RAISED) if re.fullmatch(r"[-+−\dn()]+", element.text) else element.text)

    def _leave(self, tag: str) -> None:
        if tag in _BLOCKS and tag not in ("pre",) and self._open and self._open[-1] == tag:
            self._flush()
            self._open.pop()
            if tag in ("ul", "ol", "menu") and self._lists:
                self._lists.pop()
            elif tag == "li":
                self._mark = ""
            elif tag == "dl":
                self._give_labels()
        elif tag == "a" and self._links:
            self._links -= 1
        elif tag == "q":
            self._say("”")

    def _next_mark(self) -> str:
        if not self._lists or self._lists[-1] < 0:
            return "-"
        self._lists[-1] += 1
        return f"{self._lists[-1]}."

    def _say(self, text: str, keep: bool = False) -> None:
        self._words.append(text if keep else re.sub(r"\s+", " ", unwrapped(text)))
        if self._links:
            self._linked += len("".join(text.split()))

    def _flush(self) -> None:
        said, linked = "".join(self._words), self._linked
        self._words, self._linked = [], 0
        for part in re.split(r"\n[^\S\n]*\n\s*", said):  # two line breaks part paragraphs on old pages
            if text := tidy(part):
                share = min(1.0, linked / max(1, len("".join(said.split()))))
                self._tell(text, share)

    def _tell(self, text: str, linked: float) -> None:
        inner = next((tag for tag in reversed(self._open) if tag in _HEADINGS or tag in ("dt", "dd", "li")), "")
        if inner in _HEADINGS:
            self._give(Block(Kind.HEADING, text.replace("\n", " "), _HEADINGS[inner], linked))
        elif inner == "dt":
            self._labels.append(text.replace("\n", " ").rstrip(":"))
        elif inner == "dd" and self._labels:
            label, self._labels = ", ".join(self._labels), []
            self._give(Block(Kind.PARAGRAPH, f"{label}: {text}", linked=linked))
        elif inner == "li" and self._mark:
            self._give(Block(Kind.ITEM, text, linked=linked, mark=self._mark))
            self._mark = ""
        else:
            self._give(Block(Kind.PARAGRAPH, text, linked=linked))

    def _give_labels(self) -> None:
        labels, self._labels = self._labels, []
        self._blocks += [Block(Kind.PARAGRAPH, label) for label in labels]

    def _give(self, block: Block) -> None:
        self._give_labels()
        self._blocks.append(block)


def is_data(table: Any) -> bool:
    """Whether a table holds data, and does not only lay out a page."""
    if table.get("role") in ("presentation", "none") or next(_inner_tables(table), None) is not None:
        return False
    rows = list(table.iter("tr"))
    most = max((sum(cell.tag in ("td", "th") for cell in row) for row in rows), default=0)
    if most < 2 or (len(rows) < 2 and next(table.iter("th"), None) is None):
        return False
    return next(table.iter("h1", "h2", "article", "section", "nav", "pre"), None) is None


def _inner_tables(table: Any) -> Iterator[Any]:
    return (other for other in table.iter("table") if other is not table)


def rows_of(table: Any) -> list[Row]:
    """A table's rows, cells that span several places in each of them."""
    grid: list[Row] = []
    hanging: dict[int, tuple[int, Cell]] = {}  # by column: rows that a cell from above still fills
    for tr in table.iter("tr"):
        row: list[Cell] = []

        def hang(row: list[Cell] = row) -> None:
            while len(row) in hanging:
                left, cell = hanging.pop(len(row))
                if left > 1:
                    hanging[len(row)] = (left - 1, cell)
                row.append(cell)

        for element in tr:
            if element.tag not in ("td", "th"):
                continue
            hang()
            text = tidy(_text(element)).replace("\n", " ")
            heading = element.tag == "th" or _in_head(element) or _is_bold(element, text)
            across, down = (_number(element.get(name), 1) for name in ("colspan", "rowspan"))
            for place in range(across):
                if down > 1:  # what hangs from above says again what it says, in every row
                    hanging[len(row)] = (down - 1, Cell(text, heading, place == 0))
                row.append(Cell(text, heading, place == 0))
        hang()
        grid.append(row)
    if any(cell.tag == "th" for cell in table.iter("th")):
        return grid
    bold = [all(c.heading for c in row if c.text) for row in grid]
    if sum(bold) == 1 and bold[0]:  # a first row in bold names the columns
        return grid
    return [[Cell(c.text, False, c.own) for c in row] if not _marked(table) else row for row in grid]


def _marked(table: Any) -> bool:
    return next(table.iter("thead"), None) is not None


def _in_head(cell: Any) -> bool:
    row = cell.getparent()
    return row is not None and row.getparent() is not None and row.getparent().tag == "thead"


def _is_bold(cell: Any, text: str) -> bool:
    bold = "".join(_text(part) for part in cell.iter(*_BOLD))
    return bool(text) and "".join(bold.split()) == "".join(text.split())


def _number(given: str | None, other: int) -> int:
    return min(max(int(given), 1), _MOST_SPANNED) if given and given.strip().isdecimal() else other


def _text(element: Any) -> str:
    """All text below an element, words of different blocks and lines apart."""
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
    whole = len("".join(_text(element).split()))
    linked = sum(len("".join(_text(link).split())) for link in element.iter("a") if link.get("href"))
    return min(1.0, linked / max(1, whole))
