"""Corpora as people have them: with a store inside, unread documents that questions ask about, and typed ids."""

import gzip
import json
from pathlib import Path

import pytest
from conftest import write_jsonl

from dyprag.config.values import from_yaml
from dyprag.corpora.documents import Document, Skipped, Unread
from dyprag.corpora.locations import documents_at
from dyprag.corpora.reader import load_corpus
from dyprag.corpora.reading.plain import read_plain
from dyprag.errors import CorpusError


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "lamp.txt").write_text("The lamp was lit by Mara.")
    return folder


def questions(folder: Path, *rows: dict[str, object]) -> str:
    return write_jsonl(folder / "questions.jsonl", list(rows))


def test_a_store_inside_the_corpus_is_not_read(notes: Path):
    store = notes / "artifacts"
    (store / "corpus").mkdir(parents=True)
    (store / "catalogue.lock").touch()
    (store / "corpus" / "copy.txt").write_text("An older text.")
    entries = list(documents_at(str(notes)))
    assert [entry.id for entry in entries if isinstance(entry, Document)] == ["lamp"]
    assert [entry for entry in entries if isinstance(entry, Skipped)] == [
        Skipped("artifacts/", "it is a store of dyprag")
    ]


@pytest.mark.parametrize("content", [b"Z\xfcrich is lit.", b"%PDF-1.4 nonsense"])
def test_questions_about_an_unread_document_are_set_aside_and_the_others_asked(
    notes: Path, tmp_path: Path, content: bytes
):
    name = "pier.pdf" if content.startswith(b"%PDF") else "pier.txt"
    (notes / name).write_bytes(content)
    rows = [{"id": i, "question": "Who?", "answer": "Mara", "documents": [i]} for i in ("lamp", "pier", name)]
    corpus = load_corpus(str(notes), questions(tmp_path, *rows))
    assert [question.id for question in corpus.questions] == ["lamp"]
    assert [(note.id, "could not be read" in note.how) for note in corpus.noted] == [("pier", True), (name, True)]
    assert len(corpus.unread) == 1
    with pytest.raises(CorpusError, match="'mill' that is not in the corpus"):
        load_corpus(str(notes), questions(tmp_path, {"question": "Who?", "answer": "Mara", "documents": "mill"}))


def test_numbers_as_ids_and_answers_are_text(tmp_path: Path):
    documents = write_jsonl(tmp_path / "docs.jsonl", [{"id": 1, "text": "Built in 1911."}, {"id": 2.0, "text": "Old."}])
    rows = [{"id": 7.0, "question": "When?", "answer": 1911, "documents": [1]},
            {"id": float("nan"), "question": "When?", "answer": [1911, "in 1911"], "documents": 2}]  # fmt: skip
    corpus = load_corpus(documents, questions(tmp_path, *rows))
    assert [(q.id, q.answers, q.documents) for q in corpus.questions] == [
        ("7", ("1911",), ("1",)), ("question-2", ("1911", "in 1911"), ("2",)),
    ]  # fmt: skip
    for wrong in (True, None, [], {"a": 1}, ["a", None]):
        with pytest.raises(CorpusError, match="line 1: it needs"):
            load_corpus(documents, questions(tmp_path, {"question": "When?", "answer": wrong}))


def test_a_cut_emoji_in_a_question_is_no_reason_to_stop(tmp_path: Path):
    documents = write_jsonl(tmp_path / "docs.jsonl", [{"id": "a", "text": "Old."}])
    file = tmp_path / "cut.jsonl"
    file.write_text(json.dumps({"id": "\ud83d", "question": "Who \ud83d?", "answer": "Ma\ud83d"}) + "\n")
    (question,) = load_corpus(documents, str(file)).questions
    assert (question.id, question.question, question.answers) == ("?", "Who ??", ("Ma?",))


@pytest.mark.parametrize("text", [" " * 300_000, " " * 300_000 + "Lamp", "\n" * 300_000 + "Lamp\n\nIt is old."])
def test_long_white_space_is_read_at_once(text: str):
    assert read_plain(text).text.strip() in ("", "Lamp", "It is old.")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("lora:\n  rank: 8\nlora:\n  alpha: 16\n", "'lora' occurs twice"),
        ("lora: {rank: 8, rank: 4}", "'rank' occurs twice"),
        ("? [a, b]\n: c", "a key is not text"),
    ],
)
def test_a_setting_that_is_given_twice_is_an_error(text: str, reason: str):
    with pytest.raises(Exception, match=reason):
        from_yaml(text)


def test_a_merged_mapping_may_be_overridden():
    assert from_yaml("a: &a {rank: 8, alpha: 2}\nb: {<<: *a, rank: 4}")["b"] == {"alpha": 2, "rank": 4}


def test_a_damaged_file_of_rows_does_not_affect_the_others(notes: Path):
    whole = gzip.compress(b'{"id": "a", "text": "Old."}\n')
    (notes / "no.jsonl.gz").write_bytes(b'{"id": "a", "text": "Old."}\n')
    (notes / "sum.jsonl.gz").write_bytes(whole[:-8] + b"\0\0\0\0" + whole[-4:])
    entries = list(documents_at(str(notes)))
    assert [entry.id for entry in entries if isinstance(entry, Document)][-1] == "lamp"
    unread = {entry.source or entry.id: entry.error.reason for entry in entries if isinstance(entry, Unread)}
    assert set(unread) == {"no.jsonl.gz", "sum.jsonl.gz"}
    assert all("damaged" in reason for reason in unread.values())


def test_a_row_with_a_key_twice_fails_alone(tmp_path: Path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"id": "a", "text": "first", "text": "second"}\n{"id": "b", "text": "Old."}\n')
    corpus = load_corpus(str(file), None)
    assert [document.id for document in corpus.documents] == ["b"]
    assert "the key 'text' twice" in corpus.unread[0].error.reason
