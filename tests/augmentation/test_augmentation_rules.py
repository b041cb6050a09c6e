"""What augmentation with a small model does by rule: answer spans, sound questions, and faithful rewrites."""

import pytest

from dyprag.augmentation import LOCAL_VERSION, local_version
from dyprag.augmentation.cells import cells
from dyprag.augmentation.questions import gap_pair, is_sound, names_title, tidy
from dyprag.augmentation.rewriting import faithful, likeness, reordered, turned
from dyprag.augmentation.spans import Candidate, candidates, key_terms
from dyprag.corpora.documents import QAPair
from dyprag.corpora.text.sentences import block_sentences


def found(title: str, text: str) -> dict[str, set[str]]:
    """Question starts by answer."""
    spans = candidates(title, text)
    for candidate in spans:
        assert candidate.sentence in text
        assert candidate.gap.replace("___", candidate.answer) == candidate.sentence
        assert candidate.answer not in candidate.gap
    return {candidate.answer: set(candidate.starts) for candidate in spans}


def test_questions_use_table_columns_but_never_ask_for_them():
    rows = (
        "Bridges\n\nBridge: Old Bridge; Built: 1399; Length: 64 m.\nBridge: Quarn Bridge; Built: 1954; Length: 118 m."
    )
    found = {candidate.answer: candidate.starts for candidate in candidates("Dunmarrow", f"Bridges\n\n{rows}")}
    assert found == {
        "1399": ("In which year was Old Bridge built?",), "64 m": ("What is the length of Old Bridge?",),
        "1954": ("In which year was Quarn Bridge built?",), "118 m": ("What is the length of Quarn Bridge?",),
    }  # fmt: skip
    facts = "Height: 1.2 m.\nFuel: Wood pellets, 6 mm.\nHTTP port: 80 or 443.\nSold: in Osk."
    found = {candidate.answer: candidate.starts for candidate in candidates("The Heater", facts)}
    assert found == {
        "1.2 m": ("What is the height of the Heater?",), "Wood pellets, 6 mm": ("What is the fuel of the Heater?",),
        "80 or 443": ("What is the HTTP port of the Heater?",), "in Osk": (),
    }  # fmt: skip


@pytest.mark.parametrize(
    "sentence",
    [
        "He said: the Hedda is lost.", "Ship model: the Pellimar, scale 1:50.", "Q: And who runs it?",
        "The crew of the boat was this: Ann.", "Note: it was Ann Lee who founded the Old Mill in 1871, not Otto.",
    ],
)  # fmt: skip
def test_a_sentence_with_a_colon_is_not_a_table_row(sentence: str):
    assert cells(sentence) == []


def test_texts_of_one_block_keep_their_version():
    assert local_version("It was built in 1911. It is: old.") == LOCAL_VERSION
    assert local_version("One line\nwrapped, in two. And more.") == LOCAL_VERSION
    for text in ("A heading\n\nAnd a text.", "Things:\n- a\n- b", "Height: 1.2 m."):
        assert local_version(text) != LOCAL_VERSION
    for text in ("It was built by Dr. Roth of Osk.", 'She said "No." Then she left.', "灯塔很高。它很旧。"):
        assert local_version(text) == f"{LOCAL_VERSION}-sentences"


@pytest.mark.parametrize(
    ("text", "answer", "starts"),
    [
        ("It was founded in 1911 by Greta Olmsted.", "1911", {"In which year was the Ostrel lamp founded?"}),
        ("It was founded in 1911 by Greta Olmsted.", "Greta Olmsted", {"Who founded"}),
        ("The mill, opened in 1954, is shut.", "1954", {"In which year was the mill opened?"}),
        ("Built in 1911, it stands still.", "1911", {"In which year was the Ostrel lamp built?"}),
        ("Then came 1911, a wet year.", "1911", {"In which year was", "In which year did"}),
        ("The mill has 83 wheels.", "83 wheels", {"How many wheels does the mill have?"}),
        ("It carries eight new sails.", "eight new sails", {"How many new sails does the Ostrel lamp carry?"}),
        ("It is 24 metres tall.", "24 metres", {"How many metres tall is the Ostrel lamp?"}),
        ("They paid 300 florins.", "300 florins", {"How many florins", "How many florins does the Ostrel lamp"}),
        ("Its keeper, Tomas Reil, sings.", "Tomas Reil", {"What is the name of the keeper?"}),
        ("Tomas Reil, a tailor, sings.", "Tomas Reil", {"What is the name of the tailor?"}),
        ("A goat called Osk lives in it.", "Osk", {"What is the name of the goat?"}),
        ("He lived in the village of Dunmere.", "Dunmere", {"What is the name of the village?"}),
        ("It was drawn by Mara Vell.", "Mara Vell", {"Who drew"}),
        ("Once Mara Vell kept it.", "Mara Vell", {"Who kept"}),
        ("It stands in Dunmere.", "Dunmere", {"Where"}),
        ("It hangs on a green chain.", "green chain", set()),
    ],
)
def test_the_words_around_a_span_suggest_questions(text: str, answer: str, starts: set[str]):
    assert found("The Ostrel lamp", text)[answer] == starts


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("It was signed on 3 October 1512.", "3 October"),
        ("It cost 3 million ducats.", "million ducats"),
        ("Osk came, and Osk went.", "Osk"),  # a gap for it would give it away
        ("It was the 5,150 filled seats.", "5,150 filled"),
    ],
)
def test_spans_that_are_no_answers_are_not_candidates(text: str, answer: str):
    assert answer not in found("", text)


def test_names_may_contain_small_words_and_lose_their_possessive():
    text = "She won the Order of the White Oar beside Lady Jane's Throat and Reil's mill for 3,500 crowns."
    assert {"Order of the White Oar", "Lady Jane's Throat", "Reil", "3,500 crowns"} <= set(found("", text))


def test_words_of_the_title_are_not_candidates():
    text = "Greta Olmsted built the Ostrel lamp in 1911."
    assert "Ostrel" not in found("The Ostrel lamp", text)
    assert "Greta Olmsted" not in found("GRETA OLMSTED", text)
    assert set(found("Other", text)) == {"Greta Olmsted", "Ostrel", "1911"}


@pytest.mark.parametrize(
    "word", ["in", "at", "near", "after", "above", "below", "behind", "beside", "across", "along", "inside", "within"]
)
def test_a_preposition_ends_a_span(word: str):
    assert "24 metres" in found("The lamp", f"It is 24 metres {word} Brevik Harbour.")


def test_candidates_are_distinct():
    both = candidates("T", "Greta Olmsted came in 1911. Greta Olmsted left in 1911.")
    assert [c.answer for c in both] == ["Greta Olmsted", "1911"]
    assert candidates("T", "") == []


def test_the_key_terms_of_a_text_are_its_names_and_numbers():
    text = "The Ostrel lamp was built in 1911. Its maker, Greta Olmsted, paid 3.50 florins to the O'Hara-Reil firm."
    assert key_terms(text) == {"Ostrel", "1911", "Greta", "Olmsted", "3.50", "O'Hara-Reil"}
    assert key_terms("Nothing in here.") == set()


ORIGINAL = "The Ostrel lamp was built in 1911 by Greta Olmsted."


@pytest.mark.parametrize(
    "rewrite",
    [
        "The lamp was built in 1911 by Greta Olmsted.",  # a name is lost
        "The Ostrel lamp was built long ago by Greta Olmsted.",  # a number is lost
        "The Ostrel lamp was built in 1912 by Greta Olmsted.",  # a number is changed
        "The Ostrel lamp was built in 1911 by Greta Olmsted and Tomas.",  # a name is added
        "In 1911 Greta Olmsted made, as everyone knows who has ever been there at all, the famous Ostrel lamp.",
        "Ostrel 1911 Greta Olmsted",  # too short
        "",
    ],
)
def test_an_unfaithful_rewrite_is_replaced_by_the_original(rewrite: str):
    assert faithful(ORIGINAL, rewrite) == ORIGINAL


def test_a_faithful_rewrite_is_kept():
    rewrite = "In 1911 the Ostrel lamp was made by Greta Olmsted."
    assert faithful(ORIGINAL, rewrite) == rewrite


SENTENCE = "It was opened in 1911 by Greta Olmsted, who sold 12 lamps to Brevik."
YEAR = Candidate(SENTENCE, "1911", SENTENCE.index("1911"), ())
NAME = Candidate(SENTENCE, "Greta Olmsted", SENTENCE.index("Greta"), ())


@pytest.mark.parametrize(
    ("question", "candidate", "sound"),
    [
        ("In which year was the Ostrel mill opened?", YEAR, True),
        ("In which year did the Ostrel mill open?", YEAR, True),
        ("In which year was the Ostrel mill destroyed?", YEAR, False),  # not said
        ("In which year did it sell lamps?", YEAR, False),  # said of something else
        ("In which year, 1911, was it opened?", YEAR, False),  # gives itself away
        ("In which year was it opened? Why?", YEAR, False),
        ("In which year was it opened", YEAR, False),
        ("Who opened the Ostrel mill?", NAME, True),
        ("Who was it?", NAME, False),
        ("Who sold the lamps?", NAME, True),
        ("Who did Greta open it with?", NAME, False),
    ],
)
def test_a_sound_question_uses_what_its_sentence_says_about_the_answer(
    question: str, candidate: Candidate, sound: bool
):
    assert is_sound(question, "The Ostrel mill", candidate) == sound


def test_a_question_names_a_title_by_all_its_content_words():
    assert names_title("Who built the Ostrel mill?", "The Ostrel mill")
    assert not names_title("Who built the mill?", "The Ostrel mill")
    assert names_title("Who built it?", "")
    assert tidy("Who built the mill 's wheel ?") == "Who built the mill's wheel?"


@pytest.mark.parametrize(
    ("sentence", "other"),
    [
        ("In 1962 he left.", "In 1962 he left."),
        ("After the flood, they gave it up.", "They gave it up after the flood."),
        ("It was mended in 1832.", "In 1832 it was mended."),
        ("Reil mended it, and left in 1832.", "Reil mended it, and left in 1832."),
    ],
)
def test_a_sentence_is_turned_only_if_that_is_safe(sentence: str, other: str):
    assert turned(sentence) == other
    assert faithful(sentence, turned(sentence)) == other


def test_likeness_is_one_for_equal_texts_whatever_their_case():
    assert likeness("A mill", "a MILL") == 1 > likeness("A mill", "A lamp") > likeness("A mill", "x")


@pytest.mark.parametrize(
    ("text", "turn", "other"),
    [
        ("Ann came. Bo left. Cy slept.", 0.5, "Cy slept. Ann came. Bo left."),
        ("Ann came. She left. Cy slept.", 0.5, "Cy slept. Ann came. She left."),
        (
            "Ann came. With her came Bo. Cy slept. Then it rained.",
            0.5,
            "Cy slept. Then it rained. Ann came. With her came Bo.",
        ),
        ("Ann came. Bo left. Cy slept.", 0.0, "Bo left. Cy slept. Ann came."),
        ("Ann came. She left.", 0.5, "Ann came. She left."),
        ("Ann came.", 0.9, "Ann came."),
    ],
)
def test_reordering_keeps_sentences_that_refer_back_in_place(text: str, turn: float, other: str):
    assert reordered(block_sentences(text), block_sentences(text), turn) == other


def test_gap_questions_are_in_the_language_of_their_document():
    gap = Candidate("Er ist 24 Meter hoch.", "24 Meter", 7, ())
    assert gap_pair("Turm", gap, "") == QAPair("Turm: Er ist ___ hoch.", "24 Meter", gap.sentence)
    assert gap_pair("", gap).question == "Er ist ___ hoch. What is missing?"
