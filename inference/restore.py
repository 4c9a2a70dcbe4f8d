"""Scores on the network's grid → label map on the image's own grid, row by row, without ever holding all scores at full size."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from autounet.errors import ImageError
from autounet.geometry import Trace, TripleMm
from autounet.inference.boundary import Axes, AxisMap, resampled_winners
from autounet.labels import LabelSpec
from autounet.preprocessing.spacing import separate_axis

SLAB_BYTES = 32 * 2**20
"""What is at work for one slab of the full-size grid takes a few times so much memory."""


class RowStream:
    """Cuts the rows of a network's grid, as they come, into parts that hold all that some rows of the image's grid need."""

    def __init__(self, trace: Trace, target_mm: TripleMm) -> None:
        separate = separate_axis(target_mm, trace.transposed_spacing_mm)
        z, y, x = (
            AxisMap.between(size_in, size_out, axis == separate)
            for axis, (size_in, size_out) in enumerate(zip(trace.prepared_shape, trace.box.shape, strict=True))
        )
        self._axes: Axes = (z, y, x)
        # The last input row that each output row needs.
        self._needs = torch.where(z.share > 0, z.next_to(z.cell), z.cell)
        self._come = self._done = 0
        self._last: Tensor | None = None

    def parts(self, rows_czyx: Tensor, per_voxel: int) -> Iterator[tuple[int, int, Tensor, Axes]]:
        """Takes the next rows: (first output row, the row after the last, scores, the maps into them), again and again.

        Args:
            rows_czyx: (outputs, rows, y, x); may be changed afterwards.
            per_voxel: Bytes that the caller needs for each voxel of a part, of both grids.

        Raises:
            ValueError: More rows than the network's grid has.
        """
        if self._come + rows_czyx.shape[1] > self._axes[0].size_in:
            raise ValueError(f"{self._come + rows_czyx.shape[1]} rows of {self._axes[0].size_in}")
        if self._last is not None:  # what lies between the last row and the first of the new ones
            yield from self._slabs(torch.cat((self._last, rows_czyx[:, :1]), 1), self._come - 1, per_voxel)
        yield from self._slabs(rows_czyx, self._come, per_voxel)
        self._come += rows_czyx.shape[1]
        self._last = rows_czyx[:, -1:].clone()

    def check_complete(self) -> None:
        """Raises ValueError where rows are missing."""
        if self._done < self._axes[0].size_out:
            raise ValueError(f"{self._come} rows of {self._axes[0].size_in}")

    def _slabs(self, scores: Tensor, first: int, per_voxel: int) -> Iterator[tuple[int, int, Tensor, Axes]]:
        z, y, x = (axis.to(scores.device) for axis in self._axes)
        stop = int(torch.searchsorted(self._needs, first + scores.shape[1]))
        per_row = per_voxel * (y.size_out * x.size_out + y.size_in * x.size_in * (z.size_in / z.size_out))
        step = max(1, int(SLAB_BYTES // per_row))
        while self._done < stop:
            begin, end = self._done, min(self._done + step, stop)
            low, high = int(z.cell[begin]), int(self._needs[end - 1]) + 1
            part = z.part(begin, end, low, high - low)
            yield begin, end, scores[:, low - first : high - first], (part, y, x)
            self._done = end


class LabelRestorer:
    """Takes the scores of one case slab by slab along the first axis, in order, and makes the label map on the image's own grid.

    The scores are interpolated linearly (nearest along a thick axis) to the cropped image's grid, where they decide something, and only
    the winning label is kept. Source of the rules: nnunetv2 2.8.1, ``inference/export_prediction.py``.

    Args:
        trace: How the image came to the network's grid.
        target_mm: Spacing of the network's grid, in transposed order.
        labels: The dataset's labels.
    """

    def __init__(self, trace: Trace, target_mm: TripleMm, labels: LabelSpec) -> None:
        self._stream, self._spec = RowStream(trace, target_mm), labels
        self._labels = np.zeros(trace.grid.shape_zyx, self._values(np.zeros(0, np.uint8)).dtype)
        self._cropped = self._labels.transpose(trace.transpose)[trace.box.slices()]

    def add(self, rows_czyx: Tensor) -> None:
        """The next rows of the network's grid: (outputs, rows, y, x) float32 or float16, before softmax or sigmoid, on any device.

        Raises:
            ImageError: Scores are NaN or infinite, of which no label map can be made.
        """
        check_scores(rows_czyx)
        for start, stop, scores, axes in self._stream.parts(rows_czyx, per_voxel=4):
            try:
                found = resampled_winners(scores, axes, self._spec.overlapping).cpu()
            except torch.OutOfMemoryError:
                there = (axes[0].to(torch.device("cpu")), axes[1].to(torch.device("cpu")), axes[2].to(torch.device("cpu")))
                found = resampled_winners(scores.cpu(), there, self._spec.overlapping)
            self._cropped[start:stop] = self._values(found.numpy())

    def labels_zyx(self) -> npt.NDArray[Any]:
        """The label map in the dataset's label values, axes as the image was read; once all rows are there. Outside the crop it is 0."""
        self._stream.check_complete()
        return self._labels

    def _values(self, winners: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return paint(winners, self._spec) if self._spec.overlapping else self._spec.decode(winners)


def check_scores(rows_czyx: Tensor) -> None:
    """Raises ImageError where scores are NaN or infinite."""
    # One pass and no copy; a sum of finite numbers may be too large, too, but hardly ever is.
    if not rows_czyx.sum(dtype=torch.float32).isfinite() and not rows_czyx.isfinite().all():
        raise ImageError(
            "the network's scores are NaN or infinite",
            remedy="predict with --precision fp32; if that changes nothing, the weights are of no use: train, export or import them again",
        )


def restore_labels(scores_czyx: Tensor, trace: Trace, target_mm: TripleMm, labels: LabelSpec) -> npt.NDArray[Any]:
    """The label map of a case whose scores are all there: see ``LabelRestorer``."""
    restorer = LabelRestorer(trace, target_mm, labels)
    restorer.add(scores_czyx)
    return restorer.labels_zyx()


def paint(regions: npt.NDArray[Any], labels: LabelSpec) -> npt.NDArray[Any]:
    """Number of the last painted region → the label value it is painted with."""
    values = np.array((0, *labels.paint_order))
    dtype = np.uint8 if values.max() < 2**8 else np.uint16 if values.max() < 2**16 else np.int32
    return np.asarray(values.astype(dtype)[regions])
