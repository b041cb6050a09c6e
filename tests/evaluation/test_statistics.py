"""Statistics: compared with published values, brute force and simulated data."""

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyprag.errors import DypragError
from dyprag.evaluation import statistics
from dyprag.evaluation.statistics import EXACT_UP_TO, bootstrap_interval, holm, paired, share_interval

# Darwin's maize, cross- less self-fertilised, in eighths of an inch. Fisher (The Design of Experiments, 1935, §21)
# counted the sums of all 2^15 sign patterns: 863 are at least as large as the observed 314, and as many at most -314.
DARWIN = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
SCORES = st.floats(0, 1, allow_subnormal=False)
BOTH = st.lists(st.tuples(SCORES, SCORES), min_size=1, max_size=40).map(
    lambda rows: ([one for one, _ in rows], [other for _, other in rows])
)


def test_the_p_value_of_darwins_maize_equals_fishers():
    found = paired(DARWIN, [0] * 15)
    assert found.difference == pytest.approx(314 / 15)
    assert found.p == 2 * 863 / 2**15


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
@settings(max_examples=40)
def test_p_values_of_few_questions_enumerate_all_patterns(differences: list[int]):
    signs = itertools.product((1, -1), repeat=len(differences))
    sums = [sum(s * d for s, d in zip(pattern, differences, strict=True)) for pattern in signs]
    expected = sum(abs(total) >= abs(sum(differences)) for total in sums) / len(sums)
    assert paired(differences, [0] * len(differences), resamples=10).p == expected


def test_p_values_are_calibrated_without_a_difference():
    sizes = [0.1, 0.25, 0.3, 0.5, 0.55, 0.7, 0.9, 1.0]
    patterns = itertools.product((1, -1), repeat=8)
    ps = [paired([s * d for s, d in zip(p, sizes, strict=True)], [0.0] * 8, resamples=1).p for p in patterns]
    for level in (0.01, 0.05, 0.1, 0.5):
        assert sum(p <= level for p in ps) / len(ps) <= level


def test_sampled_p_values_agree_with_exact_ones(monkeypatch: pytest.MonkeyPatch):
    scores = np.random.default_rng(5).normal(0.3, 1, EXACT_UP_TO).tolist()
    exact = paired(scores, [0.0] * len(scores)).p
    monkeypatch.setattr(statistics, "EXACT_UP_TO", 0)
    sampled = paired(scores, [0.0] * len(scores)).p
    assert sampled != exact
    assert sampled == pytest.approx(exact, abs=4 * (exact * (1 - exact) / statistics.FLIPS) ** 0.5)


@given(BOTH)
@settings(max_examples=30)
def test_swapping_the_methods_mirrors_the_comparison(both: tuple[list[float], list[float]]):
    one, other = both
    there, back = paired(one, other, resamples=200), paired(other, one, resamples=200)
    assert there.difference == -back.difference
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=1e-12)
    assert there.p == back.p


@given(BOTH)
@settings(max_examples=30)
def test_a_p_value_is_a_probability_and_the_interval_contains_the_difference(both: tuple[list[float], list[float]]):
    found = paired(*both, resamples=300)
    assert 0 < found.p <= 1
    assert found.low - 1e-9 <= found.difference <= found.high + 1e-9


@given(st.lists(SCORES, max_size=30))
@settings(max_examples=20)
def test_a_method_does_not_differ_from_itself(scores: list[float]):
    found = paired(scores, scores, resamples=50)
    assert (found.difference, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)


def test_sampled_p_values_are_never_zero():
    assert paired([1.0] * 200, [0.0] * 200, resamples=10).p == 1 / (statistics.FLIPS + 1)


def test_different_numbers_of_scores_are_an_error():
    with pytest.raises(DypragError, match="3 and 1 scores"):
        paired([0.0, 1.0, 1.0], [1.0])


@pytest.mark.parametrize("kind", ["normal", "f1"])
def test_the_interval_covers_the_true_mean_in_about_95_of_100_samples(kind: str):
    draws = np.random.default_rng(11)
    covered, samples = 0, 400
    for sample in range(samples):
        if kind == "normal":
            values, truth = draws.normal(0.2, 1, 80), 0.2
        else:  # like scores: many zeros and ones, some values between
            values, truth = draws.choice([0.0, 0.5, 2 / 3, 1.0], 80, p=[0.6, 0.1, 0.1, 0.2]), 0.05 + 2 / 30 + 0.2
        low, high = bootstrap_interval(values.tolist(), resamples=400, seed=sample)
        covered += low <= truth <= high
    assert 0.91 <= covered / samples <= 0.98


@given(st.lists(SCORES, min_size=1, max_size=40))
@settings(max_examples=20)
def test_the_interval_contains_the_mean(values: list[float]):
    low, high = bootstrap_interval(values, resamples=300)
    assert low - 1e-9 <= sum(values) / len(values) <= high + 1e-9


def test_the_interval_is_repeatable_and_narrows_with_more_questions():
    few, many = [0.0, 1.0] * 5, [0.0, 1.0] * 500
    assert bootstrap_interval(few, seed=3) == bootstrap_interval(few, seed=3)
    (low, high), (lower, higher) = bootstrap_interval(many), bootstrap_interval(few)
    assert high - low < higher - lower
    assert high - low == pytest.approx(2 * 1.96 * 0.5 / 1000**0.5, rel=0.1)  # the normal approximation


def test_the_interval_without_values_is_zero():
    assert bootstrap_interval([]) == (0.0, 0.0)


def test_ten_thousand_questions_need_little_memory():
    values = np.random.default_rng(0).random((2, 10_000))
    tracemalloc.start()
    paired(values[0].tolist(), values[1].tolist(), resamples=500)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6


@pytest.mark.parametrize(
    ("ps", "adjusted"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # by hand: .005·4, .01·3, .03·2, then the maximum so far
        ([0.5, 0.4], [0.8, 0.8]),
        ([0.9, 0.8, 0.7], [1, 1, 1]),
        ([0.2], [0.2]),
        ([], []),
    ],
)
def test_holms_correction_follows_its_formula(ps: list[float], adjusted: list[float]):
    assert holm(ps) == pytest.approx(adjusted)


@given(st.lists(st.floats(0, 1), max_size=12), st.randoms())
def test_adjusted_p_values_keep_their_order_and_lie_between_the_plain_and_bonferronis(ps: list[float], random):
    adjusted = holm(ps)
    assert all(p <= a <= min(1.0, len(ps) * p) for p, a in zip(ps, adjusted, strict=True))
    assert all((p <= q) <= (a <= b) for (p, a), (q, b) in itertools.permutations(zip(ps, adjusted, strict=True), 2))
    order = random.sample(range(len(ps)), len(ps))
    assert holm([ps[place] for place in order]) == [adjusted[place] for place in order]


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [
        (10, 10, 10 / (10 + 1.96**2), 1),  # n / (n + z²)
        (0, 10, 0, 1.96**2 / (10 + 1.96**2)),
        (50, 100, 0.4038, 0.5962),
        (0, 0, 0, 1),
    ],
)
def test_the_interval_of_a_share_is_wilsons(count: int, total: int, low: float, high: float):
    assert share_interval(count, total) == pytest.approx((low, high), abs=1e-4)
