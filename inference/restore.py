"""Scores on the network's grid → label map on the image's own grid, without ever holding all scores at full size."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from autounet.geometry import Trace, Triple
from autounet.labels import LabelSpec
from autounet.preprocessing.resample import axis_matrix, contract, nearest_indices, separate_axis

SLAB_BYTES = 128 * 2**20
"""Scores of one slab of the full-size grid take about so much memory."""


def restore_labels(scores_czyx: Tensor, trace: Trace, target_mm: tuple[float, float, float], labels: LabelSpec) -> npt.NDArray[Any]:
    """Label map on the grid of the image as it was read, in the dataset's label values.

    The scores are resampled linearly (nearest along a thick axis) to the cropped image's grid, slab by slab, and only the
    winning label is kept. Source of the rules: nnunetv2 2.8.1, ``inference/export_prediction.py``.

    Args:
        scores_czyx: (outputs, z, y, x) float32 on the network's grid, before softmax or sigmoid.
        trace: How the image came to the network's grid.
        target_mm: Spacing of the network's grid, in transposed order.
        labels: The dataset's labels.
    """
    shape = trace.box.shape
    separate = separate_axis(target_mm, trace.transposed_spacing_mm)
    cropped = np.zeros(shape, np.uint8 if len(labels.allowed_values) < 256 else np.uint16)
    per_slice = 4 * scores_czyx.shape[0] * shape[1] * shape[2]
    step = max(1, int(SLAB_BYTES // per_slice))
    for start in range(0, shape[0], step):
        stop = min(start + step, shape[0])
        slab = _resample_slab(scores_czyx, shape, separate, start, stop)
        cropped[start:stop] = decide(slab, labels).cpu().numpy()
    return trace.place_back(labels.decode(cropped) if not labels.overlapping else paint(cropped, labels))


class LabelRestorer:
    """Takes the scores of one case slab by slab along the first axis, in order, and makes the label map on the image's own grid."""

    def __init__(self, trace: Trace, target_mm: tuple[float, float, float], labels: LabelSpec) -> None:
        self._trace, self._target_mm, self._labels = trace, target_mm, labels
        self._slabs: list[Tensor] = []

    def add(self, rows_czyx: Tensor) -> None:
        """The next rows of the network's grid: (outputs, rows, y, x)."""
        self._slabs.append(rows_czyx)

    def labels_zyx(self) -> npt.NDArray[Any]:
        """The label map; once all rows are there."""
        return restore_labels(torch.cat(self._slabs, 1), self._trace, self._target_mm, self._labels)


def decide(scores: Tensor, labels: LabelSpec) -> Tensor:
    """Scores (outputs, ...) → label index of the winner; for regions the number of the last painted region, 0 for none."""
    if not labels.overlapping:
        return scores.argmax(0)
    winner = torch.zeros(scores.shape[1:], dtype=torch.int64, device=scores.device)
    for position in range(scores.shape[0]):
        # sigmoid(x) > 0.5 exactly where x > 0
        winner.masked_fill_(scores[position] > 0, position + 1)
    return winner


def paint(regions: npt.NDArray[Any], labels: LabelSpec) -> npt.NDArray[Any]:
    """Number of the last painted region → the label value it is painted with."""
    values = np.array((0, *labels.paint_order))
    dtype = np.uint8 if values.max() < 2**8 else np.uint16 if values.max() < 2**16 else np.int32
    return np.asarray(values.astype(dtype)[regions])


def _resample_slab(scores: Tensor, shape: Triple, separate: int | None, start: int, stop: int) -> Tensor:
    """Rows start..stop of the first axis of the resampled scores."""
    rows = _rows(scores, shape[0], separate == 0, start, stop)
    for axis in (1, 2):
        size_in, size_out = rows.shape[axis + 1], shape[axis]
        if size_in == size_out:
            continue
        if axis == separate:
            rows = rows.index_select(axis + 1, nearest_indices(size_in, size_out).to(rows.device))
        else:
            rows = contract(rows, axis + 1, axis_matrix(size_in, size_out, 1).to(rows.device))
    return rows


def _rows(scores: Tensor, size_out: int, nearest: bool, start: int, stop: int) -> Tensor:
    size_in = scores.shape[1]
    if size_in == size_out:
        return scores[:, start:stop]
    if nearest:
        return scores.index_select(1, nearest_indices(size_in, size_out)[start:stop].to(scores.device))
    matrix = axis_matrix(size_in, size_out, 1)[start:stop]
    used = matrix.abs().sum(0).nonzero()
    low, high = int(used.min()), int(used.max()) + 1
    return contract(scores[:, low:high], 1, matrix[:, low:high].to(scores.device))
