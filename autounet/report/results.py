"""Scores of all folds of a configuration together: every held-out case, means over cases with bootstrap intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from autounet.evaluation.overlap import OverlapScore
from autounet.report.evidence import Evidence

Values = npt.NDArray[np.float64]

RESAMPLES, SEED, CONFIDENCE = 2000, 20150518, 0.95
"""Of the bootstrap. The seed is fixed, so that the same scores always have the same interval."""

NO_METRICS = ("tp", "fp", "fn", "volume_truth", "volume_prediction", "lesions_true", "lesions_found", "lesions_false")
"""Fields of a score that are counts and sizes, and say how large the case is rather than how well it was predicted."""


@dataclass(frozen=True, slots=True)
class Metric:
    """How a number of the scores is shown."""

    key: str
    label: str
    unit: str = ""
    digits: int = 3
    lower_is_better: bool = False
    is_fraction: bool = False
    """Between 0 and 1."""


KNOWN = MappingProxyType(
    {metric.key: metric for metric in (Metric("dice", "Dice", is_fraction=True), Metric("iou", "IoU", is_fraction=True))}
)
"""Metrics whose names and units are known; any other number of the scores is shown under its own name."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over cases and the interval it has under resampling of the cases; None where nothing is defined."""

    mean: float | None
    low: float | None
    high: float | None
    cases: int
    """Cases in which the value is defined."""


@dataclass(frozen=True, slots=True)
class Row:
    """One held-out case."""

    case: str
    fold: str
    scores: tuple[OverlapScore, ...]
    """One per class."""


@dataclass(frozen=True)
class Results:
    """All held-out cases of one configuration."""

    configuration: str
    classes: tuple[str, ...]
    metrics: tuple[Metric, ...]
    """Dice first."""
    rows: tuple[Row, ...]

    @property
    def folds(self) -> tuple[str, ...]:
        """Names of the folds that have scores."""
        return tuple(dict.fromkeys(row.fold for row in self.rows))

    def values(self, key: str) -> Values:
        """One metric: (case, class), NaN where undefined."""
        found = [[getattr(score, key) for score in row.scores] for row in self.rows]
        array = np.array([[math.nan if value is None else value for value in row] for row in found], np.float64)
        return array.reshape(len(self.rows), len(self.classes))

    @cached_property
    def case_dice(self) -> dict[str, float | None]:
        """Mean Dice of each case over the classes that are defined in it."""
        means = _nanmean(self.values("dice"), axis=1)
        return {row.case: None if math.isnan(mean) else float(mean) for row, mean in zip(self.rows, means, strict=True)}

    def summary(self, key: str) -> tuple[Interval, ...]:
        """Mean and interval of a metric for each class, and last for the mean over the classes."""
        return bootstrap(self.values(key))

    def fold_means(self, key: str, fold: str) -> Values:
        """Means over the cases of one fold: one per class, and last their mean; NaN where undefined."""
        chosen = self.values(key)[[row.fold == fold for row in self.rows]]
        classes = _nanmean(chosen, axis=0)
        return np.append(classes, _nanmean(classes[None], axis=1))


def pool(evidence: Evidence) -> tuple[Results, ...]:
    """The results of every configuration that has scores, in the evidence's order."""
    found = []
    for configuration in evidence.configurations:
        folds = [fold for fold in evidence.folds_of(configuration) if fold.scores is not None]
        rows, classes = [], evidence.fingerprint.labels.names
        for fold in folds:
            assert fold.scores is not None  # by the choice above
            if tuple(fold.scores.classes) != classes:
                continue  # of an older dataset.json
            rows += [Row(case, fold.name, tuple(scores.values())) for case, scores in fold.scores.cases.items()]
        if rows:
            found.append(Results(configuration, classes, _metrics(rows), tuple(rows)))
    return tuple(found)


def main_results(results: Sequence[Results]) -> Results | None:
    """The results whose cases the page shows: those of most cases, then of the highest mean Dice; None where there are none."""
    return max(results, key=lambda entry: (len(entry.rows), entry.summary("dice")[-1].mean or 0.0), default=None)


def bootstrap(values: Values) -> tuple[Interval, ...]:
    """Means over cases, with percentile intervals from resampling whole cases with replacement.

    Cases are drawn with all their classes, so that the interval of the mean over classes knows how they go together.

    Args:
        values: (case, class), NaN where undefined.

    Returns:
        One interval per class, and last that of the mean over classes. ``low`` and ``high`` are None for fewer than two cases.
    """
    cases, classes = values.shape
    defined = np.isfinite(values)
    counts = np.append(defined.sum(axis=0), defined.any(axis=1).sum())
    means = _nanmean(values, axis=0)
    means = np.append(means, _nanmean(means[None], axis=1))
    draws = np.full((RESAMPLES, classes + 1), math.nan)
    if cases:
        times = np.random.default_rng(SEED).multinomial(cases, np.full(cases, 1 / cases), size=RESAMPLES).astype(np.float64)
        with np.errstate(invalid="ignore"):
            draws[:, :-1] = (times @ np.where(defined, values, 0.0)) / (times @ defined)
        draws[:, -1] = _nanmean(draws[:, :-1], axis=1)
    return tuple(_interval(*entry) for entry in zip(means.tolist(), draws.T, counts.tolist(), strict=True))


def _interval(mean: float, draws: Values, cases: int) -> Interval:
    if math.isnan(mean):
        return Interval(None, None, None, cases)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.nanpercentile(draws, (tail, 100 - tail)).tolist() if cases > 1 else (None, None)
    return Interval(mean, low, high, cases)


def _nanmean(values: Values, axis: int) -> Values:
    """Mean of the finite entries; NaN, without a warning, where there are none."""
    defined = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(defined, values, 0.0).sum(axis=axis) / defined.sum(axis=axis))


def _metrics(rows: Sequence[Row]) -> tuple[Metric, ...]:
    """Every number of the scores that is defined somewhere and is no count, Dice first."""
    keys = [key for key in type(rows[0].scores[0]).model_fields if key not in NO_METRICS]
    kept = [key for key in keys if any(isinstance(getattr(score, key), (int, float)) for row in rows for score in row.scores)]
    ordered = sorted({"dice", *kept}, key=lambda key: (key != "dice", keys.index(key)))
    return tuple(KNOWN.get(key, Metric(key, key.replace("_", " "))) for key in ordered)
