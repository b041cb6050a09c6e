"""Locations: every kind gives the same documents, and names decide what is read and under which title."""

import gzip
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import TEXTS, write_jsonl
from document_files import ROWS, write_pdf, write_rows

from dyprag.corpora.documents import Document
from dyprag.corpora.locations import readable
from dyprag.corpora.reader import load_corpus, read_documents
from dyprag.errors import CorpusError


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
        "<html><head><title>The  lamp</title><style>p {color: red}</style></head><body><h1>Lamp of Ostrel</h1>"
        "<p>It is <b>tall</b>.</p><script>alert(1)</script><table><tr><th>m</th></tr><tr><td>24</td></tr></table>"
    )
    (tmp_path / "note.md").write_text("# A note\n\nIt stands.")
    (tmp_path / "quarn_bridge.v2.txt.gz").write_bytes(gzip.compress(b"It is long."))
    write_pdf(tmp_path / "paper.pdf", "It was built in 1911.")
    write_jsonl(tmp_path / "rows.jsonl", ROWS[:1])
    write_jsonl(tmp_path / "questions.jsonl", [{"question": "Who?", "answer": "x"}])
    corpus = load_corpus(str(tmp_path))
    page, note, paper, bridge, row = corpus.documents
    assert page == Document("deep/page", "Lamp of Ostrel\n\nIt is tall.\n\nm\n\n24", "The lamp")
    assert note == Document("note", "It stands.", "A note")
    assert paper == Document("paper", "It was built in 1911.", "paper")
    assert bridge == Document("quarn_bridge.v2", "It is long.", "quarn bridge.v2")
    assert row == Document("lamp", TEXTS["lamp"], "Lamp")
    assert [d.source for d in corpus.documents] == [
        "deep/page.html", "note.md", "paper.pdf", "quarn_bridge.v2.txt.gz", "rows.jsonl"
    ]  # fmt: skip
    assert [(one.id, one.reason) for one in corpus.skipped] == [
        ("questions.jsonl", "its lines are not JSON objects with 'id' and 'text'")
    ]
    assert [d.id for d in load_corpus(str(tmp_path / "*.md")).documents] == ["note"]
    assert [d.id for d in load_corpus(str(tmp_path / "**" / "*.html")).documents] == ["deep/page"]
    assert load_corpus(str(tmp_path / "note.md")).documents == (note,)


def test_an_id_keeps_the_extension_if_it_would_be_ambiguous(tmp_path: Path):
    for name in (
        "notes.md",
        "notes.txt",
        "other.txt",
        "a.md",
        "a.b.md",
        "b.txt",
        "b.txt.md",
        "v1.2 plan.txt",
        "x.html",
    ):
        (tmp_path / name).write_text("Words.")
    ids = {document.source: document.id for document in load_corpus(str(tmp_path)).documents}
    assert ids == {
        "notes.md": "notes.md", "notes.txt": "notes.txt", "other.txt": "other", "a.md": "a", "a.b.md": "a.b",
        "b.txt": "b", "b.txt.md": "b.txt.md", "v1.2 plan.txt": "v1.2 plan", "x.html": "x",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("brindlemoor_observatory.txt", "brindlemoor observatory"), ("quarn-bridge.md", "quarn bridge"),
        ("HR-418.pdf", "HR-418"), ("2024-03-09 minutes.txt", "2024-03-09 minutes"), ("deep/lamp.txt.gz", "lamp"),
        ("well-known names.txt", "well-known names"), ("v1.2.txt", "v1.2"), ("_.txt", "_"),
    ],
)  # fmt: skip
def test_a_readable_file_name_is_the_title_of_a_text_without_one(name: str, title: str):
    assert readable(name) == title


def test_other_files_in_a_folder_are_reported_with_the_reason(tmp_path: Path):
    (tmp_path / "a.txt").write_text("Fine.")
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "blank.md").write_text(" \n\n")
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    (tmp_path / "numbers.parquet").write_bytes(b"")
    pq.write_table(pa.table({"n": [1]}), tmp_path / "numbers.parquet")
    (tmp_path / "settings.json").write_text('{\n  "a": 1\n}')
    (tmp_path / "picture.png").write_bytes(b"x")
    (tmp_path / "Makefile").write_text("all:")
    (tmp_path / "._a.txt").write_bytes(b"\0")
    (tmp_path / "~$a.md").write_text("x")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.txt").write_text("Not a document.")
    (tmp_path / "elsewhere").symlink_to(tmp_path.parent, target_is_directory=True)
    (tmp_path / "dead.txt").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.txt")
    corpus = load_corpus(str(tmp_path))
    assert [document.id for document in corpus.documents] == ["a"]
    assert corpus.unread == ()
    assert {one.id: one.reason for one in corpus.skipped} == {
        "empty.txt": "it contains no text", "blank.md": "it contains no text",
        "table.csv": "it has no column 'id' and no column 'text'",
        "numbers.parquet": "it has no column 'id' and no column 'text'",
        "settings.json": "its lines are not JSON objects with 'id' and 'text'",
        "picture.png": ".png files are not supported", "Makefile": "files without an extension are not supported",
        "._a.txt": "it is a hidden file", "~$a.md": "it is a hidden file", ".git/": "it is a hidden folder",
        "elsewhere/": "links to folders are not followed", "dead.txt": "it is a broken link",
        "pipe.txt": "it is not a regular file",
    }  # fmt: skip
    (tmp_path / "a.txt").unlink()
    with pytest.raises(
        CorpusError, match=r"contains no documents, and 13 files were skipped: \.git/ \(it is a hid"
    ) as caught:
        load_corpus(str(tmp_path))
    assert ".txt, .md, .html, .pdf" in caught.value.remedy
    with pytest.raises(CorpusError, match=r"one file was skipped: empty\.txt \(it contains no text\)"):
        read_documents(str(tmp_path / "empty.txt"))


def test_the_type_of_a_named_file_without_extension_is_detected(tmp_path: Path):
    write_pdf(tmp_path / "scan.pdf", "The lamp is old.")
    rows = b'\n{"id": "a", "text": "The lamp is old."}\n{"id": "b", "text": "So is the mill."}\n'
    page = b"\n<!DOCTYPE html><html><head><title>Lamps</title></head><body><p>The lamp is old.</p></body></html>"
    for content, documents in (
        (b"The lamp is old.\n", [("LICENSE", "LICENSE", "The lamp is old.")]),
        (b"\n\n# {The} lamp is old.\n", [("LICENSE", "LICENSE", "# {The} lamp is old.")]),
        ("Grüße.".encode("utf-16"), [("LICENSE", "LICENSE", "Grüße.")]),
        (gzip.compress(b"The lamp is old."), [("LICENSE.gz", "LICENSE.gz", "The lamp is old.")]),
        ((tmp_path / "scan.pdf").read_bytes(), [("LICENSE", "LICENSE", "The lamp is old.")]),
        (page, [("LICENSE", "Lamps", "The lamp is old.")]),
        (rows, [("a", "", "The lamp is old."), ("b", "", "So is the mill.")]),
        (rows.decode().encode("utf-16"), [("a", "", "The lamp is old."), ("b", "", "So is the mill.")]),
    ):
        path = tmp_path / documents[0][0] if documents[0][0].endswith(".gz") else tmp_path / "LICENSE"
        path.write_bytes(content)
        assert [(one.id, one.title, one.text) for one in read_documents(str(path))] == documents
    for content, reason in ((b"", "no text"), (b"\0\1\2", "binary"), (b"caf\xe9", "not UTF-8")):
        (tmp_path / "LICENSE").write_bytes(content)
        with pytest.raises(CorpusError, match=reason):
            read_documents(str(tmp_path / "LICENSE"))


def test_a_pattern_skips_hidden_files_unless_it_names_them(tmp_path: Path):
    for name in ("a.txt", ".b.txt", "deep/c.txt", ".git/d.txt", "$RECYCLE.BIN/e.txt", "deep/@eaDir/f.txt", "~$g.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("Words.")

    def read(pattern: str) -> list[str]:
        return [document.source for document in load_corpus(str(tmp_path / pattern)).documents]

    assert read("") == ["a.txt", "deep/c.txt"]
    assert read("*.txt") == ["a.txt"]
    assert read("**/*.txt") == ["a.txt", "deep/c.txt"]
    assert {one.id for one in load_corpus(str(tmp_path / "**/*.txt")).skipped} == {
        ".b.txt", ".git/d.txt", "$RECYCLE.BIN/e.txt", "deep/@eaDir/f.txt", "~$g.txt",
    }  # fmt: skip
    assert read(".*.txt") == [".b.txt"]
    assert read(".git/*.txt") == ["d.txt"]
    assert [document.id for document in load_corpus(str(tmp_path / ".b.txt")).documents] == [".b"]


@pytest.mark.parametrize(
    "name",
    ["a::b", " x ", 'q"uote', "it's", "x?y", "a*b", "[z]", "{a,b}", "file:x", "a\\b", "two\nlines", "~", "~none",
     "-dash", "#x", "notes #2", "s3:", "a%20b", "http:", "null", "$HOME", "local::x", "ünï", "a: b", "a=b"],
)  # fmt: skip
def test_a_folder_may_have_any_name(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / name).mkdir()
    (tmp_path / name / "f.txt").write_text("Words.")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    for location in (name, f"{name}/", f"{name}/f.txt", str(tmp_path / name), f"./{name}"):
        assert [document.text for document in load_corpus(location).documents] == ["Words."], location


def test_reading_stops_after_the_requested_documents(tmp_path: Path):
    path = write_jsonl(tmp_path / "docs.jsonl", [*ROWS[:2], {"id": "bad"}])
    corpus = load_corpus(path, max_documents=2)
    assert (len(corpus.documents), corpus.unread) == (2, ())
