"""How sure a figure is: bootstrap intervals, paired comparison of two methods on the same questions, Holm's correction.

Everything is seeded: the same values give the same figures. Nothing here needs more than some tens of megabytes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dyprag.errors import DypragError

Values = NDArray[np.float64]
EXACT_UP_TO = 20  # differences that are not zero: 2^20 patterns of signs
FLIPS = 10_000  # patterns drawn where there are more
Z = 1.959963984540054  # the normal distribution's 97.5 % point
_BLOCK = 1_000_000  # numbers held at once
_ROUNDING = 1e-9  # sums of the same differences in another order are equal up to so much of their size


@dataclass(frozen=True)
class Paired:
    """One method against another on the same questions: mean difference, its 95 % interval, and the two-sided p-value
    of there being none."""

    difference: float
    low: float
    high: float
    p: float


def bootstrap_interval(values: Sequence[float], resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of a mean over questions (Efron 1979); (0, 0) of nothing."""
    data = np.asarray(values, dtype=np.float64)
    if not len(data):
        return (0.0, 0.0)
    draws = np.random.default_rng(seed)
    means = np.empty(resamples)
    for rows in _blocks(resamples, len(data)):
        picks = draws.integers(0, len(data), (rows.stop - rows.start, len(data)))
        means[rows] = data[picks].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def share_interval(count: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927), which stays sensible where all or none are counted."""
    if not total:
        return (0.0, 1.0)
    share, spread = count / total, Z * Z / total
    middle = (share + spread / 2) / (1 + spread)
    half = Z / (1 + spread) * float(np.sqrt(share * (1 - share) / total + spread / (4 * total)))
    return max(0.0, middle - half), min(1.0, middle + half)


def paired(one: Sequence[float], other: Sequence[float], resamples: int = 2000, seed: int = 0) -> Paired:
    """Compare two methods' scores of the same questions, in the same order.

    The interval is the bootstrap's over the questions' differences. The p-value is that of the sign-flip permutation
    test (Fisher 1935): the share of all ways to swap the two methods' scores of a question, for any of the questions,
    that give a mean difference as large. All ways are counted where at most EXACT_UP_TO questions differ, else a
    sample of FLIPS.

    Raises:
        DypragError: the methods were not scored on as many questions.
    """
    if len(one) != len(other):
        raise DypragError(
            "the paired comparison", f"the methods have {len(one):,} and {len(other):,} scores",
            "Compare them on the questions that both have answered.",
        )  # fmt: skip
    if not len(one):
        return Paired(0.0, 0.0, 0.0, 1.0)
    differences = np.asarray(one, dtype=np.float64) - np.asarray(other, dtype=np.float64)
    low, high = bootstrap_interval(differences.tolist(), resamples, seed)
    return Paired(float(differences.mean()), low, high, _sign_flip(differences[differences != 0], seed))


def holm(ps: Sequence[float]) -> list[float]:
    """p-values adjusted for their number (Holm 1979), in the order given: those below 0.05 hold together at 5 %."""
    order = np.argsort(np.asarray(ps, dtype=np.float64), kind="stable")
    steps = np.asarray(ps, dtype=np.float64)[order] * np.arange(len(ps), 0, -1)
    adjusted = np.empty(len(ps))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return [float(p) for p in adjusted]


def _sign_flip(differences: Values, seed: int) -> float:
    """The two-sided p-value that differences, none of them zero, have a mean of zero."""
    if not len(differences):
        return 1.0
    least = abs(differences.sum()) - _ROUNDING * np.abs(differences).sum()
    if len(differences) <= EXACT_UP_TO:
        sums = differences[:1]  # its other sign gives the same sums, with the other sign
        for difference in differences[1:]:
            sums = np.concatenate([sums + difference, sums - difference])
        return float(np.mean(np.abs(sums) >= least))
    reached = 0
    for signs in _signs(len(differences), seed):
        reached += int(np.count_nonzero(np.abs(signs @ differences) >= least))
    return (reached + 1) / (FLIPS + 1)  # what was seen is one of the ways, too


def _signs(questions: int, seed: int) -> Iterator[Values]:
    """FLIPS patterns of signs in blocks [patterns, questions]."""
    draws = np.random.default_rng(seed)
    for rows in _blocks(FLIPS, questions):
        heads = draws.integers(0, 2, (rows.stop - rows.start, questions), dtype=np.int8)
        yield 2.0 * heads.astype(np.float64) - 1.0


def _blocks(rows: int, columns: int) -> Iterator[slice]:
    """All rows, in slices of at most _BLOCK numbers."""
    step = max(1, _BLOCK // columns)
    for start in range(0, rows, step):
        yield slice(start, min(rows, start + step))
