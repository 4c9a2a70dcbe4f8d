"""Scores of all folds of a configuration together: every held-out case, means over cases with bootstrap intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from autounet.evaluation.overlap import OverlapScore
from autounet.evaluation.scores import Scores
from autounet.evaluation.statistics import means_of, resampled_means, spread
from autounet.report.evidence import Evidence

Values = npt.NDArray[np.float64]

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
    {
        "dice": Metric("dice", "Dice", is_fraction=True),
        "iou": Metric("iou", "IoU", is_fraction=True),
        "precision": Metric("precision", "Precision", is_fraction=True),
        "recall": Metric("recall", "Recall", is_fraction=True),
        "hd95_mm": Metric("hd95_mm", "HD95", "mm", digits=2, lower_is_better=True),
        "assd_mm": Metric("assd_mm", "ASSD", "mm", digits=2, lower_is_better=True),
        "nsd": Metric("nsd", "NSD", is_fraction=True),
        "lesion_f1": Metric("lesion_f1", "Lesion F1", is_fraction=True),
        "lesion_dice": Metric("lesion_dice", "Lesion Dice", is_fraction=True),
    }
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
    """All held-out cases of one configuration, or of an ensemble."""

    configuration: str
    classes: tuple[str, ...]
    metrics: tuple[Metric, ...]
    """Dice first."""
    rows: tuple[Row, ...]
    folders: tuple[Path, ...] = ()
    """Where the label maps of these cases are."""

    @property
    def folds(self) -> tuple[str, ...]:
        """Names of the folds that have scores, sorted."""
        return tuple(sorted({row.fold for row in self.rows}))

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

    @property
    def empty(self) -> tuple[str, ...]:
        """Cases in which nothing is predicted, though the truth has something."""
        sums = {row.case: (sum(score.tp + score.fp for score in row.scores), sum(score.fn for score in row.scores)) for row in self.rows}
        return tuple(case for case, (predicted, missed) in sums.items() if missed and not predicted)

    @property
    def undefined(self) -> tuple[Metric, ...]:
        """Metrics that these scores could have, and that are defined in no case."""
        shown = {metric.key for metric in self.metrics}
        fields = {key for row in self.rows for score in row.scores[:1] for key in type(score).model_fields}
        return tuple(metric for key, metric in KNOWN.items() if key in fields and key not in shown)

    def summary(self, key: str) -> tuple[Interval, ...]:
        """Mean and interval of a metric for each class, and last for the mean over the classes."""
        return bootstrap(self.values(key))

    def fold_means(self, key: str, fold: str) -> Values:
        """Means over the cases of one fold: one per class, and last their mean; NaN where undefined."""
        chosen = self.values(key)[[row.fold == fold for row in self.rows]]
        classes = _nanmean(chosen, axis=0)
        return np.append(classes, _nanmean(classes[None], axis=1))


def pool(evidence: Evidence) -> tuple[Results, ...]:
    """The results of every configuration that has scores, in the evidence's order, then those of ensembles."""
    held_out: dict[str, str] = {}
    for number, fold in enumerate(evidence.splits.folds if evidence.splits else ()):
        for case in fold.validation:
            held_out.setdefault(case, str(number))
    parts: dict[str, list[tuple[Scores, str | None, Path]]] = {}
    for trained in evidence.folds:
        if trained.scores is not None:
            parts.setdefault(trained.configuration, []).append((trained.scores, trained.name, trained.folder.validation))
    for ensemble in evidence.ensembles:
        parts.setdefault(ensemble.name, []).append((ensemble.scores, None, ensemble.folder))
    classes = evidence.fingerprint.labels.names
    found = []
    for name, scored in parts.items():
        usable = [entry for entry in scored if tuple(entry[0].classes) == classes]  # others are of an older dataset.json
        by_case: dict[str, Row] = {}
        for scores, name_of_fold, _ in usable:
            for case, values in scores.cases.items():  # of a case that several folds hold out, the first counts, as for `select`
                by_case.setdefault(case, Row(case, name_of_fold or held_out.get(case, "–"), tuple(values.values())))
        rows = list(by_case.values())
        if rows:
            metrics = metrics_of(rows, usable[0][0].tolerance_mm)
            rows.sort(key=lambda row: row.case)  # as `select` has them: the same intervals
            found.append(Results(name, classes, metrics, tuple(rows), tuple(folder for _, _, folder in usable)))
    return tuple(found)


def main_results(results: Sequence[Results], chosen: str | None = None) -> Results | None:
    """The results whose cases the page shows: those of the chosen model, else of most cases, then of the highest mean Dice.

    None where there are none.
    """
    for entry in results:
        if entry.configuration == chosen:
            return entry
    return max(results, key=lambda entry: (len(entry.rows), entry.summary("dice")[-1].mean or 0.0), default=None)


def bootstrap(values: Values) -> tuple[Interval, ...]:
    """Means over cases, with percentile intervals from resampling whole cases with replacement.

    Cases are drawn with all their classes, so that the interval of the mean over classes knows how they go together.

    Args:
        values: (case, class), NaN where undefined.

    Returns:
        One interval per class, and last that of the mean over classes. ``low`` and ``high`` are None for fewer than two cases.
    """
    defined = np.isfinite(values)
    counts = np.append(defined.sum(axis=0), defined.any(axis=1).sum())
    draws = resampled_means(values)
    return tuple(_interval(*entry) for entry in zip(means_of(values).tolist(), draws.T, counts.tolist(), strict=True))


def _interval(mean: float, draws: Values, cases: int) -> Interval:
    found = spread(mean, draws)
    if found is None:
        return Interval(None, None, None, cases)
    return Interval(mean, found.low, found.high, cases) if cases > 1 else Interval(mean, None, None, cases)


def _nanmean(values: Values, axis: int) -> Values:
    """Mean of the finite entries; NaN, without a warning, where there are none."""
    defined = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(defined, values, 0.0).sum(axis=axis) / defined.sum(axis=axis))


def metrics_of(rows: Sequence[Row], tolerance_mm: float | None = None) -> tuple[Metric, ...]:
    """Every number of the scores that is defined somewhere and is no count, Dice first; the tolerance is that of the surface Dice."""
    keys = [key for key in type(rows[0].scores[0]).model_fields if key not in NO_METRICS]
    kept = [key for key in keys if any(isinstance(getattr(score, key), (int, float)) for row in rows for score in row.scores)]
    ordered = sorted({"dice", *kept}, key=lambda key: (key != "dice", keys.index(key)))
    metrics = [KNOWN.get(key, Metric(key, key.replace("_", " "))) for key in ordered]
    at = "" if tolerance_mm is None else f" at {tolerance_mm:g} mm"
    return tuple(replace(metric, label=metric.label + at) if metric.key == "nsd" else metric for metric in metrics)
