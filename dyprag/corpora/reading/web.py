"""Web pages: their title, and their text without menus, banners, footers and the like.

trafilatura (Barbaresi, ACL 2021) says which parts of a page are its content. It is made for articles, and passes over
some of what else a page may hold; so what it says is a vote on each block, and prose that stands between the blocks
that it keeps is kept as well. Of a page of which it finds next to nothing, all is kept.
"""

import codecs
import logging
import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from dyprag.corpora.reading.blocks import Block, Kind, Reading, as_text, letters, without_title
from dyprag.corpora.reading.encodings import binary
from dyprag.corpora.reading.html import SILENT, blocks_of, is_data, is_hidden, parse, remove, rows_of
from dyprag.corpora.reading.tables import row_blocks
from dyprag.corpora.text.words import word_count

_DECLARED = re.compile(rb"""<(?:meta|\?xml)\b[^>]{0,200}?(?:charset|encoding)\s*=\s*["']?\s*([\w.:-]+)""", re.I)
_SEPARATORS = re.compile(r"\s+(?:[|–—·•»«›‹:-]{1,2}|::)\s+")
_HOLLOW = re.compile(
    r"(?:home|index|untitled|welcome|start|page|document|new page|main|loading)(?: ?\d+)?(?:\W*)", re.I
)
_ROLES = frozenset("navigation banner contentinfo search dialog alertdialog menu menubar toolbar tooltip".split())
# What the names of classes and ids say of furniture that is never content, wherever it stands.
_FURNITURE = re.compile(
    r"(?:^|[\s_-])(?:cookies?(?:[\s_-]?(?:banner|consent|notice|bar|popup|law|policy|message))?|gdpr|consent"
    r"|breadcrumbs?|skip-?(?:link|nav|to)\S*|sr-only|screen-reader-text|visually-?hidden|share-?(?:buttons?|bar|links)"
    r"|social-?(?:links|share|media|icons)|newsletter\S*|pagination|pager|headerlink|anchorjs-link|mw-editsection"
    r"|mw-jump-link|jump-to-nav|noprint|printfooter|catlinks|navbox|sitenotice)(?=$|[\s_-])",
    re.I,
)
_XHTML = re.compile(r"\s*<\?xml\b|<html[^>]*\bxmlns\s*=", re.I)
_CDATA = re.compile(r"<!\[CDATA\[(.*?)\]\]>", re.S)
# What browsers take for some encodings that pages declare: larger ones, which the pages are in.
_MEANT = {
    "iso8859-1": "cp1252", "ascii": "cp1252", "iso8859-9": "cp1254", "gb2312": "gb18030", "gbk": "gb18030",
    "shift_jis": "cp932", "euc_kr": "cp949", "big5": "big5hkscs",
}  # fmt: skip
_LEAST_KEPT = 0.25  # of a page's prose: where less is taken for content, the extractor has not understood the page
_LEAST_PROSE = 4  # words of a block that is likely prose
_PAGE_OF_WORDS = 40  # that may be the text of a page; fewer in a noscript element ask for scripts to be turned on
_SENTENCE = 8  # words of a block that is a sentence, wherever it stands
_LISTS = (Kind.ITEM, Kind.ROW)
_MOST_LINKED = 0.5  # of a block's letters: what has more leads elsewhere


def read_page(data: bytes) -> Reading:
    """A page's title and text.

    Raises:
        DocumentError: it is no text.
    """
    text = decoded(data)
    if _XHTML.search(text[:2000]):  # elsewhere it is a comment
        text = _CDATA.sub(lambda section: escape(section[1]), text)
    root = parse(text)
    if root is None:
        return Reading("", "")
    title = title_of(root)
    _clean(root)
    blocks = _content(root, title)
    return Reading(title, as_text(without_title(title, blocks)))


def decoded(data: bytes) -> str:
    """The text of a page, by its byte order mark, its declaration, or what it looks like.

    Raises:
        DocumentError: it is binary.
    """
    declared = _DECLARED.search(data[:4096])
    marks = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
    names = [name for mark, name in marks.items() if data.startswith(mark)]
    names += [_meant(declared[1].decode("ascii", "replace"))] if declared else []
    for name in [*names, "utf-8"]:
        try:
            text = data.decode(name)
            break
        except (LookupError, UnicodeDecodeError):
            continue
    else:
        text = data.decode("windows-1252", "replace")  # as browsers do
    if "\0" in text:
        raise binary(data)
    return text


def _meant(declared: str) -> str:
    """The encoding that is meant by a declaration, which was read as ASCII."""
    try:
        name = codecs.lookup(declared).name
    except LookupError:
        return "utf-8"
    return "utf-8" if name.startswith(("utf-16", "utf-32")) else _MEANT.get(name, name)


def title_of(root: Any) -> str:
    """What a page calls itself: its heading where the title names it with the site's name around it, else the title
    that it gives to others, else its own, else its first heading."""
    headings = _headings(root, "h1") or _headings(root, "h2")
    given = next((_line(t.text_content()) for t in root.iter("title")), "")
    shared = next((_line(m.get("content")) for m in root.iter("meta") if m.get("property") == "og:title"), "")
    for heading in headings:
        if letters(heading) and (letters(heading) in letters(given) or letters(heading) in letters(shared)):
            return heading
    for title in (shared, _without_site(given, root)):
        if title and not _HOLLOW.fullmatch(title):
            return title
    return headings[0] if headings else ""


def _headings(root: Any, tag: str) -> list[str]:
    return [text for h in root.iter(tag) if (text := _line("".join(h.itertext()).replace("¶", "")))]


def _without_site(title: str, root: Any) -> str:
    """A title without the name of the site at its end or beginning, where the page tells it."""
    names = {
        letters(meta.get("content") or "")
        for meta in root.iter("meta")
        if meta.get("property") == "og:site_name" or meta.get("name") == "application-name"
    }
    parts = _SEPARATORS.split(title)
    for place, rest in ((-1, parts[:-1]), (0, parts[1:])):
        if rest and (letters(parts[place]) in names or (_HOLLOW.fullmatch(parts[place]) and place == 0)):
            kept = rest[0] if place == -1 else rest[-1]
            return title[title.index(rest[0]) : title.rindex(rest[-1]) + len(rest[-1])] if len(rest) > 1 else kept
    return title


def _line(text: str | None) -> str:
    return " ".join((text or "").split())


def _clean(root: Any) -> None:
    """Take out what is no content by its own account: its element, role, name, or that it is hidden. What holds a
    third of a page's prose is its content, whatever it is called."""
    for element in list(root.iter("noscript")):  # pages that a script fills have their text here
        if word_count(element.text_content()) >= _PAGE_OF_WORDS:
            element.tag = "div"
    for element in list(root.iter()):
        if element is not root and (not isinstance(element.tag, str) or element.tag in SILENT):
            remove(element)
    most = _prose(root) / 3
    for element in list(root.iter()):
        if element is root:
            continue
        if is_hidden(element):  # unless a script is to show it: then it is most of the page, and long
            small = _prose(element) < most or word_count(element.text_content()) < _PAGE_OF_WORDS
        else:
            small = _is_furniture(element) and _prose(element) < most
        if small:
            remove(element)


def _prose(element: Any) -> int:
    """Letters below an element that are in no link."""
    linked = sum(len("".join(link.itertext())) for link in element.iter("a"))
    return len("".join(element.itertext())) - linked


def _is_furniture(element: Any) -> bool:
    tag = element.tag
    if tag in ("html", "body", "main", "article", "table", "tbody", "tr", "td"):
        return False
    if tag == "nav" or (element.get("role") or "").lower() in _ROLES:
        return True
    if tag == "footer" and not any(up.tag in ("article", "blockquote") for up in element.iterancestors()):
        return True
    if tag == "sup" and any((a.get("href") or "").startswith("#") for a in element.iter("a")):
        return True  # the number of a footnote
    return bool(_FURNITURE.search(f"{element.get('id') or ''} {element.get('class') or ''}"))


def _content(root: Any, title: str) -> list[Block]:
    """The blocks of a page that are its content."""
    blocks = blocks_of(root)
    prose = [word_count(block.text) * (block.linked <= _MOST_LINKED) for block in blocks]
    if sum(prose) < _PAGE_OF_WORDS:  # a piece of a page, too little to tell what is around what
        return [block for block in blocks if block.linked <= _MOST_LINKED] or blocks
    voted = _voted(blocks, _extracted(root))
    if sum(words for words, keep in zip(prose, voted, strict=True) if keep) < _LEAST_KEPT * sum(prose):
        return [block for block in blocks if block.linked <= _MOST_LINKED] or blocks
    region = _region(blocks, voted, title)
    kept = [_keeps(block, vote, place in region) for place, (block, vote) in enumerate(zip(blocks, voted, strict=True))]
    for place in reversed(range(len(blocks))):  # a heading of nothing, its list of links gone
        if blocks[place].kind is Kind.HEADING and not voted[place] and not any(kept[place + 1 : place + 2]):
            kept[place] = False
    return [block for block, keep in zip(blocks, kept, strict=True) if keep]


def _voted(blocks: Sequence[Block], text: str) -> list[bool]:
    """For each block whether it stands in the extracted text."""
    found = letters(text)
    return [bool(wanted := letters(block.text)) and wanted in found for block in blocks]


def _region(blocks: Sequence[Block], voted: Sequence[bool], title: str) -> range:
    """Where the content stands: from the page's own heading, or its first sentence, to its last sentence, with all of
    the list or table that this ends. A few words may stand in the text by chance, so they begin and end nothing."""
    sure = [n for n, block in enumerate(blocks) if voted[n] and word_count(block.text) >= _LEAST_PROSE]
    if not sure:
        return range(len(blocks))
    first, last = sure[0], sure[-1]
    named = [n for n, b in enumerate(blocks) if b.kind is Kind.HEADING and letters(b.text) == letters(title)]
    if named and (named[0] < first or not any(word_count(blocks[n].text) >= _SENTENCE for n in sure if n < named[0])):
        first = named[0]
    while first > 0 and blocks[first - 1].kind is Kind.HEADING and voted[first - 1]:
        first -= 1
    while last + 1 < len(blocks) and blocks[last].kind is blocks[last + 1].kind and blocks[last].kind in _LISTS:
        last += 1
    return range(first, last + 1)


def _keeps(block: Block, vote: bool, inside: bool) -> bool:
    """Whether a block is content: inside what the extractor takes for it and all prose there; outside nothing."""
    prose = block.linked <= _MOST_LINKED and (block.kind is not Kind.PARAGRAPH or word_count(block.text) >= 3)
    return inside and (vote or prose)


def _extracted(root: Any) -> str:
    """What trafilatura takes for the content, tables given to it as sentences: it loses some of their cells."""
    import copy

    from lxml import html
    from trafilatura import extract

    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)  # that it finds nothing is no news to anybody
    tree = copy.deepcopy(root)
    for table in list(tree.iter("table")):
        if table.getparent() is not None and is_data(table):
            _replace(table, row_blocks(rows_of(table)))
    page = html.tostring(tree, encoding="unicode")
    return extract(page, include_comments=False, include_tables=True, deduplicate=False) or ""


def _replace(table: Any, blocks: Iterable[Block]) -> None:
    from lxml import etree

    table.tag, table.text = "div", None
    for child in list(table):
        table.remove(child)
    for block in blocks:
        etree.SubElement(table, "p").text = block.text
