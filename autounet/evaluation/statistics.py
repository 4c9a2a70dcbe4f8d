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
    """Mean over classes of the mean over cases, with its interval; None where nothing is defined.

    Args:
        table: (cases, classes), NaN where undefined.
    """
    return spread(means_of(table)[-1], resampled_means(table)[:, -1])


def difference_spread(first: FloatArray, second: FloatArray) -> Spread | None:
    """First minus second of these means, where both see the same samples of cases; None where one has no mean.

    Args:
        first: (cases, classes), NaN where undefined.
        second: The same cases and classes.
    """
    return spread(means_of(first)[-1] - means_of(second)[-1], resampled_means(first)[:, -1] - resampled_means(second)[:, -1])


def means_of(table: FloatArray) -> FloatArray:
    """(cases, classes) → (classes + 1,): mean of each class over the cases that have it, and last the mean of these; NaN for none."""
    classes = _mean_of_known(table, 0)
    return np.append(classes, _mean_of_known(classes[None], 1))


def resampled_means(table: FloatArray) -> FloatArray:
    """``means_of`` of SAMPLES samples of as many cases, with replacement: (SAMPLES, classes + 1).

    A case is drawn with all its classes, so that the mean over classes knows how they go together. For as many cases the draws are the
    same, whatever the scores: differences of two tables are paired.
    """
    cases = len(table)
    if not cases:
        return np.full((SAMPLES, table.shape[1] + 1), np.nan)
    times = np.random.default_rng(SEED).multinomial(cases, np.full(cases, 1 / cases), size=SAMPLES).astype(np.float64)
    known = ~np.isnan(table)
    with np.errstate(invalid="ignore"):
        classes = (times @ np.where(known, table, 0.0)) / (times @ known)
    return np.column_stack([classes, _mean_of_known(classes, 1)])


def spread(value: float, samples: FloatArray) -> Spread | None:
    """A number and the percentiles of its samples; None where it is NaN."""
    if np.isnan(value):
        return None
    low, high = np.nanpercentile(samples, COVERED)
    return Spread(float(value), float(low), float(high))


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


def _mean_of_known(values: FloatArray, axis: int) -> FloatArray:
    known = ~np.isnan(values)
    count = known.sum(axis)
    total = np.where(known, values, 0).sum(axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _case_means(table: FloatArray) -> FloatArray:
    return _mean_of_known(table, 1)
