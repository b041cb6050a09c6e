"""Statistics over several data sets with equal weight, whatever their number of questions (the paper's mean, §4).

For a single data set, they are the same as in `statistics`.
"""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np

from dyprag.evaluation.statistics import Paired, bootstrap_interval, paired

Strata = Sequence[Sequence[float]]  # the values of each data set, none empty
_BLOCK = 1_000_000  # numbers in memory at once


def mean_over(strata: Strata) -> float:
    """Return the mean of the data sets' means."""
    return fmean(fmean(values) for values in strata)


def interval_over(strata: Strata, resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of the mean of means, resampling within each data set."""
    if len(strata) == 1:
        return bootstrap_interval(strata[0], resamples, seed)
    generator = np.random.default_rng(seed)
    means = np.zeros(resamples)
    for values in strata:
        data = np.asarray(values, dtype=np.float64)
        step = max(1, _BLOCK // len(data))
        for start in range(0, resamples, step):
            sample = generator.integers(0, len(data), (min(step, resamples - start), len(data)))
            means[start : start + step] += data[sample].mean(axis=1) / len(strata)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def paired_over(first: Strata, second: Strata) -> Paired:
    """Compare two methods' scores on the same questions, by data set and in the same order.

    The sign-flip test weights each question's difference as in the mean of means.
    """
    if len(first) == 1:
        return paired(first[0], second[0])
    total, weighted, differences = sum(map(len, first)), [], []
    for first_values, second_values in zip(first, second, strict=True):
        stratum = [a - b for a, b in zip(first_values, second_values, strict=True)]
        differences.append(stratum)
        weighted += [value * total / (len(first) * len(stratum)) for value in stratum]
    low, high = interval_over(differences)
    return replace(paired(weighted, [0.0] * total, resamples=1), low=low, high=high)
