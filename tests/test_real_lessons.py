"""Real passages with questions: what rules read off them, and that no test question's subject is trained on."""

import json
from pathlib import Path

import pytest

from dyprag.errors import CorpusError
from dyprag.recall.real import extracted_lessons, popqa_answers, popqa_lessons

DATA = Path(__file__).parents[2] / "shared" / "data"
COLUMNS = (
    "id subj prop obj subj_id prop_id obj_id s_aliases o_aliases s_uri o_uri s_wiki_title o_wiki_title s_pop o_pop "
    "question possible_answers"
).split()
RANKIN = (
    "George Rankin",
    "George James Rankin (1 May 1887 – 28 December 1957) was an Australian soldier and politician. He served in both "
    "the House of Representatives and the Senate, representing the Country Party.",
)
WALTON = (
    "Ada Walton",
    "Ada Walton (born 4 May 1931 in Leeds, England) is a British chemist and politician. She studied at the University "
    "of Leeds and has lived in Edinburgh since the year 1970.",
)
FILM = (
    "The Outlaw Express",
    "The Outlaw Express is a 1926 American silent western film directed by Leo D. Maloney and starring Joan Renee and "
    "Melbourne MacDowell, and was shown in many towns.",
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The four data sets' folders in their official layouts, with a handful of passages."""
    for folder in ("popqa", "2wikimultihopqa", "hotpotqa", "dpr"):
        (tmp_path / folder).mkdir()
    row = dict.fromkeys(COLUMNS, "0") | {
        "subj": RANKIN[0], "s_wiki_title": RANKIN[0], "question": "What is George Rankin's occupation?",
        "possible_answers": json.dumps(["politician", "political leader"]),
    }  # fmt: skip
    cells = "\t".join(
        '"' + row[c].replace('"', '""') + '"' if c == "possible_answers" else row[c] for c in COLUMNS
    )  # as the official file quotes its lists
    (tmp_path / "popqa" / "popQA.tsv").write_text("\t".join(COLUMNS) + "\n" + cells + "\n")
    (tmp_path / "popqa" / "passages.jsonl").write_text(
        json.dumps({"id": 0, "title": RANKIN[0], "text": RANKIN[1]}) + "\n"
    )
    lines = [{"id": n, "title": t, "text": x} for n, (t, x) in enumerate((WALTON, RANKIN, FILM))]
    (tmp_path / "2wikimultihopqa" / "passages.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    question = {"question": "Who directed The Outlaw Express?", "answer": "Leo D. Maloney"}
    (tmp_path / "2wikimultihopqa" / "questions.jsonl").write_text(json.dumps(question) + "\n")
    (tmp_path / "hotpotqa" / "hotpot_dev_distractor_v1.json").write_text("[]")
    (tmp_path / "dpr" / "psgs_w100.tsv").write_text("id\ttext\ttitle\n1\t" + WALTON[1] + "\t" + WALTON[0] + "\n")
    return tmp_path


def test_popqa_questions_come_with_the_paragraph_that_answers_them(data: Path):
    (lesson,) = popqa_lessons(data)
    assert lesson.document.title == "George Rankin"
    assert [(pair.question, pair.answer) for pair in lesson.pairs] == [
        ("What is George Rankin's occupation?", "politician")
    ]
    assert popqa_answers(data)["What is George Rankin's occupation?"] == ("politician", "political leader")


def test_passages_that_test_questions_need_are_not_trained_on(data: Path):
    titles = [lesson.document.title for lesson in extracted_lessons(data, 0)]
    assert titles == ["Ada Walton"]  # once, though two files hold it; the others are asked about


def test_rules_read_facts_off_a_passage(data: Path):
    (lesson,) = extracted_lessons(data, 0)
    answers = {pair.answer for pair in lesson.pairs}
    assert "chemist" in answers or "politician" in answers
    assert "Leeds" in answers
    for pair in lesson.pairs:
        assert pair.answer in lesson.document.text
        assert pair.answer not in pair.question
        assert "Walton" in pair.question


def test_the_same_seed_gives_the_same_lessons(data: Path):
    assert extracted_lessons(data, 0) == extracted_lessons(data, 0)
    assert extracted_lessons(data, 0, 0) == []


def test_a_missing_file_is_named(data: Path):
    (data / "dpr" / "psgs_w100.tsv").unlink()
    with pytest.raises(CorpusError, match=r"psgs_w100\.tsv"):
        extracted_lessons(data, 0)


@pytest.mark.skipif(not DATA.is_dir(), reason="the real data sets are not at hand")
def test_real_paragraphs_of_popqa_hold_their_answers():
    lessons, answers = popqa_lessons(DATA), popqa_answers(DATA)
    assert len(lessons) > 500
    for lesson in lessons:
        for pair in lesson.pairs:
            assert pair.answer in answers[pair.question]
            assert pair.answer.casefold() in lesson.document.text.casefold()
