"""Lessons from real paragraphs: PopQA's for measurement, and others without test subjects for training."""

import json
import random
import re
from itertools import pairwise
from pathlib import Path

import pytest

from dyprag.corpora.documents import Document, QAPair
from dyprag.errors import CorpusError
from dyprag.translators.lessons.extraction import extracted_pairs
from dyprag.translators.lessons.lesson import Lesson
from dyprag.translators.lessons.real import extracted_lessons, multihop_lessons, popqa_answers, popqa_lessons
from dyprag.translators.lessons.wording import sentences

SHARED = Path(__file__).parents[3] / "shared" / "data"
COLUMNS = "id subj prop obj s_aliases s_wiki_title question possible_answers".split()
RANKIN = "George James Rankin, (1 May 1887 – 28 December 1957) was an Australian soldier and Politician."
FILM = "Silver Rain is a 1931 American drama film directed by Ann B. Lee and starring Paul Ozar. It was made in Utah."
POET = "Mary Olsen (born 4 May 1902 in Bergen) was a Norwegian poet and teacher. She married Per Dahl in 1930 at Voss."


Passages = list[tuple[str, str]]


def rows_of(passages: Passages) -> list[dict[str, object]]:
    return [{"id": number, "title": title, "text": text} for number, (title, text) in enumerate(passages)]


def write(path: Path, rows: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def popqa_row(number: int, subject: str, answer: str, others: list[str], aliases: list[str]) -> str:
    quoted = [json.dumps(value).replace('"', '""') for value in (aliases, [answer, *others])]
    question = f"What is {subject}'s occupation?"
    return "\t".join(
        (str(number), subject, "occupation", answer, f'"{quoted[0]}"', subject, question, f'"{quoted[1]}"')
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder in the official layouts: one test question per set, with passages to use and to exclude."""
    rankin = popqa_row(7, "George Rankin", "politician", ["statesman"], ["Geordie Rankin"])
    unheld = popqa_row(8, "John Mayne", "bookbinder", [], [])
    (tmp_path / "popqa").mkdir()
    (tmp_path / "popqa" / "popQA.tsv").write_text("\n".join(("\t".join(COLUMNS), rankin, unheld)) + "\n")
    passages = [("George Rankin", RANKIN), ("John Mayne", "John Mayne was a Scottish poet.")]
    write(tmp_path / "popqa" / "passages.jsonl", rows_of(passages))
    question: dict[str, object] = {
        "_id": "1",
        "question": "Who?",
        "answer": "Ann",
        "type": "bridge",
        "supporting_facts": [["Gold", 0]],
    }
    context = [["Gold", [f"Gold is a metal. {POET}"]], ["Distractor", [POET.replace("Mary", "Ada")]]]
    hotpot = [{**question, "context": context}]
    two_wiki = [{**question, "supporting_facts": [], "context": [["Developed", [POET]]]}]
    for folder, file, rows in (
        ("hotpotqa", "hotpot_dev_distractor_v1.json", hotpot),
        ("2wikimultihopqa", "dev.json", two_wiki),
    ):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / file).write_text(json.dumps(rows))
    write(tmp_path / "2wikimultihopqa" / "questions.jsonl", [{"question": "Who directed Asked About (Film)?"}])
    free: Passages = [("Silver Rain (film)", FILM), ("Mary Olsen", POET), ("Mary Olsen", POET), ("Short", "Too short.")]
    barred = [
        ("Geordie Rankin", POET),
        ("george rankin (soldier)", POET),
        ("Friend", f"{POET} She met George Rankin."),
        ("Asked About (film)", FILM),
        ("Developed", POET),
        ("Gold (element)", POET),
    ]
    write(tmp_path / "2wikimultihopqa" / "passages.jsonl", rows_of(free + barred))
    lines = [f"{n}\t{x}\t{t}" for n, (t, x) in enumerate([("Long One", " ".join([POET] * 20)), *barred], start=1)]
    (tmp_path / "dpr").mkdir()
    (tmp_path / "dpr" / "psgs_w100.tsv").write_text("\n".join(("id\ttext\ttitle", *lines)) + "\n")
    return tmp_path


def pairs_of(title: str, text: str) -> dict[str, list[QAPair]]:
    found: dict[str, list[QAPair]] = {}
    for rule, pair in extracted_pairs(Document("1", text, title), random.Random(0)):
        found.setdefault(rule, []).append(pair)
    return found


def answers_of(title: str, text: str) -> dict[str, str]:
    return {rule: pairs[0].answer for rule, pairs in pairs_of(title, text).items() if rule != "cloze"}


def test_multihop_paragraphs_of_test_questions_have_a_gap_per_sentence(data: Path):
    lessons = multihop_lessons(data, 40, 2)
    assert {lesson.document.title for lesson in lessons} == {"Gold", "Developed"}  # no distractor of HotpotQA
    trained = {lesson.document.passage for lesson in extracted_lessons(data, 0)}
    for lesson in lessons:
        assert lesson.document.passage not in trained
        assert 0 < len(lesson.pairs) <= 2
        text = lesson.document.text
        told = [pair.question.split(": ", 1)[1].removesuffix(" What is missing?") for pair in lesson.pairs]
        filled = [gap.replace("___", pair.answer) for gap, pair in zip(told, lesson.pairs, strict=True)]
        assert all(sentence in text for sentence in filled)
        assert len(set(filled)) == len(filled)
    assert [lesson.key for lesson in multihop_lessons(data, 1, 2)] == [lesson.key for lesson in lessons]


def test_a_popqa_question_is_paired_with_a_paragraph_that_contains_its_answer(data: Path) -> None:
    (lesson,) = popqa_lessons(data)
    assert (lesson.document.title, lesson.document.text) == ("George Rankin", RANKIN)
    assert [(pair.question, pair.answer) for pair in lesson.pairs] == [
        ("What is George Rankin's occupation?", "politician")
    ]


def test_all_answers_of_a_popqa_question_are_accepted(data: Path) -> None:
    assert popqa_answers(data)["What is George Rankin's occupation?"] == ("politician", "statesman")


def test_training_excludes_test_subjects_and_duplicate_passages(data: Path) -> None:
    titles = sorted(lesson.document.title for lesson in extracted_lessons(data, seed=0))
    assert titles == ["Distractor", "Long One", "Mary Olsen", "Silver Rain (film)"]


def test_a_long_passage_ends_at_a_sentence(data: Path) -> None:
    (long,) = (each.document for each in extracted_lessons(data, seed=0) if each.document.title == "Long One")
    assert len(long.text.split()) <= 130
    assert long.text.endswith(".")
    assert f"{long.text} ".startswith(POET)


def test_the_seed_determines_the_lessons(data: Path) -> None:
    assert extracted_lessons(data, seed=3) == extracted_lessons(data, seed=3)
    assert extracted_lessons(data, seed=3)[:2] == extracted_lessons(data, seed=3, limit=2)


@pytest.mark.parametrize(
    "file",
    ["popqa/popQA.tsv", "popqa/passages.jsonl", "dpr/psgs_w100.tsv", "hotpotqa/hotpot_dev_distractor_v1.json"]
    + [f"2wikimultihopqa/{name}" for name in ("dev.json", "questions.jsonl", "passages.jsonl")],
)
def test_a_missing_file_is_named(data: Path, file: str) -> None:
    (data / file).unlink()
    with pytest.raises(CorpusError, match=re.escape(file.split("/")[1])):
        extracted_lessons(data, seed=0)


def test_a_person_is_asked_about_as_popqa_asks() -> None:
    pairs = pairs_of("Mary Olsen", POET)
    assert pairs["occupation"][0] == QAPair(
        "What is Mary Olsen's occupation?", "poet", "The occupation of Mary Olsen was poet."
    )
    assert pairs["birthplace"][0].question == "In what city was Mary Olsen born?"
    expected = {"occupation": "poet", "birthplace": "Bergen", "birth date": "4 May 1902", "nationality": "Norwegian"}
    assert answers_of("Mary Olsen", POET) == expected


def test_a_family_is_asked_about() -> None:
    text = "Queen Eva (died 1240) was a daughter of Otto II and Ida of Bonn. She married Per Dahl, a count, in 1230."
    expected = {"death date": "1240", "parent of a daughter": "Otto II", "spouse": "Per Dahl"}
    assert answers_of("Queen Eva", text) == expected


@pytest.mark.parametrize(
    ("aside", "rest", "place"),
    [
        ("Lyon, 3 May 1850 – Nice, 1 June 1900", "", "Lyon"),
        ("3 May 1850 – 1 June 1900", "Born in Rio de Janeiro to a sailor, he left early.", "Rio de Janeiro"),
        ("3 May 1850 – 1 June 1900", "Roux was born on 3 May 1850 in Aix, France.", "Aix"),
        ("3 May 1850 – 1 June 1900", "His father was born in Paris.", None),
        ("3 May 1850 – 1 June 1900", "He was born in May 1850.", None),
        ("Jean Marie; 3 May 1850 – 1 June 1900", "", None),
    ],
)
def test_only_the_subjects_own_birthplace_is_extracted(aside: str, rest: str, place: str | None) -> None:
    assert answers_of("Paul Roux", f"Paul Roux ({aside}) was a French painter. {rest}").get("birthplace") == place


@pytest.mark.parametrize(
    "lead", ["is a book by writer Al Fox.", "is an actor training school.", "is the poet's house."]
)
def test_only_persons_have_an_occupation(lead: str) -> None:
    assert "occupation" not in answers_of("Red Door", f"Red Door {lead}")


def test_a_film_is_asked_about_its_makers() -> None:
    expected = {"director": "Ann B. Lee", "star": "Paul Ozar", "release": "1931", "genre": "drama"}
    assert answers_of("Silver Rain (film)", FILM) == expected


def test_a_blank_replaces_a_unique_span_and_the_question_names_the_subject() -> None:
    for pair in pairs_of("Mary Olsen", POET)["cloze"]:
        assert "___" in pair.question
        assert "Mary Olsen" in pair.question
        assert POET.count(pair.answer) == 1


def test_an_initial_does_not_end_a_sentence() -> None:
    assert sentences("J. R. Ash met Dr. Orr. He left (in 1900. Or so) soon.") == [
        "J. R. Ash met Dr. Orr.",
        "He left (in 1900. Or so) soon.",
    ]


@pytest.fixture(scope="module")
def real_lessons() -> list[Lesson]:
    if not SHARED.is_dir():
        pytest.skip(f"no data at {SHARED}")
    return extracted_lessons(SHARED, seed=0)


def test_real_answers_are_verbatim_and_not_in_their_questions(real_lessons: list[Lesson]) -> None:
    for lesson in real_lessons:
        for pair in lesson.pairs:
            assert pair.answer in lesson.document.text
            assert pair.answer.casefold() not in pair.question.casefold()


def test_real_training_excludes_every_test_subject(real_lessons: list[Lesson]) -> None:
    tested = {lesson.document.title.casefold() for lesson in popqa_lessons(SHARED)}
    trained = {re.sub(r" \(.*\)", "", lesson.document.title.casefold()) for lesson in real_lessons}
    assert len(tested) > 500
    assert not tested & trained
    words = [word for lesson in real_lessons for word in lesson.document.text.casefold().split()]
    starts = set(pairwise(words))  # few names are left to look for once these are seen
    names = [name for name in tested if tuple(name.split()[:2]) in starts]
    text = f" {' '.join(words)} "
    assert not [name for name in names if f" {name} " in text]


def test_real_lessons_are_many(real_lessons: list[Lesson]) -> None:
    def asking(question: str) -> int:
        return sum(any(pair.question.startswith(question) for pair in lesson.pairs) for lesson in real_lessons)

    assert len(real_lessons) > 8000
    assert asking("What is ") > 2500
    assert asking("In what city was ") > 600
