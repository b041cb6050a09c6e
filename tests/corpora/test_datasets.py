"""Data sets: their official files, excluded questions and notes."""

from pathlib import Path

import pytest
from conftest import write_jsonl
from data_sets import HOP, POP_HEADER, POP_ROW, RAGTRUTH
from data_sets import iirc as _iirc
from data_sets import texts_of as _texts
from data_sets import write_json as _write
from hypothesis import given
from hypothesis import strategies as st

from dyprag.corpora.datasets import DATA_SETS, MULTI_HOP, load_dataset
from dyprag.corpora.datasets.transfer import split_passages
from dyprag.corpora.documents import Document, Question
from dyprag.errors import CorpusError


def test_the_data_sets_and_the_multi_hop_ones():
    assert {"2wikimultihopqa", "hotpotqa"} <= MULTI_HOP < set(DATA_SETS)


def test_a_data_set_is_found_by_its_file_its_folder_and_the_parent_folder(tmp_path: Path):
    file = _write(tmp_path / "hotpotqa" / "hotpot_dev_distractor_v1.json", [HOP])
    whole = load_dataset("hotpotqa", file)
    assert whole == load_dataset("hotpotqa", str(file.parent)) == load_dataset("hotpotqa", tmp_path)
    assert load_dataset("hotpotqa", file.rename(tmp_path / "mine.json")) == whole


def test_sentences_are_joined_as_in_each_data_set(tmp_path: Path):
    hotpot = load_dataset("hotpotqa", _write(tmp_path / "hotpot.json", [HOP]))
    assert hotpot.questions[0].documents == ("Quarn", "Osk bridge")
    assert hotpot.documents[0] == Document("Osk bridge", "Tomas Reil designed it. It is long.", "Osk bridge")
    spaceless = {**HOP, "context": [[title, [s.strip() for s in text]] for title, text in HOP["context"]]}
    assert load_dataset("2wikimultihopqa", _write(tmp_path / "dev.json", [spaceless])).documents == hotpot.documents


@pytest.mark.parametrize("lines", [False, True], ids=["list", "lines"])
def test_the_hubs_layout_gives_the_same_questions_as_the_official_one(tmp_path: Path, lines: bool):
    hub = {key: value for key, value in HOP.items() if key != "_id"} | {
        "id": "h1",
        "context": {"title": [c[0] for c in HOP["context"]], "sentences": [c[1] for c in HOP["context"]]},
        "supporting_facts": {"title": ["Quarn", "Osk bridge", "Quarn"], "sent_id": [1, 0, 0]},
    }
    path = write_jsonl(tmp_path / "hub.json", [hub]) if lines else _write(tmp_path / "hub.json", [hub])
    assert load_dataset("hotpotqa", path) == load_dataset("hotpotqa", _write(tmp_path / "official.json", [HOP]))


def test_2wiki_answers_have_the_aliases_and_demonyms_of_their_id(tmp_path: Path):
    records = [
        {**HOP, "_id": "a", "answer": "France", "answer_id": "Q142", "type": "bridge_comparison"},
        {**HOP, "_id": "b", "answer": "no", "answer_id": None},
        {**HOP, "_id": "c", "answer": "Elsewhere", "answer_id": "Q9"},
    ]
    path = _write(tmp_path / "dev.json", records)
    assert any("id_aliases.json" in note for note in load_dataset("2wikimultihopqa", tmp_path).notes)
    write_jsonl(
        tmp_path / "id_aliases.json",
        [
            {"Q_id": "Q142", "aliases": ["French Republic", "France"], "demonyms": ["French"]},
            {"Q_id": "Q1", "aliases": ["universe"], "demonyms": []},
        ],
    )
    dataset = load_dataset("2wikimultihopqa", path)
    assert [question.answers for question in dataset.questions] == [
        ("France", "French Republic", "French"),
        ("no",),
        ("Elsewhere",),
    ]
    assert dataset.questions[0].type == "bridge_comparison"
    assert dataset.notes == ()


def test_the_same_title_with_another_text_is_another_document(tmp_path: Path):
    other = {**HOP, "_id": "h2", "context": [HOP["context"][0], ["Quarn", ["Quarn is a river."]]]}
    dataset = load_dataset("hotpotqa", _write(tmp_path / "x.json", [HOP, other]))
    assert [document.id for document in dataset.documents] == ["Osk bridge", "Fog", "Quarn", "Quarn (2)"]
    assert dataset.questions[1].documents == ("Quarn (2)", "Osk bridge")


def test_supporting_facts_outside_the_context_are_reported(tmp_path: Path):
    full_wiki = {**HOP, "context": HOP["context"][:2]}
    dataset = load_dataset("hotpotqa", _write(tmp_path / "x.json", [full_wiki]))
    assert dataset.questions[0].documents == ("Osk bridge",)
    assert dataset.notes == ("incomplete gold documents, because the context lacks them: 1 of 1 questions",)


def test_given_passages_replace_a_data_sets_own(tmp_path: Path):
    path = _write(tmp_path / "x.json", [HOP])
    rows = [
        {"id": "Quarn", "title": "Quarn", "text": "A town."},
        {"id": "Osk bridge", "title": "Osk bridge", "text": "A bridge."},
    ]
    dataset = load_dataset("hotpotqa", path, write_jsonl(tmp_path / "p.jsonl", rows))
    assert [document.text for document in dataset.documents] == ["A town.", "A bridge."]
    assert dataset.questions[0].documents == ("Quarn", "Osk bridge")
    rows[0]["title"] = "Quarn (river)"  # the same id by coincidence
    dataset = load_dataset("hotpotqa", path, write_jsonl(tmp_path / "p.jsonl", rows))
    assert dataset.questions[0].documents == ()
    assert any(": 0 of 1 questions" in note for note in dataset.notes)


def test_popqa_puts_the_object_first_and_reports_subjects_without_a_passage(tmp_path: Path):
    rows = POP_ROW + POP_ROW.replace("7\t", "8\t").replace("Mara Vell", "Nobody").replace("\tpoet", "\tprintmaker")
    path = tmp_path / "popQA.tsv"
    path.write_text(POP_HEADER + rows, encoding="utf-8")
    titles = [("1", "Mara Vell"), ("x", "Poet"), ("2", "Mara Vell")]
    passages = write_jsonl(tmp_path / "p.jsonl", [{"id": i, "title": t, "text": f"{t} {i}"} for i, t in titles])
    dataset = load_dataset("popqa", tmp_path, passages)
    assert [question.answers for question in dataset.questions] == [("poet", "bard"), ("printmaker", "poet", "bard")]
    assert [question.documents for question in dataset.questions] == [("1", "2"), ()]
    assert dataset.notes == ("no passage has their subject as its title: 1 of 2 questions",)


def test_cwq_uses_all_answers_and_excludes_those_without_a_name(tmp_path: Path):
    records = [
        {
            "ID": "a", "question": "Which?", "compositionality_type": "conjunction",
            "answers": [{"answer": "Brazil", "aliases": ["Brasil "]}, {"answer": "Peru", "aliases": []}],
        },
        {"ID": "b", "question": "What?", "answers": [{"answer": None, "aliases": []}]},
    ]  # fmt: skip
    dataset = load_dataset("complexwebquestions", _write(tmp_path / "x.json", records))
    assert dataset.questions == (
        Question(id="a", question="Which?", answers=("Brazil", "Brasil", "Peru"), type="conjunction"),
    )
    assert dataset.notes == ("excluded, answer without a name: 1 of 2 questions",)


def test_strategyqa_gold_documents_are_the_evidence_of_any_annotator(tmp_path: Path):
    evidence = [
        [[["Arrest-2", "Gone-1"]], ["operation"]],
        [[["Arrest-2"], "no_evidence"], [["The Police-1"]]],
    ]
    record = {"qid": "q", "question": "Can they?", "answer": False, "facts": ["They sing."], "evidence": evidence}
    _write(tmp_path / "strategyqa_train.json", [record])
    paragraph = {"section": "", "headers": [], "para_index": 2}
    paragraphs = {
        "Arrest-2": {"title": "Arrest", "content": "To arrest is to seize.", **paragraph},
        "The Police-1": {"title": "The Police", "content": "A band.", **paragraph},
        "Fog-9": {"title": "Fog", "content": "Fog is wet.", **paragraph},
    }
    _write(tmp_path / "strategyqa_train_paragraphs.json", paragraphs)
    dataset = load_dataset("strategyqa", tmp_path)
    assert dataset.questions == (
        Question(id="q", question="Can they?", answers=("no",), documents=("Arrest-2", "The Police-1")),
    )
    assert dataset.documents[2] == Document("Fog-9", "Fog is wet.", "Fog")
    assert dataset.notes == ("evidence paragraphs missing in strategyqa_train_paragraphs.json: 1",)


def test_iirc_has_answers_of_three_types_and_excludes_unanswerable_questions(tmp_path: Path):
    def spans(*texts: str) -> dict:
        return {"type": "span", "answer_spans": [{"text": text, "passage": "osk", "type": "answer"} for text in texts]}

    questions = [
        _iirc("one", spans(" 1882 "), ("main", "He was born in Osk."), ("osk", "Osk is old."), ("main", "He left.")),
        _iirc("two", spans("Osk", "Quarn", "Osk"), ("osk", "Osk is old.")),
        _iirc("value", {"type": "value", "answer_value": "34", "answer_unit": "years"}),
        _iirc("bare", {"type": "value", "answer_value": "5", "answer_unit": ""}),
        _iirc("binary", {"type": "binary", "answer_value": "yes"}),
        _iirc("none", {"type": "none"}, ("main", "Nothing.")),
    ]
    dataset = load_dataset(
        "iirc", _write(tmp_path / "x.json", [{"pid": "p", "title": "Mr Hale", "questions": questions}])
    )
    assert {question.id: (question.answers, question.type) for question in dataset.questions} == {
        "one": (("1882",), "span"),
        "two": (("Osk, Quarn",), "span"),
        "value": (("34 years", "34"), "value"),
        "bare": (("5",), "value"),
        "binary": (("yes",), "binary"),
    }
    assert dataset.documents == (
        Document("Mr Hale", "He was born in Osk. He left.", "Mr Hale"),
        Document("osk", "Osk is old.", "osk"),
    )
    assert [question.documents for question in dataset.questions[:3]] == [("Mr Hale", "osk"), ("osk",), ()]
    assert dataset.notes == (
        "excluded, no answer: 1 of 6 questions",
        "answers with several spans, all of them required: 1 of 5 questions",
    )


def test_ragtruth_uses_only_questions_and_splits_their_passages(tmp_path: Path):
    summary = {"source_id": "1", "task_type": "Summary", "source": "CNN", "source_info": "A text.", "prompt": "…"}
    write_jsonl(tmp_path / "source_info.jsonl", [summary, RAGTRUTH])
    dataset = load_dataset("ragtruth", tmp_path)
    assert [(question.id, question.question, question.answers) for question in dataset.questions] == [
        ("14292", "how to cook beets", ())
    ]
    assert _texts(dataset, dataset.questions[0]) == ["Wash them.", "Boil, as passage 3: says.", "Eat."]
    assert dataset.notes == ("excluded, another task than QA: 1 of 2 records",)


words = st.lists(st.sampled_from(["beet", "passage", "2", "9:", "Wash."]), min_size=1).map(" ".join)


@given(st.lists(words, min_size=1, max_size=12), st.sampled_from(["\n\n", "\n"]))
def test_joined_passages_are_split_again(texts: list[str], between: str):
    joined = between.join(f"passage {number}:{text}" for number, text in enumerate(texts, start=1))
    assert list(split_passages(joined)) == texts


def test_passages_joined_on_one_line_are_split():
    assert split_passages("passage 1:Wash them. passage 2:Boil. passage 3:Eat.") == ("Wash them.", "Boil.", "Eat.")
    assert split_passages("Wash them.") == ()


def test_passages_of_own_questions_are_added_to_the_given_ones(tmp_path: Path):
    questions = write_jsonl(
        tmp_path / "questions.jsonl",
        [
            {"question": "Who?", "answer": ["Reil", "T. Reil"], "passages": ["Reil designed it."], "type": "who"},
            {"id": "b", "question": "Where?", "answer": "Osk", "documents": ["5"]},
        ],
    )
    alone = load_dataset("jsonl", tmp_path)
    assert [question.documents for question in alone.questions] == [("question-1 passage 1",), ()]
    assert alone.notes == ("gold documents named, but no passages given: 1 of 2 questions",)
    both = load_dataset("jsonl", questions, write_jsonl(tmp_path / "p.jsonl", [{"id": 5, "text": "Osk is old."}]))
    assert [question.documents for question in both.questions] == [("question-1 passage 1",), ("5",)]
    assert [document.id for document in both.documents] == ["5", "question-1 passage 1"]
    with pytest.raises(CorpusError, match="not in the corpus"):
        load_dataset("jsonl", questions, write_jsonl(tmp_path / "p.jsonl", [{"id": 6, "text": "Osk is old."}]))
