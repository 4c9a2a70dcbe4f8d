"""Overlap of two label maps: Dice, IoU (Jaccard index), precision and recall of every class, from one pass over the voxels.

Empty masks: a class that neither prediction nor truth contains is undefined (None) and left out of every mean;
a class that only one of them contains has Dice and IoU 0. nnU-Net 2.8.1 (``evaluation/evaluate_predictions.py``) does the same for
single cases, with NaN for None. Precision is undefined without predicted voxels, recall without true ones.
"""

from collections.abc import Sequence
from typing import Self

import numpy as np
import numpy.typing as npt

from autounet.artefact import Frozen
from autounet.labels import IntArray, LabelSpec

BLOCK_VOXELS = 2**21
"""Voxels counted at a time: bounds the extra memory at some tens of MB whatever the size of the image."""

LARGEST_TABLE = 2**20
"""Label values up to here are translated by a table, others by binary search."""


class OverlapScore(Frozen):
    """How well one class was found in one case."""

    dice: float | None
    """2 tp / (2 tp + fp + fn), 0..1; None when prediction and truth are both empty."""
    iou: float | None
    """tp / (tp + fp + fn), 0..1; None when prediction and truth are both empty."""
    precision: float | None
    """tp / (tp + fp), 0..1: the part of the prediction that is right; None when the prediction is empty."""
    recall: float | None
    """tp / (tp + fn), 0..1: the part of the truth that is found; None when the truth is empty."""
    tp: int
    """Voxels of the class in both."""
    fp: int
    """Voxels of the class in the prediction alone."""
    fn: int
    """Voxels of the class in the truth alone."""

    @classmethod
    def from_counts(cls, tp: int, fp: int, fn: int) -> Self:
        """Scores of the given numbers of voxels."""
        union = tp + fp + fn
        if union == 0:
            return cls(dice=None, iou=None, precision=None, recall=None, tp=0, fp=0, fn=0)
        precision = tp / (tp + fp) if tp + fp else None
        recall = tp / (tp + fn) if tp + fn else None
        return cls(dice=2 * tp / (union + tp), iou=tp / union, precision=precision, recall=recall, tp=tp, fp=fp, fn=fn)


def overlap(prediction_zyx: IntArray, truth_zyx: IntArray, labels: LabelSpec) -> dict[str, OverlapScore]:
    """Scores of every class of one case.

    Args:
        prediction_zyx: Label *values* (not the pipeline's indices), integers of any type; values that ``labels`` does not
            name belong to no class.
        truth_zyx: The same, same shape. Voxels of the ignore value are left out altogether.
        labels: Classes; regions may overlap, each is scored on its own mask.

    Returns:
        Class name → score, in the order of ``labels``.

    Raises:
        ValueError: The shapes differ.
    """
    if prediction_zyx.shape != truth_zyx.shape:
        raise ValueError(f"prediction has shape {prediction_zyx.shape}, truth {truth_zyx.shape}")
    values = labels.foreground_values
    counts = _confusion(prediction_zyx, truth_zyx, values, labels.ignore_value)
    scores = {}
    for entry in labels.classes:
        member = np.isin((0, *values), entry.values)
        found, true = counts[:, member].sum(), counts[member].sum()
        tp = int(counts[np.ix_(member, member)].sum())
        scores[entry.name] = OverlapScore.from_counts(tp, int(found) - tp, int(true) - tp)
    return scores


def _confusion(prediction: IntArray, truth: IntArray, values: Sequence[int], ignore_value: int | None) -> npt.NDArray[np.int64]:
    """Voxels by truth (rows) and prediction (columns); 0 stands for anything but ``values``, then these in order.

    The corner [0, 0] is not counted: no score needs it, and most voxels are there.
    """
    size = len(values) + 1
    ignored = size
    true_index = _Index((*values, ignore_value) if ignore_value is not None else values)
    found_index = _Index(values)
    counts = np.zeros(size * size, np.int64)
    flat_prediction, flat_truth = prediction.reshape(-1), truth.reshape(-1)
    for start in range(0, flat_truth.size, BLOCK_VOXELS):
        block = slice(start, start + BLOCK_VOXELS)
        somewhere = np.flatnonzero((flat_prediction[block] != 0) | (flat_truth[block] != 0))
        true = true_index(flat_truth[block][somewhere])
        found = found_index(flat_prediction[block][somewhere])
        if ignore_value is not None:
            annotated = true != ignored
            true, found = true[annotated], found[annotated]
        counts += np.bincount(true * size + found, minlength=size * size)
    return counts.reshape(size, size)


class _Index:
    """Label value → 1.. for the given values, 0 for all others."""

    def __init__(self, values: Sequence[int]) -> None:
        self._order = np.argsort(np.array(values))
        self._sorted = np.array(values, np.int64)[self._order]
        lowest, highest = int(self._sorted[0]), int(self._sorted[-1])
        self._table = np.zeros(highest + 1, np.int64) if lowest > 0 and highest < LARGEST_TABLE else None
        if self._table is not None:
            self._table[self._sorted] = self._order + 1

    def __call__(self, values: IntArray) -> npt.NDArray[np.int64]:
        if self._table is not None:
            known = (values >= 0) & (values < len(self._table))
            return np.asarray(self._table[np.where(known, values, 0)])
        place = np.minimum(np.searchsorted(self._sorted, values), len(self._sorted) - 1)
        return np.where(self._sorted[place] == values, self._order[place] + 1, 0)
