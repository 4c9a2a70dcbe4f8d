"""All scores of one case: overlap, volumes, surfaces, lesions.

Empty masks: a class that neither prediction nor truth contains is undefined in all scores. Where only one of them contains it, the scores
that have a worst value take it (Dice, IoU, normalised surface Dice, lesion F1 and Dice are 0), and distances are undefined: the diagonal of
the image, which is sometimes put in their place, says more of the field of view than of the prediction, and would rule the mean. Means
say over how many cases they are, and in how many a class was missed or invented.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from autounet.evaluation.lesions import LesionMatch
from autounet.evaluation.overlap import OverlapScore, overlap
from autounet.evaluation.surface import SurfaceDistances
from autounet.evaluation.surface_elements import BoolArray
from autounet.geometry import Grid
from autounet.labels import IntArray, LabelSpec

Box = tuple[slice, ...]


class ClassScore(OverlapScore):
    """How well one class was found in one case. What is undefined, or was not measured, is None."""

    volume_truth: float | None = None
    """mm³, of planar images mm², of the annotated part of the image."""
    volume_prediction: float | None = None
    hd95_mm: float | None = None
    """95 % Hausdorff distance; None when the class is missing in prediction or truth, or when voxels of the case are to be ignored."""
    assd_mm: float | None = None
    """Average symmetric surface distance; None where ``hd95_mm`` is."""
    nsd: float | None = None
    """Normalised surface Dice, 0..1, at the tolerance that the artefact names; 0 when only one of the masks is empty."""
    lesion_f1: float | None = None
    """0..1; see ``lesions``. 0 when only one of the masks is empty."""
    lesion_dice: float | None = None
    """Mean Dice of lesions, 0..1; 0 when only one of the masks is empty."""
    lesions_true: int | None = None
    """Connected components of the truth."""
    lesions_found: int | None = None
    """Those that the prediction touches."""
    lesions_false: int | None = None
    """Connected components of the prediction that touch no true one."""


UNDEFINED = ClassScore.from_counts(0, 0, 0)
"""Of a class that is not annotated in a case."""

ABSENT = UNDEFINED.model_copy(update={"volume_truth": 0.0, "volume_prediction": 0.0})
"""Of a class that is neither in the prediction nor in the truth of a case."""


def score_case(prediction_zyx: IntArray, truth_zyx: IntArray, grid: Grid, labels: LabelSpec, tolerance_mm: float) -> dict[str, ClassScore]:
    """Scores of every class.

    Distances and lesions of a case that has voxels to be ignored are not measured: where the truth is not known there may be a
    surface, and lesions may be joined there.

    Args:
        prediction_zyx: Label values that ``labels`` names, integers of any type.
        truth_zyx: The same, same shape.
        grid: Of both.
        labels: Classes; regions may overlap, each is scored on its own mask.
        tolerance_mm: Of the normalised surface Dice.

    Returns:
        Class name → score, in the order of ``labels``.

    Raises:
        ValueError: The shapes differ.
        DatasetError: A value is not in ``labels``.
    """
    overlaps = overlap(prediction_zyx, truth_zyx, labels)
    spacing_mm: tuple[float, ...] = grid.spacing_mm_zyx[3 - grid.ndim :]
    voxel = grid.voxel_size()
    prediction, truth = (_squeezed(labels.encode(values, "label map"), grid) for values in (prediction_zyx, truth_zyx))
    whole = labels.ignore_index is None or not (truth == labels.ignore_index).any()
    boxes = [ndimage.find_objects(values, len(labels.foreground_values)) for values in (prediction, truth)]
    scores = {}
    for entry in labels.classes:
        score = overlaps[entry.name]
        found: dict[str, Any] = {"volume_truth": (score.tp + score.fn) * voxel, "volume_prediction": (score.tp + score.fp) * voxel}
        indices = labels.class_indices(entry)
        box = _union([part[index - 1] for part in boxes for index in indices])
        if whole and box is not None:
            masks = [_mask(values[box], indices) for values in (prediction, truth)]
            found |= _shape_scores(masks[0], masks[1], spacing_mm, tolerance_mm)
        scores[entry.name] = ClassScore(**score.model_dump(), **found)
    return scores


def _shape_scores(prediction: BoolArray, truth: BoolArray, spacing_mm: tuple[float, ...], tolerance_mm: float) -> dict[str, Any]:
    """Scores of surfaces and lesions of two masks, of which one may be empty."""
    lesions = LesionMatch.of(prediction, truth)
    found: dict[str, Any] = {
        "lesion_f1": lesions.f1(),
        "lesion_dice": lesions.dice(),
        "lesions_true": lesions.true,
        "lesions_found": lesions.found,
        "lesions_false": lesions.false,
    }
    if not prediction.any() or not truth.any():
        return found | {"nsd": 0.0}
    surfaces = SurfaceDistances.between(prediction, truth, spacing_mm)
    return found | {"hd95_mm": surfaces.hd95_mm(), "assd_mm": surfaces.assd_mm(), "nsd": surfaces.nsd(tolerance_mm)}


def _mask(values: IntArray, indices: Sequence[int]) -> BoolArray:
    return np.asarray(values == indices[0]) if len(indices) == 1 else np.isin(values, indices)


def _squeezed(values: IntArray, grid: Grid) -> IntArray:
    """Without the only slice of a planar image, whose thickness means nothing."""
    return values[0] if grid.ndim == 2 else values


def _union(boxes: list[Box | None]) -> Box | None:
    """The box around boxes; None when all are None."""
    there = [box for box in boxes if box is not None]
    if not there:
        return None
    return tuple(slice(min(part.start for part in axis), max(part.stop for part in axis)) for axis in zip(*there, strict=True))
