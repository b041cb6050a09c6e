"""`dyprag documents`: documents and unread files as a table, as text and as JSON."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dyprag.cli.main import app
from dyprag.tasks.workspace import unknown_document

NOTE = "# Quarn Bridge\n\nIt is *long*.\n\n| Built | Length |\n|---|---|\n| 1954 | 118 m |\n"
TEXT = "Quarn Bridge\n\nIt is long.\n\nBuilt: 1954; Length: 118 m.\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "note.md").write_text(NOTE)
    (tmp_path / "lamp.txt").write_text("It burns oil.")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    (tmp_path / "picture.png").write_bytes(b"x")
    return tmp_path


def run(*arguments: str) -> str:
    """Run the command, which must succeed, and return its output."""
    done = CliRunner().invoke(app, ["documents", *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_folder_is_listed_with_its_unread_files(folder: Path):
    shown = [line.split() for line in run("--document", str(folder)).splitlines() if line.strip()]
    assert shown[0] == ["id", "title", "words", "passages", "source"]
    assert shown[1] == ["lamp", "lamp", "3", "1", "lamp.txt"]
    assert shown[2] == ["note", "Quarn", "Bridge", "8", "1", "note.md"]
    assert shown[3] == ["not", "read", "file", "why"]
    assert shown[4][:2] == ["failed", "latin.txt"]
    assert ["skipped", "picture.png", ".png", "files", "are", "not", "supported"] in shown
    assert "lamp.txt" not in run("--document", str(folder), "--skipped")


def test_a_file_and_a_document_are_printed_as_they_are_read(folder: Path):
    assert run("--document", str(folder / "note.md")) == TEXT
    assert run("note", "--document", str(folder)) == TEXT
    found = json.loads(run("note", "--document", str(folder), "--json"))
    assert (found["id"], found["title"], found["words"]) == ("note", "Quarn Bridge", 8)
    assert found["passages"] == [{"id": "note", "text": TEXT.partition("\n\n")[2].strip()}]
    listed = json.loads(run("--document", str(folder), "--json"))
    assert [(one["id"], one["passages"]) for one in listed["documents"]] == [("lamp", 1), ("note", 1)]
    assert listed["skipped"] == {"picture.png": ".png files are not supported"}
    assert "not UTF-8" in listed["unread"]["latin.txt"]
    assert "documents" not in json.loads(run("--document", str(folder), "--json", "--skipped"))


def test_a_long_document_is_listed_once_with_its_passages(folder: Path, tiny_model: str):
    (folder / "lamp.txt").write_text("It burns oil. It is old. " * 40)
    arguments = ["--document", str(folder), "--set", "corpus.passage_tokens=60", "--set", f"model.name={tiny_model}"]
    lamp, _ = json.loads(run(*arguments, "--json"))["documents"]
    assert (lamp["id"], lamp["words"]) == ("lamp", 240)
    assert lamp["passages"] > 2
    whole = run("lamp", *arguments)
    assert all(f"[lamp#{number}]\n" in whole for number in range(1, lamp["passages"] + 1))
    assert run("lamp#2", *arguments).startswith("lamp\n\nIt ")


def test_an_unknown_document_is_refused_with_similar_names(folder: Path):
    done = CliRunner().invoke(app, ["documents", "Note.md", "--document", str(folder)])
    assert done.exit_code == 1
    assert "error: document 'Note.md': it is not in the ingested corpus" in done.stderr
    assert done.stderr.rstrip().endswith("Did you mean 'note'? List them: dyprag documents.")
    assert "There are 4, such as 'a', 'b', 'c'." in str(unknown_document("zebra", list("abcd")))
    assert "There is only 'a'." in str(unknown_document("zebra", ["a"]))
    assert "split into 2 passages" in str(unknown_document("a", ["a#1", "a#2"]))


def test_an_empty_folder_and_a_store_without_a_corpus_are_reported(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    assert "No documents in" in run("--document", str(tmp_path / "empty"))
    assert run("--document", str(tmp_path / "empty"), "--skipped") == "Nothing was skipped or failed.\n"
    done = CliRunner().invoke(app, ["documents", "--set", f"store={tmp_path / 'store'}"])
    assert done.exit_code == 1
    assert "dyprag ingest" in done.stderr
