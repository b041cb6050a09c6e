"""Convert Markdown to plain text, without markup and link addresses, and with tables as sentences.

The title comes from the front matter or the first heading.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from dyprag.corpora.reading.blocks import Block, Kind, Reading, as_text, tidy, without_title
from dyprag.corpora.reading.html import SILENT, blocks_of, is_hidden, parse, remove
from dyprag.corpora.reading.tables import TABLE_LEVEL, Cell, row_blocks
from dyprag.corpora.text.words import unwrapped

_FILE = re.compile(r"\S+\.\w{2,5}")  # a file name as the alternative text of an image
_TAGS = re.compile(r"<!--.*?(?:-->|\Z)|<[^>]*>", re.S)
_TITLE = re.compile(r"""^title\s*[:=]\s*(["']?)(.+?)\1\s*$""", re.I | re.M)
_BREAK = re.compile(r"<br\b", re.I)
_TAG = re.compile(r"<(/?)([a-z][\w-]*)([^>]*?)(/?)>", re.I | re.S)
_HIDES = re.compile(r"\shidden(?=[\s=>/]|$)|display\s*:\s*none|visibility\s*:\s*hidden", re.I)
_VOID = frozenset("area base br col embed hr img input link meta source track wbr".split())
# The elements of the HTML standard, with obsolete ones and some of formulas. Other names in angle brackets are text.
_ELEMENTS = """
    a abbr acronym address applet area article aside audio b base basefont bdi bdo bgsound big blink blockquote body br
    button canvas caption center cite code col colgroup data datalist dd del details dfn dialog dir div dl dt em embed
    fieldset figcaption figure font footer form frame frameset h1 h2 h3 h4 h5 h6 head header hgroup hr html i iframe img
    input ins kbd keygen label legend li link main map mark marquee math menu meta meter nav nobr noembed noframes
    noscript object ol optgroup option output p param picture plaintext pre progress q rb rp rt rtc ruby s samp script
    search section select slot small source span strike strong style sub summary sup svg table tbody td template
    textarea tfoot th thead time title tr track tt u ul var video wbr xmp
    mfrac mi mn mo mover mrow mspace msqrt mstyle msub msubsup msup mtable mtd mtext mtr munder
    """.split()
# What follows the name in a tag. 'a <b and c> d' has words there that are no attributes: it is a comparison.
_REST = r"""\s*(?:/?>|/?\Z|[^<>=]*[^<>=\s]\s*=\s*\S|(?:async|autoplay|border|checked|compact|controls|defer|disabled
    |hidden|inert|loop|muted|noshade|nowrap|open|reversed|selected)[\s/>])"""
# An angle bracket that begins neither a tag, a comment, the address of a link, nor a link to an address; or an escaped
# character, which stays as it is.
_NO_MARKUP = re.compile(
    rf"""\\.|(?<!\]\()<(?!/?(?:{"|".join(_ELEMENTS)})(?![\w:.-])(?={_REST})|!--|!doctype\b
    |(?:[a-z][a-z0-9+.-]*://|(?:mailto|tel|sms|urn|doi|news):)[^\s<>]*>|[^\s<>@]+@[^\s<>@]+\.[^\s<>@]+>)""",
    re.I | re.S | re.X,
)
_KEPT_BRACKET = "\ue02b"  # a private-use character that replaces such a bracket during parsing
_FRONT = re.compile(r"\ufeff?(---|\+\+\+)[^\S\n]*\n(.*?)^(?:\1|(?<=\n)\.\.\.)[^\S\n]*(?:\n|\Z)", re.S | re.M)
_ENTRY = re.compile(r"[\w-]+\s*[:=]|\s|$|[#\[-]|\]")  # how the lines of a front matter begin
_TIMES = re.compile(r"(?<=\d)\*(?=\d)")  # the parser would read the product 2*3*4 as emphasis
_KEPT_TIMES = "\ue02a"  # a private-use character that replaces the asterisk during parsing


def read_markdown(text: str) -> Reading:
    """Return the title and text of a Markdown file."""
    from pyromark import events

    front_title, text = _without_front_matter(text)
    text = _NO_MARKUP.sub(lambda found: _KEPT_BRACKET if found[0] == "<" else found[0], text)
    builder = _BlockBuilder()
    for event in events(_TIMES.sub(_KEPT_TIMES, text), options=_options()):
        builder.take(event)
    builder.flush()
    blocks = builder.blocks
    title = front_title or _heading_of(blocks)
    return Reading(title, as_text(without_title(title, blocks)))


def _heading_of(blocks: Sequence[Block]) -> str:
    """Return the heading of the whole text: the first one of level 1, or a heading at the beginning.

    A text that consists of one heading has no title, since no text would be left.
    """
    if len(blocks) < 2:
        return ""
    names = [block.text for block in blocks if block.kind is Kind.HEADING and block.level == 1]
    names += [blocks[0].text] if blocks[0].kind is Kind.HEADING and blocks[0].level < TABLE_LEVEL else []
    return names[0] if names else ""


@lru_cache(maxsize=1)
def _options() -> Any:
    from pyromark import Options

    return (
        Options.ENABLE_TABLES | Options.ENABLE_FOOTNOTES | Options.ENABLE_STRIKETHROUGH | Options.ENABLE_TASKLISTS
        | Options.ENABLE_HEADING_ATTRIBUTES | Options.ENABLE_GFM | Options.ENABLE_WIKILINKS
        | Options.ENABLE_DEFINITION_LIST
    )  # fmt: skip


def _restored(text: str) -> str:
    """Put back the characters that were replaced during parsing."""
    return text.replace(_KEPT_TIMES, "*").replace(_KEPT_BRACKET, "<")


class _BlockBuilder:
    """Builds blocks from the parser's events."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self._texts: list[str] = []  # the texts of the current block
        self._kind, self._level = Kind.PARAGRAPH, 0
        self._lists: list[int | None] = []  # the next number of each open list; None for bullet lists
        self._mark = ""
        self._label = ""  # the current term of a definition list
        self._rows: list[list[Cell]] = []
        self._in_head = False
        self._alt: int | None = None  # index at which the alternative text of an image begins
        self._hidden: tuple[str, int] | None = None  # an open hidden element, and the nesting depth of its tag
        self._hidden_texts: list[str] = []

    def take(self, event: Any) -> None:
        """Process the next event: a string if it has no details, otherwise a dictionary with one entry."""
        if isinstance(event, str):
            self._texts.append("\n" if event == "HardBreak" else "\r" if event == "SoftBreak" else "")
            if event == "Rule":
                self.flush()
            return
        ((name, value),) = event.items()
        if name in ("Text", "Code"):
            (self._hidden_texts if self._hidden else self._texts).append(_restored(value))
        elif name == "InlineHtml":
            self._texts.append("\n" if _BREAK.match(value) else "")
            self._track_hidden(value)
        elif name == "Html":
            self._texts.append(_restored(value.replace(_KEPT_BRACKET, "&lt;")))
        elif name in ("Start", "End"):
            kind, detail = next(iter(value.items())) if isinstance(value, dict) else (value, None)
            handle = getattr(self, f"_{name.lower()}_{kind.lower()}", None)
            if handle:
                handle(detail)

    def _track_hidden(self, source: str) -> None:
        """Process an inline HTML tag, to drop the text in hidden elements."""
        tag = _TAG.match(source)
        if tag is None:
            return
        closes, name, attributes, alone = tag[1], tag[2].lower(), tag[3], tag[4]
        if self._hidden and name == self._hidden[0] and not alone:
            count = self._hidden[1] + (-1 if closes else 1)
            self._hidden = (name, count) if count else None
            self._hidden_texts = self._hidden_texts if count else []
        elif not (self._hidden or closes or alone or name in _VOID) and (name in SILENT or _HIDES.search(attributes)):
            self._hidden = (name, 1)

    def _take_texts(self) -> str:
        """Return and clear the text since the last block. The text after an unclosed hidden tag is included."""
        words, self._texts = "".join([*self._texts, *self._hidden_texts]), []
        self._hidden, self._hidden_texts = None, []
        return words

    def flush(self) -> None:
        """End the current block, if it has text."""
        text = tidy(unwrapped(self._take_texts(), "\r").replace("\r", " "))
        if not text:
            return
        if self._label:
            text, self._label = f"{self._label}: {text}", ""
        kind = Kind.ITEM if self._mark and self._kind is Kind.PARAGRAPH else self._kind
        line = text.replace("\n", " ") if kind is Kind.HEADING else text
        self.blocks.append(Block(kind, line, self._level, mark=self._mark if kind is Kind.ITEM else ""))
        self._mark = "" if kind is Kind.ITEM else self._mark

    def _start_paragraph(self, _: Any) -> None:
        self.flush()

    def _end_paragraph(self, _: Any) -> None:
        self.flush()

    def _start_heading(self, detail: dict[str, Any]) -> None:
        self.flush()
        self._kind, self._level = Kind.HEADING, int(detail["level"][1])

    def _end_heading(self, _: Any) -> None:
        self.flush()
        self._kind, self._level = Kind.PARAGRAPH, 0

    def _start_list(self, first: int | None) -> None:
        self.flush()
        self._lists.append(first)

    def _end_list(self, _: Any) -> None:
        self.flush()
        self._lists.pop()

    def _start_item(self, _: Any) -> None:
        self.flush()
        number = self._lists[-1]
        self._mark = "-" if number is None else f"{number}."
        self._lists[-1] = None if number is None else number + 1

    def _end_item(self, _: Any) -> None:
        self.flush()
        self._mark = ""

    def _start_blockquote(self, _: Any) -> None:
        self.flush()

    def _start_codeblock(self, _: Any) -> None:
        self.flush()

    def _end_codeblock(self, _: Any) -> None:
        text = "".join(self._texts).strip("\n").rstrip()
        self._texts = []
        if text:
            self.blocks.append(Block(Kind.CODE, text))

    def _start_htmlblock(self, _: Any) -> None:
        self.flush()

    def _end_htmlblock(self, _: Any) -> None:
        source, self._texts = "".join(self._texts), []
        if _TAGS.sub("", source).strip() and (root := parse(source)) is not None:
            for element in [element for element in root.iter() if is_hidden(element)]:
                remove(element)
            self.blocks += blocks_of(root)

    def _start_image(self, _: Any) -> None:
        self._alt = len(self._texts)

    def _end_image(self, _: Any) -> None:
        if self._alt is not None:
            alt = "".join(self._texts[self._alt :])
            self._texts[self._alt :] = ["" if _FILE.fullmatch(alt) else alt]
        self._alt = None

    def _start_table(self, _: Any) -> None:
        self.flush()
        self._rows = []

    def _end_table(self, _: Any) -> None:
        self.blocks += row_blocks(self._rows)

    def _start_tablehead(self, _: Any) -> None:
        self._in_head = True
        self._rows.append([])

    def _end_tablehead(self, _: Any) -> None:
        self._in_head = False

    def _start_tablerow(self, _: Any) -> None:
        self._rows.append([])

    def _end_tablecell(self, _: Any) -> None:
        text = tidy(self._take_texts()).replace("\n", " ")
        self._rows[-1].append(Cell(text, self._in_head))

    def _end_definitionlisttitle(self, _: Any) -> None:
        text = tidy(self._take_texts()).replace("\n", " ")
        self._label = text.rstrip(":")

    def _end_definitionlistdefinition(self, _: Any) -> None:
        self.flush()

    def _start_footnotedefinition(self, _: Any) -> None:
        self.flush()


def _without_front_matter(text: str) -> tuple[str, str]:
    """Return the title in a front matter, empty if there is none, and the text after it.

    The parser's own option would also remove text between two rules in the middle of a file. A front matter exists only
    at the very beginning, and consists of keys and values: a text that begins with a rule has none.
    """
    text = text.replace("\r\n", "\n")
    front = _FRONT.match(text)
    if front is None:
        return "", text
    values = _front_values(front[2], front[1] == "---")
    if values is None:
        return "", text
    title = values.get("title")
    if title is not None and not isinstance(title, str | list | dict):  # TOML has types; the title is what is written
        title = match[2] if (match := _TITLE.search(front[2])) else ""
    return " ".join(title.split()) if isinstance(title, str) else "", text[front.end() :]


def _front_values(source: str, is_yaml: bool) -> dict[Any, Any] | None:
    """Return the entries of a front matter; None if it is ordinary text."""
    import tomllib

    import yaml

    try:
        # The base loader keeps every value as it is written: 'No' and '007' are titles, not types.
        values = yaml.load(source, Loader=yaml.BaseLoader) if is_yaml else tomllib.loads(source)
    except (yaml.YAMLError, tomllib.TOMLDecodeError, ValueError):  # usually a title that contains a colon
        lines = source.splitlines()
        if not any(re.match(r"[\w-]+\s*[:=]", line) for line in lines) or not all(map(_ENTRY.match, lines)):
            return None
        match = _TITLE.search(source)
        return {"title": match[2]} if match else {}
    return values if isinstance(values, dict) and values else None
