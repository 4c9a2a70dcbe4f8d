"""Scores of all folds together, and the intervals of their means."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from autounet.evaluation.overlap import OverlapScore
from autounet.evaluation.statistics import SEED
from autounet.report.results import Results, Row, bootstrap, main_results, metrics_of

NAN = math.nan


def score(tp: int, wrong: int = 0) -> OverlapScore:
    return OverlapScore.from_counts(tp, wrong, 0)


def missed(fn: int) -> OverlapScore:
    return OverlapScore.from_counts(0, 0, fn)


def results(*rows: tuple[str, str, tuple[OverlapScore, ...]], name: str = "2d") -> Results:
    made = tuple(Row(*row) for row in rows)
    return Results(name, tuple(f"class {number}" for number in range(len(made[0].scores))), metrics_of(made), made)


def test_means_worked_by_hand() -> None:
    """Class 1: 0.2 and 0.6, mean 0.4. Class 2: 0.8 alone. Mean over the classes 0.6, over the two cases that have any class."""
    first, second, overall = bootstrap(np.array([[0.2, 0.8], [0.6, NAN]]))
    assert (first.mean, first.cases) == (pytest.approx(0.4), 2)
    assert (second.mean, second.cases) == (pytest.approx(0.8), 1)
    assert (overall.mean, overall.cases) == (pytest.approx(0.6), 2)


def test_interval_agrees_with_scipy() -> None:
    """scipy's percentile bootstrap, which draws in its own way, has the same limits up to the noise of resampling."""
    values = np.random.default_rng(1).beta(8, 2, size=(120, 1))
    interval = bootstrap(values)[0]
    reference = stats.bootstrap((values[:, 0],), np.mean, n_resamples=20_000, method="percentile", rng=SEED).confidence_interval
    width = reference.high - reference.low
    assert interval.low == pytest.approx(reference.low, abs=0.06 * width)
    assert interval.high == pytest.approx(reference.high, abs=0.06 * width)


def test_interval_is_repeatable_and_has_width_of_the_standard_error() -> None:
    values = np.random.default_rng(2).normal(0.8, 0.1, size=(400, 2))
    found = bootstrap(values)
    assert found == bootstrap(values)
    half = 1.96 * values[:, 0].std(ddof=1) / math.sqrt(400)
    assert found[0].high - found[0].mean == pytest.approx(half, rel=0.15)


def test_classes_of_a_case_are_drawn_together() -> None:
    """Two classes that cancel out in every case have a mean that does not vary at all; drawn apart it would."""
    x = np.random.default_rng(3).uniform(0, 1, 50)
    overall = bootstrap(np.stack([x, 1 - x], axis=1))[-1]
    assert (overall.low, overall.high) == (pytest.approx(0.5), pytest.approx(0.5))


def test_what_is_undefined_stays_so() -> None:
    nothing, overall = bootstrap(np.full((3, 1), NAN))
    assert (nothing.mean, nothing.low, nothing.cases) == (None, None, 0)
    assert overall.mean is None
    alone = bootstrap(np.array([[0.7]]))[0]
    assert (alone.mean, alone.low, alone.high) == (0.7, None, None)


def test_metrics_are_what_the_scores_have_without_counts() -> None:
    found = results(("a", "0", (score(5, 5),)))
    assert [metric.key for metric in found.metrics] == ["dice", "iou", "precision", "recall"]
    assert found.values("dice").tolist() == [[pytest.approx(10 / 15)]]


def test_metrics_that_are_defined_nowhere_are_named() -> None:
    """Nothing is predicted: precision has no denominator, though the truth is there."""
    found = results(("a", "1", (missed(5),)), ("b", "0", (missed(3),)))
    assert [metric.key for metric in found.metrics] == ["dice", "iou", "recall"]
    assert [metric.label for metric in found.undefined] == ["Precision"]
    assert found.folds == ("0", "1")


def test_empty_predictions_are_those_that_miss_something() -> None:
    found = results(("right", "0", (score(5),)), ("empty", "0", (missed(5),)), ("both empty", "0", (score(0),)))
    assert found.empty == ("empty",)


def test_case_means_and_fold_means() -> None:
    empty = score(0)  # in neither map: undefined
    found = results(("a", "0", (score(1), empty)), ("b", "1", (score(1, 2), score(1))), ("c", "1", (empty, empty)))
    assert found.case_dice == {"a": 1.0, "b": pytest.approx((0.5 + 1) / 2), "c": None}
    assert found.folds == ("0", "1")
    assert found.fold_means("dice", "1").tolist() == [0.5, 1.0, 0.75]


def test_the_page_shows_the_configuration_with_most_cases_then_the_better_one() -> None:
    few = results(("a", "0", (score(9),)), name="2d")
    many = results(("a", "0", (score(1, 9),)), ("b", "1", (score(1, 9),)), name="3d_lowres")
    better = replace(results(("a", "0", (score(9),)), ("b", "1", (score(9),))), configuration="3d_fullres")
    assert main_results([few, many]) is many
    assert main_results([few, many, better]) is better
    assert main_results([]) is None
