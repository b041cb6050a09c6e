"""Locations: every kind gives the same documents, and unreadable documents do not affect the others."""

import csv
import gzip
import os
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import TEXTS, write_jsonl
from fpdf import FPDF

from dyprag.corpora.documents import Corpus, Document
from dyprag.corpora.locations import readable
from dyprag.corpora.reader import load_corpus, read_documents
from dyprag.errors import CorpusError

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


def faults(corpus: Corpus) -> dict[str, str]:
    """Return the complete messages of unread documents, by id."""
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


@pytest.mark.parametrize(
    ("text", "encoding", "named"),
    [
        ("The caf\xe9 is \u201cold\u201d.", "cp1252", "CP1252"),
        ("Лампа была зажжена в городе.", "cp1251", "CP1251"),
        ("Příliš žluťoučký kůň úpěl ďábelské ódy.", "cp1250", "CP1250"),
        ("奥多点亮了山上的灯，它在一九一一年建成。", "gb18030", "GB18030"),
        ("The lamp is old.\n", "utf-16-le", "UTF-16LE"),
        ("The lamp is old.\n", "utf-16-be", "UTF-16BE"),
    ],
)  # fmt: skip
def test_a_file_in_another_encoding_is_rejected_with_a_conversion_command(
    tmp_path: Path, text: str, encoding: str, named: str
):
    (tmp_path / "x.txt").write_bytes(text.encode(encoding))
    with pytest.raises(CorpusError) as caught:
        load_corpus(str(tmp_path / "x.txt"))
    assert caught.value.remedy == f"Convert it, for example: iconv -f {named} -t UTF-8 OLD > NEW."


def test_unreadable_files_are_named_and_do_not_affect_the_others(tmp_path: Path):
    (tmp_path / "a.txt").write_text("Fine.")
    (tmp_path / "wide.txt").write_bytes("Grüße.".encode("utf-16"))
    (tmp_path / "binary.txt").write_bytes(b"\x00\x01\x02")
    (tmp_path / "binary.html").write_bytes(b"\x00\x01\x02")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    (tmp_path / "cut.txt.gz").write_bytes(gzip.compress(b"text " * 1000)[:20])
    (tmp_path / "deep.html").write_text("<div>" * 50_000 + "Lost.")
    write_pdf(tmp_path / "scan.pdf", "")
    write_pdf(tmp_path / "broken.pdf", "x")
    (tmp_path / "broken.pdf").write_bytes((tmp_path / "broken.pdf").read_bytes()[:200])
    locked = FPDF()
    locked.add_page()
    locked.set_encryption(owner_password="owner", user_password="secret")
    locked.output(str(tmp_path / "locked.pdf"))
    corpus = load_corpus(str(tmp_path))
    assert [(document.id, document.text) for document in corpus.documents] == [("a", "Fine."), ("wide", "Grüße.")]
    errors = faults(corpus)
    assert all(str(tmp_path / name) in message for name, message in errors.items())
    reasons = {
        "binary.txt": "it is a binary file", "binary.html": "it is a binary file",
        "latin.txt": "it is not UTF-8 (byte 3 is 0xe9). Convert it", "cut.txt.gz": "it is damaged",
        "deep.html": "nested too deep", "scan.pdf": "OCR", "broken.pdf": "it is a damaged PDF",
        "locked.pdf": "Save it without a password",
    }  # fmt: skip
    assert errors.keys() == reasons.keys()
    assert all(reason in errors[name] for name, reason in reasons.items())
    with pytest.raises(CorpusError, match="it is a binary file"):  # for callers that need all documents
        read_documents(str(tmp_path))


def test_an_unlistable_folder_is_named_and_does_not_affect_the_others():
    with tempfile.TemporaryDirectory() as name:  # not in pytest's folder, which only root can read
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
    assert [document.id for document in corpus.documents] == ["a"]
    assert faults(corpus) == {
        "closed/": f"corpus {folder}/closed: this folder cannot be listed (Permission denied). Check its permissions."
    }


def test_unreadable_rows_are_named_and_do_not_affect_the_others(tmp_path: Path):
    path = tmp_path / "docs.jsonl"
    path.write_bytes(
        b'{"id": "a", "text": "x"}\n{"id": \n["b"]\n{"text": "x"}\n{"id": "c"}\n{"id": "a", "text": "y"}\n'
        b'{"id": "caf\xe9", "text": "z"}\n{"id": "d", "text": "z"}\n'
    )
    corpus = load_corpus(str(path))
    assert corpus.documents == (Document("a", "x"), Document("d", "z"))
    errors = faults(corpus)
    assert f"corpus {path}, line 2: it is not JSON" in errors["line 2"]
    assert f"corpus {path}, line 3: it is not a JSON object" in errors["line 3"]
    assert "line 4: the document has no 'id'. Give each" in errors["line 4"]
    assert "line 5: document 'c' has no 'text' string. Set" in errors["c"]
    assert "the id 'a' occurs twice" in errors["a (again)"]
    assert "line 7: it is not UTF-8 (byte 11 of the line is 0xe9)" in errors["line 7"]


@pytest.mark.parametrize("name", ["part.parquet", "part.csv"])
def test_a_damaged_file_of_rows_is_named_and_does_not_affect_the_others(tmp_path: Path, name: str):
    write_rows(tmp_path / "good.jsonl")
    (tmp_path / name).write_bytes(b"nonsense\nmore")
    corpus = load_corpus(str(tmp_path / "*"))
    assert len(corpus.documents) == 3
    assert str(tmp_path / name) in faults(corpus)[name]
    with pytest.raises(CorpusError, match=name):
        load_corpus(str(tmp_path / name))


def test_an_unreachable_location_raises_one_clear_error():
    for location, reason in {
        "/no/such/*.txt": "it contains no documents",
        __file__: ".py files are not supported. Convert it to one of .txt",
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
        with pytest.raises(CorpusError, match="the URL contains a password or signature") as caught:
            load_corpus(secret)
        assert "hunter2" not in str(caught.value)


def test_a_file_name_that_cannot_be_encoded_does_not_stop_the_corpus(tmp_path: Path):
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / os.fsdecode(b"caf\xe9.txt")).write_text("Fine.")
    (folder / os.fsdecode(b"th\xe9.txt")).write_bytes(b"caf\xe9")
    corpus = load_corpus(str(folder))
    assert [document.id for document in corpus.documents] == ["caf?"]
    assert [(unread.id, "th?.txt: it is not UTF-8" in str(unread.error)) for unread in corpus.unread] == [
        ("th?.txt", True)
    ]
    path = tmp_path / "docs.jsonl"
    path.write_text('{"id": "a\\ud83d", "text": "x"}\n')
    assert load_corpus(str(path)).documents == (Document("a?", "x"),)


def test_reading_stops_after_the_requested_documents(tmp_path: Path):
    path = write_jsonl(tmp_path / "docs.jsonl", [*ROWS[:2], {"id": "bad"}])
    corpus = load_corpus(path, max_documents=2)
    assert (len(corpus.documents), corpus.unread) == (2, ())
