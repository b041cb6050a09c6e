"""Checks of items: rewrites must keep the facts, and the passage must support pairs."""

import pytest

from dyprag.augmentation.checks import (
    UNSUPPORTED,
    check_pair,
    check_rewrite,
    doubt,
    facts,
    same_answer,
    same_language,
)
from dyprag.augmentation.support import numbers, stated_numbers
from dyprag.config import AugmentSettings
from dyprag.corpora.documents import Document, QAPair
from dyprag.corpora.products import Accepted, Dropped

TEXT = (
    "The Ostrel lamp was built in 1911 by Greta Olmsted. It stands 24 metres above Brevik Harbour and cost 1,300 "
    "florins."
)
LAMP = Document("lamp", TEXT, "Ostrel lamp")
SETTINGS = AugmentSettings()


def rewrite(text: str, *others: str, document: Document = LAMP) -> str:
    """The reason why a rewrite is dropped; empty if it is accepted."""
    verdict = check_rewrite(document, text, others, SETTINGS)
    return verdict.reason if isinstance(verdict, Dropped) else ""


def pair(question: str, answer: str, full: str, *others: QAPair, document: Document = LAMP) -> str:
    """The reason why a pair is dropped; empty if it is accepted."""
    verdict = check_pair(document, QAPair(question, answer, full), others, SETTINGS)
    return verdict.reason if isinstance(verdict, Dropped) else ""


GOOD = "In 1911 Greta Olmsted built the Ostrel lamp. For 1300 florins it was put up 24 metres over Brevik Harbour."


def test_a_rewrite_that_keeps_the_facts_is_accepted_with_its_marks():
    verdict = check_rewrite(LAMP, GOOD, (), SETTINGS)
    assert isinstance(verdict, Accepted)
    assert verdict.marks["recall"] == 1.0
    assert 0.2 < verdict.marks["change"] < 0.8


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (GOOD.replace("1911", "then"), "it loses 1911"),
        (GOOD.replace("Greta Olmsted", "someone"), "it loses Greta, Olmsted"),
        (GOOD.replace("1911", "1911 or 1912"), "it adds 1912"),
        (GOOD.replace("it was", "by Tomas Reil and Mara Vell it was"), "it adds Mara, Reil, Tomas"),
        (TEXT, "it is nearly the document itself"),
        (LAMP.passage, "it is nearly the document itself"),
        (" ".join([GOOD] * 4), "times as long as the document"),
        (
            "Im Jahr 1911 hat Greta Olmsted die Lampe von Ostrel gebaut, und sie kam auf 1300 florins; man hat sie "
            "24 metres über dem Brevik Harbour auf den Turm gestellt, wo sie auch heute noch ist.",
            "another language",
        ),
    ],
)
def test_a_rewrite_that_loses_adds_or_repeats_is_dropped_with_the_reason(text: str, reason: str):
    assert reason in rewrite(text)


def test_a_fact_must_be_kept_as_a_whole_word():
    document = Document("d", "The theory of Albert Einstein was tested by Ann in room 5 in the year 1950.")
    kept = "In the year 1950, in room 5, Albert Einstein's theory had its test, which was run by Ann."
    assert rewrite(kept, document=document) == ""
    assert "5" in rewrite(kept.replace("room 5", "a room"), document=document)
    assert "Ann" in rewrite(kept.replace("by Ann", "as planned"), document=document)


@pytest.mark.parametrize(
    ("text", "good", "bad"),
    [
        (
            "Die Lampe von Ostrel wurde im Jahr 1911 von Greta Olmsted gebaut. Sie steht über dem Hafen von Brevik.",
            "Greta Olmsted hat die Lampe von Ostrel im Jahr 1911 gebaut, und sie steht über dem Hafen von Brevik.",
            "Tomas Reil hat die Lampe von Ostrel im Jahr 1911 gebaut, und sie steht über dem Hafen von Brevik.",
        ),
        (
            "オストレルの灯台は1911年にグレタ・オルムステッドによって建てられた。高さは24メートルである。",
            "1911年、グレタ・オルムステッドはオストレルの灯台を建てた。その高さは24メートルだ。",
            "1912年、グレタ・オルムステッドはオストレルの灯台を建てた。その高さは24メートルだ。",
        ),
        (
            "Маяк Острель построила Грета Олмстед в 1911 году. Он стоит на 24 метра выше гавани Бревик.",
            "В 1911 году Грета Олмстед построила маяк Острель. Он на 24 метра выше гавани Бревик.",
            "В 1911 году Тома Рейль построил маяк Острель. Он на 24 метра выше гавани Бревик.",
        ),
    ],
)
def test_rewrites_in_other_languages_are_judged_by_their_facts_too(text: str, good: str, bad: str):
    document = Document("d", text)
    assert rewrite(good, document=document) == ""
    assert rewrite(bad, document=document).startswith("it loses")


def test_duplicate_rewrites_are_dropped():
    assert rewrite(GOOD, GOOD) == "it is the same as another one"


@pytest.mark.parametrize(
    ("text", "other", "same"),
    [
        ("Die Brücke führt über den Fluss Osk.", "Den Fluss Osk quert die Brücke.", True),
        ("これは日本の町です。", "日本の町はこれです。", True),
        ("Это старый мост.", "This is an old bridge.", False),
    ],
)
def test_languages_are_distinguished_by_script(text: str, other: str, same: bool):
    assert same_language(text, other) is same


def test_in_german_only_names_of_several_words_count():
    german = "Die Lampe von Ostrel wurde im Jahr 1911 von Greta Olmsted am Hafen für die Fischer der Stadt gebaut."
    assert facts(german) == {"Greta", "Olmsted", "1911"}
    assert {"Greta", "Olmsted", "Ostrel", "Brevik", "Harbour", "1911", "24", "1300"} == facts(TEXT)


def test_thousands_separators_are_ignored_but_decimals_matter():
    assert numbers("1,300 or 1 300, 1.300, 1300; 3.5 and 12,50") == {"1300", "1", "300", "3.5", "12,50"}
    assert numbers("1\u202f300") == {"1300"}


@pytest.mark.parametrize(
    ("question", "answer", "full"),
    [
        ("Who built the Ostrel lamp?", "Greta Olmsted", "Greta Olmsted built the Ostrel lamp."),
        ("Where does the Ostrel lamp stand?", "above the Brevik Harbour", "It stands above Brevik Harbour."),
        ("Who built the Ostrel lamp?", "Greta Olmstedt", "Greta Olmstedt built it."),
        ("What did the Ostrel lamp cost?", "1300 florins", "It cost 1300 florins."),
    ],
)
def test_a_pair_that_the_passage_supports_is_accepted(question: str, answer: str, full: str):
    assert pair(question, answer, full) == ""


@pytest.mark.parametrize(
    ("question", "answer", "full", "reason"),
    [
        (
            "Did Greta Olmsted build the lamp?",
            "Greta Olmsted",
            "Greta Olmsted built it.",
            "its question holds the answer",
        ),
        ("Who built it, according to the passage?", "Greta Olmsted", "Greta Olmsted did.", "refers to the document"),
        ("When was the Ostrel lamp built?", "1912", "It was built in 1912.", "has 1912, which the document has not"),
        ("Who built the Ostrel lamp?", "Greta Olmsted", "She built it.", "full answer does not hold the short one"),
        ("Who built the Ostrel lamp?", "Tomas Reil", "Tomas Reil built it.", UNSUPPORTED),
        ("Is the Ostrel lamp old?", "Yes", "Yes, it is old.", UNSUPPORTED),
        ("?", "Greta Olmsted", "Greta Olmsted.", "is empty"),
    ],
)
def test_a_pair_that_cannot_be_trusted_is_dropped_with_the_reason(question: str, answer: str, full: str, reason: str):
    assert reason in pair(question, answer, full)


def test_duplicate_questions_are_dropped():
    first = QAPair("Who built the Ostrel lamp?", "Greta Olmsted", "Greta Olmsted built it.")
    assert pair("Who has built the Ostrel lamp?", "Greta Olmsted", "Greta Olmsted built it.", first) == (
        "it is the same as another one"
    )
    assert pair("Who built the Ostrel lamp in 1911?", "Brevik Harbour", "It was Brevik Harbour.", first) == ""
    assert pair("who built THE ostrel lamp", "Greta Olmsted", "Greta Olmsted built it.", first) == (
        "it is the same as another one"
    )
    assert pair("When was the Ostrel lamp built?", "1911", "It was built in 1911.", first) == ""


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("The Brevik Harbour.", "brevik harbour", True),
        ("In 1911", "1911", True),
        ("In 1911 or 1912", "1911", False),
        ("It is not Paris", "Paris", False),
        ("The document does not say whether Napoleon was there", "Napoleon", False),
        ("unknown", "Greta", False),
        ("yes", "No", False),
        ("", "", False),
        ("Yes, it is", "yes", False),
    ],
)
def test_equal_answers_may_differ_in_case_articles_and_extra_words(one: str, other: str, same: bool):
    assert same_answer(one, other) is same


ILKA = Document(
    "ilka",
    "The Guild reports the death of Ilka Vantreese, aged 91, at her cottage in Mirrenfold. At 19 she went aboard the "
    "ship Pellimar, on which she spent four winters. The Atlas came out on 3 May 1959 at 1,300 florins. It was never "
    "sold in Hastrup, and 5 per cent of it is at -4 degrees.",
    "Ilka Vantreese",
)


@pytest.mark.parametrize(
    ("answer", "supported"),
    [
        ("91", True), ("9", False), ("59", False), ("1959", True), ("3 May 1959", True), ("12 May 1959", False),
        ("3rd May 1959", True), ("1300 florins", True), ("300 florins", False), ("1,300 crowns", False),
        ("four winters", True), ("4 winters", True), ("14 winters", False), ("5 %", True), ("5 percent", True),
        ("5 kilos", False),
        ("$5", False), ("-4 degrees", True), ("4 degrees", False), ("minus 4 degrees", True),
        ("Ilka Vantrees", True), ("Ilka Vant", False),
        ("Ilka", True), ("Mirren", False), ("not Mirrenfold", False), ("cottage in Mirrenfold", True),
        ("cottage at Mirrenfold", True),
    ],
)  # fmt: skip
def test_support_compares_whole_words_numbers_units_and_negations(answer: str, supported: bool):
    reason = pair("What is it?", answer, f"It is {answer}.", document=ILKA)
    assert (reason == "") is supported, reason


@pytest.mark.parametrize(
    ("question", "answer", "full", "reason"),
    [
        ("What is the age of Ilka Vantreese?", "19", "She was 19.", "stands in the document for something else"),
        ("How many people does Ilka Vantreese have?", "19", "She has 19.", "stands in the document for something else"),
        ("At which age did she go aboard the Pellimar?", "19", "She was 19.", ""),
        ("Aged how many years did Ilka Vantreese die?", "91", "She was aged 91.", ""),
        ("Where was the Atlas sold?", "Hastrup", "It was sold in Hastrup.", "stands where the document denies"),
        ("Where was the Atlas never sold?", "Hastrup", "It was not sold in Hastrup.", ""),
        ("Where did she die?", "Mirrenfold", "She died in Mirrenfold.", ""),
        ("What is the name of the ship that she went aboard?", "19", "It was 19.", "is a number, for which"),
        ("Who went aboard the Pellimar at 19?", "19", "It was 19.", "is a number, for which"),
        ("How many winters did she spend aboard?", "Pellimar", "It was Pellimar.", "asks for a number"),
        ("How many winters did she spend aboard?", "four winters", "She spent four winters.", ""),
        ("In which year did the Atlas come out?", "Guild", "It was the Guild.", "asks for a number"),
    ],
)
def test_an_answer_next_to_something_else_is_doubtful(question: str, answer: str, full: str, reason: str):
    found = doubt(ILKA, QAPair(question, answer, full))
    assert reason in found
    assert bool(found) == bool(reason)


def test_a_short_answer_is_not_found_in_a_longer_number_or_word():
    assert "does not hold" in pair(
        "When?", "19", "It was in 1911.", document=Document("d", "At 19, in 1911, she left.")
    )
    assert "does not hold" in pair("Who?", "Greta Olm", "Greta Olmsted did.")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Six people and twenty-one cows", {"6", "21"}),
        ("two hundred and five of one hundred thousand", {"205", "100000"}),
        ("1,300 or forty two; ninety. Nobody", {"1300", "42", "90"}),
    ],
)
def test_number_words_count_as_numbers(text: str, told: set[str]):
    assert stated_numbers(text) == told


def test_numbers_in_japanese_are_compared_as_a_whole():
    japanese = Document("d", "オストレルの灯台は1919年にグレタによって建てられた。")
    assert pair("何年ですか", "1919年", "1919年です。", document=japanese) == ""
    assert UNSUPPORTED in pair(
        "何年ですか", "年に", "年にです。", document=Document("d", "灯台は一九一九年建てられた。")
    )


def test_a_rewrite_may_write_numbers_in_digits():
    document = Document("d", "Six people lived in the old house above the harbour until the winter came.")
    assert rewrite("Until the winter came, 6 people had the old house above the harbour.", document=document) == ""
