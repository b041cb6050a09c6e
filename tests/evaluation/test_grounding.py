"""Grounding: cases counted by hand, and properties of any answer."""

import pytest
from conftest import TEXTS
from hypothesis import given
from hypothesis import strategies as st

from dyprag.evaluation.grounding import Grounding, unsupported

PASSAGES = list(TEXTS.values())
ELSEWHERE = "Zorvath Quint blorped 4711 wexes. Umbrik Thal, gnarled, wunted Plimsey in 1066.".split()


def counts(answer: str, passages: list[str] = PASSAGES, question: str = "") -> tuple[int, int, int, int]:
    """(tokens, unsupported tokens, entities, unsupported entities)."""
    found = unsupported(answer, passages, question)
    return found.tokens, found.unsupported_tokens, found.entities, found.unsupported_entities


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Greta Olmsted", (2, 0, 1, 0)),
        ("greta olmsted", (2, 0, 0, 0)),  # names need capitals
        ("Zorvath Quint", (2, 2, 1, 1)),
        ("Greta Reil", (2, 0, 1, 1)),  # both words occur, the name does not
        ("It was built in 1911.", (2, 0, 1, 0)),
        ("It was built in 1912.", (2, 1, 1, 1)),
        ("It was opened by Greta Olmsted in 1911, at Brevik.", (5, 1, 3, 0)),  # "opened" is not in any passage
        ("The bridge is crossing the Osk.", (3, 0, 1, 0)),  # crosses, in another form
        ("Olmsted’s lamp", (2, 0, 1, 0)),
        ("The novel of Mara Vell; the Copper Gull Press of Dunmere", (7, 0, 2, 1)),  # the press is "in Dunmere"
        ("Tomas Reil, Mara Vell", (4, 0, 2, 0)),
        ("Novel Tide Songs", (3, 0, 1, 0)),  # a common word at the head of a sentence
        ("Surely Greta Olmsted", (3, 1, 1, 1)),
        ("Paris is far. Surely not.", (3, 3, 1, 1)),
        ("Italy", (1, 1, 1, 1)),
        ("Beijing is in Italy", (2, 2, 2, 2)),
        ("Opened in 1911", (2, 1, 1, 0)),  # a capitalised verb is not a name
        ("The Lamp of the Quarn of Osk", (3, 0, 1, 1)),
        ("Yes. It is not of the", (0, 0, 0, 0)),
        ("", (0, 0, 0, 0)),
        ("?!\n", (0, 0, 0, 0)),
        ("Zorvath, Zorvath and Zorvath", (3, 3, 3, 3)),  # each occurrence counts
    ],
)
def test_words_and_entities_match_counts_by_hand(answer: str, expected: tuple[int, int, int, int]):
    assert counts(answer) == expected


def test_shares_are_parts_of_the_counts():
    assert unsupported("The Ostrel lamp, built in 1950 by Zorvath.", PASSAGES) == Grounding(5, 2, 2 / 5, 3, 2, 2 / 3)
    assert unsupported("", PASSAGES) == Grounding(0, 0, 0.0, 0, 0, 0.0)


def test_words_of_the_question_are_supported():
    assert counts("Zorvath built it", question="") == (2, 1, 1, 1)
    assert counts("Zorvath built it", question="Did Zorvath build it?") == (2, 0, 1, 0)


@pytest.mark.parametrize(
    ("answer", "passage"),
    [
        ("1,911 lamps", "There are 1911 lamps."),
        ("the U.S. Navy", "A ship of the US Navy."),
        ("in the mid-1990s", "the mid 1990s"),
        ("the Sa\u0303o Paulo", "In São Paulo"),
        ("the University of Oslo", "at the University of Oslo"),
        ("J. R. R. Tolkien", "J. R. R. Tolkien wrote it."),
    ],
)
def test_other_spellings_are_supported(answer: str, passage: str):
    found = unsupported(answer, [passage])
    assert found.tokens > 0
    assert (found.unsupported_tokens, found.unsupported_entities) == (0, 0)


def test_a_name_does_not_span_two_passages():
    assert counts("by Greta Olmsted", ["It was Greta", "Olmsted came"]) == (2, 0, 1, 1)


def test_a_name_of_the_same_root_is_another_name():
    assert counts("in Australia", ["in Austria"]) == (1, 1, 1, 1)


@given(st.sampled_from(PASSAGES), st.integers(0, 20), st.integers(1, 20))
def test_an_answer_copied_from_a_passage_is_supported(passage: str, start: int, length: int):
    answer = " ".join(passage.split()[start : start + length])
    found = unsupported(answer, PASSAGES)
    assert (found.token_share, found.entity_share) == (0, 0)


ANY = st.lists(st.sampled_from([*" ".join(PASSAGES).split(), *ELSEWHERE, "\n", "-", "of", "The"]), max_size=12)


@given(ANY, st.sampled_from(["zorvath", "wexes", "4711", "Umbrik"]))
def test_an_unsupported_word_raises_the_share(words: list[str], alien: str):
    before = unsupported(" ".join(words), PASSAGES)
    after = unsupported(" ".join([*words, ".", alien]), PASSAGES)
    assert after.unsupported_tokens == before.unsupported_tokens + 1
    assert after.token_share > before.token_share or before.token_share == 1


@given(ANY, st.lists(st.sampled_from([*PASSAGES, " ".join(ELSEWHERE)]), max_size=4), st.data())
def test_more_passages_never_support_less(words: list[str], passages: list[str], data: st.DataObject):
    fewer = data.draw(st.lists(st.sampled_from(passages), unique=True) if passages else st.just([]))
    few, more = unsupported(" ".join(words), fewer), unsupported(" ".join(words), passages)
    assert (few.tokens, few.entities) == (more.tokens, more.entities)
    assert more.unsupported_tokens <= few.unsupported_tokens
    assert more.unsupported_entities <= few.unsupported_entities


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_can_be_measured_and_supports_itself(answer: str, passage: str):
    found = unsupported(answer, [passage])
    assert 0 <= found.token_share <= 1
    assert 0 <= found.entity_share <= 1
    assert unsupported(answer, [passage, answer]).unsupported_tokens == 0
    assert unsupported(answer, [answer]).unsupported_entities == 0
