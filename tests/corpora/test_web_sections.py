"""Web pages: parts that look like surroundings but are content, and damaged or undeclared encodings."""

import pytest

from dyprag.corpora.reading.web import read_page
from dyprag.errors import DocumentError

PROSE = f"<p>{'The quarn lamp was lit by Otto Brandl in the year of the storm, and it burns still. ' * 4}</p>"
CONSENT = "All patients gave written informed consent before they took part in the trial of the lamp. " * 3


def around(part: str) -> str:
    """Return the text of a page with prose before and after a part."""
    page = f"<html><body><h1>The lamp</h1>{PROSE}{part}{PROSE}</body></html>"
    return read_page(page.encode()).text


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ('<section id="pagination"><h2>Pagination</h2><p>Use the key page to turn pages.</p></section>', "Use the key"),
        ('<section id="cookies"><h2>Cookies</h2><p>It sets one, named quarn, for a day.</p></section>', "named quarn"),
        ('<div class="cookies"><h2>Oat cookies</h2><p>Mix oats with butter and bake.</p></div>', "Mix oats"),
        (f'<div class="consent"><p>{CONSENT}</p></div>', "informed consent"),
        ('<section id="newsletter-2020"><h2>Newsletter 2020</h2><p>We bought a new lens.</p></section>', "new lens"),
        ('<section id="cookie-banner"><h2>Cookie banner</h2><p>Set it to true to show one.</p></section>', "to true"),
    ],
)
def test_a_section_with_an_ordinary_name_is_content(part: str, words: str):
    assert words in around(part)


@pytest.mark.parametrize(
    "part",
    [
        "<div class=cookies><p>We use cookies to give you the best experience.</p></div>",
        "<div id=cookie-banner><h2>We value your privacy</h2><p>We use cookies to improve it for you.</p></div>",
        "<div class=pagination><h2>Pages</h2><a href=1>1</a> <a href=2>2</a> <a href=3>3</a></div>",
        "<div class=newsletter><h3>Stay informed</h3><form><p>Sign up, and never miss a story.</p></form></div>",
        f"<div class=pager><p>{'<a href=x>An earlier story about the lamp</a> ' * 20}</p></div>",
    ],
)
def test_banners_menus_and_forms_with_such_a_name_are_removed(part: str):
    assert around(part) == around("")


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<html><body><p>A</p></body></html><p>B</p>", "A\n\nB"),
        ("<html><body><p>A</p></BODY >\n</Html\n><!DOCTYPE html><html><head><title>T</title><style>x{}</style></head>"
         "<body><p>B</p></body></html> end", "A\n\nB\n\nend"),
        ("<body><script>'</body></html><p>x'</script><!-- </html><p>x --><p>A</body><p>B", "A\n\nB"),
    ],
)  # fmt: skip
def test_content_after_the_end_of_a_page_is_read(page: str, text: str):
    assert read_page(page.encode()).text == text


def test_a_wrong_byte_in_a_page_with_a_known_encoding_is_the_only_loss():
    for start in (b"<meta charset=utf-8>", b"\xef\xbb\xbf"):
        assert read_page(start + "<p>the café – ".encode() + b"\xe9 lamp").text == "the café – \ufffd lamp"
    assert read_page("<meta charset=windows-1251><p>Лампа горит".encode("cp1251")).text == "Лампа горит"


@pytest.mark.parametrize(
    "data",
    [
        f"<body>{'<p class=lamp>Лампа горит, и ещё.</p><br class=lamp>' * 9}".encode("cp1251"),
        "<p>Лампа".encode("cp1251"), "<p>Ο φάρος είναι εδώ".encode("cp1253"), "<p>灯塔很高。".encode("gbk"),
        "<p>Zażółć gęślą jaźń, wieża stoi.".encode("cp1250"), "<p>the café – ".encode() + b"\xe9",
        "<meta charset=no-such><p>Лампа".encode("cp1251"),
    ],
)  # fmt: skip
def test_a_page_in_an_unknown_encoding_is_rejected_with_a_remedy(data: bytes):
    with pytest.raises(DocumentError, match=r"not UTF-8 .*iconv"):
        read_page(data)
