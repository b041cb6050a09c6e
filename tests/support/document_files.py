"""Files of documents, as a corpus is read from them."""

import csv
import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from conftest import TEXTS, write_jsonl
from fpdf import FPDF

ROWS = [{"id": i, "title": i.title(), "text": text} for i, text in TEXTS.items()]


def write_pdf(path: Path, text: str) -> None:
    """Return a PDF of one page with a text; without one, it is like a scan."""
    pdf = FPDF()
    pdf.add_page()
    pdf.set_font("Helvetica", size=12)
    if text:
        pdf.cell(0, 10, text)
    pdf.output(str(path))


def write_rows(path: Path) -> str:
    """Write the three documents in the format of the file's name."""
    kind = path.name.removesuffix(".gz").rsplit(".", 1)[-1]
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif kind == "jsonl":
        write_jsonl(path, ROWS)
    else:
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, ["id", "title", "text"], delimiter="\t" if kind == "tsv" else ",")
            writer.writeheader()
            writer.writerows(ROWS)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(path.read_bytes()))
    return str(path)
