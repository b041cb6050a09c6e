"""Read web pages: their title, and their text without menus, banners, footers and similar elements.

trafilatura (Barbaresi, ACL 2021) extracts the content of a page. It is made for articles and misses other kinds of
content. Its result is therefore a vote on each block, and prose between blocks that it keeps is kept as well. If it
finds almost nothing, the whole page is kept.
"""

import codecs
import logging
import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from dyprag.corpora.reading.blocks import Block, Kind, Reading, as_text, letters, without_title
from dyprag.corpora.reading.encodings import binary, conversion, undecodable
from dyprag.corpora.reading.html import SILENT, blocks_of, is_data, is_hidden, parse, remove, rows_of
from dyprag.corpora.reading.tables import row_blocks
from dyprag.corpora.text.words import word_count

_DECLARED = re.compile(rb"""<(?:meta|\?xml)\b[^>]{0,200}?(?:charset|encoding)\s*=\s*["']?\s*([\w.:-]+)""", re.I)
_SEPARATORS = re.compile(r"\s+(?:[|–—·•»«›‹:-]{1,2}|::)\s+")
_HOLLOW = re.compile(
    r"(?:home|index|untitled|welcome|start|page|document|new page|main|loading)(?: ?\d+)?(?:\W*)", re.I
)
_ROLES = frozenset("navigation banner contentinfo search dialog alertdialog menu menubar toolbar tooltip".split())
# Names of classes and ids that only elements around the content have.
_FURNITURE = re.compile(
    r"(?:^|[\s_-])(?:cookies?[\s_-]?(?:banner|consent|notice|bar|popup|message)|skip-?(?:link|nav|to)\S*|sr-only"
    r"|screen-reader-text|visually-?hidden|share-?(?:buttons?|bar|links)|social-?(?:links|share|icons)|headerlink"
    r"|anchorjs-link|mw-editsection|mw-jump-link|jump-to-nav|noprint|printfooter|catlinks|navbox|sitenotice)"
    r"(?=$|[\s_-])",
    re.I,
)
# Ordinary words, which name such elements, but also sections about these subjects.
_PERHAPS_FURNITURE = re.compile(
    r"(?:^|[\s_-])(?:cookies?(?:[\s_-]?(?:law|policy))?|gdpr|consent|breadcrumbs?|social-?media|newsletter\S*"
    r"|pagination|pager)(?=$|[\s_-])",
    re.I,
)
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_MARKUP = re.compile(rb"<(script|style)\b.*?</\1\s*>|<!--.*?-->|<[^>]*>", re.I | re.S)
_MOST_ACCENTED = 0.7  # maximum share of accented letters in the words that have some, in Western languages
_XHTML = re.compile(r"\s*<\?xml\b|<html[^>]*\bxmlns\s*=", re.I)
_CDATA = re.compile(r"<!\[CDATA\[(.*?)\]\]>", re.S)
# The encodings that browsers use instead of some declared ones: supersets, which the pages are actually in.
_ACTUAL = {
    "iso8859-1": "cp1252", "ascii": "cp1252", "iso8859-9": "cp1254", "gb2312": "gb18030", "gbk": "gb18030",
    "shift_jis": "cp932", "euc_kr": "cp949", "big5": "big5hkscs",
}  # fmt: skip
_LEAST_KEPT = 0.25  # minimum share of a page's prose; if less is extracted, the extractor has failed on the page
_LEAST_PROSE = 4  # minimum words of a block that is probably prose
_PAGE_OF_WORDS = 40  # minimum words of a page's text; a shorter noscript element only asks to turn scripts on
_SECTION_OF_WORDS = 40  # minimum words outside links of a section without a heading; banners have fewer
_SENTENCE = 8  # minimum words of a block that is certainly a sentence
_LISTS = (Kind.ITEM, Kind.ROW)
_MOST_LINKED = 0.5  # maximum share of letters in links; blocks with more are navigation


def read_page(data: bytes) -> Reading:
    """Return a page's title and text.

    Raises:
        DocumentError: the page is not text.
    """
    text = decoded(data)
    if _XHTML.search(text[:2000]):  # in HTML, CDATA sections are comments
        text = _CDATA.sub(lambda section: escape(section[1]), text)
    root = parse(text)
    if root is None:
        return Reading("", "")
    title = title_of(root)
    _clean(root)
    blocks = _content(root, title)
    return Reading(title, as_text(without_title(title, blocks)))


def decoded(data: bytes) -> str:
    """Decode a page by its byte order mark, its declared encoding, or as UTF-8 or Windows-1252.

    Single wrong bytes in a page with a known encoding become U+FFFD, as in browsers. In another encoding, the whole
    page would be unreadable.

    Raises:
        DocumentError: the page is binary, or its encoding is neither declared nor one of these two.
    """
    declared = _DECLARED.search(data[:4096])
    marks = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
    names = [name for mark, name in marks.items() if data.startswith(mark)]
    names += [_actual_encoding(declared[1].decode("ascii", "replace"))] if declared else []
    attempts = [(name, "strict") for name in (*names, "utf-8")] + [(name, "replace") for name in names]
    for name, errors in attempts:
        try:
            text = data.decode(name, errors)
            if 2 * text.count("\ufffd") <= sum(not letter.isascii() for letter in text) or errors == "strict":
                break  # otherwise the declaration is wrong
        except (LookupError, UnicodeError):
            continue
    else:
        text = _decoded_western(data)
    if "\0" in text:
        raise binary(data)
    return text


def _decoded_western(data: bytes) -> str:
    """Decode a page that declares no encoding and is not UTF-8: as Windows-1252, as browsers do, if it is Western.

    Only the visible words are considered, since most of a page in another script may be tags, which are ASCII. A page
    in which some characters are valid UTF-8 is a damaged page in UTF-8.
    """
    if b"\0" in data:
        raise binary(data)
    visible = _MARKUP.sub(b" ", data)
    western = "CP1252" in conversion(visible) and data.decode("utf-8", "ignore").isascii()
    text = visible.decode("cp1252", "replace")
    words = [word for word in re.findall(r"[^\W\d_]+", text) if not word.isascii()]
    accented = sum(not letter.isascii() for word in words for letter in word)
    if western and "\ufffd" not in text and accented <= _MOST_ACCENTED * sum(map(len, words)):
        return data.decode("cp1252", "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise undecodable(error, visible) from error


def _actual_encoding(declared: str) -> str:
    """Return the encoding that browsers use for a declaration. The declaration itself was read as ASCII."""
    try:
        name = codecs.lookup(declared).name
    except LookupError:
        return declared
    return "utf-8" if name.startswith(("utf-16", "utf-32")) else _ACTUAL.get(name, name)


def title_of(root: Any) -> str:
    """Return the title of a page.

    This is a heading that the page's title contains. Without one, it is the title for sharing (og:title), the title
    element without the site's name, or the first heading.
    """
    headings = _headings(root, "h1") or _headings(root, "h2")
    own = next((_line(t.text_content()) for t in root.iter("title")), "")
    shared = next((_line(m.get("content")) for m in root.iter("meta") if m.get("property") == "og:title"), "")
    for heading in headings:
        if letters(heading) and (letters(heading) in letters(own) or letters(heading) in letters(shared)):
            return heading
    for title in (shared, _without_site(own, root)):
        if title and not _HOLLOW.fullmatch(title):
            return title
    return headings[0] if headings else ""


def _headings(root: Any, tag: str) -> list[str]:
    return [text for h in root.iter(tag) if (text := _line("".join(h.itertext()).replace("¶", "")))]


def _without_site(title: str, root: Any) -> str:
    """Remove the site's name, if the page declares it, from the beginning or end of a title."""
    names = {
        letters(meta.get("content") or "")
        for meta in root.iter("meta")
        if meta.get("property") == "og:site_name" or meta.get("name") == "application-name"
    }
    parts = _SEPARATORS.split(title)
    for index, rest in ((-1, parts[:-1]), (0, parts[1:])):
        if rest and (letters(parts[index]) in names or (_HOLLOW.fullmatch(parts[index]) and index == 0)):
            kept = rest[0] if index == -1 else rest[-1]
            return title[title.index(rest[0]) : title.rindex(rest[-1]) + len(rest[-1])] if len(rest) > 1 else kept
    return title


def _line(text: str | None) -> str:
    return " ".join((text or "").split())


def _clean(root: Any) -> None:
    """Remove hidden elements, and elements that are not content by their tag, role or name.

    An element with at least a third of the page's prose is content, whatever its name is.
    """
    for element in list(root.iter("noscript")):  # pages that are filled by a script have their text here
        if word_count(element.text_content()) >= _PAGE_OF_WORDS:
            element.tag = "div"
    for element in list(root.iter()):
        if element is not root and (not isinstance(element.tag, str) or element.tag in SILENT):
            remove(element)
    most = _prose(root) / 3
    for element in list(root.iter()):
        if element is root:
            continue
        if is_hidden(element):  # a long hidden element with most of the page's prose is shown later by a script
            small = _prose(element) < most or word_count(element.text_content()) < _PAGE_OF_WORDS
        else:
            small = _is_furniture(element) and _prose(element) < most
        if small:
            remove(element)


def _prose(element: Any) -> int:
    """Return the number of characters below an element that are not in links."""
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
    names = f"{element.get('id') or ''} {element.get('class') or ''}"
    if _FURNITURE.search(names):
        return not _is_named_by_heading(element)
    return bool(_PERHAPS_FURNITURE.search(names)) and not _is_section(element)


def _is_named_by_heading(element: Any) -> bool:
    """Whether the id of an element is its heading, as in documentation: a section about cookie banners is content."""
    name = letters(element.get("id") or "")
    return bool(name) and any(letters("".join(heading.itertext())) == name for heading in element.iter(*_HEADINGS))


def _is_section(element: Any) -> bool:
    """Whether an element has a heading of its own and text below it, or much text. Links and forms do not count."""
    blocks = blocks_of(element)
    words = sum(
        word_count(block.text) for block in blocks if block.kind is not Kind.HEADING and block.linked <= _MOST_LINKED
    )
    own = any(block.kind is Kind.HEADING for block in blocks) and next(element.iter("form"), None) is None
    return words >= (_LEAST_PROSE + 1 if own else _SECTION_OF_WORDS)


def _content(root: Any, title: str) -> list[Block]:
    """Return the blocks of a page that are its content."""
    blocks = blocks_of(root)
    prose = [word_count(block.text) * (block.linked <= _MOST_LINKED) for block in blocks]
    if sum(prose) < _PAGE_OF_WORDS:  # a fragment, too short to find the content in it
        return [block for block in blocks if block.linked <= _MOST_LINKED] or blocks
    votes = _votes(blocks, _extracted(root))
    if sum(words for words, vote in zip(prose, votes, strict=True) if vote) < _LEAST_KEPT * sum(prose):
        return [block for block in blocks if block.linked <= _MOST_LINKED] or blocks
    region = _region(blocks, votes, title)
    kept = [_keeps(block, vote, index in region) for index, (block, vote) in enumerate(zip(blocks, votes, strict=True))]
    for index in reversed(range(len(blocks))):  # drop headings whose content, a list of links, was dropped
        if blocks[index].kind is Kind.HEADING and not votes[index] and not any(kept[index + 1 : index + 2]):
            kept[index] = False
    return [block for block, keep in zip(blocks, kept, strict=True) if keep]


def _votes(blocks: Sequence[Block], text: str) -> list[bool]:
    """Return for each block whether the extracted text contains it."""
    extracted = letters(text)
    return [bool(content := letters(block.text)) and content in extracted for block in blocks]


def _region(blocks: Sequence[Block], votes: Sequence[bool], title: str) -> range:
    """Return the range of the content: from the page's heading, or its first sentence, to its last sentence.

    The range includes the whole list or table that it ends in. Short blocks may occur in the extracted text by chance,
    so they neither begin nor end the range.
    """
    sure = [n for n, block in enumerate(blocks) if votes[n] and word_count(block.text) >= _LEAST_PROSE]
    if not sure:
        return range(len(blocks))
    first, last = sure[0], sure[-1]
    titles = [n for n, b in enumerate(blocks) if b.kind is Kind.HEADING and letters(b.text) == letters(title)]
    if titles and (
        titles[0] < first or not any(word_count(blocks[n].text) >= _SENTENCE for n in sure if n < titles[0])
    ):
        first = titles[0]
    while first > 0 and blocks[first - 1].kind is Kind.HEADING and votes[first - 1]:
        first -= 1
    while last + 1 < len(blocks) and blocks[last].kind is blocks[last + 1].kind and blocks[last].kind in _LISTS:
        last += 1
    return range(first, last + 1)


def _keeps(block: Block, vote: bool, inside: bool) -> bool:
    """Whether a block is content: it is inside the region, and the extractor voted for it or it is prose."""
    prose = block.linked <= _MOST_LINKED and (block.kind is not Kind.PARAGRAPH or word_count(block.text) >= 3)
    return inside and (vote or prose)


def _extracted(root: Any) -> str:
    """Return the content that trafilatura extracts. It gets tables as sentences, because it loses some table cells."""
    import copy

    from lxml import html
    from trafilatura import extract

    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)  # it logs an error for every page without content
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
