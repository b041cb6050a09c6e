"""Data sets in another layout than the official one: one clear error that names the file and the record."""

from pathlib import Path

import pytest
from conftest import write_jsonl
from data_sets import HOP, POP_HEADER, POP_ROW, RAGTRUTH
from data_sets import iirc as _iirc
from data_sets import write_json as _write

from dyprag.corpora.datasets import DATA_SETS, load_dataset
from dyprag.errors import CorpusError


def _raised(name: str, location: str | Path, passages: str | None = None) -> CorpusError:
    with pytest.raises(CorpusError) as caught:
        load_dataset(name, location, passages)
    assert str(location) in str(caught.value) or name not in DATA_SETS
    assert caught.value.remedy.strip()
    return caught.value


def test_an_unknown_set_and_a_missing_file_are_named(tmp_path: Path):
    assert "hotpotqa" in _raised("hotpot", tmp_path).remedy
    assert "has no popQA.tsv" in _raised("popqa", tmp_path).reason
    assert "no such file" in _raised("popqa", tmp_path / "nowhere").reason
    file = _write(tmp_path / "x.json", [HOP])
    with pytest.raises(CorpusError, match="contains no documents"):
        load_dataset("hotpotqa", file, write_jsonl(tmp_path / "empty.jsonl", []))


@pytest.mark.parametrize("name", [name for name in DATA_SETS if name not in ("popqa", "jsonl")])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "not JSON"),
        ("[{", "not JSON"),
        ('{\n "data": []\n}', "not JSON"),
        ('{"data": []}', "field required"),
        ("[5]", "valid dictionary"),
        ('"x"', "not a list"),
        ("[]", "no usable questions"),
    ],
)
def test_the_error_for_another_layout_names_the_file_and_the_expected_layout(
    tmp_path: Path, name: str, content: str, reason: str
):
    path = tmp_path / "file.json"
    path.write_text(content, encoding="utf-8")
    error = _raised(name, path)
    assert reason in error.reason
    assert reason == "no usable questions" or "question" in error.remedy


@pytest.mark.parametrize(
    ("name", "record", "reason"),
    [
        ("hotpotqa", {**HOP, "answer": 5}, "'answer'"),
        ("hotpotqa", {**HOP, "context": [["Fog", "Fog is wet."]]}, "'context.0.1'"),
        ("hotpotqa", {**HOP, "context": {"title": ["Fog"], "sentences": []}}, "equal length"),
        ("2wikimultihopqa", {key: HOP[key] for key in HOP if key != "supporting_facts"}, "'supporting_facts'"),
        ("complexwebquestions", {"ID": "h1", "question": "?", "answers": ["Brazil"]}, "'answers.0'"),
        ("strategyqa", {"qid": "h1", "question": "?", "facts": [], "evidence": []}, "'answer'"),
        ("strategyqa", {"qid": "h1", "question": "?", "answer": "yes"}, "'answer'"),
        ("iirc", {"pid": "h1", "title": "T", "questions": [_iirc("q", {"type": "date"})]}, "'questions.0.answer.type'"),
        ("iirc", {"pid": "h1", "title": "T", "questions": [_iirc("q", {"type": "span"})]}, "'q'"),
        ("iirc", {"pid": "h1", "title": "T", "questions": [_iirc("q", {"type": "binary", "answer_value": 1})]}, "'q'"),
        ("ragtruth", {**RAGTRUTH, "source_info": "text"}, "valid dictionary"),
        ("ragtruth", {**RAGTRUTH, "source_info": {"question": "?", "passages": "Beets."}}, "passage 1:"),
    ],
)
def test_a_malformed_record_is_named(tmp_path: Path, name: str, record: dict, reason: str):
    error = _raised(name, _write(tmp_path / "x.json", [record]))
    assert reason in error.reason
    assert "record 0" in error.subject
    assert "(h1)" in error.subject or name == "ragtruth"


def test_an_id_that_occurs_twice_is_named(tmp_path: Path):
    assert "'h1' occurs twice" in _raised("hotpotqa", _write(tmp_path / "x.json", [HOP, HOP])).reason


@pytest.mark.parametrize(
    ("content", "reason", "place"),
    [
        ("id,question\n1,Who?\n", "possible_answers", ""),
        (POP_HEADER + "7\toccupation\n", "6 columns", "line 2 (7)"),
        (POP_HEADER + POP_ROW + POP_ROW.replace('"[""poet"", ""bard""]"', "poet"), "'possible_answers'", "line 3 (7)"),
        (POP_HEADER, "no usable questions", ""),
        (POP_HEADER + "7\ta\tb\tc\td\t\"[]", "cannot be read", "line 2"),
    ],
)  # fmt: skip
def test_an_invalid_table_is_named(tmp_path: Path, content: str, reason: str, place: str):
    path = tmp_path / "popQA.tsv"
    path.write_text(content, encoding="utf-8")
    error = _raised("popqa", path)
    assert reason in error.reason
    assert place in error.subject


def test_an_invalid_alias_or_paragraph_file_is_named(tmp_path: Path):
    _write(tmp_path / "dev.json", [HOP])
    write_jsonl(tmp_path / "id_aliases.json", [{"Q_id": "Q1", "aliases": "x"}])
    error = _raised("2wikimultihopqa", tmp_path)
    assert error.subject.endswith("id_aliases.json, line 1")
    assert "demonyms" in error.remedy
    _write(tmp_path / "strategyqa_train.json", [{"qid": "q", "question": "?", "answer": True, "evidence": []}])
    _write(tmp_path / "strategyqa_train_paragraphs.json", {"A-1": {"title": "A"}})
    error = _raised("strategyqa", tmp_path)
    assert error.subject.endswith("paragraph 'A-1'")
    assert "content" in error.reason
