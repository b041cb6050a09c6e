"""Results of an evaluation: rows, gains over vanilla and controls, comparisons, published scores.

Expected values are worked out by hand from the made-up answers.
"""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyprag.evaluation.comparison import changes_in_words, compare_runs, comparisons
from dyprag.evaluation.gains import first_line, gains
from dyprag.evaluation.metrics import Score
from dyprag.evaluation.published import FILE, published
from dyprag.evaluation.results import Judged, result_rows
from dyprag.evaluation.statistics import paired, share_interval
from dyprag.evaluation.strata import interval_over, mean_over, paired_over

SIZES = {"vanilla": 0.0, "prag": 1500.0}
DATA = Path(__file__).parents[3] / "shared" / "data"


def answer(method: str, number: int, f1: float | None, **changes: object) -> Judged:
    """Create a judged answer; the answer is present if F1 is above one half."""
    scored = None if f1 is None else Score("x", float(f1 == 1), f1, f1, f1)
    values: dict[str, object] = {
        "dataset": "demo", "variant": "", "method": method, "question_id": f"q{number}", "question": "Who?",
        "answers": () if f1 is None else ("x",), "type": "single", "split": "mixed", "output": "x", "tokens": 4,
        "seconds": 0.5, "first_token": 0.1, "retrievals": 1, "prompt": "", "passages": (), "retrieval": None,
        "score": scored, "present": None if f1 is None else f1 > 0.5,
    }  # fmt: skip
    return Judged(**(values | changes))  # type: ignore[arg-type]


def answers(scores: dict[str, Sequence[float | None]], **changes: object) -> list[Judged]:
    return [answer(method, n, f1, **changes) for method, f1s in scores.items() for n, f1 in enumerate(f1s)]


def constant(scores: dict[str, float], questions: int = 20, **changes: object) -> list[Judged]:
    """Create equal scores for all questions, so that all differences are significant."""
    return answers({method: [f1] * questions for method, f1 in scores.items()}, **changes)


def test_a_row_has_means_in_percent_with_their_intervals() -> None:
    (row,) = result_rows(answers({"prag": [1.0, 0.5, 0.0, 0.9]}), SIZES, {"prag": 7e9})
    assert (row["f1"], row["em"], row["presence"]) == (pytest.approx(60), pytest.approx(25), pytest.approx(50))
    assert (row["presence_low"], row["presence_high"]) == tuple(100 * end for end in share_interval(2, 4))
    assert row["f1_low"] < 60 < row["f1_high"]
    assert (row["tokens"], row["seconds_per_answer"], row["first_token"], row["retrievals"]) == (4, 0.5, 0.1, 1)
    assert (row["bytes_per_document"], row["memory"]) == (1500, 7e9)
    assert row["retrieval_recall"] is None
    assert row["unsupported"] is None


def test_values_known_for_some_questions_are_averaged_over_those() -> None:
    judged = [answer("prag", 0, 1.0, retrieval=0.5, unsupported=0.2), answer("prag", 1, 1.0)]
    (row,) = result_rows(judged, {})
    assert (row["retrieval_recall"], row["unsupported"], row["bytes_per_document"]) == (50, 20, None)


def test_altered_documents_have_a_share_of_true_answers() -> None:
    outputs = ["A poet, of course", "joiner"]
    judged = [answer("rag", n, 1.0, output=text, believed=("poet",)) for n, text in enumerate(outputs)]
    assert [row["believed"] for row in result_rows([*judged, answer("prag", 1, 1.0)], SIZES)] == [50, None]


def test_questions_without_answers_have_costs_but_no_scores() -> None:
    (row,) = result_rows(answers({"prag": [None, None]}, dataset="ragtruth"), SIZES)
    assert (row["questions"], row["seconds_per_answer"]) == (2, 0.5)
    assert {row[name] for name in ("em", "f1", "f1_low", "precision", "presence", "presence_high")} == {None}
    judged = answers({"vanilla": [None], "prag": [None]})
    assert gains(judged) == comparisons(judged) == []


def test_types_and_splits_have_rows_where_there_are_several() -> None:
    kinds = [("single", "seen"), ("single", "unseen"), ("multihop", "seen")]
    judged = [answer("prag", n, 1.0, type=t, split=s) for n, (t, s) in enumerate(kinds)]
    rows = [(row["type"], row["split"], row["questions"]) for row in result_rows(judged, SIZES)]
    assert rows == [("all", "all", 3), ("all", "seen", 2), ("all", "unseen", 1), ("multihop", "all", 1),
                    ("single", "all", 2), ("single", "seen", 1), ("single", "unseen", 1)]  # fmt: skip


def test_all_data_sets_have_equal_weight() -> None:
    judged = [*constant({"vanilla": 0.2, "prag": 1.0}, 30, dataset="a"), *constant({"vanilla": 0.6}, 2, dataset="b")]
    overall = [row for row in result_rows(judged, SIZES) if row["dataset"] == "all"]
    assert [(row["method"], row["f1"], row["questions"]) for row in overall] == [("vanilla", pytest.approx(40), 32)]


STRATA = st.lists(st.lists(st.floats(0, 1, allow_subnormal=False), min_size=1, max_size=8), min_size=1, max_size=4)


@given(STRATA, st.integers(1, 4))
@settings(max_examples=30)
def test_repeated_questions_do_not_change_a_data_sets_weight(strata: list[list[float]], times: int) -> None:
    repeated = [values * (1 + place * times) for place, values in enumerate(strata)]
    assert mean_over(repeated) == pytest.approx(mean_over(strata))
    low, high = interval_over(strata, resamples=200)
    assert low - 1e-9 <= high
    assert min(map(min, strata)) - 1e-9 <= low
    assert high <= max(map(max, strata)) + 1e-9
    zeros = [[0.0] * len(values) for values in repeated]
    assert paired_over(repeated, zeros).difference == pytest.approx(mean_over(strata))


def test_a_single_data_set_is_compared_as_in_statistics() -> None:
    one, other = [0.1, 0.9, 0.4, 0.3], [0.0, 0.5, 0.5, 0.2]
    assert paired_over([one], [other]) == paired(one, other)
    # Two data sets, of which the second weighs as much as the first: the four sign patterns of (2, 1) and (-2, -1)
    # give 1.5, 0.5, -0.5 and -1.5; two of the four are as large as 1.5.
    assert paired_over([[2.0], [1.0]], [[0.0], [0.0]]).p == 0.5


def test_a_gain_is_compared_with_the_best_control_that_was_run() -> None:
    (gain,) = gains(constant({"vanilla": 0.1, "prag": 0.5, "prag-mean": 0.4, "zero": 0.2}))
    assert (gain.control, gain.questions) == ("prag-mean", 20)
    assert (gain.gain, gain.control_gain, gain.surviving) == tuple(map(pytest.approx, (40, 30, 0.25)))
    assert gain.gain_p == pytest.approx(2 * 2 / 2**20)  # two patterns of all 2^20, two comparisons
    assert gain.control_p is not None
    assert gain.control_p < 0.05


def test_a_gain_counts_only_the_questions_that_all_answered() -> None:
    judged = answers({"vanilla": [0.0, 0.0, 1.0], "prag": [1.0, 1.0], "zero": [0.5]})
    (gain,) = gains(judged)
    assert (gain.questions, gain.gain, gain.surviving) == (1, 100, 0.5)


def test_gains_over_several_data_sets_come_first_and_use_only_controls_run_on_each() -> None:
    judged = [
        *constant({"vanilla": 0.0, "prag": 0.4, "zero": 0.1, "generic": 0.4}, 30, dataset="a"),
        *constant({"vanilla": 0.0, "prag": 0.2, "zero": 0.1}, 10, dataset="b"),
    ]
    found = [(gain.dataset, gain.control, round(gain.gain, 6), gain.questions) for gain in gains(judged)]
    assert found == [("all", "zero", 30, 40), ("a", "generic", 40, 30), ("b", "zero", 20, 10)]


def test_presence_can_be_measured_instead_of_f1() -> None:
    (gain,) = gains(constant({"vanilla": 0.1, "prag": 0.9, "zero": 0.2}), "present")
    assert (gain.gain, gain.surviving) == (100, 1)


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ({"prag": 0.5, "prag-mean": 0.4}, "of PRAG's gain over vanilla of 40.0 F1 points, 10.0 (25 %) survive its best "
                                          "control (mean adapter)."),
        ({"prag": 0.5, "generic": 0.52}, "points, nothing survives (generic adapter is 2.0 better)."),
        ({"prag": 0.5, "zero": 0.5}, "points, nothing survives (zero adapter does as well)."),
        ({"prag": 0.5, "zero": 0.05}, "points, all survives its best control (zero adapter)."),
        ({"prag": 0.1}, "PRAG gains nothing over vanilla."),
        ({"prag": 0.05, "zero": 0.0}, "PRAG gains nothing over vanilla (5.0 F1 points less)."),
        ({"prag": 0.5}, "PRAG gains 40.0 F1 points over vanilla. No control was run for PRAG, so it is unknown how "
                        "much of that is knowledge."),
        ({"rag": 0.5}, "No method with adapters was run together with vanilla, so the benefit of adapters is unknown."),
        ({"prag": 0.5, "zero": 0.4, "dyprag": 0.3, "generic": 0.2, "dyprag-combine": 0.0, "rag": 0.3},
         "of DyPRAG's 20.0, nothing survives (zero adapter is 10.0 better); DyPRAG-Combine gains nothing"),
    ],
)  # fmt: skip
def test_the_first_line_says_what_survives(scores: dict[str, float], words: str) -> None:
    text = first_line(gains(constant({"vanilla": 0.1} | scores)))
    assert words in text
    assert "noise" not in text
    assert text.startswith(("On demo: ", "No method"))


def test_the_first_line_marks_noise() -> None:
    vanilla = [0.0] * 20
    few = [0.0] * 17 + [1.0] * 3  # three that differ: p = 2 / 8
    assert "PRAG's gain over vanilla of 15.0 F1 points is within noise." in first_line(
        gains(answers({"vanilla": vanilla, "prag": few, "zero": vanilla}))
    )
    most, fewer = [1.0] * 20, [1.0] * 17 + [0.0] * 3
    assert "15.0 (15 %) survive its best control (zero adapter), which is within noise." in first_line(
        gains(answers({"vanilla": vanilla, "prag": most, "zero": fewer}))
    )
    worse = first_line(gains(answers({"vanilla": few, "prag": vanilla})))
    assert "PRAG gains nothing over vanilla (15.0 F1 points less, which is within noise)." in worse


def test_the_first_line_uses_the_mean_and_names_other_data_sets() -> None:
    scores = {"vanilla": 0.1, "prag": 0.5, "zero": 0.4}
    judged = [*constant(scores, dataset="a"), *constant(scores, dataset="b")]
    assert first_line(gains(judged)).startswith("In the mean of 2 data sets: of PRAG's gain")
    judged += constant({"dyprag": 0.5}, dataset="b")
    assert "; on b of DyPRAG's 40.0, 10.0 (25 %) survive" in first_line(gains(judged))


def test_the_first_line_chooses_no_variant_as_the_best() -> None:
    judged = [*constant({"vanilla": 0.1, "dyprag": 0.5, "zero": 0.1}, variant="width=8"),
              *constant({"vanilla": 0.1, "dyprag": 0.2, "zero": 0.3}, variant="width=2")]  # fmt: skip
    assert first_line(gains(judged)) == (
        "On demo: over 2 variants DyPRAG gains from 10.0 to 40.0 F1 points over vanilla, and exceeds its best control "
        "by -10.0 (width=2) to 40.0 (width=8), significantly in 1."
    )


def test_every_pair_of_methods_except_controls_is_compared() -> None:
    found = comparisons(constant({"vanilla": 0.1, "rag": 0.3, "prag": 0.6, "zero": 0.2}))
    pairs = [(c.one, c.other, round(c.paired.difference, 6)) for c in found]
    assert pairs == [("vanilla", "rag", -20), ("vanilla", "prag", -50), ("rag", "prag", -30)]
    assert all(c.p == pytest.approx(3 * 2 / 2**20) for c in found)


def test_two_runs_are_compared_on_their_common_questions() -> None:
    before = answers({"prag": [0.0, 0.0, 1.0, 0.2], "rag": [1.0]})
    after = [answer("prag", n, f1, seconds=0.75) for n, f1 in ((0, 1.0), (1, 1.0), (2, 0.0), (9, 1.0))]
    (change,) = compare_runs(before, after)
    assert (change.questions, change.only_before, change.only_after) == (3, 1, 1)
    assert (change.right, change.wrong) == (2, 1)
    assert change.f1 is not None
    assert (change.f1.difference, change.seconds.difference) == (pytest.approx(100 / 3), 0.25)
    assert not change.more_than_noise
    text = changes_in_words([change])
    assert "none changed by more than noise" in text
    assert "2 became right and 1 wrong, of 3 questions (1 more only before, 1 only after): within noise." in text


def test_comparing_a_run_with_itself_or_an_unrelated_one_shows_no_change() -> None:
    run = constant({"prag": 0.4})
    (change,) = compare_runs(run, run)
    assert (change.f1_p, change.presence_p, change.right, change.wrong, change.more_than_noise) == (1, 1, 0, 0, False)
    better = compare_runs(run, constant({"prag": 0.9}))
    assert better[0].more_than_noise
    assert "more than noise" in changes_in_words(better)
    assert "nothing to compare" in changes_in_words(compare_runs(run, constant({"rag": 0.4})))
    (apart,) = compare_runs([answer("prag", 1, 1.0)], [answer("prag", 2, 1.0)])
    assert "no common question" in changes_in_words([apart])


@pytest.mark.parametrize(
    "model", ["meta-llama/Llama-3.2-1B-Instruct", "llama-3.2-1b-instruct", "/models/Llama-3.2-1B-Instruct/"]
)
def test_published_figures_are_found_by_the_models_name(model: str) -> None:
    # Su et al., table 1: PRAG with LLaMA-3.2-1B on PopQA has 22.05.
    found = {(f.method, f.type, f.source[:4]): f.f1 for f in published(model, "PopQA")}
    assert found["prag", "all", "PRAG"] == 22.05


def test_published_scores_are_shown_only_for_the_same_model_and_data_set() -> None:
    assert published("meta-llama/Meta-Llama-3-8B-Instruct", "hotpotqa")
    assert {f.type for f in published("Qwen/Qwen2.5-1.5B-Instruct", "2wikimultihopqa")} == {
        "all", "bridge_comparison", "comparison", "compositional", "inference",
    }  # fmt: skip
    assert published("Qwen/Qwen2.5-7B-Instruct", "popqa") == published("llama-3.2-1b-instruct", "demo") == []


@pytest.mark.skipif(not (DATA / "published_results.csv").exists(), reason="the published figures are not at hand")
def test_the_published_scores_are_complete() -> None:
    assert FILE.read_text(encoding="utf-8") == (DATA / "published_results.csv").read_text(encoding="utf-8")
