"""PDF files: their visible text in reading order."""

import re
from collections import Counter
from collections.abc import Sequence

import pytest
from fpdf import FPDF

from dyprag.corpora.reading.pdf import _joined, read_pdf
from dyprag.errors import DocumentError

KEEPER = (
    "Greta Olmsted, the last keeper of the Ostrel lamp, handed over her keys on Friday. She had come to the rock in "
    "1983 as an assistant and stayed for forty-one years, longer than any keeper before her."
)


class Report(FPDF):
    """Pages with a running header and page numbers."""

    def header(self) -> None:
        self.set_font("Helvetica", size=8)
        self.cell(0, 8, f"Harbour Board of Brevik - Annual Report 2024 - {self.page_no()}", align="R")
        self.ln(12)

    def footer(self) -> None:
        self.set_y(-15)
        self.set_font("Helvetica", size=8)
        self.cell(0, 8, f"Page {self.page_no()} of 4", align="C")


def paragraph(pdf: FPDF, text: str, size: int = 11, style: str = "") -> None:
    """Add a paragraph, with lines broken at the page's width."""
    pdf.set_font("Helvetica", style, size)
    pdf.multi_cell(0, size / 2, text, new_x="LMARGIN", new_y="NEXT")
    pdf.ln(2)


def lines(given: Sequence[str], title: str = "") -> bytes:
    """Return a page with these lines below each other."""
    pdf = FPDF()
    pdf.add_page()
    pdf.set_title(title)
    pdf.set_font("Times", size=12)
    for line in given:
        pdf.cell(0, 6, line)
        pdf.ln(6)
    return bytes(pdf.output())


def test_lines_are_joined_headings_are_separate_and_page_furniture_is_removed():
    pdf = Report()
    pdf.add_page()
    paragraph(pdf, "The Harbours of Brevik", 20, "B")
    for section in range(8):
        paragraph(pdf, f"{section + 1} Section about quay {section}", 14, "B")
        for _ in range(3):
            paragraph(pdf, f"{KEEPER} Quay {section} has {section + 20} bollards. {KEEPER}")
    reading = read_pdf(bytes(pdf.output()))
    assert reading.title == "The Harbours of Brevik"
    parts = reading.text.split("\n\n")
    assert parts[0] == "1 Section about quay 0"
    assert [part for part in parts if part.startswith("8 Section")] == ["8 Section about quay 7"]
    whole = [part for part in parts if part.startswith("Greta")]
    assert set(whole) == {f"{KEEPER} Quay {n} has {n + 20} bollards. {KEEPER}" for n in range(8)}
    assert len(parts) == 8 + 24, "a paragraph that a page ends is one"
    assert not re.search(r"Harbour Board|Page \d|The Harbours", reading.text)


def test_columns_are_read_one_after_another():
    pdf = FPDF()
    pdf.add_page()
    pdf.set_font("Times", size=10)
    with pdf.text_columns(ncols=2, gutter=8) as columns:
        columns.write(" ".join(f"Left sentence {n} is here." for n in range(150)))
        columns.write(" ".join(f" Right sentence {n} is here." for n in range(100)))
    text = " ".join(read_pdf(bytes(pdf.output())).text.split())
    assert re.findall(r"(?:Left|Right) sentence \d+", text) == [
        *(f"Left sentence {n}" for n in range(150)), *(f"Right sentence {n}" for n in range(100))
    ]  # fmt: skip


def test_hyphenated_words_are_joined_and_real_hyphens_are_kept():
    page = [
        "The exhibition of instru-", "ments in the well-", "known museum shows the self-",
        "taught maker's work of 1871-", "1874, an Anglo-", "Saxon fid-", "dle and a north-south compass, north-",
        "south too, and his corres-", "pondence.",
    ]  # fmt: skip
    assert read_pdf(lines(page)).text == (
        "The exhibition of instruments in the well-known museum shows the self-taught maker's work of 1871-1874, an "
        "Anglo-Saxon fiddle and a north-south compass, north-south too, and his correspondence."
    )


def test_list_items_stay_separate():
    text = read_pdf(lines(["The lamp has three parts:", "- a burner of brass", "- a lens", "1. made in Osk"])).text
    assert text == "The lamp has three parts:\n\n- a burner of brass\n- a lens\n1. made in Osk"


@pytest.mark.parametrize(
    ("given", "title"),
    [
        ("The Lamp of Ostrel", "The Lamp of Ostrel"), ("Microsoft Word - lamp.doc", "First line here"),
        ("untitled", "First line here"), ("lamp_v2.indd", "First line here"), ("Document1", "First line here"),
        ("", "First line here"), ("First line here", "First line here"),
    ],
)  # fmt: skip
def test_the_title_comes_from_the_metadata_if_it_is_meaningful(given: str, title: str):
    pdf = FPDF()
    pdf.add_page()
    pdf.set_title(given)
    paragraph(pdf, "First line here", 16)
    paragraph(pdf, KEEPER)
    reading = read_pdf(bytes(pdf.output()))
    assert reading.title == title
    assert reading.text == (KEEPER if title == "First line here" else f"First line here\n\n{KEEPER}")


def test_a_file_without_a_title_has_none():
    assert read_pdf(lines([KEEPER[:60]])).title == ""


def test_an_unreadable_pdf_raises_an_error_with_the_reason():
    blank = FPDF()
    blank.add_page()
    locked = FPDF()
    locked.add_page()
    paragraph(locked, KEEPER)
    locked.set_encryption(owner_password="owner", user_password="secret")
    pageless = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\n"
    pageless += b"trailer<</Root 1 0 R/Size 3>>\n%%EOF"
    short = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[]/Count 4>>endobj\n"
    short += b"trailer<</Root 1 0 R/Size 3>>\n%%EOF"
    whole = lines([KEEPER[:60]])
    for data, reason in {
        bytes(blank.output()): "without text, perhaps scanned pages", bytes(locked.output()): "it is encrypted",
        pageless: "without pages", short: "only 0 of its 4 pages exist", whole[:300]: "it is a damaged PDF",
        whole[:-400]: "it is a damaged PDF", b"": "it is a damaged PDF", b"no PDF at all": "it is a damaged PDF",
    }.items():  # fmt: skip
        with pytest.raises(DocumentError, match=reason) as caught:
            read_pdf(data)
        assert caught.value.remedy
    owned = FPDF()
    owned.add_page()
    paragraph(owned, KEEPER)
    owned.set_encryption(owner_password="owner")  # anybody may read it
    assert read_pdf(bytes(owned.output())).text == KEEPER


def test_lines_of_chinese_characters_are_joined_without_a_space():
    assert _joined(["一座灯", "塔 and", "a lamp"], Counter()) == "一座灯塔 and a lamp"
