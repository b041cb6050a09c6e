"""Locations: every kind gives the same documents, and what cannot be read is named while the others go on."""

import csv
import gzip
import os
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import TEXTS, write_jsonl
from pypdf import PdfReader, PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from dyprag.corpus import load_corpus, read_documents
from dyprag.documents import Corpus, Document
from dyprag.errors import CorpusError

ROWS = [{"id": i, "title": i.title(), "text": text} for i, text in TEXTS.items()]


def write_pdf(path: Path, text: str) -> None:
    """A PDF of one page that shows a text; with none, as a scanner makes one."""
    writer = PdfWriter()
    page = writer.add_blank_page(300, 300)
    font = {"/Type": "/Font", "/Subtype": "/Type1", "/BaseFont": "/Helvetica"}
    named = DictionaryObject({NameObject(name): NameObject(value) for name, value in font.items()})
    page[NameObject("/Resources")] = DictionaryObject(
        {NameObject("/Font"): DictionaryObject({NameObject("/F"): writer._add_object(named)})}
    )
    content = DecodedStreamObject()
    content.set_data(f"BT /F 12 Tf 10 100 Td ({text}) Tj ET".encode())
    page[NameObject("/Contents")] = writer._add_object(content)
    writer.write(path)


def write_rows(path: Path) -> str:
    """The three documents in the form that a file's name says."""
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


def faults(corpus: Corpus) -> dict[str, str]:
    """The whole message of what could not be read, by its id."""
    assert all(unread.error.remedy for unread in corpus.unread)
    return {unread.id: str(unread.error) for unread in corpus.unread}


@pytest.mark.parametrize("name", ["d.jsonl", "d.jsonl.gz", "d.parquet", "d.csv", "d.csv.gz", "d.tsv"])
def test_files_of_rows_give_the_same_documents(tmp_path: Path, name: str):
    wanted = tuple(Document(row["id"], row["text"], row["title"]) for row in ROWS)
    path = write_rows(tmp_path / name)
    assert load_corpus(path).documents == wanted
    assert load_corpus(f"file://{path}").documents == wanted
    assert load_corpus(str(tmp_path / "d.*")).documents == wanted


def test_a_folder_gives_a_document_for_each_file_of_text(tmp_path: Path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "page.html").write_text(
        "<html><head><title>The  lamp</title><style>p {color: red}</style></head><body><h1>Lamp</h1>"
        "<p>It is <b>tall</b>.</p><script>alert(1)</script><table><tr><th>m</th></tr><tr><td>24</td></tr></table>"
    )
    (tmp_path / "note.md").write_text("# Note\n\nIt stands.")
    write_pdf(tmp_path / "paper.pdf", "It was built in 1911.")
    write_jsonl(tmp_path / "questions.jsonl", ROWS)  # not a text
    page, note, paper = load_corpus(str(tmp_path)).documents
    assert (page.id, page.title) == ("deep/page.html", "The lamp")
    assert page.text.startswith("# Lamp\n\nIt is **tall**.\n\n| m |")
    assert "alert" not in page.text
    assert note == Document("note.md", "# Note\n\nIt stands.", "note")
    assert paper == Document("paper.pdf", "It was built in 1911.", "paper")
    assert [d.id for d in load_corpus(str(tmp_path / "*.md")).documents] == ["note.md"]
    assert [d.id for d in load_corpus(str(tmp_path / "**" / "*.html")).documents] == ["deep/page.html"]
    assert load_corpus(str(tmp_path / "note.md")).documents == (note,)


def test_files_that_cannot_be_read_are_named_and_the_others_go_on(tmp_path: Path):
    (tmp_path / "a.txt").write_text("Fine.")
    (tmp_path / "binary.txt").write_bytes(b"\x00\x01\x02")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    (tmp_path / "cut.txt.gz").write_bytes(gzip.compress(b"text " * 1000)[:20])
    write_pdf(tmp_path / "scan.pdf", "")
    write_pdf(tmp_path / "broken.pdf", "x")
    (tmp_path / "broken.pdf").write_bytes((tmp_path / "broken.pdf").read_bytes()[:200])
    locked = PdfWriter(clone_from=PdfReader(tmp_path / "scan.pdf"))
    locked.encrypt("secret", algorithm="RC4-128")
    locked.write(tmp_path / "locked.pdf")
    corpus = load_corpus(str(tmp_path))
    assert [document.id for document in corpus.documents] == ["a.txt"]
    told = faults(corpus)
    assert all(str(tmp_path / name) in message for name, message in told.items())
    reasons = {
        "binary.txt": "it is binary", "latin.txt": "it is not UTF-8 (byte 3 is 0xe9). Convert it",
        "cut.txt.gz": "it is broken",
        "scan.pdf": "OCR", "broken.pdf": "it is a broken PDF", "locked.pdf": "Save it without a password",
    }  # fmt: skip
    assert told.keys() == reasons.keys()
    assert all(reason in told[name] for name, reason in reasons.items())
    with pytest.raises(CorpusError, match="it is binary"):  # who wants all or nothing
        read_documents(str(tmp_path))


def test_a_folder_that_cannot_be_listed_is_named_and_the_others_go_on():
    with tempfile.TemporaryDirectory() as name:  # not below pytest's, which are root's alone
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "a.txt").write_text("Fine.")
        (folder / "closed").mkdir(mode=0o700)
        (folder / "closed" / "b.txt").write_text("Not to be seen.")
        user = os.geteuid()
        try:
            if user == 0:
                os.seteuid(65534)
            else:
                (folder / "closed").chmod(0)
            corpus = load_corpus(name)
        finally:
            if user == 0:
                os.seteuid(0)
            (folder / "closed").chmod(0o700)
    assert [document.id for document in corpus.documents] == ["a.txt"]
    assert faults(corpus) == {
        "closed/": f"corpus {folder}/closed: this folder cannot be listed (Permission denied). Check its rights."
    }


def test_rows_that_cannot_be_read_are_named_and_the_others_go_on(tmp_path: Path):
    path = tmp_path / "docs.jsonl"
    path.write_bytes(
        b'{"id": "a", "text": "x"}\n{"id": \n["b"]\n{"text": "x"}\n{"id": "c"}\n{"id": "a", "text": "y"}\n'
        b'{"id": "caf\xe9", "text": "z"}\n{"id": "d", "text": "z"}\n'
    )
    corpus = load_corpus(str(path))
    assert corpus.documents == (Document("a", "x"), Document("d", "z"))
    told = faults(corpus)
    assert f"corpus {path}, line 2: it is not JSON" in told["line 2"]
    assert f"corpus {path}, line 3: it is not a JSON object" in told["line 3"]
    assert "line 4: the document has no 'id'. Give each" in told["line 4"]
    assert "line 5: document 'c' has no 'text' string. Put" in told["c"]
    assert "the id 'a' occurs twice" in told["a (again)"]
    assert "line 7: it is not UTF-8 (byte 11 of it is 0xe9)" in told["line 7"]


@pytest.mark.parametrize("name", ["part.parquet", "part.csv"])
def test_a_broken_file_of_rows_is_named_and_the_others_go_on(tmp_path: Path, name: str):
    write_rows(tmp_path / "good.jsonl")
    (tmp_path / name).write_bytes(b"nonsense\nmore")
    corpus = load_corpus(str(tmp_path / "*"))
    assert len(corpus.documents) == 3
    assert str(tmp_path / name) in faults(corpus)[name]
    with pytest.raises(CorpusError, match=name):
        load_corpus(str(tmp_path / name))


def test_what_cannot_be_reached_is_one_clear_error():
    for location, reason in {
        "/no/such/*.txt": "it holds no document", __file__: "nothing here reads .py files. Convert it to one of .txt",
        "nowhere://x": "it cannot be reached", "/no/such": "no such file",
    }.items():  # fmt: skip
        with pytest.raises(CorpusError, match=reason) as caught:
            load_corpus(location)
        assert location in str(caught.value)
    for secret in (
        "ftp://me:hunter2@host/docs",
        "https://host/docs.jsonl?X-Amz-Signature=hunter2",
        "abfs://x/y?sig=hunter2",
    ):
        with pytest.raises(CorpusError, match="there is a password or a signature in it") as caught:
            load_corpus(secret)
        assert "hunter2" not in str(caught.value)


def test_a_name_that_nothing_can_encode_is_no_end_of_the_corpus(tmp_path: Path):
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / os.fsdecode(b"caf\xe9.txt")).write_text("Fine.")
    (folder / os.fsdecode(b"th\xe9.txt")).write_bytes(b"caf\xe9")
    corpus = load_corpus(str(folder))
    assert [document.id for document in corpus.documents] == ["caf?.txt"]
    assert [(unread.id, "th?.txt: it is not UTF-8" in str(unread.error)) for unread in corpus.unread] == [
        ("th?.txt", True)
    ]
    path = tmp_path / "docs.jsonl"
    path.write_text('{"id": "a\\ud83d", "text": "x"}\n')
    assert load_corpus(str(path)).documents == (Document("a?", "x"),)


def test_reading_stops_with_the_documents_asked_for(tmp_path: Path):
    path = write_jsonl(tmp_path / "docs.jsonl", [*ROWS[:2], {"id": "bad"}])
    corpus = load_corpus(path, max_documents=2)
    assert (len(corpus.documents), corpus.unread) == (2, ())
