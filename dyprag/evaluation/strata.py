"""Figures over several data sets, in which each counts the same however many questions it has (the paper's mean, §4).

Of one data set they are those of `statistics`.
"""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np

from dyprag.evaluation.statistics import Paired, bootstrap_interval, paired

Strata = Sequence[Sequence[float]]  # each data set's values, none of them empty
_BLOCK = 1_000_000  # numbers held at once


def mean_over(strata: Strata) -> float:
    """The mean of the data sets' means."""
    return fmean(fmean(values) for values in strata)


def interval_over(strata: Strata, resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of the mean of means; questions are drawn within their data set."""
    if len(strata) == 1:
        return bootstrap_interval(strata[0], resamples, seed)
    draws = np.random.default_rng(seed)
    means = np.zeros(resamples)
    for values in strata:
        data = np.asarray(values, dtype=np.float64)
        step = max(1, _BLOCK // len(data))
        for start in range(0, resamples, step):
            picks = draws.integers(0, len(data), (min(step, resamples - start), len(data)))
            means[start : start + step] += data[picks].mean(axis=1) / len(strata)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def paired_over(one: Strata, other: Strata) -> Paired:
    """Compare two methods' scores of the same questions, by data set and in the same order.

    The sign-flip test is that of one data set: a question's difference weighs as much as it does in the mean of means.
    """
    if len(one) == 1:
        return paired(one[0], other[0])
    total, weighted, differences = sum(map(len, one)), [], []
    for mine, theirs in zip(one, other, strict=True):
        here = [a - b for a, b in zip(mine, theirs, strict=True)]
        differences.append(here)
        weighted += [value * total / (len(one) * len(here)) for value in here]
    low, high = interval_over(differences)
    return replace(paired(weighted, [0.0] * total, resamples=1), low=low, high=high)
