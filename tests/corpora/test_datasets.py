"""Data sets: their official files, excluded questions and notes, and one clear error for every other layout."""

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import write_jsonl
from hypothesis import given
from hypothesis import strategies as st

from dyprag.corpora.datasets import DATA_SETS, MULTI_HOP, DataSet, load_dataset
from dyprag.corpora.datasets.conflict import contradict
from dyprag.corpora.datasets.transfer import split_passages
from dyprag.corpora.documents import Document, Question
from dyprag.errors import CorpusError

DATA = Path(__file__).parents[3] / "shared" / "data"
real = pytest.mark.skipif(not DATA.is_dir(), reason=f"no data sets at {DATA}")


def _write(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return path


def _texts(dataset: DataSet, question: Question) -> list[str]:
    texts = {document.id: document.text for document in dataset.documents}
    return [texts[identity] for identity in question.documents]


HOP = {
    "_id": "h1",
    "type": "bridge",
    "question": "Who designed the bridge at Quarn?",
    "answer": "Tomas Reil",
    "supporting_facts": [["Quarn", 1], ["Osk bridge", 0], ["Quarn", 0]],
    "context": [
        ["Osk bridge", ["Tomas Reil designed it.", " It is long."]],
        ["Fog", ["Fog is wet."]],
        ["Quarn", ["Quarn is a town.", " It has a bridge."]],
    ],
}
POP_HEADER = "id\tprop\tobj\ts_wiki_title\tquestion\tpossible_answers\n"
POP_ROW = '7\toccupation\tpoet\tMara Vell\tWhat is her occupation?\t"[""poet"", ""bard""]"\n'


# The real slices


@real
@pytest.mark.parametrize(
    ("name", "questions", "documents"),  # counted in the files without this package
    [
        ("2wikimultihopqa", 20, 102),
        ("hotpotqa", 100, 991),
        ("popqa", 700, 0),
        ("complexwebquestions", 500, 0),
        ("strategyqa", 600, 1605),
        ("iirc", 20, 98),
    ],
)
def test_a_real_sample_is_read_completely(name: str, questions: int, documents: int):
    dataset = load_dataset(name, DATA)
    assert (dataset.name, len(dataset.questions), len(dataset.documents)) == (name, questions, documents)
    ids = {document.id for document in dataset.documents}
    assert len(ids) == documents
    assert all(ids.issuperset(question.documents) for question in dataset.questions)
    assert all(question.answers and all(question.answers) for question in dataset.questions)
    assert load_dataset(name, DATA / name) == dataset


@real
def test_hotpotqa_has_types_and_gold_paragraphs_as_published():
    dataset = load_dataset("hotpotqa", DATA)
    assert Counter(question.type for question in dataset.questions) == {"bridge": 79, "comparison": 21}
    first = dataset.questions[0]
    assert (first.answers, first.documents) == (("yes",), ("Scott Derrickson", "Ed Wood"))
    assert _texts(dataset, first)[0].startswith(
        "Scott Derrickson (born July 16, 1966) is an American director, screenwriter and producer. He lives in Los"
    )


@real
def test_popqa_finds_the_passage_about_the_subject():
    dataset = load_dataset("popqa", DATA, DATA / "popqa" / "passages.jsonl")
    assert len(dataset.documents) == 974
    assert dataset.questions[0].answers == ("politician", "political leader", "political figure", "polit.", "pol")
    assert Counter(question.type for question in dataset.questions) == {"occupation": 457, "place of birth": 243}
    assert all(len(question.documents) == 1 for question in dataset.questions)
    assert _texts(dataset, dataset.questions[0])[0].startswith("George James Rankin")


@real
def test_spelling_mistakes_in_a_file_are_kept():
    assert "GoiÃ¡s" in load_dataset("complexwebquestions", DATA).questions[2].question


@real
def test_own_questions_with_a_separate_corpus():
    folder = DATA / "2wikimultihopqa"
    dataset = load_dataset("jsonl", folder / "questions.jsonl", passages=folder / "passages.jsonl")
    assert (len(dataset.questions), len(dataset.documents)) == (129, 6119)
    assert dataset.questions[0].answers == ("Memphis", "Memphis, Tennessee")


@real
def test_the_facts_replace_missing_paragraphs():
    dataset = load_dataset("strategyqa", DATA)
    assert _texts(dataset, dataset.questions[1]) == [
        "The members of The Police were musicians, not law enforcement officers.",
        "Only law enforcement officers can perform lawful arrests.",
    ]
    assert [question.answers for question in dataset.questions[:2]] == [("yes",), ("no",)]
    assert any("facts replace the evidence" in note for note in dataset.notes)


# The official layouts


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


def _iirc(qid: str, answer: dict, *context: tuple[str, str]) -> dict:
    spans = [{"passage": passage, "text": text, "indices": [0, len(text)]} for passage, text in context]
    return {"qid": qid, "question": f"{qid}?", "answer": answer, "context": spans, "question_links": []}


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


RAGTRUTH = {
    "source_id": "14292", "task_type": "QA", "source": "MARCO", "prompt": "Briefly answer …",
    "source_info": {
        "question": "how to cook beets",
        "passages": "passage 1:Wash them.\n\npassage 2:Boil, as passage 3: says.\n\npassage 3:Eat.\n\n",
    },
}  # fmt: skip


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


# Bad input


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


# Knowledge conflict


def _asked(identity: str, *answers: str, document: str = "", kind: str = "occupation") -> Question:
    return Question(
        id=identity, question=f"{identity}?", answers=answers, documents=(document,) if document else (), type=kind
    )


def _people(*extra: tuple[Question, Document]) -> DataSet:
    pairs = (
        (
            _asked("vell", "poet", "song poet", document="Vell"),
            Document("Vell", "Poet of note. A song poet, a poet, no poetry.", "Vell"),
        ),
        (_asked("reil", "joiner", document="Reil"), Document("Reil", "Reil was a joiner.", "Reil")),
        *extra,
    )
    fog = Document("Fog", "Fog is wet.", "Fog")
    return DataSet("popqa", tuple(q for q, _ in pairs), (*(d for _, d in pairs), fog), ("as read",))


def test_every_mention_of_an_answer_is_replaced_whole_words_only_longest_first():
    conflict = contradict(_people(), seed=0)
    vell, reil = conflict.dataset.questions
    assert (vell.answers, conflict.believed["vell"]) == (("joiner",), ("poet", "song poet"))
    assert _texts(conflict.dataset, vell) == ["Joiner of note. A joiner, a joiner, no poetry."]
    assert _texts(conflict.dataset, reil) == ["Reil was a poet."]
    assert [document.id for document in conflict.dataset.documents] == [*vell.documents, *reil.documents, "Fog"]
    assert conflict.dataset.documents[0].title == "Vell"
    assert conflict.dataset.notes == ("as read",)


@pytest.mark.parametrize(
    ("question", "document", "why"),
    [
        (_asked("x", "weaver"), Document("Olm", "Olm was a weaver."), "no gold document"),
        (_asked("x", "weaver", document="Olm"), Document("Olm", "Olm wove."), "no gold document"),
        (_asked("x", "Osk", document="Olm"), Document("Olm", "Osk Olm is of Osk.", "Osk Olm"), "title"),
        (_asked("x", "yes", document="Olm"), Document("Olm", "Olm said yes."), "yes/no questions"),
        (_asked("x", "Osk", document="Olm", kind="place"), Document("Olm", "He is of Osk."), "no other answer"),
        (_asked("x", document="Olm"), Document("Olm", "Olm wove."), "no gold document"),
        (_asked("x", "smith", document="Olm"), Document("Olm", "A smith, poet and joiner."), "no other answer"),
        (_asked("x", "poet joiner", document="Olm"), Document("Olm", "A poet joiner."), "no other answer"),
    ],
)
def test_a_question_that_cannot_be_altered_is_excluded_with_the_reason(
    question: Question, document: Document, why: str
):
    conflict = contradict(_people((question, document)), seed=0)
    assert set(conflict.believed) == {"vell", "reil"} == {q.id for q in conflict.dataset.questions}
    assert document in conflict.dataset.documents
    assert [note for note in conflict.dataset.notes if why in note and note.endswith(": 1 of 3 questions")]


@real
def test_a_real_conflict_is_complete_and_the_same_for_the_same_seed():
    dataset = load_dataset("popqa", DATA, DATA / "popqa" / "passages.jsonl")
    dataset = replace(dataset, questions=dataset.questions[::5])
    conflict = contradict(dataset, seed=3)
    assert conflict == contradict(dataset, seed=3) != contradict(dataset, seed=4)
    assert len(conflict.dataset.questions) > 90
    types = {(question.type, question.answers[0]) for question in dataset.questions}
    for question in conflict.dataset.questions:
        (other,) = question.answers
        assert (question.type, other) in types
        for text in _texts(conflict.dataset, question):
            assert other.lower() in text.lower()
            for answer in conflict.believed[question.id]:
                assert not re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", text)
