"""Documents that cannot be read: each is named with the reason, and the others are not affected."""

import gzip
import os
import tempfile
from pathlib import Path

import pytest
from document_files import write_pdf, write_rows
from fpdf import FPDF

from dyprag.corpora.documents import Corpus, Document
from dyprag.corpora.reader import load_corpus, read_documents
from dyprag.errors import CorpusError


def faults(corpus: Corpus) -> dict[str, str]:
    """Return the complete messages of unread documents, by id."""
    assert all(unread.error.remedy for unread in corpus.unread)
    return {unread.id: str(unread.error) for unread in corpus.unread}


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
