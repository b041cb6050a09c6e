"""Markdown and plain text: their text and the source of the title."""

import re
from html import escape
from string import punctuation

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyprag.corpora.reading.blocks import Reading
from dyprag.corpora.reading.encodings import letters_of
from dyprag.corpora.reading.markdown import read_markdown
from dyprag.corpora.reading.plain import read_plain


@pytest.mark.parametrize(
    ("source", "title", "text"),
    [
        ("# Brindlemoor\n\nIt stands.", "Brindlemoor", "It stands."),
        ("Brindlemoor\n===========\n\nIt stands.", "Brindlemoor", "It stands."),
        ("# A *b* `c` [d](e) #\n\nx", "A b c d", "x"),
        ("## A section\n\nx", "A section", "x"),
        ("Intro.\n\n# Title\n\nx", "Title", "Intro.\n\nTitle\n\nx"),
        ("Intro.\n\n## Section\n\nx", "", "Intro.\n\nSection\n\nx"),
        ("---\ntitle: From the front\ntags: [a]\n---\n# Heading\n\nx", "From the front", "Heading\n\nx"),
        ("---\ntitle: Same\n---\n# Same\n\nx", "Same", "x"),
        ("---\ntitle: A: colon\n---\nx", "A: colon", "x"),
        ("---\ntitle: 1984\n---\nx", "1984", "x"),
        ('+++\ntitle = "Toml"\n+++\nx', "Toml", "x"),
        ("---\ntags: [a]\n---\n# Heading\n\nx", "Heading", "x"),
        ("# Alone", "", "Alone"),
        ("no heading\nat all", "", "no heading at all"),
        ("", "", ""),
    ],
)
def test_the_title_comes_from_front_matter_or_first_heading_and_is_not_repeated(source: str, title: str, text: str):
    assert read_markdown(source) == Reading(title, text)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("a *b* **c** ~~d~~ `e_f` \\_g\\_ &amp; 2\\*3", "a b c d e_f _g_ & 2*3"),
        ("[the map](map.md \"t\") <https://a.b> [ref][1]\n\n[1]: http://x.y", "the map https://a.b ref"),
        ("![A lamp](data:image/png;base64,AAAA) ![](x.png) ![[y.png]] [[Quarn|the bridge]]", "A lamp the bridge"),
        ("one <!-- gone --> two <b>three</b><br>four", "one two three\nfour"),
        ("<!-- gone\n\nas well -->\n\nx", "x"),
        ("<div align=center>\n  <p>Raw</p>\n</div>\n\nx", "Raw\n\nx"),
        ("```py\nif a < b:\n    c()\n```", "if a < b:\n    c()"),
        ("- one\n- two\n  wrapped\n    1. deep\n\n\n* * *\n\nx", "- one\n- two wrapped\n1. deep\n\nx"),
        ("- [x] done\n- [ ] open", "- done\n- open"),
        ("> [!NOTE]\n> Quoted\n> text", "Quoted text"),
        ("a[^1]\n\n[^1]: Note.", "a\n\nNote."),
        ("Term\n: Meaning", "Term: Meaning"),
        ("## One\nx\n## Two\ny", "x\n\nTwo\n\ny"),
        ("| Model | Height |\n|---|---:|\n| HR-418 | **1.2 m** |\n| b \\| c | |",
         "Model: HR-418; Height: 1.2 m.\nModel: b | c."),
        ("| | Open |\n|--|--|\n| Mon | 8 |", "Mon; Open: 8."),
        ("<table><tr><th>A</th><th>B</th></tr><tr><td>1</td><td>2</td></tr></table>", "A: 1; B: 2."),
    ],
)  # fmt: skip
def test_markup_is_removed_and_words_are_kept(source: str, text: str):
    assert read_markdown(source).text == text


@pytest.mark.parametrize(
    ("source", "title", "text"),
    [
        ("Quarn Bridge\n\nIt is long.", "Quarn Bridge", "It is long."),
        ("Quarn Bridge\r\n============\r\nIt is long.", "Quarn Bridge", "It is long."),
        ("\n  Quarn Bridge\n\n\nIt is long.\n", "Quarn Bridge", "It is long."),
        ("It is long.\n\nAnd old.", "", "It is long.\n\nAnd old."),
        ("Quarn Bridge\nIt is long.", "", "Quarn Bridge\nIt is long."),
        ("Quarn Bridge\n\n", "", "Quarn Bridge\n\n"),
        ("- an item\n\nx", "", "- an item\n\nx"),
        ("To: all\n\nx", "", "To: all\n\nx"),
        ("https://a.b/c\n\nx", "", "https://a.b/c\n\nx"),
        ("12.5\n\nx", "", "12.5\n\nx"),
        ("word " * 20 + "\n\nx", "", "word " * 20 + "\n\nx"),
        ("", "", ""),
    ],
)
def test_a_text_files_first_line_is_its_title_if_it_looks_like_one(source: str, title: str, text: str):
    assert read_plain(source) == Reading(title, text)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_determines_the_encoding(encoding: str):
    assert letters_of("Grüße".encode(encoding)) == "Grüße"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("write to ada\\_vell@quarn.example or a_b_c", "write to ada_vell@quarn.example or a_b_c"),
        ("set ROWS = 2*3*4, and 10*20", "set ROWS = 2*3*4, and 10*20"),
        ("`2*3*4` &lt;tag&gt; &amp;lt; `&lt;` \\<b\\>", "2*3*4 <tag> &lt; &lt; <b>"),
        ("```\n2*3*4 <!-- kept --> \\* &lt;\n```", "2*3*4 <!-- kept --> \\* &lt;"),
        ("one <script>alert(1)</script> two <style>p{}</style> <b hidden>x <b>y</b> z</b>three", "one two three"),
        ('one <span style="display: none">x</span><input hidden> <svg><text>drawn</text></svg>two', "one two"),
        ("hand an <object> to it, and a <template>", "hand an to it, and a"),
        ("<div>\n<p hidden>gone</p>\nshown\n</div>", "shown"),
        ("<script>\nlet a = 1\n\nlet b = 2\n</script>\n\nshown", "shown"),
        ("one<!--\n\nstill\n\n-->two\n\n[//]: # (a remark)", "one<!--\n\nstill\n\n-->two"),
        ("zero\u200bwidth, no\u2060break, soft\u00adhyphen", "zerowidth, nobreak, softhyphen"),
        ("| a | b |\n|---|---|\n| 2*3*4 | <span hidden>x</span>y |", "a: 2*3*4; b: y."),
    ],
)  # fmt: skip
def test_visible_text_is_kept_and_hidden_text_is_removed(source: str, text: str):
    assert read_markdown(source).text == text


SHOWN = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"], exclude_characters="\ue02a"), min_size=1)


@given(SHOWN)
def test_escaped_characters_are_read_as_displayed(words: str):
    source = re.sub(f"([{re.escape(punctuation)}])", r"\\\1", words)
    wanted = " ".join(words.split())
    assert read_markdown(f"Words: {source} end").text == " ".join(f"Words: {words} end".split())
    assert read_markdown(f"Words: {escape(wanted)} `x` end").text.startswith("Words:")


def test_a_line_break_is_not_a_space_in_scripts_without_spaces():
    assert read_markdown("一座灯\n塔。\n\n등대는\n높다 and a\nlamp").text == "一座灯塔。\n\n등대는 높다 and a lamp"
    assert read_plain("一座灯塔。\n\n它很高。") == Reading("", "一座灯塔。\n\n它很高。")  # a sentence is not a title
    assert read_plain("灯塔\n\n它很高。") == Reading("灯塔", "它很高。")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("# Log\n\n---\n**2024-05-01** Mara lit it.\n\nBo was there.\n\n---\n**2024-05-02** Bo put it out.",
         "2024-05-01 Mara lit it.\n\nBo was there.\n\n2024-05-02 Bo put it out."),
        ("---\n**2024-05-01** Mara lit it.\n\n---\nBo put it out.", "2024-05-01 Mara lit it.\n\nBo put it out."),
        ("Before.\n\n---\ntitle: no front matter\n---\n\nAfter.", "Before.\n\ntitle: no front matter\n\nAfter."),
        ("Before.\n\n+++\nBetween.\n+++\n\nAfter.", "Before.\n\n+++ Between. +++\n\nAfter."),
        ("---\nDear all: see: this\n\nThe lamp is lit.\n\n---\nBo.", "Dear all: see: this\n\nThe lamp is lit.\n\nBo."),
    ],
)  # fmt: skip
def test_text_between_rules_is_no_front_matter(source: str, text: str):
    assert read_markdown(source).text == text


@pytest.mark.parametrize(
    "title", ["007", "No", "1.10", "1:30", "1_000", "0x1F", "2024-05-01", "Null", "true", "~", "A: colon", "[open"]
)
def test_a_title_in_the_front_matter_is_kept_as_it_is_written(title: str):
    assert read_markdown(f"---\ntitle: {title}\n---\nx") == Reading(title, "x")
    assert read_markdown(f"---\r\ntitle: '{title}'\r\n---\r\nx") == Reading(title, "x")


def test_a_number_as_a_title_in_toml_is_kept_as_it_is_written():
    assert read_markdown("+++\ntitle = 1.10\n+++\nx") == Reading("1.10", "x")


@pytest.mark.parametrize(
    "source",
    [
        "The drug worked if p<0.05 and n<N for all N>10 patients.", "Run with <store> and <documents> set.",
        "a List<String> and a vector<std::string> for <T, U>", "<your-name> wrote it", "</store> ends it",
        "if a <b and c> d", "<?php echo 1 ?> prints", "a <= b <- c <> d",
    ],
)  # fmt: skip
def test_angle_brackets_that_are_no_markup_are_kept(source: str):
    assert read_markdown(source).text == source
    assert read_markdown(f"# {source}\n\nx").title == source
    assert read_markdown(f"<div>\n\n{source}\n\n</div>").text == source
    assert read_markdown(f"```\n{source}\n```").text == source


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("<div\n align=center>\n<store> is set\n</div>", "<store> is set"),
        ("\\<store> `<store>` \\\\<store>", "<store> <store> \\<store>"),
        ("<https://a.b> <me@a.b> [map](<my map.md>)", "https://a.b me@a.b map"),
        ("one<BR/>two <input disabled> <p\nclass=x>three</p>", "one\ntwo three"),
        ("<!-- <store> --> x <!doctype html>", "x"),
        ("| a | b |\n|--|--|\n| <store> | <b>2</b> |", "a: <store>; b: 2."),
    ],
)
def test_real_tags_links_and_comments_stay_markup(source: str, text: str):
    assert read_markdown(source).text == text
