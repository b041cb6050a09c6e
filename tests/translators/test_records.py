"""Invented records: sheets, lists and tables that hold their answers, reproducible and disjoint from the test split."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from dyprag.translators.lessons.records import MOST_PAIRS, record_lessons


@given(st.integers(0, 10**9), st.sampled_from(("train", "test")))
@settings(max_examples=40)
def test_each_answer_is_in_the_record_and_not_in_the_question(seed, split) -> None:
    for lesson in record_lessons(8, seed, split):
        assert 4 <= len(lesson.pairs) <= MOST_PAIRS
        assert not re.search("[{}]", lesson.document.text), "an unfilled slot"
        for pair in lesson.pairs:
            assert pair.answer in lesson.document.text
            assert pair.answer.lower() not in pair.question.lower()
            assert len(pair.answer.split()) <= 8


@given(st.integers(0, 10**9), st.integers(0, 6), st.integers(0, 6))
@settings(max_examples=20)
def test_a_longer_list_begins_with_the_shorter_one(seed: int, fewer: int, more: int) -> None:
    fewer, more = sorted((fewer, more))
    assert record_lessons(more, seed)[:fewer] == record_lessons(fewer, seed)


def test_records_have_lists_tables_and_sections_and_no_empty_ones() -> None:
    texts = [lesson.document.text for lesson in record_lessons(400, 0)]
    assert len(set(texts)) == 400
    for mark in ("| --- |", "\n- ", "\n## ", "\t", "\n\n", ": "):
        assert sum(mark in text for text in texts) > 10, mark
    assert not any("\n\n\n" in text for text in texts)


def test_the_parts_share_no_subject() -> None:
    subjects = [
        {lesson.document.title for lesson in record_lessons(400, 1, split)} - {""} for split in ("train", "test")
    ]
    assert all(subjects)
    assert not subjects[0] & subjects[1] - {title for title in subjects[0] if title.endswith(" list")}
