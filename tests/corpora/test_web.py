"""Web pages of several kinds: all of their content is read, and almost nothing around it."""

from html import escape
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyprag.corpora.reading.blocks import Reading
from dyprag.corpora.reading.web import read_page
from dyprag.errors import DocumentError

PAGES = Path(__file__).parent / "pages"
TITLES = {
    "article": "Lighthouse keeper retires after 41 years", "docs": "Configuration", "product": "HR-418 Garden Heater",
    "forum": "Boiler shows E7 after refill", "encyclopedia": "Dunmarrow", "shop_hours": "Tolland Bicycle Repair",
    "fragment": "", "faq": "Questions and answers",
}  # fmt: skip
CONTENT = {
    "article": [
        "By Jon Abbot", "24 metres above Brevik Harbour", "handed over her keys on Friday", "stayed for 41 years",
        "feed Admiral, a one-legged gull", "A night in 1991", "struck the Skarv reef", "one too many",
        "12 minutes fast", "opens on 1 June",
    ],
    "docs": [
        "quarn.toml. Every key has a default", "/etc/quarn", "quarn serve --config /srv/quarn.toml --workers 4",
        "refused since version 3.1", "limit what one client may ask for",
        "Key: max_rows_per_page; Default: 250; Meaning: Rows of one answer.",
        "Key: idle_timeout; Default: 90 s; Meaning: After which a silent connection is closed.", "status 429",
        "counted for each address", "quarn.load(path, strict=True): Reads a configuration",
    ],
    "product": [
        "349 crowns", "up to 20 square metres", "rolled in Dunmere", "about 3 hours", "- Lights in 8 minutes",
        "- No mains connection needed", "- Ash drawer of stainless steel", "Model: HR-418.", "Height: 1.2 m.",
        "Weight: 38 kg.", "Fuel: Wood pellets, 6 mm.", "Heat output: 11 kW.", "Warranty: 5 years.",
    ],
    "forum": [
        "Norrdal 24 shows E7", "1.6 bar", "air in the pump", "bleed screw", "5 mm key", "That was it", "10 minutes",
    ],
    "encyclopedia": [
        "Country: Velland.", "Founded: 1204.", "Mayor: Ilse Brandt (since 2018).", "Population (2021): 18,402.",
        "a town on the river Osk in Velland. It is", "held each November.", "monks of Harrow Abbey", "212 houses",
        "Bridges of Dunmarrow", "Bridge: Old Bridge; Built: 1399; Length: 64 m.",
        "Bridge: Quarn Bridge; Built: 1954; Length: 118 m.", "crooked spire", "museum of locks",
    ],
    "shop_hours": [
        "every make since 1987", "the same day", "Kiln Lane 4", "Ring twice", "30 crowns, fitted",
        "Day: Monday; Open: 8 to 17.", "Day: Saturday; Open: 9 to 13.",
    ],
    "fragment": ["raised in 1871 by Otto Brandl", "mara_vell@osk.example; MAX_ROWS_PER_PAGE = 2*3 < 7."],
    "faq": [
        "May I take a dog", "3 crowns, on the upper deck", "How early", "25 minutes", "café", "Hedda II",
        "Lost property: Room 6 in the harbour office", "0412 77 31",
    ],
}  # fmt: skip
AROUND = {
    "article": [
        "cookies", "Accept all", "Skip to", "Weather", "Subscribe", "Share on", "Related stories", "Ferry fares",
        "newsletter", "fish market", "Imprint", "rights reserved",
    ],
    "docs": ["Search docs", "Deployment", "Frequently asked", "View page source", "Previous", "Copyright", "¶"],
    "product": ["Free delivery", "Kitchen", "Cart (0)", "Add to cart", "Pellet bag", "newsletter", "Returns"],
    "forum": ["Log in", "Register", "Board index", "Page 1 of 1", "Powered by", "board cookies"],
    "encyclopedia": ["donate", "Jump to nav", "edit]", "[1]", "Retrieved", "Categories", "What links", "last edited"],
    "shop_hours": ["Contact", "Best viewed"],
    "fragment": [],
    "faq": ["Timetable", "Winter timetable", "Legal notice"],
}  # fmt: skip


@pytest.mark.parametrize("name", TITLES)
def test_the_whole_content_is_read_without_its_surroundings(name: str):
    reading = read_page((PAGES / f"{name}.html").read_bytes())
    flat = " ".join(reading.text.split())
    assert reading.title == TITLES[name]
    assert [words for words in CONTENT[name] if words not in flat] == []
    assert [words for words in AROUND[name] if words in flat] == []
    assert not reading.text.startswith(reading.title or "\0"), "the title stands before a passage already"
    assert reading == read_page((PAGES / f"{name}.html").read_bytes())


@pytest.mark.parametrize(
    ("head", "body", "title"),
    [
        ("<title>Osk Ferries</title>", "<h1>Fares</h1>", "Osk Ferries"),
        ("<title>Fares | Osk Ferries</title>", "<h1>Fares</h1>", "Fares"),
        ("<title>Home</title>", "<h1>Osk Ferries</h1>", "Osk Ferries"),
        ("<title> Two\n words </title>", "", "Two words"),
        ('<title>x</title><meta property="og:title" content="Fares of 2024">', "", "Fares of 2024"),
        ('<title>Fares - Osk</title><meta property="og:site_name" content="Osk">', "", "Fares"),
        ("", "<h1></h1><h1>Second</h1>", "Second"),
        ("", "<h2>Only a section</h2>", "Only a section"),
        ("", "", ""),
    ],
)
def test_a_pages_title_is_detected(head: str, body: str, title: str):
    page = f"<html><head>{head}</head><body>{body}<p>The ferry sails at noon from the old quay.</p></body></html>"
    assert read_page(page.encode()).title == title


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("plain words only", "plain words only"),
        ("<p>one<p>two", "one\n\ntwo"),
        ("<ul><li>one<li>two<ul><li>deep</ul><li>three</ul>", "- one\n- two\n- deep\n- three"),
        ("<ol start=3><li>three<li>four</ol>", "3. three\n4. four"),
        ("<p>10<sup>6</sup> m<sup>2</sup>, H<sub>2</sub>O<br>next<br><br>apart", "10⁶ m², H2O\nnext\n\napart"),
        ("<dl><dt>Port<dt>Harbour<dd>both<dt>Quay</dl>", "Port, Harbour: both\n\nQuay"),
        ("<pre>  if x:\n    y()\n</pre>", "  if x:\n    y()"),
        ("<p>Tom &amp; Ann &lt;3 a_b *c*</p><svg><text>icon</text></svg>", "Tom & Ann <3 a_b *c*"),
        ("<p>seen</p><p hidden>not</p><p style='display: none'>nor this</p>", "seen"),
        ("<p>ex\u00adam\u00adple</p>", "example"),
        ("<article><footer>A footer of an article.</footer></article>", "A footer of an article."),
        ("<div class=share><p>What a theme calls so may be the whole text of a page.</p></div>",
         "What a theme calls so may be the whole text of a page."),
        ("<div style='display:none'>" + "word " * 60 + "</div>", ("word " * 60).strip()),  # shown by a script
        ("<noscript><p>" + "word " * 50 + "</p></noscript>", ("word " * 50).strip()),
        ("<title>Only a title</title>", ""),
        ("", ""),
    ],
)  # fmt: skip
def test_fragments_are_read_as_a_browser_displays_them(page: str, text: str):
    assert read_page(page.encode()).text == text


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ("<tr><th>A<th>B<tr><td>1<td>2<tr><td>3<td>4", "A: 1; B: 2.\nA: 3; B: 4."),
        ("<tr><th><th>Open<tr><th>Monday<td>8", "Monday; Open: 8."),
        ("<tr><td>Height<td>1 m<tr><td>Colour<td>red", "Height: 1 m.\nColour: red."),
        ("<tr><td><b>A</b><td><b>B</b><tr><td>x<td>y", "A: x; B: y."),
        ("<tr><td>Name<td>Built<td>Size<tr><td>x<td>1399<td>s<tr><td>y<td>1954<td>t",
         "Name: x; Built: 1399; Size: s.\nName: y; Built: 1954; Size: t."),
        ("<tr><th>A<th>B<tr><td rowspan=2>x<td>1<tr><td>2", "A: x; B: 1.\nA: x; B: 2."),
        ("<tr><th colspan=2>Group<tr><th>A<th>B<tr><td>1<td>2", "Group\n\nA: 1; B: 2."),
        ("<tr><th>A<th>B<tr><td colspan=2>North<tr><td>1<td>2", "North\n\nA: 1; B: 2."),
        ("<tr><th>A<th>B<tr><td>1<td>", "A: 1."),
        ("<tr><th>A<th>B", "A: B."),
        ("<tr><td colspan=999999999>wide<td>x<tr><td>a<td>b", "wide; x.\na: b."),
        ("<caption>Bridges</caption><tr><th>A<th>B<tr><td>1<td>Why?", "Bridges\n\nA: 1; B: Why?"),
    ],
)  # fmt: skip
def test_a_tables_cells_have_the_names_of_their_columns(rows: str, text: str):
    assert read_page(f"<table>{rows}</table>".encode()).text == text


def test_a_layout_table_is_not_a_data_table():
    inner = "<table><tr><th>A<th>B<tr><td>1<td>2</table>"
    assert read_page(f"<table><tr><td><p>Left.</p><td>{inner}</table>".encode()).text == "Left.\n\nA: 1; B: 2."


@pytest.mark.parametrize(
    "data",
    [
        "<p>Grüße".encode(), b"<meta charset=latin1><p>Gr\xfc\xdfe", b"<p>Gr\xfc\xdfe", "<p>Grüße".encode("utf-16"),
        b"\xef\xbb\xbf" + "<p>Grüße".encode(), b"<meta charset=nonsense><p>Gr\xc3\xbc\xc3\x9fe",
        b'<?xml version="1.0" encoding="iso-8859-1"?><html><body><p>Gr\xfc\xdfe</p></body></html>',
    ],
)  # fmt: skip
def test_a_pages_encoding_is_detected(data: bytes):
    assert read_page(data) == Reading("", "Grüße")


def test_deeply_nested_pages_are_read_or_rejected_but_never_cut():
    deep = b"<div>" * 1000 + b"<p>The deep sentence is here.</p>" + b"</div>" * 1000 + b"<p>So is this one.</p>"
    assert read_page(deep).text == "The deep sentence is here.\n\nSo is this one."
    with pytest.raises(DocumentError, match="nested too deep"):
        read_page(b"<div>" * 50_000 + b"<p>The deepest sentence.</p>")
    with pytest.raises(DocumentError, match="binary"):
        read_page(b"<p>\0\1\2")


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<p>ada_vell@quarn.example sets MAX_ROWS = 2*3*4 in #1 [a](b) \\n</p>",
         "ada_vell@quarn.example sets MAX_ROWS = 2*3*4 in #1 [a](b) \\n"),
        ("<p>a &lt; b &amp;amp; c&nbsp;&gt;&nbsp;d &#8364; &#150; &hellip;</p>", "a < b &amp; c > d € – …"),
        ("<p>one<!-- gone --> <!--[if IE]>gone<![endif]-->two</p><script>'<p>gone</p>'</script>", "one two"),
        ('<?xml version="1.0"?><html><body><p><![CDATA[a < b & c]]> d</p></body></html>', "a < b & c d"),
        ("<p>one <img src='data:image/png;base64,AAAA'>two</p><template><p>gone</p></template>", "one two"),
        ("<pre>a_b *c*\n  &lt;tag&gt;</pre>", "a_b *c*\n  <tag>"),
        ("<p>zero&#8203;width, soft&shy;hyphen, H<sub>2</sub>O</p>", "zerowidth, softhyphen, H2O"),
        ("<p hidden>x</p><p style='display:none'>y</p><svg><text>z</text></svg><p>shown</p>", "shown"),
    ],
)  # fmt: skip
def test_visible_text_is_kept_and_hidden_text_is_removed(page: str, text: str):
    assert read_page(page.encode()).text == text


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<meta charset=iso-8859-1><p>\u201cthe caf\xe9\u201d</p>".encode("cp1252"), "\u201cthe caf\xe9\u201d"),
        ("<meta charset=utf-16><p>the caf\xe9</p>".encode(), "the caf\xe9"),
        ("<meta charset=gb2312><p>\u9555\u57fa\u955f</p>".encode("gb18030"), "\u9555\u57fa\u955f"),
        ("<meta charset=no-such><p>the caf\xe9</p>".encode(), "the caf\xe9"),
        ("<p>the caf\xe9</p>".encode("utf-16"), "the caf\xe9"),
        ("<p>the caf\xe9</p>".encode("cp1252"), "the caf\xe9"),
    ],
)
def test_a_page_is_decoded_as_browsers_do(page: bytes, text: str):
    assert read_page(page).text == text


def test_a_utf_16_page_without_a_byte_order_mark_is_rejected_with_a_remedy():
    with pytest.raises(DocumentError, match=r"UTF-16LE without a byte order mark.* iconv -f UTF-16LE"):
        read_page("<p>the lamp</p>".encode("utf-16-le"))


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), min_size=1))
def test_escaped_text_is_read_as_displayed(words: str):
    shown = f"The words: {words} and no more"
    assert read_page(f"<p>{escape(shown)}</p>".encode()).text == " ".join(shown.split())


def test_prose_without_spaces_is_content():
    prose = [
        "海角的灯塔由宋安在一九一一年建成，高二十四米，用灰色的石头砌成。",
        "每年春天镇上的人在灯塔下面举行集市，卖鱼和蜂蜜。",
    ] * 2
    links = "".join(f"<li><a href='/{n}'>首页</a></li>" for n in range(8))
    body = "".join(f"<p>{text[:9]}\n  {text[9:]}</p>" for text in prose)
    page = f"<html><body><ul>{links}</ul><article><h1>灯塔</h1>{body}</article><footer>版权所有</footer></body></html>"
    reading = read_page(page.encode())
    assert reading == Reading("灯塔", "\n\n".join(prose))
