"""How sure a difference is: intervals by resampling the cases, and a paired test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from autounet.evaluation.scores import Scores

SAMPLES = 2000
SEED = 20251128
"""Of the samples of cases: the same scores give the same intervals."""

COVERED = (2.5, 97.5)
"""Percentiles between which an interval lies."""

PER_BLOCK = 2**22
"""Numbers held at a time while resampling."""

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Spread:
    """A number, and what it lies between in 95 of 100 samples of the cases."""

    value: float
    low: float
    high: float


def dice_table(scores: Scores) -> FloatArray:
    """Dice as (cases, classes), in the order of the scores; NaN where undefined."""
    rows = [[np.nan if score.dice is None else score.dice for score in case.values()] for case in scores.cases.values()]
    return np.array(rows, np.float64).reshape(len(scores.cases), len(scores.classes))


def mean_spread(table: FloatArray) -> Spread | None:
    """Mean over classes of the mean over cases, with its percentile bootstrap interval; None where nothing is defined.

    Args:
        table: (cases, classes), NaN where undefined.
    """
    value = _mean_of_means(table[None])[0]
    if np.isnan(value):
        return None
    return _spread(float(value), _resampled(table))


def difference_spread(first: FloatArray, second: FloatArray) -> Spread | None:
    """First minus second of the means, where both see the same samples of cases; None where one has no mean.

    Args:
        first: (cases, classes), NaN where undefined.
        second: The same cases and classes.
    """
    value = _mean_of_means(first[None])[0] - _mean_of_means(second[None])[0]
    return None if np.isnan(value) else _spread(float(value), _resampled(first) - _resampled(second))


def signed_rank_p(first: FloatArray, second: FloatArray) -> tuple[float | None, int]:
    """Wilcoxon's signed-rank test, two-sided, on the cases' means over their classes: p, and the number of cases with both means.

    Cases without a difference are left out, as usual; where there are only such, p is 1.
    """
    one, two = _case_means(first), _case_means(second)
    both = ~np.isnan(one) & ~np.isnan(two)
    difference = one[both] - two[both]
    if not both.any():
        return None, 0
    if not difference.any():
        return 1.0, int(both.sum())
    return float(stats.wilcoxon(difference).pvalue), int(both.sum())


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's; None for fewer than three pairs, or where one side is constant."""
    if len(first) < 3 or len(set(first)) < 2 or len(set(second)) < 2:
        return None
    return float(stats.spearmanr(first, second).statistic)


def case_dice(scores: Scores) -> Mapping[str, float]:
    """Mean Dice over the classes defined in a case, of the cases that have such."""
    found = {case: scores.case_mean(case).dice for case in scores.cases}
    return {case: value for case, value in found.items() if value is not None}


def _resampled(table: FloatArray) -> FloatArray:
    """The mean of each of SAMPLES samples, with replacement, of as many cases; the same draws for every table of this length."""
    rng, cases = np.random.default_rng(SEED), len(table)
    block = max(1, PER_BLOCK // max(1, table.size))
    means = []
    for first in range(0, SAMPLES, block):
        drawn = rng.integers(cases, size=(min(block, SAMPLES - first), cases))
        means.append(_mean_of_means(table[drawn]))
    return np.concatenate(means)


def _mean_of_means(tables: FloatArray) -> FloatArray:
    """(samples, cases, classes) → (samples,): over the cases of each class that have it, then over the classes that have a mean."""
    return _mean_of_known(_mean_of_known(tables, 1), 1)


def _mean_of_known(values: FloatArray, axis: int) -> FloatArray:
    known = ~np.isnan(values)
    count = known.sum(axis)
    total = np.where(known, values, 0).sum(axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _case_means(table: FloatArray) -> FloatArray:
    return _mean_of_known(table, 1)


def _spread(value: float, samples: FloatArray) -> Spread:
    low, high = np.nanpercentile(samples, COVERED)
    return Spread(value, float(low), float(high))
