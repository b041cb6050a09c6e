"""Parsing a model's answer: which items are accepted, and how faults are described."""

import json

import pytest

from dyprag.augmentation.answers import BOUNDS, LENGTHS, read_items, schema, without
from dyprag.corpora.documents import QAPair

PAIRS = [{"question": f"Who {n}?", "answer": f"Ann {n}", "full_answer": f"It was Ann {n}."} for n in (1, 2)]
WHOLE = json.dumps({"qa_pairs": PAIRS})
READ = [QAPair(**pair) for pair in PAIRS]


@pytest.mark.parametrize(
    "text",
    [
        WHOLE,
        f"Sure!\n```json\n{WHOLE}\n```\nHope {{this}} helps.",
        json.dumps(PAIRS),
        WHOLE.replace('"', "'"),
        WHOLE.replace("}]}", "},]}"),
        json.dumps({"qa_pairs": [{**pair, "difficulty": 3} for pair in PAIRS]}),
    ],
    ids=["JSON", "fence and prose", "bare list", "single quotes", "trailing comma", "further fields"],
)
def test_items_are_read_despite_surrounding_noise(text: str):
    assert read_items(text, "qa_pairs") == (READ, "")


def test_a_numeric_answer_becomes_text():
    text = json.dumps({"qa_pairs": [{"question": "When?", "answer": 1911, "full_answer": "In 1911."}]})
    assert read_items(text, "qa_pairs") == ([QAPair("When?", "1911", "In 1911.")], "")


@pytest.mark.parametrize("end", [10, 30, 45])
def test_complete_items_of_a_truncated_answer_are_kept(end: int):
    cut = WHOLE[:-end]
    assert read_items(cut, "qa_pairs") == (READ[:1], "it breaks off.")
    assert read_items(cut, "qa_pairs", cut=True) == (READ[:1], "it breaks off.")


@pytest.mark.parametrize("end", ["", "  \n\n\n", ",", ', {"question": "Wh', ", {"])
def test_an_item_completed_before_the_truncation_is_kept(end: str):
    assert read_items(WHOLE.removesuffix("]}") + end, "qa_pairs", cut=True) == (READ, "it breaks off.")
    assert read_items('{"rewrites": ["It was \\"built\\".", "In 19', "rewrites", cut=True)[0] == ['It was "built".']


def test_a_text_cut_at_the_schema_s_limit_is_dropped():
    pair = {"question": f"Who {'and who ' * 50}"[:300], "answer": "Ann", "full_answer": "It was Ann."}
    items, error = read_items(json.dumps({"qa_pairs": [pair, PAIRS[0]]}), "qa_pairs")
    assert items == READ[:1]
    assert error == "item 1 of qa_pairs: question is too long."


def test_a_truncated_rewrite_is_dropped():
    assert read_items('{"rewrites": ["It was built in', "rewrites") == ([], "it breaks off.")
    assert read_items('{"rewrites": ["It was built in 1911."]}', "rewrites") == (["It was built in 1911."], "")
    assert read_items('{"rewrites": ["It was built in 1911.", ""]}', "rewrites")[0] == ["It was built in 1911."]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("I cannot do that.", 'no JSON object with a list "qa_pairs"'),
        ("", "it is empty"),
        ('{"result": 1}', 'no JSON object with a list "qa_pairs"'),
        ('{"qa_pairs": "none"}', 'no JSON object with a list "qa_pairs"'),
        ('["a"]', 'no JSON object with a list "qa_pairs"'),
        ('{"qa_pairs": []}', "is empty"),
        ('{"qa_pairs": [{"q": "Who?"}]}', "item 1 of qa_pairs: question: Field required"),
        ('{"qa_pairs": [{"question": "  ", "answer": "a", "full_answer": "b"}]}', "question: String should have"),
        ('{"qa_pairs": ["Who?"]}', "item 1 of qa_pairs: it is no object"),
    ],
)
def test_unusable_answers_are_described_for_the_model(text: str, fault: str):
    items, error = read_items(text, "qa_pairs")
    assert items == []
    assert fault in error


def test_lone_surrogates_become_question_marks():
    (rewrite,) = read_items('{"rewrites": ["a \\ud83d b"]}', "rewrites")[0]
    assert rewrite == "a ? b"


def test_one_invalid_item_does_not_affect_the_others():
    items, error = read_items(json.dumps({"qa_pairs": [PAIRS[0], {"question": "Who?"}, PAIRS[1]]}), "qa_pairs")
    assert items == READ
    assert "item 2 of qa_pairs: answer: Field required" in error


@pytest.mark.parametrize("product", ["rewrites", "qa_pairs"])
def test_the_schema_satisfies_strict_endpoints(product):
    """OpenAI's rules: every object forbids additional properties and requires all of its own; bounds are optional."""
    inner = schema(product, 3)["schema"]
    assert inner["properties"][product]["maxItems"] == 3
    assert not [word for word in BOUNDS if word in json.dumps(without(inner, BOUNDS))]
    assert "minItems" in json.dumps(without(inner, LENGTHS))
    assert "Length" not in json.dumps(without(inner, LENGTHS))
    for part in (inner, *inner.get("$defs", {}).values()):
        assert part["additionalProperties"] is False
        assert set(part["required"]) == set(part["properties"])
