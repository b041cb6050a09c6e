"""Scoring: equal to the official code on its golden cases, and to the formulas by hand."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyprag.evaluation.metrics import bootstrap_interval, extract_answer, normalise, score

GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "data" / "metric_golden.jsonl"


def test_the_official_scoring_is_reproduced_on_all_golden_cases():
    if not GOLDEN.is_file():
        pytest.skip(f"the golden cases are not here: {GOLDEN}")
    cases = [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").splitlines()]
    assert len(cases) == 900
    wrong = []
    for case in cases:
        answers = [case["answer"]] if isinstance(case["answer"], str) else case["answer"]
        ours = score(case["prediction"], answers, case["chain_of_thought"])
        found = (ours.em, ours.f1, ours.precision, ours.recall)
        wanted = (case["em"], case["f1"], case["precision"], case["recall"])
        extracted = extract_answer(case["prediction"], case["chain_of_thought"])
        if found != pytest.approx(wanted, abs=1e-12) or extracted != case["extracted"]:
            wrong.append((case, found, extracted))
    assert wrong == []


@pytest.mark.parametrize(
    ("prediction", "answers", "em", "precision", "recall"),
    [
        ("the Eiffel Tower", ["Eiffel tower"], 1, 1, 1),  # articles and case do not count
        ("Eiffel Tower", ["Eiffel Tower in Paris"], 0, 1, 1 / 2),
        ("new new york", ["new york"], 0, 2 / 3, 1),  # a repeated word counts as often as the answer has it
        ("Paris", ["London"], 0, 0, 0),
        ("yes it is", ["yes"], 0, 0, 0),  # yes and no must match wholly
        ("no", ["yes"], 0, 0, 0),
        ("Yes.", ["yes"], 1, 1, 1),
        ("Greta", ["Tomas Reil", "Greta Olmsted"], 0, 1, 1 / 2),  # the best alias
        ("", ["Paris"], 0, 0, 0),
    ],
)
def test_scores_follow_the_formula(prediction: str, answers: list[str], em: float, precision: float, recall: float):
    found = score(prediction, answers)
    f1 = 2 * precision * recall / (precision + recall) if precision else 0
    assert (found.em, found.f1, found.precision, found.recall) == pytest.approx((em, f1, precision, recall))


@pytest.mark.parametrize(
    ("prediction", "chain_of_thought", "extracted"),
    [
        ("Osk, a river", False, "Osk"),
        ("August 25, 1963", False, "August 25"),
        ("It crosses it. So the answer is Osk. Sure", True, "Osk"),
        ("It crosses it. So the answer is Osk. Sure", False, "It crosses it"),
        ("the answer is Osk\nmore", True, "Osk"),
        ("Osk\nmore", True, "Osk"),
    ],
)
def test_an_answer_is_cut_where_the_paper_cuts_it(prediction: str, chain_of_thought: bool, extracted: str):
    assert extract_answer(prediction, chain_of_thought) == extracted


def test_normalisation_drops_case_punctuation_and_articles():
    assert normalise("  The A-B  of an   Answer! ") == "ab of answer"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
@settings(max_examples=20, deadline=None)
def test_the_interval_contains_the_mean(values: list[float]):
    low, high = bootstrap_interval(values, resamples=300)
    assert low - 1e-9 <= sum(values) / len(values) <= high + 1e-9


def test_the_interval_is_repeatable_and_narrows_with_more_questions():
    few, many = [0.0, 1.0] * 5, [0.0, 1.0] * 500
    assert bootstrap_interval(few, seed=3) == bootstrap_interval(few, seed=3)
    (low, high), (lower, higher) = bootstrap_interval(many), bootstrap_interval(few)
    assert high - low < higher - lower
    assert high - low == pytest.approx(2 * 1.96 * 0.5 / 1000**0.5, rel=0.1)  # the normal approximation


def test_the_interval_of_nothing_is_zero():
    assert bootstrap_interval([]) == (0.0, 0.0)
