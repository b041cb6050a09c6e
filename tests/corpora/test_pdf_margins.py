"""PDF files: which lines at the top and bottom of pages are page numbers or running lines."""

from collections.abc import Sequence

import pytest
from fpdf import FPDF

from dyprag.corpora.reading.pdf import read_pdf

BODY = "The lamp of Ostrel was lit by Mara, and it burns there still."


def margins(pages: Sequence[tuple[str, str]]) -> str:
    """Return the title and text of a file whose pages have these first and last lines, without the lines between."""
    pdf = FPDF()
    pdf.set_auto_page_break(False)
    for first, last in pages:
        pdf.add_page()
        pdf.set_font("Times", size=12)
        pdf.cell(0, 6, first)
        pdf.ln(40)
        pdf.cell(0, 6, BODY)
        pdf.set_y(-15)
        pdf.cell(0, 6, last)
    reading = read_pdf(bytes(pdf.output()))
    assert reading.text.count(BODY) == len(pages)
    return " ".join(f"{reading.title} {reading.text.replace(BODY, '')}".split())


@pytest.mark.parametrize(
    ("pages", "kept"),
    [
        ([("Lamp", "1911")], "Lamp 1911"),
        ([("Lamp", "12")], "Lamp 12"),
        ([("Invoice No. 4711", "Total: 37 EUR"), ("Invoice No. 4712", "Total: 137 EUR")],
         "Invoice No. 4711 Total: 37 EUR Invoice No. 4712 Total: 137 EUR"),
        ([("", "7"), ("", "90"), ("", "31")], "7 90 31"),
        ([("", f"Page {n} of 3") for n in (1, 2, 3)], ""),
        ([("", f"- {n} -") for n in (233, 234)], ""),
        ([("", n) for n in ("iii", "iv", "v")], ""),
        ([(f"{n} Report 2024", "") for n in (3, 4, 5)], ""),
        ([(f"{n} J. Otto / Lamps 61 (2015)", "") for n in range(86, 92)], ""),
        ([("Harbour board", "Of Osk")] * 3, "Harbour board Of Osk"),
    ],
)  # fmt: skip
def test_only_numbers_that_count_up_with_the_pages_are_page_numbers(pages: list[tuple[str, str]], kept: str):
    assert margins(pages) == kept
