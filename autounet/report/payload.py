"""The numbers that the page's charts and its table of cases are drawn from, as JSON-like values."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from autounet.evaluation.overlap import OverlapScore
from autounet.fingerprint import Fingerprint
from autounet.labels import LabelSpec
from autounet.report.data_section import short, voxel_size
from autounet.report.evidence import Evidence
from autounet.report.results import Results

MOST_POINTS = 400
"""Of a training curve; longer ones are thinned out by means over neighbouring epochs."""

CURVES = ("train_loss", "validation_loss", "mean_dice", "ema_dice")


def index_entries(labels: LabelSpec, colours: Mapping[str, str]) -> list[dict[str, str]]:
    """Name and colour of each label index from 1 on; of overlapping regions the one that is written as this value."""
    entries = []
    for value in labels.foreground_values:
        if labels.overlapping:
            owners = [entry.name for entry, painted in zip(labels.classes, labels.paint_order, strict=True) if painted == value]
        else:
            owners = [entry.name for entry in labels.classes if value in entry.values]
        entries.append({"name": owners[0], "colour": colours[owners[0]]} if owners else {"name": f"value {value}", "colour": "#9AA5B1"})
    return entries


def training_payload(evidence: Evidence) -> list[dict[str, Any]]:
    """Curves of every fold that has a history; values that are missing are None."""
    found = []
    for fold in evidence.folds:
        if not fold.history:
            continue
        groups = _neighbours(len(fold.history))
        curves = {name: [_mean([getattr(record, name) for record in fold.history[group]]) for group in groups] for name in CURVES}
        epochs = [fold.history[group][-1].epoch + 1 for group in groups]
        found.append({"configuration": fold.configuration, "fold": fold.name, "epochs": epochs, **curves})
    return found


def results_payload(results: Results, fingerprint: Fingerprint) -> dict[str, Any]:
    """All metrics of all held-out cases, and the sizes of truth and prediction."""
    voxels = {entry.case: voxel_size(fingerprint, entry) for entry in fingerprint.cases}
    rows = []
    for row in results.rows:
        values = [[_number(getattr(score, metric.key)) for score in row.scores] for metric in results.metrics]
        voxel = voxels.get(row.case)
        truths = [_size(score, score.fn, voxel) for score in row.scores]
        predictions = [_size(score, score.fp, voxel) for score in row.scores]
        rows.append([row.case, row.fold, values, truths, predictions])
    metrics = [
        {"key": entry.key, "label": entry.label, "unit": entry.unit, "digits": entry.digits, "lower": entry.lower_is_better}
        | {"fraction": entry.is_fraction}
        for entry in results.metrics
    ]
    return {"configuration": results.configuration, "metrics": metrics, "rows": rows}


def _size(score: OverlapScore, wrong: int, voxel: float | None) -> float | None:
    """Size of a mask of which ``wrong`` voxels are not in the other one; None where it is not known or the score not defined."""
    return None if voxel is None or score.dice is None else short((score.tp + wrong) * voxel)


def _neighbours(count: int) -> list[slice]:
    """The positions 0..count-1 in at most ``MOST_POINTS`` groups of neighbours."""
    step = max(math.ceil(count / MOST_POINTS), 1)
    return [slice(start, start + step) for start in range(0, count, step)]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return short(math.fsum(known) / len(known)) if known else None


def _number(value: float | None) -> float | None:
    return short(value) if value is not None and math.isfinite(value) else None
