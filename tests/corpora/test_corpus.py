"""Corpora: what is read, and one clear error for every invalid input."""

import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from conftest import TEXTS, write_jsonl
from hypothesis import given
from hypothesis import strategies as st

from dyprag.corpora.documents import Document
from dyprag.corpora.reader import DocumentCollection, load_corpus, read_given
from dyprag.errors import CorpusError


def test_jsonl_is_read_in_order(corpus_files: tuple[str, str]):
    corpus = load_corpus(*corpus_files)
    assert corpus.documents == tuple(Document(i, text, i.title()) for i, text in TEXTS.items())
    assert [q.answers for q in corpus.questions] == [("Greta Olmsted",), ("Osk",), ("Mara Vell",)]
    assert [q.documents for q in corpus.questions] == [("lamp",), ("bridge",), ("book",)]
    assert load_corpus(corpus_files[0]).questions == ()


def test_ids_blank_lines_byte_order_marks_and_line_ends_are_accepted(tmp_path: Path):
    path = tmp_path / "docs.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"id": 7, "text": " Caf\xc3\xa9 "}\r\n\r\n{"id": "x", "text": "y", "title": null}\r\n'
    )
    assert load_corpus(str(path)).documents == (Document("7", "Café"), Document("x", "y"))


def test_a_folder_gives_a_document_for_each_text_file(tmp_path: Path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "one.txt").write_text("First.\n", encoding="utf-8")
    (tmp_path / "deep" / "two.md").write_text("Second.", encoding="utf-8")
    (tmp_path / "picture.png").write_bytes(b"\xff\xfe")
    assert set(load_corpus(str(tmp_path)).documents) == {
        Document("one", "First.", "one"),
        Document("deep/two", "Second.", "two"),
    }


def test_questions_may_name_a_document_by_its_file(tmp_path: Path):
    for name in ("one.txt", "two.md"):
        (tmp_path / name).write_text("Words.")
    rows = [{"question": "Who?", "answer": "x", "documents": ["one.txt", "two"]}]
    asked = load_corpus(str(tmp_path), write_jsonl(tmp_path.parent / "q.jsonl", rows)).questions
    assert [question.documents for question in asked] == [("one", "two")]
    write_jsonl(tmp_path.parent / "q.jsonl", [{**rows[0], "documents": ["tow"]}])
    with pytest.raises(CorpusError, match=r"'tow' that is not in the corpus. Correct .*; did you mean 'two'\?"):
        load_corpus(str(tmp_path), str(tmp_path.parent / "q.jsonl"))


def test_two_unicode_compositions_of_a_name_are_one_document(tmp_path: Path):
    """macOS stores decomposed file names, and questions may be written there as well."""
    for composition, other in (("NFD", "NFC"), ("NFC", "NFD")):
        folder = tmp_path / composition
        folder.mkdir()
        (folder / unicodedata.normalize(composition, "Zürich.txt")).write_text("Die Bru\u0308cke.", encoding="utf-8")
        name = unicodedata.normalize(other, "Zürich.txt")
        rows = [{"question": "Wo?", "answer": unicodedata.normalize(other, "Über"), "documents": [name]}]
        corpus = load_corpus(str(folder), write_jsonl(tmp_path / "q.jsonl", rows))
        assert corpus.documents == (Document("Zürich", "Die Brücke.", "Zürich"),)
        assert (corpus.questions[0].documents, corpus.questions[0].answers) == (("Zürich",), ("Über",))


def test_an_empty_text_is_not_an_error_of_the_corpus(tmp_path: Path):
    path = write_jsonl(tmp_path / "docs.jsonl", [{"id": "a", "text": ""}, {"id": "b", "text": "full"}])
    assert [document.text for document in load_corpus(path).documents] == ["", "full"]


def test_the_demo_can_be_answered_from_its_documents():
    corpus = load_corpus("demo")
    texts = {document.id: document.text for document in corpus.documents}
    assert len(texts) == 48
    single = Counter(q.documents for q in corpus.questions if q.type == "single")
    assert all(len(documents) == 1 for documents in single)
    assert {documents[0] for documents in single} == set(texts)
    assert min(single.values()) >= 3
    multihop = {q.documents for q in corpus.questions if q.type == "multihop"}
    assert len(multihop) >= 10
    assert all(len(set(documents)) == 2 for documents in multihop)
    assert [q.id for q in corpus.questions if q.answers[0] not in texts[q.documents[-1]]] == []


def test_limiting_documents_keeps_only_the_questions_about_them(corpus_files: tuple[str, str]):
    corpus = load_corpus(*corpus_files, max_documents=2)
    assert [document.id for document in corpus.documents] == ["lamp", "bridge"]
    assert [question.id for question in corpus.questions] == ["q1", "q2"]


def test_the_number_of_questions_is_limited_for_each_set_of_documents():
    asked = load_corpus("demo", max_questions=1).questions
    counts = Counter(question.documents for question in asked)
    assert set(counts.values()) == {1}
    assert len(counts) >= 58


def test_a_document_id_as_a_plain_string_is_that_document(tmp_path: Path, corpus_files: tuple[str, str]):
    rows = [{"question": "Who?", "answer": "Greta Olmsted", "documents": "lamp"}]
    asked = load_corpus(corpus_files[0], write_jsonl(tmp_path / "q.jsonl", rows)).questions
    assert [question.documents for question in asked] == [("lamp",)]


def _bad(tmp_path: Path, content: bytes) -> str:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content)
    return str(path)


def _check(error: CorpusError, path: str, reason: str) -> None:
    """The message names the file, the reason and the remedy."""
    assert path in str(error)
    assert reason in error.reason
    assert error.remedy.strip()
    assert error.remedy in str(error)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no document"),
        (b"\n \n", "no document"),
        ('{"id": "a", "text": "Café"}'.encode("latin1"), "not UTF-8"),
        (b'{"id": ', "not JSON"),
        (b'["a", "x"]', "not a JSON object"),
        (b'{"text": "x"}', "'id'"),
        (b'{"id": " ", "text": "x"}', "'id'"),
        (b'{"id": "a"}', "'text'"),
        (b'{"id": "a", "text": ["x"]}', "'text'"),
    ],
)
def test_an_invalid_corpus_file_is_named_with_reason_and_remedy(tmp_path: Path, content: bytes, reason: str):
    path = _bad(tmp_path, content)
    with pytest.raises(CorpusError) as caught:
        load_corpus(path)
    _check(caught.value, path, reason)


def test_a_missing_corpus_is_named(tmp_path: Path):
    path = str(tmp_path / "nowhere.jsonl")
    with pytest.raises(CorpusError) as caught:
        load_corpus(path)
    _check(caught.value, path, "no such file")


def test_a_folder_without_documents_is_named(tmp_path: Path):
    (tmp_path / "picture.png").write_bytes(b"")
    with pytest.raises(CorpusError) as caught:
        load_corpus(str(tmp_path))
    _check(caught.value, str(tmp_path), "no document")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"question": "Who?"}', "'answer'"),
        (b'{"question": "Who?", "answer": null}', "'answer'"),
        (b'{"question": "Who?", "answer": []}', "'answer'"),
        (b'{"question": "Who?", "answer": ""}', "'answer'"),
        (b'{"question": "When?", "answer": true}', "'answer'"),
        (b'{"question": "When?", "answer": [true]}', "'answer'"),
        (b'{"answer": "Greta"}', "'question'"),
        (b'{"question": "Who?", "answer": "x", "documents": {"a": 5}}', "documents"),
        (b'{"id": "q", "question": "A?", "answer": "x"}\n{"id": "q", "question": "B?", "answer": "x"}', "twice"),
        (b"{", "not JSON"),
    ],
)
def test_invalid_questions_are_named_with_reason_and_remedy(
    tmp_path: Path, corpus_files: tuple[str, str], content: bytes, reason: str
):
    path = _bad(tmp_path, content)
    with pytest.raises(CorpusError) as caught:
        load_corpus(corpus_files[0], path)
    _check(caught.value, path, reason)


def test_missing_questions_are_named(corpus_files: tuple[str, str]):
    with pytest.raises(CorpusError) as caught:
        load_corpus(corpus_files[0], "/no/such/questions.jsonl")
    _check(caught.value, "/no/such/questions.jsonl", "no such file")


def test_passages_of_a_question_are_added_to_the_corpus_as_its_gold_documents(
    tmp_path: Path, corpus_files: tuple[str, str]
):
    lamp = {"title": "Lamp", "text": TEXTS["lamp"]}
    rows = [
        {"id": "known", "question": "Who?", "answer": "Greta Olmsted", "passages": [lamp]},
        {"id": "new", "question": "Where?", "answer": "Brevik", "documents": ["lamp"], "passages": ["The sea.", lamp]},
        {
            "id": "namesake",
            "question": "What?",
            "answer": "oil",
            "passages": {"title": "lamp", "text": "It burns oil."},
        },
    ]
    corpus = load_corpus(corpus_files[0], write_jsonl(tmp_path / "q.jsonl", rows))
    assert [question.documents for question in corpus.questions] == [
        ("lamp",),
        ("lamp", "new passage 1"),
        ("lamp (2)",),
    ]
    assert corpus.documents[3:] == (
        Document("new passage 1", "The sea."),
        Document("lamp (2)", "It burns oil.", "lamp"),
    )


@pytest.mark.parametrize("passages", [[1], [""], [{"title": "x"}], [{"title": 1, "text": "x"}], 5, [["x"]]])
def test_malformed_passages_are_named(tmp_path: Path, corpus_files: tuple[str, str], passages: object):
    path = write_jsonl(tmp_path / "q.jsonl", [{"question": "Who?", "answer": "x", "passages": passages}])
    with pytest.raises(CorpusError) as caught:
        load_corpus(corpus_files[0], path)
    _check(caught.value, f"{path}, line 1", "'passages'")


def test_a_document_that_is_not_in_the_corpus_is_named(tmp_path: Path, corpus_files: tuple[str, str]):
    path = write_jsonl(tmp_path / "q.jsonl", [{"question": "Who?", "answer": "x", "documents": ["nowhere"]}])
    with pytest.raises(CorpusError) as caught:
        load_corpus(corpus_files[0], path)
    _check(caught.value, path, "'nowhere'")


@given(st.lists(st.tuples(st.sampled_from(["A", "A (2)", ""]), st.sampled_from("xyz"))))
def test_documents_in_a_collection_have_unique_ids_and_are_stored_once(put: list[tuple[str, str]]):
    collection = DocumentCollection([Document("A", "y", "A")])
    ids = {(title, text): collection.add(title, text) for title, text in put}
    assert [collection.add(title, text) for title, text in put] == [ids[each] for each in put]
    held = {document.id: (document.title, document.text) for document in collection.documents}
    assert len(held) == len(collection.documents) == len({*put, ("A", "y")})
    assert all(held[identity] == each for each, identity in ids.items())


def test_given_documents_are_used_as_far_as_they_can_be_read(tmp_path: Path):
    for name in ("one", "two", "bad", "none", "void"):
        (tmp_path / name).mkdir()
    (tmp_path / "one" / "lamp.txt").write_text("It is old.")
    (tmp_path / "one" / "latin.txt").write_bytes(b"caf\xe9")
    (tmp_path / "one" / "empty.md").write_text("")
    (tmp_path / "one" / "note.docx").write_text("x")
    write_jsonl(
        tmp_path / "one" / "rows.jsonl", [{"id": "a", "text": " "}, {"id": "b", "text": "It is new."}, {"id": "c"}]
    )
    (tmp_path / "two" / "lamp.txt").write_text("It is another.")
    (tmp_path / "bad" / "latin.txt").write_bytes(b"caf\xe9")
    (tmp_path / "none" / "note.docx").write_text("x")
    one, two, bad, none, void = (str(tmp_path / name) for name in ("one", "two", "bad", "none", "void"))
    given = read_given([one, two, one])
    assert [(document.id, document.text) for document in given.documents] == [
        ("lamp", "It is old."), ("b", "It is new."), (f"{two}: lamp", "It is another."),
    ]  # fmt: skip
    assert {unread.id for unread in given.unread} == {"latin.txt", "a", "c"}
    assert {skipped.id for skipped in given.skipped} == {"empty.md", "note.docx"}
    for location, reason in ((bad, "it is not UTF-8"), (none, r"one file was skipped: note\.docx")):
        with pytest.raises(CorpusError, match=reason):
            read_given([location, void])
    given = read_given([bad, one, none, void])
    assert [document.id for document in given.documents] == ["lamp", "b"]
    assert "latin.txt" in {unread.id for unread in given.unread}
    assert (void, "it contains no documents") in {(skipped.id, skipped.reason) for skipped in given.skipped}
    with pytest.raises(CorpusError, match="no such file or folder"):
        read_given([one, str(tmp_path / "lost")])


def test_an_empty_location_and_irregular_files_are_rejected(tmp_path: Path):
    import os

    os.mkfifo(tmp_path / "pipe.txt")
    for location, reason in {
        "": "no location is given", " ": "no location is given", str(tmp_path / "pipe.txt"): "it is not a regular file",
        "/dev/zero": "it is not a regular file", str(tmp_path / "*.txt"): "it is not a regular file",
    }.items():  # fmt: skip
        with pytest.raises(CorpusError, match=reason):
            load_corpus(location)


def test_questions_may_be_in_utf_16_with_a_byte_order_mark(tmp_path: Path, corpus_files: tuple[str, str]):
    path = tmp_path / "q.jsonl"
    path.write_bytes('{"question": "Who?", "answer": "Béa"}\r\n'.encode("utf-16"))
    assert [question.answers for question in load_corpus(corpus_files[0], str(path)).questions] == [("Béa",)]
