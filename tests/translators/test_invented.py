"""The invented documents: reproducible, consistent with their answers, varied, and disjoint from the test split."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyprag.translators.lessons.invented import invented_lessons
from dyprag.translators.lessons.names import subject_kinds
from dyprag.translators.lessons.wordings import Band, facts
from dyprag.translators.lessons.words import closed

BANDS: tuple[Band, ...] = ("closed", "open")
DATE_OR_NUMBER = re.compile(r"\d")
PERSONAL = ("Who founded", "Who created", "Who discovered", "Who heads", "Who taught", "Who looks after")


@given(st.sampled_from(BANDS), st.integers(0, 10**9), st.integers(0, 6), st.integers(0, 6))
@settings(max_examples=30)
def test_a_longer_list_begins_with_the_shorter_one(band: Band, seed: int, fewer: int, more: int) -> None:
    fewer, more = sorted((fewer, more))
    assert invented_lessons(band, more, seed)[:fewer] == invented_lessons(band, fewer, seed)


@given(st.sampled_from(BANDS), st.integers(0, 10**9), st.sampled_from(("train", "test")))
@settings(max_examples=50)
def test_each_answer_is_in_the_text_and_not_in_the_question(band, seed, split) -> None:
    for lesson in invented_lessons(band, 8, seed, split):
        assert 3 <= len(lesson.pairs) <= 6
        assert not re.search("[{}]", lesson.document.text), "an unfilled slot"
        for pair in lesson.pairs:
            assert pair.answer in lesson.document.text
            assert pair.answer in pair.full_answer
            assert pair.answer.lower() not in pair.question.lower()
            assert len(pair.answer.split()) <= 8
            assert "{" not in pair.question + pair.full_answer


def test_a_count_of_zero_gives_no_lessons() -> None:
    assert invented_lessons("open", 0, seed=0) == []


def test_seeds_bands_and_splits_give_different_documents() -> None:
    lists = [invented_lessons(b, 50, seed, split) for b in BANDS for seed in (0, 1) for split in ("train", "test")]
    lessons = [lesson for one in lists for lesson in one]
    assert len({lesson.document.text for lesson in lessons}) == len(lessons)
    assert len({lesson.document.id for lesson in lessons}) == len(lessons)


def test_closed_answers_come_from_the_lists_and_open_ones_do_not() -> None:
    listed = {word for words in closed().values() for word in words}
    assert {pair.answer for lesson in invented_lessons("closed", 300, 3) for pair in lesson.pairs} <= listed
    assert not {pair.answer for lesson in invented_lessons("open", 300, 3) for pair in lesson.pairs} & listed


def test_train_and_test_share_no_invented_name() -> None:
    answers, surnames = [], []
    for split in ("train", "test"):
        lessons = invented_lessons("open", 1500, 5, split)
        answers.append({p.answer for one in lessons for p in one.pairs if not DATE_OR_NUMBER.search(p.answer)})
        surnames.append({p.answer.split()[-1] for one in lessons for p in one.pairs if p.question.startswith(PERSONAL)})
    assert min(map(len, answers + surnames)) > 200
    assert not answers[0] & answers[1]
    assert not surnames[0] & surnames[1]


@pytest.mark.parametrize("band", BANDS)
def test_train_and_test_share_no_question(band: Band) -> None:
    """Questions name their subject, so a shared subject would cause shared questions."""
    train, test = (
        {pair.question for lesson in invented_lessons(band, 1500, 7, split) for pair in lesson.pairs}
        for split in ("train", "test")
    )
    assert not train & test


@pytest.mark.parametrize("band", BANDS)
def test_documents_are_worded_in_many_ways(band: Band) -> None:
    lessons = invented_lessons(band, 2000, 11)
    texts = [lesson.document.text for lesson in lessons]
    assert len(set(texts)) == len(texts)
    sentences = [sentence for text in texts for sentence in re.split(r"(?<=[.?]) ", text)]
    skeletons = {re.sub(r"[A-Z0-9]\S*", "X", sentence) for sentence in sentences}
    assert len(skeletons) > len(sentences) / 3
    asked = {re.sub(r"(?<!^)\b[A-Z]\S*", "X", pair.question) for lesson in lessons for pair in lesson.pairs}
    assert len(asked) > 200
    lengths = sorted(len(text.split()) for text in texts)
    assert 35 <= lengths[len(lengths) // 2] <= 60


@pytest.mark.parametrize("band", BANDS)
def test_questions_and_answers_of_two_subjects_are_distinct(band: Band) -> None:
    """Within a document, questions and answers are unique."""
    for lesson in invented_lessons(band, 500, 13):
        assert len({pair.question for pair in lesson.pairs}) == len(lesson.pairs)
        assert len({pair.answer for pair in lesson.pairs}) == len(lesson.pairs)


@pytest.mark.parametrize("kind", sorted(set(subject_kinds())))
@pytest.mark.parametrize("band", BANDS)
def test_each_fact_is_stated_and_asked_about_in_several_ways(kind: str, band: Band) -> None:
    known = facts(kind, band)
    assert len(known) >= 4
    for fact in known:
        assert len(fact.predicates + fact.statements + fact.labels) >= 5, fact.key
        assert len(fact.questions) >= 4, fact.key
        assert all("{v}" in text for text in (*fact.predicates, *fact.statements, fact.full_answer)), fact.key
        assert all("{name}" in text for text in (*fact.questions, fact.full_answer)), fact.key
