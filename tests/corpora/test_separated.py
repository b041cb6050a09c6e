"""CSV, TSV and Parquet dialects: an unreadable row does not affect others, and no text is lost silently."""

import csv
import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from time import perf_counter
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyprag.corpora.documents import Corpus
from dyprag.corpora.reader import read_anything
from dyprag.corpora.text import forms
from dyprag.errors import CorpusError

PLAIN = "id,text,title\n1,The gate is of iron,Gate\n2,The tower leans,Tower\n"


@contextmanager
def written(data: bytes, name: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        yield str(path)


def read(data: bytes | str, name: str = "rows.csv") -> Corpus:
    with written(data.encode() if isinstance(data, str) else data, name) as path:
        return read_anything(path)


def texts(corpus: Corpus) -> dict[str, str]:
    return {document.id: document.text for document in corpus.documents}


def faults(corpus: Corpus) -> dict[str, str]:
    return {unread.id: f"{unread.error.reason}. {unread.error.remedy}" for unread in corpus.unread}


def notes(corpus: Corpus) -> list[str]:
    return [noted.how for noted in corpus.noted]


BAD_ROWS = {
    "too many cells": ("2,The tower, built late, leans,Tower", "it has 5 cells, and the header has 3. Put cells"),
    "too few cells": ("2,The tower leans", "it has 2 cells, and the header has 3"),
    "one cell": ("leans", "it has 1 cell, and the header has 3"),
    "a stray mark": ('2,"leaning" towers,Tower', "there is text after a cell's closing quotation mark"),
    "escaped as in C": ('2,"a \\"leaning\\" tower",Tower', "there is text after a cell's closing quotation mark"),
    "an unclosed mark": ('2,"The tower leans,Tower', "its quotation mark is never closed"),
    "a NUL": ("2,The \0tower,Tower", "it contains a NUL"),
    "another encoding": (b"2,The caf\xe9 tower,Tower", "it is not UTF-8 (byte 7 of the cell is 0xe9). Convert it"),
    "no id": (" ,The tower leans,Tower", "the document has no 'id'"),
}  # fmt: skip


@pytest.mark.parametrize(("row", "reason"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_an_unreadable_row_does_not_affect_the_others(row: str | bytes, reason: str):
    row = row.encode() if isinstance(row, str) else row
    corpus = read(b"id,text,title\n1,The gate,Gate\n" + row + b"\n3,The well,Well\n4,The mill,Mill\n")
    assert texts(corpus) == {"1": "The gate", "3": "The well", "4": "The mill"}
    ((name, error),) = faults(corpus).items()
    assert name == "line 3"
    assert reason in error


def test_a_quotation_mark_closed_in_another_row_does_not_merge_the_rows():
    rows = (
        'id,text,title\n7,"Sea songs are old.,Songs\n8,The lamp is new.,Lamp\n9,They end with sea",Sea\n10,A well.,\n'
    )
    corpus = read(rows)
    assert texts(corpus) == {"8": "The lamp is new.", "9": 'They end with sea"', "10": "A well."}
    assert "not closed in this row" in faults(corpus)["line 2"]
    corpus = read(rows.replace(",", "\t"), "rows.tsv")  # most TSV files do not use quoting
    assert texts(corpus) == {
        "7": '"Sea songs are old.', "8": "The lamp is new.", "9": 'They end with sea"', "10": "A well.",
    }  # fmt: skip
    assert faults(corpus) == {}
    assert notes(corpus) == ["quotation marks in one row are part of the text, because they do not enclose a cell"]


def test_a_cell_of_several_lines_stays_whole():
    poem = "The gate is shut,\nthe mill is still,\n\n7, said he, is enough.\nOld, but fine."
    out = io.StringIO()
    csv.writer(out).writerows([["id", "text"], ["p-1", poem], ["p-2", 'Of "one" line.']])
    assert texts(read(out.getvalue())) == {"p-1": poem.replace("\n", "\n"), "p-2": 'Of "one" line.'}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (PLAIN, []),
        (PLAIN.replace("\n", "\r\n"), []),
        (PLAIN.replace("\n", "\r"), []),
        (PLAIN.replace(",", ";"), ["its cells are separated by semicolons"]),
        (PLAIN.replace(",", "\t"), ["its cells are separated by tabs"]),
        (PLAIN.replace(",", "|"), ["its cells are separated by vertical bars"]),
        ("sep=;\r\n" + PLAIN.replace(",", ";"), []),
        ("\ufeff" + PLAIN, []),
        (PLAIN.encode("utf-16"), []),
        (PLAIN.encode("utf-32"), []),
        ("\ufeff" + PLAIN.replace(",", '","').replace("\n", '"\n"')[:-1].replace("id", '"id', 1), []),
        ("\n\n" + PLAIN.replace("\n", "\n\n") + ",,\n \n", []),
        (PLAIN.replace("\n", ",,\n"), []),
        (PLAIN.replace(",", ", ").replace("The gate is of iron", '"The gate is of iron"'), []),
        ("year,id,by,text,by,title\n0,1,x,The gate is of iron,y,Gate\n0,2,x,The tower leans,y,Tower\n", []),
        (PLAIN.replace("title", "Gr\xf6\xdfe").encode("latin-1"), []),
    ],
    ids=[
        "plain", "crlf", "cr", "semicolons", "tabs", "bars", "sep=", "bom", "utf-16", "utf-32", "all quoted",
        "empty lines", "surplus empty cells", "spaces", "other columns", "a name in latin-1",
    ],
)  # fmt: skip
def test_every_dialect_gives_the_same_documents(data: str | bytes, said: list[str]):
    corpus = read(data)
    assert texts(corpus) == {"1": "The gate is of iron", "2": "The tower leans"}
    assert faults(corpus) == {}
    assert notes(corpus) == said


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("id,text,text\n1,a,b\n", "it has several columns 'text'"),
        ("id,body\n1,a\n", "it has no column 'text'"),
        ("", "it has no column 'id' and no column 'text'"),
        ("\n\n", "it has no column 'id' and no column 'text'"),
        (PLAIN.encode("utf-16-le"), "it appears to be UTF-16LE without a byte order mark. Convert it"),
        (PLAIN.encode("utf-16") + b"\0", "it is not UTF-16"),
        (b"\x00\x01\x02", "it is a binary file"),
    ],
)  # fmt: skip
def test_a_table_without_documents_gives_one_clear_error(data: str | bytes, reason: str):
    ((_, error),) = faults(read(data)).items()
    assert reason in error


def test_very_long_cells_and_many_stray_marks_are_read_quickly():
    long = "word, " * 400_000
    assert texts(read(f'id,text\n1,"{long}"\n2,x\n')) == {"1": long.strip(), "2": "x"}
    began = perf_counter()
    corpus = read("id,text\n" + "".join(f'{n},"so ""called"" tower\n' for n in range(20_000)))
    assert len(corpus.unread) == 20_000
    assert perf_counter() - began < 20


@pytest.mark.parametrize(
    ("value", "identity"),
    [
        (7, "7"), (7.0, "7"), (7.5, "7.5"), ("007", "007"), (Decimal("7"), "7"), (b"seven", "seven"),
        (float("nan"), None), (None, None), (True, None), (UUID(int=7).bytes, "\0" * 15 + "\7"),
    ],
)  # fmt: skip
def test_parquet_ids_become_strings(tmp_path: Path, value: Any, identity: str | None):
    pq.write_table(pa.table({"id": [value], "text": ["The gate."], "title": [float("nan")]}), tmp_path / "d.parquet")
    corpus = read_anything(str(tmp_path / "d.parquet"))
    assert [(document.id, document.title) for document in corpus.documents] == ([(identity, "")] if identity else [])
    assert ["has no 'id'" in unread.error.reason for unread in corpus.unread] == ([] if identity else [True])


def test_an_invalid_text_in_parquet_affects_only_its_row(tmp_path: Path):
    bad = pa.Array.from_buffers(pa.string(), 3, pa.array([b"one", b"caf\xe9", b"three"]).buffers())
    pq.write_table(pa.table({"id": [1, 2, 3], "text": bad}), tmp_path / "d.parquet")
    corpus = read_anything(str(tmp_path / "d.parquet"))
    assert texts(corpus) == {"1": "one", "3": "three"}
    assert [(one.id, one.named) for one in corpus.unread] == [("2", True)]
    assert "no 'text' string in UTF-8. Convert it" in faults(corpus)["2"]


def test_json_lines_are_read_with_any_line_break_and_encoding():
    lines = (
        '{"id": 7.0, "text": "The gate.", "title": NaN}\r\n{"id": "b", "text": "caf\u00e9"}\r\n'
        + "[" * 100_000
        + "\r\n"
    )
    for data in (lines.encode(), lines.encode("utf-16"), lines.replace("\r\n", "\r").encode()):
        corpus = read(data, "rows.jsonl")
        assert texts(corpus) == {"7": "The gate.", "b": "café"}
        assert list(faults(corpus)) == ["line 3"]


def test_rows_of_several_files_are_distinguished(tmp_path: Path):
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(f"id,text\n{name},x\n1\n1\n")
    assert list(faults(read_anything(str(tmp_path)))) == [
        "a.csv, line 3", "a.csv, line 4", "b.csv, line 3", "b.csv, line 4"
    ]  # fmt: skip


WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)


@given(st.lists(WORDS, max_size=8), st.sampled_from([",", ";", "|", "\t"]), st.booleans())
@settings(max_examples=150)
def test_a_csv_writers_output_is_read_or_reported(cells: list[str], delimiter: str, every: bool):
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, quoting=csv.QUOTE_ALL if every else csv.QUOTE_MINIMAL)
    writer.writerows([["id", "text", "title"], *([f"d{n}", cell, f"T{n}"] for n, cell in enumerate(cells))])
    corpus = read(out.getvalue())
    read_texts = texts(corpus)
    if not corpus.unread and not any("marks" in how for how in notes(corpus)):
        assert read_texts == {f"d{n}": forms.written(cell).strip() for n, cell in enumerate(cells)}
    else:  # a cell whose lines look like rows
        assert any("\n" in cell or "\r" in cell for cell in cells)


@given(st.data(), st.sampled_from([",", ";", "\t"]))
@settings(max_examples=150)
def test_stray_marks_affect_only_their_own_rows(data: st.DataObject, delimiter: str):
    rows = [[str(n), f"Text number {n}.", f"Title {n}"] for n in range(6)]
    for n in (hit := data.draw(st.sets(st.integers(0, 5), max_size=3))):
        line = rows[n][1]
        for place in data.draw(st.lists(st.integers(0, len(line)), min_size=1, max_size=3)):
            line = f'{line[:place]}"{line[place:]}'
        rows[n][1] = line
    lines = [["id", "text", "title"], *rows]
    corpus = read("".join(delimiter.join(row) + "\n" for row in lines))
    read_texts = texts(corpus)
    assert {str(n): rows[n][1] for n in range(6) if n not in hit}.items() <= read_texts.items()
    assert len(read_texts) + len(corpus.unread) == 6


@given(
    st.binary(max_size=200)
    | st.text(st.sampled_from('ab1,;\t|"\r\n\0\xe9\ufeff<>&#*`-[]{}:\\'), max_size=60).map(str.encode),
    st.sampled_from(["csv", "tsv", "jsonl", "txt", "md", "html", "parquet", "csv.gz", "pdf"]),
    st.sampled_from([b"", b"id,text\n", b"id\ttext\n", b'{"id": 1, "text": "x"}\n', b"\xff\xfe", b"<p>"]),
)  # fmt: skip
@settings(max_examples=200)
def test_arbitrary_bytes_give_at_most_a_clear_error(data: bytes, ending: str, start: bytes):
    with written(start + data, f"any.{ending}") as path:
        try:
            corpus = read_anything(path)
        except CorpusError as error:
            faults = [error]
        else:
            faults = [*(unread.error for unread in corpus.unread)]
        assert all(fault.reason and fault.remedy for fault in faults)
