"""Knowledge conflict: passages that contradict what is true, and the questions that cannot be altered."""

import re
from dataclasses import replace

import pytest
from data_sets import DATA, real
from data_sets import texts_of as _texts

from dyprag.corpora.datasets import DataSet, load_dataset
from dyprag.corpora.datasets.conflict import contradict
from dyprag.corpora.documents import Document, Question


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
