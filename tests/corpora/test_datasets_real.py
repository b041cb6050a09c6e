"""The real slices of the data sets, read completely and as published."""

from collections import Counter

import pytest
from data_sets import DATA, real
from data_sets import texts_of as _texts

from dyprag.corpora.datasets import load_dataset


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
