"""Intervals and paired tests of scores."""

import numpy as np
import pytest
from scipy import stats

from autounet.evaluation.overlap import OverlapScore
from autounet.evaluation.scores import Scores
from autounet.evaluation.statistics import (
    case_dice,
    dice_table,
    difference_spread,
    mean_spread,
    rank_correlation,
    signed_rank_p,
)  # fmt: skip

NAN = np.nan


def test_the_mean_is_over_cases_and_then_over_classes() -> None:
    """Class one is seen in two cases, class two in one, class three in none: (0.6 + 0.9) / 2."""
    found = mean_spread(np.array([[0.5, 0.9, NAN], [0.7, NAN, NAN]]))
    assert found is not None
    assert found.value == pytest.approx(0.75)


def test_the_interval_is_that_of_scipys_bootstrap() -> None:
    """Of one class, the mean over cases; both draw at random, so they agree as well as 2000 draws can tell."""
    table = np.random.default_rng(1).beta(8, 2, size=(60, 1))
    found = mean_spread(table)
    reference = stats.bootstrap((table[:, 0],), np.mean, n_resamples=20000, method="percentile", rng=np.random.default_rng(0))
    assert found is not None
    assert found.low == pytest.approx(reference.confidence_interval.low, abs=2e-3)
    assert found.high == pytest.approx(reference.confidence_interval.high, abs=2e-3)
    assert found == mean_spread(table)


def test_it_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    inside = 0
    for _ in range(100):
        found = mean_spread(rng.normal(0.8, 0.1, size=(40, 2)))
        assert found is not None
        inside += found.low <= 0.8 <= found.high
    assert 87 <= inside <= 100


def test_a_difference_sees_the_same_cases_on_both_sides() -> None:
    """Hard and easy cases spread each mean widely; a constant gain of 0.01 is certain all the same."""
    second = np.random.default_rng(3).uniform(0.2, 0.9, size=(30, 2))
    found = difference_spread(second + 0.01, second)
    assert found is not None
    assert (found.low, found.value, found.high) == pytest.approx((0.01, 0.01, 0.01))
    assert signed_rank_p(second + 0.01, second)[0] == pytest.approx(stats.wilcoxon(np.full(30, 0.01)).pvalue)


def test_equal_and_undefined() -> None:
    table = np.array([[0.5], [0.6], [NAN]])
    assert signed_rank_p(table, table) == (1.0, 2)
    nothing = np.full((3, 1), NAN)
    assert mean_spread(nothing) is None
    assert difference_spread(nothing, table) is None
    assert signed_rank_p(nothing, table) == (None, 0)


def test_rank_correlation() -> None:
    assert rank_correlation([1, 2, 3, 4], [10, 20, 40, 30]) == pytest.approx(0.8)  # 1 - 6 * 2 / (4 * 15)
    assert rank_correlation([1, 2], [1, 2]) is None
    assert rank_correlation([1, 1, 1], [1, 2, 3]) is None


def test_scores_as_a_table() -> None:
    half, none = OverlapScore.from_counts(1, 1, 1), OverlapScore.from_counts(0, 0, 0)
    scores = Scores.of({"a": {"x": half, "y": none}, "b": {"x": none, "y": none}})
    np.testing.assert_array_equal(dice_table(scores), [[0.5, NAN], [NAN, NAN]])
    assert case_dice(scores) == {"a": 0.5}
