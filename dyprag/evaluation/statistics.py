"""Statistics: bootstrap intervals, paired comparison of two methods on the same questions, and Holm's correction.

All sampling is seeded, so the same values give the same results. Memory use stays below some tens of megabytes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dyprag.errors import DypragError

Values = NDArray[np.float64]
EXACT_UP_TO = 20  # non-zero differences, i.e. up to 2^20 sign patterns
FLIPS = 10_000  # sign patterns sampled for more differences
Z = 1.959963984540054  # 97.5th percentile of the normal distribution
_BLOCK = 1_000_000  # numbers in memory at once
_ROUNDING = 1e-9  # relative tolerance for sums of the same differences in another order


@dataclass(frozen=True)
class Paired:
    """A paired comparison of two methods on the same questions.

    difference: the mean difference.
    low, high: its 95 % interval.
    p: the two-sided p-value of no difference.
    """

    difference: float
    low: float
    high: float
    p: float


def bootstrap_interval(values: Sequence[float], resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of a mean (Efron 1979); (0, 0) without values."""
    data = np.asarray(values, dtype=np.float64)
    if not len(data):
        return (0.0, 0.0)
    generator = np.random.default_rng(seed)
    means = np.empty(resamples)
    for rows in _blocks(resamples, len(data)):
        sample = generator.integers(0, len(data), (rows.stop - rows.start, len(data)))
        means[rows] = data[sample].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def share_interval(count: int, total: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927), which is also meaningful for shares of 0 and 1."""
    if not total:
        return (0.0, 1.0)
    share, spread = count / total, Z * Z / total
    middle = (share + spread / 2) / (1 + spread)
    half = Z / (1 + spread) * float(np.sqrt(share * (1 - share) / total + spread / (4 * total)))
    return max(0.0, middle - half), min(1.0, middle + half)


def paired(first: Sequence[float], second: Sequence[float], resamples: int = 2000, seed: int = 0) -> Paired:
    """Compare two methods' scores on the same questions, given in the same order.

    The interval is a bootstrap over the differences per question. The p-value is that of the sign-flip permutation test
    (Fisher 1935): the share of all ways to swap the methods' scores per question that give at least as large a mean
    difference. All ways are enumerated if at most EXACT_UP_TO questions differ, otherwise FLIPS are sampled.

    Raises:
        DypragError: the methods have different numbers of scores.
    """
    if len(first) != len(second):
        raise DypragError(
            "the paired comparison", f"the methods have {len(first):,} and {len(second):,} scores",
            "Compare them on the questions that both answered.",
        )  # fmt: skip
    if not len(first):
        return Paired(0.0, 0.0, 0.0, 1.0)
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    low, high = bootstrap_interval(differences.tolist(), resamples, seed)
    return Paired(float(differences.mean()), low, high, _sign_flip(differences[differences != 0], seed))


def holm(ps: Sequence[float]) -> list[float]:
    """Adjust p-values for multiple comparisons (Holm 1979), in the given order.

    All comparisons with an adjusted p-value below 0.05 are jointly significant at 5 %.
    """
    order = np.argsort(np.asarray(ps, dtype=np.float64), kind="stable")
    scaled = np.asarray(ps, dtype=np.float64)[order] * np.arange(len(ps), 0, -1)
    adjusted = np.empty(len(ps))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    return [float(p) for p in adjusted]


def _sign_flip(differences: Values, seed: int) -> float:
    """Return the two-sided p-value of a zero mean of non-zero differences."""
    if not len(differences):
        return 1.0
    threshold = abs(differences.sum()) - _ROUNDING * np.abs(differences).sum()
    if len(differences) <= EXACT_UP_TO:
        sums = differences[:1]  # its opposite sign gives the negated sums
        for difference in differences[1:]:
            sums = np.concatenate([sums + difference, sums - difference])
        return float(np.mean(np.abs(sums) >= threshold))
    count = 0
    for signs in _signs(len(differences), seed):
        count += int(np.count_nonzero(np.abs(signs @ differences) >= threshold))
    return (count + 1) / (FLIPS + 1)  # the observed pattern counts as well


def _signs(questions: int, seed: int) -> Iterator[Values]:
    """Sample FLIPS sign patterns, in blocks [patterns, questions]."""
    generator = np.random.default_rng(seed)
    for rows in _blocks(FLIPS, questions):
        coins = generator.integers(0, 2, (rows.stop - rows.start, questions), dtype=np.int8)
        yield 2.0 * coins.astype(np.float64) - 1.0


def _blocks(rows: int, columns: int) -> Iterator[slice]:
    """Split rows into slices of at most _BLOCK numbers."""
    step = max(1, _BLOCK // columns)
    for start in range(0, rows, step):
        yield slice(start, min(rows, start + step))
