"""The benchmark's human-written bands: everyday documents, people's questions, held-out passages, and guards."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from dyprag.config import LearnSettings
from dyprag.errors import CorpusError
from dyprag.evaluation.recall.benchmark import Asked, Recalled, questions_of, training_lessons
from dyprag.evaluation.recall.card import changes_table, cut_table
from dyprag.evaluation.recall.everyday import common_lessons, everyday_lessons, unanswered_lessons
from dyprag.evaluation.recall.summaries import changes, summarise
from dyprag.translators.lessons.human import WHOLE_SETS, human_lessons, is_held_out

PEOPLE = Path(__file__).resolve().parents[3] / "shared" / "qa"


def words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def test_everyday_documents_contain_their_answers_and_no_others():
    lessons = everyday_lessons()
    assert len(lessons) == 30
    for lesson, guard in zip(lessons, unanswered_lessons(), strict=True):
        assert len(lesson.pairs) == len(lesson.others) == 4
        assert len(guard.pairs) == 2
        assert 80 <= len(lesson.document.text.split()) <= 260
        for pair in lesson.pairs:
            assert words(pair.answer) in words(lesson.document.text)
            assert words(pair.answer) not in words(pair.question)
    questions = [pair.question for lesson in (*lessons, *unanswered_lessons()) for pair in lesson.pairs]
    assert len(set(questions)) == len(questions) == 180


def test_every_question_of_common_knowledge_is_asked_once_and_no_document_answers_it():
    lessons = common_lessons()
    asked = questions_of("common", lessons, None, 4)
    assert len({one.question for one in asked}) == len(asked) == 40
    for one in asked:
        assert (
            one.answers[0].isdigit()
            or f" {words(one.answers[0])} " not in f" {words(lessons[one.lesson].document.text)} "
        )


def test_all_accepted_answers_count(tmp_path: Path):
    (asked, *_) = questions_of("everyday", everyday_lessons(), None, 4)
    lesson = everyday_lessons()[asked.lesson]
    assert asked.answers == (lesson.pairs[0].answer, *lesson.others[0])


def passage(text: str, answers: list[str], kind: str = "extractive", number: int = 0) -> dict[str, Any]:
    asked = [{"question": f"What of {number}?", "answers": answers, "type": kind}]
    return {"id": f"set/{number}", "title": "", "text": text, "questions": asked}


def folder(tmp_path: Path, **sets: list[dict[str, Any]]) -> Path:
    for name, rows in sets.items():
        with gzip.open(tmp_path / f"{name}.jsonl.gz", "wt") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    return tmp_path


def texts(count: int, also: str = "") -> list[str]:
    return [f"Number {n} of the harbour's boats left at dawn and {also} came home with its nets full of silver herring "
            "before the bell rang." for n in range(count)]  # fmt: skip


def test_a_twentieth_is_held_out_and_the_parts_are_disjoint(tmp_path: Path):
    rows = [passage(text, ["dawn"], number=n) for n, text in enumerate(texts(2000))]
    place = folder(tmp_path, boats=rows, covidqa=[passage(text, ["noon"]) for text in texts(5, "at noon")])
    parts = {part: human_lessons(place, part, 5000) for part in ("training", "held-out", "other-kinds")}  # type: ignore[arg-type]
    found = {part: {lesson.document.text for lesson in lessons} for part, lessons in parts.items()}
    assert 60 <= len(found["held-out"]) <= 140
    assert len(found["training"]) + len(found["held-out"]) == 2000
    assert not found["training"] & found["held-out"]
    assert found["other-kinds"] == set(texts(5, "at noon"))


def test_edits_of_one_passage_stay_together():
    for first, edited in zip(texts(200), texts(200, "never"), strict=True):
        assert is_held_out(first) == is_held_out(edited)


def test_sets_get_the_same_share_and_long_or_free_answers_are_left_out(tmp_path: Path):
    rows = [passage(f"{text} {n}", ["dawn"], number=n) for n, text in enumerate(texts(90))]
    few = [passage(text, ["dawn"], number=n) for n, text in enumerate(texts(400, "twice"))]
    free = [passage(text, ["dawn"], "free") for text in texts(9, "thrice")]
    long = [passage(text, ["a b c d e f g h i"]) for text in texts(9, "four times")]
    place = folder(tmp_path, large=few, small=rows, free=free, long=long)
    lessons = human_lessons(place, "training", 20)
    assert sum("twice" in lesson.document.text for lesson in lessons) == 10
    assert not any("thrice" in x.document.text or "four times" in x.document.text for x in lessons)
    assert lessons == human_lessons(place, "training", 20)


def test_a_folder_without_such_files_and_a_damaged_file_are_errors_with_their_names(tmp_path: Path):
    with pytest.raises(CorpusError, match="no passage files"):
        human_lessons(tmp_path, "training", 5)
    (tmp_path / "bad.jsonl").write_text(json.dumps(passage(texts(1)[0], ["dawn"])) + "\n{broken")
    with pytest.raises(CorpusError, match=r"bad\.jsonl"):
        human_lessons(tmp_path, "training", 5)


@pytest.mark.skipif(not PEOPLE.is_dir(), reason="people's questions are not at hand")
def test_the_real_sets_are_split_in_the_same_way():
    held, others = human_lessons(PEOPLE, "held-out", 60), human_lessons(PEOPLE, "other-kinds", 30)
    assert len(held) == 60
    assert {lesson.document.id.split("/")[0] for lesson in others} <= {"covidqa", "squadshifts_amazon", "molweni_test"}
    assert not any(lesson.document.id.startswith(WHOLE_SETS) for lesson in held)
    for lesson in (*held, *others):
        if lesson.pairs[0].answer not in ("yes", "no"):
            assert words(lesson.pairs[0].answer) in words(lesson.document.text)


def rows_of(band: str, condition: str, present: str, answers: str = "") -> list[Recalled]:
    return [
        Recalled(Asked(band, 0, str(n), ("x",)), condition, said, mark == "1", 0.0, said == "c")  # type: ignore[arg-type]
        for n, (mark, said) in enumerate(zip(present, answers or present, strict=True))
    ]


def test_worse_answers_are_counted_by_the_rule_of_the_band():
    rows = [
        *rows_of("common", "zero", "1100", "abab"), *rows_of("common", "own", "1000", "acac"),
        *rows_of("unanswered", "passage", "0001"), *rows_of("unanswered", "beside", "0110"),
    ]  # fmt: skip
    common, unanswered = sorted(changes(rows), key=lambda one: one.band)
    assert (common.changed, common.worse, common.better) == (50.0, 25.0, 0.0)
    assert (unanswered.changed, unanswered.worse, unanswered.better) == (75.0, 50.0, 25.0)
    assert "| common knowledge | without the passage | 4 | 50.0 | 25.0 | 0.0 |" in changes_table([common])


def test_a_summary_has_the_relative_score_cut_outputs_and_the_effect_beside_the_passage():
    rows = [
        *rows_of("everyday", "own", "1000"), *rows_of("everyday", "wrong", "0000"),
        *rows_of("everyday", "passage", "1100", "cbbb"), *rows_of("everyday", "beside", "1110"),
    ]  # fmt: skip
    (summary,) = summarise(rows)
    assert summary.relative == 0.5
    assert summary.beside is not None
    assert summary.beside.difference == 25.0
    assert summary.cut["passage"] == 25.0
    assert "| everyday documents | 0.0 | 0.0 | 25.0 | 0.0 |" in cut_table([summary])


def test_a_translator_learns_from_peoples_questions_that_are_not_held_out(tmp_path: Path):
    rows = [passage(text, ["dawn"], number=n) for n, text in enumerate(texts(60))]
    place = folder(tmp_path, boats=rows, covidqa=[passage(text, ["noon"]) for text in texts(5, "at noon")])
    settings = LearnSettings(closed=2, open=0, people=str(place))
    lessons = training_lessons(settings)
    assert len(lessons) == 2 + sum(not is_held_out(text) for text in texts(60))
    assert len(training_lessons(settings.model_copy(update={"human": 7}))) == 2 + 7
    assert not any("noon" in lesson.document.text for lesson in lessons)


def test_settings_that_0_1_0_did_not_have_leave_a_trainings_key_as_it_was_while_they_are_not_used():
    plain = LearnSettings().material()
    assert not LearnSettings.added & plain.keys()
    assert LearnSettings(people="elsewhere").material() == plain
    assert LearnSettings(together=0.5).material() == {**plain, "together": 0.5}
